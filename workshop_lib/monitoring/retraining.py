"""Continuous training: fit anew, run beside the old model for some weeks, and take over only if better.

The challenger is trained on everything up to the week of the trigger. The following weeks are the test, which
neither model has seen: both forecast them, one serves (module 3 calls this a shadow). Then a paired test decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from scipy import stats

from workshop_lib.monitoring.config import load_config
from workshop_lib.monitoring.drift_data import Weeks
from workshop_lib.predictive import champion as registry
from workshop_lib.predictive import intervals, tracking
from workshop_lib.predictive.forecaster import Dataset, Model, Split, Trained, gradient_boosting, predict_units, train
from workshop_lib.settings import settings

ALIAS = "monitored"
"""What this lesson calls its model in service. The course's own is the ``champion``; it stays as it is."""
RESAMPLES = 5000
INTERVAL_DAYS = 7
"""Last training days on which the prediction intervals of a new version are measured."""


@dataclass(frozen=True)
class ForecastComparison:
    """A challenger against a champion on the same days."""

    champion_wape: float
    challenger_wape: float
    improvement: float
    """Champion's WAPE minus challenger's: positive when the challenger is better."""
    low: float
    """Lower end of the 95% interval of the improvement."""
    high: float
    p_value: float
    """How often so large an improvement would be seen if the challenger were no better."""
    days: int

    @property
    def better(self) -> bool:
        """Whether the challenger beats the champion beyond chance, by the limit of the monitoring configuration."""
        return self.p_value < load_config().forecaster.drift.promotion_p_value

    def __str__(self) -> str:
        return (
            f"WAPE {self.challenger_wape:.4f} against the champion's {self.champion_wape:.4f}"
            f" on {self.days} days, p = {self.p_value:.3f}"
        )


def paired_test(
    truth: pd.Series,
    champion: pd.Series,
    challenger: pd.Series,
    *,
    resamples: int = RESAMPLES,
    seed: int = settings.seed,
) -> ForecastComparison:
    """Test whether the challenger's WAPE is lower than the champion's, one-sided.

    Both are judged on the same rows, and what counts is the difference per day: the 120 categories of a day have
    its weather and its crowd in common, so whole days are drawn (a paired bootstrap of clusters, Efron & Tibshirani
    1993, section 8), and the ratio is computed anew for each draw.

    Args:
        truth: units per (date, category).
        champion: its forecasts for the same rows.
        challenger: its forecasts for the same rows.
        resamples: bootstrap samples; the smallest possible p-value is 1 / (resamples + 1).
        seed: seed of the resampling.

    Raises:
        ValueError: when the rows differ, or hold fewer than two days.
    """
    if not (truth.index.equals(champion.index) and truth.index.equals(challenger.index)):
        raise ValueError("truth, champion and challenger need the same rows in the same order.")
    day = truth.index.get_level_values("date")
    lost, lost_new, units = (
        table.groupby(day).sum().to_numpy() for table in ((truth - champion).abs(), (truth - challenger).abs(), truth)
    )
    if len(units) < 2:
        raise ValueError("The paired test needs two or more days.")
    drawn = stats.bootstrap(
        (lost - lost_new, units), _ratio, n_resamples=resamples, paired=True, method="percentile",
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    improvement = float(_ratio(lost - lost_new, units))
    # Centred on "no difference": how often chance alone reaches what was seen.
    extreme = np.count_nonzero(drawn.bootstrap_distribution - improvement >= improvement)
    return ForecastComparison(
        champion_wape=float(_ratio(lost, units)),
        challenger_wape=float(_ratio(lost_new, units)),
        improvement=improvement,
        low=float(drawn.confidence_interval.low),
        high=float(drawn.confidence_interval.high),
        p_value=float((1 + extreme) / (resamples + 1)),
        days=len(units),
    )


def _ratio(above: np.ndarray, below: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.asarray(above.sum(axis=axis) / below.sum(axis=axis))


def compare(weeks: Weeks, champion: Model, challenger: Model, first: int, last: int) -> ForecastComparison:
    """Let two models forecast the same weeks, and test the difference with :func:`paired_test`."""
    features, units = weeks.rows(first, last)
    return paired_test(units, predict_units(champion, features), predict_units(challenger, features))


def train_until(weeks: Weeks, last: int, make: Callable[[], Any] = gradient_boosting) -> Trained:
    """Fit a forecaster on all whole weeks up to one.

    Args:
        weeks: the data.
        last: last training week.
        make: makes the regressor; the course's champion is :func:`gradient_boosting`.
    """
    return train(make(), weeks.training(weeks.whole[0], last))


@dataclass(frozen=True)
class Retraining:
    """What came of a trigger."""

    trigger: int
    """Week at whose end it came: the last that the challenger was trained on."""
    shadow: tuple[int, int]
    """First and last week in which both models forecast."""
    challenger: Trained
    comparison: ForecastComparison

    def summary(self) -> dict[str, object]:
        """What happened, for a table."""
        test = self.comparison
        return {
            "trained until week": self.trigger,
            "shadow weeks": f"{self.shadow[0]} to {self.shadow[1]}",
            "days": test.days,
            "WAPE, in service": round(test.champion_wape, 4),
            "WAPE, challenger": round(test.challenger_wape, 4),
            "p-value": round(test.p_value, 2),
            "promoted": test.better,
        }


def retrain(
    weeks: Weeks, champion: Model, trigger: int, shadow_weeks: int, make: Callable[[], Any] = gradient_boosting
) -> Retraining:
    """Train a challenger at the end of a week and compare it with the champion in the weeks that follow.

    Args:
        weeks: the data.
        champion: the model in service.
        trigger: the last training week.
        shadow_weeks: how many weeks both run side by side.
        make: makes the challenger's regressor.

    Raises:
        ValueError: when the data ends before the shadow weeks do.
    """
    first, last = trigger + 1, trigger + shadow_weeks
    if last > weeks.number.iloc[-1]:
        raise ValueError(f"The weeks {first} to {last} have not arrived: the newest is {weeks.number.iloc[-1]}.")
    challenger = train_until(weeks, trigger, make)
    comparison = compare(weeks, champion, challenger.model, first, last)
    return Retraining(trigger, (first, last), challenger, comparison)


def register(trained: Trained, wape: float, description: str, *, first: bool = False) -> ModelVersion:
    """A new version of the forecaster in the registry.

    Args:
        trained: what was trained.
        wape: measured on days that it had not seen.
        description: for people who browse the registry.
        first: whether it gets the alias :data:`ALIAS` at once, as the first model of all does.
    """
    return registry.register_forecaster(
        trained,
        metrics={"unseen_wape": wape},
        description=description,
        alias=ALIAS if first else None,
        interval=intervals.calibrate(trained.model, _held_back(trained.dataset, INTERVAL_DAYS)),
    )


def _held_back(dataset: Dataset, days: int) -> Dataset:
    """The same training days with the last ones kept for validation."""
    fit = dataset.split.fit
    return replace(dataset, split=Split(fit[:-days], fit[-days:], dataset.split.test))


def promote_if_better(version: ModelVersion, comparison: ForecastComparison, alias: str = ALIAS) -> str:
    """Give an alias to a version if the paired test shows it to be better.

    Returns:
        The number of the version that has the alias afterwards.
    """
    try:
        return str(tracking.promote(version.name, version.version, comparison, alias=alias).version)
    except tracking.PromotionRefused:
        holder = registry.find_version(f"models:/{version.name}@{alias}")
        assert holder is not None  # promote refuses only where there is one
        return str(holder.version)
