"""Product analysis: what sold, what will sell, how to describe it, how much to have and what to ask for it.

    chain = product_chain(connect(), load_shop())
    chain.invoke({"category": "SOFT DRINKS"})

                            ┌─ forecast ─┐
    question ── features ──┤            ├─ advice ── summary ─┐
                            ├─ elasticity┘                     ├─ analysis
                            └─ description ────────────────────┘

Numbers come from the shop's data and from the forecaster. The language model words two texts and adds nothing to them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

import pandas as pd
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnableParallel, RunnablePassthrough
from pydantic import BaseModel, ConfigDict, Field, model_validator

from workshop_lib.generative import facts as catalogue
from workshop_lib.generative import prompts
from workshop_lib.generative.quality import measure
from workshop_lib.orchestration import product_texts
from workshop_lib.orchestration.advice import (
    Costs,
    Elasticity,
    PriceAdvice,
    StockAdvice,
    elasticity,
    price_advice,
    rows_of,
    sales_of,
    stock_advice,
)
from workshop_lib.orchestration.models import Models, attempt
from workshop_lib.orchestration.results import DATA, Answer, Forecast, Frozen, Source, Text
from workshop_lib.orchestration.shop import Shop, UnknownThing
from workshop_lib.orchestration.wording import WordingInput, cleaned, word
from workshop_lib.predictive.features import PLANS
from workshop_lib.predictive.forecaster import HORIZONS
from workshop_lib.serving.api_schemas import Promotion
from workshop_lib.settings import ROOT

PROMPTS = ROOT / "4-langchain" / "prompts"
HISTORY_DAYS = 56
"""Days of the past in a result: enough to see the weekdays repeat."""
Language = Literal["en", "es"]
State = dict[str, Any]


class ProductQuestion(BaseModel):
    """A category or one product, and what is planned for the next days."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    category: str | None = Field(None, max_length=200, description="one that the forecaster knows")
    product_id: int | str | None = Field(None, description="a product of the catalogue, instead of a category")
    days: int = Field(HORIZONS, ge=1, le=HORIZONS, description="days after the last known one")
    price: float | None = Field(None, gt=0, le=1000, allow_inf_nan=False, description="planned price, dollars per unit")
    promotion: Promotion | None = Field(None, description="planned promotion")
    language: Language = "en"

    @model_validator(mode="after")
    def _one_of_both(self) -> ProductQuestion:
        if (self.category is None) == (self.product_id is None):
            raise ValueError("either category or product_id")
        return self

    @property
    def planned(self) -> bool:
        """Whether anything differs from how it is."""
        return self.price is not None or bool(self.promotion and self.promotion.model_dump(exclude_none=True))


class DaySales(Frozen):
    """One day of the past."""

    date: dt.date
    units: float
    price: float | None = Field(description="dollars per unit; none when nothing was sold")
    open: bool


class SalesFeatures(Frozen):
    """What the data says about a category's sales."""

    until: dt.date = Field(description="the last known day")
    history: tuple[DaySales, ...]
    sold: float = Field(description="units in as many open days as the question looks ahead")
    sold_before: float = Field(description="units in as many days before these")
    weekdays: dict[int, float] = Field(description="mean units by weekday over the history, 0 is Monday")
    price: float | None = Field(description="dollars per unit over the last 7 days")
    usual_price: float | None = Field(description="the same over the history")
    discount_share: float = Field(description="share of the list value given away in the last 7 days")
    promotion: Promotion = Field(description="mean shares of the last 7 days")
    product_share: float | None = Field(None, description="the product's share of its category's units over the year")


class ProductAnalysis(Answer):
    """Everything about one category, or one product of it."""

    question: ProductQuestion
    category: str
    department: str
    product_id: int | str | None = Field(
        description="the product described: the one asked about, or the category's best seller with a name to print"
    )
    facts: dict[str, str] = Field(description="what the catalogue says about this product, as the text may state it")
    features: SalesFeatures
    forecast: Forecast | None
    without_plan: Forecast | None = Field(description="the forecast without the planned price and promotion")
    elasticity: Elasticity
    stock: StockAdvice | None
    price: PriceAdvice | None
    description: Text | None
    quality: float | None = Field(description="the description's score by the measure of module 2, from 0 to 1")
    summary: Text


