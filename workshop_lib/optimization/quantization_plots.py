"""Pictures of quantised models: what was lost, and what was gained."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from workshop_lib.plots import BLUE, GREEN, GREY, OLIVE, ORANGE, PINK, RED, SKY

_COLOURS = (BLUE, ORANGE, PINK, SKY)
# In the order of a race: trees first, then one runtime in cold and the other in warm colours; INT8 is dashed.
_LINES = (
    (GREY, "-", "o"), (BLUE, "-", "s"), (SKY, "--", "D"), (GREEN, "--", "v"),
    (ORANGE, "-", "^"), (OLIVE, "-", "<"), (RED, "--", ">"), (PINK, "--", "P"),
)  # fmt: skip


def plot_learning(history: pd.DataFrame, kept: int) -> Figure:
    """Error to the teacher per epoch, and the epoch whose weights were kept."""
    fig, axis = plt.subplots(figsize=(8, 2.8))
    axis.plot(history["training days"], "o-", color=GREY, ms=3, label="training days")
    axis.plot(history["days after"], "o-", color=BLUE, ms=3, label="days after them")
    axis.axvline(kept, color=ORANGE, linestyle="--", label="weights kept")
    axis.set(title="Student against teacher", xlabel="epoch", ylabel="WAPE", ylim=(0, None))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.legend()
    return fig


def plot_errors(errors: pd.DataFrame, gate: float) -> Figure:
    """WAPE to float32 of every variant (rows) in every form of the network (columns), and the gate."""
    fig, axis = plt.subplots(figsize=(9, 3.4))
    errors.iloc[::-1, ::-1].plot.barh(ax=axis, color=_COLOURS[: errors.shape[1]][::-1], width=0.75)
    axis.axvline(gate, color=GREY, linestyle="--", label="gate")
    axis.set(title="How far from float32", xlabel="WAPE to float32 of the same runtime", ylabel="")
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    handles, labels = axis.get_legend_handles_labels()
    axis.legend(handles[::-1], labels[::-1], bbox_to_anchor=(1, 0.98), loc="lower right", ncols=3)
    return fig


def plot_speed(ms: pd.DataFrame, saved: pd.DataFrame, target: float) -> Figure:
    """Left the time of a row by batch size, right the share of it that is saved against float32.

    Args:
        ms: milliseconds per call, a row for the trees and one per variant, a column per batch size.
        saved: shares, as :func:`~workshop_lib.optimization.quantization_speed.time_saved` gives them.
        target: the share that is hoped for.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 3.8))
    looks = {
        name: {"color": colour, "linestyle": line, "marker": mark, "ms": 5}
        for name, (colour, line, mark) in zip(ms.index, _LINES, strict=True)
    }
    for name, times in ms.iterrows():
        left.plot(1000 * times / times.index.to_numpy(), **looks[name], label=name)
    for name, shares in saved.iterrows():
        right.plot(shares, **looks[name])
    right.axhline(target, color=GREY, linestyle=":", label="target")
    right.axhline(0, color=GREY, lw=0.8)
    left.set(title="Time of one row", ylabel="microseconds", xscale="log", yscale="log")
    right.set(title="Time saved against float32 of the same runtime", xscale="log")
    right.yaxis.set_major_formatter(PercentFormatter(1))
    fig.legend(loc="outside right upper", fontsize=8.5)
    for axis in (left, right):
        axis.set_xlabel("rows per call")
        axis.set_xticks(list(ms.columns), [str(size) for size in ms.columns])
        axis.minorticks_off()
    return fig


def plot_sizes(files: pd.Series, memory: pd.DataFrame, target: float) -> Figure:
    """Left the size of each file, KB, right the memory of a process that has loaded it, MiB.

    Args:
        files: bytes per variant.
        memory: what :func:`~workshop_lib.optimization.quantization_speed.memory` returned.
        target: the share of the largest file that INT8 shall save at least.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 3.2), sharey=True)
    (files.iloc[::-1] / 1e3).plot.barh(ax=left, color=BLUE)
    left.axvline((1 - target) * files.iloc[0] / 1e3, color=ORANGE, linestyle="--", label="target")
    memory.iloc[::-1].plot.barh(ax=right, stacked=True, color=[GREY, BLUE])
    left.set(title="File", xlabel="KB", ylabel="")
    right.set(title="Process that has loaded it", xlabel="MiB", ylabel="")
    for axis in (left, right):
        axis.legend(bbox_to_anchor=(1, 0.98), loc="lower right", ncols=2)
    return fig


def plot_servers(speed: pd.DataFrame) -> Figure:
    """Throughput and wait of servers, by the number of streams.

    Args:
        speed: what :func:`workshop_lib.optimization.llm_comparison.speed` returned.
    """
    fig, axes = plt.subplots(1, 2, figsize=(11, 3.2))
    servers = speed.index.get_level_values("server").unique()
    shown = ("tokens/s", "first token ms", "lowest", "highest")
    tables = {name: speed[name].unstack("server")[servers] for name in shown}
    _bars(axes[0], tables["tokens/s"], "Tokens of all streams together", "tokens per second")
    _bars(axes[1], tables["first token ms"], "Wait for the first token", "milliseconds, median")
    for number, name in enumerate(tables["tokens/s"].columns):
        for place, streams in enumerate(tables["tokens/s"].index):
            ends = [tables[end].loc[streams, name] for end in ("lowest", "highest")]
            axes[0].plot([place - 0.18 + 0.36 * number] * 2, ends, color="black", lw=1)
    return fig


def _bars(axis: Axes, table: pd.DataFrame, title: str, unit: str) -> None:
    table.plot.bar(ax=axis, color=_COLOURS[: table.shape[1]], width=0.72, rot=0)
    axis.set(title=title, xlabel="requests at once", ylabel=unit)
    axis.legend(title="")
