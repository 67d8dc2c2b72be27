"""Exercises of notebook 02."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from typing import Any

from langchain_core.runnables import Runnable, RunnableParallel

from workshop_lib.exercises import Exercise
from workshop_lib.orchestration.results import MODEL, Forecast
from workshop_lib.serving.api_schemas import DayForecast, Interval

_UNITS = (210.0, 180.0, 264.0, 201.0)
_LEVEL = 0.25 / (0.25 + 0.75 * 0.8)


def _day(place: int, units: float) -> DayForecast:
    interval = Interval(lower=0.8 * units, upper=1.3 * units, coverage=0.9)
    date = dt.date(2018, 1, 1) + dt.timedelta(days=place)
    return DayForecast(date=date, units=units, interval=interval, days_ahead=place + 1, open=True)


EXAMPLE = Forecast(
    category="SOFT DRINKS", days=tuple(_day(*day) for day in enumerate(_UNITS)), version="1", source=MODEL
)
"""Four days for exercise A; the third one is the largest."""
_BEST = EXAMPLE.days[_UNITS.index(max(_UNITS))]


def _if(test: Callable[[Any], bool]) -> Callable[[object], bool]:
    """A test of whatever a learner handed over."""
    return test


def _says(answer: Any) -> Any:
    return answer.invoke(EXAMPLE)


def _parallel(answer: Any) -> bool:
    found = _says(answer)
    return (
        isinstance(answer, RunnableParallel)
        and found.keys() == {"total", "best_day"}
        and math.isclose(found["total"], sum(_UNITS))
        and found["best_day"] == _BEST.date
    )


def _is(value: float) -> Callable[[object], bool]:
    return _if(lambda answer: math.isclose(answer, value, abs_tol=0.005))


EXERCISES = {
    "4.2.a": Exercise(
        right=_parallel,
        hint="RunnableParallel(total=RunnableLambda(...), best_day=RunnableLambda(...)); each gets the forecast.",
        near_misses=[
            (_if(lambda answer: not isinstance(answer, Runnable)), "Hand over a RunnableParallel, not its result."),
            (_if(lambda answer: not isinstance(answer, RunnableParallel)), "Both steps take the same forecast: no | ."),
            (_if(lambda answer: _says(answer).keys() != {"total", "best_day"}), "Name the steps total and best_day."),
            (_if(lambda answer: _says(answer)["best_day"] == _BEST), "best_day is the date of that day."),
            (_if(lambda answer: _says(answer)["best_day"] == max(_UNITS)), "best_day is a date, not its units."),
            (_if(lambda answer: not math.isclose(_says(answer)["total"], sum(_UNITS))), "total is forecast.total."),
        ],
    ),
    "4.2.b": Exercise(
        right=_is(_LEVEL),
        hint="shortage / (shortage + surplus), both in dollars per unit, at a price of 1 dollar.",
        near_misses=[
            (_is(1 - _LEVEL), "The other way round: what a missing unit costs stands above the line."),
            (_is(0.25 / (0.25 + 0.8)), "80% of the buying price are lost, and the buying price is less than a dollar."),
            (_is(0.75 / (0.75 + 0.25 * 0.8)), "The margin is 25% of the price; 75% are the buying price."),
            (_is(_LEVEL * 100), "As a share from 0 to 1, not in percent."),
        ],
    ),
}
