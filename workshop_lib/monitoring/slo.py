"""Service level objectives: what was promised, how much of it is used up, and how fast.

    allowed_seconds(0.999, DAY)                       # 86.4 s a day may fail
    timeline = Timeline(); timeline.add(at, up, holds)
    week = timeline.between(now - 7 * DAY, now)
    week.availability, week.unknown, burn_rate(week.error_ratio, 0.999)

* An *objective* promises a share of good time, such as 99.9% of 30 days.
* The *error budget* is the rest, 0.1% of 30 days: bad time that nobody has to be ashamed of.
* The *burn rate* says how many times too fast it is used up: at 1 it lasts the whole window, at 10 a tenth of it.

The formulas are those of the Site Reliability Workbook, chapter 5, "Alerting on SLOs"
(https://sre.google/workbook/alerting-on-slos/). Time is counted here where the book counts requests: a check says for
the time until the next one whether a service is well. Time about which nothing is known, because nobody looked, is
neither good nor bad; it is counted apart.

All times are seconds; moments are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workshop_lib.monitoring.config import BurnRate, seconds

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

Numbers = Any
"""A number, or an array of them; what comes out has the same shape."""


def allowed_seconds(objective: float, window: float) -> float:
    """The error budget as time: how long a service may be down altogether within a window.

    ``(1 - objective) * window``

    Args:
        objective: promised share of good time, below 1.
        window: seconds.
    """
    return (1 - objective) * window


def burn_rate(error_ratio: Numbers, objective: float) -> Numbers:
    """How many times too fast the error budget is used up: ``error ratio / (1 - objective)``.

    Args:
        error_ratio: share of bad time, 0 to 1; NaN stays NaN.
        objective: promised share of good time.
    """
    return error_ratio / (1 - objective)


def budget_spent(factor: float, long: float, window: float) -> float:
    """Share of the whole budget that is gone when a burn rate of ``factor`` has lasted for ``long``.

    ``factor * long / window``: the book's 14.4 over 1 h of 30 days is 2%, 6 over 6 h is 5%, 1 over 3 days is 10%.
    """
    return factor * long / window


def seconds_to_alert(rule: BurnRate, objective: float, error_ratio: float) -> float:
    """How long a fault lasts until a rule sees it, when all was well before.

    ``factor * (1 - objective) / error ratio * long``, the book's detection time. Infinite for a fault that burns too
    slowly for the rule. Both windows must be above the factor; the long one gets there last.

    Args:
        rule: with its two windows.
        objective: promised share of good time.
        error_ratio: of the fault, above 0 up to 1: 1 for a service that is down altogether.
    """
    share = rule.factor * (1 - objective) / error_ratio
    return share * seconds(rule.long) if share <= 1 else float("inf")


def seconds_to_reset(rule: BurnRate, objective: float, error_ratio: float) -> float:
    """How long after the end of a fault, that lasted long enough, a rule still holds.

    The short window is there for this: it forgets soon. ``short * (1 - factor * (1 - objective) / error ratio)``
    """
    return seconds(rule.short) * max(0.0, 1 - rule.factor * (1 - objective) / error_ratio)


@dataclass(frozen=True)
class Uptime:
    """How a stretch of time went, seconds; numbers, or arrays of the same shape for many stretches."""

    up: Numbers
    down: Numbers
    unknown: Numbers

    @property
    def availability(self) -> Numbers:
        """Good time over known time; NaN where nothing is known."""
        return 1 - self.error_ratio

    @property
    def error_ratio(self) -> Numbers:
        """Bad time over known time; NaN where nothing is known."""
        known = np.asarray(self.up + self.down, dtype=float)
        ratio = np.divide(self.down, known, out=np.full(known.shape, np.nan), where=known > 0)
        return ratio if ratio.ndim else float(ratio)

    def budget_remaining(self, objective: float) -> Numbers:
        """Share of the error budget that is left: ``1 - down / ((1 - objective) * whole time)``.

        1 for no bad time, 0 for all used up, below 0 for more than was allowed. The budget is that of the whole
        stretch, known or not; bad time that nobody saw is not in it, so read it together with ``unknown``.
        """
        return 1 - self.down / allowed_seconds(objective, self.up + self.down + self.unknown)


@dataclass
class Timeline:
    """When a service was known to be up or down, in stretches; neighbouring ones of a kind are one.

    It grows by a stretch per change, not per check: a month of checks every few seconds fits into a few lines.
    """

    begins: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    ups: list[bool] = field(default_factory=list)
    _sums: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def add(self, at: float, up: bool | None, holds: float) -> None:
        """Add a check; it says how things are until the next one, but for ``holds`` seconds at most.

        So the time of a change is taken as that of the check that saw it. As that is a little late for the beginning
        of an outage and for its end, the length of outages is right on average. What comes after ``holds`` without
        another check is unknown: the watcher was away itself.

        Args:
            at: when; a clock that was set back counts as standing still.
            up: what was found; None for a check that could not be made, which only ends what was known.
            holds: seconds.
        """
        self._sums = None
        if self.ends:
            at = max(at, self.begins[-1])
            self.ends[-1] = min(self.ends[-1], at)
        if up is None:
            return
        if self.ends and self.ends[-1] == at and self.ups[-1] == up:
            self.ends[-1] = at + holds
            return
        self.begins.append(at)
        self.ends.append(at + holds)
        self.ups.append(up)

    def extend(self, checks: Iterable[tuple[float, bool | None, float]]) -> None:
        """Add many checks, the oldest first."""
        for at, up, holds in checks:
            self.add(at, up, holds)

    def forget(self, before: float) -> None:
        """Drop stretches that were over before a moment."""
        keep = next((place for place, end in enumerate(self.ends) if end >= before), len(self.ends))
        del self.begins[:keep], self.ends[:keep], self.ups[:keep]
        self._sums = None

    def between(self, begin: Numbers, end: Numbers) -> Uptime:
        """How the time between two moments went.

        Args:
            begin: a moment, or an array of moments.
            end: likewise, none before its ``begin``.
        """
        times, up, down = self._summed()
        known = [np.interp(end, times, total) - np.interp(begin, times, total) for total in (up, down)]
        return Uptime(known[0], known[1], np.maximum(np.subtract(end, begin) - known[0] - known[1], 0.0))

    def _summed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Moments of change, and the good and bad seconds up to each; both grow evenly between two moments."""
        if self._sums is None:
            begins, ends = np.asarray(self.begins, dtype=float), np.asarray(self.ends, dtype=float)
            good = np.asarray(self.ups, dtype=bool)
            times = np.column_stack([begins, ends]).ravel() if self.begins else np.zeros(1)
            lengths = np.column_stack([np.zeros_like(begins), ends - begins])
            sums = [
                np.cumsum((lengths * kind[:, None]).ravel()) if self.begins else np.zeros(1) for kind in (good, ~good)
            ]
            self._sums = times, sums[0], sums[1]
        return self._sums


def burn_rates(timeline: Timeline, rule: BurnRate, objective: float, at: Numbers) -> tuple[Numbers, Numbers]:
    """Burn rates over a rule's long and short window at some moments; NaN where nothing is known."""
    both = (timeline.between(np.subtract(at, seconds(window)), at) for window in (rule.long, rule.short))
    long, short = (burn_rate(uptime.error_ratio, objective) for uptime in both)
    return long, short


def fires(timeline: Timeline, rule: BurnRate, objective: float, at: Numbers) -> Numbers:
    """Whether a rule holds at some moments: both windows burn faster than its factor.

    The long window keeps a short blip from waking anybody; the short one ends the alert soon after the fault.
    """
    long, short = burn_rates(timeline, rule, objective, at)
    return (np.asarray(long) > rule.factor) & (np.asarray(short) > rule.factor)
