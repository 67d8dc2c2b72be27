"""Pictures of whole requests and of faults."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter

from workshop_lib.plots import BLUE, GREEN, GREY, ORANGE, PINK, RED
from workshop_lib.settings import settings

COLORS = {"whole": GREEN, "degraded": ORANGE, "wrong": PINK, "refused": GREY, "unhandled": RED}


def plot_latency(frame: pd.DataFrame, budgets: Mapping[str, float]) -> Figure:
    """What each request took, by scenario, with the scenario's budget as a line.

    Args:
        frame: from :func:`workshop_lib.orchestration.end_to_end.table`.
        budgets: seconds by scenario; their order is that of the picture, from the top.
    """
    fig, axis = plt.subplots(figsize=(9, 0.5 * len(budgets) + 1))
    spread = np.random.default_rng(settings.seed).uniform(-0.25, 0.25, len(frame))
    for place, (scenario, budget) in enumerate(budgets.items()):
        own = (frame["scenario"] == scenario).to_numpy()
        axis.scatter(frame["seconds"][own], place + spread[own], s=14, color=BLUE, alpha=0.7, linewidths=0)
        axis.vlines(budget, place - 0.38, place + 0.38, color=ORANGE, lw=2.5, label="_" if place else "budget")
    axis.set_yticks(range(len(budgets)), list(budgets))
    axis.set(title="What each request took", xlabel="seconds (log)", xscale="log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.minorticks_off()
    axis.invert_yaxis()
    axis.grid(axis="x")
    axis.grid(visible=False, axis="y")
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1))
    return fig


def plot_faults(faults: pd.DataFrame) -> Figure:
    """A row per fault: what became of the requests, the median time of an answer, and how long recovery took.

    Args:
        faults: from :func:`workshop_lib.orchestration.end_to_end.fault_table`.
    """
    labels = faults["dependency"] + ": " + faults["fault"]
    fig, (left, middle, right) = plt.subplots(
        1, 3, figsize=(10, 0.27 * len(faults) + 1.3), sharey=True, width_ratios=(3, 2, 2)
    )
    begin = np.zeros(len(faults))
    whole = faults["answered"] - faults["degraded"]
    for kind, color in COLORS.items():
        count = (whole if kind == "whole" else faults[kind]).to_numpy()
        left.barh(labels, count, left=begin, color=color, label=kind)
        begin += count
    for axis, column, title in (
        (middle, "median_seconds", "Median answer, s"),
        (right, "recovery_seconds", "Until well again, s"),
    ):
        axis.scatter(faults[column], labels, color=BLUE, s=22)
        axis.set(title=title, xlim=(0, 1.1 * faults[column].max()))
        axis.grid(axis="x")
    left.set(title="Requests", ylim=(len(faults) - 0.4, -0.6))
    fig.legend(*left.get_legend_handles_labels(), ncols=len(COLORS), loc="outside lower left", fontsize=9)
    for axis in (left, middle, right):
        axis.grid(visible=False, axis="y")
        axis.tick_params(axis="y", labelsize=9)
    # A rule between dependencies.
    for place in np.flatnonzero(faults["dependency"].to_numpy()[1:] != faults["dependency"].to_numpy()[:-1]):
        for axis in (left, middle, right):
            axis.axhline(place + 0.5, color=GREY, lw=0.6)
    return fig
