"""What a market analysis asks, and what it answers with."""

from __future__ import annotations

import datetime as dt
from typing import Literal, get_args

import pandas as pd
from pydantic import ConfigDict, Field

from workshop_lib.orchestration.results import Answer, Frozen, Source, Text

AHEAD_DAYS = 7
"""How far a market analysis looks ahead."""
Evidence = Literal["clear", "hint", "none"]
Relation = Literal["substitutes", "complements"]
Action = Literal["promote", "stock up", "look into", "place together", "promote apart"]
TableName = Literal["trends", "seasons", "pairs", "opportunities", "recommendations"]


class MarketQuestion(Frozen):
    """A part of the shop to look at."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    department: str | None = Field(None, description="one department; the whole shop when unset")
    language: Literal["en", "es"] = Field("en", description="of the texts")


class Trend(Frozen):
    """How a category's share of what the shop sells changed from the first to the last week."""

    category: str
    department: str
    weekly_units: float = Field(description="mean of the ordinary weeks")
    weekly_revenue: float = Field(description="mean of the ordinary weeks, dollars")
    growth: float = Field(description="relative change of the share, 0.1 for a tenth more")
    lower: float = Field(description="bounds of its 95% interval")
    upper: float
    p_value: float = Field(description="how often chance alone does as much, this category looked at by itself")
    q_value: float = Field(description="the same, corrected for the number of categories (Benjamini-Hochberg)")
    steady: bool = Field(description="whether at least half of the change remains whichever quarter is left out")
    evidence: Evidence


class Season(Frozen):
    """What a category sells in one part of the year, against its ordinary weeks."""

    category: str
    department: str
    kind: Literal["feast", "month"]
    part: str = Field(description="English name of the feast or the month")
    ratio: float = Field(description="units over those of ordinary weeks")
    lower: float = Field(description="bounds of its 95% interval")
    upper: float
    extra_units: float = Field(description="units above the ordinary in this part of the year, negative for fewer")
    q_value: float


class Pair(Frozen):
    """Two kinds of products of one department that are in the same basket more or less often than by chance."""

    department: str
    relation: Relation
    first: str
    second: str
    categories: tuple[str, str] = Field(description="to which they belong")
    together: int = Field(description="baskets with both")
    expected: float = Field(description="baskets with both if the one had nothing to do with the other")
    lift: float = Field(description="together over expected")
    lower: float = Field(description="bounds of its 95% interval")
    upper: float
    similarity: float = Field(description="correlation of what else is bought with each of them, -1 to 1")
    q_value: float


class Opportunity(Frozen):
    """A category that grows and is hardly promoted; units and dollars are None when the forecaster is away."""

    category: str
    department: str
    growth: float
    evidence: Evidence
    mailer_share: float = Field(description="promoted share of the category in the last quarter")
    usual_share: float = Field(description="median over the categories")
    planned_share: float = Field(description="share of the category in the mailer in the plan that was asked about")
    ever_so: bool = Field(description="whether any week of the category was promoted that much; else a guess")
    units_without: float | None = Field(description="forecast for the next seven days without a promotion")
    units_with: float | None = Field(description="the same with the planned promotion")
    extra_units: float | None
    extra_revenue: float | None = Field(description="extra units at the price of the last four weeks, dollars")
    source: Source


class Headline(Frozen):
    """The category that moved most money, or the largest one: what it sold, and what it will sell."""

    category: str
    department: str
    sold: float = Field(description="units of the last seven days on which the shop opened")
    forecast: float | None = Field(description="units of the next seven days; None when the forecaster is away")
    change: float | None = Field(description="of the one against the other, 0.1 for a tenth more")
    source: Source


class Recommendation(Frozen):
    """Something to do, with the figures behind it."""

    rank: int
    action: Action
    subject: str
    department: str
    dollars: float | None = Field(description="at stake in one week; None where nothing of the kind can be said")
    reason: str
    numbers: dict[str, float] = Field(description="the figures that the reason states")


class MarketAnalysis(Answer):
    """The whole answer. A part that could not be had is None, and its source tells why."""

    department: str | None
    first_day: dt.date
    last_day: dt.date
    sold: float = Field(description="units of the last seven days, all categories together")
    trends: tuple[Trend, ...] | None
    seasons: tuple[Season, ...] | None
    pairs: tuple[Pair, ...] | None
    opportunities: tuple[Opportunity, ...] | None
    headline: Headline
    recommendations: tuple[Recommendation, ...]
    summary: Text = Field(description="what moved and what to do in fixed words; the headline as the model words it")

    def table(self, name: TableName) -> pd.DataFrame:
        """One part as a table, one row per finding; empty when the part is missing.

        Raises:
            KeyError: when there is no such part.
        """
        if name not in get_args(TableName):
            raise KeyError(f"There is no table {name!r}; the tables are {', '.join(get_args(TableName))}.")
        forms: dict[str, type[Frozen]] = {
            "trends": Trend, "seasons": Season, "pairs": Pair, "opportunities": Opportunity,
            "recommendations": Recommendation,
        }  # fmt: skip
        rows = [row.model_dump(exclude={"source"}) for row in getattr(self, name) or ()]
        return pd.DataFrame(rows, columns=[field for field in forms[name].model_fields if field != "source"])
