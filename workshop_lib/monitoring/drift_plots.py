"""Pictures of drift: what p-values do, which features moved when, and what a retraining changed."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from scipy import stats

from workshop_lib.monitoring.config import ForecastDrift
from workshop_lib.monitoring.drift_distances import class_limits
from workshop_lib.plots import BLUE, GREEN, GREY, ORANGE, RED, SKY

_DECISIONS = {"nothing": GREEN, "watch": ORANGE, "retrain": RED}


def plot_three_measures(reference: np.ndarray, current: np.ndarray, name: str) -> None:
    """What each of the three measures looks at, side by side.

    Args:
        reference: values of one feature in the training weeks.
        current: its values in the week.
        name: of the feature, for the axes.
    """
    _, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.4))
    limits = class_limits(reference)
    for values, label, colour, offset in ((reference, "training weeks", GREY, -0.2), (current, "this week", BLUE, 0.2)):
        ordered = np.sort(values)
        left.plot(ordered, np.linspace(0, 1, len(ordered)), color=colour, label=label)
        shares = np.histogram(values, limits)[0] / len(values)
        middle.bar(np.arange(1, len(shares) + 1) + offset, 100 * shares, width=0.4, color=colour)
        levels = np.linspace(0.01, 0.99, 99)
        right.plot(100 * levels, np.quantile(values, levels), color=colour)
    levels = np.linspace(0.01, 0.99, 99)
    right.fill_between(
        100 * levels, np.quantile(reference, levels), np.quantile(current, levels), color=SKY, alpha=0.4, lw=0
    )
    at = stats.ks_2samp(reference, current).statistic_location
    below = [float(np.mean(values <= at)) for values in (reference, current)]
    left.plot([at, at], below, color=RED, linewidth=3, label="largest gap")
    left.set(title="Kolmogorov-Smirnov", xlabel=name, ylabel="share of rows below", xlim=(-4, 4))
    left.legend(loc="upper left", fontsize=8)
    middle.set(title="PSI", xlabel="tenth of the training weeks", ylabel="rows, %", xticks=range(1, len(limits)))
    right.set(title="Wasserstein", xlabel="rows from the smallest, %", ylabel=name)


def plot_growing(table: pd.DataFrame, significance: float, psi_limit: float) -> None:
    """The same small shift in samples of growing size: the p-value and the two distances.

    Args:
        table: what :func:`workshop_lib.monitoring.drift_distances.growing_sample` returned.
        significance: usual limit of a p-value.
        psi_limit: limit of the PSI.
    """
    _, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4))
    left.loglog(table.index, table["ks_p_value"].clip(lower=1e-30), "o-", color=RED)
    left.axhline(significance, color=GREY, linestyle="--")
    left.annotate(f"limit {significance:g}", (table.index[-1], significance), ha="right", va="bottom", color=GREY)
    left.set(title="p-value of Kolmogorov-Smirnov", xlabel="rows in each sample", ylabel="p-value")
    right.semilogx(table.index, table["psi"], "o-", color=BLUE, label="PSI")
    right.semilogx(table.index, table["wasserstein"], "s-", color=GREEN, label="Wasserstein, standard deviations")
    right.axhline(psi_limit, color=GREY, linestyle="--")
    right.annotate(f"limit of the PSI {psi_limit:g}", (table.index[-1], psi_limit), ha="right", va="top", color=GREY)
    right.set(title="The two distances", xlabel="rows in each sample", ylim=(0, None))
    right.legend()


def plot_features(values: pd.DataFrame, limit: float, title: str) -> None:
    """Distances by week and feature as coloured fields with their numbers.

    Args:
        values: weeks by features.
        limit: from here up a field counts as drift; colours change there and at twice and three times of it.
        title: above the picture.
    """
    figure, axes = plt.subplots(figsize=(11, 0.36 * values.shape[1] + 1.2))
    colours = ListedColormap(["#F4F4F4", "#FAD9A5", ORANGE, RED])
    shown = values.T.to_numpy()
    highest = max(shown.max(), 4 * limit)
    image = axes.imshow(shown, aspect="auto", cmap=colours,
                        norm=BoundaryNorm([0, limit, 2 * limit, 3 * limit, highest], colours.N))  # fmt: skip
    for (row, column), value in np.ndenumerate(shown):
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color="black")
    axes.set(xticks=range(len(values)), xticklabels=values.index, yticks=range(values.shape[1]),
             yticklabels=values.columns, xlabel="week", title=title)  # fmt: skip
    axes.grid(visible=False)
    bar = figure.colorbar(image, ax=axes, ticks=[0, limit, 2 * limit, 3 * limit])
    bar.ax.set_yticklabels([f"{tick:.1f}" for tick in (0, limit, 2 * limit, 3 * limit)])


def plot_decisions(table: pd.DataFrame, limits: ForecastDrift, feasts: Sequence[tuple[float, str]] = ()) -> None:
    """Features, error and decision by week, with their limits.

    Args:
        table: what :func:`workshop_lib.monitoring.drift_watch.follow` returned.
        limits: ``forecaster.drift`` of the configuration.
        feasts: weeks to name, with their names.
    """
    _, (above, below) = plt.subplots(2, 1, figsize=(11, 5.2), sharex=True)
    colours = [_DECISIONS[decision] for decision in table["decision"]]
    above.bar(table.index, 100 * table["features"], color=colours)
    _limit(above, 100 * limits.watch_share, "watch", table.index[0])
    _limit(above, 100 * limits.retrain_share, f"retrain ({limits.weeks} weeks in a row)", table.index[0])
    above.set(title="Data drift: features beyond their limit", ylabel="%", ylim=(0, 100))
    below.bar(table.index, table["error"], color=colours)
    _limit(below, limits.concept, "limit", table.index[0])
    below.axhline(1, color="black", linewidth=0.8)
    below.set(title="Concept drift: error over that of quiet weeks", xlabel="week", xticks=table.index)
    for week, name in feasts:
        below.annotate(name, (week, table["error"].get(week, 1)), ha="center", va="bottom", fontsize=9)
    below.set_ylim(0, 1.12 * table["error"].max())
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in _DECISIONS.values()]
    above.legend(handles, _DECISIONS, loc="upper left", ncols=3, fontsize=9)


def _limit(axes: Axes, value: float, name: str, left: float) -> None:
    axes.axhline(value, color=GREY, linestyle="--", linewidth=1)
    axes.annotate(name, (left - 0.5, value), va="bottom", fontsize=8, color=GREY)


def plot_recovery(old: pd.Series, new: pd.Series, trigger: int, promoted: int) -> None:
    """Errors of the old and of the new model by week, and what the change brought.

    Args:
        old: WAPE per week of the model that was in service first.
        new: WAPE per week of the challenger, from the first week after its training.
        trigger: last week that the challenger was trained on.
        promoted: first week in which the challenger serves.
    """
    _, (above, below) = plt.subplots(2, 1, figsize=(11, 5.2), sharex=True, height_ratios=[3, 2])
    above.plot(old.index, 100 * old, "o-", color=GREY, label="model of spring")
    above.plot(new.index, 100 * new, "o-", color=BLUE, label="challenger")
    above.set(title="Error by week", ylabel="WAPE, %")
    gain = 100 * (old - new).dropna()
    below.bar(gain.index, gain, color=np.where(gain >= 0, GREEN, RED))
    below.set(title="Saved by the challenger", xlabel="week", ylabel="points of WAPE", xticks=old.index[::2])
    for axes in (above, below):
        axes.axvspan(trigger + 0.5, promoted - 0.5, color=SKY, alpha=0.25, lw=0, label="shadow")
        axes.axvline(trigger + 0.5, color=RED, linestyle="--", linewidth=1, label="trigger")
    above.legend(ncols=4, loc="lower right", bbox_to_anchor=(1, 1), fontsize=9)
