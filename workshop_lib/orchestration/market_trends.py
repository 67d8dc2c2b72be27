"""Trends and seasons of categories within one year of sales.

A single year cannot tell growth from season: there is no second December to compare with. So the trends here are
those of a category's *share* of everything the shop sells, over ordinary weeks only; how far a trend rests on one
season shows when each quarter in turn is left out.

Sources: Theil-Sen slopes and the Mann-Kendall test (Gilbert, *Statistical Methods for Environmental Pollution
Monitoring*, 1987, chapters 16 and 17), the effective number of weeks under autocorrelation (Yue and Wang, *Water
Resources Management* 18, 2004), false discovery rate (Benjamini and Hochberg, *JRSS B* 57, 1995).
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from workshop_lib.orchestration.market_results import Evidence, Season, Trend
from workshop_lib.orchestration.shop import Shop
from workshop_lib.predictive.calendar import calendar_features, feasts
from workshop_lib.settings import settings

FALSE_SHARE = 0.1
"""Clear trends: at most this share of those found may be chance."""
HINT = 0.1
"""p-value up to which a trend that is not clear is called a hint."""
FEWEST_WEEKS = 16
"""Ordinary weeks without which nothing is said about trends."""
FEAST_DAYS = 7
"""Days up to a feast in which people shop for it."""
BASELINE_DAYS = 42
"""Days before and after a feast whose ordinary days it is compared with."""
_Z = float(stats.norm.ppf(0.975))


class TooLittleData(ValueError):
    """The tables are too short or too small for an analysis."""


@dataclass(frozen=True)
class Weeks:
    """Ordinary weeks of the shop, from Monday to Sunday: complete, without a feast and without the day before one.

    ``units``, ``revenue``: shape (weeks, categories). ``shop``: units of the whole shop, shape (weeks,).
    ``number``: weeks since the first one, shape (weeks,). Weeks that are left out leave a gap in it.
    """

    monday: pd.DatetimeIndex
    number: np.ndarray
    units: pd.DataFrame
    revenue: pd.DataFrame
    shop: np.ndarray

    @property
    def log_share(self) -> np.ndarray:
        """Logarithm of each category's share of the shop's units, shape (weeks, categories)."""
        # Half a unit keeps a week without sales finite.
        return np.asarray(np.log((self.units.to_numpy() + 0.5) / self.shop[:, None]))


@dataclass(frozen=True)
class Slopes:
    """Result of :func:`find_slopes`; each array has shape (categories,)."""

    slope: np.ndarray
    """Change of the logarithm per week."""
    lower: np.ndarray
    upper: np.ndarray
    p_value: np.ndarray
    q_value: np.ndarray


def ordinary_weeks(shop: Shop) -> Weeks:
    """The weeks that can be compared with each other.

    Raises:
        TooLittleData: when there are too few.
    """
    sales = shop.daily_sales
    known = sales[sales["category"].isin(shop.categories)]
    wide = known.pivot(index="date", columns="category", values=["units", "revenue"])
    days = pd.DatetimeIndex(wide.index)
    monday = days - pd.to_timedelta(days.dayofweek, unit="D")
    is_open = sales.drop_duplicates("date").set_index("date")["open"].reindex(days).to_numpy(dtype=bool)
    ordinary = is_open & (calendar_features(days)["days_to_feast"].to_numpy() > 1)
    whole = pd.Series(ordinary, index=monday).groupby(level=0).sum() == 7
    weekly = wide.groupby(monday).sum()[whole]
    if len(weekly) < FEWEST_WEEKS:
        raise TooLittleData(f"The sales hold {len(weekly)} ordinary weeks; trends need {FEWEST_WEEKS} or more.")
    total = sales.groupby("date")["units"].sum().reindex(days).groupby(monday).sum()[whole]
    names = pd.DatetimeIndex(weekly.index)
    return Weeks(
        monday=names,
        number=((names - names[0]).days // 7).to_numpy(),
        units=weekly["units"][shop.categories],
        revenue=weekly["revenue"][shop.categories],
        shop=total.to_numpy(dtype=float),
    )


def find_slopes(series: np.ndarray, number: np.ndarray) -> Slopes:
    """Theil-Sen slopes with Mann-Kendall tests that allow for weeks that resemble their neighbours.

    Args:
        series: one column per series, shape (weeks, series).
        number: of each week, ascending, shape (weeks,).
    """
    n = len(number)
    first, second = np.triu_indices(n, 1)
    slopes = (series[second] - series[first]) / (number[second] - number[first])[:, None]
    slope = np.median(slopes, axis=0)
    score = np.sign(slopes).sum(axis=0)
    spread = np.sqrt(n * (n - 1) * (2 * n + 5) / 18 * _inflation(series - slope * number[:, None]))
    z = (score - np.sign(score)) / spread
    p_value = 2 * stats.norm.sf(np.abs(z))
    return Slopes(slope, *_bounds(slopes, spread), p_value, stats.false_discovery_control(p_value))


def _inflation(rest: np.ndarray) -> np.ndarray:
    """By how much autocorrelation widens the variance of the score; 1 or more, shape (series,).

    A week that resembles the one before adds less than a week's worth of evidence. The autocorrelation of what the
    trend leaves is that of ranks, corrected for its bias in short series; a negative one is taken for none.
    """
    n = len(rest)
    ranks = stats.rankdata(rest, axis=0)
    ranks -= ranks.mean(axis=0)
    squares = np.maximum((ranks**2).sum(axis=0), 1e-12)
    found = (ranks[1:] * ranks[:-1]).sum(axis=0) / squares
    carried = np.clip((n * found + 2) / (n - 4), 0, 0.95)
    lags = np.arange(1, n)[:, None]
    return np.asarray(1 + 2 * ((1 - lags / n) * carried**lags).sum(axis=0))


def _bounds(slopes: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95% interval of a slope: the pairwise slopes at the ranks that the score's spread gives."""
    ordered = np.sort(slopes, axis=0)
    count = len(ordered)
    half = _Z * spread
    low = np.clip((count - half) / 2, 0, count - 1).astype(int)
    high = np.clip((count + half) / 2, 0, count - 1).astype(int)
    places = np.arange(slopes.shape[1])
    return ordered[low, places], ordered[high, places]


