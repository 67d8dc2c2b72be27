"""The registered forecaster: packaged with everything that serving it needs.

A version in the registry carries the fitted model, its ONNX file, the features in their order, the
categories it knows, the last day it has seen, and the fingerprint of the data.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from workshop_lib import data
from workshop_lib.files import write_text
from workshop_lib.predictive import onnx_export, tracking
from workshop_lib.predictive.features import FEATURES
from workshop_lib.predictive.forecaster import Dataset, Trained, gradient_boosting, make_dataset, train

EXPERIMENT = "sales-forecast"
ONNX_FILE = "forecaster.onnx"
PACKAGE_FILE = "forecaster.json"
URI = f"models:/{tracking.FORECASTER}@champion"


@dataclass(frozen=True)
class Champion:
    """The forecaster that is in use."""

    version: ModelVersion
    model: Any
    onnx_file: Path
    package: dict[str, Any]
    """Features in their order, categories, training period and data fingerprint."""


def register_forecaster(trained: Trained, *, metrics: Mapping[str, float], description: str) -> ModelVersion:
    """Log a trained forecaster with its package to MLflow and make the new version the champion.

    Args:
        trained: what :func:`workshop_lib.predictive.forecaster.train` returned.
        metrics: measured on the held-out days.
        description: for people who browse the registry.
    """
    tracking.use_tracking(EXPERIMENT)
    fingerprint = data.prepared().fingerprint
    package = describe(trained.dataset, fingerprint)
    with tempfile.TemporaryDirectory() as scratch, mlflow.start_run(run_name=type(trained.model).__name__):
        files = {ONNX_FILE: Path(scratch) / ONNX_FILE, PACKAGE_FILE: Path(scratch) / PACKAGE_FILE}
        onnx_export.export(trained.model, files[ONNX_FILE], FEATURES, {"data_fingerprint": fingerprint})
        write_text(files[PACKAGE_FILE], json.dumps(package, indent=1))
        mlflow.log_params(trained.model.get_params())
        mlflow.log_metrics({**metrics, "train_seconds": trained.seconds})
        features, units = trained.dataset.rows(trained.dataset.split.fit)
        tracking.log_dataset(features.assign(units=units), "daily sales", target="units", context="training")
        return tracking.register(
            trained.model,
            tracking.FORECASTER,
            example=features.head(3).astype(float).reset_index(drop=True),
            alias="champion",
            description=description,
            extra_files=files,
        )


def describe(dataset: Dataset, fingerprint: str) -> dict[str, Any]:
    """What a forecaster's package says about itself, ready for JSON."""
    days = dataset.split.fit
    return {
        "features": list(FEATURES),
        "categories": list(dataset.panel.units.columns),
        "first_day": f"{days[0]:%Y-%m-%d}",
        "last_day": f"{days[-1]:%Y-%m-%d}",
        "data_fingerprint": fingerprint,
    }


def load_champion() -> Champion:
    """The registered champion; without one, train the default forecaster and register it first.

    Raises:
        TrackingError: when MLflow cannot be used or the version is incomplete.
    """
    tracking.use_tracking(EXPERIMENT)
    version = _champion_version()
    if version is None:
        version = register_forecaster(
            train(gradient_boosting(), make_dataset()), metrics={}, description="Default settings, not evaluated."
        )
    return Champion(
        version,
        mlflow.sklearn.load_model(URI),
        tracking.version_file(URI, ONNX_FILE),
        json.loads(tracking.version_file(URI, PACKAGE_FILE).read_text(encoding="utf-8")),
    )


def _champion_version() -> ModelVersion | None:
    try:
        return MlflowClient().get_model_version_by_alias(tracking.FORECASTER, "champion")
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None
