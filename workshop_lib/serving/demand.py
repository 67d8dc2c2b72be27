"""Features on the server's side: from the history of sales and the plan to what the forecaster takes.

Everything is computed once with the functions that training used (:func:`build_features`); a request then only
looks rows up. For several days ahead the forecast of one day takes that day's place in the history of the
next one, as in :func:`workshop_lib.predictive.forecaster.forecast_horizons`. Who makes the forecasts, this module
does not care: :meth:`Demand.walk` hands out rows of features and is sent units.
"""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from workshop_lib import data
from workshop_lib.predictive.features import (
    FEATURES,
    PLANS,
    WARM_UP,
    Panel,
    build_features,
    history_features_after,
    make_panel,
    promotion_features,
    without_closed_days,
)
from workshop_lib.predictive.forecaster import HORIZONS
from workshop_lib.serving.api_errors import InvalidInput

MEMORY = 28
"""Days of history that the features of a day look back on."""
_COLUMN = {name: place for place, name in enumerate(FEATURES)}


@dataclass(frozen=True)
class Plan:
    """What the shop intends for the days asked about; None and absent shares: as it was before."""

    price: float | None = None
    """Dollars per unit."""
    promotion: Mapping[str, float] = field(default_factory=dict)
    """Shares of the category's sales by the names in :data:`~workshop_lib.predictive.features.PLANS`."""


@dataclass(frozen=True)
class Question:
    """A checked question: one category, some days, and from which day's evening each is looked at."""

    category: str
    column: int
    targets: tuple[int, ...]
    """Row numbers of the days, in the order in which they were asked for."""
    origins: tuple[int, ...]
    """Per day the row of the last day whose sales count as known."""
    plan: Plan


@dataclass(frozen=True)
class Day:
    """The forecast for one day of a question."""

    date: dt.date
    units: float
    horizon: int
    """Days ahead of the last known day."""
    open: bool
    """Whether the shop opens; on a closed day nothing is sold."""


Walk = Generator[np.ndarray, np.ndarray, list[Day]]


