"""The tab with the sales forecast: a category, some days, and what would be if the shop planned something else."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import gradio as gr
import pandas as pd
from markupsafe import Markup

from workshop_lib.orchestration import dashboard_page as page
from workshop_lib.orchestration import dashboard_plots as plots
from workshop_lib.orchestration.advice import elasticity, price_advice, sales_of, stock_advice
from workshop_lib.orchestration.dashboard_parts import Parts
from workshop_lib.orchestration.labels import Labels, Language
from workshop_lib.orchestration.models import attempt
from workshop_lib.orchestration.results import MODEL, Forecast, Source
from workshop_lib.predictive.forecaster import HORIZONS

HISTORY_DAYS = 28
"""Known days shown before the forecast."""
LARGEST_CHANGE = 30
"""Percent by which a price may be moved: beyond, the forecaster has seen next to nothing."""
USUAL_SHARE = 40
"""Percent of a category that a promotion usually covers, where one is planned."""
PROMOTIONS: dict[str, tuple[str, ...] | None] = {
    "as_is": None,
    "none": (),
    "display": ("display_share",),
    "mailer": ("mailer_share",),
    "front_page": ("mailer_share", "front_page_share"),
    "everywhere": ("display_share", "mailer_share", "front_page_share"),
}
"""Choices, and the shares of the forecaster's plan that each one sets; None leaves everything as last week."""


@dataclass(frozen=True)
class Outlook:
    """Forecasts for some days, with the plan and without."""

    category: str
    history: pd.Series
    """Units of the last known days, by day."""
    sold: float
    """Units of as many open days as the forecast looks ahead."""
    price: float
    """Dollars per unit at the end of the history."""
    planned_price: float
    plan: Forecast | None
    as_is: Forecast | None
    """None where nothing is planned."""
    source: Source
    advice: tuple[str, ...] = ()
    """Sentences on stock and price."""


def look_ahead(
    parts: Parts,
    category: str,
    days: int,
    promotion: str,
    share: float,
    change: float,
    language: Language = "en",
) -> Outlook:
    """Ask for the forecasts.

    Args:
        parts: models and data.
        category: one of the shop's.
        days: how many, from the day after the last known one.
        promotion: a key of :data:`PROMOTIONS`.
        share: percent of the category's sales that the promotion covers.
        change: percent by which the price differs from last week's.
        language: of the advice.

    Raises:
        UnknownThing: when the shop does not have the category.
    """
    category = parts.shop.find_category(category)
    known = sales_of(parts.shop, category).set_index("date")
    week = known.iloc[-7:]
    price = (
        float(week["revenue"].sum() / week["units"].sum()) if week["units"].sum() else float(known["price"].iloc[-1])
    )
    planned_price = round(price * (1 + change / 100), 2) if change else price
    last = parts.shop.last_day.date()
    question: dict[str, Any] = {
        "category": category,
        "dates": [last + dt.timedelta(days=ahead) for ahead in range(1, int(days) + 1)],
    }
    wanted: dict[str, Any] = {}
    places = PROMOTIONS[promotion]
    if places is not None:
        every = PROMOTIONS["everywhere"] or ()
        wanted["promotion"] = {name: share / 100 if name in places else 0.0 for name in every}
    if change:
        wanted["price"] = planned_price
    plan, source = attempt(parts.models.forecast, question | wanted)
    as_is, other = attempt(parts.models.forecast, question) if wanted and plan else (None, MODEL)
    advice: tuple[str, ...] = ()
    if plan and price > 0:
        department = str(known["department"].iloc[0])
        stock = stock_advice(plan, planned_price, department, language=language)
        money = price_advice(elasticity(parts.shop, category), price, wanted.get("price"), language=language)
        advice = (stock.text, money.text)
    history = known["units"].iloc[-HISTORY_DAYS:]
    sold = float(parts.shop.units_when_open(category).tail(int(days)).sum())
    why = other if other.degraded else source
    return Outlook(category, history, sold, price, planned_price, plan, as_is, why, advice)


View = tuple[Any, Any, Any, Any, Any]
"""Notice, key figures, plot, the sentence below it, and table with advice: in the order of the tab's places."""


def view(say: Labels, outlook: Outlook) -> View:
    """What the tab shows."""
    warning = page.source_notice(say, "forecast", outlook.source)
    plan = outlook.plan
    if plan is None:
        return warning, "", None, "", ""
    return (
        warning,
        _figures(say, outlook, plan),
        plots.forecast(say, outlook.history, plan, outlook.as_is),
        page.paragraph(_sentence(say, outlook, plan), "caption"),
        page.advice(say("forecast.advice"), outlook.advice) + _table(say, plan, outlook.as_is),
    )


