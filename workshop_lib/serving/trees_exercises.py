"""Exercises of notebook 01."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from workshop_lib.exercises import Exercise

_LEFT, _RIGHT = np.array([1, 1, 3, 3, 4]), np.array([2, 1, 4, 3, 4])
_THRESHOLD = np.array([5.0, 0.0, 8.0, 0.0, 0.0])
_PLACES, _VALUES = np.array([0, 0, 0, 2, 2, 1]), np.array([5.0, 4.0, 6.0, 8.0, 9.0, 3.0])


def _moves_to(*expected: int) -> Callable[[Any], bool]:
    def test(answer: Any) -> bool:
        return bool(np.array_equal(answer(_PLACES, _VALUES, _THRESHOLD, _LEFT, _RIGHT), expected))

    return test


def _is(expected: float) -> Callable[[Any], bool]:
    return lambda answer: float(answer) == expected


EXERCISES = {
    "3.1.a": Exercise(
        right=_moves_to(1, 1, 2, 3, 4, 1),
        hint="Look up the threshold of each place, compare, and choose between what left and right say there.",
        near_misses=[
            (_moves_to(2, 1, 2, 4, 4, 1), "A value that equals the threshold goes left: the question is 'at most'."),
            (_moves_to(2, 2, 1, 4, 3, 1), "Left and right are swapped: 'yes' goes left."),
            (_moves_to(1, 2, 1, 3, 3, 1), "The comparison is turned round."),
        ],
    ),
    "3.1.b": Exercise(
        right=_is(2050.0),
        hint="float(np.float16(2049.5)) rounds the number as saving at half precision does.",
        near_misses=[
            (_is(2049.5), "That is the number at single precision; half precision has only 11 bits for it."),
            (_is(2048.0), "Between 2,048 and 4,096 half precision knows every second number. Which one is nearer?"),
            (_is(2049.0), "Odd numbers above 2,048 do not exist at half precision."),
        ],
    ),
}
