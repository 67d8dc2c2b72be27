"""Exercises of notebook 01 of module 4."""

from __future__ import annotations

import datetime as dt
from typing import Any

from langchain_core.runnables import Runnable

from workshop_lib.exercises import Exercise
from workshop_lib.orchestration.results import MODEL, Forecast
from workshop_lib.serving.api_schemas import DayForecast, Interval

_UNITS = (40.0, 90.0, 70.0)
_AGAIN = {429, 503}


def _example() -> Forecast:
    """Three days, the second of which sells most."""
    days = [
        DayForecast(
            date=dt.date(2018, 1, place + 1),
            units=units,
            interval=Interval(lower=units / 2, upper=units * 2, coverage=0.9),
            days_ahead=place + 1,
            open=True,
        )
        for place, units in enumerate(_UNITS)
    ]
    return Forecast(category="EXAMPLE", days=tuple(days), version="1", source=MODEL)


def _finds(answer: Any, day: object) -> bool:
    found = answer.invoke(_example())
    return bool(found == day or str(found) == str(day))


EXERCISES = {
    "4.1.a": Exercise(
        right=lambda answer: isinstance(answer, Runnable) and _finds(answer, dt.date(2018, 1, 2)),
        hint="Wrap a function with RunnableLambda. It gets a forecast; max(forecast.days, key=…) finds the day, and"
        " .date is what is asked for.",
        near_misses=[
            (
                lambda answer: callable(answer) and not isinstance(answer, Runnable),
                "This is a function. RunnableLambda(…) makes a runnable of it.",
            ),
            (
                lambda answer: isinstance(answer, dt.date),
                "This is one date. A runnable finds it for any forecast.",
            ),
            (
                lambda answer: isinstance(answer, Runnable) and _finds(answer, max(_UNITS)),
                "This returns the units. Which date has them?",
            ),
            (
                lambda answer: isinstance(answer, Runnable) and isinstance(answer.invoke(_example()), DayForecast),
                "This returns the whole day. Its .date is asked for.",
            ),
        ],
    ),
    "4.1.b": Exercise(
        right=lambda answer: set(answer) == _AGAIN,
        hint="401: the key is wrong. 404 and 422: the question is wrong. 429 and 503: too much to do now. 500: an error"
        " in the program. 504: it took too long.",
        near_misses=[
            (
                lambda answer: bool({401, 404, 422} & set(answer)),
                "4xx says that the request is wrong, and it stays wrong. One of them is an exception: too many"
                " requests at once.",
            ),
            (
                lambda answer: 504 in answer,
                "504: the server was too slow. A second request gives it twice the work.",
            ),
            (
                lambda answer: 500 in answer,
                "500 is an error that nobody foresaw, most often a bug. The same question meets the same bug.",
            ),
            (lambda answer: set(answer) < _AGAIN, "There is one more that means: too much to do at this moment."),
        ],
    ),
}
