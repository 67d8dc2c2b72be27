"""Exercises of notebook 02."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import ValidationError

from workshop_lib.exercises import Exercise

_KNOBS = {"temperature", "max_tokens", "top_p", "seed", "stop", "n"}
_GOOD = {"stars": 4, "language": "es", "summary": "Rico y fresco."}
_LATER, _NEVER = (408, 429, 500, 502, 503, 504), (400, 401, 403, 404, 422)


def _knobs(test: Callable[[dict[str, Any]], bool]) -> Callable[[Any], bool]:
    """A test of a dictionary of sampling parameters."""
    return test


def _accepts(form: Any, **changes: object) -> bool:
    try:
        form.model_validate(_GOOD | changes)
    except ValidationError:
        return False
    return True


def _keeps_the_rules(form: Any) -> bool:
    wrong: Iterable[dict[str, object]] = (
        {"stars": 0},
        {"stars": 6},
        {"stars": 2.5},
        {"language": "fr"},
        {"language": ""},
        {"summary": None},
    )
    return _accepts(form) and not any(_accepts(form, **change) for change in wrong)


def _says(expected: dict[int, bool]) -> Callable[[Any], bool]:
    return lambda answer: all(bool(answer(status)) is wanted for status, wanted in expected.items())


EXERCISES = {
    "2.2.a": Exercise(
        right=_knobs(
            lambda knobs: knobs["temperature"] == 0 and 1 <= knobs["max_tokens"] <= 3 and knobs.keys() <= _KNOBS
        ),
        hint="Two parameters: one for how the next token is drawn, one for where the answer ends.",
        near_misses=[
            (
                _knobs(lambda knobs: not knobs.keys() <= _KNOBS),
                "There is a name that the API does not know: it is ignored.",
            ),
            (
                _knobs(lambda knobs: "temperature" not in knobs and "seed" in knobs),
                "A seed repeats the same dice on the same server and load; there is a knob that needs no dice.",
            ),
            (
                _knobs(lambda knobs: bool(knobs) and knobs.get("temperature", 1) > 0),
                "Two nights may bring two answers: without a temperature of 0 the next token is drawn at random.",
            ),
            (
                _knobs(lambda knobs: bool(knobs) and knobs.get("max_tokens", 99) > 3),
                "The answer may get longer than three tokens.",
            ),
        ],
    ),
    "2.2.b": Exercise(
        right=_keeps_the_rules,
        hint="class Review(BaseModel): … with Literal for fields that have only a few values.",
        near_misses=[
            (lambda answer: not isinstance(answer, type), "Hand over the class itself, not an object of it."),
            (lambda answer: not _accepts(answer), f"It refuses a good review: {_GOOD}."),
            (lambda answer: _accepts(answer, stars=6) or _accepts(answer, stars=0), "It accepts 0 or 6 stars."),
            (lambda answer: _accepts(answer, language="fr"), "It accepts a review in a language other than en and es."),
        ],
    ),
    "2.2.c": Exercise(
        right=_says(dict.fromkeys(_LATER, True) | dict.fromkeys(_NEVER, False)),
        hint="Which statuses say that the request is at fault, and which that the server is?",
        near_misses=[
            (_says({429: False, 503: True}), "429 means too many requests: later there may be room."),
            (_says({400: True}), "A request at fault stays at fault: 400 to 499 will be refused again, but for 429."),
            (_says({503: False}), "503 means that the server is not ready: waiting may help."),
        ],
    ),
}
