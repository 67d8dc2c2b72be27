"""The market analysis: trends, seasons, what goes together, where a promotion may pay, and what to do.

    chain = market_chain(connect(), load_shop())
    chain.invoke({"department": "PRODUCE"})

Trends, seasons and pairs are computed beside each other, once per shop, for all of it: a department's answer is a part
of the whole, so that a trend is as sure in the one as in the other. The forecaster is asked what a promotion would
change. What it answers is what it has seen go together in the past, no proof that the one causes the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import pandas as pd
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnableParallel

from workshop_lib.generative import prompts
from workshop_lib.orchestration import market_texts as texts
from workshop_lib.orchestration.market_pairs import pairs
from workshop_lib.orchestration.market_results import (
    AHEAD_DAYS,
    Action,
    Headline,
    MarketAnalysis,
    MarketQuestion,
    Opportunity,
    Pair,
    Recommendation,
    Season,
    Trend,
)
from workshop_lib.orchestration.market_trends import (
    TooLittleData,
    department_of,
    feast_name,
    next_feast,
    seasons,
    trends,
)
from workshop_lib.orchestration.models import Models, attempt
from workshop_lib.orchestration.product import PROMPTS, must_not_advertise
from workshop_lib.orchestration.results import DATA, MODEL, Forecast, Source, Text
from workshop_lib.orchestration.shop import Shop
from workshop_lib.orchestration.wording import wording
from workshop_lib.settings import settings

CANDIDATES = 6
"""Opportunities for which the forecaster is asked."""
SHOWN = 20
"""Pairs of each relation in an answer."""
PER_ACTION = 3
"""Recommendations of each kind."""
SURE = 0.05
"""q-value up to which a season is told."""
QUARTER_DAYS, PRICE_DAYS = 91, 28
NO_PROMOTION = {"display_share": 0.0, "mailer_share": 0.0, "front_page_share": 0.0}

State = dict[str, Any]
Found = TypeVar("Found")


def market_chain(models: Models, shop: Shop) -> Runnable[Any, MarketAnalysis]:
    """The chain. It takes a :class:`MarketQuestion` or a dict of its fields.

    Invoking it raises:
        UnknownThing: when the shop has no such department.
        ValidationError: when the question has another form.
    """

    def check(question: object) -> MarketQuestion:
        asked = MarketQuestion.model_validate(question)
        known = asked.department and shop.find_department(asked.department)
        return asked.model_copy(update={"department": known})

    def forecasts(state: State, config: RunnableConfig) -> State:
        return _forecasts(models, shop, state, config)

    def recommend(state: State) -> State:
        return state | {"recommendations": _recommendations(shop, state)}

    def word(state: State, config: RunnableConfig) -> State:
        return state | {"summary": _summary(shop, state, words, config)}

    words = wording(models.chat, prompts.load("product_summary.few_shot", folder=PROMPTS))
    look = RunnableParallel(
        question=RunnableLambda(lambda question: question, name="keep the question"),
        trends=RunnableLambda(lambda question: _part(_trends, shop, question), name="trends"),
        seasons=RunnableLambda(lambda question: _part(_seasons, shop, question), name="seasons"),
        pairs=RunnableLambda(lambda question: _part(_pairs, shop, question), name="substitutes and complements"),
    )
    return (
        RunnableLambda(check, name="question")
        | look.with_config(run_name="look at the data")
        | RunnableLambda(forecasts, name="opportunities")
        | RunnableLambda(recommend, name="recommendations")
        | RunnableLambda(word, name="summary")
        | RunnableLambda(lambda state: _answer(shop, state), name="answer")
    ).with_config(run_name="market analysis")


def _once(work: Callable[[Shop], Found]) -> Callable[[Shop], Found]:
    """Work that is done once per shop, also when several threads ask for it at the same time."""
    kept: WeakKeyDictionary[Shop, Found] = WeakKeyDictionary()
    busy = threading.Lock()

    def run(shop: Shop) -> Found:
        with busy:
            if shop not in kept:
                kept[shop] = work(shop)
            return kept[shop]

    return run


_all_trends, _all_seasons, _all_pairs = _once(trends), _once(seasons), _once(pairs)


def _part(
    work: Callable[[Shop, MarketQuestion], tuple[Found, ...]], shop: Shop, question: MarketQuestion
) -> tuple[tuple[Found, ...] | None, Source]:
    """One part and its source; None where the data is too little for it."""
    try:
        return work(shop, question), DATA
    except TooLittleData as error:
        return None, Source(kind="missing", why=str(error))


def _trends(shop: Shop, question: MarketQuestion) -> tuple[Trend, ...]:
    return tuple(one for one in _all_trends(shop) if _asked(one.department, question))


def _seasons(shop: Shop, question: MarketQuestion) -> tuple[Season, ...]:
    found = (one for one in _all_seasons(shop) if _asked(one.department, question))
    return tuple(one for one in found if one.q_value <= SURE)


def _pairs(shop: Shop, question: MarketQuestion) -> tuple[Pair, ...]:
    found = [one for one in _all_pairs(shop) if _asked(one.department, question)]
    substitutes, complements = (
        [one for one in found if one.relation == relation][:SHOWN] for relation in ("substitutes", "complements")
    )
    return (*substitutes, *complements)


def _asked(department: str, question: MarketQuestion) -> bool:
    return question.department in (None, department)


def _forecasts(models: Models, shop: Shop, state: State, config: RunnableConfig) -> State:
    """What the forecaster says about the headline, and about promotions of what grows and is hardly promoted."""
    found, source = state["trends"]
    headline = _headline(shop, state)
    recent = shop.daily_sales[shop.daily_sales["date"] > shop.last_day - pd.Timedelta(days=QUARTER_DAYS)]
    shares = recent.groupby("category")["mailer_share"].mean().reindex(shop.categories)
    growing = [
        one
        for one in found or ()
        if one.growth > 0 and one.steady and one.evidence != "none" and not must_not_advertise(one.category)
    ]
    chosen = [one for one in growing if shares[one.category] < float(shares.median())][:CANDIDATES]
    plan = strong_promotion(shop)
    promotions = [_week(shop, one.category, promotion) for one in chosen for promotion in (NO_PROMOTION, plan)]
    first, *forecasts = _ask_all(models, [_week(shop, headline), *promotions], config)
    opportunities = tuple(
        _opportunity(shop, trend, shares, plan, *forecasts[2 * place : 2 * place + 2])
        for place, trend in enumerate(chosen)
    )
    worst = next((one.source for one in opportunities if one.source.degraded), MODEL if chosen else DATA)
    part = (None, source) if found is None else (_by_revenue(opportunities), worst)
    return state | {"headline": _sold_and_expected(shop, headline, *first), "opportunities": part}


def _headline(shop: Shop, state: State) -> str:
    """The category whose clear trend moved most money, else the largest one."""
    clear = [one for one in state["trends"][0] or () if one.evidence == "clear"]
    if clear:
        return max(clear, key=lambda one: abs(one.growth) * one.weekly_revenue).category
    return next(name for name in shop.categories if _asked(department_of(shop)[name], state["question"]))


def _sold_and_expected(shop: Shop, category: str, forecast: Forecast | None, source: Source) -> Headline:
    sold = float(shop.units_when_open(category).tail(AHEAD_DAYS).sum())
    expected = forecast.total if forecast else None
    return Headline(
        category=category,
        department=department_of(shop)[category],
        sold=sold,
        forecast=expected,
        change=None if expected is None else expected / max(sold, 1) - 1,
        source=source,
    )


def _last_week(shop: Shop, chosen: pd.Series) -> float:
    """Units of the last seven days."""
    sales = shop.daily_sales
    return float(sales.loc[chosen & (sales["date"] > shop.last_day - pd.Timedelta(days=7)), "units"].sum())


def strong_promotion(shop: Shop) -> dict[str, float]:
    """Promoted shares that only one in ten weeks of the categories exceeds: strong, and well known to the model."""
    sales = shop.daily_sales[shop.daily_sales["category"].isin(shop.categories)]
    shares = sales[["display_share", "mailer_share"]].quantile(0.9)
    return NO_PROMOTION | {str(name): round(float(share), 2) for name, share in shares.items()}


def _week(shop: Shop, category: str, promotion: dict[str, float] | None = None) -> State:
    """The question for the week after the data; without a promotion it is promoted as in the last week."""
    days = pd.date_range(shop.last_day + pd.Timedelta(days=1), periods=AHEAD_DAYS)
    dates = [day.date().isoformat() for day in days]
    return {"category": category, "dates": dates} | ({"promotion": promotion} if promotion else {})


def _ask_all(models: Models, asked: Sequence[State], config: RunnableConfig) -> list[tuple[Forecast | None, Source]]:
    """All forecasts, so many at once; none of the others when the first shows that the forecaster is away."""
    what_if: Runnable[State, tuple[Forecast | None, Source]] = RunnableLambda(
        lambda question: attempt(models.forecast, question), name="what if"
    )
    first = what_if.invoke(asked[0], config)
    if first[0] is None:
        return [first] * len(asked)
    rest = what_if.batch(list(asked[1:]), {**config, "max_concurrency": settings.chain_concurrency})
    return [first, *rest]


def _opportunity(
    shop: Shop,
    trend: Trend,
    shares: pd.Series,
    plan: dict[str, float],
    without: tuple[Forecast | None, Source],
    promoted: tuple[Forecast | None, Source],
) -> Opportunity:
    own = shop.daily_sales[shop.daily_sales["category"] == trend.category]
    low, high = (forecast.total if forecast else None for forecast, _ in (without, promoted))
    extra = None if low is None or high is None else high - low
    return Opportunity(
        category=trend.category,
        department=trend.department,
        growth=trend.growth,
        evidence=trend.evidence,
        mailer_share=float(shares[trend.category]),
        usual_share=float(shares.median()),
        planned_share=plan["mailer_share"],
        ever_so=bool(own["mailer_share"].max() >= plan["mailer_share"]),
        units_without=low,
        units_with=high,
        extra_units=extra,
        extra_revenue=None if extra is None else extra * price(shop, trend.category),
        source=max(without[1], promoted[1], key=lambda source: source.degraded),
    )


def _by_revenue(opportunities: Sequence[Opportunity]) -> tuple[Opportunity, ...]:
    return tuple(sorted(opportunities, key=lambda one: (one.extra_revenue is None, -(one.extra_revenue or 0))))


def price(shop: Shop, category: str) -> float:
    """What a unit of a category brought in the last four weeks, dollars."""
    sales = shop.daily_sales
    own = sales[(sales["category"] == category) & (sales["date"] > shop.last_day - pd.Timedelta(days=PRICE_DAYS))]
    return float(own["revenue"].sum() / max(own["units"].sum(), 1))


def _recommendations(shop: Shop, state: State) -> tuple[Recommendation, ...]:
    """At most :data:`PER_ACTION` of each kind; those with most dollars at stake first."""
    language = state["question"].language
    drafts = [draft for make in (_promote, _stock_up, _look_into, _placing) for draft in make(shop, state)]
    drafts.sort(key=lambda draft: -draft["dollars"] if draft["dollars"] is not None else 1.0)
    made = []
    for rank, draft in enumerate(drafts, start=1):
        part, unsure = draft.pop("part", ""), draft.pop("unsure", False)
        why = texts.reason(draft["action"], draft["numbers"], language, part, unsure)
        made.append(Recommendation(rank=rank, reason=why, **draft))
    return tuple(made)


def _draft(action: Action, row: Trend | Season | Pair | Opportunity, dollars: float | None, *names: str) -> State:
    subject = f"{row.first} + {row.second}" if isinstance(row, Pair) else row.category
    numbers = {name: float(getattr(row, name)) for name in names}
    return {
        "action": action, "subject": subject, "department": row.department, "dollars": dollars, "numbers": numbers,
    }  # fmt: skip


def _promote(shop: Shop, state: State) -> list[State]:
    figures = ("growth", "mailer_share", "usual_share")
    found = state["opportunities"][0] or ()
    paying = [one for one in found if one.extra_units is None or one.extra_units > 0][:PER_ACTION]
    return [
        _draft("promote", one, one.extra_revenue, *figures, *(("extra_units",) if one.extra_units else ()))
        | {"unsure": one.evidence == "hint"}
        for one in paying
    ]


def _stock_up(shop: Shop, state: State) -> list[State]:
    part = feast_name(next_feast(shop.last_day))
    found = [one for one in state["seasons"][0] or () if one.part == part and one.ratio > 1]
    drafts = [
        _draft("stock up", one, one.extra_units * price(shop, one.category), "ratio", "extra_units") | {"part": part}
        for one in found
    ]
    return sorted(drafts, key=lambda draft: -draft["dollars"])[:PER_ACTION]


def _look_into(shop: Shop, state: State) -> list[State]:
    """Clear falls. At stake is what the last week brought less than the first one, by the trend."""
    found = [one for one in state["trends"][0] or () if one.evidence == "clear" and one.growth < 0]
    lost = [one.weekly_revenue * -one.growth / (1 + one.growth / 2) for one in found]
    drafts = [
        _draft("look into", one, dollars, "growth", "lower", "upper") for one, dollars in zip(found, lost, strict=True)
    ]
    return sorted(drafts, key=lambda draft: -draft["dollars"])[:PER_ACTION]


def _placing(shop: Shop, state: State) -> list[State]:
    """Complements of different categories stand apart today; substitutes of the same one share a mailer."""
    found: Sequence[Pair] = state["pairs"][0] or ()
    apart = [one for one in found if one.relation == "complements" and one.categories[0] != one.categories[1]]
    rivals = [one for one in found if one.relation == "substitutes"]
    together = [_draft("place together", one, None, "together", "expected") for one in _varied(apart)]
    return together + [_draft("promote apart", one, None, "together", "expected") for one in _varied(rivals)]


def _varied(found: Sequence[Pair]) -> list[Pair]:
    """The first pairs whose categories have not been named before."""
    named: set[str] = set()
    chosen: list[Pair] = []
    for one in found:
        if len(chosen) < PER_ACTION and not named & set(one.categories):
            chosen.append(one)
            named |= set(one.categories)
    return chosen


def _summary(shop: Shop, state: State, words: Runnable[Any, Text], config: RunnableConfig) -> Text:
    """The overview, and a note on the headline."""
    question, headline = state["question"], state["headline"]
    clear = [one for one in state["trends"][0] or () if one.evidence == "clear"]
    first = next(iter(state["recommendations"]), None)
    advice = first and f"{texts.ACTIONS[question.language][first.action]} {first.subject}"
    overview = texts.overview(question.department, _sold(shop, question), clear, advice, question.language)
    if headline.forecast is None:
        why = f"There was no forecast to write about: {headline.source.why}"
        return Text(text=overview, source=Source(kind="template", why=why))
    facts, template = texts.note(headline, question.language)
    asked = {
        "facts": facts, "template": template, "language": question.language, "required": tuple(facts),
        "about": {"category": headline.category.lower()},
    }  # fmt: skip
    note = words.invoke(asked, config)
    return note.model_copy(update={"text": f"{overview} {note.text}"})


def _sold(shop: Shop, question: MarketQuestion) -> float:
    departments = shop.daily_sales["department"]
    return _last_week(shop, departments == question.department if question.department else departments.notna())


def _answer(shop: Shop, state: State) -> MarketAnalysis:
    parts = {name: state[name] for name in ("trends", "seasons", "pairs", "opportunities")}
    sources = {name: source for name, (_, source) in parts.items()}
    extra = {
        "headline": state["headline"].source, "recommendations": DATA, "summary": state["summary"].source,
    }  # fmt: skip
    return MarketAnalysis(
        department=state["question"].department,
        first_day=shop.daily_sales["date"].min().date(),
        last_day=shop.last_day.date(),
        sold=_sold(shop, state["question"]),
        headline=state["headline"],
        recommendations=state["recommendations"],
        summary=state["summary"],
        sources=sources | extra,
        **{name: found for name, (found, _) in parts.items()},
    )
