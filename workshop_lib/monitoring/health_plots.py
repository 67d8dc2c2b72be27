"""The pictures of the notebook about health and objectives."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from workshop_lib.monitoring.config import Objectives
from workshop_lib.monitoring.slo import DAY, HOUR, MINUTE, allowed_seconds, burn_rates, seconds_to_alert
from workshop_lib.monitoring.slo_month import DAYS, Month
from workshop_lib.plots import BLUE, GREEN, GREY, ORANGE, RED

SEVERITIES = {"critical": RED, "warning": ORANGE, "info": BLUE}


def plot_faults(table: pd.DataFrame, longest: float) -> Figure:
    """How long each fault was unseen, and how long it took to be well again after its end.

    Args:
        table: of :func:`workshop_lib.monitoring.health_stand.table`.
        longest: the target for the second, seconds.
    """
    names = (table["service"] + ": " + table["fault"]).tolist()
    figure, axes = plt.subplots(1, 2, figsize=(9, 0.6 + 0.36 * len(names)), sharey=True)
    for place, column, title, colour in (
        (axes[0], "detected", "until it is seen, seconds", ORANGE),
        (axes[1], "recovered", f"until well again, seconds (target {longest:g})", GREEN),
    ):
        place.barh(names, table[column], color=colour)
        place.set_title(title)
        place.grid(axis="x")
        place.grid(axis="y", visible=False)
    axes[0].invert_yaxis()
    return figure


def plot_budget_of_faults(
    table: pd.DataFrame, objective: float, window: float, hours: Sequence[float] = (0.1, 1)
) -> Figure:
    """What each fault used of the error budget here, and what outages of other lengths use of it.

    Args:
        table: of :func:`workshop_lib.monitoring.health_stand.table`.
        objective: promised share of good time.
        window: of the objective, seconds.
        hours: other outages, to compare with.
    """
    names = (table["service"] + ": " + table["fault"]).tolist()
    others = [100 * hour * HOUR / allowed_seconds(objective, window) for hour in hours]
    labels = names + [f"{hour * 60:g} minutes" for hour in hours]
    values = [*table["budget"], *others]
    figure, axis = plt.subplots(figsize=(9, 0.8 + 0.32 * len(labels)))
    axis.barh(labels, values, color=[BLUE] * len(names) + [GREY] * len(others))
    axis.axvline(100, color=RED, linewidth=1)
    axis.set_xscale("log")
    axis.invert_yaxis()
    axis.set_title("error budget used, percent (red: all of it)")
    axis.grid(axis="x")
    axis.grid(axis="y", visible=False)
    return figure


def plot_detection(objectives: Objectives) -> Figure:
    """How soon each rule sees a fault, by how bad it is.

    Args:
        objectives: with the rules.
    """
    figure, axis = plt.subplots()
    ratios = np.logspace(-3, 0, 400)
    for rule, style in zip(objectives.burn_rates, ("-", "--", "-"), strict=False):
        minutes = [seconds_to_alert(rule, objectives.availability, ratio) / MINUTE for ratio in ratios]
        label = f"{rule.factor:g} times over {rule.long} ({rule.severity})"
        axis.plot(100 * ratios, minutes, style, color=SEVERITIES[rule.severity], label=label)
    spent = allowed_seconds(objectives.availability, DAYS * DAY) / ratios / MINUTE
    axis.plot(100 * ratios, spent, color=GREY, linestyle=":", label="whole budget used up")
    axis.set(xscale="log", yscale="log", xlabel="failing checks, percent", ylabel="minutes")
    axis.set_title("how long until a rule sees the fault")
    axis.legend()
    return figure


def plot_month(month: Month, objectives: Objectives) -> Figure:
    """Burn rates of the month with the alerts, and what is left of the budget.

    Args:
        month: to draw.
        objectives: with the rules.
    """
    days = month.at / DAY
    rules = objectives.burn_rates
    figure, axes = plt.subplots(
        len(rules) + 1, 1, figsize=(9, 1.6 * len(rules) + 2.4), sharex=True, height_ratios=[1] * len(rules) + [1.7]
    )
    for axis, rule in zip(axes, rules, strict=False):
        long, short = burn_rates(month.timeline, rule, objectives.availability, month.at)
        fires = (long > rule.factor) & (short > rule.factor)
        axis.plot(days, long, color=BLUE, linewidth=0.7)
        axis.axhline(rule.factor, color=GREY, linestyle=":")
        axis.plot(days[fires], long[fires], "o", color=SEVERITIES[rule.severity], markersize=4)
        axis.set_title(f"burn rate over {rule.long}; {rule.severity} above {rule.factor:g} (dots)", fontsize=10)
        axis.set_yscale("symlog")
    axes[-1].plot(days, 100 * month.remaining(objectives.availability), color=BLUE)
    axes[-1].set(ylim=(0, 105), xlabel="day of the month", ylabel="percent")
    axes[-1].set_title("error budget left", fontsize=10)
    for one in month.incidents:
        begin, end = one.stretches()[0][0] / DAY, one.stretches()[-1][1] / DAY
        axes[-1].axvspan(begin, max(end, begin + 0.06), color=GREY, alpha=0.2, linewidth=0)
        axes[-1].annotate(one.name, (begin, 4), fontsize=8, rotation=90, ha="right", va="bottom", color=GREY)
    return figure