class Demand:
    """The history of some categories, ready to be asked about.

    Args:
        panel: daily sales of the categories that the forecaster knows.
    """

    def __init__(self, panel: Panel) -> None:
        self.panel = extend(panel, HORIZONS)
        self.categories = list(panel.units.columns)
        self._known = len(panel.dates)
        self._days = [day.date() for day in self.panel.dates]
        self._row = {day: row for row, day in enumerate(self._days)}
        self._by_name = {name.casefold(): column for column, name in enumerate(self.categories)}
        wide = build_features(self.panel)
        self._values = np.stack([wide[name].to_numpy() for name in FEATURES], axis=-1)
        self._history = without_closed_days(self.panel.units, self.panel.open).to_numpy()
        self._open = self.panel.open.to_numpy(dtype=bool)
        self._weekend = self._values[:, 0, _COLUMN["weekend"]]

    @cached_property
    def fingerprint(self) -> str:
        """Differs when anything differs that a forecast is made from: sales, plans, opening days or features."""
        found = hashlib.blake2b(repr((self.categories, self._days, FEATURES)).encode(), digest_size=16)
        for values in (self._values, self._history, self._open, *(self.panel.plans[name] for name in PLANS)):
            found.update(np.ascontiguousarray(values).tobytes())
        return found.hexdigest()

    def days_of(self, question: Question) -> list[list[str]]:
        """The days of a question in its order: each with the evening from which it is looked at."""
        pairs = zip(question.targets, question.origins, strict=True)
        return [[self._days[target].isoformat(), self._days[origin].isoformat()] for target, origin in pairs]

    @property
    def last_day(self) -> dt.date:
        """The last day whose sales are known."""
        return self._days[self._known - 1]

    @property
    def first_day(self) -> dt.date:
        """The first day with enough history before it to be forecast."""
        return self._days[WARM_UP]

    def units(self, category: str, day: dt.date) -> float:
        """What was sold on a known day."""
        return float(self.panel.units[category].iloc[self._row[day]])

    def ask(
        self,
        category: str,
        dates: Sequence[dt.date],
        plan: Plan | None = None,
        known_until: dt.date | None = None,
    ) -> Question:
        """Check a question.

        Args:
            category: its name; capitals do not matter.
            dates: one to seven days after ``known_until``; days of the past as well when that is not given.
            plan: of all these days.
            known_until: look at the dates from the evening of this day. By default that is the last day of the
                data, and for a day of the past the day before it.

        Raises:
            InvalidInput: naming the field and what it accepts.
        """
        column = self._column(category)
        latest = self._known - 1 if known_until is None else self._origin(known_until)
        last = latest + HORIZONS
        first = WARM_UP if known_until is None else latest + 1
        targets = []
        for place, date in enumerate(dates):
            row = self._row.get(date, -1)
            if not first <= row <= last:
                expected = f"a day from {self._days[first]} to {self._days[last]}"
                raise InvalidInput(f"dates.{place}", date.isoformat(), expected)
            targets.append(row)
        origins = tuple(min(row - 1, latest) for row in targets)
        return Question(self.categories[column], column, tuple(targets), origins, plan or Plan())

    def known_name(self, category: str) -> str:
        """A category as the forecaster writes it.

        Raises:
            InvalidInput: for one that it does not know.
        """
        return self.categories[self._column(category)]

    def check_evenings(self, category: str, first: dt.date, last: dt.date) -> None:
        """Check that days can be looked at from the evenings between two dates.

        Raises:
            InvalidInput: naming the field and what it accepts.
        """
        self._column(category)
        for name, day in (("start", first), ("days", last)):
            if not self.first_day <= day <= self.last_day:
                raise InvalidInput(name, day.isoformat(), f"evenings from {self.first_day} to {self.last_day}")

    def _column(self, category: str) -> int:
        column = self._by_name.get(category.strip().casefold())
        if column is None:
            near = difflib.get_close_matches(category.strip().upper(), self.categories, n=3, cutoff=0.4)
            hint = f"; near are {', '.join(near)}" if near else f", such as {self.categories[0]}"
            raise InvalidInput("category", category, f"one of {len(self.categories)} known categories{hint}")
        return column

    def _origin(self, day: dt.date) -> int:
        row = self._row.get(day, -1)
        if not WARM_UP - 1 <= row < self._known:
            expected = f"a day from {self._days[WARM_UP - 1]} to {self.last_day}"
            raise InvalidInput("known_until", day.isoformat(), expected)
        return row

    def rows(self, category: str, dates: Sequence[dt.date]) -> np.ndarray:
        """Features one day ahead of known days, as training saw them: float32, shape (dates, features)."""
        places = [self._row[date] for date in dates]
        return self._values[places, self.categories.index(category)].astype(np.float32)

    def walk(self, question: Question) -> Walk:
        """Forecast step by step.

        Yields:
            Features of the next days to forecast: float32, shape (n, features). Send back their units, shape (n,).

        Returns:
            The days, in the order of the question.
        """
        furthest: dict[int, int] = {}  # per origin the last day that is needed
        for origin, target in zip(question.origins, question.targets, strict=True):
            furthest[origin] = max(furthest.get(origin, 0), target)
        history = {origin: list(self._past(question.column, origin)) for origin in furthest}
        made: dict[tuple[int, int], float] = {}
        planned = self._planned(question)
        for step in range(1, max(target - origin for origin, target in furthest.items()) + 1):
            origins = [origin for origin, target in furthest.items() if origin + step <= target]
            rows = [self._features(question, origin, step, history[origin], planned) for origin in origins]
            units = yield np.stack(rows).astype(np.float32)
            for origin, forecast in zip(origins, units, strict=True):
                made[origin, origin + step] = float(forecast)
                # A closed day is remembered as the usual weekday, as it is in the past.
                history[origin].append(forecast if self._open[origin + step] else history[origin][-7])
        return [
            Day(
                self._days[target],
                made[origin, target] if self._open[target] else 0.0,
                target - origin,
                bool(self._open[target]),
            )
            for origin, target in zip(question.origins, question.targets, strict=True)
        ]

    def _past(self, column: int, origin: int) -> np.ndarray:
        return self._history[origin + 1 - MEMORY : origin + 1, column]

    def _features(
        self, question: Question, origin: int, step: int, history: list[float], planned: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """Features of the day ``step`` days after ``origin``: float64, shape (features,)."""
        target = origin + step
        row = self._values[target, question.column].copy()
        if step > 1:
            for name, value in history_features_after(np.array(history[-MEMORY:])).items():
                row[_COLUMN[name]] = value
            for name in ("price_7", "price_ratio", "price_band", "discount_7"):
                row[_COLUMN[name]] = self._values[origin + 1, question.column, _COLUMN[name]]
        if target in question.targets:
            for name, values in planned.items():
                row[_COLUMN[name]] = values[target]
            if question.plan.price is not None:
                _set_price(row, question.plan.price)
        return row

    def _planned(self, question: Question) -> dict[str, np.ndarray]:
        """Promotion features of all days under the question's plan; empty when the plan says nothing."""
        if not question.plan.promotion:
            return {}
        plans = {}
        for name in PLANS:
            values = self.panel.plans[name].to_numpy()[:, [question.column]].copy()
            if name in question.plan.promotion:
                values[list(question.targets)] = question.plan.promotion[name]
            plans[name] = pd.DataFrame(values)
        return {name: table.to_numpy()[:, 0] for name, table in promotion_features(plans, self._weekend).items()}


def _set_price(row: np.ndarray, price: float) -> None:
    """Put a planned price in the place of last week's.

    The forecaster has learned from the prices of the week before, so this asks: what if the price had been this one
    all week? The list price stays, and with it what the price is a discount from.
    """
    now, ratio, discount = (row[_COLUMN[name]] for name in ("price_7", "price_ratio", "discount_7"))
    usual = now / ratio if ratio > 0 else price
    listed = now / (1 - discount) if discount < 1 else price
    row[_COLUMN["price_7"]] = price
    row[_COLUMN["price_ratio"]] = price / max(usual, 0.01)
    row[_COLUMN["discount_7"]] = max(0.0, 1 - price / listed) if listed > 0 else 0.0


def extend(panel: Panel, days: int) -> Panel:
    """The panel with some days after its end: no sales yet, open, promotions as a week before."""
    dates = panel.dates.append(pd.date_range(panel.dates[-1] + pd.Timedelta(days=1), periods=days))
    blank = {name: getattr(panel, name).reindex(dates) for name in ("units", "revenue", "discount")}
    plans = {}
    for name, table in panel.plans.items():
        longer = table.reindex(dates)
        for day in dates[-days:]:
            longer.loc[day] = longer.loc[day - pd.Timedelta(days=7)]
        plans[name] = longer
    return replace(panel, **blank, plans=plans, open=panel.open.reindex(dates, fill_value=True))


def load_demand(categories: Sequence[str]) -> Demand:
    """The shop's history of the categories that a forecaster knows.

    Raises:
        DataError: when the data cannot be used.
        ValueError: when it lacks one of the categories.
    """
    sales = data.load("daily_sales")
    return Demand(make_panel(sales[sales["category"].isin(categories)], len(categories)))


def run(walk: Walk, predict: Callable[[np.ndarray], np.ndarray]) -> list[Day]:
    """Walk with a predictor in this process: features of shape (n, features) to units of shape (n,)."""
    rows = next(walk)
    while True:
        try:
            rows = walk.send(predict(rows))
        except StopIteration as end:
            days: list[Day] = end.value
            return days
