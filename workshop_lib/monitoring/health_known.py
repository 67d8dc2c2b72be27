"""Questions with known answers: what a service should say is computed from another source than the service.

known = KnownAnswers()
known.rows(), known.answer("3")    # what to ask the forecaster, and what version 3 must answer
sales_question()                   # days that are over, and how much was sold on them
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import mlflow
import numpy as np
import orjson
import pandas as pd
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from workshop_lib.predictive import onnx_export
from workshop_lib.predictive.champion import EXPERIMENT, URI, find_version, load_package
from workshop_lib.predictive.tracking import FORECASTER, TrackingError, use_tracking
from workshop_lib.settings import settings

Result = TypeVar("Result")

REFRESH_SECONDS = 10
"""How long the number of the champion is taken for granted."""
QUESTION_DAYS = 7
_KEPT_VERSIONS = 8


class Unverifiable(Exception):
    """The right answer is not known now, so nobody can say whether a given one is right."""


class KnownAnswers:
    """A test question for the forecaster, and what each registered version answers to it.

    The question is the *input example* that MLflow keeps with a registered model: real rows of its training days.
    The answer is computed by ONNX Runtime from the registered file, whose checksum the registry knows. So a version
    brings its own test along, and a server that computes with something else is found out. What was computed once
    is kept: a registry that is away later does not matter.

    Args:
        uri: the champion's address in the registry.
    """

    def __init__(self, uri: str = URI) -> None:
        self._uri, self._lock = uri, threading.Lock()
        self._rows: np.ndarray | None = None
        self._answers: dict[str, np.ndarray] = {}
        self._champion: tuple[float, str] | None = None

    def rows(self) -> np.ndarray:
        """What to ask: float32, shape (rows, features).

        Raises:
            Unverifiable: when the registry cannot tell.
        """
        with self._lock:
            if self._rows is None:
                number = self._newest()
                self._rows = _from_registry(lambda: _example(number))
            return self._rows

    def answer(self, version: str | None = None) -> np.ndarray:
        """What a version must answer.

        Args:
            version: its number in the registry; the champion for a server that does not tell.

        Returns:
            Units, shape (rows,).

        Raises:
            KeyError: when the registry has no such version.
            Unverifiable: when the registry cannot tell.
        """
        rows = self.rows()
        with self._lock:
            number = version or self._newest()
            if number not in self._answers:
                if len(self._answers) == _KEPT_VERSIONS:
                    del self._answers[next(iter(self._answers))]
                self._answers[number] = _from_registry(lambda: _computed(number, rows))
            return self._answers[number]

    def champion(self) -> str:
        """Number of the champion, a few seconds old at most; the last known one while the registry is away.

        Raises:
            Unverifiable: when it was never known.
        """
        with self._lock:
            return self._newest()

    def _newest(self) -> str:
        if self._champion is None or time.monotonic() - self._champion[0] > REFRESH_SECONDS:
            try:
                number = _from_registry(lambda: _number(self._uri))
            except Unverifiable:
                if self._champion is None:
                    raise
                number = self._champion[1]
            self._champion = time.monotonic(), number
        return self._champion[1]


def _from_registry(read: Callable[[], Result]) -> Result:
    try:
        return read()
    except (TrackingError, MlflowException, SQLAlchemyError, OSError, ValueError) as error:
        problem = (str(error) or type(error).__name__).splitlines()[0]
        raise Unverifiable(f"The model registry cannot tell what the right answer is ({problem}).") from error


def _number(uri: str) -> str:
    file = settings.tracking_uri.removeprefix("sqlite:///")
    if file != settings.tracking_uri and not Path(file).exists():
        raise TrackingError("it was not made yet")  # and whoever only looks should not make it
    use_tracking(EXPERIMENT)
    version = find_version(uri)
    if version is None:
        raise TrackingError(f"it has no {uri}")
    return str(version.version)


def _example(number: str) -> np.ndarray:
    uri = f"models:/{FORECASTER}/{number}"
    path = Path(mlflow.artifacts.download_artifacts(f"{uri}/input_example.json"))
    example = json.loads(path.read_text(encoding="utf-8"))
    order = [example["columns"].index(name) for name in load_package(uri).about["features"]]
    return np.asarray(example["data"], dtype=np.float32)[:, order]


def _computed(number: str, rows: np.ndarray) -> np.ndarray:
    uri = f"models:/{FORECASTER}/{number}"
    if not number.isdecimal() or find_version(uri) is None:
        raise KeyError(number)
    session = onnx_export.session(load_package(uri).onnx_file, threads=1)
    return np.maximum(onnx_export.predict(session, rows), 0)  # a server gives no negative units either


@dataclass(frozen=True)
class SalesQuestion:
    """A forecast of days that are over, for the business API."""

    body: bytes
    """JSON for ``POST /forecast``."""
    category: str
    sold: float
    """Units on these days together."""


def sales_question() -> SalesQuestion | None:
    """The last days of the best-selling category; None where this machine has no prepared tables.

    No forecast is exact, so what was sold tells no more than whether a forecast is possible at all.
    """
    # Not data.load, which would prepare the tables first: that takes more memory than a watcher should.
    table = settings.data_dir / "daily_sales.parquet"
    return _question(table, table.stat().st_mtime) if table.is_file() else None


@lru_cache(maxsize=1)
def _question(table: Path, _written: float) -> SalesQuestion:
    sales = pd.read_parquet(table, columns=["date", "category", "units"])
    category = str(sales.groupby("category")["units"].sum().idxmax())
    last = sales[sales["category"] == category].sort_values("date").tail(QUESTION_DAYS)
    dates = [f"{day:%Y-%m-%d}" for day in last["date"]]
    return SalesQuestion(orjson.dumps({"category": category, "dates": dates}), category, float(last["units"].sum()))
