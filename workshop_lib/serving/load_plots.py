"""Pictures of loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter

from workshop_lib.plots import BLUE, GREEN, GREY, ORANGE, RED, SKY
from workshop_lib.serving.load import Load


def plot_stall(frames: Mapping[str, pd.DataFrame]) -> Figure:
    """What each request waited, by when it was due: one picture beside the other.

    Args:
        frames: by title, from :func:`workshop_lib.serving.load.closed_loop` or ``open_loop``.
    """
    fig, axes = plt.subplots(1, len(frames), figsize=(10, 3.2), sharey=True, squeeze=False)
    for axis, (title, frame) in zip(axes[0], frames.items(), strict=True):
        axis.scatter(frame["due"], frame["ms"], s=6, color=BLUE, linewidths=0)
        axis.set(title=title, xlabel="due after, seconds")
    axes[0][0].set(ylabel="waited, milliseconds", ylim=(0, None))
    return fig


def plot_knee(loads: Sequence[Load], capacity: float) -> Figure:
    """Waiting times and answers against the load of open loops.

    Args:
        loads: open loops, from the smallest rate to the largest.
        capacity: answers per second of a closed loop, drawn as a line.
    """
    rates = [load.asked for load in loads]
    fig, axes = plt.subplots(1, 2, figsize=(10, 3.4))
    for name, style, color in (("P50", "o-", BLUE), ("P95", "o--", SKY), ("P99", "o:", GREY)):
        axes[0].plot(rates, [load.ms[name] for load in loads], style, color=color, label=name)
    axes[0].set(title="Waiting time", ylabel="milliseconds (log)", yscale="log")
    axes[1].plot(rates, [load.per_second for load in loads], "o-", color=BLUE, label="answered")
    axes[1].plot(rates, rates, ":", color=GREY, label="asked")
    axes[1].set(title="Answers", ylabel="per second", ylim=(0, None))
    for axis in axes:
        axis.axvline(capacity, color=ORANGE, label="most of a closed loop")
        axis.set(xlabel="asked, requests per second", xlim=(0, None))
        axis.legend(loc="upper left")
    return fig


def plot_batches(in_process: pd.DataFrame, over_http: pd.DataFrame) -> Figure:
    """Rows per second of each runtime by the number of rows in one request.

    Args:
        in_process: a row per batch size and a column per runtime.
        over_http: the same through the server.
    """
    fig, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True)
    for axis, table, title in ((axes[0], in_process, "In process"), (axes[1], over_http, "Through the server")):
        for name, color in zip(table.columns, (BLUE, ORANGE), strict=True):
            axis.plot(table.index, table[name], "o-", color=color, label=name)
        axis.set(title=title, xlabel="rows in one request (log)", xscale="log", yscale="log")
        axis.set_xticks(table.index, [str(batch) for batch in table.index])
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.minorticks_off()
    axes[0].set(ylabel="rows per second (log)")
    axes[0].legend()
    return fig


def plot_side_by_side(loads: Sequence[Load], highlight: str) -> Figure:
    """Answers per second and processor time per request of each server.

    Args:
        loads: closed loops, one per server.
        highlight: label of the server whose bar has another colour.
    """
    loads = sorted(loads, key=lambda load: load.per_second)
    labels = [load.label for load in loads]
    colors = [ORANGE if label == highlight else BLUE for label in labels]
    fig, axes = plt.subplots(1, 2, figsize=(10, 0.42 * len(loads) + 1), sharey=True)
    for axis, values, title in (
        (axes[0], [load.per_second for load in loads], "Answers per second"),
        (axes[1], [load.cpu_ms for load in loads], "Processor time per request, ms (log)"),
    ):
        bars = axis.barh(labels, values, color=colors)
        axis.bar_label(bars, [f"{value:,.0f}" if value >= 10 else f"{value:.2f}" for value in values], padding=3)
        axis.set(title=title)
        axis.grid(visible=False)
        axis.margins(x=0.18)
    axes[1].set(xscale="log")
    return fig


def plot_sustained(frame: pd.DataFrame, p95_limit: float) -> Figure:
    """Every request of a load, failed ones marked, with the target for the P95.

    Args:
        frame: from :func:`workshop_lib.serving.load.open_loop`.
        p95_limit: milliseconds, drawn as a line.
    """
    fig, axis = plt.subplots(figsize=(10, 2.8))
    failed = frame["error"] != ""
    axis.scatter(frame["due"][~failed], frame["ms"][~failed], s=5, color=BLUE, linewidths=0, label="answered")
    if failed.any():
        axis.scatter(frame["due"][failed], frame["ms"][failed], s=18, color=RED, marker="x", label="failed")
    axis.axhline(p95_limit, color=ORANGE, label="target for the P95")
    axis.axhline(frame["ms"].quantile(0.95), color=GREEN, ls="--", label="P95")
    axis.set(xlabel="due after, seconds", ylabel="milliseconds (log)", yscale="log")
    axis.legend(ncols=4, loc="lower right", bbox_to_anchor=(1, 1))
    return fig
