"""Dashboards without Grafana: what a panel shows, and the same panel drawn with matplotlib from a Prometheus.

    draw(dashboard("forecaster"), prometheus, hours=0.1)

A panel is described once. :mod:`workshop_lib.monitoring.grafana` makes Grafana's JSON of it, and this module a picture,
so that both ask the same questions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import cycle
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import MINUTELY, SECONDLY, AutoDateLocator, DateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from workshop_lib.monitoring.promql import Prometheus
from workshop_lib.plots import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY

Unit = Literal["per second", "seconds", "share", "number"]
COLUMNS = 3
_POINTS = 240
"""Moments that a picture shows."""
_LEGEND = 6
"""Series that a legend names; more would hide the lines."""
_BARS = 10


@dataclass(frozen=True)
class Query:
    """One question of a panel."""

    expression: str
    """PromQL, without anything that only Grafana understands."""
    legend: str = ""
    """Name of a series; ``{{label}}`` stands for the value of a label."""


@dataclass(frozen=True)
class Limit:
    """Where trouble begins."""

    value: float
    bad: Literal["above", "below"]
    name: str
    """Of the field in ``model_monitoring_config.yaml``."""


@dataclass(frozen=True)
class Panel:
    """A picture on a dashboard."""

    title: str
    unit: Unit
    queries: tuple[Query, ...]
    limits: tuple[Limit, ...] = ()
    note: str = ""
    """What it means, in a sentence."""
    kind: Literal["lines", "bars", "number"] = "lines"
    """Over time; a bar for each series now; one number now."""
    only_with: str = ""
    """What must be there for it to show anything, such as a GPU; empty for every place."""


@dataclass(frozen=True)
class Row:
    """Panels that answer one question."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """A page of panels."""

    name: str
    """In addresses and file names."""
    title: str
    rows: tuple[Row, ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All of them, from top to bottom."""
        return tuple(panel for row in self.rows for panel in row.panels)


def legend(query: Query, labels: pd.Series | dict[str, object]) -> str:
    """The name of a series, with the values of its labels in place."""
    return re.sub(r"{{\s*(\w+)\s*}}", lambda found: str(labels.get(found[1], "")), query.legend) or "value"


def draw(dashboard: Dashboard, prometheus: Prometheus, hours: float = 1, rows: Sequence[str] = ()) -> Figure:
    """The panels of a dashboard as one picture.

    Args:
        dashboard: what to show.
        prometheus: whom to ask.
        hours: how far back the lines go.
        rows: titles of the rows to show; all by default.

    Raises:
        PrometheusError: when Prometheus does not answer or refuses a question.
        ValueError: when no row has one of the titles.
    """
    chosen = [row for row in dashboard.rows if not rows or row.title in rows]
    if not chosen or len(chosen) < len(rows):
        raise ValueError(f"The rows are {', '.join(row.title for row in dashboard.rows)}; asked for {', '.join(rows)}.")
    lines = [
        (row.title if start == 0 else "", row.panels[start : start + COLUMNS])
        for row in chosen
        for start in range(0, len(row.panels), COLUMNS)
    ]
    fig = plt.figure(figsize=(11, 2.4 * len(lines)), layout="constrained")
    for part, (title, panels) in zip(fig.subfigures(len(lines), 1, squeeze=False)[:, 0], lines, strict=True):
        part.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        for axis, panel in zip(part.subplots(1, COLUMNS), [*panels, *[None] * COLUMNS], strict=False):
            if panel is None:
                axis.set_axis_off()
            else:
                _draw_panel(axis, panel, series(panel, prometheus, hours))
    _share_time([axis for part in fig.subfigs for axis in part.axes if axis.lines and axis.get_label() == "lines"])
    return fig


def _share_time(axes: Sequence[Axes]) -> None:
    """Let all pictures over time begin and end together, so that one can be read below the other."""
    if axes:
        begins, ends = zip(*(axis.dataLim.intervalx for axis in axes), strict=True)
        for axis in axes:
            axis.set_xlim(min(begins), max(ends))


def heading(panel: Panel) -> str:
    """Its title, with the unit where the numbers do not carry one."""
    return f"{panel.title}, per second" if panel.unit == "per second" else panel.title


