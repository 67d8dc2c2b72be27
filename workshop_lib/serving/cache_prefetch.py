"""Answers made before somebody asks: what is likely to be wanted in the coming hour, learned from past hours.

popularity = Popularity.learn(lines, "category", "local_time")
popularity.likely(moment, 20)
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol
from zoneinfo import ZoneInfo

import pandas as pd
from prometheus_client import Counter

from workshop_lib import data
from workshop_lib.data import DataError
from workshop_lib.predictive.forecaster import HORIZONS
from workshop_lib.serving.api_errors import InvalidInput, Problem
from workshop_lib.serving.api_schemas import ForecastRequest, ForecastResponse
from workshop_lib.serving.cache import Found
from workshop_lib.serving.demand import Demand
from workshop_lib.serving.envelope import log_line
from workshop_lib.settings import settings

LEARN_WEEKS = 13
"""Weeks that popularity is learned from: long enough for 13 Mondays at nine, short enough for the season."""

PREFETCHED = Counter("cache_prefetched_total", "Answers that were made before somebody asked")


@dataclass(frozen=True)
class Popularity:
    """How often things were asked for in each hour of the week."""

    ranked: dict[tuple[int, int], tuple[Hashable, ...]]
    """By weekday (Monday is 0) and hour: things, the most wanted first."""

    @classmethod
    def learn(cls, requests: pd.DataFrame, thing: str, moment: str, keep: int = 5000) -> Popularity:
        """Count past requests.

        Args:
            requests: a row per request.
            thing: the column that says what was asked for.
            moment: the column that says when, in the shop's time.
            keep: most things per hour of the week.
        """
        when = requests[moment].dt
        counts = requests.groupby([when.weekday.rename("weekday"), when.hour.rename("hour"), requests[thing]]).size()
        # Ties are broken by name, so that the same past always gives the same order.
        table = counts.rename("n").reset_index().sort_values(["n", thing], ascending=[False, True], kind="stable")
        groups = table.groupby(["weekday", "hour"], sort=False)[thing]
        return cls({(int(day), int(hour)): tuple(names.head(keep)) for (day, hour), names in groups})

    def likely(self, moment: dt.datetime, count: int) -> tuple[Hashable, ...]:
        """What is most likely to be asked for in an hour.

        Args:
            moment: any time of that hour, in the shop's time.
            count: how many at most.
        """
        return self.ranked.get((moment.weekday(), moment.hour), ())[:count]


class _Forecasting(Protocol):
    """What :func:`prefetch` asks."""

    async def forecast(self, body: ForecastRequest, request_id: str) -> Found[ForecastResponse]: ...

    @property
    def demand(self) -> Demand: ...


def next_days(demand: Demand) -> list[dt.date]:
    """The days that most people want to know about: the week after the last known day."""
    return [demand.last_day + dt.timedelta(days=ahead) for ahead in range(1, HORIZONS + 1)]


async def prefetch(answers: _Forecasting) -> None:
    """Ask for the likely forecasts of each hour at its beginning, one after the other, for ever."""
    if not settings.cache_prefetch:
        return
    try:
        popularity = await asyncio.to_thread(_learn)
    except DataError as error:
        log_line(server="api", event="no prefetching", reason=str(error))
        return
    while True:
        now = dt.datetime.now(ZoneInfo(settings.timezone))
        await prefetch_hour(answers, popularity.likely(now, settings.cache_prefetch))
        await asyncio.sleep(3600 - (now.minute * 60 + now.second) % 3600)


async def prefetch_hour(answers: _Forecasting, categories: Sequence[Hashable]) -> int:
    """Ask for the next days of some categories, and return how many answers were new."""
    made = 0
    for category in categories:
        body = ForecastRequest(category=str(category), dates=next_days(answers.demand))
        try:
            found = await answers.forecast(body, "prefetch")
        except InvalidInput:
            continue  # sold, but not one of the categories that the forecaster knows
        except Problem as problem:
            log_line(server="api", event="prefetching stopped", reason=problem.detail)
            break  # a forecaster in trouble needs no further work
        if found.state == "miss":
            PREFETCHED.inc()
            made += 1
    return made


def _learn() -> Popularity:
    lines = data.load("transactions", ["category", "local_time"])
    last = lines["local_time"].max() - pd.Timedelta(weeks=LEARN_WEEKS)
    return Popularity.learn(lines[lines["local_time"] > last], "category", "local_time")
