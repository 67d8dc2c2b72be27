"""Exercises of notebook 03."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workshop_lib.exercises import Exercise
from workshop_lib.generative.quality import Quality, measure

OLIVES = {"product": "green olives", "brand": "store brand", "size": "7 ounces", "price": "$1.91"}

_GOOD = "Green olives from our store brand, ready for your table. The package holds 7 ounces and costs $1.91."
_NO_PRICE = "Green olives from our store brand, ready for your table at any time. The package holds 7 ounces."
_WRONG_PRICE = "Green olives from our store brand, ready for your table. The package holds 7 ounces and costs $2.91."
_EXTRA_CLAIM = f"Organic {_GOOD}"
_LONG = " ".join([_GOOD, *(f"They go well with dish number {word}." for word in ("red", "blue", "grey"))])


def _measured(test: Callable[[Quality], bool]) -> Callable[[Any], bool]:
    """A test of a text by what the measure says about it."""
    return lambda answer: isinstance(answer, str) and test(measure(answer, OLIVES))


def _passes(answer: Any, text: str) -> bool:
    return answer(measure(text, OLIVES)) is True


def _nearly_true(answer: Any) -> bool:
    said = answer(measure(_GOOD, OLIVES))
    return said is not True and said is not ... and bool(said)


def _right_gate(answer: Any) -> bool:
    held_back = (_NO_PRICE, _WRONG_PRICE, _EXTRA_CLAIM)
    return all(_passes(answer, text) for text in (_GOOD, _LONG)) and not any(
        _passes(answer, text) for text in held_back
    )


EXERCISES = {
    "2.3.a": Exercise(
        right=_measured(lambda quality: quality.score >= 0.95),
        hint="Two sentences of at least 15 words in all, with the product, the brand, the size and the price.",
        near_misses=[
            (_measured(lambda quality: not quality.words), "There is no text yet."),
            (
                _measured(lambda quality: bool(quality.invented_numbers)),
                "A number in your text is in no fact. Look at invented_numbers of measure(text, OLIVES).",
            ),
            (
                _measured(lambda quality: bool(quality.invented_claims)),
                "Your text claims something that no fact says. Look at invented_claims of measure(text, OLIVES).",
            ),
            (
                _measured(lambda quality: bool(quality.missing)),
                "A fact is not mentioned. Look at missing of measure(text, OLIVES).",
            ),
            (
                _measured(lambda quality: quality.length < 1),
                "All facts are there, but the length is not: 15 to 60 words.",
            ),
            (
                _measured(lambda quality: quality.prose < 1),
                "All facts are there, but it is a list. Write whole sentences with an end.",
            ),
        ],
    ),
    "2.3.b": Exercise(
        right=_right_gate,
        hint="Return True only when missing, invented_numbers and invented_claims are all empty.",
        near_misses=[
            (
                lambda answer: _passes(answer, _NO_PRICE) and not _passes(answer, _WRONG_PRICE),
                "A text without the price passes. A page needs every fact: look at missing.",
            ),
            (
                lambda answer: _passes(answer, _EXTRA_CLAIM) and not _passes(answer, _WRONG_PRICE),
                "A text that says organic passes, and nobody said so: look at invented_claims.",
            ),
            (
                _nearly_true,
                "Return True or False itself.",
            ),
            (
                lambda answer: all(_passes(answer, text) for text in (_GOOD, _WRONG_PRICE)),
                "A text with a wrong price passes. An average hides a lie: look at invented_numbers.",
            ),
        ],
    ),
}