def _figures(say: Labels, outlook: Outlook, plan: Forecast) -> Markup:
    count = len(plan.days)
    rows = [(say("forecast.total", days=count), say.number(plan.total), say("unit.units"))]
    if outlook.as_is is not None:
        change = plan.total - outlook.as_is.total
        share = change / outlook.as_is.total if outlook.as_is.total else 0.0
        rows.append((say("forecast.difference"), say.signed(change), say.change(share)))
    else:
        rows.append((say("forecast.before", days=count), say.number(outlook.sold), say("unit.units")))
    same = outlook.planned_price == outlook.price
    rows.append((
        say("forecast.price"), say.dollars(outlook.planned_price),
        say("forecast.price_now") if same else say("forecast.price_before", price=say.dollars(outlook.price)),
    ))  # fmt: skip
    rows.append((say("forecast.version"), plan.version or say("unit.none"), say(f"source.name.{_kind(plan.source)}")))
    return page.cards(rows)


def _kind(source: Source) -> str:
    return source.kind.replace(" ", "_")


def _sentence(say: Labels, outlook: Outlook, plan: Forecast) -> str:
    best = max(plan.days, key=lambda day: day.units)
    words = say(
        "forecast.plot_text",
        category=page.category_name(outlook.category),
        days=len(plan.days),
        history=len(outlook.history),
        best=say.day(best.date),
        units=say.number(best.units),
        lower=say.number(best.interval.lower),
        upper=say.number(best.interval.upper),
    )
    return f"{words} {say('forecast.no_sum')}"


def _table(say: Labels, plan: Forecast, as_is: Forecast | None) -> Markup:
    columns = [say("forecast.day"), say("forecast.plan" if as_is else "forecast.forecast")]
    columns += [say("forecast.lower"), say("forecast.upper")]
    if as_is:
        columns += [say("forecast.as_is"), say("forecast.difference")]
    rows = []
    for place, day in enumerate(plan.days):
        name = say.day(day.date) if day.open else f"{say.day(day.date)} ({say('forecast.closed')})"
        row = [name, say.number(day.units), say.number(day.interval.lower), say.number(day.interval.upper)]
        if as_is:
            other = as_is.days[place].units
            row += [say.number(other), say.signed(day.units - other)]
        rows.append(row)
    return page.table(say("forecast.table"), columns, rows, numbers=range(1, len(columns)))


def add(blocks: gr.Blocks, parts: Parts, say: Labels) -> None:
    """Put the tab's content into the surrounding Blocks, and its first forecast when the page is opened."""
    page.html("forecast-lead", page.lead(say("forecast.title"), say("forecast.lead")))
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            chosen = gr.Dropdown(
                [(page.category_name(name), name) for name in parts.shop.categories],
                value=parts.shop.categories[0], label=say("forecast.category"), info=say("forecast.category_info"),
                elem_id="forecast-category", filterable=True,
            )  # fmt: skip
            ahead = gr.Slider(1, HORIZONS, HORIZONS, step=1, label=say("forecast.days"), elem_id="forecast-days")
            promoted = gr.Radio(
                [(say(f"forecast.promotion.{name}"), name) for name in PROMOTIONS], value="as_is",
                label=say("forecast.promotion.label"), elem_id="forecast-promotion",
            )  # fmt: skip
            covered = gr.Slider(
                5, 100, USUAL_SHARE, step=5, label=say("forecast.share"), info=say("forecast.share_info"),
                elem_id="forecast-share", visible=False,
            )  # fmt: skip
            price = gr.Slider(
                -LARGEST_CHANGE, LARGEST_CHANGE, 0, step=1, label=say("forecast.change"),
                info=say("forecast.change_info"), elem_id="forecast-change",
            )  # fmt: skip
        with gr.Column(scale=3, min_width=320):
            notice = page.html("forecast-notice")
            figures = page.html("forecast-figures")
            plot, sentence = page.plot("forecast-plot", say, "forecast.plot")
            table = page.html("forecast-table")

    def show(category: str, days: int, promotion: str, share: float, change: float) -> View:
        return view(say, look_ahead(parts, category, days, promotion, share, change, say.language))

    inputs: list[Any] = [chosen, ahead, promoted, covered, price]
    outputs = [notice, figures, plot, sentence, table]
    promoted.change(
        lambda promotion: gr.update(visible=bool(PROMOTIONS[promotion])), promoted, covered,
        queue=False, show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    gr.on(
        [*(place.change for place in inputs), blocks.load], show, inputs, outputs,
        trigger_mode="always_last", **page.QUICK,
    )  # fmt: skip
