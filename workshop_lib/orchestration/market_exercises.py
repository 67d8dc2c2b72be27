"""Exercises of notebook 04."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from workshop_lib.exercises import Exercise

CATEGORIES, LEVEL = 120, 0.1
"""Categories that are tested, and the p-value below which each is listed."""

_PAIRS = pd.DataFrame(
    {
        "first": ["cream", "tea", "tea", "white eggs", "butter", "beer"],
        "second": ["milk", "coffee", "biscuits", "brown eggs", "margarine", "cereals"],
        "lift": [1.4, 0.7, 1.6, 0.1, 0.5, 0.6],
        "plain_lift": [2.1, 1.3, 2.4, 0.2, 1.0001, 1.2],
        "relation": ["complements", "substitutes", "complements", "substitutes", "substitutes", "none"],
    }
)
_MISTAKEN = {"tea", "butter"}


def _if(test: Callable[[Any], bool]) -> Callable[[object], bool]:
    """A test of whatever a learner handed over."""
    return test


def _chosen(answer: Any) -> set[str]:
    """First kinds of the pairs that the learner's function keeps."""
    found = answer(_PAIRS.copy())
    return set(found["first"]) if len(found) == len(set(found["first"])) else {"twice"}


EXERCISES = {
    "4.4.a": Exercise(
        right=lambda answer: abs(answer - CATEGORIES * LEVEL / 2) < 1e-9,
        hint="A p-value is below 0.1 in one of ten series without a trend. Then think about the direction.",
        near_misses=[
            (_if(lambda answer: answer == CATEGORIES * LEVEL), "So many are listed by chance; do they all grow?"),
            (_if(lambda answer: answer == LEVEL / 2), "That is the share; the question is how many of the 120."),
            (_if(lambda answer: answer == 0), "Chance alone does list some: look at the shuffled years."),
        ],
    ),
    "4.4.b": Exercise(
        right=lambda answer: _chosen(answer) == _MISTAKEN,
        hint="A function that takes the table and returns the rows where two conditions hold: table[(...) & (...)].",
        near_misses=[
            (_if(lambda answer: not callable(answer)), "Hand over the function itself, without calling it."),
            (
                _if(lambda answer: not isinstance(answer(_PAIRS.copy()), pd.DataFrame)),
                "The function shall return the rows of the table, not their number or names.",
            ),
            (
                _if(lambda answer: _chosen(answer) == {"tea", "butter", "white eggs"}),
                "These are all substitutes. Which of them look like complements by plain lift?",
            ),
            (
                _if(lambda answer: _chosen(answer) == {"tea", "butter", "beer"}),
                "Beer and cereals are rarely together, but they are no substitutes: use the column relation.",
            ),
            (
                _if(lambda answer: "cream" in _chosen(answer)),
                "Complements are among them. Start from the rows whose relation is substitutes.",
            ),
        ],
    ),
}  # fmt: skip
