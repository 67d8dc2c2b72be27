"""What one household does to the forecasts: the model trained with it and without it, and chance beside it.

A household that asks to be erased has left its traces in the model: its baskets were summed up in the sales that the
model learned from. Is that reason to train anew? The question has a measurable part: how different would the model
be, had the household never been there? Two trainings on the same data with another seed differ as well; that is the
yardstick. (The other part is a legal one and stays with lawyers: by EDPB Opinion 28/2024 it is judged case by case.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from workshop_lib.predictive.evaluation import wape
from workshop_lib.predictive.forecaster import Dataset, predict_units


@dataclass(frozen=True)
class Influence:
    """How far forecasts move on the same rows."""

    forecasts: pd.DataFrame
    """Per (date, category) of the test days: ``sold``, ``with``, ``without`` and ``seed N`` for each other seed."""
    share: float
    """The household's share of all units sold."""

    @property
    def moved(self) -> pd.Series:
        """Mean change of a forecast as a share of the mean forecast, without the household and by each other seed."""
        others = self.forecasts.drop(columns=["sold", "with"])
        return others.sub(self.forecasts["with"], axis=0).abs().mean() / self.forecasts["with"].mean()

    @property
    def times_chance(self) -> float:
        """How far leaving the household out moves the forecasts, in units of what another seed does."""
        return float(self.moved["without"] / self.moved.drop("without").mean())

    def table(self) -> pd.DataFrame:
        """A row per training: its WAPE against the same sales, and how far it moved the forecasts."""
        models = self.forecasts.drop(columns="sold")
        moved, gaps = self.moved, models.sub(models["with"], axis=0).abs()
        rows = {
            name: {"WAPE": wape(self.forecasts["sold"], models[name]), "mean change": moved.get(name, 0.0),
                   "largest change, units": gaps[name].max()}
            for name in models
        }  # fmt: skip
        return pd.DataFrame(rows).T.rename_axis("trained")


def measure(model: Any, together: Dataset, without: Dataset, seeds: Sequence[int]) -> Influence:
    """Train with a household, without it, and with it again by other seeds; compare the forecasts of the test days.

    All forecasts are made from the same features, those with the household: the models are compared and not the inputs.

    Args:
        model: a regressor as scikit-learn knows them; copies of it are fitted.
        together: everything.
        without: the same, prepared without the household.
        seeds: others than the model's own.
    """
    days = together.split.test
    features, sold = together.rows(days)
    known = features.index.get_level_values("category").isin(without.panel.units.columns)
    features, sold = features[known], sold[known]
    trainings = {"with": (clone(model), together), "without": (clone(model), without)}
    trainings |= {f"seed {seed}": (clone(model).set_params(random_state=seed), together) for seed in seeds}
    forecasts = {"sold": sold}
    for name, (fresh, dataset) in trainings.items():
        rows, units = dataset.rows(dataset.split.fit)
        forecasts[name] = predict_units(fresh.fit(rows.to_numpy(), units.to_numpy()), features)
    totals = [float(np.sum(one.panel.units.to_numpy())) for one in (together, without)]
    return Influence(pd.DataFrame(forecasts), 1 - totals[1] / totals[0])
