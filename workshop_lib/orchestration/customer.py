"""Customer insight: what a household bought and likes, whether it may leave, what to offer it and in which words.

    chain = customer_chain(connect(), load_shop())
    chain.invoke({"household_id": 1})

                ┌─ purchases ─────────────────┐
                ├─ signs ─────────────────────┤
    question ───┤                             ├── offer ── insight
                ├─ likelihood to lapse ───────┤
                └─ recommendations ── message ┘

Numbers come from the household's own receipts and from the models. The language model words one message; it is given
the household's products and nothing of anybody else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnableParallel, RunnablePassthrough
from pydantic import BaseModel, ConfigDict, Field

from workshop_lib.generative import prompts
from workshop_lib.orchestration import customer_texts
from workshop_lib.orchestration.customer_history import Customers, History, Preferences, Sign
from workshop_lib.orchestration.customer_texts import Language
from workshop_lib.orchestration.models import Models, attempt
from workshop_lib.orchestration.product import describable
from workshop_lib.orchestration.recommender import Id, Recommender, Suggestion, load_recommender
from workshop_lib.orchestration.results import DATA, MODEL, Answer, Churn, Frozen, Source, Text
from workshop_lib.orchestration.shop import Shop
from workshop_lib.orchestration.wording import WordingInput, word
from workshop_lib.predictive.churn import Campaign

CAMPAIGN = Campaign(contact_cost=2.0, saved_value=60.0, success_rate=0.2)
"""What a contact costs and brings for a household that spends as much as the mean one: the assumptions of module 1."""
RECOMMENDED = 5
BOUGHT_IN_MESSAGE = 2
PROMPT = "recommendation.few_shot"
State = dict[str, Any]


class CustomerQuestion(BaseModel):
    """One household."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    household_id: Id = Field(description="its number in the shop's data")
    language: Language = "en"


class Offer(Frozen):
    """Whether a contact pays, and what to offer. An expectation: what one household does, nobody knows."""

    contact: bool
    coupon: Suggestion | None = Field(description="for what the household buys most often; none without a contact")
    probability: float = Field(description="of leaving")
    cost: float = Field(description="of a contact, dollars")
    value: float = Field(description="what the household is worth when it stays, dollars")
    success_rate: float = Field(description="share of leaving households that a contact keeps")
    break_even: float = Field(description="probability of leaving from which a contact with this household pays")
    gain: float = Field(description="expected gain of a contact less its cost, dollars; negative when it does not pay")
    text: str


class CustomerInsight(Answer):
    """Everything about one household."""

    question: CustomerQuestion
    household_id: Id
    history: History
    preferences: Preferences
    churn: Churn | None
    signs: tuple[Sign, ...] = Field(description="how it differs from households that stayed; no causes")
    buy_again: tuple[Suggestion, ...]
    recommendations: tuple[Suggestion, ...] = Field(description="products of a kind that it never bought")
    offer: Offer | None
    facts: dict[str, str] = Field(description="what the message may state")
    message: Text


def customer_chain(
    models: Models, shop: Shop, recommender: Recommender | None = None, customers: Customers | None = None
) -> Runnable[Any, CustomerInsight]:
    """The chain. It takes a :class:`CustomerQuestion`, or a dict of its fields.

    A model that is away costs its part of the answer, never the answer. The chain raises only for a wrong question:
    ``UnknownThing`` for a household that the shop does not know, ``ValidationError`` for a question of the wrong form.

    Args:
        models: churn model and language model.
        shop: the data.
        recommender: the default is the one on all of the shop's baskets, fitted when it is first needed.
        customers: the households of the same shop, when they were read already.
    """
    people = customers or Customers(shop)
    lists = (lambda: recommender) if recommender else load_recommender
    return (
        question_step(shop)
        | RunnableParallel(
            purchases=purchases_step(people),
            signs=signs_step(people),
            churn=churn_step(models),
            proposal=recommendations_step(lists) | RunnablePassthrough.assign(message=message_step(models, people)),
        )
        | RunnablePassthrough.assign(offer=offer_step(people))
        | RunnableLambda(_insight, name="insight")
    ).with_config(run_name="customer insight")


