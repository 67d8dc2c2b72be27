"""Feedback for the lesson, from what really happened in the data's later weeks.

    api = start_lesson_api()
    ask_forecasts(api, first, last)
    tell_sales(api, first, last)

Everything goes to the real API over HTTP, as a shop's till, web page and mailing system would send it. Nothing is
drawn at random, and where the data is silent nothing is said:

* **sales**: units that a category really sold on a day;
* **recommendations**: lists made from the baskets before a day; "bought" is what the household really bought in the
  weeks after it. The data knows no web page, so nothing is ever "clicked";
* **campaigns and leaflets**: who was sent a campaign and which coupons were redeemed. The data knows that a leaflet was
  sent, not that it was read: "viewed" means sent, "engaged" that the household redeemed at least one of its coupons;
* **ratings**: no person ever rated a text in this data. Texts that the language model writes now are rated by the rules
  of module 2, and the rating says so: its source is "machine".
"""

from __future__ import annotations

import datetime as dt
import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import httpx
import numpy as np
import pandas as pd

from workshop_lib import data, processes
from workshop_lib.generative.quality import measure
from workshop_lib.orchestration import recommender_evaluation as evaluation
from workshop_lib.orchestration.recommender import CHOSEN, item_weights, top_items
from workshop_lib.predictive.champion import EXPERIMENT, URI, load_package
from workshop_lib.predictive.tracking import use_tracking
from workshop_lib.serving.api_client import Api, api_key, api_service, connect, start_another
from workshop_lib.serving.api_schemas import LONGEST_QUESTION
from workshop_lib.serving.feedback_schemas import MOST_EVENTS
from workshop_lib.serving.local import forecaster_service
from workshop_lib.settings import settings

TIMEOUT_SECONDS = 30
ATTEMPTS = 4

Event = dict[str, Any]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Told:
    """What the API counted."""

    counted: int = 0
    duplicates: int = 0
    rejected: int = 0

    def __add__(self, other: Told) -> Told:
        return Told(
            self.counted + other.counted, self.duplicates + other.duplicates, self.rejected + other.rejected
        )  # fmt: skip


def start_lesson_api(name: str = "api-lesson") -> Api:
    """A business API of the lesson's own: its counters start at zero and its database is empty.

    On a cluster, the one that the settings name; what others told it is counted there as well.

    Raises:
        ServiceError: when it cannot be started.
    """
    if settings.api_endpoint:
        return connect()
    if not settings.forecaster_endpoint:
        processes.start_with_progress(forecaster_service())
    processes.stop(api_service(name))
    for part in (settings.home / "services").glob(f"{name}.db*"):  # with the log that SQLite writes ahead
        part.unlink()
    service = start_another(name, {"WORKSHOP_HISTORY_URL": lesson_database(name)})
    return Api(service.url, {"X-API-Key": api_key()})


def lesson_database(name: str = "api-lesson") -> str:
    """Address of the database of :func:`start_lesson_api`; on a cluster, the one of the settings."""
    return settings.history_database if settings.api_endpoint else f"sqlite:///{settings.home}/services/{name}.db"


def stop_lesson_api(name: str = "api-lesson") -> None:
    """Stop what :func:`start_lesson_api` started."""
    processes.stop(api_service(name))


@cache
def forecast_categories() -> list[str]:
    """The categories that the champion knows.

    Raises:
        TrackingError: when the registry cannot be used.
    """
    use_tracking(EXPERIMENT)
    return list(load_package(URI).about["categories"])


def daily_units(first: dt.date, last: dt.date) -> pd.DataFrame:
    """What was really sold: ``date``, ``category``, ``units`` of open days, by date and category.

    Raises:
        ValueError: when there is no such day in the data.
    """
    sales = data.load("daily_sales", columns=["date", "category", "units", "open"])
    wanted = sales["date"].between(pd.Timestamp(first), pd.Timestamp(last)) & sales["open"]
    found = sales[wanted & sales["category"].isin(forecast_categories())]
    if found.empty:
        raise ValueError(f"The data has no open day from {first} to {last}.")
    return found.sort_values(["date", "category"])[["date", "category", "units"]].reset_index(drop=True)


