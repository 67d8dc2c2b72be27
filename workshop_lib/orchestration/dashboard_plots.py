"""Plots of the dashboard. They have no ground of their own, so that they fit a light page and a dark one.

Words and grid lines get their colours from ``dashboard.css``. The lines' colours have a contrast of 3 or more on
both grounds and can be told apart by colour-blind people; what is estimated is dashed as well.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from workshop_lib.orchestration.dashboard_page import category_name
from workshop_lib.orchestration.labels import Labels
from workshop_lib.orchestration.market_results import Season, Trend
from workshop_lib.orchestration.results import Forecast

BLUE, RED, GREEN, GREY = "#1f7fc4", "#d55e00", "#0a9469", "#7b8794"
PALE_BLUE = "rgba(31, 127, 196, 0.22)"
UNSEEN = "rgba(0,0,0,0)"
HEIGHT = 340
"""Pixels; the width is the page's."""
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


def figure(say: Labels, y: str = "", height: int = HEIGHT) -> go.Figure:
    """An empty figure in the dashboard's look.

    Args:
        say: labels; they decide on the signs in numbers.
        y: what the vertical axis counts.
        height: pixels.
    """
    made = go.Figure()
    made.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        paper_bgcolor=UNSEEN,
        plot_bgcolor=UNSEEN,
        font={"family": _FONT, "size": 13},
        separators=",." if say.language == "es" else ".,",
        hovermode="x unified",
        hoverlabel={"bgcolor": "#ffffff", "font": {"color": "#111827"}},
        dragmode=False,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
    )
    made.update_xaxes(fixedrange=True, showgrid=False, automargin=True)
    made.update_yaxes(
        fixedrange=True, rangemode="tozero", automargin=True, title_text=y, title_font={"size": 13}, title_standoff=6
    )
    return made


def forecast(say: Labels, history: pd.Series, plan: Forecast, as_is: Forecast | None = None) -> go.Figure:
    """What was sold, what will be, and between which bounds.

    Args:
        say: labels.
        history: units per day, its index the days in order.
        plan: the forecast to show with its interval.
        as_is: the forecast without the plan, where there is one.
    """
    made, template = figure(say, say("unit.units")), "%{y:,.0f}"
    days = [day.date for day in plan.days]
    upper, lower = [day.interval.upper for day in plan.days], [day.interval.lower for day in plan.days]
    percent = say.percent(plan.days[0].interval.coverage)
    quiet = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    # Lines and band open at the last known day, so that past and future join; only what is forecast has a marker.
    last_day = history.index[-1].date()
    joined = (days[0] - last_day).days == 1
    before, start = ([last_day], [float(history.iloc[-1])]) if joined else ([], [])

    def expected(found: Forecast, name: str, line: dict[str, Any], marker: dict[str, Any]) -> None:
        units = [day.units for day in found.days]
        if joined:
            made.add_scatter(
                x=[*before, days[0]], y=[*start, units[0]], mode="lines", line=line, hoverinfo="skip", showlegend=False
            )
        made.add_scatter(
            x=[day.date for day in found.days], y=units, mode="lines+markers", name=name, line=line, marker=marker,
            hovertemplate=template,
        )  # fmt: skip

    made.add_scatter(x=before + days, y=start + upper, showlegend=False, **quiet)
    made.add_scatter(
        x=before + days, y=start + lower, fill="tonexty", fillcolor=PALE_BLUE,
        name=say("forecast.interval", percent=percent), **quiet,
    )  # fmt: skip
    made.add_scatter(
        x=list(history.index), y=list(history), mode="lines", name=say("forecast.sold"),
        line={"color": GREY, "width": 2}, hovertemplate=template,
    )  # fmt: skip
    if as_is is not None:
        line, marker = {"color": RED, "width": 2, "dash": "dot"}, {"size": 7, "symbol": "diamond"}
        expected(as_is, say("forecast.as_is"), line, marker)
    name = say("forecast.plan") if as_is is not None else say("forecast.forecast")
    expected(plan, name, {"color": BLUE, "width": 2.5, "dash": "dash"}, {"size": 8})
    first = history.index[0].date()
    return with_days(made, say, [first + dt.timedelta(days=n) for n in range((days[-1] - first).days + 1)])


