"""How far two samples of one number lie apart: three measures, each with its own question.

* Kolmogorov-Smirnov: the largest gap between the two cumulative shares, and a p-value: how often chance alone
  makes such a gap, when all rows are drawn independently.
* PSI, the population stability index: over ten classes that each hold a tenth of the reference, the sum of
  (current share - reference share) * ln(current share / reference share). That is the Kullback-Leibler divergence
  in both directions. Source: Siddiqi, "Credit Risk Scorecards" (2006), chapter 6; Yurdakul, "Statistical Properties
  of Population Stability Index" (2018).
* Wasserstein: how far the values must be moved on average to turn one sample into the other, in standard
  deviations of the reference.

They give the numbers that Evidently gives for the same input (a test compares them) at a hundredth of its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
from scipy import special, stats

from workshop_lib.settings import settings

CLASSES = 10
EMPTY = 1e-4
"""Share that an empty class counts as: the logarithm of zero has no value. Evidently's choice."""
Measure = Callable[[np.ndarray, np.ndarray], float]


def ks_p_value(reference: np.ndarray, current: np.ndarray) -> float:
    """p-value of the Kolmogorov-Smirnov test; small means different."""
    return float(stats.ks_2samp(reference, current).pvalue)


def ks_gap(reference: np.ndarray, current: np.ndarray) -> float:
    """The Kolmogorov-Smirnov statistic: the largest gap between the cumulative shares, 0 to 1."""
    return float(stats.ks_2samp(reference, current).statistic)


def wasserstein(reference: np.ndarray, current: np.ndarray) -> float:
    """Wasserstein distance in standard deviations of the reference (Evidently's normed one)."""
    return float(stats.wasserstein_distance(reference, current) / max(np.std(reference), 0.001))


def class_limits(reference: np.ndarray, classes: int = CLASSES) -> np.ndarray:
    """Limits of classes that hold equal shares of the reference; fewer where many values are equal."""
    inner = np.unique(np.quantile(reference, np.arange(1, classes) / classes))
    return np.concatenate([[-np.inf], inner, [np.inf]])


def psi(reference: np.ndarray, current: np.ndarray) -> float:
    """Population stability index over tenths of the reference."""
    limits = class_limits(reference)
    before, now = (_shares(values, limits) for values in (reference, current))
    return float(special.rel_entr(before, now).sum() + special.rel_entr(now, before).sum())


def _shares(values: np.ndarray, limits: np.ndarray) -> np.ndarray:
    shares = np.histogram(values, limits)[0] / len(values)
    return np.where(shares == 0, EMPTY, shares)


MEASURES: dict[str, Measure] = {"ks_p_value": ks_p_value, "psi": psi, "wasserstein": wasserstein}


def drifts(method: str, value: float | pd.DataFrame, limit: float) -> bool | pd.DataFrame:
    """Whether a value means drift: a p-value below its limit, a distance above it."""
    return value < limit if method == "ks_p_value" else value > limit


def growing_sample(
    values: np.ndarray, sizes: Iterable[int], shift: float = 0.05, repeats: int = 9, seed: int = settings.seed
) -> pd.DataFrame:
    """What the measures say of one small shift in ever larger samples.

    Both samples are drawn from the same values, with replacement; the second is moved by ``shift`` standard
    deviations. The shift is the same throughout, only the number of rows grows.

    Args:
        values: real values to draw from.
        sizes: rows of each sample.
        shift: in standard deviations of ``values``.
        repeats: draws per size; the median of their results is given.
        seed: of the drawing.

    Returns:
        A row per size, a column per measure of :data:`MEASURES`.
    """
    random = np.random.default_rng(seed)
    step = shift * values.std()
    rows = {}
    for size in sizes:
        pairs = [(random.choice(values, size), random.choice(values, size) + step) for _ in range(repeats)]
        rows[size] = {name: np.median([measure(*pair) for pair in pairs]) for name, measure in MEASURES.items()}
    return pd.DataFrame(rows).T.rename_axis("rows")