def ask_forecasts(api: Api, first: dt.date, last: dt.date, categories: Sequence[str] | None = None) -> int:
    """Ask for every category's forecasts, each day seen from the evening before it.

    Returns:
        How many days of categories were forecast.

    Raises:
        httpx.HTTPError: when the API does not answer, or not with a forecast.
    """
    days = [first + dt.timedelta(days=number) for number in range((last - first).days + 1)]
    count = 0
    with _client(api) as client:
        for category in categories or forecast_categories():
            for some in _batches(days, LONGEST_QUESTION):
                asked = {"category": category, "dates": [day.isoformat() for day in some]}
                count += len(_post(client, "/forecast", asked)["forecasts"])
    return count


def tell_sales(api: Api, first: dt.date, last: dt.date) -> Told:
    """Tell what was sold, one evening after the other, all categories of a day together.

    Raises:
        httpx.HTTPError: when the API does not answer, or refuses.
    """
    told = Told()
    for day, rows in daily_units(first, last).groupby("date"):
        events = [
            {"event_id": f"sales-{day:%Y%m%d}-{place}", "category": category, "date": f"{day:%Y-%m-%d}", "units": units}
            for place, (category, units) in enumerate(zip(rows["category"], rows["units"], strict=True))
        ]
        told += send(api, "sales", events)
    return told


def tell_week(api: Api, first: dt.date) -> Told:
    """A week of a shop: ask for its forecasts, and tell what was sold, bought of lists and redeemed in it.

    Args:
        api: the API to tell.
        first: of the seven days. Lists are made on this day, and campaigns are those that started in the week.

    Raises:
        httpx.HTTPError: when the API does not answer, or refuses.
    """
    last = first + dt.timedelta(days=6)
    ask_forecasts(api, first, last)
    return tell_sales(api, first, last) + tell_recommendations(api, first) + tell_campaigns(api, first, last)


def tell_recommendations(api: Api, until: dt.date, households: int = 200, length: int = 5) -> Told:
    """Tell what households really bought of lists that were made before a day.

    Args:
        api: the API to tell.
        until: the lists know the baskets before this day; households have the 28 days from it on to buy.
        households: how many of those with baskets, evenly spread over their numbers.
        length: of each of the three lists.

    Raises:
        httpx.HTTPError: when the API does not answer, or refuses.
    """
    lines = data.load("transactions", ["household_id", "basket_id", "product_id", "date"])
    return send(api, "recommendations", recommendation_events(lines, until, households, length))


def recommendation_events(lines: pd.DataFrame, until: dt.date, households: int, length: int) -> list[Event]:
    """The events of :func:`tell_recommendations`; no id in them tells a household or product."""
    period = evaluation.make_period(lines, data.load("products"), pd.Timestamp(until))
    before = period.before
    rows = np.linspace(0, len(before.households) - 1, min(households, len(before.households))).astype(int)
    known = before.known[rows]
    lists = {
        "new": ((before.input[rows] @ item_weights(before, CHOSEN)) * before.season, known),
        "again": (before.faded[rows].toarray(), ~known),
        "popular": (evaluation.popular(before)[rows], None),
    }
    events = []
    for name, (scores, blocked) in lists.items():
        top = top_items(scores, before.kinds, length, blocked)
        for what, happened in (("shown", top >= 0), ("bought", evaluation.found(top, period.after[rows]))):
            events += [
                {"event_id": f"{name}-{until:%Y%m%d}-{row}-{place}-{what}", "list": name, "event": what}
                for row, place in np.argwhere(happened)
            ]
    return events


def tell_campaigns(api: Api, first: dt.date, last: dt.date) -> Told:
    """Tell of campaigns that started in a period: who was sent them, and what was redeemed of them in it.

    Raises:
        DataError: for a learner's own data, which has no campaigns.
        httpx.HTTPError: when the API does not answer, or refuses.
    """
    campaigns, leaflets = campaign_events(first, last)
    return send(api, "campaigns", campaigns) + send(api, "ratings", leaflets)