def series(panel: Panel, prometheus: Prometheus, hours: float = 1) -> pd.DataFrame:
    """What a panel shows, as a table.

    Returns:
        One row per series (and moment, for lines): ``series`` (its name), ``value`` (float), for lines ``time`` (UTC).
    """
    found = [pd.DataFrame(columns=["series", "value", *(["time"] if panel.kind == "lines" else [])])]
    for query in panel.queries:
        if panel.kind == "lines":
            table = prometheus.query_range(
                query.expression, timedelta(hours=hours), step=max(1, 3600 * hours / _POINTS)
            )
        else:
            table = prometheus.query(query.expression)
        if not table.empty:
            names = [legend(query, labels) for labels in table.to_dict("records")]
            found.append(table.assign(series=names)[found[0].columns])
    table = pd.concat(found[1:] or found, ignore_index=True)
    return table[np.isfinite(table["value"].astype(float))]  # a share of nothing is no number, or infinite


def _draw_panel(axis: Axes, panel: Panel, table: pd.DataFrame) -> None:
    axis.set_label(panel.kind)
    axis.set_title(heading(panel), fontsize=10)
    if table.empty:
        words = f"only with {panel.only_with}" if panel.only_with else "no data"
        axis.text(0.5, 0.5, words, ha="center", va="center", color=GREY, transform=axis.transAxes)
        axis.set(xticks=[], yticks=[])
    elif panel.kind == "lines":
        _draw_lines(axis, panel, table)
    elif panel.kind == "bars":
        _draw_bars(axis, panel, table)
    else:
        _draw_number(axis, panel, table)


def _draw_lines(axis: Axes, panel: Panel, table: pd.DataFrame) -> None:
    colors = cycle([BLUE, ORANGE, GREEN, PINK, SKY, GREY])
    groups = list(table.groupby("series", sort=False))
    for number, (name, group) in enumerate(groups):
        label = str(name) if number < _LEGEND and len(groups) > 1 else None
        axis.plot(group["time"], group["value"], color=next(colors), lw=1.3, label=label)
    for limit in panel.limits:
        axis.axhline(limit.value, color=RED, ls="--", lw=1)
    edge = max([table["value"].max(), *(limit.value for limit in panel.limits)])
    least = min(0.0, table["value"].min())
    height = (edge - least) or 1.0
    axis.set_ylim(least - 0.04 * height, least + 1.15 * height)  # a line at 0 is to be seen as well
    span = table["time"].max() - table["time"].min()
    locator = AutoDateLocator(minticks=2, maxticks=5)
    locator.intervald |= {key: [1, 2, 5, 10, 15, 30] for key in (MINUTELY, SECONDLY)}  # few ticks need steps of two
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(DateFormatter("%H:%M" if span > pd.Timedelta("10min") else "%H:%M:%S"))
    axis.tick_params(labelsize=8)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: written(value, panel.unit)))
    if len(groups) > 1:
        axis.legend(fontsize=7, loc="best", ncols=2 if len(groups) > 3 else 1)


def _draw_bars(axis: Axes, panel: Panel, table: pd.DataFrame) -> None:
    least_first = bool(panel.limits) and panel.limits[0].bad == "below"  # the worst ones on top
    shown = table.sort_values("value", ascending=least_first).head(_BARS).iloc[::-1]
    bad = [any(is_bad(limit, value) for limit in panel.limits) for value in shown["value"]]
    axis.barh(shown["series"].str.slice(0, 24), shown["value"], color=[RED if one else BLUE for one in bad])
    for limit in panel.limits:
        axis.axvline(limit.value, color=RED, ls="--", lw=1)
    axis.grid(visible=False, axis="y")
    axis.tick_params(labelsize=8)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: written(value, panel.unit)))


def _draw_number(axis: Axes, panel: Panel, table: pd.DataFrame) -> None:
    for place, (_, one) in zip(_places(len(table)), table.iterrows(), strict=True):
        bad = any(is_bad(limit, one["value"]) for limit in panel.limits)
        color = RED if bad else GREEN if panel.limits else BLUE
        axis.text(0.5, place, written(one["value"], panel.unit), ha="center", va="center", fontsize=20, color=color,
                  transform=axis.transAxes)  # fmt: skip
        if len(table) > 1:
            axis.text(0.98, place, one["series"], ha="right", va="center", fontsize=8, color=GREY,
                      transform=axis.transAxes)  # fmt: skip
    axis.set(xticks=[], yticks=[])


def _places(count: int) -> Iterator[float]:
    """Heights for some numbers, from the top down."""
    return (1 - (number + 0.5) / count for number in range(count))


def is_bad(limit: Limit, value: float) -> bool:
    """Whether a value lies on the wrong side of a limit."""
    return value > limit.value if limit.bad == "above" else value < limit.value


def written(value: float, unit: Unit) -> str:
    """A value for reading, with its unit where that is short."""
    if unit == "share":
        return f"{100 * value:.3g}%"
    if unit == "seconds":
        return f"{1000 * value:.3g} ms" if 0 < abs(value) < 1 else f"{value:.3g} s"
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
