"""Pictures of the notebook on security."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from workshop_lib.plots import BLUE, GREY, ORANGE, RED, SKY

_STATES = ListedColormap(["#F2F2F2", SKY, ORANGE])


def plot_matrix(allowed: pd.DataFrame, title: str, closed: pd.DataFrame | None = None) -> Figure:
    """Who may what, or who reaches whom, as a grid.

    Args:
        allowed: True, False or None per row and column.
        title: above the picture.
        closed: the same from before; what was open then and is closed now gets a colour of its own.
    """
    open_now = allowed.eq(True)
    before = open_now if closed is None else closed.eq(True)
    codes = np.where(open_now, 1, np.where(before, 2, 0))
    figure, axes = plt.subplots(figsize=(9, 0.8 + 0.3 * len(allowed)))
    axes.imshow(codes, cmap=_STATES, vmin=0, vmax=2, aspect="auto")
    axes.set_xticks(range(allowed.shape[1]), list(allowed.columns), rotation=30, ha="left")
    axes.set_yticks(range(len(allowed)), list(allowed.index))
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(False)
    signs = {0: "", 1: "yes", 2: "closed"}
    for row, column in np.ndindex(codes.shape):
        axes.text(column, row, signs[int(codes[row, column])], ha="center", va="center", fontsize=8)
    for edge in range(1, max(allowed.shape)):
        axes.axhline(edge - 0.5, color="white", lw=1)
        axes.axvline(edge - 0.5, color="white", lw=1)
    axes.set_ylim(len(allowed) - 0.5, -0.5)
    axes.set_xlim(-0.5, allowed.shape[1] - 0.5)
    axes.set_title(title, pad=12)
    return figure


def plot_copies(copies: Mapping[str, pd.DataFrame], budget: int, nothing: float) -> Figure:
    """How faithful stolen copies are.

    Args:
        copies: per attacker what :func:`workshop_lib.mlops.extraction.copies` returned.
        budget: answers a day that the throttle allows.
        nothing: agreement of a copy that always says the more frequent answer.
    """
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), sharex=True)
    labels = {"agreement": "same decision", "order": "same order (rank correlation)"}
    for axes, (measure, label) in zip(panels, labels.items(), strict=True):
        for (name, table), color in zip(copies.items(), (BLUE, RED), strict=False):
            axes.plot(table["answers"], table[measure], marker="o", color=color, label=name)
        axes.axvline(budget, color=GREY, ls="--", lw=1)
        axes.text(budget, axes.get_ylim()[1], " a day's budget", color=GREY, fontsize=9, va="top")
        axes.set(xscale="log", xlabel="answers that the attacker got", title=label)
    panels[0].axhline(nothing, color=GREY, lw=1, label="always the same answer")
    panels[0].legend(loc="center right")
    return figure


def plot_probe(found: pd.DataFrame) -> Figure:
    """How far forecasts move when inputs are moved a little; see :func:`workshop_lib.mlops.adversarial.probe`."""
    groups = list(found.index.unique("group"))
    figure, panels = plt.subplots(1, len(groups), figsize=(9, 3.6), sharey=True)
    for axes, group in zip(np.atleast_1d(panels), groups, strict=True):
        _bars(axes, 100 * found.loc[group])
        axes.set_title(group)
    np.atleast_1d(panels)[0].set_ylabel("change of the forecast, %")
    np.atleast_1d(panels)[0].legend()
    return figure


def _bars(axes: Axes, table: pd.DataFrame) -> None:
    names = {"random": "by chance, median", "median": "worst found, median", "p95": "worst found, 95% of the rows"}
    places = np.arange(len(table))
    for number, ((column, label), color) in enumerate(zip(names.items(), (GREY, SKY, BLUE), strict=True)):
        axes.bar(places + 0.27 * (number - 1), table[column], 0.25, color=color, label=label)
    axes.set_xticks(places, [f"{100 * size:g}%" for size in table.index])
    axes.set_xlabel("change of every input")
