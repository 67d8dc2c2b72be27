"""What a canary did, what its callers felt, and the statistics behind the decision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from workshop_lib.mlops import audit, experiments
from workshop_lib.mlops.canary import Analysis
from workshop_lib.serving.release_report import Release
from workshop_lib.serving.routing import Backend, Routes

Decision = Literal["promoted", "rolled back"]
ACTOR = "canary controller"


@dataclass(frozen=True)
class Shift:
    """From when on the canary had which share of the requests."""

    at: float
    """Seconds on the clock of the load."""
    weight: int
    """Percent."""


def members(release: Release, shifts: Sequence[Shift], requests_of: str, stable: str, canary: str) -> pd.DataFrame:
    """Which version each request belonged to while the canary ran.

    An answer names the version that made it. For a request without one, the rule is asked that chose: it depends on
    the request's ID and the weights alone.

    Args:
        release: of :meth:`workshop_lib.serving.release.Stage.perform`.
        shifts: in order of time; the last one ends the canary.
        requests_of: how the request IDs begin.
        stable: number of the version in service.
        canary: number of the other.

    Returns:
        The rows of :attr:`Release.frame` that were sent between the first shift and the last, with ``arm`` (``stable``
        or ``canary``) and ``weight`` (percent of the canary then).
    """
    frame = release.frame
    place = np.searchsorted([shift.at for shift in shifts], frame["sent"], side="right") - 1
    inside = (place >= 0) & (place < len(shifts) - 1)
    rows = frame[inside].assign(weight=[shifts[number].weight for number in place[inside]])
    chosen = [
        tag if tag in (stable, canary) else _chosen(f"{requests_of}{number}", weight, stable, canary)
        for number, tag, weight in zip(rows.index, rows["tag"], rows["weight"], strict=True)
    ]
    return rows.assign(arm=np.where(np.array(chosen) == canary, "canary", "stable"))


def _chosen(request_id: str, weight: int, stable: str, canary: str) -> str:
    nowhere = "http://localhost"
    arms = (Backend(name=stable, url=nowhere, weight=100 - weight), Backend(name=canary, url=nowhere, weight=weight))
    return Routes(backends=arms).choose(request_id).name


@dataclass(frozen=True)
class CanaryRun:
    """One canary from its first request to the decision."""

    kind: str
    """What was tried, such as ``slower``."""
    stable: str
    """Number of the version in service."""
    canary: str
    """Number of the version that was tried."""
    release: Release
    analyses: tuple[tuple[int, Analysis], ...]
    """Weight and findings of each step."""
    steps_at: tuple[float, ...]
    """When each step began, seconds on the clock of the load."""
    rows: pd.DataFrame
    """Of :func:`members`."""
    settled: pd.DataFrame
    """Forecasts with known sales, of :func:`workshop_lib.monitoring.forecast_quality.settled_forecasts`."""
    most_bad: int
    """How many bad requests were to be expected at most."""

    @property
    def decision(self) -> Decision:
        """What the gates decided."""
        return "promoted" if self.analyses[-1][1].phase == "successful" else "rolled back"

    @property
    def gate(self) -> str:
        """The gate that was not passed; empty when all were."""
        return self.analyses[-1][1].gate

    @property
    def bad_requests(self) -> int:
        """Requests that a caller had a bad day with.

        Strictly counted: of a version that was rolled back, every request that it got; otherwise those that failed.
        """
        mine = self.rows[self.rows["arm"] == "canary"]
        return len(mine) if self.decision == "rolled back" else int((mine["error"] != "").sum())

    def statistics(self) -> pd.DataFrame:
        """The two versions compared while both ran, with the tests of :mod:`workshop_lib.mlops.experiments`.

        Returns:
            One row per figure: ``failed`` (share of requests), ``waiting ms`` (good answers) and ``error units``
            (absolute, per forecast with known sales); the columns of
            :class:`~workshop_lib.mlops.experiments.Comparison`. A figure for which one side has fewer than two values
            is left out.
        """
        old, new = (self.rows[self.rows["arm"] == arm] for arm in ("stable", "canary"))
        errors = (self.settled["forecast"] - self.settled["sold"]).abs()
        good = [rows.loc[rows["error"] == "", "ms"] for rows in (old, new)]
        off = [errors[self.settled["version"] == version] for version in (self.stable, self.canary)]
        found = {"failed": experiments.shares(*((int((rows["error"] != "").sum()), len(rows)) for rows in (old, new)))}
        for name, pair in (("waiting ms", good), ("error units", off)):
            if min(map(len, pair)) > 1:
                found[name] = experiments.ranks(*pair)
        return pd.DataFrame({name: one.row() for name, one in found.items()}).T

    def sample_ratio(self) -> float:
        """p-value of the split; see :func:`workshop_lib.mlops.experiments.sample_ratio`."""
        share = self.rows["weight"].mean() / 100
        canary = int((self.rows["arm"] == "canary").sum())
        return experiments.sample_ratio([len(self.rows) - canary, canary], [1 - share, share])

    def row(self) -> dict[str, Any]:
        """A row of the table of all canaries."""
        return {
            "version": f"{self.stable} to {self.canary}",
            "decision": self.decision,
            "gate": self.gate or "all passed",
            "last weight": self.analyses[-1][0],
            "requests": len(self.rows),
            "to the canary": int((self.rows["arm"] == "canary").sum()),
            "bad": self.bad_requests,
            "at most": self.most_bad,
        }

    def table(self) -> pd.DataFrame:
        """Every measurement: ``weight``, ``at`` (seconds since the step began), ``gate``, ``value``, ``phase``."""
        return pd.DataFrame([
            {"weight": weight, "at": one.at, "gate": one.gate, "value": one.value, "phase": one.phase}
            for weight, analysis in self.analyses
            for one in analysis.measurements
        ])  # fmt: skip

    def record(self, subject: str, path: Path | None = None) -> audit.Entry:
        """Write the decision and its statistics to the audit trail.

        Args:
            subject: what was released.
            path: the trail; the course's own by default.
        """
        weight, last = self.analyses[-1]
        deciding = [one for one in last.measurements if not self.gate or one.gate == self.gate]
        reason = (
            f"{self.gate} {last.phase} at {weight}% of the requests" if self.gate else "all gates passed at each step"
        )
        details = {
            "stable": self.stable,
            "canary": self.canary,
            "weight": weight,
            "measured": {f"{one.gate} {number}": one.value for number, one in enumerate(deciding, start=1)},
            "bad requests": self.bad_requests,
            "sample ratio p": self.sample_ratio(),
            "tests": self.statistics().T.to_dict(),
        }
        return audit.record(self.decision, subject, actor=ACTOR, reason=reason, details=_plain(details), path=path)


def _plain(value: Any) -> Any:
    """Ready for JSON, which knows no NaN."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, str):
        return value
    number = float(value)
    return None if math.isnan(number) else round(number, 6)
