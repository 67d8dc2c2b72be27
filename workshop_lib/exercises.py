"""Exercises: an answer is checked against what is right, and a near miss gets a hint.

    check("1.1.a", answer)

Each module keeps its exercises in ``EXERCISES`` of its own room (for module 1,
``workshop_lib.predictive.exercises``); a notebook holds only the question and the answer cells.
A wrong answer never raises: it shows the hint and lets the notebook go on. What the learner begins with is
made from the solution by :func:`unsolved`, so that the two cannot drift apart.
"""

from __future__ import annotations

import ast
import html
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import FunctionType
from typing import Any

from workshop_lib.messages import translate

_ROOMS = {
    "1": "workshop_lib.predictive.exercises",
    "2": "workshop_lib.generative.exercises",
    "3": "workshop_lib.serving.exercises",
    "4": "workshop_lib.orchestration.exercises",
    "5": "workshop_lib.optimization.exercises",
    "6": "workshop_lib.mlops.exercises",
}


@dataclass(frozen=True)
class Exercise:
    """What makes an answer right, and what to say about the likeliest wrong ones."""

    right: Callable[[Any], bool]
    hint: str
    """For an answer that is missing or wrong in no foreseen way."""
    near_misses: Sequence[tuple[Callable[[Any], bool], str]] = ()
    """Tests for foreseen mistakes with the hint that helps each."""


WORDS = ("Exercise", "correct", "not yet.")
"""What feedback says itself, beside the hint."""


@dataclass(frozen=True)
class Feedback:
    """The result of :func:`check`."""

    exercise: str
    correct: bool
    hint: str = ""

    def __repr__(self) -> str:
        return f"{translate('Exercise')} {self.exercise}: {self._said()}"

    def _repr_html_(self) -> str:
        return f"<b>{translate('Exercise')} {self.exercise}</b>: {html.escape(self._said())}"

    def _said(self) -> str:
        return translate("correct") if self.correct else f"{translate('not yet.')} {translate(self.hint)}"


def check(exercise: str, answer: object) -> Feedback:
    """Tell whether an answer is right.

    Args:
        exercise: its number, such as ``"1.1.a"`` (module, notebook, letter).
        answer: what the learner's cell computed; as :func:`unsolved` has made it while it is unanswered.

    Raises:
        KeyError: when there is no exercise of that number.
    """
    found = _find(exercise)
    if _is_unanswered(answer):
        return Feedback(exercise, False, found.hint)
    if _holds(found.right, answer):
        return Feedback(exercise, True)
    for mistaken, hint in found.near_misses:
        if _holds(mistaken, answer):
            return Feedback(exercise, False, hint)
    return Feedback(exercise, False, found.hint)


def unsolved(solution: str) -> str:
    """What the answer's cell holds before it is answered.

    Of a function that is its first line, of a dictionary of cases (with a key that could not be a name) its keys, and
    of any other value its name.

    Args:
        solution: the code of a solution, whose last line is ``check(number, answer)``.

    Raises:
        ValueError: when it does not end so.
    """
    *before, last = ast.parse(solution).body
    match last:
        case ast.Expr(ast.Call(func=ast.Name("check"), args=[ast.Constant(str(number)), answer])):
            name = answer.id if isinstance(answer, ast.Name) else f"answer_{number[-1]}"
        case _:
            raise ValueError(f"A solution ends in check(number, answer), not in: {ast.unparse(last)}")
    for one in before:
        match one:
            case ast.FunctionDef(made, arguments, returns=kind) if made == name:
                arrow = f" -> {ast.unparse(kind)}" if kind else ""
                head = f"def {name}({ast.unparse(arguments)}){arrow}:"
                return f'{head}\n    return ...\n\n\ncheck("{number}", {name})'
            case ast.ClassDef(made) if made == name:
                name = f"answer_{number[-1]}"
            case ast.Assign([ast.Name(made)], value) if made == name:
                answer = value
    return f'{name} = {_cases(answer) or "..."}\ncheck("{number}", {name})'


def _cases(answer: ast.expr) -> str:
    """A dictionary of cases without their values; empty for anything else."""
    keys = [key.value for key in answer.keys if isinstance(key, ast.Constant)] if isinstance(answer, ast.Dict) else []
    if all(str(key).isidentifier() for key in keys):
        return ""
    return "\n".join(["{", *(f"    {json.dumps(key, ensure_ascii=False)}: ...," for key in keys), "}"])


def all_exercises() -> dict[str, Exercise]:
    """Every exercise of the course by its number."""
    return {number: one for room in _ROOMS.values() for number, one in import_module(room).EXERCISES.items()}


def _is_unanswered(answer: object) -> bool:
    """Whether an answer is as :func:`unsolved` has made it."""
    if isinstance(answer, dict):
        return bool(answer) and all(value is ... for value in answer.values())
    if isinstance(answer, FunctionType):
        return not answer.__code__.co_names and ... in answer.__code__.co_consts
    return answer is None or answer is ...


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
