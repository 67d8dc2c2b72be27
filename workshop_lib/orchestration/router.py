"""From a question in plain words to the chain that answers it and the typed question of that chain.

    route = router(models, shop).invoke("How many eggs will we sell next week?")
    route.chain, route.question

The rules read what the question names (:mod:`workshop_lib.orchestration.router_rules`) and decide. Where they are in
doubt between two chains, the language model may choose between these two. The course's own model is too small for that
and is not asked (``settings.router_asks_model``): see :mod:`workshop_lib.orchestration.router_measure`. Everything in
the typed question comes from the rules: a model may pick a door, it cannot say who or what is behind it.
"""

from __future__ import annotations

from typing import Any, Literal

from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from pydantic import BaseModel, ConfigDict, Field

from workshop_lib.generative.facts import readable
from workshop_lib.orchestration.customer import CustomerQuestion
from workshop_lib.orchestration.market_results import MarketQuestion
from workshop_lib.orchestration.models import Models
from workshop_lib.orchestration.product import ProductQuestion, features_step, question_step
from workshop_lib.orchestration.results import DATA, MODEL, Frozen, Source
from workshop_lib.orchestration.router_choice import NoChoice, choice
from workshop_lib.orchestration.router_plans import MOST_DAYS
from workshop_lib.orchestration.router_rules import Chain, Reading, Verdict, decide, near_categories, read
from workshop_lib.orchestration.router_sentences import sentence
from workshop_lib.orchestration.router_words import Language
from workshop_lib.orchestration.shop import Shop, UnknownThing
from workshop_lib.settings import settings

SMALL = 4
"""A text of no more words may leave out what the question before said."""

Typed = ProductQuestion | CustomerQuestion | MarketQuestion
Decision = Literal["rules", "model", "memory"]


class Ask(BaseModel):
    """A question, and what the last one that had an answer was about."""

    model_config = ConfigDict(frozen=True)

    text: str
    last: Typed | None = None


class Route(Frozen):
    """Where a question goes."""

    chain: Chain
    question: Typed | None = Field(description="what the chain is asked; none for the chain none")
    why: str = Field(description="a sentence: what decided; for the chain none, what to say instead of an answer")
    by: Decision = Field(description="who decided; memory: the question before says what this one leaves out")
    language: Language
    notes: tuple[str, ...] = Field((), description="sentences: what of the question is not in the typed one")
    source: Source = Field(DATA, description="missing when the language model should have chosen and did not")


def router(models: Models, shop: Shop, ask_model: bool | None = None) -> Runnable[Any, Route]:
    """The step. It takes a text, an :class:`Ask` or a dict of its fields, and never raises for what a text says.

    Args:
        models: has the language model.
        shop: what questions may name.
        ask_model: whether the language model decides where the rules are in doubt; by default what the settings say.
    """
    asked_too = settings.router_asks_model if ask_model is None else ask_model
    model = choice(models.chat)

    def route(asked: object, config: RunnableConfig) -> Route:
        ask = Ask(text=asked) if isinstance(asked, str) else Ask.model_validate(asked)
        reading = read(ask.text, shop)
        if (followed := follow(reading, ask.last, shop)) is not None:
            return followed
        verdict = decide(reading)
        if verdict.doubt is None or not asked_too:
            return make(verdict, reading, shop)
        try:
            chosen = model.invoke(reading.text, config)
        except NoChoice as error:
            why = sentence("no model", reading.language, why=error)
            return make(verdict, reading, shop).model_copy(update={"source": Source(kind="missing", why=why)})
        if chosen != verdict.doubt:
            return make(verdict, reading, shop)
        return make(Verdict(chosen, "elsewhere" if chosen == "none" else "model"), reading, shop).model_copy(
            update={"by": "model", "source": MODEL}
        )

    return RunnableLambda(route, name="router")


def make(verdict: Verdict, reading: Reading, shop: Shop, by: Decision = "rules") -> Route:
    """The route that a verdict stands for."""
    language = reading.language
    question: Typed | None = None
    name: object = ""
    because = verdict.because
    try:
        if verdict.chain == "customer":
            name = reading.households[0]
            question = CustomerQuestion(household_id=reading.households[0], language=language)
        elif verdict.chain == "product":
            question = _product(reading, shop)
            name = question.category or question.product_id
        elif verdict.chain == "market":
            department = _department(reading, shop)
            question = MarketQuestion(department=department, language=language)
            name = reading.categories[0] if because == "substitute" else department
            because = "shop" if because == "department" and not department else because
    except NoPrice:
        return _none(sentence("no price", language), language, by)
    if question is None:
        return _none(_instead(verdict, reading, shop), language, by)
    why = sentence(because, language, name=name)
    notes = _notes(verdict.chain, reading)
    return Route(chain=verdict.chain, question=question, why=why, by=by, language=language, notes=notes)


