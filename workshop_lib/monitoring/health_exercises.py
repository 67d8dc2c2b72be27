"""Exercises of the notebook about health and objectives."""

from __future__ import annotations

from collections.abc import Callable
from math import isclose
from typing import Any

from workshop_lib.exercises import Exercise

_OBJECTIVE, _MINUTES = 0.9995, 30 * 24 * 60
_ALLOWED, _ALERT = (1 - _OBJECTIVE) * _MINUTES, 14.4 * (1 - _OBJECTIVE) * 60
_WHO = {
    "the process hangs and shall be started anew": "live",
    "the server still loads its model": "ready",
    "forecasts are a thousand times too high": "known answer",
    "one answer in 250 fails, since yesterday": "burn rate",
}


def _if(test: Callable[[Any], bool]) -> Callable[[object], bool]:
    """A test of whatever a learner handed over."""
    return test


def _near(answer: Any, allowed: float, alert: float) -> bool:
    return isclose(answer["allowed"], allowed, rel_tol=0.005) and isclose(answer["alert"], alert, rel_tol=0.005)


def _says(situation: str, who: str) -> Callable[[object], bool]:
    return _if(lambda answer: answer[situation] == who)


EXERCISES = {
    "5.4.a": Exercise(
        right=_if(lambda answer: _near(answer, _ALLOWED, _ALERT)),
        hint="The budget is 1 minus the objective, times the minutes of 30 days. A service that is down fails all its"
        " checks: its error ratio is 1.",
        near_misses=[
            (
                _if(lambda answer: _near(answer, _ALLOWED * 60, _ALERT * 60)),
                "These are seconds; minutes are asked for.",
            ),
            (_if(lambda answer: isclose(answer["allowed"], 43.2, rel_tol=0.005)), "That is what 99.9% allows."),
            (
                _if(lambda answer: isclose(answer["allowed"], _ALLOWED * 100, rel_tol=0.005)),
                "1 - 99.95% is 0.05%, and that is 0.0005.",
            ),
            (
                _if(lambda answer: isclose(answer["alert"], 14.4 * 0.001 * 60, rel_tol=0.005)),
                "The budget is half as large as with 99.9%, so the same outage burns it twice as fast.",
            ),
            (
                _if(lambda answer: isclose(answer["alert"], 14.4 * (1 - _OBJECTIVE) * 5, rel_tol=0.005)),
                "Both windows must burn; the long one, of an hour, gets there last.",
            ),
            (
                _if(lambda answer: isclose(answer["allowed"], _ALLOWED, rel_tol=0.005)),
                "The first is right. The alert comes after factor * (1 - objective) / error ratio of the long window.",
            ),
        ],
    ),
    "5.4.b": Exercise(
        right=lambda answer: answer == _WHO,
        hint="Ask for each: who has to do something, and is it to restart, to wait, to look at the model, or to plan?",
        near_misses=[
            (_if(lambda answer: answer.keys() != _WHO.keys()), "Keep the four situations as keys."),
            (
                _says("the server still loads its model", "live"),
                "A server that is restarted because it is still loading never comes up.",
            ),
            (
                _says("the process hangs and shall be started anew", "ready"),
                "Who is not ready gets no requests, and is otherwise left alone.",
            ),
            (
                _if(lambda answer: answer["forecasts are a thousand times too high"] in ("live", "ready")),
                "The server answers, and quickly. Only who knows what the answer should be sees that it is wrong.",
            ),
            (
                _says("one answer in 250 fails, since yesterday", "known answer"),
                "Nearly every single check finds all well. It is the sum of the failures that is too large.",
            ),
        ],
    ),
}
