"""Exercises of notebook 06."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from workshop_lib.exercises import Exercise

SUBSTITUTES = {
    "forecaster dead, asked this before": "last known",
    "forecaster dead, never asked this": "missing",
    "forecaster sends negative units": "last known",
    "language model invents a price": "template",
    "trace store locked": "nothing",
}
"""What stands in for what, by situation; in the third one too, the question was asked before."""

AVAILABLE = {"assistant": 0.999, "business API": 0.995, "forecaster": 0.99, "language model": 0.98}
"""Share of the time in which each service of exercise B is well."""
_WHOLE = 0.999 * 0.995 * 0.99 * 0.98
_CLOSE = 0.0005


def _if(test: Callable[[Any], bool]) -> Callable[[object], bool]:
    """A test of whatever a learner handed over."""
    return test


def _near(value: object, wanted: float) -> bool:
    return isinstance(value, int | float) and abs(value - wanted) < _CLOSE


def _available(answer: Mapping[str, float]) -> bool:
    return set(answer) == {"whole", "any"} and _near(answer["whole"], _WHOLE) and _near(answer["any"], 0.999)


EXERCISES = {
    "4.6.a": Exercise(
        right=lambda answer: answer == SUBSTITUTES,
        hint="Each value is one of: last known, missing, template, nothing. Look into the column substituted.",
        near_misses=[
            (_if(lambda answer: answer.keys() != SUBSTITUTES.keys()), "Keep the five situations as keys."),
            (
                _if(lambda answer: not set(answer.values()) <= set(SUBSTITUTES.values())),
                "The words are: last known, missing, template, nothing.",
            ),
            (
                _if(lambda answer: answer["forecaster sends negative units"] in ("nothing", "missing")),
                "The wrapper looks at the numbers before it believes them, and this question was asked before.",
            ),
            (
                _if(lambda answer: answer["forecaster dead, never asked this"] == "last known"),
                "Nothing can be last known that was never known.",
            ),
            (
                _if(lambda answer: answer["trace store locked"] != "nothing"),
                "Does anything of the answer come from the trace store?",
            ),
        ],
    ),
    "4.6.b": Exercise(
        right=_if(_available),
        hint='A dictionary {"whole": …, "any": …} of two shares between 0 and 1, with at least four decimals.',
        near_misses=[
            (_if(lambda answer: any(value > 1 for value in answer.values())), "Shares, not percent: 0.5 for half."),
            (
                _if(lambda answer: _near(answer["whole"], 0.98)),
                "As good as the weakest would be right if they always failed together. They fail independently.",
            ),
            (
                _if(lambda answer: _near(answer["whole"], 1 - (1 - 0.999) * (1 - 0.995) * (1 - 0.99) * (1 - 0.98))),
                "That is the chance that at least one is well. A whole answer needs all of them.",
            ),
            (
                _if(lambda answer: _near(answer["any"], answer["whole"])),
                "An answer with substitutes needs less: which service can nothing stand in for?",
            ),
            (
                _if(lambda answer: _near(answer["any"], 1.0)),
                "The assistant itself has to be well, and it is not always.",
            ),
            (_if(lambda answer: _near(answer["whole"], _WHOLE)), "whole is right. For any, ask who has no substitute."),
        ],
    ),
}
