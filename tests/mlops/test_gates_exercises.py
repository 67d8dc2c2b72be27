"""The exercises on quality gates: the right answer, and a hint for each likely mistake."""

from __future__ import annotations

import pytest

from workshop_lib.exercises import check
from workshop_lib.mlops.gates_exercises import _DECISIONS, EXERCISES


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (5.5, ""),
        (5.2, "no more than their limit"),
        (4.5, "how many of the ten"),
        (3, "take the sum"),
        ("?", "take the sum"),
    ],
)
def test_a_score_by_hand(answer: object, words: str) -> None:
    feedback = check("6.2.a", answer)
    assert feedback.correct is not bool(words) and words in feedback.hint.lower()


def test_all_decisions_right() -> None:
    assert check("6.2.b", dict(_DECISIONS)).correct


@pytest.mark.parametrize(("situation", "wrong"), [
    ("score 9.5, one critical finding", "passed"),
    ("score 10, nobody answered for one package", "passed"),
    ("difference 0.15, interval 0.02 to 0.28", "failed"),
    ("difference 0.15, interval 0.12 to 0.19", "review"),
    ("P95 0.3 s, other programs took most of the machine", "failed"),
])  # fmt: skip
def test_a_wrong_decision_gets_its_own_hint(situation: str, wrong: str) -> None:
    hint = check("6.2.b", _DECISIONS | {situation: wrong}).hint
    assert hint != EXERCISES["6.2.b"].hint and not hint.startswith("Keep")
