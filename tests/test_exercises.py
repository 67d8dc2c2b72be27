"""Exercises: right, nearly right, wrong, unanswered; and a hint instead of an error."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from workshop_lib import exercises
from workshop_lib.exercises import Exercise, check

HALF = Exercise(
    right=lambda answer: abs(answer - 0.5) < 1e-9,
    hint="Divide one by two.",
    near_misses=[(lambda answer: answer == 2, "The other way <round>."), (lambda a: a["x"], "Not a table.")],
)


@pytest.fixture(autouse=True)
def _a_room_with_one_exercise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "a_room", SimpleNamespace(EXERCISES={"1.1.a": HALF}))
    monkeypatch.setattr(exercises, "_ROOMS", {"1": "a_room"})


def test_a_right_answer() -> None:
    feedback = check("1.1.a", 0.5)
    assert feedback.correct
    assert repr(feedback) == "Exercise 1.1.a: correct"
    assert feedback._repr_html_() == "<b>Exercise 1.1.a</b>: correct"


def test_a_near_miss_gets_its_own_hint() -> None:
    feedback = check("1.1.a", 2)
    assert repr(feedback) == "Exercise 1.1.a: not yet. The other way <round>."
    assert "not yet. The other way &lt;round&gt;." in feedback._repr_html_()


@pytest.mark.parametrize(
    "answer",
    [None, ..., 3, "a half", [], {"y": 1}, np.array([0.5, 0.5]), float("nan"), float("inf"), lambda: 0.5],
    ids=repr,
)
def test_any_other_answer_gets_the_hint_and_never_an_error(answer: object) -> None:
    assert repr(check("1.1.a", answer)) == "Exercise 1.1.a: not yet. Divide one by two."


@pytest.mark.parametrize("error", [TypeError, ValueError, AttributeError, KeyError, IndexError, OverflowError])
def test_an_answer_that_the_test_cannot_take_is_not_right(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(answer: object) -> bool:
        raise error

    room = SimpleNamespace(EXERCISES={"1.1.a": Exercise(fails, "Hint.", [(fails, "Other hint.")])})
    monkeypatch.setitem(sys.modules, "a_room", room)
    assert check("1.1.a", 1).hint == "Hint."


@pytest.mark.parametrize(("name", "known"), [("1.1.z", "1.1.a"), ("9.1.a", "none")])
def test_an_unknown_number_names_the_known_ones(name: str, known: str) -> None:
    with pytest.raises(KeyError, match=f"{name}.*known ones: {known}"):
        check(name, 1)


# --- What a learner begins with is made from the solution ---------------------------------------------


@pytest.mark.parametrize(
    ("solution", "exercise"),
    [
        ('answer_a = 3 * 4\ncheck("1.1.a", answer_a)', 'answer_a = ...\ncheck("1.1.a", answer_a)'),
        ('short = 2\ncheck("1.1.b", short / 3)', 'answer_b = ...\ncheck("1.1.b", answer_b)'),
        (
            'def half(x: float) -> float:\n    return x / 2\n\n\ncheck("1.1.a", half)',
            'def half(x: float) -> float:\n    return ...\n\n\ncheck("1.1.a", half)',
        ),
        ('class Review(Base):\n    stars: int\n\n\ncheck("1.1.b", Review)', 'answer_b = ...\ncheck("1.1.b", answer_b)'),
        (
            'answer = {"no key": 401, "ok": 200}\ncheck("1.1.a", answer)',
            'answer = {\n    "no key": ...,\n    "ok": ...,\n}\ncheck("1.1.a", answer)',
        ),
        ('check("1.1.a", {"hours": 3})', 'answer_a = ...\ncheck("1.1.a", answer_a)'),
    ],
    ids=["value", "expression", "function", "class", "cases", "names"],
)
def test_an_exercise_is_its_solution_without_the_answer(solution: str, exercise: str) -> None:
    assert exercises.unsolved(solution) == exercise


def test_a_solution_ends_in_a_check() -> None:
    with pytest.raises(ValueError, match="ends in check"):
        exercises.unsolved("answer = 1")


def test_what_is_unanswered_gets_the_first_hint() -> None:
    def stub(x):  # type: ignore[no-untyped-def]
        return ...

    for answer in (stub, {"a b": ..., "c": ...}):
        assert "Divide one by two." in repr(check("1.1.a", answer))
