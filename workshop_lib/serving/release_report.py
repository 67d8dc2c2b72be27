"""What a release did, what its callers felt, and what a shadow would have answered: tables and pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workshop_lib.plots import BLUE, GREEN, GREY, RED
from workshop_lib.serving.shadow import log_file

COLORS = {"blue": BLUE, "green": GREEN}
_LONGEST_LABELS = 7
"""Names of steps below each other, before the next one is written at the top again."""


@dataclass(frozen=True)
class Step:
    """Something that a release did."""

    at: float
    """Seconds on the clock of the load."""
    what: str


@dataclass(frozen=True)
class Release:
    """What a release did and what its callers felt."""

    strategy: str
    frame: pd.DataFrame
    """A row per request, see :meth:`BackgroundLoad.frame`; ``tag`` is the version that answered."""
    steps: tuple[Step, ...]
    begun: float
    """When it began, seconds on the clock of the load."""
    ended: float
    """When it was complete, or given up."""
    start_seconds: float
    """Part of that time in which servers started."""
    back: tuple[float, float] | None
    """When going back to the old version began and ended; None when nobody went back."""
    processes: int
    """Most forecasters at once."""
    outcome: Any = None
    """What the strategy returned."""

    @property
    def failed(self) -> pd.DataFrame:
        """The requests without a good answer."""
        return self.frame[self.frame["error"] != ""]

    @property
    def failed_seconds(self) -> float:
        """From the first failed request to the last one; 0 when none failed."""
        due = self.failed["due"]
        return 0.0 if due.empty else float(due.max() - due.min())

    def p95(self, begin: float, end: float) -> float:
        """The 95th percentile of the good answers' waiting times, milliseconds; NaN without any.

        Args:
            begin: of the requests that count, by when they were due.
            end: likewise.
        """
        good = self.frame[(self.frame["error"] == "") & self.frame["due"].between(begin, end)]
        return float(good["ms"].quantile(0.95)) if len(good) else float("nan")

    def row(self) -> dict[str, float]:
        """A row of the table of all strategies."""
        until = self.back[0] if self.back and self.back[0] >= self.ended else float("inf")
        return {
            "requests": len(self.frame),
            "failed": len(self.failed),
            "failed for s": self.failed_seconds,
            "P95 before ms": self.p95(0, self.begun),
            "P95 during ms": self.p95(self.begun, self.ended),
            "P95 after ms": self.p95(self.ended, until),
            "release s": self.ended - self.begun,
            "of it starting s": self.start_seconds,
            "back s": self.back[1] - self.back[0] if self.back else float("nan"),
            "forecasters": self.processes,
        }


def summary(releases: Sequence[Release]) -> pd.DataFrame:
    """A row per release, indexed by its strategy; NaN where nobody went back."""
    return pd.DataFrame([release.row() for release in releases], index=[release.strategy for release in releases])


def plot_timeline(release: Release, versions: Mapping[str, str], axis: Axes | None = None) -> Axes:
    """A point per request: when it was due, how long it took, who answered; a line per step of the release.

    Args:
        release: from :meth:`Stage.perform`.
        versions: ``blue`` and ``green`` with their numbers in the registry.
        axis: where to draw; a new one by default.
    """
    alone = axis is None
    axis = axis or plt.subplots(figsize=(10, 3.4))[1]
    frame = release.frame
    for name, version in versions.items():
        answered = frame[(frame["error"] == "") & (frame["tag"] == version)]
        axis.scatter(answered["due"], answered["ms"], s=7, color=COLORS[name], linewidths=0, label=name)
    axis.scatter(release.failed["due"], release.failed["ms"], s=18, color=RED, marker="x", linewidths=1, label="failed")
    axis.set(yscale="log", title=release.strategy, xlim=(0, frame["due"].max()))
    low, high = frame["ms"].min(), frame["ms"].max()
    axis.set_ylim(low / 1.5, high * 60)  # room above the points for the names of the steps
    last = frame["due"].max()
    for number, (at, what) in enumerate(_labels(release.steps, 0.012 * last)):
        axis.axvline(at, color=GREY, linewidth=0.8, linestyle=":")
        late = at > 0.7 * last
        axis.annotate(
            what,
            (at, 0.98 - 0.075 * (number % _LONGEST_LABELS)),
            xycoords=("data", "axes fraction"),
            xytext=(-3 if late else 3, 0),
            textcoords="offset points",
            ha="right" if late else "left",
            va="top",
            fontsize=8,
            color=GREY,
        )
    if alone:
        axis.set(xlabel="seconds", ylabel="waited, ms (log)")
        _legend(axis.get_figure(root=True), versions)
    return axis


def _labels(steps: Sequence[Step], apart: float) -> list[tuple[float, str]]:
    """Times and names of steps; those closer together than ``apart`` seconds share a line."""
    labels: list[tuple[float, str]] = []
    for step in steps:
        if labels and step.at - labels[-1][0] < apart:
            labels[-1] = (labels[-1][0], f"{labels[-1][1]}: {step.what}")
        else:
            labels.append((step.at, step.what))
    return labels


def _legend(figure: Figure | None, versions: Mapping[str, str]) -> None:
    """Name the marks above a figure."""
    assert figure is not None
    marks = {name: plt.Line2D([], [], marker="o", linestyle="", color=COLORS[name]) for name in versions}
    marks["failed"] = plt.Line2D([], [], marker="x", linestyle="", color=RED)
    figure.legend(list(marks.values()), list(marks), loc="outside upper right", ncols=len(marks))


def plot_timelines(releases: Sequence[Release], versions: Mapping[str, str]) -> Figure:
    """All releases, one picture each; see :func:`plot_timeline`."""
    rows = -(-len(releases) // 2)
    fig, axes = plt.subplots(rows, 2, figsize=(12, 3.1 * rows), squeeze=False)
    for axis, release in zip(axes.flat, releases, strict=False):
        plot_timeline(release, versions, axis)
    for axis in axes.flat[len(releases) :]:
        axis.remove()
    for axis in axes[:, 0]:
        axis.set_ylabel("waited, ms (log)")
    for axis in axes.flat[max(len(releases) - 2, 0) : len(releases)]:
        axis.set_xlabel("seconds")
    _legend(fig, versions)
    return fig


def shadow_log(requests_of: str) -> pd.DataFrame:
    """What the API noted about the copies of some requests.

    Args:
        requests_of: how the IDs of the requests begin; other requests may be in the same log.

    Returns:
        A row per copied request: ``category``, ``dates``, ``version`` and ``shadow_version``, ``units`` and
        ``shadow_units`` summed over the days, ``ms`` and ``shadow_ms``, and ``error`` (empty, or why the shadow did
        not answer; units and times are NaN then).
    """
    file = log_file()
    lines: list[dict[str, Any]] = []
    for part in (file.with_name(f"{file.name}.1"), file):  # a full log is kept once under the first name
        if part.is_file():
            found = map(json.loads, part.read_text(encoding="utf-8").splitlines())
            lines += [line for line in found if line.get("request_id", "").startswith(requests_of)]
    columns = ["category", "dates", "version", "shadow_version", "units", "shadow_units", "ms", "shadow_ms", "error"]
    frame = pd.DataFrame(lines, columns=columns)
    frame["dates"] = frame["dates"].str.join(" ")
    for name in ("units", "shadow_units"):
        frame[name] = [sum(units) if isinstance(units, list) else np.nan for units in frame[name]]
    return frame.astype({"ms": float, "shadow_ms": float}).fillna({"error": ""})


def compare_by_category(log: pd.DataFrame) -> pd.DataFrame:
    """How far the shadow's answers are from those that were given, the furthest first.

    Args:
        log: from :func:`shadow_log`.

    Returns:
        A row per category: its distinct questions, the units of both over all of them, and their relative difference.
    """
    answered = log[log["error"] == ""].drop_duplicates(["category", "dates"])
    table = answered.groupby("category").agg(
        questions=("dates", "size"), units=("units", "sum"), shadow_units=("shadow_units", "sum")
    )
    table["difference"] = table["shadow_units"] / table["units"] - 1
    return table.sort_values("difference", key=np.abs, ascending=False)


def plot_shadow(log: pd.DataFrame) -> Figure:
    """The two versions side by side: their answers to the same questions, and how long each took.

    Args:
        log: from :func:`shadow_log`.
    """
    answered = log[log["error"] == ""]
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    left.scatter(answered["units"], answered["shadow_units"], s=12, color=GREEN, alpha=0.6, linewidths=0)
    ends = [answered["units"].min(), answered["units"].max()]
    left.plot(ends, ends, color=GREY, linewidth=0.8)
    left.set(xscale="log", yscale="log", xlabel="given by blue, units", ylabel="by the shadow, units", title="Answers")
    for name, label in (("ms", "blue"), ("shadow_ms", "shadow")):
        times = np.sort(answered[name])
        color = COLORS["blue" if label == "blue" else "green"]
        right.plot(times, np.linspace(0, 100, len(times)), color=color, label=label)
    right.set(title="Waiting time", xlabel="milliseconds (log)", ylabel="% of answers within", xscale="log")
    right.legend()
    return fig
