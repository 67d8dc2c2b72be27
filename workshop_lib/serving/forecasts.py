"""Questions about days to forecasts: features from the history, units from a backend, intervals from its package."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from mlflow.exceptions import MlflowException
from prometheus_client import Counter, Histogram

from workshop_lib.predictive.champion import Package, load_package
from workshop_lib.predictive.intervals import bounds
from workshop_lib.predictive.tracking import FORECASTER, TrackingError
from workshop_lib.serving.api_errors import RETRY_SECONDS, Problem
from workshop_lib.serving.api_schemas import DayForecast, ForecastResponse, Interval, ModelVersion
from workshop_lib.serving.demand import Day, Demand, Question
from workshop_lib.serving.envelope import BUCKETS
from workshop_lib.serving.forecaster_client import (
    ForecasterClient,
    ForecasterRefused,
    ForecasterUnavailable,
)
from workshop_lib.serving.routing import Backend, Router
from workshop_lib.serving.shadow import Shadow

ATTEMPTS = 2
"""A forecast changes nothing, so it may be asked for again when a connection breaks or a server is leaving."""
BACKEND_REQUESTS = Counter("api_backend_requests_total", "Forecasts asked of each backend", ["backend", "result"])
BACKEND_SECONDS = Histogram("api_backend_seconds", "Time to a backend's forecast", ["backend"], buckets=BUCKETS)


@dataclass(frozen=True)
class _Made:
    """What a backend answered."""

    days: list[Day]
    version: str | None

    @property
    def units(self) -> list[float]:
        return [day.units for day in self.days]


class Forecasts:
    """Forecasts of one shop.

    Args:
        demand: its history.
        package: the champion's; its intervals serve for versions that the registry does not have.
        router: which backend answers.
    """

    def __init__(self, demand: Demand, package: Package, router: Router) -> None:
        self.demand, self.router = demand, router
        self.client = ForecasterClient()
        self._shadow = Shadow()
        self._default: dict[str, Any] = package.about["interval"]
        self._intervals = {package.version: self._default}
        self._reading: dict[str, asyncio.Task[dict[str, Any] | None]] = {}

    async def close(self) -> None:
        """Let the shadow end and close the connections."""
        await self._shadow.close()
        await self.client.close()

    async def answer(self, question: Question, request_id: str, key: str | None = None) -> ForecastResponse:
        """Forecast.

        Args:
            question: from :meth:`Demand.ask`.
            request_id: goes along to the backends.
            key: what chooses among the backends; the same key gets the same backend as long as the weights stay.

        Raises:
            Problem: 503 when the backend fails, 504 when it is too slow, 502 when it does not accept the features.
        """
        begun = time.perf_counter()
        backend, made = await self._from_backend(question, request_id, key or request_id)
        seconds = time.perf_counter() - begun
        shadow = self.router.routes.shadow
        if shadow is not None:
            about = {
                "request_id": request_id, "category": question.category,
                "dates": [day.date.isoformat() for day in made.days],
                "backend": backend.name, "version": made.version, "shadow": shadow.name,
            }  # fmt: skip

            async def ask(client: ForecasterClient) -> tuple[list[float], str | None]:
                copied = await _walk(client, self.demand, shadow.url, question, request_id)
                return copied.units, copied.version

            self._shadow.compare(ask, about, made.units, seconds)
        return respond(question.category, made.days, made.version, await self._interval(made.version), backend.name)

    async def _from_backend(self, question: Question, request_id: str, key: str) -> tuple[Backend, _Made]:
        for attempt in range(1, ATTEMPTS + 1):
            backend = self.router.choose(key, question.category)
            begun = time.perf_counter()
            try:
                made = await _walk(self.client, self.demand, backend.url, question, request_id)
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
                return backend, made
        raise AssertionError("the last attempt returns or raises")

    async def _interval(self, version: str | None) -> dict[str, Any]:
        """The intervals of the version that answered; read from the registry once, however many ask meanwhile."""
        if version is None:
            return self._default
        if version not in self._intervals:
            if version not in self._reading:
                self._reading[version] = asyncio.create_task(asyncio.to_thread(_read_interval, version))
            self._intervals[version] = await asyncio.shield(self._reading[version]) or self._default
        return self._intervals[version]


def _read_interval(version: str) -> dict[str, Any] | None:
    """The intervals in a version's package; None when the registry does not have them."""
    try:
        interval: dict[str, Any] = load_package(f"models:/{FORECASTER}/{version}").about["interval"]
    except (TrackingError, MlflowException, OSError, KeyError):
        return None
    return interval


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
