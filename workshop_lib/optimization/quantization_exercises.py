"""Exercises of the notebook on quantisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from workshop_lib.exercises import Exercise

_ROWS = (
    np.array([0.5, -1.27, 0.0, 0.013]),
    np.array([3.0, 1.0, 2.0]),
    np.array([-254.0, 2.0, 100.0]),
)
_ZEROS = np.zeros(3)
_TABLE = pd.DataFrame(
    {"error": [0.0, 0.004, 0.090, 0.018], "ms": [9.0, 5.0, 2.0, 3.0]},
    index=["float32", "bfloat16", "INT8, plain", "INT8, controlled"],
)


def _rounded(values: np.ndarray) -> tuple[np.ndarray, float]:
    scale = np.abs(values).max() / 127
    return np.round(values / scale), scale


def _is(answer: Any, expected: tuple[np.ndarray, float]) -> bool:
    whole, scale = answer
    return bool(np.array_equal(np.asarray(whole, float), expected[0]) and np.isclose(scale, expected[1]))


def _quantises(answer: Any) -> bool:
    with np.errstate(divide="ignore", invalid="ignore"):  # what a near miss does with zeros
        whole, scale = answer(_ZEROS.copy())
    zeros = np.array_equal(np.asarray(whole, float), _ZEROS) and bool(np.isfinite(scale))
    return zeros and all(_is(answer(row.copy()), _rounded(row)) for row in _ROWS)


def _all(test: Callable[[Any, np.ndarray], bool]) -> Callable[[Any], bool]:
    return lambda answer: all(test(answer(row.copy()), row) for row in _ROWS)


def _chooses(answer: Any) -> bool:
    return [answer(_TABLE.copy(), gate) for gate in (0.02, 0.1, 0.005, 0.0)] == [
        "INT8, controlled",
        "INT8, plain",
        "bfloat16",
        "float32",
    ]


def _near(expected: float) -> Callable[[Any], bool]:
    return lambda answer: abs(float(answer) - expected) < 0.01


EXERCISES = {
    "5.5.a": Exercise(
        right=_quantises,
        hint="scale = largest absolute value / 127, and the whole numbers are values / scale, rounded.",
        near_misses=[
            (
                _all(lambda found, row: _is(found, (np.trunc(row / _rounded(row)[1]), _rounded(row)[1]))),
                "A cast to a whole number cuts off: 63.9 becomes 63. Round first (np.round).",
            ),
            (
                _all(lambda found, row: bool(np.isclose(found[1], row.max() / 127))),
                "The largest value may be negative: take the largest absolute value.",
            ),
            (
                _all(lambda found, row: bool(np.isclose(found[1], 127 / np.abs(row).max()))),
                "The scale is what one step is worth: the largest value over 127, not the other way round.",
            ),
            (
                _all(lambda found, row: bool(np.isclose(found[1], np.abs(row).max() / 255))),
                "One step is the largest value over 127: the sign takes half of the 256 numbers.",
            ),
            (_all(lambda found, row: _is(found, _rounded(row))), "Nearly: a row of zeros has a scale of 0. Use 1."),
        ],
    ),
    "5.5.b": Exercise(
        right=_chooses,
        hint="table[table['error'] <= gate] are those that may be used; idxmin of their column ms is the fastest.",
        near_misses=[
            (
                lambda answer: answer(_TABLE.copy(), 0.02) == "INT8, plain",
                "That is the fastest of all; it does not keep to the gate. The error comes first.",
            ),
            (
                lambda answer: answer(_TABLE.copy(), 0.02) == "float32",
                "That has the smallest error. Of all that keep to the gate, the fastest is wanted.",
            ),
            (
                lambda answer: isinstance(answer(_TABLE.copy(), 0.02), pd.Series | pd.DataFrame),
                "Return the name only: idxmin gives the label of the row.",
            ),
            (
                lambda answer: answer(_TABLE.copy(), 0.02) == "INT8, controlled",
                "Right for most gates. An error of exactly the gate is still good: use <=.",
            ),
        ],
    ),
    "5.5.c": Exercise(
        right=_near(1 / (0.55 + 0.45 / 1.7)),
        hint="1 / ((1 - p) + p / s), with p = 0.45 and s = 1.7.",
        near_misses=[
            (_near(0.55 + 0.45 / 1.7), "That is the time that is left, as a share. How many times faster is it?"),
            (_near(1.7), "That would be so if the products took all of the time."),
            (_near(0.45 * 1.7), "0.45 x 1.7 is below 1: the whole would have become slower."),
            (_near(1 + 0.45 * 0.7), "The time adds up, not the speed: how long do the products take afterwards?"),
            (_near(1 / (0.45 + 0.55 / 1.7)), "The other way round: the products are the 45% that get faster."),
        ],
    ),
}
