"""Prediction intervals: how far a forecast may be off, measured on days that the model had not seen.

Split conformal prediction: fit on the training days, forecast the validation days, and keep the quantiles
of what came out against what was forecast. For new days like those, the interval then holds the truth in
the promised share of cases, whatever the model. Source: Angelopoulos & Bates, "A Gentle Introduction to
Conformal Prediction" (2021), sections 1 and 2.2.

Errors grow with the size of a forecast and with the days ahead, so there is a pair of quantiles for each
horizon and for each of five sizes. They are kept as ratios of (units + 1), which fits sales counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from workshop_lib.predictive.forecaster import Dataset, forecast_horizons

COVERAGE = 0.9
"""Share of days on which the truth shall lie within the interval."""
SIZES = 5

Interval = dict[str, Any]


def calibrate(model: Any, dataset: Dataset, coverage: float = COVERAGE) -> Interval:
    """Measure the intervals of a kind of model on the validation days.

    Args:
        model: a regressor as scikit-learn knows them; a copy of it is fitted on the training days only.
        dataset: the panel with its days.
        coverage: share of cases that the intervals shall hold, between 0 and 1.

    Returns:
        Ready for JSON: ``coverage``, ``edges`` (limits between sizes of forecasts, units), ``lower`` and
        ``upper`` (a row per horizon from one day ahead, a ratio per size).

    Raises:
        ValueError: for a coverage outside (0, 1).
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage={coverage}: it must lie between 0 and 1.")
    from sklearn.base import clone

    features, units = dataset.rows(dataset.split.train)
    fitted = clone(model).fit(features.to_numpy(), units.to_numpy())
    made = forecast_horizons(fitted, dataset.panel, dataset.split.validation)
    return measure(made, dataset.units.reindex(made.index).to_numpy(), coverage)


def measure(made: pd.DataFrame, truth: np.ndarray, coverage: float = COVERAGE) -> Interval:
    """Measure the intervals of forecasts that exist already, made by any rule.

    Args:
        made: forecasts in units, one column per horizon from 1 on.
        truth: what came out, one value per row of ``made``.
        coverage: share of cases that the intervals shall hold, between 0 and 1.

    Returns:
        What :func:`calibrate` does.
    """
    edges = np.quantile(made[1], np.arange(1, SIZES) / SIZES)
    lower, upper = [], []
    for horizon in range(1, made.shape[1] + 1):
        forecast = made[horizon].to_numpy()
        size = np.searchsorted(edges, forecast)
        ratios = pd.Series((truth + 1) / (forecast + 1)).groupby(size)
        lower.append([_quantile(ratios.get_group(k), (1 - coverage) / 2, below=True) for k in range(SIZES)])
        upper.append([_quantile(ratios.get_group(k), (1 + coverage) / 2, below=False) for k in range(SIZES)])
    return {"coverage": coverage, "edges": edges.tolist(), "lower": lower, "upper": upper}


def _quantile(ratios: pd.Series, level: float, *, below: bool) -> float:
    """A quantile with the correction for a finite sample: one case more at the outer side."""
    n = len(ratios)
    level = level - (1 - level) / n if below else level + level / n
    return float(np.quantile(ratios, np.clip(level, 0, 1), method="lower" if below else "higher"))


def bounds(interval: Interval, units: np.ndarray, horizon: int | np.ndarray = 1) -> tuple[np.ndarray, np.ndarray]:
    """The interval around forecasts.

    Args:
        interval: what :func:`calibrate` returned.
        units: forecasts, any shape.
        horizon: days ahead, 1 to :data:`~workshop_lib.predictive.forecaster.HORIZONS`; one for all or one each.

    Returns:
        Lower and upper bounds in units, in the shape of ``units``; never below zero.

    Raises:
        ValueError: for a horizon that was not calibrated.
    """
    ahead = np.broadcast_to(np.asarray(horizon), np.shape(units))
    if ahead.size and (ahead.min() < 1 or ahead.max() > len(interval["lower"])):
        raise ValueError(f"horizon: 1 to {len(interval['lower'])} days ahead were calibrated.")
    size = np.searchsorted(interval["edges"], units)
    lower, upper = (np.asarray(interval[side])[ahead - 1, size] for side in ("lower", "upper"))
    return np.maximum(lower * (units + 1) - 1, 0), np.maximum(upper * (units + 1) - 1, 0)
