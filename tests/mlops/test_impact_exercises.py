"""The exercises about money: what is right, and what is said about the likeliest mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from workshop_lib.mlops.finance import appraise, payback
from workshop_lib.mlops.impact_exercises import ANSWERS, EXERCISES, FLOWS, RATE

NPV = appraise([0, *FLOWS[1:]], [-FLOWS[0], 0, 0, 0], RATE).npv


def hint(exercise: str, answer: Any) -> str:
    """What a wrong answer is told; empty for a right one."""
    found = EXERCISES[exercise]
    if found.right(answer):
        return ""
    return next((text for mistaken, text in found.near_misses if mistaken(answer)), found.hint)


def test_the_right_answers() -> None:
    assert hint("6.7.a", 1.5 / 2.1) == hint("6.7.b", {"npv": NPV, "payback": payback(FLOWS)}) == ""
    assert all(hint(name, answer) == "" for name, answer in ANSWERS.items())


@pytest.mark.parametrize(
    ("exercise", "answer", "says"),
    [
        ("6.7.a", 0.5, "not lost"),
        ("6.7.a", 3 / 3.6, "did not have to buy"),
        ("6.7.a", 0.6 / 2.1, "too little"),
        ("6.7.a", 2.5, "sum of both"),
        ("6.7.a", 71.4, "between 0 and 1"),
        ("6.7.a", 0.1, "short / (short + left)"),
        ("6.7.b", {"npv": 100, "payback": 2.33}, "plain sum"),
        ("6.7.b", {"npv": NPV / 1.1, "payback": 2.33}, "Year 0 is today"),
        ("6.7.b", {"npv": NPV, "payback": 3}, "how much of it"),
        ("6.7.b", {"npv": NPV, "payback": 1}, "The NPV is right"),
        ("6.7.b", {"npv": 0, "payback": 2.333}, "The payback is right"),
        ("6.7.b", {"npv": 0, "payback": 0}, "Hand over"),
    ],
)
def test_mistakes_are_explained(exercise: str, answer: Any, says: str) -> None:
    assert says in hint(exercise, answer)
