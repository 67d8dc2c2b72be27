"""Exercises of notebook 1: the right answers, and a hint for each foreseen mistake."""

from typing import Any

import pytest

from workshop_lib.monitoring.metrics_exercises import EXERCISES, LOOKS, TYPES


def hint(exercise: str, answer: Any) -> str:
    """What a wrong answer is told; empty for a right one."""
    found = EXERCISES[exercise]
    if found.right(answer):
        return ""
    return next((text for mistaken, text in found.near_misses if mistaken(answer)), found.hint)


def test_the_right_answers() -> None:
    total, last = 0, LOOKS[0][1]
    for _, value in LOOKS[1:]:
        total, last = total + (value - last if value >= last else value), value
    assert hint("5.1.a", TYPES) == hint("5.1.b", total) == ""


@pytest.mark.parametrize(
    ("exercise", "answer", "says"),
    [
        ("5.1.a", TYPES | {"memory in use": "counter"}, "gives memory back"),
        ("5.1.a", TYPES | {"time to an answer": "gauge"}, "95 of 100"),
        ("5.1.a", TYPES | {"time to an answer": "summary"}, "The values are"),
        ("5.1.a", {"memory in use": "gauge"}, "Keep the five"),
        ("5.1.b", -850, "never falls"),
        ("5.1.b", 120, "from the restart"),
        ("5.1.b", 90, "Before it"),
        ("5.1.b", 1090, "before 09:00"),
        ("5.1.b", 7, "Add up"),
    ],
)
def test_mistakes_are_explained(exercise: str, answer: Any, says: str) -> None:
    assert says in hint(exercise, answer)