def follow(reading: Reading, last: Typed | None, shop: Shop) -> Route | None:
    """The route of a question that leaves out what the one before it said; None for one that stands alone.

    Args:
        reading: of the question.
        last: the typed question before.
        shop: what there is.
    """
    small = "follow_up" in reading.cues or "same" in reading.cues or len(reading.words) <= SMALL
    alone = reading.households or reading.unknown or reading.cues & {"elsewhere", "market", "greeting"}
    if last is None or alone or not small:
        return None
    things, language = reading.categories or reading.products, reading.language
    if isinstance(last, ProductQuestion) and not reading.departments:
        try:
            if things and "follow_up" in reading.cues:
                kept = {"days": reading.days or last.days, "promotion": reading.promotion or last.promotion}
                return _followed("product", _product(reading, shop).model_copy(update=kept), reading)
            if not things and reading.plans:
                return _followed("product", _planned(last, reading, shop), reading)
        except NoPrice:
            return _none(sentence("no price", language), language, "memory")
    elif isinstance(last, CustomerQuestion) and not (things or reading.departments or reading.plans):
        if len(reading.numbers) == 1:
            return _other_household(reading.numbers[0], reading, shop)
        if {"customer", "same"} <= reading.cues:
            return _followed("customer", last.model_copy(update={"language": language}), reading)
    elif isinstance(last, MarketQuestion) and reading.departments and not things:
        question = MarketQuestion(department=reading.departments[0], language=language)
        return _followed("market", question, reading)
    return None


class NoPrice(Exception):
    """There is no price to take a discount from."""


def _followed(chain: Chain, question: Typed, reading: Reading) -> Route:
    return Route(
        chain=chain,
        question=question,
        why=sentence("memory", reading.language),
        by="memory",
        language=reading.language,
        notes=_notes(chain, reading),
    )


def _none(why: str, language: Language, by: Decision) -> Route:
    return Route(chain="none", question=None, why=why, by=by, language=language)


def _other_household(number: str, reading: Reading, shop: Shop) -> Route:
    language = reading.language
    try:
        household = shop.find_household(number)["household_id"]
    except UnknownThing:
        return _none(sentence("unknown household", language, name=number), language, "memory")
    identifier = household.item() if hasattr(household, "item") else household
    return _followed("customer", CustomerQuestion(household_id=identifier, language=language), reading)


def _product(reading: Reading, shop: Shop) -> ProductQuestion:
    """The typed question of a reading that names a category or a product."""
    thing: dict[str, Any] = (
        {"product_id": reading.products[0]} if reading.products else {"category": reading.categories[0]}
    )
    return _planned(ProductQuestion(**thing, language=reading.language), reading, shop)


def _planned(question: ProductQuestion, reading: Reading, shop: Shop) -> ProductQuestion:
    """A question with the days and the plan that a reading names; what it does not name stays."""
    price = reading.price
    if reading.discount:
        price = round(_price_now(question, shop) * (1 - reading.discount), 2)
    changes = {
        "days": MOST_DAYS if reading.beyond else reading.days,
        "price": price,
        "promotion": reading.promotion,
        "language": reading.language,
    }
    named = {name: value for name, value in changes.items() if value is not None}
    return ProductQuestion.model_validate(question.model_dump() | named)


def _price_now(question: ProductQuestion, shop: Shop) -> float:
    """Dollars per unit of the category over the last week: what the product chain compares a planned price with."""
    bare = question.model_copy(update={"price": None, "promotion": None})
    price = (question_step(shop) | features_step(shop)).invoke(bare).price
    if not price:
        raise NoPrice
    return price


def _department(reading: Reading, shop: Shop) -> str | None:
    if reading.departments:
        return reading.departments[0]
    if not reading.categories:
        return None
    sales = shop.daily_sales
    return str(sales.loc[sales["category"] == reading.categories[0], "department"].iloc[0])


def _notes(chain: Chain, reading: Reading) -> tuple[str, ...]:
    """What of a question its route leaves out."""
    language = reading.language
    named = {
        "customer": reading.households,
        "product": (*reading.products, *reading.categories),
        "market": reading.departments,
    }.get(chain, ())
    notes = []
    if len(named) > 1:
        notes.append(sentence("one household" if chain == "customer" else "one thing", language, name=named[0]))
    if chain == "product" and reading.beyond:
        notes.append(sentence("beyond", language, days=MOST_DAYS))
    if reading.cut:
        notes.append(sentence("part cut", language))
    return tuple(notes)


def _instead(verdict: Verdict, reading: Reading, shop: Shop) -> str:
    """What to say when there is no route."""
    language = reading.language
    if verdict.because == "unknown" and reading.unknown:
        return sentence(f"unknown {reading.unknown.kind}", language, name=reading.unknown.value)
    if verdict.because == "which category":
        if near := near_categories(reading, shop):
            return sentence("which category", language, name=", ".join(near))
        return sentence("no near category", language, name=", ".join(shop.categories[:3]))
    if verdict.because == "which question":
        names = (*map(str, reading.products), *reading.categories, *reading.departments)
        return sentence("which question", language, name=names[0])
    examples = {
        "category": readable(shop.categories[0]),
        "household": shop.households["household_id"].iloc[0],
    }
    return sentence("cut" if reading.cut else verdict.because, language, **examples)