def question_step(shop: Shop) -> Runnable[Any, State]:
    """Check the question: gives ``question`` and ``household_id`` as the shop's data writes it."""

    def find(asked: object) -> State:
        question = CustomerQuestion.model_validate(asked)
        found = shop.find_household(question.household_id)["household_id"]
        return {"question": question, "household_id": found.item() if hasattr(found, "item") else found}

    return RunnableLambda(find, name="question")


def purchases_step(customers: Customers) -> Runnable[State, State]:
    """History and preferences, and the question for the steps to come."""

    def look(state: State) -> State:
        household = state["household_id"]
        return state | {"history": customers.history(household), "preferences": customers.preferences(household)}

    return RunnableLambda(look, name="purchases")


def signs_step(customers: Customers) -> Runnable[State, tuple[tuple[Sign, ...], Source]]:
    """What stands out beside the households that stayed."""

    def look(state: State) -> tuple[tuple[Sign, ...], Source]:
        try:
            return customers.signs(state["household_id"], state["question"].language), DATA
        except ValueError as error:
            return (), Source(kind="missing", why=f"Nobody can say who stayed. {error}")

    return RunnableLambda(look, name="signs")


def churn_step(models: Models) -> Runnable[State, tuple[Churn | None, Source]]:
    """Ask the churn model; an answer, or why there is none."""

    def ask(state: State) -> tuple[Churn | None, Source]:
        return attempt(models.churn, {"household_id": state["household_id"]})

    return RunnableLambda(ask, name="likelihood to lapse")


def recommendations_step(recommender: Callable[[], Recommender]) -> Runnable[State, State]:
    """What the household buys again, and what else it may like."""

    def suggest(state: State) -> State:
        lists = recommender()
        return state | {
            "buy_again": tuple(lists.buy_again(state["household_id"], RECOMMENDED)),
            "recommendations": tuple(lists.recommend(state["household_id"], RECOMMENDED)),
        }

    return RunnableLambda(suggest, name="recommendations")


def message_step(models: Models, customers: Customers) -> Runnable[State, tuple[Text, dict[str, str]]]:
    """A message that recommends one product, and the facts that it may state."""
    prompt = prompts.load(PROMPT)

    def write(state: State, config: RunnableConfig) -> tuple[Text, dict[str, str]]:
        language: Language = state["question"].language
        bought = [one.name for one in state["buy_again"][:BOUGHT_IN_MESSAGE]]
        described = [message_facts(customers, one) for one in state["recommendations"]]
        # A product whose size and price are known gives the message something to say.
        facts = max(described, key=len, default={})
        if not facts:
            why = "Everything that may be recommended was bought already."
            return Text(text="", source=Source(kind="missing", why=why)), facts
        template = customer_texts.message(facts, bought, language)
        if not bought:
            why = "There are no purchases to refer to, so this is a fixed wording about what many buy."
            return Text(text=template, source=Source(kind="template", why=why)), facts
        # What it bought is required too: otherwise the model may thank for a purchase that nobody made.
        asked = WordingInput(
            facts=facts,
            template=template,
            about={"bought": bought},
            required=(*facts, "bought"),
            language=language,
        )
        return word(models.chat, prompt, asked, config=config), facts

    return RunnableLambda(write, name="message")


def message_facts(customers: Customers, suggestion: Suggestion) -> dict[str, str]:
    """What a message may state about a product: its name, and its size and price of these weeks where both are known.

    The size is missing where the catalogue gives the shop's case, the price where nothing was sold lately.
    """
    row = customers.shop.find_product(suggestion.product_id).to_dict()
    known = describable(row | {"price": customers.recent_prices.get(row["product_id"])})
    facts = {"product": suggestion.name}
    return facts | {"size": known["size"], "price": known["price"]} if {"size", "price"} <= known.keys() else facts


