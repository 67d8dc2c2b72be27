"""What the business API takes and answers. The descriptions and examples appear in its documentation."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator, model_validator

from workshop_lib.predictive import churn

LONGEST_QUESTION = 31
"""Dates in one request."""

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=200)]


class Strict(BaseModel):
    """A form in which a misspelt field is an error, not ignored."""

    model_config = ConfigDict(extra="forbid")


class Promotion(Strict):
    """Share of the category's sales that is promoted in each way, from 0 to 1; what is left out stays as it was."""

    display_share: Share | None = Field(None, description="on special displays in the shop")
    mailer_share: Share | None = Field(None, description="in the weekly mailer")
    front_page_share: Share | None = Field(None, description="on the mailer's front page")


class ForecastRequest(Strict):
    """Which days of which category, and what is planned for them."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"category": "SOFT DRINKS", "dates": ["2018-01-01"]},
                {
                    "category": "SOFT DRINKS",
                    "dates": ["2018-01-01", "2018-01-02"],
                    "price": 1.79,
                    "promotion": {"display_share": 0.4, "mailer_share": 0.5},
                },
            ]
        },
    )

    category: Text = Field(description="one of the categories that the forecaster knows")
    dates: list[dt.date] = Field(
        min_length=1,
        max_length=LONGEST_QUESTION,
        description="one to seven days after the last known day, or days of the past",
    )
    price: float | None = Field(
        None, gt=0, le=1000, allow_inf_nan=False, description="planned price per unit, dollars; as last week when unset"
    )
    promotion: Promotion | None = Field(None, description="planned promotion; as a week before when unset")
    known_until: dt.date | None = Field(
        None,
        description="look from the evening of this day; by default the last day of the data, for past days the one"
        " before each",
    )

    @field_validator("dates")
    @classmethod
    def _different(cls, dates: list[dt.date]) -> list[dt.date]:
        if len(set(dates)) < len(dates):
            raise ValueError("different dates, each once")
        return dates


class ModelVersion(BaseModel):
    """Who made a forecast."""

    name: str
    version: str | None = Field(description="number in the registry")


class Interval(BaseModel):
    """Where the truth lies in so many of a hundred cases."""

    lower: float = Field(description="units")
    upper: float = Field(description="units")
    coverage: float = Field(description="share of days on which the truth lies inside")


class DayForecast(BaseModel):
    """One day."""

    date: dt.date
    units: float = Field(description="the forecast")
    interval: Interval
    days_ahead: int = Field(description="from the last known day")
    open: bool = Field(description="a closed shop sells nothing")


class ForecastResponse(BaseModel):
    """Forecasts in the order of the dates."""

    category: str
    unit: Literal["units"] = "units"
    forecasts: list[DayForecast]
    model: ModelVersion
    backend: str = Field(description="which running version answered")


# Numbers beyond these bounds are no counts of days, visits or dollars of a household.
_Number = Annotated[float, Field(ge=-1e6, le=1e7, allow_inf_nan=False)]
HouseholdFeatures: Any = create_model(
    "HouseholdFeatures",
    __base__=Strict,
    **dict.fromkeys(churn.FEATURES, (_Number, ...)),  # type: ignore[call-overload]
)


class ChurnRequest(Strict):
    """A household by its number, or by its features."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"household_id": 1}]})

    household_id: int | Text | None = Field(None, description="one that shopped in the last 84 days")
    features: HouseholdFeatures | None = Field(None, description="all features of the churn model")

    @model_validator(mode="after")
    def _one_of_both(self) -> ChurnRequest:
        if (self.household_id is None) == (self.features is None):
            raise ValueError("either household_id or features")
        return self


class ChurnResponse(BaseModel):
    """How likely a household is to stay away, and whether to act."""

    household_id: int | str | None
    probability: float = Field(description="of no visit within the horizon")
    horizon_days: int
    threshold: float = Field(description="from here up a contact pays")
    contact: bool
    as_of: dt.date | None = Field(description="the day on which the features were known; none for given features")
    model: ModelVersion


class DescribeRequest(Strict):
    """A product of the catalogue, or facts about one."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"facts": {"product": "green olives", "brand": "store brand", "size": "7 ounces", "price": "$1.99"}},
                {"product_id": 1029743},
            ]
        },
    )

    product_id: int | Text | None = Field(None, description="a product of the catalogue")
    category: Text | None = Field(None, description="its best-selling product is described")
    facts: Annotated[dict[Text, Text], Field(min_length=1, max_length=12)] | None = Field(
        None, description="label and value of what is known"
    )
    tone: Literal["plain", "friendly", "formal"] = Field("plain", description="how the text shall sound")

    @model_validator(mode="after")
    def _one_of_three(self) -> DescribeRequest:
        if sum(value is not None for value in (self.product_id, self.category, self.facts)) != 1:
            raise ValueError("one of product_id, category and facts")
        return self


class DescribeResponse(BaseModel):
    """A text and how far it can be trusted."""

    text: str
    facts: dict[str, str] = Field(description="what the model was given")
    missing: list[str] = Field(description="facts that the text does not mention")
    invented: list[str] = Field(description="numbers and claims of the text that nobody gave")
    prompt: str = Field(description="name and version of the prompt")
    model: str
    tokens: int


class Dependency(BaseModel):
    """One thing that the API needs."""

    status: Literal["ok", "degraded", "failed"]
    required: bool
    reason: str | None = None


class ReadyResponse(BaseModel):
    """Whether the API can do its work."""

    status: Literal["ok", "degraded", "failed"]
    dependencies: dict[str, Dependency]


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str
    got: str
    expected: str


class ProblemDetails(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] | None = None
    request_id: str | None = None


class StreamedDay(BaseModel):
    """What one evening of a stream brings."""

    known_until: dt.date
    sold: float = Field(description="units on this day")
    forecast: DayForecast = Field(description="for the next day")
    model: ModelVersion
