"""Plots of notebook 02: a chain's steps in time, an analysis, and what the history says about prices."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd

from workshop_lib.orchestration.product import ProductAnalysis
from workshop_lib.plots import BLUE, GREY


def plot_steps(table: pd.DataFrame) -> None:
    """The steps of a chain as bars in time.

    Args:
        table: from :meth:`~workshop_lib.orchestration.tracing.StepTimes.table`; steps inside of steps are left out.
    """
    shown = table[table["depth"] == 1].drop_duplicates("step")[::-1]
    axis = plt.subplots(figsize=(9, 0.6 + 0.32 * len(shown)))[1]
    # A step of no time at all still took place: a sliver shows where.
    sliver = table["took_ms"].max() / 200
    axis.barh(shown["step"], shown["took_ms"].clip(lower=sliver), left=shown["started_ms"], color=BLUE)
    axis.set(title="Steps of the chain", xlabel="milliseconds")
    axis.grid(axis="x")
    axis.grid(visible=False, axis="y")
    plt.show()


def plot_analysis(analysis: ProductAnalysis) -> None:
    """History and forecast of an analysis that has one, with the interval."""
    known = pd.DataFrame([day.model_dump() for day in analysis.features.history]).set_index("date")
    axis = plt.subplots(figsize=(9, 3.2))[1]
    axis.plot(known.index, known["units"], color=GREY, label="sold")
    if analysis.forecast:
        ahead = pd.json_normalize([day.model_dump() for day in analysis.forecast.days]).set_index("date")
        lower, upper = ahead["interval.lower"], ahead["interval.upper"]
        axis.plot(ahead.index, ahead["units"], color=BLUE, label="forecast")
        axis.fill_between(ahead.index, lower, upper, color=BLUE, alpha=0.2, label="interval")
    axis.set(title=f"{analysis.category}: the last weeks and the next days", ylabel="units", ylim=0)
    axis.legend(ncols=3, loc="lower left")
    plt.show()


def plot_elasticities(estimates: pd.DataFrame) -> None:
    """Elasticities with their intervals.

    Args:
        estimates: one row per category with ``value``, ``lower`` and ``upper``.
    """
    shown = estimates[["value", "lower", "upper"]].astype(float)[::-1]
    axis = plt.subplots(figsize=(9, 0.8 + 0.24 * len(shown)))[1]
    width = [shown["value"] - shown["lower"], shown["upper"] - shown["value"]]
    axis.errorbar(shown["value"], shown.index, xerr=width, fmt="o", color=BLUE, ecolor=GREY)
    axis.axvline(0, color=GREY, ls="--")
    axis.set(title="How sales answer to the price", xlabel="elasticity: percent of sales per percent of price")
    plt.show()
