"""What the business API answers, and what of it is kept: which questions are equal, and for how long an answer holds.

A question's key holds everything that its answer depends on, so a new champion, new sales or another feature make it
another question, and nobody has to find the old answers and delete them.

How long an answer is kept follows from how sure it is. A sure one would hardly change if it were made again; an unsure
one would, so it is made again soon:

    seconds = shortest + confidence · (longest - shortest)
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Query
from pydantic import BaseModel, Field

from workshop_lib.predictive.tracking import CHURN
from workshop_lib.serving.api_errors import PROBLEMS, RETRY_SECONDS, Problem
from workshop_lib.serving.api_schemas import (
    ChurnRequest,
    ChurnResponse,
    DayForecast,
    DescribeRequest,
    DescribeResponse,
    ForecastRequest,
    ForecastResponse,
)
from workshop_lib.serving.cache import Asked, Cache, Found
from workshop_lib.serving.demand import Demand, Plan, Question
from workshop_lib.serving.forecasts import Ask, Forecasts
from workshop_lib.serving.forecasts import Asked as Expected
from workshop_lib.serving.households import Households
from workshop_lib.serving.texts import Texts
from workshop_lib.settings import settings


@dataclass(frozen=True)
class Wish:
    """What the caller says about the cache, in the header ``Cache-Control`` (RFC 9111)."""

    fresh: bool = False
    """``no-cache``: an answer made now."""
    unkept: bool = False
    """``no-store``: nothing is to be kept."""

    @classmethod
    def read(cls, header: str | None) -> Wish:
        """From the header's value."""
        words = {word.strip().lower() for word in (header or "").split(",")}
        return cls("no-cache" in words or "max-age=0" in words, "no-store" in words)


def plan_of(body: ForecastRequest) -> Plan:
    """What a request intends; equal to ``Plan()`` when it intends nothing."""
    return Plan(body.price, body.promotion.model_dump(exclude_none=True) if body.promotion else {})


def forecast_confidence(answer: ForecastResponse) -> float:
    """1 for an interval without width, 0 for one that reaches as far as twice the forecast; mean of the open days."""
    days = [day for day in answer.forecasts if day.open]
    widths = [(day.interval.upper - day.interval.lower) / (2 * max(day.units, 1)) for day in days]
    return max(0.0, 1 - sum(widths) / len(widths)) if widths else 1.0


def churn_confidence(answer: ChurnResponse) -> float:
    """How far the probability is from where the decision turns: 0 at the threshold, 1 at the end of its side."""
    side = 1 - answer.threshold if answer.contact else answer.threshold
    return min(1.0, abs(answer.probability - answer.threshold) / side) if side > 0 else 0.0


def text_confidence(answer: DescribeResponse) -> float:
    """Share of the facts that the text mentions; 0 as soon as it says something that nobody gave."""
    if answer.invented:
        return 0.0
    return 1 - len(answer.missing) / len(answer.facts) if answer.facts else 0.0


def keep_seconds(confidence: float, longest: float | None = None) -> float:
    """For how long an answer is kept.

    Args:
        confidence: from 0 to 1.
        longest: for a confidence of 1; ``settings.cache_longest`` by default.
    """
    longest = longest or settings.cache_longest
    return settings.cache_shortest + confidence * (longest - settings.cache_shortest)


def forecast_key(expected: Expected, days: list[list[str]]) -> Asked:
    """A question for a forecast. Another backend, version, day or plan, or other data, makes it another question.

    Args:
        expected: who will answer.
        days: from :meth:`Demand.days_of`.
    """
    question = expected.question
    parts = {
        "backend": expected.backend.name,
        "version": expected.version,
        "data": expected.demand.fingerprint,
        "category": question.category,
        "days": days,
        "price": question.plan.price,
        "promotion": dict(question.plan.promotion),
    }
    return Asked("forecast", subject_of(question), parts, str(expected.version), settings.api_timeout)


def subject_of(question: Question) -> str:
    """Under what a forecast is found in the history: what-if questions do not mix with the others."""
    is_plan = question.plan.price is not None or question.plan.promotion
    return f"{question.category} (plan)" if is_plan else question.category


def churn_key(household: int | str, version: str, data: str, threshold: float) -> Asked:
    """A question for a household.

    Args:
        household: its number.
        version: of the model.
        data: fingerprint of the features of all households.
        threshold: from which a contact pays.
    """
    parts = {"household": str(household), "version": version, "data": data, "threshold": threshold}
    return Asked("churn", str(household), parts, f"{CHURN} {version}", quick=True)


def text_key(identity: Mapping[str, Any]) -> Asked:
    """A question for a text.

    Args:
        identity: from :meth:`Texts.identity`.
    """
    subject = ", ".join(identity["facts"].values())[:200]
    return Asked("describe", subject, dict(identity), str(identity["model"]), settings.api_llm_timeout)


