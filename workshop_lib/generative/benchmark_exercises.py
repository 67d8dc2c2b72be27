"""Exercises of notebook 04."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from workshop_lib.exercises import Exercise

# All different, so that no two of the likely answers give the same value.
_WAITS = [0.1 + 0.001 * number for number in range(97)] + [4.0, 5.0, 6.0]


def _gives(expected: float) -> Callable[[Any], bool]:
    return lambda answer: bool(np.isclose(answer(_WAITS), expected))


_FIGURES = pd.DataFrame(
    {"first token ms P50": [60, 200, 350, 600], "first token ms P95": [70, 230, 520, 700]}, index=[1, 4, 8, 16]
)


def _keeps(promises: dict[float, int]) -> Callable[[Any], bool]:
    """Whether a function finds these numbers of requests at once for these promises in milliseconds."""
    return lambda answer: all(answer(_FIGURES, promise) == most for promise, most in promises.items())


def _fails_without_any(answer: Any) -> bool:
    try:
        return bool(answer(_FIGURES, 10) != 0)
    except ValueError:  # the largest of nothing
        return True


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
    "2.4.c": Exercise(
        right=_keeps({500: 4, 520: 8, 1000: 16, 10: 0}),
        hint="Keep the rows whose P95 is at most the promise, then take the largest of their index, or 0.",
        near_misses=[
            (
                _keeps({500: 8, 520: 8, 1000: 16}),
                "That is the median: half of the people may wait longer than promised.",
            ),
            (_keeps({500: 1, 520: 1}), "That is the fewest; the question is how many may come."),
            (_keeps({500: 4, 520: 4}), "A wait that is exactly as long as promised keeps the promise."),
            (
                lambda answer: _keeps({500: 4, 520: 8, 1000: 16})(answer) and _fails_without_any(answer),
                "Nearly: when no row keeps the promise, return 0.",
            ),
        ],
    ),
}
