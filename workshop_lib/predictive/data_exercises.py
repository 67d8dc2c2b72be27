"""Exercises of notebooks 01 and 02."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from workshop_lib.data.quality import RULE_NAMES
from workshop_lib.exercises import Exercise

_TABLE = pd.DataFrame({"a": [1.0, np.nan, 3.0, 4.0], "b": [None, None, "x", "y"], "c": [1.0, 2.0, 3.0, 4.0]})
_UNITS = pd.DataFrame({"milk": [1.0, 2.0, 4.0, 8.0, 16.0], "eggs": [0.0, 1.0, 0.0, 1.0, 0.0]})


def _completeness(expected: float) -> Callable[[object], bool]:
    return lambda answer: bool(np.isclose(answer(_TABLE, ["a", "b"]), expected))  # type: ignore[operator]


def _same(answer: Any, expected: pd.DataFrame) -> bool:
    return bool(np.allclose(answer(_UNITS).to_numpy(), expected.to_numpy(), equal_nan=True))


def _most_broken() -> str:
    from workshop_lib import data

    source = data.find_source()
    return str(data.measure(source.read("transactions"), source.read("products")).rules["rows"].idxmax())


EXERCISES = {
    "1.1.a": Exercise(
        right=lambda answer: answer == _most_broken(),
        hint="Take the column rows of before.rules and ask for the label of its largest value: idxmax.",
        near_misses=[
            (lambda answer: answer in RULE_NAMES, "That is a rule, but another one is broken by more rows."),
            (lambda answer: isinstance(answer, (int, np.integer)), "That is a count. The answer is the rule's name."),
        ],
    ),
    "1.1.b": Exercise(
        right=_completeness(5 / 8),
        hint="notna() gives True for present values; the mean of True and False is a share.",
        near_misses=[
            (_completeness(3 / 8), "That is the share of missing values. Completeness counts the present ones."),
            (_completeness(9 / 12), "All columns were counted. Only the required ones matter."),
            (_completeness(2 / 4), "That is the share of complete rows. Completeness counts single values."),
        ],
    ),
    "1.2.a": Exercise(
        right=lambda answer: _same(answer, _UNITS.shift(1).rolling(3).max()),
        hint="Shift the table by one day first, so that today is out of reach; then take the rolling maximum.",
        near_misses=[
            (
                lambda answer: _same(answer, _UNITS.rolling(3).max()),
                "Today's own sales are in the window. The evening before, nobody knows them: shift by one day.",
            ),
            (
                lambda answer: _same(answer, _UNITS.shift(-1).rolling(3).max()),
                "The shift goes the wrong way: a negative shift brings tomorrow's sales to today.",
            ),
            (
                lambda answer: _same(answer, _UNITS.shift(1).rolling(3).mean()),
                "That is the mean of the three days. The question asks for the largest value.",
            ),
        ],
    ),
}
