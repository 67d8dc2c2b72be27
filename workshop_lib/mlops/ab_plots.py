"""Pictures of A/B tests and canaries."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workshop_lib.mlops import experiments
from workshop_lib.mlops.canary_run import CanaryRun
from workshop_lib.plots import BLUE, GREEN, GREY, ORANGE, RED

PHASES = {"successful": (GREEN, "o"), "failed": (RED, "X"), "inconclusive": (GREY, "s")}


def plot_power(base: float, lifts: Sequence[float], most: int) -> Figure:
    """How often a lift is found, by the number of members per arm.

    Args:
        base: the control's share.
        lifts: differences in share points, a line each.
        most: members per arm at the right end.
    """
    fig, axis = plt.subplots()
    members = np.linspace(50, most, 120).astype(int)
    for lift in lifts:
        axis.plot(members, [experiments.power_of(base, lift, of) for of in members], label=f"{100 * lift:g} points")
    axis.axhline(experiments.POWER, color=GREY, linewidth=0.8, linestyle=":")
    axis.set(xlabel="members per arm", ylabel="share of tests that find it", ylim=(0, 1.02), xlim=(0, most))
    axis.set_title(f"Power, from a share of {100 * base:.1f}%")
    axis.legend(title="lift")
    return fig


def plot_peeking(same: pd.DataFrame, different: pd.DataFrame) -> Figure:
    """What was found by each look, without a difference and with one.

    Args:
        same: of :meth:`workshop_lib.mlops.sequential.Looked.found`, for A/A tests.
        different: the same for tests with a true lift.
    """
    fig, axes = plt.subplots(1, 2, figsize=(11, 3.6))
    titles = ("No difference: all of this is false", "A true difference")
    for axis, table, title in zip(axes, (same, different), titles, strict=True):
        for name, color in zip(table.columns, (RED, BLUE, GREEN), strict=True):
            axis.plot(table.index, table[name], marker="o", markersize=4, color=color, label=name)
        axis.set(title=title, xlabel="members per arm at the look", ylabel="share of tests")
        axis.set_ylim(bottom=0)
    axes[0].axhline(experiments.ALPHA, color=GREY, linewidth=0.8, linestyle=":")
    axes[0].legend()
    return fig


def plot_differences(table: pd.DataFrame, unit: str) -> Figure:
    """Differences with their intervals, a row each.

    Args:
        table: with ``difference``, ``low`` and ``high``.
        unit: of the differences.
    """
    fig, axis = plt.subplots(figsize=(9, 0.5 * len(table) + 1))
    difference, low, high = (table[name].astype(float).to_numpy() for name in ("difference", "low", "high"))
    rows = np.arange(len(table))
    axis.errorbar(difference, rows, xerr=[difference - low, high - difference], fmt="o", color=BLUE, capsize=4)
    axis.axvline(0, color=GREY, linewidth=0.8)
    axis.set_yticks(rows, list(table.index))
    axis.set(xlabel=unit, title="Difference, with its 95% interval")
    axis.invert_yaxis()
    axis.grid(axis="x")
    return fig


def plot_canaries(runs: Sequence[CanaryRun]) -> Figure:
    """Requests per second to either version, and above them a lane of measurements for each gate."""
    fig, axes = plt.subplots(len(runs), 1, figsize=(10, 2.3 * len(runs)), squeeze=False, sharex=True)
    for axis, run in zip(axes.flat, runs, strict=True):
        frame = run.release.frame.join(run.rows["arm"]).fillna({"arm": "stable"})
        seconds = np.arange(0, frame["due"].max() + 1)
        sent = [np.histogram(frame.loc[frame["arm"] == arm, "due"], seconds)[0] for arm in ("canary", "stable")]
        axis.stackplot(seconds[:-1], *sent, colors=[ORANGE, BLUE], alpha=0.6, step="post", labels=["canary", "stable"])
        failed = frame.loc[frame["error"] != "", "due"]
        axis.plot(failed, np.full(len(failed), 2.0), "|", color=RED, markersize=8, label="failed")
        _draw_gates(axis, run, axis.get_ylim()[1])
        said = run.decision + (f" by {run.gate}" if run.gate else "")
        axis.set(title=f"{run.kind}: {said}", ylabel="requests/s")
    axes.flat[-1].set(xlabel="seconds", xlim=(0, max(float(run.release.frame["due"].max()) for run in runs)))
    marks = [plt.Line2D([], [], color=color, marker=marker, linestyle="") for color, marker in PHASES.values()]
    handles, labels = axes.flat[0].get_legend_handles_labels()
    fig.legend([*handles, *marks], [*labels, *PHASES], loc="outside upper right", ncols=6)
    return fig


def _draw_gates(axis: Axes, run: CanaryRun, top: float) -> None:
    """The measurements of each gate in a lane of their own, and a line where each step began."""
    names = list(dict.fromkeys(one.gate for _, analysis in run.analyses for one in analysis.measurements))
    height = {name: top * (1.1 + 0.16 * lane) for lane, name in enumerate(names)}
    for name, y in height.items():
        axis.annotate(name, (1.005, y), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=GREY)
    for begun, (_, analysis) in zip(run.steps_at, run.analyses, strict=True):
        axis.axvline(begun, color=GREY, linewidth=0.8, linestyle=":")
        for one in analysis.measurements:
            color, marker = PHASES[one.phase]
            axis.plot(begun + one.at, height[one.gate], marker, color=color, markersize=5)
    axis.set_ylim(0, top * (1.2 + 0.16 * len(names)))
