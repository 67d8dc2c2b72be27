"""The exercises on governance take the right answers, and know the likeliest wrong ones."""

import pytest

from workshop_lib.exercises import check
from workshop_lib.mlops import governance_exercises as exercises

CATEGORIES = dict(exercises._CATEGORIES)
MAY_SERVE = dict(exercises._MAY_SERVE)


def test_the_right_answers_are_right() -> None:
    assert check("6.6.a", CATEGORIES).correct
    assert check("6.6.b", MAY_SERVE).correct
    assert set(CATEGORIES.values()) == {"minimal", "transparency", "high", "prohibited"}


@pytest.mark.parametrize(
    ("use", "category", "hint"),
    [
        ("which applicants are invited", "minimal", "Article 6(3)"),
        ("whether a customer may pay later", "transparency", "point 5(b)"),
        ("offers that use people's debts against them", "high", "5(1)(b)"),
        ("a churn score for coupons", "high", "nowhere in Annex III"),
    ],
)
def test_a_wrong_category_gets_its_hint(use: str, category: str, hint: str) -> None:
    feedback = check("6.6.a", CATEGORIES | {use: category})
    assert not feedback.correct and hint in feedback.hint


@pytest.mark.parametrize(
    ("case", "hint"),
    [
        ("ana submitted it, olga approved it", "operator"),
        ("carlos built it, ana submitted it, carlos approved it", "made himself"),
        ("it was replaced last week, and now they want it back", "roll back"),
        ("it was approved, then somebody exchanged the gate report", "Three questions"),
    ],
)
def test_a_wrong_decision_gets_its_hint(case: str, hint: str) -> None:
    feedback = check("6.6.b", MAY_SERVE | {case: not MAY_SERVE[case]})
    assert not feedback.correct and hint in feedback.hint


@pytest.mark.parametrize("answer", [..., None, {}, {"bananas": "minimal"}, 3])
def test_what_is_no_answer_is_not_right(answer: object) -> None:
    assert not check("6.6.a", answer).correct
    assert not check("6.6.b", answer).correct
