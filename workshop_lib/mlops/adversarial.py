"""An adversarial probe of the forecaster: how far can small, well-chosen changes of its inputs move a forecast?

Every input of a group may be moved by a few per cent of its value, each up or down. For each row we look for the
directions that raise the forecast most and those that lower it most: feature by feature, keeping what helps. (A tree
model has no gradients to follow, so this is a search; it finds a lower bound of the worst case.) Beside it stand random
directions, which is what honest noise does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from workshop_lib.predictive import onnx_export
from workshop_lib.predictive.features import FEATURES, PLANS
from workshop_lib.settings import settings

Predict = Callable[[np.ndarray], np.ndarray]
"""Features of shape (n, features) to units of shape (n,)."""
GROUPS: dict[str, tuple[str, ...]] = {
    "prices and promotions": ("price_7", "price_ratio", "discount_7", *PLANS),
    "recent sales": tuple(name for name in FEATURES if name.startswith(("lag_", "mean_", "std_", "weekday_mean",
                                                                        "smoothed", "trend"))),
}  # fmt: skip
"""What one could get at: plans, by asking the API; sales, by writing false ones into the records."""
RANDOM_TRIES = 20


def forecaster_of(onnx_file: Path) -> Predict:
    """A forecaster's ONNX file as a function; it never forecasts less than nothing."""
    session = onnx_export.session(onnx_file, threads=1)
    return lambda rows: np.maximum(onnx_export.predict(session, rows.astype(np.float32)), 0)


def probe(
    predict: Predict,
    rows: np.ndarray,
    sizes: Sequence[float],
    groups: Mapping[str, Sequence[str]] = GROUPS,
    features: Sequence[str] = FEATURES,
    seed: int = settings.seed,
) -> pd.DataFrame:
    """Measure how far forecasts can be moved.

    Args:
        predict: the forecaster.
        rows: inputs, shape (n, features).
        sizes: of the change, as shares of each value.
        groups: which features are changed together.
        features: names of the columns.
        seed: of the random directions.

    Returns:
        A row per group and size. Changes are shares of the forecast (of one unit, where it is smaller): the median
        over the rows of a ``random`` change, then ``median``, ``p95`` and ``largest`` of the worst that was found.
    """
    rng, before = np.random.default_rng(seed), predict(rows)
    scale, found = np.maximum(before, 1), {}
    for group, names in groups.items():
        columns = [list(features).index(name) for name in names]
        for size in sizes:
            random = [_moved(rows, columns, size * rng.choice([-1, 1], (len(rows), len(columns))))
                      for _ in range(RANDOM_TRIES)]  # fmt: skip
            noise = np.abs(predict(np.concatenate(random)).reshape(RANDOM_TRIES, -1) - before) / scale
            worst = np.maximum(*(np.abs(_search(predict, rows, columns, size, up) - before) / scale for up in (1, -1)))
            found[group, size] = {
                "random": np.median(noise), "median": np.median(worst), "p95": np.quantile(worst, 0.95),
                "largest": worst.max(),
            }  # fmt: skip
    return pd.DataFrame(found).T.rename_axis(["group", "size"])


def _search(predict: Predict, rows: np.ndarray, columns: Sequence[int], size: float, up: int) -> np.ndarray:
    """The highest (``up`` 1) or lowest (-1) forecast that one pass over the features finds, per row."""
    now, value = rows.copy(), predict(rows)
    for column in columns:
        tried = [_moved(now, [column], np.full((len(rows), 1), step)) for step in (-size, size)]
        for candidate, forecast in zip(tried, predict(np.concatenate(tried)).reshape(2, -1), strict=True):
            better = up * (forecast - value) > 0
            now[better], value[better] = candidate[better], forecast[better]
    return value


def _moved(rows: np.ndarray, columns: Sequence[int], shares: np.ndarray) -> np.ndarray:
    """The rows with some columns changed by shares of their values, shape (rows, columns)."""
    moved = rows.copy()
    moved[:, columns] *= 1 + shares
    return moved
