"""The sales forecaster: units of a category on the next open day.

The pieces a learner puts together in notebook 03, and :func:`champion`, which gives every later
notebook the registered model (and trains it first where there is none).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from workshop_lib import data
from workshop_lib.predictive.features import (
    FEATURES,
    WARM_UP,
    Panel,
    build_features,
    history_features_after,
    make_panel,
    stack,
    without_closed_days,
)
from workshop_lib.settings import settings

if TYPE_CHECKING:  # servers need no training, and start seconds earlier without these
    from sklearn.ensemble import RandomForestRegressor
    from xgboost import XGBRegressor

CATEGORIES = 120
"""Categories that the forecaster covers by default: the largest by units."""
HORIZONS = 7
"""Days ahead for which forecasts are made."""
MODEL_NAME = "sales-forecaster"
"""Name in the model registry."""


class Model(Protocol):
    """What the functions here need of a regressor."""

    def predict(self, X: Any) -> np.ndarray:
        """Forecast per row."""
        ...


@dataclass(frozen=True)
class Split:
    """Open days of training, validation and test, in this order in time."""

    train: pd.DatetimeIndex
    validation: pd.DatetimeIndex
    test: pd.DatetimeIndex

    @property
    def fit(self) -> pd.DatetimeIndex:
        """Training and validation days: what the chosen model is fitted on before the test."""
        return self.train.append(self.validation)


def split_days(opening: pd.Series, shares: tuple[float, float] = (0.70, 0.15)) -> Split:
    """Cut the open days after the warm-up into 70% training, 15% validation and 15% test, by time.

    Args:
        opening: whether the shop opens, indexed by every date of the data.
        shares: of training and of validation; the test gets the rest.

    Raises:
        ValueError: when a part would be empty.
    """
    days = pd.DatetimeIndex(opening.index[WARM_UP:][opening.iloc[WARM_UP:].to_numpy(dtype=bool)])
    first, second = int(len(days) * shares[0]), int(len(days) * sum(shares))
    if not 0 < first < second < len(days):
        raise ValueError(f"{len(opening)} days of data are too few to split into training, validation and test.")
    return Split(days[:first], days[first:second], days[second:])


@dataclass(frozen=True)
class Dataset:
    """Everything that training and evaluation need."""

    panel: Panel
    split: Split
    features: pd.DataFrame
    """One row per (date, category) of all open days after the warm-up, sorted by date."""
    units: pd.Series
    """What was sold, in the rows of :attr:`features`."""

    def rows(self, days: pd.DatetimeIndex) -> tuple[pd.DataFrame, pd.Series]:
        """Features and units of some days."""
        return self.features.loc[days], self.units.loc[days]


def make_dataset(categories: int = CATEGORIES, sales: pd.DataFrame | None = None) -> Dataset:
    """Load the daily sales and build the features of the largest categories.

    The categories are the largest of the training days.

    Args:
        categories: how many.
        sales: the table ``daily_sales``; the shop's own by default.

    Raises:
        DataError: when the data cannot be used.
        ValueError: when it has too few categories or days.
    """
    sales = data.load("daily_sales") if sales is None else sales
    split = split_days(sales.drop_duplicates("date").set_index("date")["open"])
    panel = make_panel(sales, categories, until=split.train[-1])
    days = split.fit.append(split.test)
    features = stack(build_features(panel), days)
    units = panel.units.loc[days].stack().rename("units")
    return Dataset(panel, split, features, units.reindex(features.index))


def day_folds(index: pd.MultiIndex, folds: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Time-series cross-validation over days, so that no day is split between training and test.

    Args:
        index: (date, category), sorted by date.
        folds: number of folds; each tests on the days that follow its training days.

    Yields:
        Row numbers for training and for testing, as scikit-learn's ``cv`` takes them.
    """
    from sklearn.model_selection import TimeSeriesSplit

    dates = index.get_level_values("date")
    days = dates.unique()
    for before, after in TimeSeriesSplit(folds).split(days):
        yield np.flatnonzero(dates.isin(days[before])), np.flatnonzero(dates.isin(days[after]))


def seasonal_naive(panel: Panel, days: pd.DatetimeIndex) -> pd.Series:
    """What was sold on the same weekday a week before: known one to seven days ahead.

    A closed day a week before is replaced by the one before it.
    """
    usual = without_closed_days(panel.units, panel.open).shift(7).loc[days]
    return usual.stack().rename("seasonal_naive")


