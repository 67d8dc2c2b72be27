"""A model in service against the weeks that arrive: its inputs, its forecasts, its errors, and what to do.

The rules of :func:`decide`, in the order in which they are tried; all limits are in ``forecaster.drift`` of
``model_monitoring_config.yaml``:

1. **retrain** when the error was above its limit in ``weeks`` weeks in a row (the model no longer fits the world);
2. **retrain** when ``retrain_share`` of the features had drifted in ``weeks`` weeks in a row (the model works
   where it has never been, even if no error shows it yet);
3. **watch** when the error, the forecasts, or ``watch_share`` of the features are beyond their limits this week;
4. **nothing** otherwise.

One loud week makes no retraining: a feast is over before anybody could have learned from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.base import clone

from workshop_lib.monitoring.config import ForecastDrift
from workshop_lib.monitoring.drift_data import Weeks, relative, validation_start, watched, without_feasts
from workshop_lib.monitoring.drift_distances import psi
from workshop_lib.monitoring.drift_result import ERROR, PREDICTION, Decision, Distance
from workshop_lib.predictive.forecaster import Model, predict_units


@dataclass(frozen=True)
class Watch:
    """A model in service with what its arrivals are compared with."""

    model: Model
    training: tuple[int, int]
    """First and last whole training week."""
    inputs: pd.DataFrame
    """The watched features in the training weeks."""
    forecasts: pd.DataFrame
    """The model's forecasts there, column ``forecast``."""
    unseen: pd.Series
    """WAPE per week on the training weeks that were kept for validation, of a copy fitted on the others."""
    quiet: tuple[int, ...]
    """Those of them without a feast nearby."""

    @property
    def reference_wape(self) -> float:
        """Mean error of the quiet weeks."""
        return float(self.unseen.loc[list(self.quiet)].mean())

    @cached_property
    def usual_inputs(self) -> pd.DataFrame:
        """The watched features of the training weeks, relative to what is usual in their category."""
        return relative(self.inputs, self.inputs)

    @cached_property
    def usual_forecasts(self) -> pd.DataFrame:
        """The same of the forecasts."""
        return relative(self.forecasts, self.forecasts)

    def arrivals(self, weeks: Weeks, week: int, features: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Features and forecasts of a week, relative to what was usual in the training weeks."""
        rows, _ = weeks.rows(week, week)
        forecasts = predict_units(self.model, rows).to_frame()
        return relative(watched(rows, features), self.inputs), relative(forecasts, self.forecasts)


@dataclass(frozen=True)
class Seen:
    """One week of arrivals, measured."""

    week: int
    rows: int
    wape: float
    distances: tuple[Distance, ...]

    @property
    def share(self) -> float:
        """Share of the watched features that drifted."""
        return float(np.mean([one.drifted for one in self.distances if one.kind == "data"]))

    def one(self, kind: str) -> Distance:
        """The distance of the kind ``prediction`` or ``concept``."""
        return next(distance for distance in self.distances if distance.kind == kind)


def watch(model: Any, weeks: Weeks, training: tuple[int, int], limits: ForecastDrift) -> Watch:
    """Prepare a model's reference: its training weeks, and its error on weeks that it had not seen.

    Errors on training rows are too small to compare with, because the model knows them. So a copy of the model
    is fitted on the first two thirds of the weeks and judged on the rest.

    Args:
        model: the fitted forecaster, a scikit-learn regressor.
        weeks: the data.
        training: first and last whole week that it was trained on.
        limits: ``forecaster.drift`` of the configuration.

    Raises:
        ValueError: when the training weeks are too few or all near feasts.
    """
    start = validation_start(*training)
    quiet = tuple(without_feasts(weeks, start, training[1]))
    if not quiet:
        raise ValueError(
            f"Weeks {start} to {training[1]} are all near a feast: there is no quiet error to compare with."
        )
    features, units = weeks.rows(training[0], start - 1)
    copy = clone(model).fit(features.to_numpy(), units.to_numpy())
    features, _ = weeks.rows(*training)
    return Watch(
        model=model,
        training=training,
        inputs=watched(features, limits.features),
        forecasts=predict_units(model, features).to_frame(),
        unseen=weekly_error(copy, weeks, start, training[1]),
        quiet=quiet,
    )


def weekly_error(model: Model, weeks: Weeks, first: int, last: int) -> pd.Series:
    """WAPE of a model's forecasts per week: sum of absolute errors over the sum of units."""
    features, units = weeks.rows(first, last)
    errors = (units - predict_units(model, features)).abs()
    of_row = weeks.of(features.index)
    return (errors.groupby(of_row).sum() / units.groupby(of_row).sum()).rename("WAPE").rename_axis("week")


def highest_quiet_error(errors: pd.Series, confidence: float = 0.99) -> float:
    """How large the error of one more quiet week may be, by chance alone.

    The upper limit of a prediction interval for one further value of a normal distribution,
    mean + t * s * sqrt(1 + 1/n). Source: Hahn & Meeker, "Statistical Intervals" (1991), section 4.7.

    Args:
        errors: of quiet weeks, one per week.
        confidence: one-sided; 0.99 is one false alarm in two years of weeks.

    Raises:
        ValueError: for fewer than three weeks.
    """
    n = len(errors)
    if n < 3:
        raise ValueError(f"{n} quiet weeks are too few to tell how much their errors vary.")
    return float(errors.mean() + stats.t.ppf(confidence, n - 1) * errors.std() * np.sqrt(1 + 1 / n))


def look(service: Watch, weeks: Weeks, week: int, limits: ForecastDrift) -> Seen:
    """Measure one week of arrivals.

    Raises:
        ValueError: when the data does not have the week.
    """
    before, made = service.usual_inputs, service.usual_forecasts["forecast"]
    now, made_now = service.arrivals(weeks, week, limits.features)
    wape = float(weekly_error(service.model, weeks, week, week).loc[week])
    ratio = wape / service.reference_wape
    return Seen(
        week=week,
        rows=len(now),
        wape=wape,
        distances=(
            *(
                Distance(kind="data", feature=name, method="psi", threshold=limits.psi,
                         value=psi(before[name].to_numpy(), now[name].to_numpy()))
                for name in limits.features
            ),
            Distance(kind="prediction", feature=PREDICTION, method="psi", threshold=limits.prediction,
                     value=psi(made.to_numpy(), made_now["forecast"].to_numpy())),
            Distance(kind="concept", feature=ERROR, method="wape_ratio", threshold=limits.concept, value=ratio),
        ),
    )  # fmt: skip


def decide(seen: Sequence[Seen], limits: ForecastDrift) -> tuple[Decision, tuple[str, ...]]:
    """What to do after the last of some weeks, and why; the rules stand at the top of this module.

    Args:
        seen: weeks in a row, oldest first; no more than ``limits.weeks`` of them are looked at.
        limits: ``forecaster.drift`` of the configuration.

    Raises:
        ValueError: without any week, or when they do not follow each other.
    """
    if not seen or [one.week for one in seen] != list(range(seen[0].week, seen[0].week + len(seen))):
        raise ValueError("A decision takes one week or several in a row, oldest first.")
    run, last = seen[-limits.weeks :], seen[-1]
    enough = len(run) == limits.weeks
    spell = f"{limits.weeks} weeks in a row"
    reasons = []
    if enough and all(one.one("concept").drifted for one in run):
        reasons.append(f"The error was more than {limits.concept:g} times that of quiet weeks in {spell}.")
    if enough and all(one.share >= limits.retrain_share for one in run):
        reasons.append(f"At least {limits.retrain_share:.0%} of the features had drifted in {spell}.")
    if reasons:
        return "retrain", tuple(reasons)
    if last.one("concept").drifted:
        reasons.append(f"The error is {last.one('concept').value:.2f} times that of quiet weeks.")
    if last.one("prediction").drifted:
        reasons.append(f"The forecasts are distributed differently (PSI {last.one('prediction').value:.2f}).")
    if last.share >= limits.watch_share:
        names = ", ".join(one.feature for one in last.distances if one.kind == "data" and one.drifted)
        reasons.append(f"{last.share:.0%} of the features have drifted: {names}.")
    return ("watch", tuple(reasons)) if reasons else ("nothing", ("Everything lies within its limits.",))


def follow(service: Watch, weeks: Weeks, first: int, last: int, limits: ForecastDrift) -> pd.DataFrame:
    """The decisions week by week, as the job would have made them.

    Returns:
        Index week; columns ``features`` (share that drifted), ``prediction`` (PSI), ``error`` (over the reference),
        ``WAPE`` and ``decision``.
    """
    seen: list[Seen] = []
    rows = []
    for week in range(first, last + 1):
        seen.append(look(service, weeks, week, limits))
        now = seen[-1]
        rows.append((now.share, now.one("prediction").value, now.one("concept").value, now.wape,
                     decide(seen, limits)[0]))  # fmt: skip
    columns = ["features", "prediction", "error", "WAPE", "decision"]
    return pd.DataFrame(rows, columns=columns, index=pd.RangeIndex(first, last + 1, name="week"))
