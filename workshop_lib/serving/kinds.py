"""Four kinds of serving on the same model: batch, online, streaming and edge.

* **batch**: all categories at once, into a file that others read (:func:`batch`);
* **online**: one question, one answer, now (``POST /forecast`` of the business API);
* **streaming**: a connection stays open, and each new day of sales brings a new forecast (:func:`replay`);
* **edge**: the model file lies where the question comes up; no server, no network (:class:`Edge`).

python -m workshop_lib.serving.kinds     # the batch, as a nightly job runs it
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from workshop_lib.files import atomic_path
from workshop_lib.predictive import onnx_export, tracking
from workshop_lib.predictive.champion import EXPERIMENT, URI, Package, load_package
from workshop_lib.serving.api_schemas import DayForecast, ForecastResponse, StreamedDay
from workshop_lib.serving.demand import Demand, Plan, load_demand, run
from workshop_lib.serving.forecasts import Forecasts, respond
from workshop_lib.settings import settings


class Edge:
    """The forecaster in this process: one file in ONNX Runtime, and the history.

    Args:
        package: a registered version; the champion by default.
        demand: the history; loaded by default.
    """

    def __init__(self, package: Package | None = None, demand: Demand | None = None) -> None:
        if package is None:
            tracking.use_tracking(EXPERIMENT)
            package = load_package(URI)
        self.package = package
        self.demand = demand or load_demand(package.about["categories"])
        self._session = onnx_export.session(package.onnx_file, threads=1)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Units per row of features: float32 (n, features) to (n,), never below zero, as the server answers."""
        return np.maximum(onnx_export.predict(self._session, rows), 0)

    def forecast(
        self,
        category: str,
        dates: Sequence[dt.date],
        plan: Plan | None = None,
        known_until: dt.date | None = None,
    ) -> ForecastResponse:
        """The answer of ``POST /forecast``, without a server.

        Raises:
            InvalidInput: for a category or date that cannot be asked about.
        """
        question = self.demand.ask(category, dates, plan, known_until)
        days = run(self.demand.walk(question), self.predict)
        return respond(question.category, days, self.package.version, self.package.about["interval"], "edge")


def batch(edge: Edge | None = None, known_until: dt.date | None = None, folder: Path | None = None) -> Path:
    """Forecast every category for the next day into a Parquet file.

    The file's name holds day and version, and it appears complete or not at all: a job that is started twice, or
    again after a failure, does no harm.

    Args:
        edge: the model; the champion by default.
        known_until: the last day whose sales count; by default the last one of the data.
        folder: where to write; ``settings.home / "forecasts"`` by default.

    Returns:
        The file: ``category``, ``date``, ``units``, ``lower``, ``upper``, ``version``.
    """
    edge = edge or Edge()
    day = (known_until or edge.demand.last_day) + dt.timedelta(days=1)
    file = (folder or settings.home / "forecasts") / f"{day}-v{edge.package.version}.parquet"
    if file.exists():
        return file
    rows = []
    for category in edge.demand.categories:
        found = edge.forecast(category, [day], known_until=known_until).forecasts[0]
        low, high = found.interval.lower, found.interval.upper
        rows.append({"category": category, "date": day, "units": found.units, "lower": low, "upper": high})
    with atomic_path(file) as draft:
        pd.DataFrame(rows).assign(version=edge.package.version).to_parquet(draft, index=False)
    return file


async def replay(
    forecasts: Forecasts, category: str, start: dt.date, days: int, pause: float, request_id: str
) -> AsyncIterator[StreamedDay]:
    """Play later weeks of the data again: each evening a day of sales arrives, and the next day is forecast.

    Args:
        forecasts: who answers.
        category: whose sales.
        start: the first evening.
        days: how many evenings.
        pause: between two of them, seconds.
        request_id: goes along to the backends.

    Yields:
        Per evening what was sold and the forecast for the next day.

    Raises:
        InvalidInput: for a category or day that is not there.
        Problem: when the forecaster gives no answer.
    """
    for number in range(days):
        evening = start + dt.timedelta(days=number)
        tomorrow = evening + dt.timedelta(days=1)
        ask = partial(Demand.ask, category=category, dates=[tomorrow], known_until=evening)
        answer = await forecasts.answer(ask, request_id)
        found: DayForecast = answer.forecasts[0]
        sold = forecasts.demand.units(answer.category, evening)
        yield StreamedDay(known_until=evening, sold=sold, forecast=found, model=answer.model)
        if number + 1 < days:
            await asyncio.sleep(pause)


if __name__ == "__main__":
    batch()
