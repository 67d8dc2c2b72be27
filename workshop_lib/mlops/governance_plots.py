"""Plots of the notebook on governance."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from workshop_lib.mlops.influence import Influence
from workshop_lib.plots import BLUE, GREY, ORANGE, RED


def plot_influence(influence: Influence) -> Figure:
    """How far single forecasts move without the household, and how far by another seed: shares of rows, sorted."""
    forecasts = influence.forecasts
    fig, axis = plt.subplots()
    others = [name for name in forecasts if name not in ("sold", "with")]
    for name in others:
        moved = 100 * (forecasts[name] - forecasts["with"]).abs() / forecasts["with"].clip(lower=1)
        label, color = (
            ("without the household", BLUE) if name == "without" else (f"another seed ({name.split()[1]})", GREY)
        )
        axis.plot(np.sort(moved), np.linspace(0, 100, len(moved)), color=color, label=label)
    axis.set(
        xscale="log", xlim=(0.01, None), xlabel="change of a forecast, %", ylabel="forecasts that move no further, %"
    )
    axis.xaxis.set_major_formatter("{x:g}")
    axis.legend()
    return fig


def plot_drain(requests: pd.DataFrame, moved: float, stopped: float) -> Figure:
    """Requests that each version has answered so far.

    Args:
        requests: ``seconds``, ``backend`` and ``ok``, as :func:`workshop_lib.mlops.retirement.traffic` gives them.
        moved: when the retirement began, seconds.
        stopped: when it was done.
    """
    fig, axis = plt.subplots()
    for (name, rows), color in zip(requests.groupby("backend", sort=True), (BLUE, ORANGE), strict=False):
        axis.plot(rows["seconds"], np.arange(1, len(rows) + 1), color=color, label=str(name))
    for when, what in ((moved, "retire"), (stopped, "done")):
        axis.axvline(when, color=RED, linewidth=1, linestyle=":")
        axis.annotate(what, (when, 1), xycoords=("data", "axes fraction"), xytext=(4, -12), textcoords="offset points")
    axis.set(xlabel="seconds", ylabel="requests answered so far")
    axis.legend(loc="center left")
    return fig
