"""What the business gets out of the models, as metrics of the API.

Labels have few values, all known beforehand: departments, kinds of events, types of campaigns. A label for products
or households would make a time series of its own for each of them, and Prometheus keeps every series in memory.

Counters start at zero with the process and only grow; Prometheus' ``rate`` and ``increase`` see through a restart.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import get_args

from prometheus_client import Counter, Histogram, Summary

from workshop_lib import data
from workshop_lib.serving.api_schemas import ForecastResponse
from workshop_lib.serving.feedback_schemas import (
    Campaign,
    CampaignType,
    Content,
    Recommendation,
    RecommendationEvent,
    RecommendationList,
    Source,
)

MOST_DEPARTMENTS = 30
"""Departments with a label of their own; a shop with more has the smallest ones as :data:`OTHER`."""
OTHER = "other"

WIDTH = Histogram(
    "forecast_interval_relative_width", "Width of a forecast's interval over the forecast (over 1 when it is below)",
    ["department"], buckets=(0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 5),
)  # fmt: skip
UNITS = Summary("forecast_units", "Units that a forecast expects of a category on an open day", ["department"])
ACTUAL = Counter("forecast_actual_units_total", "Units sold on days that had been forecast", ["department"])
ABSOLUTE_ERROR = Counter(
    "forecast_absolute_error_units_total",
    "Units by which a department's forecast for a day was off; errors of its categories cancel out", ["department"],
)  # fmt: skip
ERROR = Counter(
    "forecast_error_units_total", "Units by which forecasts of single categories for a day were too high or too low",
    ["department", "direction"],
)  # fmt: skip
SQUARED_ERROR = Counter(
    "forecast_squared_error_units_total", "Squares of the errors of single categories for a day", ["department"]
)
SQUARED_ACTUAL = Counter(
    "forecast_squared_actual_units_total", "Squares of the units of single categories sold on a day", ["department"]
)
DAYS = Counter(
    "forecast_days_total", "Days of categories whose sales lay inside the interval", ["department", "inside"]
)
RECOMMENDATIONS = Counter("recommendations_total", "What became of suggestions", ["list", "event"])
CONTENT = Counter("content_events_total", "Content that was seen, and that made somebody act", ["event"])
RATING = Histogram(
    "content_rating", "Ratings of texts from 1 to 5, by people or by a rule", ["source"],
    buckets=(1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5),
)  # fmt: skip
CONTACTS = Counter("campaign_contacts_total", "Households that were sent a campaign", ["campaign_type"])
REDEMPTIONS = Counter("campaign_redemptions_total", "Coupons of a campaign that were redeemed", ["campaign_type"])
REJECTED = Counter("feedback_rejected_total", "Feedback that was not counted", ["reason"])
REASONS = ("duplicate", "unknown category", "no forecast", "already known")


@dataclass(frozen=True)
class Judged:
    """A forecast and what was sold."""

    category: str
    date: dt.date
    forecast: float
    lower: float
    upper: float
    sold: float

    @property
    def inside(self) -> bool:
        """Whether the truth lay in the interval."""
        return self.lower <= self.sold <= self.upper


@cache
def departments() -> Mapping[str, str]:
    """The label of each category: its department, at most :data:`MOST_DEPARTMENTS` of them.

    Raises:
        DataError: when the data cannot be used.
    """
    sales = data.load("daily_sales", columns=["category", "department", "units"])
    largest = sales.groupby("department")["units"].sum().nlargest(MOST_DEPARTMENTS).index
    named = sales.drop_duplicates("category").set_index("category")["department"]
    return {str(category): str(one) for category, one in named.where(named.isin(largest), OTHER).items()}


def prepare(categories: Iterable[str]) -> None:
    """Show every series from the start, at zero: a series that appears with its first event hides that event.

    ``increase`` compares a sample with the one before, and the first has none.
    """
    for department in {departments().get(category, OTHER) for category in categories}:
        WIDTH.labels(department)
        UNITS.labels(department)
        ACTUAL.labels(department)
        ABSOLUTE_ERROR.labels(department)
        SQUARED_ERROR.labels(department)
        SQUARED_ACTUAL.labels(department)
        for direction in ("over", "under"):
            ERROR.labels(department, direction)
        for inside in ("true", "false"):
            DAYS.labels(department, inside)
    for which in get_args(RecommendationList):
        for event in get_args(RecommendationEvent):
            RECOMMENDATIONS.labels(which, event)
    for event in ("viewed", "engaged"):
        CONTENT.labels(event)
    for source in get_args(Source):
        RATING.labels(source)
    for kind in get_args(CampaignType):
        CONTACTS.labels(kind)
        REDEMPTIONS.labels(kind)
    for reason in REASONS:
        REJECTED.labels(reason)


def count_forecast(answer: ForecastResponse) -> None:
    """Observe how wide the intervals of an answer are; a closed day has none."""
    department = departments().get(answer.category, OTHER)
    width, units = WIDTH.labels(department), UNITS.labels(department)
    for day in answer.forecasts:
        if day.open:
            units.observe(day.units)
            width.observe((day.interval.upper - day.interval.lower) / max(day.units, 1))


def count_sales(judged: Iterable[Judged]) -> None:
    """Count forecasts against sales.

    A department's error on a day is that of the sum over its categories in this call. A day whose categories come in
    several calls counts too much error, never too little.
    """
    off: dict[tuple[str, dt.date], float] = {}
    for one in judged:
        department, error = departments().get(one.category, OTHER), one.forecast - one.sold
        ACTUAL.labels(department).inc(one.sold)
        ERROR.labels(department, "over" if error > 0 else "under").inc(abs(error))
        SQUARED_ERROR.labels(department).inc(error**2)
        SQUARED_ACTUAL.labels(department).inc(one.sold**2)
        DAYS.labels(department, "true" if one.inside else "false").inc()
        off[department, one.date] = off.get((department, one.date), 0.0) + error
    for (department, _), error in off.items():
        ABSOLUTE_ERROR.labels(department).inc(abs(error))


def count_event(event: Recommendation | Content | Campaign) -> None:
    """Count an event that has not been counted before."""
    if isinstance(event, Recommendation):
        RECOMMENDATIONS.labels(event.list, event.event).inc()
    elif isinstance(event, Campaign):
        {"contacted": CONTACTS, "redeemed": REDEMPTIONS}[event.event].labels(event.campaign_type).inc()
    elif event.rating is not None:
        RATING.labels(event.source).observe(event.rating)
    else:
        CONTENT.labels(event.event).inc()
