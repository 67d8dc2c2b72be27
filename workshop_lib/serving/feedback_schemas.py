"""What the shop tells the API after the fact. An event has an id, so that telling it twice counts once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from workshop_lib.serving.api_schemas import Strict, Text

MOST_EVENTS = 1000
"""Events in one request."""

RecommendationList = Literal["new", "again", "popular"]
RecommendationEvent = Literal["shown", "clicked", "bought"]
ContentEvent = Literal["viewed", "engaged", "rated"]
Source = Literal["person", "machine"]
CampaignType = Literal["A", "B", "C"]
CampaignEvent = Literal["contacted", "redeemed"]


class Event(Strict):
    """Something that happened once."""

    event_id: str = Field(
        pattern=r"^[\w.:-]{1,64}$", description="the sender's own name for it; the same id counts once"
    )


class Sale(Event):
    """What a category sold on a day."""

    category: Text = Field(description="one of the categories that the forecaster knows")
    date: dt.date
    units: float = Field(ge=0, le=1e6, allow_inf_nan=False)


class Recommendation(Event):
    """What became of a suggestion."""

    list: RecommendationList = Field(description="new to the household, bought again, or popular with all")
    event: RecommendationEvent


class Content(Event):
    """What became of a text or leaflet."""

    event: ContentEvent
    rating: float | None = Field(None, ge=1, le=5, allow_inf_nan=False, description="for rated: 1 (bad) to 5 (good)")
    source: Source = Field("person", description="who rated: a person, or a rule of a machine")

    @model_validator(mode="after")
    def _rated(self) -> Self:
        if (self.event == "rated") != (self.rating is not None):
            raise ValueError("a rating for the event rated, and for no other")
        return self


class Campaign(Event):
    """A household that was sent a campaign, or a coupon of it that was redeemed."""

    campaign_type: CampaignType
    event: CampaignEvent


class _Batch(Strict):
    @model_validator(mode="after")
    def _each_once(self) -> Self:
        events: Sequence[Event] = getattr(self, "events", ())
        if len({event.event_id for event in events}) < len(events):
            raise ValueError("events with different ids")
        return self


class Sales(_Batch):
    """Sales of some categories on some days; send all categories of a day together."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"events": [{"event_id": "till-7", "category": "SOFT DRINKS", "date": "2017-12-01", "units": 512}]}
            ]
        }
    )
    events: Annotated[list[Sale], Field(min_length=1, max_length=MOST_EVENTS)]


class Recommendations(_Batch):
    """What became of suggestions."""

    events: Annotated[list[Recommendation], Field(min_length=1, max_length=MOST_EVENTS)]


class Contents(_Batch):
    """What became of texts and leaflets."""

    events: Annotated[list[Content], Field(min_length=1, max_length=MOST_EVENTS)]


class Campaigns(_Batch):
    """What became of campaigns."""

    events: Annotated[list[Campaign], Field(min_length=1, max_length=MOST_EVENTS)]


class Rejected(BaseModel):
    """An event that was not counted."""

    event_id: str
    reason: str


class FeedbackResponse(BaseModel):
    """What was counted. Sending the same events again is safe."""

    counted: int
    duplicates: int = Field(description="events that had been counted before")
    rejected: list[Rejected] = Field(description="events that cannot be counted, and why")
