"""Exercises of notebook 00."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from workshop_lib.exercises import Exercise

_PRACTICES = {
    "a commit changes a feature, and all tests run": "CI",
    "an approved version goes to staging, then to production": "CD",
    "new weeks of sales arrive, and the pipeline makes a new model": "CT",
    "yesterday's forecasts are compared with yesterday's sales": "monitoring",
}


def _calls(answer: Mapping[str, str], **said: str) -> bool:
    """Whether an answer is the right one but for some practices that it calls by another name."""
    return dict(answer) == {what: said.get(name, name) for what, name in _PRACTICES.items()}


_TEAMS: tuple[dict[str, int], ...] = (
    {"data_quality": 2, "features": 1, "gates": 3, "alerts": 1, "access": 2},
    {"data_quality": 0, "features": 2, "gates": 1, "alerts": 3, "access": 2},
    {"data_quality": 3, "features": 2, "gates": 3, "alerts": 2, "access": 2},
)
"""Answers of teams; in each the lowest level stands at other questions, once or several times."""


def _lowest(team: Mapping[str, int]) -> list[str]:
    return [name for name, level in team.items() if level == min(team.values())]


def _names(answer: Callable[[dict[str, int]], Iterable[str]], expected: Callable[[dict[str, int]], object]) -> bool:
    """Whether a function names the expected questions for every team; the order of the names does not matter."""
    told = [answer(dict(team)) for team in _TEAMS]
    if any(isinstance(one, (str, Mapping)) for one in told):
        return False
    return [sorted(one) for one in told] == [sorted(expected(team)) for team in _TEAMS]  # type: ignore[call-overload]


def _all(answer: Callable[[dict[str, int]], Any], test: Callable[[Any, dict[str, int]], bool]) -> bool:
    return all(test(answer(dict(team)), team) for team in _TEAMS)


EXERCISES = {
    "1.0.a": Exercise(
        right=_calls,
        hint="Keep the four keys as they are. The answers are CI, CD, CT and monitoring, each once.",
        near_misses=[
            (
                lambda answer: _calls(answer, CI="CD", CD="CI"),
                "CI and CD are the other way round. Integration tests a change; delivery brings it to its users.",
            ),
            (
                lambda answer: _calls(answer, CT="CD") or _calls(answer, CT="CD", CD="CT"),
                "Which of the two starts without any change of the code? New data that makes a new model is training.",
            ),
            (
                lambda answer: _calls(answer, CT="monitoring", monitoring="CT") or _calls(answer, monitoring="CT"),
                "To compare forecasts with sales changes no model. It only says that one may be needed.",
            ),
        ],
    ),
    "1.0.b": Exercise(
        right=lambda answer: _names(answer, _lowest),
        hint="Find the lowest level with min(answers.values()), then return the ids of all questions at that level.",
        near_misses=[
            (
                lambda answer: _all(answer, lambda told, team: told in (_lowest(team)[0], _lowest(team)[:1])),
                "That is only the first one. Several questions can hold a team at its level: return all of them.",
            ),
            (
                lambda answer: _all(answer, lambda told, team: told == min(team.values())),
                "That is the level. The question is which answers hold the team there: return their ids.",
            ),
            (
                lambda answer: _names(
                    answer,
                    lambda team: [name for name, level in team.items() if level < sum(team.values()) / len(team)],
                ),
                "Those are the answers below the mean. Only the lowest ones decide about the level.",
            ),
        ],
    ),
}
