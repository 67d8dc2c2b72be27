"""Exercises of notebook 03."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from workshop_lib.exercises import Exercise

_BOUGHT, _PLACES = 5, (1, 4)
_GAIN = sum(1 / math.log2(place + 1) for place in _PLACES)
_BEST = sum(1 / math.log2(place + 1) for place in range(1, _BOUGHT + 1))
_BEST_OF_HITS = sum(1 / math.log2(place + 1) for place in range(1, len(_PLACES) + 1))
_NATURAL = sum(1 / math.log(place + 1) for place in _PLACES)

_COSTS = {"coupon": (2.0, 0.2), "letter": (0.4, 0.05)}
_CASES = [(p / 100, float(v)) for p in range(0, 101, 5) for v in (0, 5, 10, 20, 30, 60, 120, 300)]


def _if(test: Callable[[Any], bool]) -> Callable[[object], bool]:
    """A test of whatever a learner handed over."""
    return test


def _near(value: float) -> Callable[[Any], bool]:
    return lambda answer: abs(float(answer) - value) < 0.005


def _gains(probability: float, value: float) -> dict[str, float]:
    return {name: probability * rate * value - cost for name, (cost, rate) in _COSTS.items()} | {"nothing": 0.0}


def _best(probability: float, value: float) -> set[str]:
    """The choices of the largest gain; several where they are equal but for rounding."""
    gains = _gains(probability, value)
    return {name for name, gain in gains.items() if gain >= max(gains.values()) - 1e-9}


def _chooses(answer: Any) -> bool:
    return all(answer(*case) in _best(*case) for case in _CASES)


def _loses(answer: Any) -> bool:
    """It contacts a household although that costs more than it brings."""
    return any(answer(*case) != "nothing" and _gains(*case)[answer(*case)] < -1e-9 for case in _CASES)


def _ignores_value(answer: Any) -> bool:
    return all(answer(p, 5.0) == answer(p, 300.0) for p, _ in _CASES) and len({answer(*case) for case in _CASES}) > 1


EXERCISES = {
    "4.3.a": Exercise(
        right=_near(_GAIN / _BEST),
        hint="Two hits, at the places 1 and 4: add 1 / log2(1 + place). Divide by the sum of the best possible list.",
        near_misses=[
            (_near(_GAIN), "That is the gain before it is normalised: divide by the best that a list could reach."),
            (
                _near(_GAIN / _BEST_OF_HITS),
                "You compare with two hits at the top. The household bought five products: the best list has them all.",
            ),
            (_near(_NATURAL / _BEST), "The discount uses the logarithm to base 2."),
            (_near(len(_PLACES) / _BOUGHT), "That is the share that was found (recall); the places count too."),
            (_near(len(_PLACES) / 10), "That is the share of the list that hits (precision); the places count too."),
            (_if(lambda answer: float(answer) > 1), "A normalised gain is at most 1."),
        ],
    ),
    "4.3.b": Exercise(
        right=_chooses,
        hint='A function of probability and value that returns "coupon", "letter" or "nothing": the largest gain wins.',
        near_misses=[
            (_if(lambda answer: not callable(answer)), "Hand over the function itself, without calling it."),
            (
                _if(lambda answer: any(answer(*case) not in {*_COSTS, "nothing"} for case in _CASES)),
                'It must always return "coupon", "letter" or "nothing".',
            ),
            (
                _ignores_value,
                "A household that spends a lot and one that spends little are not worth the same contact.",
            ),
            (_loses, "It pays for a contact that brings less than it costs: sometimes nothing is best."),
            (
                _if(lambda answer: "letter" not in {answer(*case) for case in _CASES}),
                "The letter keeps fewer, but it costs a fifth: look for households where it wins.",
            ),
            (
                _if(lambda answer: "coupon" not in {answer(*case) for case in _CASES}),
                "The coupon costs more and keeps four times as many: look for households where it wins.",
            ),
        ],
    ),
}
