"""The registered forecaster: packaged with everything that serving it needs.

A version in the registry carries the fitted model, its ONNX file, the same model as OpenVINO's IR, the
features in their order, the categories it knows, the last day it has seen, its prediction intervals, and
the fingerprint of the data. The package lists the files' checksums, and the registry keeps the package's
own: a server loads exactly what was registered, or nothing.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from workshop_lib import data
from workshop_lib.files import sha256, write_text
from workshop_lib.predictive import onnx_export, openvino_trees, tracking
from workshop_lib.predictive.features import FEATURES
from workshop_lib.settings import settings

if TYPE_CHECKING:  # imported where they are used: a server loads packages and must not wait for what trains models
    from workshop_lib.predictive.forecaster import Dataset, Trained
    from workshop_lib.predictive.intervals import Interval

EXPERIMENT = "sales-forecast"
ONNX_FILE = "forecaster.onnx"
IR_FILE = openvino_trees.IR_FILE
"""OpenVINO's graph; its numbers lie beside it in ``model.bin``."""
PACKAGE_FILE = "forecaster.json"
CHECKSUM_TAG = "package_sha256"
URI = f"models:/{tracking.FORECASTER}@champion"
OUTPUT = "units"
"""Name of the served output: float32, shape (rows, 1)."""


@dataclass(frozen=True)
class Package:
    """The files of a registered version, whose checksums agree with the registry."""

    version: str
    """Number in the registry."""
    onnx_file: Path
    ir_file: Path
    about: dict[str, Any]
    """Features in their order, categories, training period, intervals, data fingerprint and checksums."""


@dataclass(frozen=True)
class Champion:
    """The forecaster that is in use."""

    version: ModelVersion
    model: Any
    onnx_file: Path
    ir_file: Path
    package: dict[str, Any]
    """What :attr:`Package.about` holds."""


def register_forecaster(
    trained: Trained,
    *,
    metrics: Mapping[str, float],
    description: str,
    alias: str | None = "champion",
    interval: Interval | None = None,
    name: str = tracking.FORECASTER,
) -> ModelVersion:
    """Log a trained forecaster with its package to MLflow and make the new version the champion.

    Args:
        trained: what :func:`workshop_lib.predictive.forecaster.train` returned.
        metrics: measured on the held-out days.
        description: for people who browse the registry.
        alias: which alias the version gets; None for none.
        interval: what :func:`workshop_lib.predictive.intervals.calibrate` returned; it is called when None.
        name: the registered model; another one for practice.
    """
    from workshop_lib.predictive import intervals

    tracking.use_tracking(EXPERIMENT)
    fingerprint = data.prepared().fingerprint
    package = describe(trained.dataset, fingerprint)
    package["interval"] = interval or intervals.calibrate(trained.model, trained.dataset)
    with tempfile.TemporaryDirectory() as scratch, mlflow.start_run(run_name=type(trained.model).__name__):
        onnx_file = Path(scratch) / ONNX_FILE
        onnx_export.export(trained.model, onnx_file, FEATURES, {"data_fingerprint": fingerprint})
        ir_model = openvino_trees.read_model(onnx_file)
        ir_model.output(0).set_names({OUTPUT})
        ir_file = openvino_trees.save_ir(ir_model, Path(scratch) / "ir")
        files = {path.name: path for path in (onnx_file, ir_file, ir_file.with_suffix(".bin"))}
        package["files"] = {name: sha256(path) for name, path in files.items()}
        files[PACKAGE_FILE] = Path(scratch) / PACKAGE_FILE
        write_text(files[PACKAGE_FILE], json.dumps(package, indent=1))
        mlflow.log_params(trained.model.get_params())
        mlflow.log_metrics({**metrics, "train_seconds": trained.seconds})
        features, units = trained.dataset.rows(trained.dataset.split.fit)
        tracking.log_dataset(features.assign(units=units), "daily sales", target="units", context="training")
        return tracking.register(
            trained.model,
            name,
            example=features.head(3).astype(float).reset_index(drop=True),
            alias=alias,
            description=description,
            tags={CHECKSUM_TAG: sha256(files[PACKAGE_FILE])},
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
        TrackingError: when MLflow cannot be used, or the version is incomplete or was changed.
    """
    version = ensure_champion()
    package = load_package(URI)
    return Champion(version, mlflow.sklearn.load_model(URI), package.onnx_file, package.ir_file, package.about)


def ensure_champion() -> ModelVersion:
    """The champion's entry in the registry; without one, train the default forecaster and register it."""
    tracking.use_tracking(EXPERIMENT)
    found = find_version(URI)
    if found is None:
        from workshop_lib.predictive.forecaster import gradient_boosting, make_dataset, train

        trained = train(gradient_boosting(), make_dataset())
        found = register_forecaster(trained, metrics={}, description="Default settings, not evaluated.")
    return found


def find_version(uri: str) -> ModelVersion | None:
    """A registered version by its address, or None when the registry has none.

    Args:
        uri: ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.

    Raises:
        TrackingError: for any other address.
    """
    parts = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", uri)
    if not parts:
        raise tracking.TrackingError(f"{uri} is no address of a model: models:/NAME@ALIAS or models:/NAME/VERSION.")
    name, alias, number = parts.groups()
    client = MlflowClient(settings.tracking_uri)
    try:
        return client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


def load_package(uri: str = URI) -> Package:
    """The files of a registered forecaster, checked against the checksums in the registry.

    Args:
        uri: ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.

    Raises:
        TrackingError: when there is no such version, a file is missing, or one is not what was registered.
    """
    if mlflow.get_tracking_uri() != settings.tracking_uri:  # files are fetched from where MLflow points to
        tracking.use_tracking(EXPERIMENT)
    version = find_version(uri)
    if version is None:
        raise tracking.TrackingError(f"The registry has no {uri}. Notebook 03_train_forecaster registers a champion.")
    fixed = f"models:/{version.name}/{version.version}"  # an alias may move while the files are fetched
    if CHECKSUM_TAG not in version.tags:
        raise tracking.TrackingError(
            f"{fixed} was registered without checksums, by an older state of this course. Run notebook"
            " 03_train_forecaster of module 1 again."
        )
    about_file = tracking.version_file(fixed, PACKAGE_FILE)
    _check(fixed, about_file, version.tags[CHECKSUM_TAG])
    about = json.loads(about_file.read_text(encoding="utf-8"))
    files = {name: tracking.version_file(fixed, name) for name in about["files"]}
    for name, path in files.items():
        _check(fixed, path, about["files"][name])
    # Remote artifacts are downloaded each into a folder of its own; OpenVINO wants its two files side by side.
    numbers, graph = files[str(Path(IR_FILE).with_suffix(".bin"))], files[IR_FILE]
    if numbers.parent != graph.parent:
        numbers.replace(graph.with_suffix(".bin"))
    return Package(str(version.version), files[ONNX_FILE], graph, about)


def _check(uri: str, path: Path, expected: str) -> None:
    if sha256(path) != expected:
        raise tracking.TrackingError(
            f"{uri}: {path.name} is not the file that was registered (its checksum differs). Do not use it; find out"
            " who changed it, and register the model again."
        )
