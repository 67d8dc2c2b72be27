"""What people of the shop want from the system, as requests whose answers can be checked.

    doors = Doors(models, load_shop(), Memory())
    truth = Truth(doors.shop, connect())
    requests = mixed(scenarios(doors, truth), 100)

A check does not ask whether an answer came but whether it is right: its figures are computed again from the tables, and
its forecasts and scores are compared with what the business API answers directly. A last known answer of a model that
has been replaced since is only old: there is nothing left to compare it with.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import httpx
import pandas as pd
from langchain_core.runnables import Runnable

from workshop_lib.generative import facts as catalogue
from workshop_lib.orchestration.assistant import Assistant, Reply
from workshop_lib.orchestration.customer import CustomerInsight, customer_chain
from workshop_lib.orchestration.end_to_end import Request
from workshop_lib.orchestration.market import market_chain
from workshop_lib.orchestration.market_results import AHEAD_DAYS, MarketAnalysis, Opportunity, Trend
from workshop_lib.orchestration.memory import Memory, new_session
from workshop_lib.orchestration.models import Models
from workshop_lib.orchestration.product import ProductAnalysis, must_not_advertise, product_chain
from workshop_lib.orchestration.results import Source
from workshop_lib.orchestration.shop import Shop
from workshop_lib.orchestration.stated_numbers import unstated_numbers
from workshop_lib.serving.api_client import Api
from workshop_lib.settings import settings

CATEGORIES = 20
"""The scenarios are about so many of the largest categories."""
DEPARTMENTS = 5
RECENT_DAYS = 60
"""The households of the scenarios shopped within so many days before the end of the data."""
DAYS = (3, 5, 7)
QUESTIONS = {
    "¿Cuántos huevos venderemos la próxima semana?": "EGGS",
    "¿Cuánta leche hay que pedir para los próximos 3 días?": "FLUID MILK PRODUCTS",
    "¿Necesitamos más queso esta semana?": "CHEESE",
    "¿Qué pronóstico hay para los refrescos en los próximos 5 días?": "SOFT DRINKS",
    "¿Cuánto yogur se venderá en 7 días?": "YOGURT",
    "¿Cuántas pizzas congeladas venderemos la próxima semana?": "FROZEN PIZZA",
}
"""Questions in plain words, and the category that each is about."""
FOLLOW_UPS = {"¿Y mañana?": 1, "¿Y en los próximos 3 días?": 3, "¿Y en 5 días?": 5}
"""Questions that leave out what they are about, and how many days they mean."""
CLOSE = 1e-5
"""Relative difference up to which two forecasts are the same."""


@dataclass(frozen=True)
class Doors:
    """The ways into the system."""

    models: Models
    shop: Shop
    memory: Memory

    @cached_property
    def product(self) -> Runnable[Any, ProductAnalysis]:
        """The product chain."""
        return product_chain(self.models, self.shop)

    @cached_property
    def customer(self) -> Runnable[Any, CustomerInsight]:
        """The customer chain."""
        return customer_chain(self.models, self.shop)

    @cached_property
    def market(self) -> Runnable[Any, MarketAnalysis]:
        """The market chain."""
        return market_chain(self.models, self.shop)

    @cached_property
    def assistant(self) -> Assistant:
        """Questions in plain words."""
        return Assistant(self.models, self.shop, self.memory)


@dataclass(frozen=True)
class Truth:
    """What data and models say, without any chain between."""

    shop: Shop
    api: Api
    _known: dict[str, Any] = field(default_factory=dict, repr=False)

    def forecast(self, category: str, days: int, **plan: Any) -> tuple[float, str | None]:
        """Forecast units of a category on the days after the data, and the version of the forecaster."""
        dates = [f"{day:%Y-%m-%d}" for day in pd.date_range(self.shop.last_day, periods=days + 1)[1:]]
        answer = self._ask("/forecast", {"category": category, "dates": dates, **plan})
        return sum(float(day["units"]) for day in answer["forecasts"]), answer["model"]["version"]

    def score(self, household: int | str) -> tuple[float, str | None]:
        """How likely a household is to stay away, and the version of the churn model."""
        answer = self._ask("/churn", {"household_id": household})
        return float(answer["probability"]), answer["model"]["version"]

    def sold(self, category: str, days: int) -> float:
        """Units of a category in the last days on which the shop opened."""
        sales = self.shop.daily_sales
        opened = sales[sales["open"] & (sales["category"] == category)].sort_values("date")
        return float(opened["units"].tail(days).sum())

    def receipts(self, household: int | str) -> tuple[int, float]:
        """Baskets of a household, and the dollars that it paid for them."""
        lines = self.shop.transactions
        own = lines[lines["household_id"] == household]
        return own["basket_id"].nunique(), float(own["revenue"].sum())

    @cached_property
    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self.api.url, headers=self.api.headers, timeout=30)

    def _ask(self, path: str, body: Mapping[str, Any]) -> Any:
        key = f"{path} {body}"
        if key not in self._known:
            self._known[key] = self._client.post(path, json=body).raise_for_status().json()
        return self._known[key]


def product_faults(answer: ProductAnalysis, truth: Truth) -> list[str]:
    """What is wrong in a product analysis; a part that is missing is not wrong."""
    question, found = answer.question, list[str]()
    plan = question.model_dump(include={"price", "promotion"}, exclude_none=True)
    found += _differs("sold", answer.features.sold, truth.sold(answer.category, question.days))
    if answer.forecast is not None:
        total = answer.forecast.total
        right = truth.forecast(answer.category, question.days, **plan)
        found += _model_differs("forecast", total, answer.forecast.source, right)
        found += _differs("stock", answer.stock.expected, total) if answer.stock else []
    change = answer.forecast.total / max(answer.features.sold, 1) - 1 if answer.forecast else 0.0
    return [*found, *_unstated(answer, change)]


def household_faults(answer: CustomerInsight, truth: Truth) -> list[str]:
    """What is wrong in a customer insight."""
    baskets, spend = truth.receipts(answer.household_id)
    found = [*_differs("baskets", answer.history.baskets, baskets), *_differs("spend", answer.history.spend, spend)]
    if answer.churn is not None:
        churn = answer.churn
        found += _model_differs("likelihood", churn.probability, churn.source, truth.score(answer.household_id))
    offer = answer.offer
    worth = offer.probability * offer.success_rate * offer.value if offer else 0.0
    found += _differs("gain", offer.gain, worth - offer.cost) if offer else []
    return [*found, *_unstated(answer, worth)]


def market_faults(answer: MarketAnalysis, truth: Truth) -> list[str]:
    """What is wrong in a market analysis; of the forecasts, the first opportunity's is looked at."""
    shown: list[Trend | Opportunity] = [*(answer.trends or ()), *(answer.opportunities or ())]
    strangers = {one.category for one in shown if answer.department not in (None, one.department)}
    found = [f"{category} belongs to another department" for category in sorted(strangers)]
    for one in (answer.opportunities or ())[:1]:
        if one.units_without is not None:
            none = dict.fromkeys(("display_share", "mailer_share", "front_page_share"), 0.0)
            found += _model_differs(
                "forecast", one.units_without, one.source, truth.forecast(one.category, AHEAD_DAYS, promotion=none)
            )
    own = truth.shop.daily_sales
    week = own[own["date"] > truth.shop.last_day - pd.Timedelta(days=7)]
    sold = week[week["department"] == answer.department] if answer.department else week
    return [*found, *_unstated(answer, float(sold["units"].sum()), AHEAD_DAYS)]


