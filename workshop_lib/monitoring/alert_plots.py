"""Pictures of notebook 3: the way of an alert, and how quickly an error budget is used up."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from workshop_lib.monitoring.alert_stand import Story
from workshop_lib.monitoring.config import Objectives, seconds
from workshop_lib.plots import BLUE, GREY, ORANGE, RED

_BARS = (
    ("fault", "broken", "mended", GREY),
    ("pending", "pending", "firing", ORANGE),
    ("firing", "firing", "over", RED),
)
_MESSAGES = ("told", "told again")


def plot_stories(stories: Sequence[Story]) -> Figure:
    """A row of bars per alert: the fault, the alert's two states, and the moments at which messages arrived."""
    fig, axes = plt.subplots(len(stories), 1, figsize=(9, 1.7 * len(stories) + 0.4), sharex=True, squeeze=False)
    for axis, story in zip(axes[:, 0], stories, strict=True):
        at = dict(story.table().itertuples(index=False))
        for place, (_, begin, end, color) in enumerate(_BARS):
            axis.barh(place, at[end] - at[begin], left=at[begin], height=0.6, color=color)
        axis.plot([at[step] for step in _MESSAGES], [3, 3], "o", color=BLUE, ms=8)
        for step, words in zip(_MESSAGES, ("it fires", "it is over"), strict=True):
            axis.annotate(words, (at[step], 3), xytext=(8, 0), textcoords="offset points", va="center")
        axis.set_yticks(range(4), [*(name for name, *_ in _BARS), "messages"])
        axis.set(title=story.alert, ylim=(3.6, -0.6))
        axis.grid(axis="x")
        axis.grid(visible=False, axis="y")
    longest = max(story.table()["seconds"].max() for story in stories)
    axes[-1, 0].set(xlabel="seconds since the fault", xlim=(0, 1.12 * longest))  # words stand beside the last dot
    return fig


def plot_budget(objectives: Objectives) -> Figure:
    """What is left of the error budget over time, for each burn rate that is watched, and when its alert fires.

    A constant error rate of ``factor`` times the budget is assumed, after a time without errors. The alert fires when
    the mean over its long window has reached the limit; with errors at exactly that rate, that is after the window.
    """
    days = seconds(objectives.window) / 86400
    time = np.linspace(0, days, 1000)
    fig, axis = plt.subplots()
    for rate, color in zip(objectives.burn_rates, (RED, ORANGE, BLUE), strict=False):
        left = 1 - rate.factor * time / days
        axis.plot(time[left >= 0], left[left >= 0], color=color, label=f"burn rate {rate.factor:g}: {rate.severity}")
        fires = seconds(rate.long) / 86400
        axis.plot(fires, 1 - rate.factor * fires / days, "o", color=color, ms=8)
    axis.yaxis.set_major_formatter("{x:.0%}")
    axis.set(title="What is left of the error budget; the dot is the alert", xlabel="days", ylim=(0, 1.03))
    axis.legend()
    return fig