def trends(shop: Shop, weeks: Weeks | None = None) -> tuple[Trend, ...]:
    """Every category's trend, the strongest growth first.

    Raises:
        TooLittleData: when there are too few ordinary weeks.
    """
    weeks = weeks or ordinary_weeks(shop)
    series, span = weeks.log_share, float(weeks.number[-1])
    found = find_slopes(series, weeks.number)
    quarter = weeks.monday.quarter.to_numpy()
    without = [
        find_slopes(series[quarter != one], weeks.number[quarter != one]).slope
        for one in np.unique(quarter)
        if (quarter != one).sum() > FEWEST_WEEKS // 2
    ]
    steady = np.all([left / _nonzero(found.slope) >= 0.5 for left in without], axis=0)
    growth, lower, upper = (np.expm1(part * span) for part in (found.slope, found.lower, found.upper))
    departments = department_of(shop)
    rows = [
        Trend(
            category=name,
            department=departments[name],
            weekly_units=float(weeks.units[name].mean()),
            weekly_revenue=float(weeks.revenue[name].mean()),
            growth=float(growth[place]),
            lower=float(lower[place]),
            upper=float(upper[place]),
            p_value=float(found.p_value[place]),
            q_value=float(found.q_value[place]),
            steady=bool(steady[place]),
            evidence=_evidence(found.p_value[place], found.q_value[place]),
        )
        for place, name in enumerate(weeks.units.columns)
    ]
    return tuple(sorted(rows, key=lambda row: -row.growth))


def _nonzero(values: np.ndarray) -> np.ndarray:
    return np.where(values == 0, np.inf, values)


def _evidence(p_value: float, q_value: float) -> Evidence:
    if q_value <= FALSE_SHARE:
        return "clear"
    return "hint" if p_value <= HINT else "none"


def department_of(shop: Shop) -> dict[str, str]:
    """Category and its department."""
    table = shop.daily_sales.drop_duplicates("category")
    return dict(zip(table["category"], table["department"], strict=True))


