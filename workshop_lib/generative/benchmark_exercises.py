"""Exercises of notebook 04."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from workshop_lib.exercises import Exercise

_WAITS = [0.1] * 97 + [4.0, 5.0, 6.0]


def _gives(expected: float) -> Callable[[Any], bool]:
    return lambda answer: bool(np.isclose(answer(_WAITS), expected))


EXERCISES = {
    "2.4.a": Exercise(
        right=_gives(float(np.percentile(_WAITS, 99))),
        hint="np.percentile takes the values and a share in percent.",
        near_misses=[
            (_gives(float(np.mean(_WAITS))), "That is the mean: three people who gave up hardly move it."),
            (_gives(float(np.median(_WAITS))), "That is the median: half of the people wait longer."),
            (_gives(max(_WAITS)), "That is the worst one; a single accident decides it."),
            (_gives(float(np.percentile(_WAITS, 95))), "That is P95; the question is about one in a hundred."),
            (_gives(float(np.percentile(_WAITS, 0.99))), "np.percentile counts in percent: 99, not 0.99."),
        ],
    ),
    "2.4.b": Exercise(
        right=lambda answer: answer == 12,
        hint="Requests under way = arrivals per second times the seconds that each one stays.",
        near_misses=[
            (lambda answer: answer in (4 / 3, 3 / 4), "Divided: think of how many are in the shop at once."),
            (lambda answer: answer == 7, "Added: a rate and a time do not add up."),
            (lambda answer: answer == 4, "That is how many arrive in one second; each one stays for three."),
        ],
    ),
}