def random_forest(seed: int = settings.seed, **options: Any) -> RandomForestRegressor:
    """A random forest with settings that suit sales counts; ``options`` override them."""
    from sklearn.ensemble import RandomForestRegressor

    defaults = {"n_estimators": 100, "max_depth": 16, "min_samples_leaf": 3, "max_features": 1 / 3}
    return RandomForestRegressor(**{**defaults, **options}, random_state=seed)


def gradient_boosting(seed: int = settings.seed, **options: Any) -> XGBRegressor:
    """XGBoost's regressor, boosting small forests of three trees; ``options`` override the settings.

    Several trees per round, each on a part of rows and features, make the result depend less on chance.
    """
    from xgboost import XGBRegressor

    defaults = {
        "n_estimators": 300,
        "learning_rate": 0.05,
        "num_parallel_tree": 3,
        "max_depth": 6,
        "min_child_weight": 10,
        "subsample": 0.7,
        "colsample_bynode": 0.5,
        "reg_lambda": 10,
    }
    return XGBRegressor(**{**defaults, **options}, random_state=seed)


def predict_units(model: Model, features: pd.DataFrame) -> pd.Series:
    """Forecast units; a model's negative values become zero, since nobody sells less than nothing.

    Args:
        model: a fitted regressor.
        features: columns :data:`FEATURES` in their order.
    """
    forecast = np.maximum(model.predict(features[list(FEATURES)].to_numpy()), 0)
    return pd.Series(forecast.astype(float), index=features.index, name="forecast")


def forecast_horizons(model: Model, panel: Panel, days: pd.DatetimeIndex) -> pd.DataFrame:
    """Forecast the same days from one to seven days ahead.

    The recursive strategy: the forecast for tomorrow takes tomorrow's place in the history from which
    the day after is forecast. Prices stay as they were last seen; promotions and calendar are known.
    Source: Hyndman & Athanasopoulos, "Forecasting: Principles and Practice", section 13.8.

    Args:
        model: a one-day-ahead regressor.
        panel: the panel with the true sales.
        days: the days to forecast; each needs :data:`HORIZONS` + 28 days before it.

    Returns:
        One column per horizon 1 to :data:`HORIZONS`, one row per (date, category) of ``days``.
    """
    wide = build_features(panel)
    units = without_closed_days(panel.units, panel.open).to_numpy()
    position = {day: row for row, day in enumerate(panel.dates)}
    first, last = position[days[0]] - HORIZONS, position[days[-1]] - 1
    origins = np.arange(first, last + 1)  # rows of the last day known
    memory = 28
    # Axis 0: 28 known days, then the days forecast; axes 1 and 2: origins and categories.
    history = np.full((memory + HORIZONS, len(origins), units.shape[1]), np.nan)
    for age in range(memory):
        history[age] = units[origins - memory + 1 + age]
    forecasts = {}
    for step in range(1, HORIZONS + 1):
        targets = np.minimum(origins + step, len(units) - 1)
        row = memory + step - 1
        inputs = {name: wide[name].to_numpy()[targets] for name in FEATURES}
        inputs |= history_features_after(history[:row])
        for name in ("price_7", "price_ratio", "price_band", "discount_7"):
            inputs[name] = wide[name].to_numpy()[np.minimum(origins + 1, len(units) - 1)]
        matrix = np.stack([inputs[name] for name in FEATURES], axis=-1).reshape(-1, len(FEATURES))
        made = np.maximum(model.predict(matrix.astype(np.float32)), 0.0).astype(float).reshape(len(origins), -1)
        # The history keeps the usual weekday's value on closed days, as it does for the past.
        closed = ~panel.open.to_numpy(dtype=bool)[targets]
        history[row] = np.where(closed[:, None], history[row - 7], made)
        table = pd.DataFrame(made, index=panel.dates[targets], columns=panel.units.columns)
        forecasts[step] = table.loc[origins + step <= last + 1].loc[days].stack()
    return pd.DataFrame(forecasts).rename_axis(index=["date", "category"], columns="horizon")


@dataclass(frozen=True)
class Trained:
    """A fitted forecaster with what later steps need to know about it."""

    model: Any
    dataset: Dataset
    seconds: float
    """Wall time of the fit."""


def train(model: Any, dataset: Dataset) -> Trained:
    """Fit a regressor on the training and validation days."""
    features, units = dataset.rows(dataset.split.fit)
    start = time.perf_counter()
    model.fit(features.to_numpy(), units.to_numpy())
    return Trained(model, dataset, time.perf_counter() - start)
