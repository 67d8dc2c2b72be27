"""Exercises of the notebook on drift."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from workshop_lib.exercises import Exercise
from workshop_lib.monitoring.drift_distances import EMPTY

SHARES = (np.array([0.25, 0.25, 0.25, 0.25]), np.array([0.10, 0.20, 0.30, 0.40]))
"""Shares of four classes before and now, for exercise A."""
_DECISIONS = {
    "error 1.4 in one week, all else usual": "watch",
    "error 1.2 two weeks in a row": "retrain",
    "60% of the features three weeks in a row, error as usual": "retrain",
    "KS finds all features different (p < 0.001), PSI below 0.1": "nothing",
    "60% of the features this week, none the week before": "watch",
}


def _by_hand(before: np.ndarray, now: np.ndarray) -> float:
    before, now = np.maximum(before, EMPTY), np.maximum(now, EMPTY)
    return float(np.sum((now - before) * np.log(now / before)))


_RIGHT = _by_hand(*SHARES)
_ONE_WAY = float(np.sum(SHARES[1] * np.log(SHARES[1] / SHARES[0])))
_OTHER_WAY = float(np.sum(SHARES[0] * np.log(SHARES[0] / SHARES[1])))


def _near(value: float) -> Callable[[Any], bool]:
    return lambda answer: abs(float(answer) - value) < 0.002


def _decided(answer: Any, situation: str, wrong: str) -> bool:
    return bool(answer[situation] == wrong)


EXERCISES = {
    "5.2.a": Exercise(
        right=_near(_RIGHT),
        hint="Per class: (now - before) * ln(now / before). Then the sum over the four classes.",
        near_misses=[
            (_near(_RIGHT / np.log(10)), "That is the logarithm to base 10; PSI takes the natural one, np.log."),
            (_near(-_RIGHT), "The sign is the wrong way round: both factors need the same order, now and before."),
            (
                lambda answer: _near(_ONE_WAY)(answer) or _near(_OTHER_WAY)(answer),
                "That is one direction only. The factor in front of the logarithm is the difference of the shares.",
            ),
            (lambda answer: np.size(answer) == len(SHARES[0]), "These are the four parts; hand over their sum."),
        ],
    ),
    "5.2.b": Exercise(
        right=lambda answer: answer == _DECISIONS,
        hint="Go through the four rules from the top. The first one that holds decides.",
        near_misses=[
            (lambda answer: answer.keys() != _DECISIONS.keys(), "Keep the five situations as keys."),
            (
                lambda answer: _decided(answer, "error 1.4 in one week, all else usual", "retrain"),
                "One loud week makes no retraining, however loud: it may be a feast.",
            ),
            (
                lambda answer: _decided(answer, "60% of the features this week, none the week before", "retrain"),
                "Rule 2 wants the share in two weeks in a row.",
            ),
            (
                lambda answer: (
                    answer["KS finds all features different (p < 0.001), PSI below 0.1"] in ("watch", "retrain")
                ),
                "Look at the plot of the p-value again: with many rows it is small for any difference, however slight.",
            ),
            (
                lambda answer: (
                    answer["60% of the features three weeks in a row, error as usual"] in ("watch", "nothing")
                ),
                "Rule 2 does not ask for the error: actual sales come later than inputs.",
            ),
            (
                lambda answer: answer["error 1.2 two weeks in a row"] in ("watch", "nothing"),
                "Compare 1.2 with the limit `concept`, and count the weeks.",
            ),
        ],
    ),
}
