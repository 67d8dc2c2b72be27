"""Exercises of the notebook on quality gates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workshop_lib.exercises import Exercise
from workshop_lib.mlops.gate_config import load_gates
from workshop_lib.mlops.gate_result import Finding
from workshop_lib.mlops.gate_security import BEST, score

FOUND = {"high": 1, "medium": 2, "low": 40}
"""How many findings of each severity the scans of exercise A made."""
_DECISIONS = {
    "P95 0.3 s, the machine was quiet": "failed",
    "P95 0.3 s, other programs took most of the machine": "review",
    "score 9.5, one critical finding": "failed",
    "score 10, nobody answered for one package": "review",
    "difference 0.15, interval 0.12 to 0.19": "failed",
    "difference 0.15, interval 0.02 to 0.28": "review",
}
_POINTS = load_gates().security.deductions
_RIGHT = score([Finding(one, "", "") for one, count in FOUND.items() for _ in range(count)], _POINTS)  # type: ignore[arg-type]
_UNCAPPED = BEST - sum(getattr(_POINTS, one).each * count for one, count in FOUND.items())


def _near(value: float) -> Callable[[Any], bool]:
    return lambda answer: abs(float(answer) - value) < 0.005


def _said(situation: str, wrong: str) -> Callable[[Any], bool]:
    return lambda answer: bool(answer[situation] == wrong)


EXERCISES = {
    "6.2.a": Exercise(
        right=_near(_RIGHT),
        hint="For each severity: findings times points each, but no more than `at most`. Take the sum off ten.",
        near_misses=[
            (
                _near(_UNCAPPED),
                "The low findings together cost no more than their limit: see the column `at most`.",
            ),
            (_near(BEST - _RIGHT), "These are the points that are taken off. How many of the ten are left?"),
        ],
    ),
    "6.2.b": Exercise(
        right=lambda answer: answer == _DECISIONS,
        hint="First ask: is a limit missed beyond doubt? Only then: is a question open?",
        near_misses=[
            (lambda answer: answer.keys() != _DECISIONS.keys(), "Keep the six situations as keys."),
            (_said("score 9.5, one critical finding", "passed"), "A critical finding fails, whatever the score."),
            (
                _said("score 10, nobody answered for one package", "passed"),
                "Nobody said that this package is safe. Silence is no answer.",
            ),
            (
                _said("difference 0.15, interval 0.02 to 0.28", "failed"),
                "The true difference may well be below 0.1: the interval reaches down to 0.02. Who can tell?",
            ),
            (
                _said("difference 0.15, interval 0.12 to 0.19", "review"),
                "The whole interval lies above 0.1, so chance does not explain it.",
            ),
            (
                _said("P95 0.3 s, other programs took most of the machine", "failed"),
                "Was it the model that was slow, or the machine that was busy? The measurement cannot say.",
            ),
        ],
    ),
}
