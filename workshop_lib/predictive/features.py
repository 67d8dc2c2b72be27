"""Features for "units of a category on a day", from what is known the evening before.

Everything is computed on wide tables (a row per day, a column per category), where
``units.shift(7)`` reads as "the same weekday last week". What is known when a day is forecast:

* sales up to the day before (:func:`history_features` and :func:`price_features`, all shifted);
* the calendar (:func:`workshop_lib.predictive.calendar.calendar_features`);
* the promotion plan of the week (:func:`promotion_features`): mailers are printed weeks ahead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from workshop_lib.predictive.calendar import calendar_features

WARM_UP = 35
"""Days at the start of the data without features: four weeks of history for the same weekday, and a week."""
PLANS = ("display_share", "mailer_share", "front_page_share")
PRICE_BANDS = (2.0, 3.5)
"""Upper limits, in dollars per unit, of the bands low and middle; above is high."""

Wide = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Panel:
    """Daily sales as wide tables: index date, one column per category."""

    units: pd.DataFrame
    revenue: pd.DataFrame
    discount: pd.DataFrame
    plans: Wide
    """Promotion plan per kind in :data:`PLANS`: share of the category's sales that is promoted."""
    department: pd.Series
    """Department code of each category: position in the alphabetical list of departments."""
    open: pd.Series
    """Whether the shop opens on a date."""

    @property
    def dates(self) -> pd.DatetimeIndex:
        """The days of the panel."""
        return pd.DatetimeIndex(self.units.index)

    def until(self, day: pd.Timestamp) -> Panel:
        """The panel as it is known at the end of ``day``: later sales are blank, plans stay."""
        sales = (self.units, self.revenue, self.discount)
        units, revenue, discount = (table.loc[:day].reindex(self.dates) for table in sales)
        return replace(self, units=units, revenue=revenue, discount=discount)


def make_panel(daily_sales: pd.DataFrame, categories: int, until: pd.Timestamp | None = None) -> Panel:
    """Pivot daily sales into a panel of the largest categories.

    Args:
        daily_sales: the table ``daily_sales``.
        categories: how many to keep, by units sold.
        until: last day that may decide which categories are largest (the end of training: choosing
            them by later sales would let the future in). The whole table by default.

    Raises:
        ValueError: when there are fewer categories or days than asked for.
    """
    seen = daily_sales if until is None else daily_sales[daily_sales["date"] <= until]
    largest = seen.groupby("category")["units"].sum().nlargest(categories).index
    if len(largest) < categories:
        raise ValueError(f"categories={categories}: the data has only {len(largest)}.")
    wide = daily_sales[daily_sales["category"].isin(largest)].pivot(index="date", columns="category")
    if len(wide) <= WARM_UP:
        raise ValueError(f"The data covers {len(wide)} days; forecasting needs more than {WARM_UP}.")
    departments = wide["department"].iloc[0].loc[largest]
    codes = pd.Series({name: code for code, name in enumerate(sorted(departments.unique()))})
    opening = daily_sales.drop_duplicates("date").set_index("date")["open"].reindex(wide.index)
    return Panel(
        units=wide["units"][largest],
        revenue=wide["revenue"][largest],
        discount=wide["discount"][largest],
        plans={plan: wide[plan][largest] for plan in PLANS},
        department=departments.map(codes),
        open=opening,
    )


def without_closed_days(table: pd.DataFrame, opening: pd.Series) -> pd.DataFrame:
    """Replace closed days by the same weekday a week before: a closed door says nothing about demand."""
    filled = table.copy()
    filled.loc[~opening] = table.shift(7).loc[~opening]
    return filled


def history_features(units: pd.DataFrame) -> Wide:
    """Lags and rolling statistics of the days before each day.

    Args:
        units: days by series; row *t* of the result uses rows up to *t* − 1 only.

    Returns:
        Per feature a table of the same shape; the first 28 rows hold missing values.
    """
    yesterday = units.shift(1)
    lags = {f"lag_{days}": units.shift(days) for days in (1, 7, 14, 21, 28)}
    means = {f"mean_{days}": yesterday.rolling(days).mean() for days in (3, 7, 14, 28)}
    spreads = {f"std_{days}": yesterday.rolling(days).std() for days in (7, 28)}
    return {
        **lags,
        **means,
        **spreads,
        "weekday_mean": (lags["lag_7"] + lags["lag_14"] + lags["lag_21"] + lags["lag_28"]) / 4,
        # Exponential smoothing over 28 days: finite, so that a forecast needs no longer history.
        "smoothed": _smoothed(yesterday),
        "trend": means["mean_7"] / (means["mean_28"] + 1),
    }


def history_features_after(history: np.ndarray) -> dict[str, np.ndarray]:
    """The same features for the one day after some days that are known; tables of pandas take a hundred times as long.

    Args:
        history: units of 28 days or more, shape (days,) or (days, series, …).

    Returns:
        Per feature a number, or one per series.
    """
    # One more day stands for that day itself: every feature is shifted past it.
    days = np.concatenate([history, np.full_like(history[:1], np.nan)])
    features: dict[str, Any] = history_features(cast(pd.DataFrame, _Tail(days)))
    return {name: value.last if isinstance(value, _Tail) else value for name, value in features.items()}


