"""What is known about a day long before it comes: weekday, season, feasts, opening days."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
from dateutil.easter import easter
from holidays import country_holidays

from workshop_lib.settings import settings

FEAST_HORIZON = 10
"""Days before and after a feast within which shopping may differ; farther ones count as this many."""

# Public holidays that empty the shelves; days like Columbus Day leave sales as they are.
_US_FEASTS = ("New Year's Day", "Memorial Day", "Independence Day", "Labor Day", "Thanksgiving Day", "Christmas Day")


@cache
def feasts(year: int, country: str = settings.holidays) -> tuple[pd.Timestamp, ...]:
    """The feasts that people shop for in a year: Easter, and the country's main public holidays.

    Args:
        year: calendar year.
        country: code of the ``holidays`` package. For the United States the six holidays with visible
            effect on groceries are kept; for other countries, all public holidays.
    """
    named = country_holidays(country, years=year, observed=False, language="en_US" if country == "US" else None)
    days = [day for day, name in named.items() if country != "US" or name in _US_FEASTS]
    return tuple(sorted({pd.Timestamp(day) for day in [*days, easter(year)]}))


def calendar_features(dates: pd.DatetimeIndex) -> pd.DataFrame:
    """Features of the calendar alone, one row per date.

    The weekday appears as a number and as a point on a circle (sine and cosine), so that Sunday and
    Monday are neighbours. The day of the year is left out on purpose: with a single year of data a
    model can only learn that December has never been seen.

    Returns:
        Columns ``weekday`` (0 is Monday), ``weekday_sin``, ``weekday_cos``, ``weekend`` (0 or 1),
        ``day_of_month``, ``days_to_feast`` and ``days_since_feast`` (0 to :data:`FEAST_HORIZON`).
    """
    years = range(dates.min().year - 1, dates.max().year + 2)
    days = np.array([day.to_datetime64() for year in years for day in feasts(year)], dtype="datetime64[D]")
    today = dates.to_numpy().astype("datetime64[D]")
    following = days[np.searchsorted(days, today, side="left")]
    previous = days[np.searchsorted(days, today, side="right") - 1]
    weekday = dates.dayofweek.to_numpy()
    angle = 2 * np.pi * weekday / 7
    return pd.DataFrame(
        {
            "weekday": weekday,
            "weekday_sin": np.sin(angle),
            "weekday_cos": np.cos(angle),
            "weekend": (weekday >= 5).astype(int),
            "day_of_month": dates.day,
            "days_to_feast": np.minimum((following - today).astype(int), FEAST_HORIZON),
            "days_since_feast": np.minimum((today - previous).astype(int), FEAST_HORIZON),
        },
        index=dates,
    )
