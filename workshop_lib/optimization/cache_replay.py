"""A cache before real traffic: the questions that the shop's baskets raise, in the order in which they were filled.

Nobody recorded the requests of our business API in 2017, but the sales lines tell when who bought what. Each basket
raises three kinds of questions:

* ``forecast``: one per category in it: how much of this will be sold in the coming week? (the shelf is refilled);
* ``churn``: one for its household: is it about to leave? (the till prints a coupon or not);
* ``describe``: one per product in it: its text (somebody looked at the product's page).

The order, the hours, the weekdays and how often each thing comes up are the data's own.

    questions = load_questions(first, last, categories)
    replayed = replay(questions, entries=5000, seconds={"forecast": 3600, "churn": 3600, "describe": 86400})
    by_kind(questions, replayed)

The long replay runs in process with the memory tier of the API itself (:class:`MemoryTier`) and a simulated clock, so
weeks take seconds and the hit rates are exact. :func:`play` sends questions to a running API and measures.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import httpx
import numpy as np
import pandas as pd
from pydantic import BaseModel

from workshop_lib import data
from workshop_lib.generative.facts import NO_AUTOMATIC_TEXT
from workshop_lib.predictive.forecaster import HORIZONS
from workshop_lib.progress import track
from workshop_lib.serving.api_client import Api
from workshop_lib.serving.cache_answers import forecast_confidence, keep_seconds
from workshop_lib.serving.cache_prefetch import LEARN_WEEKS, Popularity
from workshop_lib.serving.cache_tiers import Entry, MemoryTier
from workshop_lib.serving.kinds import Edge

KINDS = ("forecast", "churn", "describe")
_THING = {"forecast": "category", "churn": "household_id", "describe": "product_id"}
_LINES = ["household_id", "basket_id", "product_id", "category", "local_time", "date"]


class _Nothing(BaseModel):
    """Stands for an answer where only it matters whether there is one."""


def load_questions(first: dt.date, last: dt.date, categories: Sequence[str]) -> pd.DataFrame:
    """The questions of some days, in the order of the baskets.

    Args:
        first: the first day.
        last: the last day, included.
        categories: those that the forecaster knows; others are not asked about.

    Returns:
        A row per question: ``moment`` (the shop's time), ``day``, ``basket``, ``kind`` (one of :data:`KINDS`),
        ``thing`` (what it is about). In a basket the household comes first, then its lines in their order.

    Raises:
        DataError: when the data cannot be used.
        ValueError: when nothing was sold in these days.
    """
    lines = data.load("transactions", _LINES)
    lines = lines[lines["date"].between(pd.Timestamp(first), pd.Timestamp(last))]
    if lines.empty:
        raise ValueError(f"Nothing was sold from {first} to {last}.")
    lines = lines.sort_values(["local_time", "basket_id"], kind="stable").reset_index(drop=True)
    writable = ~lines["category"].str.upper().str.contains(NO_AUTOMATIC_TEXT)
    found = {
        "churn": lines.drop_duplicates("basket_id"),
        "forecast": lines[lines["category"].isin(categories)].drop_duplicates(["basket_id", "category"]),
        "describe": lines[writable].drop_duplicates(["basket_id", "product_id"]),
    }
    pieces = [rows.assign(kind=kind, thing=rows[_THING[kind]], place=rows.index) for kind, rows in found.items()]
    together = pd.concat(pieces).sort_values("place", kind="stable")
    return pd.DataFrame(
        {
            "moment": together["local_time"].to_numpy(),
            "day": together["date"].dt.date.to_numpy(),
            "basket": together["basket_id"].to_numpy(),
            "kind": together["kind"].to_numpy(),
            "thing": together["thing"].to_numpy(),
        }
    )


def key_of(kind: str, thing: object, day: dt.date) -> tuple[object, ...]:
    """What makes two questions equal: sales arrive each night, so forecasts and scores hold for a day; texts stay."""
    return (kind, thing) if kind == "describe" else (kind, thing, day)


@dataclass(frozen=True)
class Ahead:
    """What to make ahead at the beginning of each hour."""

    popularity: Popularity
    count: int
    """How many things per hour."""


def learn(questions: pd.DataFrame, kind: str, count: int) -> Ahead:
    """Learn from past questions what is likely in each hour of the week.

    Args:
        questions: of the past, from :func:`load_questions`; :data:`~.cache_prefetch.LEARN_WEEKS` weeks are enough.
        kind: one of :data:`KINDS`.
        count: how many things to make ahead per hour.
    """
    return Ahead(Popularity.learn(questions[questions["kind"] == kind], "thing", "moment"), count)


def learning_days(first: dt.date) -> tuple[dt.date, dt.date]:
    """The first and the last day to learn from, for a replay that begins on ``first``: nothing of the replay itself."""
    return first - dt.timedelta(weeks=LEARN_WEEKS), first - dt.timedelta(days=1)


@dataclass
class Replayed:
    """What a replay found."""

    hits: np.ndarray
    """Per question whether its answer was there; bool, shape (questions,)."""
    evicted: int = 0
    """Answers that had to make room."""
    made_ahead: dict[str, int] = field(default_factory=dict)
    """Per kind the answers that were made before anybody asked."""
    used_ahead: dict[str, int] = field(default_factory=dict)
    """Those of them that somebody asked for in time."""


def replay(
    questions: pd.DataFrame,
    entries: int,
    seconds: Mapping[str, float | Mapping[object, float]],
    ahead: Mapping[str, Ahead] | None = None,
) -> Replayed:
    """Ask all questions in their order, in simulated time.

    Args:
        questions: from :func:`load_questions`.
        entries: answers that fit into the cache.
        seconds: per kind how long an answer is kept; one number, or one per thing.
        ahead: per kind what to make ahead.
    """
    now = 0.0
    memory = MemoryTier(entries, clock=lambda: now)
    result = Replayed(np.zeros(len(questions), dtype=bool))
    waiting: set[tuple[object, ...]] = set()  # made ahead, not yet asked for

    def keep(kind: str, thing: object, key: tuple[object, ...]) -> None:
        given = seconds[kind]
        lifetime = given[thing] if isinstance(given, Mapping) else given
        memory.put(str(key), Entry(_Nothing(), now, now + lifetime))

    moments = pd.to_datetime(questions["moment"])
    times = (moments - pd.Timestamp(0)).dt.total_seconds().to_numpy()
    hour = float(times[0] // 3600 * 3600)
    for place, row in enumerate(zip(questions["kind"], questions["thing"], questions["day"], strict=True)):
        while ahead and hour <= times[place]:
            now, begin = hour, dt.datetime(1970, 1, 1) + dt.timedelta(seconds=hour)
            for kind, plan in ahead.items():
                for thing in plan.popularity.likely(begin, plan.count):
                    key = key_of(kind, thing, begin.date())
                    if memory.get(str(key)) is None:
                        keep(kind, thing, key)
                        waiting.add(key)
                        result.made_ahead[kind] = result.made_ahead.get(kind, 0) + 1
            hour += 3600
        now = times[place]
        kind, thing, _ = row
        key = key_of(*row)
        if memory.get(str(key)) is not None:
            result.hits[place] = True
            if key in waiting:
                result.used_ahead[kind] = result.used_ahead.get(kind, 0) + 1
        else:
            keep(kind, thing, key)
        waiting.discard(key)
    result.evicted = memory.evicted
    return result


def by_kind(questions: pd.DataFrame, replayed: Replayed) -> pd.DataFrame:
    """Questions, different ones, hits and hit rate per kind, and of all together."""
    table = questions.assign(hit=replayed.hits).groupby("kind")["hit"].agg(["size", "sum", "mean"]).loc[list(KINDS)]
    table.loc["all"] = [len(questions), replayed.hits.sum(), replayed.hits.mean()]
    table.columns = ["questions", "hits", "hit_rate"]
    return table.astype({"questions": int, "hits": int})


def sweep(questions: pd.DataFrame, entries: Sequence[int], hours: Sequence[float]) -> pd.DataFrame:
    """Hit rate over the size of the cache and the time that answers are kept.

    Args:
        questions: from :func:`load_questions`.
        entries: sizes to try.
        hours: times to try, the same for all kinds.

    Returns:
        A row per size, a column per time, hit rates from 0 to 1.
    """
    table = pd.DataFrame(index=pd.Index(entries, name="entries"), columns=pd.Index(hours, name="hours"), dtype=float)
    for size, kept in track([(size, kept) for size in entries for kept in hours], "Replaying"):
        found = replay(questions, size, dict.fromkeys(KINDS, kept * 3600))
        table.loc[size, kept] = found.hits.mean()
    return table


def forecast_seconds(edge: Edge) -> pd.DataFrame:
    """How long each category's forecast of the next week is kept, by the API's own rule.

    Returns:
        Indexed by category: ``confidence`` and ``seconds``, the surest first.
    """
    days = [edge.demand.last_day + dt.timedelta(days=ahead) for ahead in range(1, HORIZONS + 1)]
    sure = {name: forecast_confidence(edge.forecast(name, days)) for name in edge.demand.categories}
    table = pd.DataFrame({"confidence": pd.Series(sure)})
    return table.assign(seconds=table["confidence"].map(keep_seconds)).sort_values("confidence", ascending=False)


def body_of(kind: str, thing: object, day: dt.date) -> dict[str, object]:
    """A question as the API takes it; a forecast is asked for on the morning of the day, for a week."""
    if kind == "churn":
        return {"household_id": int(str(thing))}
    if kind == "describe":
        return {"product_id": int(str(thing))}
    week = [(day + dt.timedelta(days=ahead)).isoformat() for ahead in range(HORIZONS)]
    return {"category": thing, "dates": week, "known_until": (day - dt.timedelta(days=1)).isoformat()}


def play(api: Api, questions: pd.DataFrame, headers: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Send questions to a running API, one after the other, and measure.

    Args:
        api: where it is.
        questions: from :func:`load_questions`.
        headers: further ones, such as ``{"Cache-Control": "no-store"}``.

    Returns:
        A row per question: ``kind``, ``thing``, ``status``, ``cache`` (the header ``X-Cache``) and ``milliseconds``.
    """
    rows = []
    with httpx.Client(base_url=api.url, headers={**api.headers, **(headers or {})}, timeout=60) as client:
        client.get("/health/live")  # the connection is no part of the first answer
        for kind, thing, day in zip(questions["kind"], questions["thing"], questions["day"], strict=True):
            body = body_of(kind, thing, day)
            begun = time.perf_counter()
            answer = client.post(f"/{kind}", json=body)
            taken = (time.perf_counter() - begun) * 1000
            rows.append((kind, thing, answer.status_code, answer.headers.get("x-cache"), taken))
    return pd.DataFrame(rows, columns=["kind", "thing", "status", "cache", "milliseconds"])


def latency(played: pd.DataFrame, without: pd.DataFrame) -> pd.DataFrame:
    """Answers with the cache beside the same questions without it.

    Args:
        played: from :func:`play`.
        without: from :func:`play` with ``Cache-Control: no-store``.

    Returns:
        Per kind the median milliseconds ``without``, of a ``miss`` and of a ``hit``, and ``lower``: by which share a
        hit takes less time than an answer without the cache.
    """
    table = played.pivot_table("milliseconds", "kind", "cache", aggfunc="median").reindex(columns=["miss", "hit"])
    table.insert(0, "without", without.groupby("kind")["milliseconds"].median())
    table["lower"] = 1 - table["hit"] / table["without"]
    return table.rename_axis(columns=None).loc[[kind for kind in KINDS if kind in table.index]]


def savings(hits: pd.DataFrame, milliseconds: pd.DataFrame, dollars_per_hour: Mapping[str, float]) -> pd.DataFrame:
    """What the hits saved.

    Args:
        hits: from :func:`by_kind`.
        milliseconds: from :func:`latency`.
        dollars_per_hour: per kind the price of the machine that makes such answers, one at a time.

    Returns:
        Per kind ``calls_saved``, ``hours_saved`` (of that machine; below zero where a hit takes longer) and
        ``dollars_saved``.
    """
    table = pd.DataFrame({"calls_saved": hits["hits"].reindex(milliseconds.index)})
    table["hours_saved"] = table["calls_saved"] * (milliseconds["without"] - milliseconds["hit"]) / 3_600_000
    table["dollars_saved"] = table["hours_saved"] * pd.Series(dollars_per_hour).reindex(table.index)
    return table
