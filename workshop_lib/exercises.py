"""Exercises: an answer is checked against what is right, and a near miss gets a hint.

    check("1.1.a", answer)

Each module keeps its exercises in ``EXERCISES`` of its own room (for module 1,
``workshop_lib.predictive.exercises``); a notebook holds only the question and the answer cells.
A wrong answer never raises: it shows the hint and lets the notebook go on.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

_ROOMS = {
    "1": "workshop_lib.predictive.exercises",
    "2": "workshop_lib.generative.exercises",
    "3": "workshop_lib.serving.exercises",
    "4": "workshop_lib.orchestration.exercises",
}


@dataclass(frozen=True)
class Exercise:
    """What makes an answer right, and what to say about the likeliest wrong ones."""

    right: Callable[[Any], bool]
    hint: str
    """For an answer that is missing or wrong in no foreseen way."""
    near_misses: Sequence[tuple[Callable[[Any], bool], str]] = ()
    """Tests for foreseen mistakes with the hint that helps each."""


@dataclass(frozen=True)
class Feedback:
    """The result of :func:`check`."""

    exercise: str
    correct: bool
    hint: str = ""

    def __repr__(self) -> str:
        return f"Exercise {self.exercise}: {'correct' if self.correct else f'not yet. {self.hint}'}"

    def _repr_html_(self) -> str:
        return f"<b>Exercise {self.exercise}</b>: {html.escape(repr(self).split(': ', 1)[1])}"


def check(exercise: str, answer: object) -> Feedback:
    """Tell whether an answer is right.

    Args:
        exercise: its number, such as ``"1.1.a"`` (module, notebook, letter).
        answer: what the learner's cell computed; ``None`` or ``...`` while it is unanswered.

    Raises:
        KeyError: when there is no exercise of that number.
    """
    found = _find(exercise)
    if answer is None or answer is ...:
        return Feedback(exercise, False, found.hint)
    if _holds(found.right, answer):
        return Feedback(exercise, True)
    for mistaken, hint in found.near_misses:
        if _holds(mistaken, answer):
            return Feedback(exercise, False, hint)
    return Feedback(exercise, False, found.hint)


def _find(exercise: str) -> Exercise:
    room = _ROOMS.get(exercise.split(".")[0])
    known: Mapping[str, Exercise] = import_module(room).EXERCISES if room else {}
    if exercise not in known:
        raise KeyError(f"There is no exercise {exercise!r}; known ones: {', '.join(sorted(known)) or 'none'}.")
    return known[exercise]


def _holds(test: Callable[[object], bool], answer: object) -> bool:
    """Run a test on whatever a learner wrote: an answer of another type is simply not it."""
    try:
        return bool(test(answer))
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError):
        return False
