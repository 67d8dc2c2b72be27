"""The exercises on A/B tests tell right from wrong, and help with the likeliest mistakes."""

from __future__ import annotations

import pytest

from workshop_lib.exercises import check
from workshop_lib.mlops import ab_exercises
from workshop_lib.mlops.canary import read_plan
from workshop_lib.mlops.experiments import sample_size

CONTROL = sample_size(ab_exercises.BASE, ab_exercises.LIFT, ratio=0.25)
EQUAL = sample_size(ab_exercises.BASE, ab_exercises.LIFT)


def test_the_whole_number_of_households_is_right() -> None:
    assert check("6.3.a", round(1.25 * CONTROL)).correct


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (CONTROL, "control alone"),
        (2 * EQUAL, "two equal halves"),
        (EQUAL, "one of two equal halves"),
        (1.2 * sample_size(ab_exercises.BASE, ab_exercises.LIFT, ratio=0.2), "a fifth against four fifths"),
        ("many", "sample_size gives the control"),
        (..., "sample_size gives the control"),
    ],
)
def test_wrong_sizes_get_a_hint(answer: object, hint: str) -> None:
    said = check("6.3.a", answer)
    assert not said.correct and hint in said.hint


def test_the_right_phases_are_those_of_the_file() -> None:
    gate = read_plan().steps[0].gates[0]
    assert check("6.3.b", {name: gate.judge(values) for name, values in ab_exercises.ANSWERS.items()}).correct


@pytest.mark.parametrize(
    ("changed", "hint"),
    [
        ({"[]": "successful"}, "no good news"),
        ({"[nan]": "failed"}, "failureCondition asks for a number"),
        ({"[0.31]": "successful"}, "both conditions"),
        ({"more": "failed"}, "Keep the four answers"),
    ],
)
def test_wrong_phases_get_a_hint(changed: dict[str, str], hint: str) -> None:
    right = {"[0.004]": "successful", "[0.31]": "failed", "[]": "inconclusive", "[nan]": "inconclusive"}
    said = check("6.3.b", right | changed)
    assert not said.correct and hint in said.hint
