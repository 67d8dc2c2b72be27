"""Exercises of notebook 3, alerts that fire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from workshop_lib.exercises import Exercise

FIRES = {
    "all is well": "",
    "the only pod does not answer": "AC",
    "no pod is left": "BC",
    "one of two pods does not answer": "A",
}
"""Which of the three expressions of exercise A fire, by situation."""
HOURS, SHARE = 30 * 24 / 14.4, 14.4 / (30 * 24)
"""Until the budget of 30 days is used up 14.4 times too fast, and what of it is gone after one hour."""


def _if(test: Callable[[Any], bool]) -> Callable[[object], bool]:
    """A test of whatever a learner handed over."""
    return test


def _letters(answer: Mapping[str, str]) -> dict[str, set[str]]:
    return {situation: set(letters.upper()) - set(" ,") for situation, letters in answer.items()}


def _near(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= 0.01 * wanted


EXERCISES = {
    "5.3.a": Exercise(
        right=lambda answer: _letters(answer) == _letters(FIRES),
        hint="Write down the series `up` in each situation first: how many are there, and what is their value?",
        near_misses=[
            (_if(lambda answer: answer.keys() != FIRES.keys()), "Keep the four situations as keys."),
            (
                _if(lambda answer: "A" in _letters(answer)["no pod is left"]),
                "Without a pod there is no series `up` at all. Nothing can equal 0 then.",
            ),
            (
                _if(lambda answer: "B" in _letters(answer)["the only pod does not answer"]),
                "A pod that does not answer has a series `up` with the value 0. It is there, so it is not absent.",
            ),
            (
                _if(lambda answer: "C" in _letters(answer)["one of two pods does not answer"]),
                "`up == 1` keeps the series of the pod that answers. What is left is not absent.",
            ),
            (
                _if(lambda answer: "A" not in _letters(answer)["one of two pods does not answer"]),
                "A is true for each series that is 0, however many others are 1.",
            ),
        ],
    ),
    "5.3.b": Exercise(
        right=lambda answer: _near(answer["hours"], HOURS) and _near(answer["share"], SHARE),
        hint="At a burn rate of 1 the budget lasts exactly as long as the window of the promise.",
        near_misses=[
            (
                _if(lambda answer: _near(answer["hours"], 30 / 14.4)),
                "That is the number of days; the answer is in hours.",
            ),
            (
                _if(lambda answer: _near(answer["share"], 100 * SHARE)),
                "Give the share as a number from 0 to 1.",
            ),
            (
                _if(lambda answer: _near(answer["share"], 14.4 * 0.001)),
                "That is the share of the requests that fail. How much of the whole budget is that in one hour?",
            ),
            (
                _if(lambda answer: _near(answer["hours"], HOURS)),
                "The hours are right. One hour is which part of them?",
            ),
        ],
    ),
}
