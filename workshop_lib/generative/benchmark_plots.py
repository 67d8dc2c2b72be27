"""Pictures of benchmark runs."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from workshop_lib.generative.benchmark import Run, lanes, table
from workshop_lib.plots import BLUE, GREY, ORANGE, SKY


def plot_concurrency(runs: Sequence[Run], first_token_limit: float | None = None) -> Figure:
    """Throughput and waiting times against the load of each run.

    Args:
        runs: closed loops with different numbers of requests at once.
        first_token_limit: a target for the first token, milliseconds, drawn as a line.
    """
    figures, load = table(runs), [run.load for run in runs]
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.2))
    axes[0].plot(load, figures["tokens/s"], "o-", color=BLUE)
    axes[0].set(title="What the server gets done", ylabel="tokens per second, all together")
    for axis, name, title in (
        (axes[1], "first token ms", "Wait for the first token"),
        (axes[2], "between tokens ms", "Wait between tokens"),
    ):
        axis.plot(load, figures[f"{name} P50"], "o-", color=BLUE, label="median")
        axis.plot(load, figures[f"{name} P95"], "o--", color=SKY, label="P95")
        axis.set(title=title, ylabel="milliseconds")
    if first_token_limit is not None:
        axes[1].axhline(first_token_limit, color=ORANGE, label="target")
    axes[1].legend()
    for axis in axes:
        axis.set(xlabel="requests at once", ylim=(0, None), xticks=load)
    return fig


def plot_timeline(run: Run, title: str) -> Figure:
    """Every answer as a line: grey while it waits, a mark for each token."""
    fig, axis = plt.subplots(figsize=(10, 3.4))
    for lane, record in lanes(run):
        axis.plot([record.due, record.arrivals[0]], [lane, lane], color=GREY, lw=4, alpha=0.5)
        axis.plot(record.arrivals, [lane] * len(record.arrivals), "|", color=BLUE, ms=7)
    axis.set(title=title, xlabel="seconds", ylabel="place")
    axis.grid(visible=False)
    return fig
