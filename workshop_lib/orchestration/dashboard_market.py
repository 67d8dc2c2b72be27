"""The tab with the market: what grows and falls, what each season sells, what goes together, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
from markupsafe import Markup

from workshop_lib.orchestration import dashboard_page as page
from workshop_lib.orchestration import dashboard_plots as plots
from workshop_lib.orchestration import dashboard_steps as steps
from workshop_lib.orchestration.dashboard_parts import Parts
from workshop_lib.orchestration.labels import Labels
from workshop_lib.orchestration.market_results import MarketAnalysis, Season, Trend
from workshop_lib.orchestration.market_texts import ACTIONS, part_name

PER_SIDE = 7
"""Categories that grow most, and as many that fall most."""
SEASONS = 12
PAIRS = 5
_SURE = ("clear", "hint")

View = tuple[Any, ...]
"""Summary with recommendations, two plots each with its sentence, and the tables: in the order of the places."""


def view(say: Labels, found: MarketAnalysis) -> View:
    """What the tab shows."""
    notices = page.join(
        page.source_notice(say, part, source, text=False) for part, source in found.sources.items() if part != "summary"
    )
    trends, seasons = chosen_trends(found.trends or ()), chosen_seasons(found.seasons or ())
    names = [f"{plots.short(one.category)}<br>{_part(say, one)}" for one in seasons]
    return (
        notices + _summary(say, found) + _recommendations(say, found),
        plots.trends(say, trends) if trends else None,
        page.paragraph(_trend_text(say, trends), "caption"),
        plots.seasons(say, seasons, names) if seasons else None,
        page.paragraph(_season_text(say, seasons), "caption"),
        _opportunities(say, found) + _pairs(say, found),
    )


def chosen_trends(trends: Sequence[Trend]) -> list[Trend]:
    """The largest changes, clear ones and hints: growing ones first, then falling ones, the strongest outside."""
    sure = sorted((one for one in trends if one.evidence in _SURE), key=lambda one: -one.growth)
    growing = [one for one in sure if one.growth > 0][:PER_SIDE]
    falling = [one for one in sure if one.growth < 0][-PER_SIDE:]
    return [*growing, *falling]


def chosen_seasons(seasons: Sequence[Season]) -> list[Season]:
    """The strongest seasons that sell more than usual; for each category its best."""
    best: dict[str, Season] = {}
    for one in sorted(seasons, key=lambda one: -one.ratio):
        if one.ratio > 1:
            best.setdefault(one.category, one)
    return list(best.values())[:SEASONS]


def kind_name(name: str) -> str:
    """A category, or a kind of product in one; the catalogue often says the category twice (EGGS: EGGS - LARGE)."""
    category, _, kind = name.partition(": ")
    return page.category_name(kind if kind.startswith(category) else name)


def _part(say: Labels, season: Season) -> str:
    return part_name(season.part, say.language)


def _trend_text(say: Labels, trends: Sequence[Trend]) -> str:
    if not trends:
        return say("market.no_trend")
    top, bottom = trends[0], trends[-1]
    return say(
        "market.trend_text",
        count=len(trends),
        top=page.category_name(top.category),
        top_growth=say.change(top.growth),
        bottom=page.category_name(bottom.category),
        bottom_growth=say.change(bottom.growth),
    )


def _season_text(say: Labels, seasons: Sequence[Season]) -> str:
    if not seasons:
        return say("market.no_season")
    first = seasons[0]
    return say(
        "market.season_text",
        category=page.category_name(first.category),
        part=_part(say, first),
        ratio=say.number(first.ratio, 1),
    )


def _summary(say: Labels, found: MarketAnalysis) -> Markup:
    title = say("market.summary", first=say.date(found.first_day), last=say.date(found.last_day))
    return page.written(say, title, "summary", found.summary)


def _recommendations(say: Labels, found: MarketAnalysis) -> Markup:
    columns = [say(f"market.column.{name}") for name in ("action", "subject", "dollars", "reason")]
    rows = [
        (
            ACTIONS[say.language][one.action].capitalize(),
            " + ".join(kind_name(part) for part in one.subject.split(" + ")),
            say("unit.none") if one.dollars is None else say.dollars(one.dollars),
            one.reason,
        )
        for one in found.recommendations
    ]
    return page.table(
        say("market.recommendations"), columns, rows, numbers=[2], empty=say("market.nothing"), stack=True
    )


def _opportunities(say: Labels, found: MarketAnalysis) -> Markup:
    columns = [
        say(f"market.column.{name}")
        for name in ("category", "growth", "mailer", "without", "with", "extra", "extra_revenue")
    ]
    rows = [
        (
            page.category_name(one.category),
            say.change(one.growth),
            say.percent(one.mailer_share),
            *(
                say("unit.none") if units is None else say.number(units)
                for units in (one.units_without, one.units_with)
            ),
            say("unit.none") if one.extra_units is None else say.signed(one.extra_units),
            say("unit.none") if one.extra_revenue is None else say.dollars(one.extra_revenue),
        )
        for one in found.opportunities or ()
    ]
    table = page.table(
        say("market.opportunities"), columns, rows, numbers=range(1, 7), empty=say("market.no_chance"), stack=True
    )
    return table + (page.paragraph(say("market.opportunity_note"), "caption") if rows else page.NOTHING)


def _pairs(say: Labels, found: MarketAnalysis) -> Markup:
    columns = [say(f"market.column.{name}") for name in ("first", "second", "together", "expected", "lift")]
    tables = []
    for relation in ("substitutes", "complements"):
        rows = [
            (
                kind_name(one.first), kind_name(one.second), say.number(one.together),
                say.number(one.expected), say.number(one.lift, 2),
            )
            for one in found.pairs or ()
            if one.relation == relation
        ][:PAIRS]  # fmt: skip
        tables.append(
            page.table(
                say(f"market.{relation}"),
                columns,
                rows,
                numbers=[2, 3, 4],
                empty=say(f"market.no_{relation}"),
                stack=True,
            )
        )
    return page.join(tables)


def add(tab: gr.Tab, parts: Parts, say: Labels) -> None:
    """Put the tab's content into the surrounding Blocks."""
    page.html("market-lead", page.lead(say("market.title"), say("market.lead")))
    department = gr.Dropdown(
        [(say("market.whole_shop"), ""), *((page.category_name(name), name) for name in parts.shop.departments)],
        value="", label=say("market.department"), elem_id="market-department",
    )  # fmt: skip
    summary = page.html("market-summary")
    with gr.Row():
        with gr.Column(min_width=320):
            page.html("market-trends-title", page.heading(say("market.trends")))
            trends, trends_text = page.plot("market-trends", say, "market.trends")
        with gr.Column(min_width=320):
            page.html("market-seasons-title", page.heading(say("market.seasons")))
            seasons, seasons_text = page.plot("market-seasons", say, "market.seasons")
    tables = page.html("market-tables")
    outputs = [summary, trends, trends_text, seasons, seasons_text, tables]
    seen = gr.State(None)

    def show(chosen: str, shown: str | None) -> Iterator[View]:
        if chosen == shown:  # the tab was opened again: what it shows is what was asked for
            yield (*(gr.skip() for _ in outputs), shown)
            return
        done = None
        for found in steps.follow(parts.market, {"department": chosen or None, "language": say.language}):
            if isinstance(found, MarketAnalysis):
                summary_, *rest = view(say, found)
                yield (summary_ + page.fold(say("steps.title"), steps.view(say, done, False)), *rest, chosen)
            else:
                done = found
                yield (steps.view(say, found), *(gr.skip() for _ in outputs[1:]), shown)

    gr.on(
        [tab.select, department.change], show, [department, seen], [*outputs, seen],
        trigger_mode="always_last", **page.WRITING,
    )  # fmt: skip
