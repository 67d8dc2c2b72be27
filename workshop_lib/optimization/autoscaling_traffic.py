"""How many requests per second a chain of shops would send: the data's own days, at their own times of day.

traffic("2017-11-20", days=7, shops=5000)       # the week of Thanksgiving, a value per minute
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter1d

from workshop_lib.data import load

BASKETS_PER_SHOP = 2_000
"""Baskets on a mean day of a supermarket of medium size. An assumption: the data holds some households of each shop."""
SMOOTHING_MINUTES = 30
"""Standard deviation of the bell curve that every basket is spread over. The few hundred baskets of a day of the data
come at single moments; those of thousands of shops would fill the gaps."""


@cache
def _year() -> tuple[pd.Series, float]:
    """Baskets of the data per minute of the year, smoothed, and the lines of a mean basket."""
    lines = load("transactions", columns=["basket_id", "local_time"])
    begun = lines.groupby("basket_id")["local_time"].min()
    minutes = begun.dt.floor("min").value_counts().sort_index()
    every = pd.date_range(minutes.index[0].normalize(), minutes.index[-1].normalize() + pd.Timedelta("1D"), freq="min")
    counts = minutes.reindex(every[:-1], fill_value=0)
    smooth = gaussian_filter1d(counts.to_numpy(float), SMOOTHING_MINUTES)
    return pd.Series(smooth, counts.index, name="baskets"), len(lines) / len(begun)


def traffic(
    start: str,
    days: int = 1,
    shops: int = 5_000,
    baskets_per_shop: float = BASKETS_PER_SHOP,
    requests_per_basket: float | None = None,
) -> pd.Series:
    """Requests per second in each minute.

    Args:
        start: first day, such as ``"2017-11-20"``.
        days: how many days.
        shops: each with the data's times of day.
        baskets_per_shop: of a mean day; busy days of the data have more, in proportion.
        requests_per_basket: by default one for each line of a mean basket.

    Returns:
        ``requests per second``, indexed by the minute in the shop's time zone.

    Raises:
        ValueError: when the data holds no sale in that time.
    """
    smooth, lines = _year()
    chosen = smooth.loc[pd.Timestamp(start) : pd.Timestamp(start) + pd.Timedelta(days=days, minutes=-1)]
    if len(chosen) < days * 24 * 60 or not chosen.sum():
        raise ValueError(f"The data goes from {smooth.index[0]:%Y-%m-%d} to {smooth.index[-1]:%Y-%m-%d}, not {start}.")
    a_day = smooth.mean() * 24 * 60
    per_basket = lines if requests_per_basket is None else requests_per_basket
    # From a value per minute to one per second.
    return (chosen * shops * baskets_per_shop / a_day * per_basket / 60).rename("requests per second")


def daily(series: pd.Series) -> pd.DataFrame:
    """Requests of each day and its busiest minute.

    Returns:
        ``weekday``, ``requests, millions``, ``busiest minute`` (time) and ``requests per second`` in it; one row
        per date.
    """
    days = series.groupby(series.index.normalize())
    rows = {
        day.date(): {
            "weekday": day.day_name(),
            "requests, millions": values.sum() * 60 / 1e6,
            "busiest minute": f"{values.idxmax():%H:%M}",
            "requests per second": values.max(),
        }
        for day, values in days
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def resampled(series: pd.Series, seconds: float) -> np.ndarray:
    """The series at equal steps of ``seconds``, straight lines between the minutes.

    Returns:
        Array (steps,).
    """
    span = len(series) * 60
    times = np.arange(0, span, seconds)
    return np.interp(times, np.arange(0, span, 60) + 30, series.to_numpy())
