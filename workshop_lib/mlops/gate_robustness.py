"""The gate *robustness*: what do odd inputs do to the forecasts?

Three kinds of oddness, on days that the model has not seen:

* *noise*: each measured feature moves a little at random. The error may grow a little, too.
* *missing*: no number means no forecast, so the server has to refuse such a request. Where a feature is filled with
  its usual value instead, the error may grow, and the gate says with which feature it grows most.
* *extreme*: features far outside of anything seen. The forecast must stay a number that a shop could sell.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from workshop_lib.mlops.gate_config import Gates, Robustness
from workshop_lib.mlops.gate_performance import Packaged, dataset, unseen
from workshop_lib.mlops.gate_resources import serve
from workshop_lib.mlops.gate_result import Finding, GateResult, Measurement, judged
from workshop_lib.mlops.gates import Subject
from workshop_lib.predictive.evaluation import wape
from workshop_lib.predictive.forecaster import Model, predict_units
from workshop_lib.settings import settings

FACTORS = (0.0, -1.0, 10.0, 1000.0)
"""What a feature is multiplied by to make it extreme."""
REFUSED = 400


def sample(subject: Subject, rows: int) -> tuple[pd.DataFrame, pd.Series]:
    """Some of the unseen rows, drawn with the course's seed."""
    features, units = unseen(subject)
    drawn = features.sample(min(rows, len(features)), random_state=settings.seed)
    return drawn, units.loc[drawn.index]


def noisy(features: pd.DataFrame, share: float) -> pd.DataFrame:
    """The features with normal noise.

    Args:
        features: rows of the model's inputs.
        share: the noise's standard deviation over the feature's own within its category. Features of two values or
            less (flags) stay as they are.
    """
    spread = features.groupby(level="category").transform("std").fillna(0)
    spread.loc[:, features.nunique() <= 2] = 0
    return features + np.random.default_rng(settings.seed).normal(0, share, features.shape) * spread


def filled(features: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Per feature the rows with its median of the category in place of its values."""
    usual = features.groupby(level="category").transform("median")
    return {name: features.assign(**{name: usual[name]}) for name in features.columns}


def extreme(features: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows with each feature in turn, and with all at once, multiplied by :data:`FACTORS`."""
    ways = {f"{name} x {factor:g}": (name, factor) for factor in FACTORS for name in features.columns}
    single = {way: features.assign(**{name: features[name] * factor}) for way, (name, factor) in ways.items()}
    return single | {f"all features x {factor:g}": features * factor for factor in FACTORS}


def forecasts(model: Model, tables: dict[str, pd.DataFrame]) -> dict[str, np.ndarray]:
    """Forecasts of several tables of equal length, computed at once."""
    made = predict_units(model, pd.concat(tables)).to_numpy().reshape(len(tables), -1)
    return dict(zip(tables, made, strict=True))


def judge(subject: Subject, limits: Gates) -> GateResult:
    """The gate: noise, missing and extreme inputs."""
    allowed, model = limits.robustness, Packaged(subject)
    features, units = sample(subject, allowed.rows)
    odd = {"": features, "noise": noisy(features, allowed.noise), **filled(features)}
    errors = {name: wape(units, made) for name, made in forecasts(model, odd).items()}
    usual, noise = errors.pop(""), errors.pop("noise")
    worst = max(errors, key=lambda name: errors[name])
    measurements = [
        Measurement(f"error with {allowed.noise:.0%} noise", noise / usual, "<=", allowed.noise_loss, "times"),
        Measurement(f"error without {worst}", errors[worst] / usual, "<=", allowed.missing_loss, "times"),
        Measurement(
            "largest forecast", _largest(model, features, allowed), "<=", allowed.extreme, "times the most sold"
        ),
    ]
    served = serve(subject.package, limits)
    wrong = {kind: status for kind, status in served.answers.items() if status != REFUSED}
    findings = [Finding("critical", "server", f"{kind}: answered with {status}") for kind, status in wrong.items()]
    advice = [
        "Train with noise, limit inputs and outputs to what was seen (trees do so by themselves, lines do not), and"
        " refuse what no forecast can be made from."
    ]
    return judged("robustness", measurements, [*served.findings, *findings], advice)


def _largest(model: Model, features: pd.DataFrame, allowed: Robustness) -> float:
    """The largest forecast from extreme inputs over the most that a category ever sold on a day; NaN for a bad one."""
    few = features.head(max(1, allowed.rows // 10))
    most = float(dataset().panel.units.max().max())
    made = np.concatenate(list(forecasts(model, extreme(few)).values()))
    return float(made.max() / most) if np.isfinite(made).all() else float("nan")
