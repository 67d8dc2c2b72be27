"""Exercises of the notebook on business impact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy_financial as npf  # type: ignore[import-untyped]

from workshop_lib.exercises import Exercise

SALAD = {"price": 3.0, "bought for": 1.5, "sold off for": 0.9}
"""Dollars per head of lettuce, for exercise A: what is left in the evening is sold off."""
FLOWS, RATE = (-300.0, 100.0, 150.0, 150.0), 0.10
"""Thousands of dollars from year 0 on, for exercise B."""

_SHORT, _LEFT = SALAD["price"] - SALAD["bought for"], SALAD["bought for"] - SALAD["sold off for"]
_RATIO = _SHORT / (_SHORT + _LEFT)
_NPV = float(npf.npv(RATE, FLOWS))
_COME_BACK = 2 + 50 / 150
ANSWERS = {"6.7.a": _RATIO, "6.7.b": {"npv": _NPV, "payback": _COME_BACK}}
"""What is right."""


def _near(value: float, within: float = 0.005) -> Callable[[Any], bool]:
    return lambda answer: abs(float(answer) - value) < within


def _npv(value: float) -> Callable[[Any], bool]:
    return lambda answer: abs(float(answer["npv"]) - value) < 0.5


def _payback(value: float) -> Callable[[Any], bool]:
    return lambda answer: abs(float(answer["payback"]) - value) < 0.02


EXERCISES = {
    "6.7.a": Exercise(
        right=_near(_RATIO),
        hint="short / (short + left): what you lose on a head too few, and on a head too many.",
        near_misses=[
            (
                _near(_SHORT / (_SHORT + SALAD["bought for"])),
                "A head left over is not lost: it still brings what it is sold off for.",
            ),
            (
                _near(SALAD["price"] / (SALAD["price"] + _LEFT)),
                "A head too few does not cost its price: you also did not have to buy it.",
            ),
            (_near(1 - _RATIO), "That is the probability of having too little; we want that of having enough."),
            (_near(_SHORT / _LEFT), "Divide by the sum of both, so that a probability comes out."),
            (_near(100 * _RATIO, 0.5), "As a share between 0 and 1, please."),
        ],
    ),
    "6.7.b": Exercise(
        right=lambda answer: _npv(_NPV)(answer) and _payback(_COME_BACK)(answer),
        hint='Hand over {"npv": …, "payback": …}: thousands of dollars, and years.',
        near_misses=[
            (_npv(sum(FLOWS)), "That is the plain sum. A dollar in three years is worth less than one today."),
            (_npv(_NPV / (1 + RATE)), "Year 0 is today: it is not discounted. See which year the first flow gets."),
            (
                lambda answer: _npv(_NPV)(answer) and _payback(3)(answer),
                "The NPV is right. After year 2 only 50 are missing, and year 3 brings 150: how much of it is needed?",
            ),
            (_npv(_NPV), "The NPV is right. For the payback add up the plain flows until the sum reaches zero."),
            (_payback(_COME_BACK), "The payback is right. For the NPV divide each year's flow by 1.10 to its year."),
        ],
    ),
}
