"""The exercises of notebook 04: churn with MLflow."""

from __future__ import annotations

from math import isclose
from typing import Any

from workshop_lib.exercises import Exercise

# Everything that `households` computes over the whole year.
_LEAKS = {"last_purchase", "recency_days", "baskets", "spend", "campaigns", "coupons_redeemed"}
_HARMLESS = {"household_id", "first_purchase", "age", "income", "household_size"}


def _columns(answer: Any) -> set[str]:
    return {answer} if isinstance(answer, str) else set(answer)


def _is(value: float) -> Any:
    return lambda answer: isclose(float(answer), value, abs_tol=0.005)


EXERCISES = {
    "1.4.a": Exercise(
        right=lambda answer: _columns(answer) == _LEAKS,
        hint="Take each column and ask: would its value be the same if the data ended on the day of the cutoff?",
        near_misses=(
            (
                lambda answer: bool(_columns(answer) & {"age", "income", "household_size"}),
                "Age, income and size do not depend on what the household buys after the cutoff.",
            ),
            (
                lambda answer: "first_purchase" in _columns(answer),
                "Every household in the table has bought before its cutoff, so its first purchase lies in the past.",
            ),
            (
                lambda answer: bool(_columns(answer)) and _columns(answer) < _LEAKS,
                "These do leak, but there are more: what else is counted or summed over the whole year?",
            ),
        ),
    ),
    "1.4.b": Exercise(
        right=_is(3 / (45 * 0.15)),
        hint="A contact pays when probability × success rate × value is more than its cost. Solve for the probability.",
        near_misses=(
            (_is(3 / 45), "That would be right if every leaving household stayed when contacted."),
            (_is(45 * 0.15 / 3), "The fraction is upside down: a probability cannot be above one."),
            (_is(3 * 0.15 / 45), "A low success rate makes contacts less useful, so it must raise the threshold."),
        ),
    ),
}
