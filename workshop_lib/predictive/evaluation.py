"""How good a forecast is: the usual measures side by side, because each hides something.

Sources: Hyndman & Koehler (2006), "Another look at measures of forecast accuracy", for MAPE's faults
and MASE; Kolassa & Schütz (2007), "Advantages of the MAD/mean ratio over the MAPE", for WAPE.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import pandas as pd
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

Values: TypeAlias = "np.ndarray | pd.Series"


def wape(truth: Values, forecast: Values) -> float:
    """Weighted absolute percentage error: sum of absolute errors over the sum of the truth.

    Raises:
        ValueError: when the truth sums to zero.
    """
    total = float(np.sum(truth))
    if total == 0:
        raise ValueError("WAPE is undefined: the true values sum to zero.")
    return float(np.abs(np.asarray(truth) - np.asarray(forecast)).sum() / total)


def mape(truth: Values, forecast: Values) -> float:
    """Mean absolute percentage error over the rows with a truth above zero; NaN when there are none."""
    truth, forecast = np.asarray(truth, dtype=float), np.asarray(forecast, dtype=float)
    sold = truth > 0
    return float(np.mean(np.abs(truth[sold] - forecast[sold]) / truth[sold])) if sold.any() else float("nan")


def mase_scale(units: pd.DataFrame, season: int = 7) -> pd.Series:
    """What MASE divides by: each series' mean absolute seasonal difference in the training days.

    Args:
        units: training days by series.
        season: days of the season; 7 compares with the same weekday a week before.
    """
    return units.diff(season).abs().mean()


def measures(truth: Values, forecast: Values, scale: Values | None = None) -> dict[str, float]:
    """R², MAE, RMSE (in units), WAPE, MAPE (as shares) and, given a scale, MASE.

    Args:
        truth: what was sold, shape (n,).
        forecast: what was forecast, shape (n,).
        scale: per row the value of :func:`mase_scale` of its series, shape (n,). Rows whose scale is
            zero (a series that never changed) do not count towards MASE.
    """
    result = {
        "R2": r2_score(truth, forecast),
        "MAE": mean_absolute_error(truth, forecast),
        "RMSE": root_mean_squared_error(truth, forecast),
        "WAPE": wape(truth, forecast),
        "MAPE": mape(truth, forecast),
    }
    if scale is not None:
        scale = np.asarray(scale, dtype=float)
        errors = np.abs(np.asarray(truth) - np.asarray(forecast))
        result["MASE"] = float(np.mean(errors[scale > 0] / scale[scale > 0]))
    return {name: float(value) for name, value in result.items()}


def compare(truth: pd.Series, forecasts: Mapping[str, Values], scale: Values | None = None) -> pd.DataFrame:
    """One row of :func:`measures` per forecast."""
    rows = {name: measures(truth, forecast, scale) for name, forecast in forecasts.items()}
    return pd.DataFrame(rows).T.rename_axis("forecast")


def by_group(truth: pd.Series, forecast: Values, groups: Values) -> pd.DataFrame:
    """WAPE, R², bias (mean error in units, above zero when the forecast is too high) and rows per group."""
    frame = pd.DataFrame({"truth": np.asarray(truth), "forecast": np.asarray(forecast), "group": np.asarray(groups)})
    rows = {
        name: {
            "rows": len(part),
            "mean_units": part["truth"].mean(),
            "WAPE": wape(part["truth"], part["forecast"]),
            "R2": r2_score(part["truth"], part["forecast"]),
            "bias": float((part["forecast"] - part["truth"]).mean()),
        }
        for name, part in frame.groupby("group", observed=True, sort=True)
    }
    return pd.DataFrame(rows).T.astype({"rows": int})
