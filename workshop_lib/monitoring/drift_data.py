"""The data week by week: what was known in the training weeks, and what arrived afterwards.

Weeks are numbered as in the table of sales lines: they begin on Monday, and 1 is the one with the first day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd

from workshop_lib.predictive.calendar import feasts
from workshop_lib.predictive.forecaster import CATEGORIES, Dataset, Split, make_dataset

FEAST_DAYS = 3
"""A week is not quiet when a feast lies in it or this many days before or after: people shop ahead."""
VALIDATION = 1 / 3
"""Share of a model's training weeks, the last ones, on which its error on unseen days is measured."""


@dataclass(frozen=True)
class Weeks:
    """Features and units of all open days, with the number of each day's week."""

    dataset: Dataset
    number: pd.Series
    """Week of each open day; index date."""
    whole: tuple[int, ...]
    """Weeks of which all seven days belong to the data and come after the warm-up of the features."""

    @property
    def newest(self) -> int:
        """The last whole week."""
        return self.whole[-1]

    def days(self, first: int, last: int) -> pd.DatetimeIndex:
        """The open days of some weeks.

        Raises:
            ValueError: when the data has none of them.
        """
        days = pd.DatetimeIndex(self.number.index[self.number.between(first, last)])
        if days.empty:
            raise ValueError(f"The data has no open day in weeks {first} to {last}; {self._range()}.")
        return days

    def rows(self, first: int, last: int) -> tuple[pd.DataFrame, pd.Series]:
        """Features and units of some weeks, a row per (date, category)."""
        return self.dataset.rows(self.days(first, last))

    def of(self, index: pd.MultiIndex) -> np.ndarray:
        """The week of each row of a table with index (date, category)."""
        return self.number.reindex(index.get_level_values("date")).to_numpy()

    def week_of(self, day: pd.Timestamp | str) -> int:
        """The week that a date lies in, whether or not the shop opens."""
        return week_number(pd.DatetimeIndex([day]), self.dataset.panel.dates[0])[0]

    def training(self, first: int, last: int) -> Dataset:
        """The data as a model sees it that is trained at the end of a week.

        The last third of the weeks is for validation (see :data:`VALIDATION`): a copy of the model that was
        fitted on the others shows there how large errors are on days that it has not seen.

        Raises:
            ValueError: for fewer than three weeks, or weeks that the data does not have.
        """
        if last - first < 2:
            raise ValueError(f"Weeks {first} to {last}: training takes three weeks or more.")
        start = validation_start(first, last)
        later = pd.DatetimeIndex(self.number.index[self.number > last])
        return replace(self.dataset, split=Split(self.days(first, start - 1), self.days(start, last), later))

    def _range(self) -> str:
        return f"it covers weeks {self.number.iloc[0]} to {self.number.iloc[-1]}"


def validation_start(first: int, last: int) -> int:
    """The first of the weeks that are kept for validation."""
    return last + 1 - max(int((last - first + 1) * VALIDATION), 1)


def week_number(dates: pd.DatetimeIndex, first_day: pd.Timestamp) -> np.ndarray:
    """Weeks since the Monday on or before the first day of the data, from 1."""
    monday = first_day - pd.Timedelta(days=first_day.dayofweek)
    return np.asarray((dates - monday).days // 7 + 1)


@cache
def load_weeks(categories: int = CATEGORIES) -> Weeks:
    """The course's or the learner's data, by week.

    Raises:
        DataError: when the data cannot be used.
        ValueError: when it has too few categories or days.
    """
    dataset = make_dataset(categories)
    dates = dataset.panel.dates
    numbers = pd.Series(week_number(dates, dates[0]), index=dates)
    days = dataset.features.index.get_level_values("date").unique()
    of_day = numbers.loc[days]
    full = numbers.loc[days[0] :].value_counts().loc[lambda count: count == 7].index
    return Weeks(dataset, of_day, tuple(sorted(set(full) & set(of_day))))


def without_feasts(weeks: Weeks, first: int, last: int) -> list[int]:
    """The quiet weeks among some: no feast in them or within :data:`FEAST_DAYS` days of them."""
    origin = weeks.dataset.panel.dates[0]
    around = pd.DatetimeIndex(
        [
            feast + pd.Timedelta(days=shift)
            for year in range(origin.year, weeks.dataset.panel.dates[-1].year + 2)
            for feast in feasts(year)
            for shift in range(-FEAST_DAYS, FEAST_DAYS + 1)
        ]
    )
    loud = set(week_number(around, origin))
    return [week for week in range(first, last + 1) if week not in loud]


def relative(frame: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Each value against what is usual in its category: (value - mean) / standard deviation.

    Milk sells a hundred times as much as spices. In a table of all categories this difference hides every
    change over time; measured in the category's own terms a change shows.

    Args:
        frame: numbers, index (date, category).
        reference: the same columns in the weeks that say what is usual.

    Returns:
        The table in standard deviations of the category. A column that never changed in a category's
        reference is measured in the deviation of the whole column instead.
    """
    groups = reference.groupby(level="category", observed=True)
    mean, deviation = groups.mean(), groups.std()
    # What never moved has a deviation of rounding errors; float32 carries seven digits.
    moved = deviation > 1e-6 * (1 + mean.abs())
    deviation = deviation.where(moved, reference.std().clip(lower=1e-6), axis=1)
    category = frame.index.get_level_values("category")
    return (frame - mean.loc[category].to_numpy()) / deviation.loc[category].to_numpy()


def watched(frame: pd.DataFrame, features: Sequence[str]) -> pd.DataFrame:
    """The features that are watched, in double precision.

    Raises:
        ValueError: when one of them is no feature of the model.
    """
    unknown = [name for name in features if name not in frame]
    if unknown:
        raise ValueError(f"forecaster.drift.features: {', '.join(unknown)} is no feature of the model.")
    return frame[list(features)].astype(float)
