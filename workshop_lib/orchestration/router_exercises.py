"""The router's exercise in notebook 04."""

from __future__ import annotations

from typing import Any

from workshop_lib.exercises import Exercise

_CASES = (
    # choice of the model, chains that the question gives what they need, choice of the rules: what should come out
    (("product", {"product", "none"}, "none"), "product"),
    (("market", {"market", "none"}, "market"), "market"),
    (("customer", {"product", "none"}, "product"), "product"),
    (("customer", {"none"}, "none"), "none"),
    ((None, {"product", "none"}, "product"), "product"),
    (("none", {"customer", "none"}, "customer"), "none"),
    (("finance", {"market", "none"}, "market"), "market"),
)


def _wrong(answer: Any) -> list[int]:
    return [place for place, (case, right) in enumerate(_CASES) if answer(*case) != right]


def _like(answer: Any, other: Any) -> bool:
    return all(answer(*case) == other(*case) for case, _ in _CASES)


EXERCISES = {
    "4.4.c": Exercise(
        right=lambda answer: not _wrong(answer),
        hint="A function of three arguments: chosen, possible, rules. It returns the name of a chain.",
        near_misses=[
            (lambda answer: not callable(answer), "Hand over the function itself, without calling it."),
            (
                lambda answer: _like(answer, lambda chosen, possible, rules: chosen),
                "That believes the model. What if it chooses a chain that the question gives nothing to?",
            ),
            (
                lambda answer: _like(answer, lambda chosen, possible, rules: rules),
                "That never listens to the model. Where its choice is possible, it should count.",
            ),
            (
                lambda answer: _like(
                    answer, lambda chosen, possible, rules: chosen if chosen in possible else "none"
                ),
                "A choice that is not possible leaves the decision to the rules, which may know better than none.",
            ),
            (
                lambda answer: _like(
                    answer, lambda chosen, possible, rules: chosen if chosen is not None else rules
                ),
                "A choice may be there and still not be possible.",
            ),
            (lambda answer: _wrong(answer) == [5], "The chain none is always possible, and the model may choose it."),
        ],
    ),
}  # fmt: skip
