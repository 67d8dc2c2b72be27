"""What forecast errors cost: the held-out days again, with a stock that is ordered by a forecast.

Every evening the shop orders, for each category, up to a target for the next day. The target is the newsvendor's
quantile (Arrow, Harris, Marschak 1951): enough with the probability ``short / (short + left)``, where these are what
one unit too few and one too many cost. When an order arrives by the next morning and what is left can be used, the
rule that looks at one day alone is also the best one for many days (Veinott 1965, "Optimal policy for a multi-product,
dynamic, nonstationary inventory problem", Management Science 12(3)).

What was sold stands for what was wanted: the data does not show who found an empty shelf.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from workshop_lib import data
from workshop_lib.mlops.assumptions import Values
from workshop_lib.orchestration.advice import FRESH, quantile
from workshop_lib.predictive import intervals
from workshop_lib.predictive.champion import load_champion
from workshop_lib.predictive.forecaster import Dataset, make_dataset, predict_units, seasonal_naive
from workshop_lib.settings import settings

MODEL, NAIVE, PERFECT = "forecaster", "same day last week", "perfect forecast"
RESAMPLES = 2000
FEAST_DAYS = 3
"""Up to so many days before a public holiday, and on it, shopping is not ordinary."""


@dataclass(frozen=True)
class Plan:
    """Forecasts for the days of a trial, with their intervals; units, shape (days, categories) each."""

    units: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    coverage: float = intervals.COVERAGE

    def order_up_to(self, level: np.ndarray) -> np.ndarray:
        """Whole units that are enough with the probability ``level``, one per category: shape (days, categories)."""
        return np.ceil(quantile(self.units, self.lower, self.upper, self.coverage, level))


@dataclass(frozen=True)
class Trial:
    """Days that no model has seen, and several plans for them."""

    days: pd.DatetimeIndex
    feast: np.ndarray
    """Whether a day is a public holiday or close before one, shape (days,)."""
    demand: np.ndarray
    """Units, shape (days, categories)."""
    price: np.ndarray
    """Dollars per unit before these days, shape (categories,)."""
    category: np.ndarray
    """Names, shape (categories,)."""
    department: np.ndarray
    """Where each belongs, shape (categories,)."""
    plans: Mapping[str, Plan]
    yearly_sales: float
    """Dollars that these categories bring in a year."""

    @property
    def fresh(self) -> np.ndarray:
        """Which categories do not keep, shape (categories,)."""
        return np.isin(self.department, sorted(FRESH))

    @property
    def sales(self) -> np.ndarray:
        """Dollars that customers wanted to spend, shape (days, categories)."""
        return self.demand * self.price


@dataclass(frozen=True)
class Outcome:
    """What became of the stock; shape (days, categories) each."""

    missed: np.ndarray
    """Units that somebody wanted and did not get."""
    spoiled: np.ndarray
    left: np.ndarray
    """Units on the shelf in the evening, those that spoil included."""
    lost_margin: np.ndarray
    """Dollars."""
    waste: np.ndarray
    """Dollars."""
    holding: np.ndarray
    """Dollars."""

    @property
    def cost(self) -> np.ndarray:
        """Dollars: lost margin, waste and holding together."""
        return self.lost_margin + self.waste + self.holding


def load_trial() -> Trial:
    """The held-out days with the champion's forecasts, the seasonal naive's and perfect ones.

    Both real forecasts are one day ahead, and both get their intervals in the same way: by their errors on the
    validation days.

    Raises:
        ValueError: when the champion was trained on some of these days.
    """
    champion = load_champion()
    dataset = make_dataset(len(champion.package["categories"]))
    if pd.Timestamp(champion.package["last_day"]) >= dataset.split.test[0]:
        raise ValueError(f"The champion has seen data until {champion.package['last_day']}: these days are no test.")
    panel, fit, test = dataset.panel, dataset.split.fit, dataset.split.test
    model = _wide(predict_units(champion.model, dataset.features.loc[test]), dataset)
    usual = _wide(seasonal_naive(panel, test), dataset)
    before = pd.DataFrame({1: seasonal_naive(panel, dataset.split.validation)})
    interval = intervals.measure(before, dataset.units.reindex(before.index).to_numpy())
    own = champion.package["interval"]
    demand = panel.units.loc[test].to_numpy(dtype=float)
    names = data.load("daily_sales", columns=["category", "department"]).drop_duplicates("category")
    to_feast = dataset.features.loc[test, "days_to_feast"].groupby(level="date").first()
    return Trial(
        days=test,
        feast=(to_feast <= FEAST_DAYS).to_numpy(),
        demand=demand,
        price=(panel.revenue.loc[fit].sum() / panel.units.loc[fit].sum()).to_numpy(),
        category=panel.units.columns.to_numpy(dtype=str),
        department=names.set_index("category")["department"].loc[panel.units.columns].to_numpy(dtype=str),
        plans={
            NAIVE: Plan(usual, *intervals.bounds(interval, usual), interval["coverage"]),
            MODEL: Plan(model, *intervals.bounds(own, model), own["coverage"]),
            PERFECT: Plan(demand, demand, demand),
        },
        yearly_sales=float(panel.revenue.to_numpy().sum()) * 365 / len(panel.dates),
    )


def _wide(series: pd.Series, dataset: Dataset) -> np.ndarray:
    """Rows of (date, category) as a table of days by categories."""
    return series.unstack("category").loc[dataset.split.test, dataset.panel.units.columns].to_numpy(dtype=float)


def critical_ratio(short: np.ndarray | float, left: np.ndarray | float) -> np.ndarray | float:
    """The newsvendor's probability of having enough.

    Args:
        short: what one unit too few costs.
        left: what one unit too many costs.
    """
    return short / (short + left)


def levels(trial: Trial, values: Values) -> np.ndarray:
    """The critical ratio of each category, shape (categories,)."""
    bought = 1 - values["margin"]  # per dollar of the price, which then cancels out
    left = bought * (trial.fresh * values["fresh_spoils"] + values["holding"])
    return np.asarray(critical_ratio(values["margin"], left))


def simulate(trial: Trial, plan: str, values: Values) -> Outcome:
    """Order, sell, throw away and keep, day by day, beginning with empty shelves.

    Args:
        trial: the days.
        plan: which of its plans decides the orders.
        values: ``margin``, ``fresh_spoils`` and ``holding``.
    """
    targets = trial.plans[plan].order_up_to(levels(trial, values))
    spoils = trial.fresh * values["fresh_spoils"]
    stock = np.zeros(len(trial.price))
    missed, left, spoiled = (np.empty_like(trial.demand) for _ in range(3))
    for day, (target, demand) in enumerate(zip(targets, trial.demand, strict=True)):
        stock = np.maximum(stock, target)  # an order only adds
        missed[day] = np.maximum(demand - stock, 0)
        left[day] = np.maximum(stock - demand, 0)
        spoiled[day] = left[day] * spoils
        stock = left[day] - spoiled[day]
    bought = trial.price * (1 - values["margin"])
    return Outcome(
        missed=missed, spoiled=spoiled, left=left,
        lost_margin=missed * trial.price * values["margin"],
        waste=spoiled * bought,
        holding=left * bought * values["holding"],
    )  # fmt: skip


def saving(trial: Trial, values: Values) -> np.ndarray:
    """Dollars that ordering by the model saves against the baseline, shape (days, categories)."""
    return simulate(trial, NAIVE, values).cost - simulate(trial, MODEL, values).cost


def yearly_saving(trial: Trial, values: Values, random: np.random.Generator | None = None) -> float:
    """Dollars per year and shop: the saving per dollar sold, on a year's sales, before any deduction.

    Args:
        trial: the days.
        values: the assumptions.
        random: draws the days anew, with replacement; without it each counts once.
    """
    count = len(trial.days)
    chosen = np.arange(count) if random is None else random.integers(count, size=count)
    return float(saving(trial, values)[chosen].sum() / trial.sales[chosen].sum() * trial.yearly_sales)


def compare(trial: Trial, values: Values) -> pd.DataFrame:
    """A row per plan: shares in percent of the units wanted, costs in percent of the sales."""
    rows = {}
    for plan in trial.plans:
        outcome = simulate(trial, plan, values)
        parts = {"lost margin": outcome.lost_margin, "waste": outcome.waste, "holding": outcome.holding}
        rows[plan] = {
            "units missed, %": outcome.missed.sum() / trial.demand.sum(),
            "fresh units spoiled, %": outcome.spoiled.sum() / trial.demand[:, trial.fresh].sum(),
            **{f"{name}, % of sales": part.sum() / trial.sales.sum() for name, part in parts.items()},
            "cost, % of sales": outcome.cost.sum() / trial.sales.sum(),
        }
    return 100 * pd.DataFrame.from_dict(rows, orient="index")


def by_department(trial: Trial, values: Values, seed: int = settings.seed) -> pd.DataFrame:
    """What the model saves in each department and altogether, with 95% intervals.

    The intervals come from a bootstrap of whole days (Efron & Tibshirani 1993): the categories of one day share its
    weather and its crowd.

    Returns:
        ``fresh``, ``sales`` (dollars), ``baseline cost`` and ``saving`` with ``low`` and ``high`` (percent of the
        sales); a row per department, largest first, and ``all``.
    """
    names = list(pd.Series(trial.sales.sum(axis=0)).groupby(trial.department).sum().sort_values(ascending=False).index)
    member = np.array([trial.department == name for name in names] + [np.ones(len(trial.price), dtype=bool)]).T
    saved, sold = saving(trial, values) @ member, trial.sales @ member
    cost = simulate(trial, NAIVE, values).cost @ member
    drawn = stats.bootstrap(
        (saved, sold), _ratio, n_resamples=RESAMPLES, paired=True, axis=0, method="percentile", batch=200,
        rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return pd.DataFrame(
        {
            "fresh": [name in FRESH for name in names] + [False],
            "sales": sold.sum(axis=0),
            "baseline cost": 100 * cost.sum(axis=0) / sold.sum(axis=0),
            "saving": 100 * _ratio(saved, sold, axis=0),
            "low": 100 * drawn.low,
            "high": 100 * drawn.high,
        },
        index=[*names, "all"],
    )


def _ratio(above: np.ndarray, below: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.asarray(above.sum(axis=axis) / below.sum(axis=axis))