def product_chain(models: Models, shop: Shop, costs: Costs | None = None) -> Runnable[Any, ProductAnalysis]:
    """The chain. It takes a :class:`ProductQuestion`, or a dict of its fields.

    A model that is away costs its part of the answer, never the answer. The chain raises only for a wrong question:
    ``UnknownThing`` for a name that the shop does not have, ``ValidationError`` for a question of the wrong form.

    Args:
        models: forecaster and language model.
        shop: the data.
        costs: assumptions behind the advice.
    """
    figures = (
        RunnablePassthrough.assign(
            forecast=forecast_step(models, shop),
            without_plan=forecast_step(models, shop, planned=False),
            elasticity=RunnableLambda(lambda state: elasticity(shop, state["category"]), name="elasticity"),
        )
        | RunnablePassthrough.assign(advice=advice_step(costs))
        | RunnablePassthrough.assign(summary=summary_step(models))
    )
    return (
        question_step(shop)
        | RunnablePassthrough.assign(features=features_step(shop))
        | RunnableParallel(figures=figures, description=description_step(models))
        | RunnableLambda(_analysis, name="analysis")
    ).with_config(run_name="product analysis")


def question_step(shop: Shop) -> Runnable[Any, State]:
    """Check the question and find what it names: adds ``category``, ``department`` and ``row`` of the catalogue."""

    def find(asked: object) -> State:
        question = ProductQuestion.model_validate(asked)
        if question.product_id is not None:
            found = shop.find_product(question.product_id)
            row: Mapping[str, Any] | None = found.to_dict()
            category, department = str(found["category"]), str(found["department"])
        else:
            category = shop.find_category(str(question.category))
            row = show_piece(shop, category)
            department = str(sales_of(shop, category)["department"].iloc[0])
        if sales_of(shop, category).empty:
            raise UnknownThing("sales of the category", category, shop.categories[:3])
        return {"question": question, "category": category, "department": department, "row": row}

    return RunnableLambda(find, name="question")


def features_step(shop: Shop) -> Runnable[State, SalesFeatures]:
    """What the data says about the category."""

    def look(state: State) -> SalesFeatures:
        question, row = state["question"], state["row"]
        sales = sales_of(shop, state["category"])
        history, week = sales.tail(HISTORY_DAYS), sales.tail(7)
        opened, selling = history[history["open"]], shop.units_when_open(state["category"])
        listed = float((week["revenue"] + week["discount"]).sum())
        share = None
        if question.product_id is not None and row is not None:
            share = float(row["units"]) / max(1.0, float(sales["units"].sum()))
        return SalesFeatures(
            until=shop.last_day.date(),
            history=tuple(
                DaySales(
                    date=day.date.date(), units=day.units, price=day.price if day.units > 0 else None, open=day.open
                )
                for day in history.itertuples()
            ),
            sold=float(selling.tail(question.days).sum()),
            sold_before=float(selling.iloc[-2 * question.days : -question.days].sum()),
            weekdays=opened.groupby(opened["date"].dt.weekday)["units"].mean().to_dict(),
            price=_per_unit(week),
            usual_price=_per_unit(history),
            discount_share=float(week["discount"].sum()) / listed if listed > 0 else 0.0,
            promotion=Promotion(**{plan: float(week[plan].mean()) for plan in PLANS}),
            product_share=share,
        )

    return RunnableLambda(look, name="features")


def forecast_step(models: Models, shop: Shop, planned: bool = True) -> Runnable[State, tuple[Forecast | None, Source]]:
    """Ask the forecaster about the days ahead; an answer, or why there is none.

    Args:
        models: has the forecaster.
        shop: knows the last day and the forecaster's categories.
        planned: whether with the question's plan. Without it, nothing is asked when the question has none.
    """

    def ask(state: State) -> tuple[Forecast | None, Source]:
        question: ProductQuestion = state["question"]
        if not planned and not question.planned:
            return None, DATA
        if state["category"] not in shop.categories:
            return None, Source(kind="missing", why=f"The forecaster does not know the category {state['category']}.")
        days = pd.date_range(shop.last_day, periods=question.days + 1)[1:]
        plan = {"price": question.price, "promotion": question.promotion} if planned else {}
        return attempt(models.forecast, {"category": state["category"], "dates": [day.date() for day in days], **plan})

    return RunnableLambda(ask, name="forecast" if planned else "forecast without plan")


def advice_step(costs: Costs | None = None) -> Runnable[State, tuple[StockAdvice | None, PriceAdvice | None]]:
    """Rules for stock and price."""

    def advise(state: State) -> tuple[StockAdvice | None, PriceAdvice | None]:
        question, now = state["question"], state["features"].price
        if now is None:
            return None, None
        forecast, language = state["forecast"][0], question.language
        price = question.price or now
        stock = stock_advice(forecast, price, state["department"], costs, language) if forecast else None
        return stock, price_advice(state["elasticity"], now, question.price, costs, language)

    return RunnableLambda(advise, name="advice")


