"""Pictures of money: what a forecast saves, what a letter brings, what decides, and how sure it is."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from workshop_lib.plots import BLUE, GREEN, GREY, OLIVE, ORANGE, PINK, RED, SKY

_GAINS, _LOSSES = (BLUE, GREEN, SKY, OLIVE), (RED, PINK, ORANGE, GREY)
DOLLARS = EngFormatter(sep="")
"""Axes in dollars: 250k, 1.5M."""


def plot_departments(table: pd.DataFrame) -> Figure:
    """What the forecasts save in each department, with intervals; those that cross zero are grey.

    Args:
        table: from :func:`workshop_lib.mlops.inventory.by_department`.
    """
    rows = table.iloc[::-1]
    sure = (rows["low"] > 0) | (rows["high"] < 0)
    fig, axis = plt.subplots(figsize=(9, 0.32 * len(rows) + 1.2))
    for chosen, color, label in ((sure, BLUE, "clear"), (~sure, GREY, "may be zero")):
        part, place = rows[chosen], np.flatnonzero(chosen)
        ends = np.stack([part["saving"] - part["low"], part["high"] - part["saving"]])
        axis.errorbar(part["saving"], place, xerr=ends, fmt="o", color=color, capsize=3, label=label)
    axis.axvline(0, color=GREY, lw=1)
    axis.set_yticks(range(len(rows)), [f"{name} (fresh)" if fresh else name for name, fresh in rows["fresh"].items()])
    axis.set(xlabel="saved, % of the department's sales", title="What the forecasts save, with 95% intervals")
    axis.grid(axis="x")
    axis.legend(loc="lower right")
    return fig


def plot_success(table: pd.DataFrame, assumed: float) -> Figure:
    """What each policy brings in a year, by the share of leaving households that a letter keeps.

    Args:
        table: from :func:`workshop_lib.mlops.retention.by_success`.
        assumed: the success rate of the business case.
    """
    fig, axis = plt.subplots()
    for (policy, gain), color in zip(table.items(), (BLUE, ORANGE, PINK), strict=True):
        axis.plot(table.index, gain, color=color, label=policy)
    axis.axhline(0, color=GREY, lw=1)
    axis.axvline(assumed, color=GREY, lw=1, ls="--", label="assumed")
    axis.set(xlabel="share of leaving households that a letter keeps", ylabel="dollars per year")
    axis.set_title("The value of a retention campaign, one shop")
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.yaxis.set_major_formatter(DOLLARS)
    axis.legend()
    return fig


def plot_flows(flows: pd.DataFrame) -> Figure:
    """Benefits upwards, costs downwards, and the sum so far as a line.

    Args:
        flows: of :class:`workshop_lib.mlops.business_case.Case`.
    """
    fig, axis = plt.subplots()
    above, below = np.zeros(len(flows)), np.zeros(len(flows))
    losses = flows.columns[flows.sum() < 0]
    colors = {**dict(zip(flows.columns, _GAINS, strict=False)), **dict(zip(losses, _LOSSES, strict=False))}
    for name in flows.columns.drop("net"):
        amounts = flows[name].to_numpy()
        bottom = np.where(amounts >= 0, above, below)
        axis.bar(flows.index, amounts, bottom=bottom, width=0.6, color=colors[name], label=name)
        above, below = above + np.maximum(amounts, 0), below + np.minimum(amounts, 0)
    axis.plot(flows.index, flows["net"].cumsum(), "o-", color="black", label="sum so far")
    axis.axhline(0, color=GREY, lw=1)
    axis.set_xticks(flows.index)
    axis.set(xlabel="year", ylabel="dollars", title="Money in and out")
    axis.yaxis.set_major_formatter(DOLLARS)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def plot_tornado(table: pd.DataFrame, npv: float, rows: int = 12) -> Figure:
    """How far each assumption moves the NPV, the widest on top.

    Args:
        table: from :func:`workshop_lib.mlops.business_case.tornado`.
        npv: with all assumptions as they are.
        rows: how many to show.
    """
    shown = table.head(rows).iloc[::-1]
    fig, axis = plt.subplots(figsize=(9, 0.32 * len(shown) + 1.2))
    for end, color in (("low", ORANGE), ("high", BLUE)):
        axis.barh(range(len(shown)), shown[f"NPV at {end}"] - npv, left=npv, color=color, label=f"at its {end} value")
    labels = [f"{name}: {row['low']:g} to {row['high']:g}" for name, row in shown.iterrows()]
    axis.set_yticks(range(len(shown)), labels)
    axis.axvline(0, color=GREY, lw=1, ls="--")
    axis.axvline(npv, color="black", lw=1)
    axis.set(xlabel="net present value, dollars", title="One assumption at a time")
    axis.xaxis.set_major_formatter(DOLLARS)
    axis.grid(axis="x")
    axis.legend(loc="lower right")
    return fig


def plot_worlds(worlds: pd.DataFrame) -> Figure:
    """The NPV of all possible worlds; those that lose money are red.

    Args:
        worlds: from :func:`workshop_lib.mlops.business_case.monte_carlo`.
    """
    fig, axis = plt.subplots()
    npv = worlds["npv"]
    width = (npv.max() - npv.min()) / 50 or 1.0
    edges = [width * step for step in range(int(npv.min() // width), int(npv.max() // width) + 2)]  # zero is an edge
    for part, color, label in ((npv[npv < 0], RED, "loss"), (npv[npv >= 0], BLUE, "gain")):
        axis.hist(part, bins=edges, color=color, label=f"{label}: {len(part) / len(npv):.0%}")
    axis.axvline(npv.median(), color="black", lw=1, ls="--", label="median")
    axis.set(xlabel="net present value, dollars", ylabel="worlds", title="All assumptions at once")
    axis.xaxis.set_major_formatter(DOLLARS)
    axis.legend()
    return fig