def campaign_events(first: dt.date, last: dt.date) -> tuple[list[Event], list[Event]]:
    """The events of :func:`tell_campaigns`: of campaigns, and of their leaflets."""
    sent, redeemed = campaigns(first, last)
    events: list[Event] = [
        {"event_id": f"contact-{first:%Y%m%d}-{number}", "campaign_type": kind, "event": "contacted"}
        for number, kind in enumerate(sent["type"])
    ] + [
        {"event_id": f"coupon-{first:%Y%m%d}-{number}", "campaign_type": kind, "event": "redeemed"}
        for number, kind in enumerate(redeemed["type"])
    ]
    acted = redeemed[["campaign_id", "household_id"]].drop_duplicates()
    leaflets: list[Event] = [
        {"event_id": f"leaflet-{first:%Y%m%d}-{number}-{name}", "event": name}
        for name, count in (("viewed", len(sent)), ("engaged", len(acted)))
        for number in range(count)
    ]
    return events, leaflets


def campaigns(first: dt.date, last: dt.date) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Campaigns that started in a period.

    Returns:
        Who was sent them (``campaign_id``, ``household_id``, ``type``), and the coupons of them that these households
        redeemed in the period (also ``coupon_upc``, ``redemption_date``).

    Raises:
        DataError: for a learner's own data, which has no campaigns.
    """
    everyone, about, redeemed = data.find_source().campaigns()
    begun = about[pd.to_datetime(about["start_date"]).between(pd.Timestamp(first), pd.Timestamp(last))]
    kinds = begun.assign(type=begun["campaign_type"].str.removeprefix("Type "))[["campaign_id", "type"]]
    sent = everyone.merge(kinds, on="campaign_id")
    coupons = redeemed.merge(sent, on=["campaign_id", "household_id"])
    dates = pd.to_datetime(coupons["redemption_date"])
    return sent, coupons[dates.between(pd.Timestamp(first), pd.Timestamp(last))].reset_index(drop=True)


def rate_texts(api: Api, categories: Iterable[str]) -> pd.DataFrame:
    """Let the language model describe the best-selling product of categories, and rate each text by module 2's rules.

    A score from 0 to 1 becomes a rating from 1 to 5; its source is "machine".

    Returns:
        ``category``, ``text``, ``relevance`` (content), ``coherence`` (form), ``score``, ``rating``.

    Raises:
        httpx.HTTPError: when the API does not answer, or has no language model.
    """
    rows, events = [], []
    with _client(api) as client:
        for category in categories:
            answer = _post(client, "/describe", {"category": category})
            found = measure(answer["text"], answer["facts"])
            rating = round(1 + 4 * found.score, 2)
            digest = hashlib.sha256(f"{category} {answer['text']}".encode()).hexdigest()[:16]
            events.append({"event_id": f"text-{digest}", "event": "rated", "rating": rating, "source": "machine"})
            rows.append((category, answer["text"], found.content, found.form, found.score, rating))
    send(api, "ratings", events)
    return pd.DataFrame(rows, columns=["category", "text", "relevance", "coherence", "score", "rating"])


def send(api: Api, path: str, events: Sequence[Event]) -> Told:
    """Send events to ``/feedback/<path>``, as many at once as it takes.

    Raises:
        httpx.HTTPError: when the API does not answer, or refuses.
    """
    told = Told()
    with _client(api) as client:
        for some in _batches(events, MOST_EVENTS):
            body = _post(client, f"/feedback/{path}", {"events": some})
            told += Told(body["counted"], body["duplicates"], len(body["rejected"]))
    return told


def _post(client: httpx.Client, path: str, body: Event) -> Any:
    """Post, again when the API is too busy: an event that did arrive counts once in any case."""
    for _ in range(ATTEMPTS - 1):
        answer = client.post(path, json=body)
        if answer.status_code not in (503, 504):
            break
        time.sleep(float(answer.headers.get("retry-after", 1)))
    else:
        answer = client.post(path, json=body)
    return answer.raise_for_status().json()


def _batches(items: Sequence[Item], most: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + most] for start in range(0, len(items), most))


def _client(api: Api) -> httpx.Client:
    return httpx.Client(base_url=api.url, headers=api.headers, timeout=TIMEOUT_SECONDS)
