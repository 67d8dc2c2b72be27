"""The tab with the customers: who may leave, why, what to offer, and in which words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
import pandas as pd
from markupsafe import Markup

from workshop_lib.orchestration import dashboard_page as page
from workshop_lib.orchestration import dashboard_steps as steps
from workshop_lib.orchestration.customer import CAMPAIGN, CustomerInsight, household_value
from workshop_lib.orchestration.dashboard_parts import Parts
from workshop_lib.orchestration.labels import Labels
from workshop_lib.orchestration.results import Source
from workshop_lib.orchestration.shop import UnknownThing
from workshop_lib.predictive.tracking import TrackingError

SHOWN, MOST_SHOWN = 15, 100
OFFERED = 300
"""Households to choose from in the list, those most likely to leave first; any other number may be typed."""
_FEW_DIGITS = 1


def at_risk(parts: Parts) -> pd.DataFrame:
    """The active households, the most likely to leave first.

    Returns:
        ``household_id``, ``probability``, ``spend``, ``recency_days`` and ``gain`` (of a contact, dollars).

    Raises:
        TrackingError: when the registry with the churn model cannot be used.
    """
    people = parts.customers
    table = people.at_risk
    value = household_value(1.0, people.usual_spend) * table["spend"]
    recency = parts.shop.households.set_index("household_id")["recency_days"]
    return table.assign(
        gain=table["probability"] * CAMPAIGN.success_rate * value - CAMPAIGN.contact_cost,
        recency_days=table["household_id"].map(recency),
    )


def list_view(say: Labels, table: pd.DataFrame, count: int, order: str = "probability") -> Markup:
    """The first of them as a table, with how many they are in all.

    Args:
        say: labels.
        table: from :func:`at_risk`.
        count: how many rows.
        order: ``probability`` or ``gain``; the largest first.
    """
    shown = table.sort_values(order, ascending=False, kind="stable").head(int(count))
    pays = table["gain"] >= 0
    figures = page.cards(
        [
            (say("customers.active"), say.number(len(table)), say("customers.active_note")),
            (say("customers.expected"), say.number(float(table["probability"].sum())), say("customers.expected_note")),
            (say("customers.pays"), say.number(int(pays.sum())), say("customers.pays_note")),
            (say("customers.gain_all"), say.dollars(float(table.loc[pays, "gain"].sum())), say("customers.gain_note")),
        ]
    )
    rows = [
        (
            str(row.household_id),
            page.bar(row.probability, say.percent(row.probability)),
            say.number(row.recency_days),
            say.dollars(row.spend),
            page.badge("good", say.dollars(row.gain)) if row.gain >= 0 else say.dollars(row.gain),
        )
        for row in shown.itertuples()
    ]
    columns = [say(f"customers.column.{name}") for name in ("household", "probability", "recency", "spend", "gain")]
    return figures + page.table(say(f"customers.table.{order}", count=len(shown)), columns, rows, numbers=[2, 3, 4])


def choices(say: Labels, table: pd.DataFrame) -> list[tuple[str, str]]:
    """Households for the list: what a reader sees, and the number."""
    return [
        (
            say("customers.choice", household=row.household_id, percent=say.percent(row.probability)),
            str(row.household_id),
        )
        for row in table.head(OFFERED).itertuples()
    ]


def insight_view(say: Labels, insight: CustomerInsight) -> Markup:
    """Everything about one household."""
    notices = page.join(
        page.source_notice(say, part, source, text=False)
        for part, source in insight.sources.items()
        if part not in ("message", "offer")
    )
    return notices + _figures(say, insight) + _why(say, insight) + _offer(say, insight) + _likes(say, insight)


def _figures(say: Labels, insight: CustomerInsight) -> Markup:
    history, churn = insight.history, insight.churn
    figures = [
        (
            say("customers.column.probability"),
            say("unit.none") if churn is None else say.percent(churn.probability),
            "" if churn is None else say("customers.threshold", percent=say.percent(churn.threshold)),
        ),
        (say("customers.last_visit"), _ago(say, history.days_since), say.date(history.last_visit)),
        (
            say("customers.baskets"),
            say.number(history.baskets),
            say("customers.each", amount=say.dollars(history.usual_basket)),
        ),
        (say("customers.recent_spend"), say.dollars(history.spend_recent), say("customers.in_84_days")),
    ]
    return page.heading(say("customers.household", household=insight.household_id)) + page.cards(figures, narrow=True)


def _ago(say: Labels, days: int) -> str:
    return say("customers.ago", age=say.age(days * 86_400)) if days else say("customers.last_day")


def _why(say: Labels, insight: CustomerInsight) -> Markup:
    columns = [say(f"customers.column.{name}") for name in ("sign", "here", "usual", "beyond")]
    rows = [
        (sign.label, say.number(sign.value, _FEW_DIGITS), say.number(sign.usual, _FEW_DIGITS), say.percent(sign.beyond))
        for sign in insight.signs
    ]
    table = page.table(say("customers.why"), columns, rows, numbers=[1, 2, 3], empty=say("customers.no_sign"))
    return table + (page.paragraph(say("customers.no_cause"), "caption") if rows else page.NOTHING)


def _offer(say: Labels, insight: CustomerInsight) -> Markup:
    sentences = [insight.offer.text] if insight.offer else []
    columns = [say(f"customers.column.{name}") for name in ("product", "because")]
    rows = [
        (one.name[:1].upper() + one.name[1:], one.because or say(f"customers.basis.{one.basis}"))
        for one in insight.recommendations
    ]
    table = page.table(say("customers.recommendations"), columns, rows, empty=say("customers.nothing_new"))
    message = page.written(say, say("customers.message"), "message", insight.message)
    if not insight.message.text:
        message = page.source_notice(say, "message", insight.message.source)
    return page.advice(say("customers.offer"), sentences) + message + table


def _likes(say: Labels, insight: CustomerInsight) -> Markup:
    columns = [say(f"customers.column.{name}") for name in ("category", "baskets", "share")]
    rows = [
        (one.name.capitalize(), say.number(one.baskets), page.bar(one.share, say.percent(one.share)))
        for one in insight.preferences.favourites
    ]
    likes = insight.preferences
    note = say(
        "customers.habits",
        discounted=say.percent(likes.discounted_share),
        store_brand=say.percent(likes.store_brand_share),
        weekday=say("calendar.weekdays").split()[likes.weekday],
        share=say.percent(likes.weekday_share),
    )
    table = page.table(say("customers.likes"), columns, rows, numbers=[1], empty=say("customers.no_likes"))
    return table + page.paragraph(note, "caption")


def add(tab: gr.Tab, parts: Parts, say: Labels) -> None:
    """Put the tab's content into the surrounding Blocks."""
    page.html("customers-lead", page.lead(say("customers.title"), say("customers.lead")))
    with gr.Row():
        with gr.Column(scale=6, min_width=320):
            count = gr.Slider(5, MOST_SHOWN, SHOWN, step=5, label=say("customers.count"), elem_id="customers-count")
            order = gr.Radio(
                [(say(f"customers.order.{name}"), name) for name in ("probability", "gain")], value="probability",
                label=say("customers.order.label"), elem_id="customers-order",
            )  # fmt: skip
            table = page.html("customers-table", page.paragraph(say("customers.loading"), "empty"))
        with gr.Column(scale=5, min_width=320):
            household = gr.Dropdown(
                [], label=say("customers.choose"), info=say("customers.choose_info"), allow_custom_value=True,
                elem_id="customers-household",
            )  # fmt: skip
            insight = page.html("customers-insight", page.paragraph(say("customers.empty"), "empty"))

    def show_list(wanted: int, order: str, chosen: str | None) -> tuple[Markup, Any]:
        try:
            found = at_risk(parts)
        except TrackingError as error:
            missing = Source(kind="missing", why=str(error))
            return page.source_notice(say, "churn", missing), gr.skip()
        offered, worth = choices(say, found), found[found["gain"] >= 0]
        first = str((found if worth.empty else worth)["household_id"].iloc[0])
        return list_view(say, found, wanted, order), gr.update(choices=offered, value=chosen or first)

    def show_one(chosen: str | None) -> Iterator[str]:
        number = (chosen or "").strip()[:20]
        if not number:
            yield page.paragraph(say("customers.empty"), "empty")
            return
        done = None
        try:
            for found in steps.follow(parts.customer, {"household_id": number, "language": say.language}):
                if isinstance(found, CustomerInsight):
                    yield insight_view(say, found) + page.fold(say("steps.title"), steps.view(say, done, False))
                else:
                    done = found
                    yield steps.view(say, found)
        except UnknownThing as error:
            yield page.error(say, str(error))

    gr.on(
        [tab.select, count.change, order.change], show_list, [count, order, household], [table, household], **page.QUICK
    )
    household.change(show_one, household, insight, trigger_mode="always_last", **page.WRITING)