def with_days(made: go.Figure, say: Labels, days: Sequence[dt.date]) -> go.Figure:
    """Name the Mondays on the horizontal axis, in the reader's language."""
    mondays = [day for day in days if day.weekday() == 0]
    step = max(1, -(-len(mondays) // 6))  # a phone has room for six
    shown = mondays[::step]
    half = dt.timedelta(hours=12)
    made.update_xaxes(
        range=[dt.datetime.combine(days[0], dt.time()) - half, dt.datetime.combine(days[-1], dt.time()) + half],
        tickmode="array", tickvals=shown, ticktext=[say.day(day, weekday=False) for day in shown],
        # Ticks that nobody sees keep the first day away from the 0 of the other axis.
        ticks="outside", ticklen=8, tickcolor=UNSEEN,
        hoverformat="%d/%m/%Y" if say.language == "es" else "%d %b %Y",
    )  # fmt: skip
    return made


def trends(say: Labels, rows: Sequence[Trend]) -> go.Figure:
    """How the shares of categories changed over the year, with the intervals; the order is the given one."""
    made = figure(say, height=90 + 30 * len(rows))
    names = [short(row.category) for row in rows]
    template = "%{x:.0f} %" if say.language == "es" else "%{x:.0f}%"
    for evidence, color, symbol in (("clear", BLUE, "circle"), ("hint", RED, "diamond"), ("none", GREY, "circle-open")):
        chosen = [place for place, row in enumerate(rows) if row.evidence == evidence]
        if chosen:
            made.add_scatter(
                x=[100 * rows[place].growth for place in chosen], y=[names[place] for place in chosen],
                error_x={
                    "type": "data", "symmetric": False, "thickness": 1.5, "width": 4,
                    "array": [100 * (rows[place].upper - rows[place].growth) for place in chosen],
                    "arrayminus": [100 * (rows[place].growth - rows[place].lower) for place in chosen],
                },
                mode="markers", marker={"color": color, "size": 10, "symbol": symbol},
                name=say(f"market.evidence.{evidence}"), hovertemplate=template,
            )  # fmt: skip
    return _lying(made, names, say("market.growth_axis"))


def seasons(say: Labels, rows: Sequence[Season], names: Sequence[str]) -> go.Figure:
    """How many times as much as in ordinary weeks is sold in a part of the year.

    Args:
        say: labels.
        rows: what to show, in this order.
        names: of the rows, in the reader's language.
    """
    made = figure(say, height=90 + 38 * len(rows))
    made.add_bar(
        x=[row.ratio for row in rows], y=list(names), orientation="h", marker={"color": BLUE}, width=0.6,
        error_x={
            "type": "data", "symmetric": False, "thickness": 1.5, "width": 4, "color": GREY,
            "array": [row.upper - row.ratio for row in rows], "arrayminus": [row.ratio - row.lower for row in rows],
        },
        hovertemplate="%{x:.1f}", showlegend=False,
    )  # fmt: skip
    made.add_vline(x=1, line={"color": GREY, "dash": "dot", "width": 1.5})
    return _lying(made, names, say("market.season_axis"))


def short(text: str, longest: int = 26) -> str:
    """A name that leaves room for its plot on a phone."""
    text = category_name(text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _lying(made: go.Figure, names: Sequence[str], x: str) -> go.Figure:
    """A plot whose names stand on the left, the first one on top."""
    made.update_layout(hovermode="closest")
    made.update_xaxes(
        title_text=x, title_font={"size": 13}, title_standoff=6, showgrid=True, zeroline=True, rangemode="normal"
    )
    made.update_yaxes(
        categoryorder="array", categoryarray=list(reversed(names)), title_text="", showgrid=False, tickfont={"size": 12}
    )
    return made