def summary_step(models: Models) -> Runnable[State, Text]:
    """The figures in two sentences."""
    prompt = prompts.load("product_summary.few_shot", folder=PROMPTS)

    def summarise(state: State, config: RunnableConfig) -> Text:
        question, (forecast, source) = state["question"], state["forecast"]
        name = catalogue.readable(state["category"])
        units = forecast.total if forecast else None
        sold = state["features"].sold
        figures = product_texts.figures(question.days, sold, units)
        template = product_texts.summary(name, question.days, sold, units, question.language)
        if units is None:
            return Text(
                text=template, source=Source(kind="template", why=f"There is no forecast to word. {source.why}")
            )
        if why := must_not_advertise(state["category"]):
            return Text(text=template, source=Source(kind="template", why=why))
        asked = WordingInput(
            facts=figures, template=template, about={"category": name}, required=tuple(figures),
            language=question.language,
        )  # fmt: skip
        return word(models.chat, prompt, asked, config=config)

    return RunnableLambda(summarise, name="summary")


def description_step(models: Models) -> Runnable[State, tuple[Text | None, dict[str, str], float | None, Source]]:
    """A text for the product page with the facts it may state, its quality and its source."""
    packed = prompts.load("product_description.few_shot")
    loose = prompts.load("loose_description.few_shot", folder=PROMPTS)

    def describe(state: State, config: RunnableConfig) -> tuple[Text | None, dict[str, str], float | None, Source]:
        row, language = state["row"], state["question"].language
        if row is None:
            why = f"The catalogue has no product of the category {state['category']}."
            return None, {}, None, Source(kind="missing", why=why)
        facts = describable(row)
        if why := must_not_advertise(f"{state['category']} {row.get('product_type') or ''}"):
            return None, facts, None, Source(kind="missing", why=why)
        asked = WordingInput(
            facts=facts,
            template=product_texts.description(facts, language),
            required=tuple(label for label in ("product", "price") if label in facts),
            language=language,
        )
        text = word(models.chat, packed if "size" in facts else loose, asked, config=config)
        quality = measure(text.text, facts).score if language == "en" else None
        return text, facts, quality, text.source

    return RunnableLambda(describe, name="description")


def describable(row: Mapping[str, object]) -> dict[str, str]:
    """The facts of a catalogue row that a page may state; the size of a case that the shop receives is none of them."""
    facts = catalogue.describe(row)
    if row.get("department") in catalogue.CASE_SIZES:
        facts.pop("size", None)
    return cleaned(facts)


def must_not_advertise(text: str) -> str:
    """Why a machine must not write about this; empty when it may."""
    if catalogue.NO_AUTOMATIC_TEXT.search(text.upper()) is None:
        return ""
    return "The law limits what may be said about such goods, or a wrong word does harm: a person writes these texts."


@lru_cache(maxsize=512)
def show_piece(shop: Shop, category: str) -> Mapping[str, Any] | None:
    """The catalogue's row of the product that stands for a category; None when it has none.

    That is the best-selling one whose name and size say what it is, and the best-selling one where no name does.
    """
    own = rows_of(shop, "products", category)
    if own.empty:
        return None
    # A few products stand in a department where nobody would look for them, such as bananas among the groceries.
    own = own[own["department"] == own.groupby("department")["units"].sum().idxmax()]
    try:
        chosen = catalogue.choose_products(1, own)[0].product_id
    except ValueError:
        return own.loc[own["units"].idxmax()].to_dict()
    return own[own["product_id"] == chosen].iloc[0].to_dict()


def _per_unit(sales: pd.DataFrame) -> float | None:
    units = float(sales["units"].sum())
    return float(sales["revenue"].sum()) / units if units > 0 else None


def _analysis(parts: State) -> ProductAnalysis:
    state = parts["figures"]
    question: ProductQuestion = state["question"]
    (forecast, source), (without, without_source) = state["forecast"], state["without_plan"]
    stock, price = state["advice"]
    description, facts, quality, described = parts["description"]
    no_price = Source(kind="missing", why="Nothing was sold in the last week, so there is no price to go by.")
    sources = {
        "features": DATA,
        "forecast": source,
        "stock": (no_price if forecast else source) if stock is None else source,
        "price": no_price if price is None else DATA,
        "description": described,
        "summary": state["summary"].source,
    }
    if question.planned:
        sources["without_plan"] = without_source
    return ProductAnalysis(
        sources=sources,
        question=question,
        category=state["category"],
        department=state["department"],
        product_id=state["row"]["product_id"] if state["row"] else None,
        facts=facts,
        features=state["features"],
        forecast=forecast,
        without_plan=without,
        elasticity=state["elasticity"],
        stock=stock,
        price=price,
        description=description,
        quality=quality,
        summary=state["summary"],
    )
