"""A small shop and a teacher that can be written down, for tests of what learns from it."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from workshop_lib.optimization import distillation
from workshop_lib.optimization.distillation import Student
from workshop_lib.predictive.features import FEATURES, PLANS, Panel, build_features, stack
from workshop_lib.predictive.forecaster import Dataset, split_days

QUICK: dict[str, Any] = {"hidden": (32, 16), "epochs": 25, "learning_rate": 1e-2}
CATEGORIES = 60


class Rule:
    """A teacher that can be written down: last week's sales and the mean, more of both with a mailer."""

    def predict(self, X: np.ndarray) -> np.ndarray:
        column = dict(zip(FEATURES, np.asarray(X, float).T, strict=True))
        return (0.6 * column["lag_7"] + 0.4 * column["mean_7"]) * (1 + column["mailer_share"])


def make_panel() -> Panel:
    """Categories of very different sizes, with a week's rhythm."""
    rng = np.random.default_rng(3)
    dates = pd.date_range("2017-01-01", periods=150)
    names = [f"c{number:02d}" for number in range(CATEGORIES)]
    sizes = np.geomspace(3, 400, CATEGORIES)
    rhythm = 1 + 0.4 * (dates.dayofweek.to_numpy() >= 5)

    def table(values: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(values, index=dates, columns=names)

    units = table(rng.poisson(rhythm[:, None] * sizes).astype(float))
    plans = {plan: table(rng.choice([0.0, 0.2, 0.8], units.shape)) for plan in PLANS}
    opening = pd.Series(True, index=dates)
    return Panel(units, units * 2.5, units * 0.2, plans, pd.Series(0, index=names), opening)


@cache
def small_dataset() -> Dataset:
    """Open days of the small shop, cut by time."""
    panel = make_panel()
    split = split_days(panel.open)
    days = split.fit.append(split.test)
    features = stack(build_features(panel), days)
    units = panel.units.loc[days].stack().rename("units")
    return Dataset(panel, split, features, units.reindex(features.index))


@cache
def small_student(hidden: tuple[int, ...] = QUICK["hidden"]) -> Student:
    """A student of the rule."""
    return distillation.distil(Rule(), small_dataset(), **{**QUICK, "hidden": hidden})
