"""Pictures of what a cache brings."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import NullFormatter, PercentFormatter, ScalarFormatter, StrMethodFormatter

from workshop_lib.optimization.cache_replay import KINDS
from workshop_lib.plots import BLUE, GREY, ORANGE, PINK


def plot_repeats(questions: pd.DataFrame) -> None:
    """How many questions the most wanted things make up.

    Args:
        questions: from :func:`workshop_lib.optimization.cache_replay.load_questions`.
    """
    _, axes = plt.subplots()
    for kind in KINDS:
        counts = questions.loc[questions["kind"] == kind, "thing"].value_counts()
        axes.plot(range(1, len(counts) + 1), counts.cumsum() / counts.sum(), label=f"{kind} ({len(counts):,} things)")
    axes.set(xscale="log", xlabel="most wanted things", ylabel="share of the questions", ylim=(0, 1))
    axes.set_title("Few things are wanted often")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="lower right")


def plot_sweep(table: pd.DataFrame, low: float, high: float) -> None:
    """Hit rate over size and time to live.

    Args:
        table: from :func:`workshop_lib.optimization.cache_replay.sweep`.
        low: lower end of the target.
        high: its upper end.
    """
    _, axes = plt.subplots()
    axes.axhspan(low, high, color=GREY, alpha=0.15, lw=0)
    axes.text(table.index[0], high, " target", va="top", color=GREY)
    for hours in table.columns:
        label = f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"
        axes.plot(table.index, table[hours], marker="o", label=label)
    axes.set(xscale="log", xlabel="answers that fit into the cache", ylabel="hit rate", ylim=(0, 1))
    axes.set_title("Hit rate over size, for several times to live")
    axes.set_xticks(table.index, [f"{entries:,}" for entries in table.index])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(title="kept for", loc="center left", bbox_to_anchor=(1, 0.5))


def plot_hours(rates: pd.DataFrame) -> None:
    """Hit rate over the hour of the day.

    Args:
        rates: indexed by hour, a column per way to run the cache.
    """
    _, axes = plt.subplots()
    for name, colour in zip(rates.columns, (GREY, BLUE, ORANGE, PINK), strict=False):
        axes.plot(rates.index, rates[name], marker=".", color=colour, label=name)
    axes.set(xlabel="hour of the day", ylabel="hit rate", ylim=(0, 1.03), xticks=range(0, 24, 3))
    axes.set_title("Forecasts that were there when they were asked for")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="lower right")


def plot_latency(played: pd.DataFrame, without: pd.DataFrame) -> None:
    """Times of single answers: without the cache, of a miss and of a hit.

    Args:
        played: from :func:`workshop_lib.optimization.cache_replay.play`.
        without: likewise, of the same questions without the cache.
    """
    together = pd.concat([without.assign(cache="without"), played])
    kinds = [kind for kind in KINDS if kind in set(together["kind"])]
    figure, panels = plt.subplots(1, len(kinds), sharex=True, sharey=True, figsize=(9, 2.8), squeeze=False)
    for axes, kind in zip(panels[0], kinds, strict=True):
        for place, (state, colour) in enumerate([("hit", BLUE), ("miss", ORANGE), ("without", GREY)]):
            times = together.loc[(together["kind"] == kind) & (together["cache"] == state), "milliseconds"]
            if len(times):
                axes.boxplot(
                    times, positions=[place], orientation="horizontal", widths=0.6, whis=(5, 95), showfliers=False,
                    patch_artist=True, boxprops={"facecolor": colour, "alpha": 0.6}, medianprops={"color": "black"},
                )  # fmt: skip
        axes.set(xscale="log", title=kind, xlabel="milliseconds")
        axes.grid(axis="x")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    panels[0][0].set_yticks(range(3), ["hit", "miss", "without"])
    figure.suptitle("Time of an answer (box: middle half, line: 90%)", x=0.01, ha="left")


def plot_history(past: pd.DataFrame, sold: float, day: str) -> None:
    """How the forecasts of one day changed.

    Args:
        past: ``days_ahead``, ``units``, ``lower`` and ``upper`` of each forecast.
        sold: what was sold in the end.
        day: for the title.
    """
    _, axes = plt.subplots()
    around = [past["units"] - past["lower"], past["upper"] - past["units"]]
    axes.errorbar(past["days_ahead"], past["units"], yerr=around, fmt="o", color=BLUE, capsize=4, label="forecast")
    axes.axhline(sold, color=ORANGE, label="sold")
    axes.set(xlabel="days before", ylabel="units", title=f"Forecasts of {day}, the older ones on the left")
    axes.set_ylim(bottom=0)
    axes.invert_xaxis()
    axes.legend(loc="lower left")
