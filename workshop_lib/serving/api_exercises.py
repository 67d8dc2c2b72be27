"""Exercises of notebook 03."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from workshop_lib.exercises import Exercise
from workshop_lib.serving.api_schemas import ForecastRequest
from workshop_lib.serving.routing import Routes

_DAYS = ["2018-01-01", "2018-01-02", "2018-01-03"]
_STATUS = {"misspelt category": 422, "no key": 401, "too many requests": 503, "forecaster too slow": 504}


def _if(test: Callable[[Any], bool]) -> Callable[[object], bool]:
    """A test of whatever a learner handed over."""
    return test


def _read(answer: Any) -> ForecastRequest | None:
    try:
        return ForecastRequest.model_validate(answer)
    except ValidationError:
        return None


def _asks(answer: Any) -> bool:
    """Eggs on the first three days of 2018, half of the sales in the mailer."""
    question = _read(answer)
    return (
        question is not None
        and question.category.upper() == "EGGS"
        and sorted(map(str, question.dates)) == _DAYS
        and question.promotion is not None
        and question.promotion.model_dump(exclude_none=True) == {"mailer_share": 0.5}
        and question.price is None
    )


def _differs(situation: str, wrong: int) -> Callable[[Any], bool]:
    return lambda answer: answer[situation] == wrong


def _shares(routes: Routes) -> dict[str, float]:
    total = sum(backend.weight for backend in routes.backends)
    return {backend.name: round(backend.weight / total, 6) for backend in routes.backends}


def _releases(routes: Any) -> bool:
    """A tenth of the traffic and everything about eggs to green."""
    eggs = {str(routes.choose(str(key), "EGGS").name) for key in range(50)}
    return isinstance(routes, Routes) and _shares(routes) == {"blue": 0.9, "green": 0.1} and eggs == {"green"}


EXERCISES = {
    "3.3.a": Exercise(
        right=_asks,
        hint="A dictionary with category, dates (a list of texts like 2018-01-01) and promotion, a dictionary itself.",
        near_misses=[
            (_if(lambda answer: not isinstance(answer, dict)), "Hand over the body as a dictionary, not as text."),
            (
                _if(lambda answer: isinstance(answer["promotion"].get("mailer_share"), int | float)
                and answer["promotion"]["mailer_share"] > 1),
                "Shares lie between 0 and 1: half is 0.5.",
            ),
            (_if(lambda answer: "mailer_share" in answer), "mailer_share belongs into promotion."),
            (_if(lambda answer: len(answer["dates"]) != len(_DAYS)), "Three days are asked for."),
            (_if(lambda answer: _read(answer) is None), "The API would answer 422: post it and read the problem."),
        ],
    ),
    "3.3.b": Exercise(
        right=lambda answer: answer == _STATUS,
        hint="400 to 499: the caller has to change something. 500 to 599: later the same request may succeed.",
        near_misses=[
            (_if(lambda answer: answer.keys() != _STATUS.keys()), "Keep the four situations as keys."),
            (
                _if(lambda answer: any(str(status)[0] != str(answer[name])[0] for name, status in _STATUS.items())),
                "One lies on the wrong side: first decide whether the caller or the server has to change something.",
            ),
            (_differs("no key", 403), "403 is for a caller who is known and may not; without a key nobody is known."),
            (_differs("forecaster too slow", 503), "503 means away or full; a slow one gave no answer in time."),
            (_differs("misspelt category", 404), "The address exists; it is a field of the body that is wrong."),
        ],
    ),
    "3.3.c": Exercise(
        right=_releases,
        hint="Routes(backends=(Backend(...), Backend(...)), rules=(Rule(backend=..., categories={...}),))",
        near_misses=[
            (_if(lambda answer: not isinstance(answer, Routes)), "Hand over a Routes object."),
            (_if(lambda answer: not answer.rules), "The weights are one part; eggs need a rule."),
            (_if(lambda answer: _shares(answer) == {"blue": 0.1, "green": 0.9}), "The shares are the wrong way round."),
            (
                _if(lambda answer: _shares(answer) != {"blue": 0.9, "green": 0.1}),
                "Weights are relative to their sum: 9 and 1, or 90 and 10.",
            ),
            (_if(lambda answer: bool(answer.rules)), "Look at the rule: which backend, and how is the category spelt?"),
        ],
    ),
}  # fmt: skip
