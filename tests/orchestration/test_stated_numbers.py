"""Numbers of a text that are none of its answer's figures."""

import datetime as dt

import pytest
from pydantic import Field

from workshop_lib.orchestration.results import DATA, Answer, Source, Text
from workshop_lib.orchestration.stated_numbers import unstated_numbers


class Analysis(Answer):
    """An answer as chains give them."""

    category: str = "EGGS"
    sold: float = 1234.4
    share: float = 0.125
    price: float | None = 1.99
    day: dt.date = dt.date(2018, 1, 5)
    facts: dict[str, str] = Field({"size": "18 pieces"})
    weekdays: dict[int, float] = Field({0: 0.5})
    products: tuple[str, ...] = ("a", "b", "c")
    usable: bool = True
    summary: Text


def analysis(text: str) -> Analysis:
    source = Source(kind="template", why="It took 77 s.", age_seconds=88)
    return Analysis(sources={"sold": DATA}, summary=Text(text=text, source=source, tokens=66, rejected=("55",)))


@pytest.mark.parametrize(
    "text",
    [
        "1,234 eggs were sold for $1.99 each.",
        "A share of 12.5%, or 13 %, or 12 % of all.",
        "On 2018-01-05, three of 3 products, 18 pieces each.",
        "Se vendieron 1.234 huevos, un 12,5 % más.",
        "Nothing to say.",
    ],
)
def test_figures_in_any_usual_form_are_stated(text: str) -> None:
    assert unstated_numbers(analysis(text)) == ()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1,235 eggs were sold.", ("1,235",)),
        ("Only $1.49, 73% off!", ("1.49", "73")),
        ("It took 77 s, 66 tokens, 55 and 88.", ("77", "66", "55", "88")),
        ("Sold 1,234.9 times.", ("1,234.9",)),
        ("Se vendieron 1.236 huevos, un 12,7 % más.", ("1.236", "12,7")),
    ],
)
def test_other_numbers_are_not(text: str, found: tuple[str, ...]) -> None:
    assert unstated_numbers(analysis(text)) == found


def test_a_figure_that_follows_from_others_may_be_given() -> None:
    assert unstated_numbers(analysis("Up 73%.")) == ("73",)
    assert unstated_numbers(analysis("Up 73%."), derived=[0.7312]) == ()
    assert unstated_numbers(analysis("Down 73%."), derived=[-0.7312]) == ()
