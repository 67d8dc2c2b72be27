"""Exercises of notebook 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from workshop_lib.exercises import Exercise

TYPES = {
    "forecasts made": "counter",
    "requests that wait now": "gauge",
    "time to an answer": "histogram",
    "coupons redeemed": "counter",
    "memory in use": "gauge",
}
LOOKS = (("09:00", 940), ("09:05", 1000), ("09:10", 30), ("09:15", 90))
"""What a counter of answers showed at four looks; in between, the process was restarted once."""
_INCREASE = 60 + 30 + 60


def _wrong_at(answer: Mapping[str, str], name: str) -> bool:
    return answer[name] != TYPES[name]


def _at(name: str) -> Callable[[Any], bool]:
    return lambda answer: _wrong_at(answer, name)


def _is(number: float) -> Callable[[Any], bool]:
    return lambda answer: math.isclose(float(answer), number, rel_tol=1e-6)


EXERCISES = {
    "5.1.a": Exercise(
        right=lambda answer: dict(answer) == TYPES,
        hint="Can it fall? Then it is a gauge. Do you want its distribution? Then it is a histogram. Else a counter.",
        near_misses=[
            (lambda answer: set(answer) != set(TYPES), "Keep the five quantities as keys."),
            (
                lambda answer: not set(answer.values()) <= {"counter", "gauge", "histogram"},
                'The values are "counter", "gauge" or "histogram".',
            ),
            (_at("time to an answer"), "You will want to know the time within which 95 of 100 answers came."),
            (_at("requests that wait now"), "Their number rises and falls."),
            (_at("memory in use"), "A process gives memory back."),
            (_at("coupons redeemed"), "A coupon that was redeemed stays redeemed."),
        ],
    ),
    "5.1.b": Exercise(
        right=_is(_INCREASE),
        hint="Add up what came between each two looks. After a restart a counter begins at zero.",
        near_misses=[
            (_is(90 - 940), "A counter never falls. When it is smaller than before, the process was restarted."),
            (_is(60 + 60), "The answers from the restart to the look at 09:10 are missing."),
            (_is(90), "That is what came after the restart. Before it there were some as well."),
            (_is(1000 + 90), "The answers before 09:00 do not count."),
        ],
    ),
}
