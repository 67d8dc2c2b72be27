"""What chains answer with. Each part of an answer says where it is from, so that nobody takes a substitute for real."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workshop_lib.serving.api_schemas import DayForecast

SUBSTITUTES = ("last known", "template", "missing")
"""Kinds of sources that stand in for what could not be had."""


class Frozen(BaseModel):
    """A result that stays as it was made."""

    model_config = ConfigDict(frozen=True)


class Source(Frozen):
    """Where a part of an answer is from."""

    kind: Literal["model", "data", "last known", "template", "missing"]
    why: str = Field("", description="a sentence: what happened; empty when everything went as meant")
    age_seconds: float | None = Field(None, description="how old a last known answer is, seconds")
    version: str | None = Field(None, description="of the model that gave a last known answer")

    @property
    def degraded(self) -> bool:
        """Whether this is a substitute."""
        return self.kind in SUBSTITUTES


MODEL = Source(kind="model")
DATA = Source(kind="data")


class Text(Frozen):
    """A text, and where it is from."""

    text: str
    source: Source
    tokens: int = Field(0, description="tokens that the language model wrote, refused attempts included")
    rejected: tuple[str, ...] = Field((), description="for what the language model's own text was refused")


class Forecast(Frozen):
    """Units of one category on some days."""

    category: str
    days: tuple[DayForecast, ...]
    version: str | None = Field(description="version of the forecaster in the registry")
    source: Source

    @property
    def total(self) -> float:
        """Units over all days. The bounds of days do not add up: a week is less uncertain than its days."""
        return sum(day.units for day in self.days)


class Churn(Frozen):
    """How likely a household is to stay away."""

    household_id: int | str | None
    probability: float
    horizon_days: int
    threshold: float = Field(description="probability from which a contact pays")
    contact: bool
    as_of: dt.date | None
    version: str | None = Field(description="version of the churn model in the registry")
    source: Source


class Answer(Frozen):
    """What every chain's result has."""

    sources: dict[str, Source] = Field(description="part of the answer, and where it is from")

    @property
    def degraded(self) -> dict[str, Source]:
        """The parts that are substitutes or missing."""
        return {part: source for part, source in self.sources.items() if source.degraded}