def offer_step(customers: Customers) -> Runnable[State, tuple[Offer | None, Source]]:
    """Weigh what a contact costs against what it brings; see :func:`weigh`."""

    def decide(state: State) -> tuple[Offer | None, Source]:
        churn, source = state["churn"]
        if churn is None:
            return None, Source(
                kind="missing", why=f"Without a likelihood to lapse nothing can be weighed. {source.why}"
            )
        purchases, again = state["purchases"], state["proposal"]["buy_again"]
        value = household_value(purchases["history"].spend_recent, customers.usual_spend)
        offer = weigh(churn.probability, value, again[0] if again else None, purchases["question"].language)
        return offer, source if source.degraded else DATA

    return RunnableLambda(decide, name="offer")


def household_value(spend: float, usual_spend: float, campaign: Campaign = CAMPAIGN) -> float:
    """What a household is worth when it stays, dollars: who spends twice as much as the mean is worth twice as much."""
    return campaign.saved_value * spend / max(usual_spend, 0.01)


def weigh(
    probability: float, value: float, coupon: Suggestion | None = None, language: Language = "en",
    campaign: Campaign = CAMPAIGN,
) -> Offer:  # fmt: skip
    """Decide about a contact by its expected gain.

    A contact keeps ``success_rate`` of those who would leave, so on average it brings probability times success rate
    times the household's value. It is worth its cost from the break-even probability on.

    Args:
        probability: of leaving, from 0 to 1.
        value: what the household is worth when it stays, dollars.
        coupon: the product to offer.
        language: of the text.
        campaign: cost and success rate of a contact.
    """
    own = replace(campaign, saved_value=max(value, 0.01))
    worth = probability * own.success_rate * own.saved_value
    coupon = coupon if worth >= own.contact_cost else None
    return Offer(
        contact=worth >= own.contact_cost,
        coupon=coupon,
        probability=probability,
        cost=own.contact_cost,
        value=own.saved_value,
        success_rate=own.success_rate,
        break_even=own.break_even,
        gain=worth - own.contact_cost,
        text=customer_texts.offer(own.contact_cost, worth, probability, coupon.name if coupon else None, language),
    )


def worth_a_contact(customers: Customers, campaign: Campaign = CAMPAIGN) -> pd.DataFrame:
    """The households for which a contact is expected to pay, the largest gain first.

    Returns:
        ``household_id``, ``probability``, ``spend``, ``value`` and ``gain``, dollars.

    Raises:
        TrackingError: when the registry with the churn model cannot be used.
    """
    table = customers.at_risk
    value = household_value(1.0, customers.usual_spend, campaign) * table["spend"]
    table = table.assign(value=value, gain=table["probability"] * campaign.success_rate * value - campaign.contact_cost)
    return table[table["gain"] >= 0].sort_values("gain", ascending=False, kind="stable").reset_index(drop=True)


def _insight(parts: State) -> CustomerInsight:
    purchases, proposal = parts["purchases"], parts["proposal"]
    (churn, scored), (signs, compared), (offer, weighed) = parts["churn"], parts["signs"], parts["offer"]
    message, facts = proposal["message"]
    popular = any(one.basis == "popular" for one in proposal["recommendations"])
    why = "This household bought nothing to go by, so these are products that many buy now."
    return CustomerInsight(
        question=purchases["question"],
        household_id=purchases["household_id"],
        history=purchases["history"],
        preferences=purchases["preferences"],
        churn=churn,
        signs=signs,
        buy_again=proposal["buy_again"],
        recommendations=proposal["recommendations"],
        offer=offer,
        facts=facts,
        message=message,
        sources={
            "history": DATA,
            "preferences": DATA,
            "churn": scored,
            "signs": compared,
            "buy_again": DATA,
            "recommendations": Source(kind="template", why=why) if popular else MODEL,
            "offer": weighed,
            "message": message.source,
        },
    )