def reply_faults(reply: Reply, truth: Truth, category: str, days: int | None = None) -> list[str]:
    """What is wrong in a reply of the assistant.

    Args:
        reply: to the question.
        truth: what data and models say.
        category: that the question was about.
        days: that it looked ahead; any when None.
    """
    answer = reply.answer
    if reply.sources["memory"].degraded and answer is None:
        return []  # it could not know what the question went on from, and said so
    if not isinstance(answer, ProductAnalysis) or answer.category != category:
        return [f"asked about {category}, routed to {reply.route.chain}"]
    if days not in (None, answer.question.days):
        return [f"asked about {days} days, understood {answer.question.days}"]
    return product_faults(answer, truth)


def _differs(name: str, found: float, right: float) -> list[str]:
    return [] if abs(found - right) <= CLOSE * max(1.0, abs(right)) else [f"{name}: {found:,.2f} is {right:,.2f}"]


def _model_differs(name: str, found: float, source: Source, right: tuple[float, str | None]) -> list[str]:
    """As :func:`_differs`, of what a model said; nothing for an answer that a replaced version gave in its time."""
    number, version = right
    replaced = source.kind == "last known" and source.version != version
    return [] if replaced else _differs(name, found, number)


def _unstated(answer: Any, *derived: float) -> list[str]:
    numbers = unstated_numbers(answer, derived)
    return [f"nobody gave {', '.join(numbers)}"] if numbers else []


@dataclass(frozen=True)
class Scenario:
    """A kind of request, how long it may take, and how often it comes."""

    name: str
    budget: float
    """Seconds."""
    weight: int
    """Share of a mix, in percent."""
    make: Callable[[random.Random], Request] = field(repr=False)


