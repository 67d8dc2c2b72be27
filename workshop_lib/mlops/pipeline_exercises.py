"""Exercises of notebook 4: what runs after a failure, and a filter for a trigger."""

from __future__ import annotations

from typing import Any

from workshop_lib.exercises import Exercise
from workshop_lib.mlops.triggers import Refused, evaluate

_PUSHES = {
    ("refs/heads/release/2018", "new features"): True,
    ("refs/heads/release/2018", "a typo [skip ci]"): False,
    ("refs/heads/main", "new features"): False,
    ("refs/heads/main", "a typo [skip ci]"): False,
    ("refs/heads/my-release/", "new features"): False,
}
"""Branch and message of a push, and whether it shall start a run."""


def _passes(expression: Any) -> dict[tuple[str, str], bool]:
    found = {}
    for ref, message in _PUSHES:
        try:
            found[ref, message] = evaluate(expression, {"ref": ref, "head_commit": {"message": message}}) is True
        except Refused:
            found[ref, message] = False
    return found


def _wrongly(answer: Any, ref: str, message: str) -> bool:
    return _passes(answer)[ref, message] != _PUSHES[ref, message]


EXERCISES = {
    "6.4.a": Exercise(
        right=lambda answer: list(answer) == ["notify"],
        hint="Read the `finally` part of the pipeline, and what `when` asks for. A list of names, please.",
        near_misses=[
            (
                lambda answer: "rollback-staging" in answer,
                "The tests have never run: their state is None and not Failed.",
            ),
            (
                lambda answer: bool({"deploy-staging", "integration-tests", "deploy-production"} & set(answer)),
                "After a failure no further task begins, except those of `finally`.",
            ),
            (
                lambda answer: len(answer) == 0,
                "The tasks of `finally` run in any case, unless their `when` says no.",
            ),
        ],
    ),
    "6.4.b": Exercise(
        right=lambda answer: _passes(answer) == _PUSHES,
        hint="Two conditions joined by &&: body.ref.startsWith('…') and !body.head_commit.message.contains('…').",
        near_misses=[
            (
                lambda answer: _wrongly(answer, "refs/heads/release/2018", "new features"),
                "A push to release/2018 does not pass. The field holds the whole name: refs/heads/release/2018.",
            ),
            (
                lambda answer: _wrongly(answer, "refs/heads/release/2018", "a typo [skip ci]"),
                "A message with [skip ci] still starts a run.",
            ),
            (
                lambda answer: _wrongly(answer, "refs/heads/my-release/", "new features"),
                "The branch my-release/ passes too: use startsWith, with the whole beginning of the name.",
            ),
            (lambda answer: _wrongly(answer, "refs/heads/main", "new features"), "A push to main passes too."),
        ],
    ),
}
