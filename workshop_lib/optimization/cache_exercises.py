"""Exercises of the notebook about the cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from workshop_lib.exercises import Exercise

_IN_THE_KEY = {
    "model version": True,
    "request id": False,
    "data": True,
    "plan": True,
    "time of day": False,
    "backend": True,
}
WITHOUT, HIT, MISS = 10.0, 1.0, 12.0
"""Milliseconds of an answer in exercise B: without a cache, and with one."""
_FROM = (MISS - WITHOUT) / (MISS - HIT)


def _if(test: Callable[[Any], bool]) -> Callable[[object], bool]:
    """A test of whatever a learner handed over."""
    return test


def _wrongly(answer: Any, said: bool) -> set[str]:
    """Parts about which a learner wrongly said yes (or no)."""
    return {name for name, right in _IN_THE_KEY.items() if answer[name] is said and right is not said}


def _is(share: float) -> Callable[[object], bool]:
    return _if(lambda answer: math.isclose(answer, share, abs_tol=0.005))


EXERCISES = {
    "5.6.a": Exercise(
        right=lambda answer: answer == _IN_THE_KEY,
        hint="For each part: could the right answer differ when only this part differs? Then it belongs in the key.",
        near_misses=[
            (
                _if(lambda answer: answer.keys() != _IN_THE_KEY.keys()),
                "Keep the six parts as keys, with True or False.",
            ),
            (
                _if(lambda answer: bool(_wrongly(answer, True) & {"request id"})),
                "Each request has another ID. With it in the key no two questions would ever be equal.",
            ),
            (
                _if(lambda answer: bool(_wrongly(answer, True))),
                "A forecast is the same at nine and at ten. That it gets old is a matter of the time to live.",
            ),
            (
                _if(lambda answer: _wrongly(answer, False) == {"backend"}),
                "Think of a canary: two backends answer the same question, and each has to get its share of it.",
            ),
            (
                _if(lambda answer: bool(_wrongly(answer, False))),
                "One part that you left out changes the answer: somebody would get the answer to another question.",
            ),
        ],
    ),
    "5.6.b": Exercise(
        right=_is(_FROM),
        hint="The mean time with the cache is h · hit + (1 - h) · miss. For which h does it equal the time without?",
        near_misses=[
            (_if(lambda answer: not isinstance(answer, int | float)), "Hand over a number."),
            (_if(lambda answer: 1 < answer <= 100), "A share lies between 0 and 1."),
            (_is(1 - _FROM), "That is the share of misses from which the cache no longer pays."),
            (_is((MISS - WITHOUT) / MISS), "A hit is not free: it takes a millisecond too."),
            (
                _is((MISS - WITHOUT) / WITHOUT),
                "That is by how much a miss is slower. How many hits does it take to make up for it?",
            ),
        ],
    ),
}
