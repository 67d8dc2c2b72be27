"""Questions about days to forecasts: features from the history, units from a backend, intervals from its package."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from mlflow.exceptions import MlflowException
from prometheus_client import Counter, Histogram

from workshop_lib.predictive.champion import Package, find_version, load_package
from workshop_lib.predictive.features import FEATURES
from workshop_lib.predictive.intervals import bounds
from workshop_lib.predictive.tracking import FORECASTER, TrackingError
from workshop_lib.serving.api_errors import RETRY_SECONDS, Problem
from workshop_lib.serving.api_schemas import DayForecast, ForecastResponse, Interval, ModelVersion
from workshop_lib.serving.demand import Day, Demand, Question, load_demand
from workshop_lib.serving.envelope import BUCKETS
from workshop_lib.serving.forecaster_client import (
    ForecasterClient,
    ForecasterRefused,
    ForecasterUnavailable,
)
from workshop_lib.serving.routing import Backend, Router
from workshop_lib.serving.shadow import Shadow
from workshop_lib.settings import settings

PROBE_SECONDS = 0.25
"""How long to wait for a backend to say which version it is."""
ATTEMPTS = 2
"""A forecast changes nothing, so it may be asked for again when a connection breaks or a server is leaving."""
BACKEND_REQUESTS = Counter("api_backend_requests_total", "Forecasts asked of each backend", ["backend", "result"])
BACKEND_SECONDS = Histogram("api_backend_seconds", "Time to a backend's forecast", ["backend"], buckets=BUCKETS)


Ask = Callable[[Demand], Question]
"""Puts a question to a history. Which history depends on the version that answers, so it may be put more than once."""


@dataclass(frozen=True)
class _Version:
    """What it takes to ask a version of the forecaster and to read its answer."""

    number: str
    demand: Demand
    """The history of the categories that it knows; its features depend on which these are."""
    interval: dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A question on its way: what will answer it, as far as is known before."""

    question: Question
    backend: Backend
    version: str | None
    """Behind the backend; None when it does not tell."""
    demand: Demand
    """The history that this version takes its features from."""


@dataclass(frozen=True)
class _Made:
    """What a backend answered."""

    days: list[Day]
    version: str | None

    @property
    def units(self) -> list[float]:
        return [day.units for day in self.days]


