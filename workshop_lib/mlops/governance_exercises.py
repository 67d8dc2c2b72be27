"""Exercises of the notebook on governance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workshop_lib.exercises import Exercise
from workshop_lib.mlops.risk import Answers, assess

USES = {
    "units of bananas tomorrow": Answers(practices=(), safety_component=False, areas=(), talks_to_people=False,
                                         generates=()),
    "a chat window for customers": Answers(practices=(), safety_component=False, areas=(), talks_to_people=True,
                                           obviously_a_machine=False, generates=("text",)),
    "whether a customer may pay later": Answers(practices=(), safety_component=False, areas=("essential services",),
                                                profiles_people=True, talks_to_people=False, generates=()),
    "which applicants are invited": Answers(practices=(), safety_component=False, areas=("employment",),
                                            narrow_task=True, profiles_people=True, talks_to_people=False,
                                            generates=()),
    "offers that use people's debts against them": Answers(practices=("vulnerability",), safety_component=False,
                                                           areas=(), talks_to_people=False, generates=()),
    "a churn score for coupons": Answers(practices=(), safety_component=False, areas=(), profiles_people=True,
                                         talks_to_people=False, generates=()),
}  # fmt: skip
"""What a shop could use AI for, for exercise A."""
_CATEGORIES = {use: assess(use, answers).category for use, answers in USES.items()}
_MAY_SERVE = {
    "ana built and submitted it, carlos approved it": True,
    "ana submitted it, olga approved it": False,
    "carlos built it, ana submitted it, carlos approved it": False,
    "it was approved, then somebody exchanged the gate report": False,
    "it was replaced last week, and now they want it back": True,
}


def _said(answers: dict[str, Any], case: str) -> Callable[[Any], bool]:
    """Whether one case is answered otherwise than it should be."""
    return lambda answer: bool(answer[case] != answers[case])


EXERCISES = {
    "6.6.a": Exercise(
        right=lambda answer: answer == _CATEGORIES,
        hint="Ask in this order: a practice of Article 5? A use of Annex III? Does it talk to people or make content?",
        near_misses=[
            (lambda answer: answer.keys() != _CATEGORIES.keys(), "Keep the six uses as keys."),
            (
                _said(_CATEGORIES, "offers that use people's debts against them"),
                "To exploit a social or economic situation to people's harm is a practice of Article 5(1)(b).",
            ),
            (
                _said(_CATEGORIES, "which applicants are invited"),
                "A narrow task would be an exception. But it judges persons, and then there is none (Article 6(3)).",
            ),
            (
                _said(_CATEGORIES, "whether a customer may pay later"),
                "That is creditworthiness: Annex III, point 5(b).",
            ),
            (
                _said(_CATEGORIES, "a churn score for coupons"),
                "It judges persons, but its use stands nowhere in Annex III. Look at the reasons of household-churn.",
            ),
        ],
    ),
    "6.6.b": Exercise(
        right=lambda answer: answer == _MAY_SERVE,
        hint="Three questions: may the person approve? Is it somebody else than the author? Is the evidence the same?",
        near_misses=[
            (lambda answer: answer.keys() != _MAY_SERVE.keys(), "Keep the five situations as keys."),
            (_said(_MAY_SERVE, "ana submitted it, olga approved it"), "Olga is an operator. Who has the right?"),
            (
                _said(_MAY_SERVE, "carlos built it, ana submitted it, carlos approved it"),
                "Carlos may approve, but not what he made himself.",
            ),
            (
                _said(_MAY_SERVE, "it was replaced last week, and now they want it back"),
                "A version that was replaced is approved as before. Otherwise nobody could roll back at night.",
            ),
        ],
    ),
}
