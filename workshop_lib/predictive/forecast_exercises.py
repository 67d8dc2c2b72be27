"""Exercises of notebooks 03 and 05."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from workshop_lib.exercises import Exercise
from workshop_lib.predictive.features import FEATURES

_TRUTH, _FORECAST = np.array([10.0, 20.0, 30.0]), np.array([13.0, 20.0, 36.0])


def _days(*texts: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(texts)


_EARLY, _LATE = _days("2017-01-02", "2017-01-01"), _days("2017-01-04", "2017-01-03")
_AROUND = _days("2017-01-01", "2017-01-05")


def _gives(function: Any, arguments: tuple[Any, ...], expected: float) -> bool:
    return bool(np.isclose(function(*arguments), expected))


def _bias_of(expected: float) -> Callable[[object], bool]:
    return lambda answer: _gives(answer, (_TRUTH, _FORECAST), expected)


def _honest(answer: Any) -> bool:
    return (
        answer(_EARLY, _LATE) is True
        and answer(_LATE, _EARLY) is False
        and answer(_AROUND, _LATE) is False
        and answer(_EARLY, _EARLY) is False
    )


def _largest(expected: float) -> Callable[[object], bool]:
    exported, original = np.array([1.0, 2.0, -3.0]), np.array([1.5, 2.0, -3.0])
    below = np.array([1.5, 2.0, -3.5])
    return lambda answer: _gives(answer, (exported, original), 0.5) and _gives(answer, (exported, below), expected)


EXERCISES = {
    "1.3.a": Exercise(
        right=_bias_of(3.0),
        hint="Subtract the truth from the forecast, row by row, then take the mean.",
        near_misses=[
            (_bias_of(-3.0), "The sign is turned round: above zero has to mean that the forecast is too high."),
            (_bias_of(9.0), "That is the sum of the differences; the mean divides by the number of rows."),
            (_bias_of(0.5 / 3), "These are percentages. The bias here is in units."),
        ],
    ),
    "1.3.b": Exercise(
        right=_honest,
        hint="Compare the latest training day with the earliest test day; the order within each does not count.",
        near_misses=[
            (
                lambda answer: answer(_days("2017-01-01"), _days("2017-01-02")) and not answer(_EARLY, _LATE),
                "The days may come in any order: use the latest training day and the earliest test day.",
            ),
            (
                lambda answer: answer(_EARLY, _LATE) and answer(_AROUND, _LATE),
                "A training day after the test days slips through. Look at the latest training day.",
            ),
        ],
    ),
    "1.5.a": Exercise(
        right=_largest(0.5),
        hint="Subtract, take the absolute values, then the largest of them.",
        near_misses=[
            (_largest(0.0), "A difference below zero counts too: take absolute values before the maximum."),
        ],
    ),
    "1.5.b": Exercise(
        right=lambda answer: list(answer) == list(FEATURES),
        hint="The entry feature_names of the session's metadata is JSON: json.loads turns it into a list.",
        near_misses=[
            (
                lambda answer: isinstance(answer, str),
                "This is still the text of the metadata entry. json.loads turns it into a list.",
            ),
            (
                lambda answer: sorted(answer) == sorted(FEATURES),
                "All names are there, but the order is the model's: leave it as it stands in the file.",
            ),
        ],
    ),
}
