"""Exercises of notebook 04."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from workshop_lib.exercises import Exercise

_FIGURES = pd.DataFrame(
    {
        "requests/s": [99.0, 198.0, 297.0, 310.0, 312.0],
        "P50 ms": [2.0, 3.0, 8.0, 60.0, 400.0],
        "P95 ms": [4.0, 9.0, 40.0, 100.0, 900.0],
        "errors": [0, 0, 0, 0, 40],
    },
    index=pd.Index([100, 200, 300, 400, 500], name="asked"),
)


def _finds(promises: dict[float, int]) -> Callable[[Any], bool]:
    """Whether a function finds these rates for these promises in milliseconds."""
    return lambda answer: all(answer(_FIGURES, promise) == rate for promise, rate in promises.items())


EXERCISES = {
    "3.4.a": Exercise(
        right=lambda answer: answer == 50,
        hint="A request that was due t seconds after the stall began waited for the rest of it: 1 - t seconds.",
        near_misses=[
            (lambda answer: answer == 1, "One is what a closed loop with one worker would show."),
            (lambda answer: answer == 100, "All of them were due meanwhile, but the later ones waited less."),
            (lambda answer: answer == 500, "That is the wait in milliseconds; the question is how many requests."),
            (lambda answer: answer in (49, 51), "Nearly: 100 per second for half a second."),
        ],
    ),
    "3.4.b": Exercise(
        right=_finds({40: 300, 100: 400, 5: 100, 1: 0}),
        hint="Keep the rows whose P95 is at most the promise, then take the largest of their index, or 0.",
        near_misses=[
            (_finds({40: 300, 100: 400, 5: 200}), "That is the median: half of the people may wait longer."),
            (_finds({40: 200, 100: 300, 5: 100}), "A wait that is exactly as long as promised keeps the promise."),
            (_finds({40: 297, 5: 99}), "That is how many were answered; return the rate that was asked, the index."),
            (_finds({40: 100, 100: 100, 5: 100}), "That is the smallest rate; the question is how much may come."),
        ],
    ),
    "3.4.c": Exercise(
        right=lambda answer: answer == 5,
        hint="500 requests per second need 500 × 4 ms of processor time in every second; a core gives 1000 ms. Then "
        "leave room: divide by the share that may be used.",
        near_misses=[
            (lambda answer: answer == 2, "That is full use: at the knee, where waiting explodes."),
            (lambda answer: answer in (1, 1.2), "Multiplied by 0.4; room for peaks makes it more, not less."),
            (lambda answer: answer in (3.3, 4), "Look at the share again: two fifths of each core may be used."),
            (lambda answer: answer == 5000, "Those are milliseconds; a core gives 1000 of them each second."),
        ],
    ),
}