def scenarios(doors: Doors, truth: Truth) -> list[Scenario]:
    """The scenarios of the course. Staff ask in Spanish; what customers read is in English."""
    shop, limits = doors.shop, settings.thresholds
    categories, departments = shop.categories[:CATEGORIES], [None, *shop.departments[:DEPARTMENTS]]
    households, products = _active_households(shop), _describable_products(shop, categories)

    def stock(draw: random.Random) -> Request:
        return stock_request(doors, truth, draw.choice(categories), draw.choice(DAYS))

    def household(draw: random.Random) -> Request:
        return household_request(doors, truth, draw.choice(households))

    def market(draw: random.Random) -> Request:
        return market_request(doors, truth, draw.choice(departments))

    def question(draw: random.Random) -> Request:
        return question_request(doors, truth, draw.choice(list(QUESTIONS)))

    def follow_up(draw: random.Random) -> Request:
        return follow_up_request(doors, truth, draw.choice(list(QUESTIONS)), draw.choice(list(FOLLOW_UPS)))

    def text(draw: random.Random) -> Request:
        return text_request(doors, truth, draw.choice(products))

    return [
        Scenario("stock for a category", limits.stock_seconds, 45, stock),
        Scenario("keep a household", limits.household_seconds, 5, household),
        Scenario("market review", limits.market_seconds, 10, market),
        Scenario("question in plain words", limits.question_seconds, 25, question),
        Scenario("follow-up question", limits.follow_up_seconds, 10, follow_up),
        Scenario("product text", limits.product_text_seconds, 5, text),
    ]


def mixed(kinds: Sequence[Scenario], count: int, seed: int | None = None) -> list[Request]:
    """Requests of all scenarios in the shares of their weights, in random order; the same ones for the same seed."""
    draw = random.Random(settings.seed if seed is None else seed)
    names = [kind for kind in kinds for _ in range(kind.weight)]
    chosen = [names[place * len(names) // count] for place in range(count)]
    draw.shuffle(chosen)
    return [kind.make(draw) for kind in chosen]


def stock_request(doors: Doors, truth: Truth, category: str, days: int = 7) -> Request:
    """How much of a category to have in stock."""
    asked = {"category": category, "days": days, "language": "es"}
    return Request(
        "stock for a category", partial(doors.product.invoke, asked), lambda answer: product_faults(answer, truth)
    )


def household_request(doors: Doors, truth: Truth, household: int | str, language: str = "en") -> Request:
    """Whether a household may leave, and what to write to it."""
    asked = {"household_id": household, "language": language}
    return Request(
        "keep a household", partial(doors.customer.invoke, asked), lambda answer: household_faults(answer, truth)
    )


def market_request(doors: Doors, truth: Truth, department: str | None = None) -> Request:
    """What happens in a department, or in the whole shop."""
    asked = {"department": department, "language": "es"}
    return Request("market review", partial(doors.market.invoke, asked), lambda answer: market_faults(answer, truth))


def question_request(doors: Doors, truth: Truth, text: str) -> Request:
    """One of :data:`QUESTIONS`, in a conversation of its own."""
    return Request(
        "question in plain words",
        lambda: doors.assistant.ask(text, new_session()),
        lambda reply: reply_faults(reply, truth, QUESTIONS[text]),
    )


def follow_up_request(doors: Doors, truth: Truth, text: str, further: str) -> Request:
    """One of :data:`QUESTIONS` and then one of :data:`FOLLOW_UPS`; the answer is the reply to the second."""

    def ask() -> Reply:
        session = new_session()
        doors.assistant.ask(text, session)
        return doors.assistant.ask(further, session)

    return Request(
        "follow-up question", ask, lambda reply: reply_faults(reply, truth, QUESTIONS[text], FOLLOW_UPS[further])
    )


def text_request(doors: Doors, truth: Truth, product: int | str) -> Request:
    """A text for a product's page."""
    asked = {"product_id": product, "language": "en"}
    return Request("product text", partial(doors.product.invoke, asked), lambda answer: product_faults(answer, truth))


def _active_households(shop: Shop) -> list[Any]:
    lines = shop.transactions
    recent = lines["date"] > shop.last_day - pd.Timedelta(days=RECENT_DAYS)
    return sorted(lines.loc[recent, "household_id"].unique().tolist())


def _describable_products(shop: Shop, categories: Sequence[str]) -> list[Any]:
    """The best seller of each category, where a machine may write about it and the catalogue says enough."""
    sold = shop.products[shop.products["category"].isin(categories)]
    best = sold.loc[sold.groupby("category", observed=True)["units"].idxmax()].to_dict("records")
    return sorted(
        row["product_id"]
        for row in best
        if not must_not_advertise(f"{row['category']} {row.get('product_type') or ''}")
        and {"brand", "size"} <= catalogue.describe(row).keys()
    )