class Forecasts:
    """Forecasts of one shop. Making one loads the champion's package and the history of its categories.

    Args:
        router: which backend answers.

    Raises:
        TrackingError: when the registry cannot be used or the champion is not usable.
        DataError, ValueError: when the data cannot be used or does not fit the champion.
    """

    def __init__(self, router: Router) -> None:
        self.router, self.client = router, ForecasterClient()
        self._shadow = Shadow()
        self._versions: dict[str, _Version] = {}
        self._reading: dict[str, asyncio.Task[_Version]] = {}
        self._behind: dict[str, tuple[str | None, float]] = {}  # per address the version, and when it was asked for
        self._probes: dict[str, asyncio.Task[str | None]] = {}
        self.load()

    @property
    def version(self) -> str:
        """Number in the registry of the champion."""
        return self._champion.number

    @property
    def demand(self) -> Demand:
        """The history of the categories that the champion knows."""
        return self._champion.demand

    def is_outdated(self) -> bool:
        """Whether the registry has another champion than the one that is known here."""
        version = find_version(settings.forecaster_model)
        return version is not None and str(version.version) != self.version

    def load(self) -> None:
        """Read the champion's package; the one in use serves until the new one is ready.

        Raises:
            TrackingError: when the registry does not have it, or it takes other features than are made here.
            DataError, ValueError: when the data cannot be used or does not fit it.
        """
        self._champion = self._read(load_package(settings.forecaster_model))

    async def close(self) -> None:
        """Let the shadow end and close the connections."""
        await self._shadow.close()
        await self.client.close()

    async def expect(self, ask: Ask, key: str) -> Asked:
        """What :meth:`answer` would ask, and whom, without asking.

        Args:
            ask: puts the question with :meth:`Demand.ask`.
            key: what chooses among the backends.

        Raises:
            InvalidInput: for a question that cannot be asked.
        """
        backend = self.router.choose(key, ask(self.demand).category)
        number = await self._version_behind(backend.url)
        demand = (await self._version(number)).demand
        return Asked(ask(demand), backend, number, demand)

    async def _version_behind(self, url: str) -> str | None:
        """The version that answers there, as it was at most ``settings.reload_seconds`` ago."""
        number, asked_at = self._behind.get(url, (None, float("-inf")))
        if time.monotonic() - asked_at < settings.reload_seconds:
            return number
        mine = url not in self._probes
        if mine:
            self._probes[url] = asyncio.create_task(self._probe(url, number))
        # One waits for the news; the others go on with what was true just now, if there is such a thing.
        return await asyncio.shield(self._probes[url]) if mine or number is None else number

    async def _probe(self, url: str, number: str | None) -> str | None:
        """Ask a backend for its version with a row of the history; the last one known if it does not answer."""
        row = self.demand.rows(self.demand.categories[0], [self.demand.last_day])
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                number = (await self.client.infer(url, row, "version")).version
        except (ForecasterUnavailable, ForecasterRefused, TimeoutError):
            pass  # who answered there last is the best that is known
        finally:
            self._behind[url] = number, time.monotonic()
            del self._probes[url]
        return number

    async def answer(self, ask: Ask, request_id: str, key: str | None = None) -> ForecastResponse:
        """Forecast.

        Args:
            ask: puts the question with :meth:`Demand.ask`.
            request_id: goes along to the backends.
            key: what chooses among the backends; the same key gets the same backend as long as the weights stay.

        Raises:
            InvalidInput: for a question that cannot be asked.
            Problem: 503 when the backend fails, 504 when it is too slow, 502 when it does not accept the features.
        """
        begun = time.perf_counter()
        category = ask(self.demand).category
        backend, made = await self._from_backend(category, ask, request_id, key or request_id)
        seconds = time.perf_counter() - begun
        shadow = self.router.routes.shadow
        if shadow is not None:
            about = {
                "request_id": request_id, "category": category,
                "dates": [day.date.isoformat() for day in made.days],
                "backend": backend.name, "version": made.version, "shadow": shadow.name,
            }  # fmt: skip

            async def copy(client: ForecasterClient) -> tuple[list[float], str | None]:
                copied = await self._make(client, shadow.url, ask, request_id)
                return copied.units, copied.version

            self._shadow.compare(copy, about, made.units, seconds)
        interval = (await self._version(made.version)).interval
        return respond(category, made.days, made.version, interval, backend.name)

    async def _from_backend(self, category: str, ask: Ask, request_id: str, key: str) -> tuple[Backend, _Made]:
        for attempt in range(1, ATTEMPTS + 1):
            backend = self.router.choose(key, category)
            begun = time.perf_counter()
            try:
                made = await self._make(self.client, backend.url, ask, request_id)
            except ForecasterUnavailable as error:
                too_slow = isinstance(error.__cause__, httpx.TimeoutException)
                BACKEND_REQUESTS.labels(backend.name, "slow" if too_slow else "failed").inc()
                # Who is slow would be slower still with twice the work.
                if too_slow or attempt == ATTEMPTS:
                    status = 504 if too_slow else 503
                    raise Problem(status, f"Backend {backend.name}: {error}", RETRY_SECONDS) from error
            except ForecasterRefused as error:
                BACKEND_REQUESTS.labels(backend.name, "refused").inc()
                raise Problem(502, f"Backend {backend.name} does not take these features: {error}") from error
            else:
                BACKEND_REQUESTS.labels(backend.name, "ok").inc()
                BACKEND_SECONDS.labels(backend.name).observe(time.perf_counter() - begun)
                self._behind[backend.url] = made.version, time.monotonic()
                return backend, made
        raise AssertionError("the last attempt returns or raises")

    async def _make(self, client: ForecasterClient, url: str, ask: Ask, request_id: str) -> _Made:
        """Ask one backend, with features of the categories that the version behind it knows."""
        asked = self._champion
        for _ in range(ATTEMPTS):
            made = await _walk(client, asked.demand, url, ask(asked.demand), request_id)
            answered = await self._version(made.version)
            if answered.demand is asked.demand:
                return made
            asked = answered  # only now it is known who answers there: the champion has moved, or this is a canary
        raise ForecasterUnavailable(f"{url} changed its version during the forecast, twice.")

    async def _version(self, number: str | None) -> _Version:
        """What a version needs; read from the registry once, however many ask meanwhile."""
        if number is None:
            return self._champion
        if number not in self._versions:
            if number not in self._reading:
                self._reading[number] = asyncio.create_task(asyncio.to_thread(self._find, number))
            self._versions[number] = await asyncio.shield(self._reading[number])
        return self._versions[number]

    def _find(self, number: str) -> _Version:
        """A version's entry; the champion's for one that the registry does not have, or not complete."""
        try:
            return self._read(load_package(f"models:/{FORECASTER}/{number}"))
        except (TrackingError, MlflowException, OSError, KeyError, ValueError):
            return self._champion

    def _read(self, package: Package) -> _Version:
        if tuple(package.about["features"]) != FEATURES:
            raise TrackingError(
                f"Version {package.version} of the forecaster takes other features than this API builds."
            )
        categories = set(package.about["categories"])
        known = [one.demand for one in list(self._versions.values()) if set(one.demand.categories) == categories]
        demand = known[0] if known else load_demand(package.about["categories"])
        found = _Version(package.version, demand, package.about["interval"])
        self._versions[package.version] = found
        return found


async def _walk(client: ForecasterClient, demand: Demand, url: str, question: Question, request_id: str) -> _Made:
    """Walk through a question with one backend; one version makes all steps.

    Raises:
        ForecasterError: when the backend gives no forecast.
    """
    for _ in range(ATTEMPTS):
        walk, versions = demand.walk(question), set()
        rows = next(walk)
        while True:
            answer = await client.infer(url, rows, request_id)
            versions.add(answer.version)
            try:
                rows = walk.send(answer.units)
            except StopIteration as end:
                days = end.value
                break
        if len(versions) == 1:
            return _Made(days, versions.pop())
    raise ForecasterUnavailable(f"{url} changed its version during the forecast, twice.")


def respond(
    category: str, days: list[Day], version: str | None, interval: dict[str, Any], backend: str
) -> ForecastResponse:
    """Forecasts with their intervals, as the API answers them."""
    units = np.array([day.units for day in days])
    lower, upper = bounds(interval, units, np.array([day.horizon for day in days]))
    coverage = interval["coverage"]
    return ForecastResponse(
        category=category,
        forecasts=[
            DayForecast(
                date=day.date,
                units=day.units,
                # A closed shop is no question of chance.
                interval=Interval(lower=low, upper=high if day.open else 0.0, coverage=coverage),
                days_ahead=day.horizon,
                open=day.open,
            )
            for day, low, high in zip(days, lower.tolist(), upper.tolist(), strict=True)
        ],
        model=ModelVersion(name=FORECASTER, version=version),
        backend=backend,
    )
