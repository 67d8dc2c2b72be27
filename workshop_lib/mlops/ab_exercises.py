"""Exercises of the notebook on A/B tests and canaries."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, nan
from typing import Any

from workshop_lib.exercises import Exercise
from workshop_lib.mlops.experiments import sample_size

BASE, LIFT, TREATED_SHARE = 0.10, 0.03, 0.2
"""Of exercise A: what is redeemed now, what is hoped for, and how many get the new leaflet."""
ANSWERS = {"[0.004]": [0.004], "[0.31]": [0.31], "[]": [], "[nan]": [nan]}
"""Of exercise B: what Prometheus may say about the share of errors."""

_CONTROL = sample_size(BASE, LIFT, ratio=TREATED_SHARE / (1 - TREATED_SHARE))
_TOTAL = ceil(_CONTROL / (1 - TREATED_SHARE))
_EQUAL = sample_size(BASE, LIFT)
_PHASES = {"[0.004]": "successful", "[0.31]": "failed", "[]": "inconclusive", "[nan]": "inconclusive"}


def _near(value: float) -> Callable[[Any], bool]:
    return lambda answer: abs(float(answer) - value) <= 2


EXERCISES = {
    "6.3.a": Exercise(
        right=_near(_TOTAL),
        hint="sample_size gives the control; ratio is treated per control. Then add the treated.",
        near_misses=[
            (_near(_CONTROL), "That is the control alone. The households with the new leaflet count, too."),
            (_near(2 * _EQUAL), "That is for two equal halves. Here a fifth gets the new leaflet: use ratio."),
            (_near(_EQUAL), "That is one of two equal halves. Here a fifth gets the new leaflet: use ratio."),
            (
                _near(sample_size(BASE, LIFT, ratio=TREATED_SHARE) * (1 + TREATED_SHARE)),
                "ratio is treated per control, not per household: a fifth against four fifths.",
            ),
        ],
    ),
    "6.3.b": Exercise(
        right=lambda answer: answer == _PHASES,
        hint="Put each answer into both conditions of the gate. What if neither holds?",
        near_misses=[
            (lambda answer: answer.keys() != _PHASES.keys(), "Keep the four answers as keys."),
            (
                lambda answer: answer["[]"] == "successful" or answer["[nan]"] == "successful",
                "No answer is no good news. Both conditions ask for a number first.",
            ),
            (
                lambda answer: answer["[]"] == "failed" or answer["[nan]"] == "failed",
                "failureCondition asks for a number first as well, so it does not hold here.",
            ),
        ],
    ),
}
