"""A month of a service on paper: incidents with dates, the checks that would see them, the alerts that would fire.

    month = simulate(INCIDENTS)
    month.alerts(load_config().objectives)
    month.costs(0.999)

Nothing here is drawn by chance, and nothing is measured: it shows what the formulas of
:mod:`workshop_lib.monitoring.slo` say about faults of different kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from workshop_lib.monitoring.config import Objectives
from workshop_lib.monitoring.slo import DAY, HOUR, MINUTE, Timeline, allowed_seconds, fires

DAYS = 30
LEAD_DAYS = 4
"""Days before the month in which all was well: the longest window of a rule is full from the beginning."""


@dataclass(frozen=True)
class Incident:
    """Something that goes wrong."""

    name: str
    begins: float
    """Days from the beginning of the month."""
    minutes: float
    one_in: int = 1
    """One check in so many fails; 1 for all."""
    nights: int = 1
    """On how many days in a row it comes again, at the same time."""
    watched: bool = True
    """Whether the monitor looks meanwhile; if not, nobody knows how the service is."""

    def stretches(self) -> list[tuple[float, float]]:
        """Begin and end of each time that it comes, seconds from the beginning of the month."""
        begins = [(self.begins + night) * DAY for night in range(self.nights)]
        return [(begin, begin + self.minutes * MINUTE) for begin in begins]


INCIDENTS = (
    Incident("one lost answer", begins=2.4, minutes=0.5),
    Incident("server down", begins=6.6, minutes=12),
    Incident("one answer in 250 fails", begins=11, minutes=3 * 24 * 60, one_in=250),
    Incident("restart every night", begins=17.1, minutes=0.5, nights=7),
    Incident("monitor away", begins=25.6, minutes=8 * 60, watched=False),
)


@dataclass(frozen=True)
class Month:
    """What the monitor would know of the month."""

    timeline: Timeline
    """Seconds from the beginning of the month."""
    incidents: Sequence[Incident]
    at: np.ndarray
    """Moments of the month, one per check that is due."""
    failed: int
    """Checks that failed: so often would somebody be woken who is called for each."""

    def remaining(self, objective: float) -> np.ndarray:
        """Share of the month's error budget that is left at each moment, shape of ``at``."""
        spent = self.timeline.between(np.zeros_like(self.at), self.at).down
        return 1 - np.asarray(spent) / allowed_seconds(objective, DAYS * DAY)

    def costs(self, objective: float) -> pd.DataFrame:
        """Minutes down and unknown, and percent of the month's error budget used, by incident."""
        rows = []
        for one in self.incidents:
            # A failure is seen until the next check, which may come after the incident.
            found = [self.timeline.between(begin, end + 5 * MINUTE) for begin, end in one.stretches()]
            down, unknown = (sum(getattr(part, kind) for part in found) for kind in ("down", "unknown"))
            rows.append(
                (one.name, down / MINUTE, unknown / MINUTE, 100 * down / allowed_seconds(objective, DAYS * DAY))
            )
        return pd.DataFrame(rows, columns=["incident", "minutes down", "minutes unknown", "budget used, %"]).set_index(
            "incident"
        )

    def alerts(self, objectives: Objectives) -> pd.DataFrame:
        """Each alert that fires: its rule, the incident, hours from that one's begin, and for how long, hours."""
        rows = []
        for rule in objectives.burn_rates:
            on = fires(self.timeline, rule, objectives.availability, self.at)
            edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]])))
            for first, last in edges.reshape(-1, 2):
                begin, end = self.at[first], self.at[last - 1]
                one = max((one for one in self.incidents if one.begins * DAY <= begin), key=lambda one: one.begins)
                rows.append(
                    (rule.long, rule.severity, one.name, (begin - one.begins * DAY) / HOUR, (end - begin) / HOUR)
                )
        columns = ["window", "severity", "incident", "after, hours", "for, hours"]
        return pd.DataFrame(rows, columns=columns).sort_values(["incident", "after, hours"], ignore_index=True)


def simulate(incidents: Sequence[Incident] = INCIDENTS, every: float = 30.0) -> Month:
    """Let the monitor look at a service through a month of incidents.

    Args:
        incidents: what goes wrong; none may overlap another.
        every: seconds between two checks.
    """
    times = np.arange(-LEAD_DAYS * DAY, DAYS * DAY, every)
    up, watched = np.ones(len(times), dtype=bool), np.ones(len(times), dtype=bool)
    for one in incidents:
        for begin, end in one.stretches():
            inside = np.flatnonzero((times >= begin) & (times < end))
            if one.watched:
                up[inside[:: one.one_in]] = False
            else:
                watched[inside] = False
    timeline = Timeline()
    timeline.extend((float(at), bool(good), 2.5 * every) for at, good in zip(times[watched], up[watched], strict=True))
    return Month(timeline, tuple(incidents), times[times >= 0], int((~up & watched).sum()))