class Answers:
    """The business API's answers, through the cache when there is one.

    Args:
        forecasts: makes forecasts.
        households: makes scores.
        texts: makes texts.
        cache: keeps all three; None to make everything anew.
    """

    def __init__(self, forecasts: Forecasts, households: Households, texts: Texts, cache: Cache | None) -> None:
        self.forecasts, self.households, self.texts, self.cache = forecasts, households, texts, cache

    @property
    def demand(self) -> Demand:
        """The history of the categories that the champion knows."""
        return self.forecasts.demand

    async def forecast(
        self, body: ForecastRequest, request_id: str, route_key: str | None = None, wish: Wish = Wish()
    ) -> Found[ForecastResponse]:
        """Units of a category on some days; see :meth:`Forecasts.answer`."""
        plan, key = plan_of(body), route_key or request_id

        def ask(demand: Demand) -> Question:
            return demand.ask(body.category, body.dates, plan, body.known_until)

        # A shadow compares two versions on the traffic as it is, so all of it has to reach them.
        if self.cache is None or wish.unkept or self.forecasts.router.routes.shadow is not None:
            return Found(await self.forecasts.answer(ask, request_id, key), "off")
        expected = await self.forecasts.expect(ask, key)
        asked = forecast_key(expected, expected.demand.days_of(expected.question))
        make = self._maker(ask, request_id, key, expected)
        return await self.cache.answer(asked, ForecastResponse, make, wish.fresh)

    def _maker(
        self, ask: Ask, request_id: str, key: str, expected: Expected
    ) -> Callable[[], Awaitable[tuple[ForecastResponse, float]]]:
        async def make() -> tuple[ForecastResponse, float]:
            answer = await self.forecasts.answer(ask, request_id, key)
            # Routes or champion may have moved just now: then it is right, but not the answer to this key.
            as_expected = (answer.backend, answer.model.version) == (expected.backend.name, expected.version)
            return answer, keep_seconds(forecast_confidence(answer)) if as_expected and expected.version else 0

        return make

    async def churn(self, body: ChurnRequest, wish: Wish = Wish()) -> Found[ChurnResponse]:
        """How likely a household is to leave; features that a caller brings along are not kept."""
        if body.features is not None:
            return Found(self.households.by_features(body.features.model_dump()), "off")
        assert body.household_id is not None  # its schema wants one of both
        household, version = body.household_id, self.households.version
        if self.cache is None or wish.unkept:
            return Found(self.households.by_id(household), "off")
        asked = churn_key(household, version, self.households.fingerprint, settings.churn_threshold)

        async def make() -> tuple[ChurnResponse, float]:
            answer = self.households.by_id(household)
            return answer, keep_seconds(churn_confidence(answer)) if answer.model.version == version else 0

        return await self.cache.answer(asked, ChurnResponse, make, wish.fresh)

    async def describe(self, body: DescribeRequest, wish: Wish = Wish()) -> Found[DescribeResponse]:
        """A product text; see :meth:`Texts.write`."""
        if self.cache is None or wish.unkept:
            return Found(await self.texts.write(body), "off")
        identity = self.texts.identity(body)

        async def make() -> tuple[DescribeResponse, float]:
            answer = await self.texts.write(body)
            as_expected = answer.model == identity["model"]  # not known before the first answer of an endpoint
            seconds = keep_seconds(text_confidence(answer), settings.cache_text_longest)
            return answer, seconds if as_expected else 0

        return await self.cache.answer(text_key(identity), DescribeResponse, make, wish.fresh)


class PastForecast(BaseModel):
    """What was once forecast for a day."""

    made: dt.datetime = Field(description="when, UTC")
    forecast: DayForecast
    version: str | None = Field(description="number in the registry")
    backend: str


def add_history(app: FastAPI, answers: Answers) -> None:
    """Give the API a path that tells how the forecasts of a day changed.

    Args:
        app: the application.
        answers: what it answers with.
    """

    @app.get("/forecast/history", responses=PROBLEMS, tags=["business"])
    async def history(
        category: Annotated[str, Query(min_length=1, max_length=200)],
        date: Annotated[dt.date, Query(description="the day that was forecast")],
    ) -> list[PastForecast]:
        """What was forecast for a day, in the order in which it was; without the questions that had a plan."""
        name = answers.forecasts.demand.known_name(category)
        past = await answers.cache.past("forecast", name, ForecastResponse) if answers.cache else None
        if past is None:
            detail = "The history is away." if answers.cache else "Nothing is kept: the setting cache is off."
            raise Problem(503, detail, RETRY_SECONDS)
        return [
            PastForecast(
                made=dt.datetime.fromtimestamp(made, dt.UTC),
                forecast=day,
                version=answer.model.version,
                backend=answer.backend,
            )
            for made, answer in past
            for day in answer.forecasts
            if day.date == date
        ]
