"""Pictures of traffic and of what autoscalers make of it."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.dates import DateFormatter, DayLocator, HourLocator
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from workshop_lib.plots import BLUE, GREY, ORANGE, PINK, RED, SKY


def plot_weeks(weeks: Mapping[str, pd.Series], per_second: float) -> Figure:
    """Requests per second of whole weeks, laid over each other by weekday.

    Args:
        weeks: by name, each from a Monday on.
        per_second: of one replica, for the scale on the right.
    """
    fig, axis = plt.subplots(figsize=(10, 3.4))
    for (name, series), color in zip(weeks.items(), (GREY, ORANGE, BLUE), strict=False):
        axis.plot(np.arange(len(series)) / 1440, series.to_numpy(), color=color, label=name)
    days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    axis.set_xticks(np.arange(7) + 0.5, days)
    axis.set(xlim=(0, 7), ylim=(0, None), ylabel="requests per second", title="Traffic of a week")
    axis.legend(loc="upper right")
    right = axis.twinx()
    right.set(ylim=np.array(axis.get_ylim()) / per_second, ylabel="replicas, fully busy")
    right.grid(visible=False)
    return fig


def plot_run(frame: pd.DataFrame, per_second: float, title: str, waits: str = "late") -> Figure:
    """Traffic and replicas above, what the callers feel below.

    Args:
        frame: from :func:`~workshop_lib.optimization.autoscaling_simulation.simulate`.
        per_second: of one replica.
        title: of the picture.
        waits: ``late`` for the share of late requests, ``wait`` for the P95 of the wait.
    """
    fig, (above, below) = plt.subplots(
        2, 1, figsize=(10, 4.4), sharex=True, gridspec_kw={"height_ratios": [3, 1]}
    )  # fmt: skip
    above.fill_between(frame.index, frame["rate"] / per_second, color=SKY, alpha=0.5, lw=0, label="needed, fully busy")
    above.step(frame.index, frame["replicas"], where="post", color=BLUE, label="replicas")
    if (frame["replicas"] - frame["ready"]).mean() > 0.05:  # less is not to be seen
        above.step(frame.index, frame["ready"], where="post", color=ORANGE, lw=1, ls="--", label="of them ready")
    above.set(title=title, ylabel="replicas", ylim=(0, None))
    above.legend(loc="upper left", ncols=3)
    if waits == "late":
        below.fill_between(frame.index, 100 * frame["late"], color=RED, lw=0)
        below.set(ylabel="late, %", ylim=(0, 100))
    else:
        below.plot(frame.index, frame["wait"], color=RED)
        below.set(ylabel="wait, s", ylim=(0, None))
    return _by_hour(fig, frame)


def plot_runs(frames: Mapping[str, pd.DataFrame], per_second: float) -> Figure:
    """The replicas of several runs on the same traffic, one below the other.

    Args:
        frames: by title, from :func:`~workshop_lib.optimization.autoscaling_simulation.simulate`.
        per_second: of one replica.
    """
    size = (10, 1.35 * len(frames) + 0.4)
    fig, axes = plt.subplots(len(frames), 1, figsize=size, sharex=True, sharey=True, squeeze=False)
    for axis, (title, frame) in zip(axes[:, 0], frames.items(), strict=True):
        axis.fill_between(frame.index, frame["rate"] / per_second, color=SKY, alpha=0.5, lw=0)
        axis.step(frame.index, frame["replicas"], where="post", color=BLUE, lw=1.2)
        late = frame.index[frame["late"] > 0.5]
        if len(late):  # an empty line would spoil the layout
            axis.plot(late, np.zeros(len(late)), "|", color=RED, ms=8, clip_on=False)
        axis.set(ylabel="replicas", ylim=(0, None))
        axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axis.set_title(title, fontsize=10)
    return _by_hour(fig, next(iter(frames.values())))


def plot_tradeoff(table: pd.DataFrame, late: str = "late, %", cost: str = "cost") -> Figure:
    """Cost against lateness, a point for each way to run.

    Args:
        table: a row per way, from :func:`~workshop_lib.optimization.autoscaling_simulation.compare`.
        late: column for the height.
        cost: column for the width.
    """
    fig, axis = plt.subplots(figsize=(9, 3.6))
    scaled = ~table.index.str.startswith("always")
    for chosen, color, label in ((scaled, BLUE, "autoscaled"), (~scaled, PINK, "fixed")):
        axis.plot(table.loc[chosen, cost], table.loc[chosen, late], "o", color=color, label=label)
    for name, row in table.iterrows():
        axis.annotate(str(name), (row[cost], row[late]), (5, 6), textcoords="offset points", fontsize=9)
    axis.set(xlabel="cost", ylabel=late, title="What it costs, and who waits", xlim=(0, 1.15 * table[cost].max()))
    axis.set_ylim(-0.05 * table[late].max(), 1.15 * table[late].max())
    axis.legend()
    return fig


def _by_hour(fig: Figure, frame: pd.DataFrame) -> Figure:
    axis = fig.axes[-1]
    axis.set_xlim(frame.index[0], frame.index[-1])
    day = frame.index[-1] - frame.index[0] < pd.Timedelta("1.5D")
    axis.xaxis.set_major_locator(HourLocator(range(0, 24, 3)) if day else DayLocator())
    axis.xaxis.set_major_formatter(DateFormatter("%H:%M" if day else "%a %d %b"))
    return fig
