"""The exercises of notebook 4 know right from wrong."""

from __future__ import annotations

import pytest

from workshop_lib.exercises import check

FILTER = "body.ref.startsWith('refs/heads/release/') && !body.head_commit.message.contains('[skip ci]')"


@pytest.mark.parametrize(("exercise", "answer"), [("6.4.a", ["notify"]), ("6.4.b", FILTER)])
def test_right_answers(exercise: str, answer: object) -> None:
    assert check(exercise, answer).correct


@pytest.mark.parametrize(
    ("exercise", "answer", "hint"),
    [
        ("6.4.a", ["rollback-staging", "notify"], "never run"),
        ("6.4.a", ["deploy-staging", "notify"], "no further task"),
        ("6.4.a", [], "in any case"),
        ("6.4.b", "body.ref.startsWith('release/')", "whole name"),
        ("6.4.b", "body.ref.startsWith('refs/heads/release/')", "still starts a run"),
        ("6.4.b", "body.ref.contains('release/') && !body.head_commit.message.contains('[skip ci]')", "my-release"),
        ("6.4.b", "!body.head_commit.message.contains('[skip ci]')", "my-release"),
        ("6.4.b", "body.wrong == 1", "does not pass"),
        ("6.4.b", "not an expression", "Two conditions"),
        ("6.4.b", 3, "Two conditions"),
    ],
)
def test_wrong_answers_get_the_hint_that_helps(exercise: str, answer: object, hint: str) -> None:
    found = check(exercise, answer)
    assert not found.correct and hint in found.hint