class _Tail:
    """The last days of some series, with as much of a table's interface as :func:`history_features` uses."""

    __array_ufunc__ = None  # an array plus this is for this class to compute

    def __init__(self, days: np.ndarray) -> None:
        self._days = days

    @property
    def last(self) -> np.ndarray:
        """The values of the last day."""
        return self._days[-1]

    def shift(self, days: int) -> _Tail:
        """The series as they were some days ago."""
        return _Tail(self._days[: len(self._days) - days])

    def rolling(self, days: int) -> _Tail:
        """The last days alone, for ``mean`` and ``std``."""
        return _Tail(self._days[-days:])

    def mean(self) -> np.ndarray:
        """Mean of all days."""
        return self._days.mean(axis=0)

    def std(self) -> np.ndarray:
        """Their standard deviation, with the correction for a sample, as pandas computes it."""
        return self._days.std(axis=0, ddof=1)

    def __mul__(self, factor: float) -> np.ndarray:
        return self.last * factor

    def __add__(self, other: float | np.ndarray | _Tail) -> np.ndarray:
        return self.last + (other.last if isinstance(other, _Tail) else other)

    __radd__ = __add__


def _smoothed(table: pd.DataFrame, half_life: float = 7, days: int = 28) -> pd.DataFrame:
    weights = 0.5 ** (np.arange(days) / half_life)
    return sum(table.shift(age) * weight for age, weight in enumerate(weights / weights.sum()))


def price_features(units: pd.DataFrame, revenue: pd.DataFrame, discount: pd.DataFrame) -> Wide:
    """Price and discount of the days before each day, in dollars per unit and as shares.

    ``price_band`` is 0, 1 or 2 by :data:`PRICE_BANDS`.
    """

    def per_unit(days: int) -> pd.DataFrame:
        return revenue.rolling(days).sum() / units.rolling(days).sum().clip(lower=1)

    price = per_unit(7).shift(1)
    usual = per_unit(28).shift(1)
    list_value = (revenue + discount).rolling(7).sum().clip(lower=0.01)
    # Sums of money differ in their last digits from one preparation to the next: a price of 2 dollars stays below.
    band = sum((usual.round(6) > limit).astype(float) for limit in PRICE_BANDS)
    return {
        "price_7": price,
        "price_ratio": price / usual.clip(lower=0.01),
        "price_band": band.where(usual.notna()),
        "discount_7": (discount.rolling(7).sum() / list_value).shift(1),
    }


def promotion_features(plans: Wide, weekend: np.ndarray) -> Wide:
    """The promotion plan of each day, how it differs from the last four weeks, and its weekend part.

    Args:
        plans: planned shares, known in advance; the day's own value is used.
        weekend: 0 or 1 per day.
    """
    mailer = plans["mailer_share"]
    return {
        **plans,
        "mailer_change": mailer - mailer.shift(1).rolling(28).mean(),
        "display_change": plans["display_share"] - plans["display_share"].shift(1).rolling(28).mean(),
        # An interaction: promotions draw more when people do their weekly shopping.
        "mailer_weekend": mailer * weekend[:, None],
    }


def build_features(panel: Panel) -> Wide:
    """All features of every category and day, in the order of :data:`FEATURES`.

    Returns:
        Per feature a table of days by categories; the first :data:`WARM_UP` days are incomplete.
    """
    units, revenue, discount = (
        without_closed_days(table, panel.open) for table in (panel.units, panel.revenue, panel.discount)
    )
    days = calendar_features(panel.dates)
    wide = {
        **history_features(units),
        **price_features(units, revenue, discount),
        **promotion_features(panel.plans, days["weekend"].to_numpy()),
        **{name: _spread(values.to_numpy()[:, None], units) for name, values in days.items()},
        "department": _spread(panel.department.to_numpy()[None, :], units),
    }
    return {name: wide[name] for name in FEATURES}


def _spread(values: np.ndarray, like: pd.DataFrame) -> pd.DataFrame:
    """Repeat a row or column of values over all categories or days."""
    return pd.DataFrame(np.broadcast_to(values, like.shape), index=like.index, columns=like.columns)


FEATURES = (
    "lag_1", "lag_7", "lag_14", "lag_21", "lag_28", "mean_3", "mean_7", "mean_14", "mean_28",
    "std_7", "std_28", "weekday_mean", "smoothed", "trend",
    "price_7", "price_ratio", "price_band", "discount_7",
    "display_share", "mailer_share", "front_page_share", "mailer_change", "display_change", "mailer_weekend",
    "weekday", "weekday_sin", "weekday_cos", "weekend", "day_of_month", "days_to_feast", "days_since_feast",
    "department",
)  # fmt: skip
"""Feature names in the order in which models take them."""


def stack(wide: Wide, days: pd.DatetimeIndex) -> pd.DataFrame:
    """Wide tables to a model's input: a row per (date, category), a column per feature, float32.

    Models take float32 because ONNX and OpenVINO compute in it: training on the same rounding keeps a
    value from falling on different sides of a tree's threshold before and after export.

    Raises:
        ValueError: when a feature is missing or not finite on one of the days.
    """
    rows = np.stack([wide[name].loc[days].to_numpy(dtype=np.float32) for name in FEATURES], axis=-1)
    categories = next(iter(wide.values())).columns
    index = pd.MultiIndex.from_product([days, categories], names=["date", "category"])
    frame = pd.DataFrame(rows.reshape(-1, len(FEATURES)), index=index, columns=list(FEATURES))
    bad = frame.columns[~np.isfinite(frame.to_numpy()).all(axis=0)]
    if len(bad):
        raise ValueError(
            f"Features {', '.join(bad)} are missing for days from {days[0]:%Y-%m-%d}: the history before is too short."
        )
    return frame