def seasons(shop: Shop) -> tuple[Season, ...]:
    """Every category around every feast and in every month, against ordinary weeks; the strongest first.

    Feasts are compared with the same weekdays of the ordinary weeks around them, months with the ordinary weeks of
    the whole year. How much a category's weeks vary by themselves is taken from neighbouring weeks, which a slow
    season hardly touches.

    Raises:
        TooLittleData: when there are too few ordinary weeks.
    """
    weeks = ordinary_weeks(shop)
    logs = np.log(weeks.units.to_numpy() + 0.5)
    follows = np.diff(weeks.number) == 1
    noise = np.diff(logs, axis=0)[follows].std(axis=0) / np.sqrt(2)
    parts = [*_around_feasts(shop, noise), *_months(weeks, noise)]
    if not parts:
        return ()
    table = pd.concat(parts, ignore_index=True)
    table["q_value"] = stats.false_discovery_control(2 * stats.norm.sf(np.abs(np.log(table["ratio"])) / table["error"]))
    width = np.exp(_Z * table.pop("error"))
    table["lower"], table["upper"] = table["ratio"] / width, table["ratio"] * width
    table["department"] = table["category"].map(department_of(shop))
    table = table.iloc[np.argsort(-np.abs(np.log(table["ratio"].to_numpy())), kind="stable")]
    return tuple(Season.model_validate(row) for row in table.to_dict("records"))


def _around_feasts(shop: Shop, noise: np.ndarray) -> list[pd.DataFrame]:
    """Per feast one row for each category: ratio to ordinary days, its error on the log scale, extra units."""
    sales = shop.daily_sales
    wide = sales.pivot(index="date", columns="category", values="units")[shop.categories]
    days = pd.DatetimeIndex(wide.index)
    is_open = sales.drop_duplicates("date").set_index("date")["open"].reindex(days).to_numpy(dtype=bool)
    near = calendar_features(days)
    ordinary = is_open & (near["days_to_feast"] >= FEAST_DAYS) & (near["days_since_feast"] > 2)
    tables = []
    for feast in feasts_in(days):
        window = is_open & (days <= feast) & (days > feast - pd.Timedelta(days=FEAST_DAYS))
        around = ordinary & (np.abs((days - feast).days) <= BASELINE_DAYS)
        usual = wide[around].groupby(days[around].dayofweek).mean()
        if window.sum() < FEAST_DAYS - 2 or len(usual) < 7:
            continue
        expected = usual.loc[days[window].dayofweek].sum().to_numpy() + 0.5
        sold = wide[window].sum().to_numpy() + 0.5
        error = noise * np.sqrt(7 / window.sum() + 7 / around.sum())
        tables.append(_rows("feast", feast_name(feast), wide.columns, sold / expected, error, sold - expected))
    return tables


def _months(weeks: Weeks, noise: np.ndarray) -> list[pd.DataFrame]:
    """Per month the same."""
    # A week belongs to the month of its Thursday.
    months = (weeks.monday + pd.Timedelta(days=3)).month.to_numpy()
    units = weeks.units.to_numpy()
    usual = units.mean(axis=0)
    tables = []
    for month in np.unique(months):
        own = months == month
        ratio = (units[own].mean(axis=0) + 0.5) / (usual + 0.5)
        error = noise * np.sqrt(1 / own.sum() - 1 / len(units))
        extra = (units[own] - usual).sum(axis=0)
        tables.append(_rows("month", calendar.month_name[month], weeks.units.columns, ratio, error, extra))
    return tables


def _rows(
    kind: str, part: str, categories: pd.Index, ratio: np.ndarray, error: np.ndarray, extra: np.ndarray
) -> pd.DataFrame:
    columns = {"category": categories, "ratio": ratio, "error": np.maximum(error, 1e-6), "extra_units": extra}
    return pd.DataFrame(columns).assign(kind=kind, part=part)


def feasts_in(days: pd.DatetimeIndex) -> list[pd.Timestamp]:
    """Feasts for which people shopped on these days."""
    found = [feast for year in range(days[0].year, days[-1].year + 2) for feast in feasts(year)]
    return [feast for feast in found if days[0] <= feast <= days[-1] + pd.Timedelta(days=1)]


def next_feast(after: pd.Timestamp) -> pd.Timestamp:
    """The first feast for which there is still time to prepare: a week or more after a day."""
    found = [feast for year in (after.year, after.year + 1) for feast in feasts(year)]
    return next(feast for feast in found if feast >= after + pd.Timedelta(days=FEAST_DAYS))


def feast_name(day: pd.Timestamp) -> str:
    """A feast's English name."""
    from dateutil.easter import easter
    from holidays import country_holidays

    if day.date() == easter(day.year):
        return "Easter"
    country = settings.holidays
    language = "en_US" if country == "US" else None
    named = country_holidays(country, years=day.year, observed=False, language=language)
    return str(named.get(day.date(), f"{day:%B} {day.day}"))
