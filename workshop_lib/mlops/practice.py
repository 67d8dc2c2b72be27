"""Small forecasters to practise versions with: a registered model of their own, so that the champion stays alone.

forget()
first = register(fit(weeks, 30), "trained in summer")
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from workshop_lib.files import sha256, write_text
from workshop_lib.mlops import signing
from workshop_lib.mlops.packages import NAME, PACKAGE_JSON, Package, PackageError, existing, load, packages_dir
from workshop_lib.monitoring.drift_data import Weeks
from workshop_lib.monitoring.retraining import train_until
from workshop_lib.ports import free_port
from workshop_lib.predictive import champion, onnx_export, tracking
from workshop_lib.predictive.evaluation import wape
from workshop_lib.predictive.forecaster import Trained, gradient_boosting
from workshop_lib.serving.release import Server, Stage
from workshop_lib.settings import settings

PRACTICE = f"{NAME}-practice"
"""The registered model."""
SMALL = partial(gradient_boosting, n_estimators=60, num_parallel_tree=1, max_depth=5, learning_rate=0.1)
"""Trains in a second."""


def folder() -> Path:
    """For copies of packages and trails that the lesson spoils on purpose."""
    return settings.home / "mlops" / "model_versioning"


def forget() -> None:
    """Delete the practice model, its packages and spoilt copies, so that the lesson begins at v1.0.0 again."""
    tracking.use_tracking(champion.EXPERIMENT)
    try:
        MlflowClient(settings.tracking_uri).delete_registered_model(PRACTICE)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    for version in existing(PRACTICE):
        shutil.rmtree(packages_dir() / f"{PRACTICE}-{version}")
    shutil.rmtree(folder(), ignore_errors=True)


def fit(weeks: Weeks, last: int) -> Trained:
    """A small forecaster that knows the weeks up to ``last``."""
    return train_until(weeks, last, SMALL)


def register(trained: Trained, description: str, margin: float = 1) -> ModelVersion:
    """A new version of the practice model. It borrows the champion's prediction intervals: measuring takes long.

    Args:
        trained: from :func:`fit`.
        description: for people who browse the registry.
        margin: factor of the intervals' upper ends; above 1 for those who would rather store too much.
    """
    champion.ensure_champion()
    interval = champion.load_package().about["interval"]
    upper = [[ratio * margin for ratio in of_horizon] for of_horizon in interval["upper"]]
    return champion.register_forecaster(
        trained,
        metrics={},
        description=description,
        alias=None,
        interval=interval | {"upper": upper},
        name=PRACTICE,
    )


def _one_byte(spoilt: Path) -> None:
    with (spoilt / champion.ONNX_FILE).open("ab") as stream:
        stream.write(b" ")


def _checksum_too(spoilt: Path) -> None:
    _one_byte(spoilt)
    about = json.loads((spoilt / PACKAGE_JSON).read_text(encoding="utf-8"))
    about["files"][champion.ONNX_FILE] = sha256(spoilt / champion.ONNX_FILE)
    write_text(spoilt / PACKAGE_JSON, json.dumps(about))


def _one_more_file(spoilt: Path) -> None:
    write_text(spoilt / "model" / "sitecustomize.py", "import os")


def _other_key(spoilt: Path) -> None:
    _checksum_too(spoilt)
    signing.sign(spoilt, signing.ensure_keys(folder() / "keys of somebody else"))


TAMPERINGS: dict[str, Callable[[Path], None]] = {
    "a byte more in the ONNX file": _one_byte,
    "the same, and its checksum in package.json": _checksum_too,
    "the same, and signed again with another key": _other_key,
    "a file with code put in": _one_more_file,
}
"""Ways to spoil a package."""


def refusals(package: Package) -> pd.Series:
    """Spoil a copy of a package in every way of :data:`TAMPERINGS`, and try to load it.

    Returns:
        Per way, why it was refused; empty where it was loaded.
    """
    why = {}
    for name, spoil in TAMPERINGS.items():
        copy = folder() / package.folder.name
        shutil.copytree(package.folder, copy)
        spoil(copy)
        try:
            load(copy)
            why[name] = ""
        except (PackageError, signing.SignatureError) as error:
            why[name] = str(error)
        shutil.rmtree(copy)
    return pd.Series(why, name="refused, because")


def wape_of(package: Package, features: pd.DataFrame, units: pd.Series) -> float:
    """WAPE of a package's ONNX file on some rows; categories that it does not know are left out."""
    known = features.index.get_level_values("category").isin(package.about["categories"])
    rows = features.loc[known, package.about["features"]].to_numpy(np.float32)
    runtime = onnx_export.session(package.folder / champion.ONNX_FILE, threads=1)
    return wape(units[known], np.maximum(onnx_export.predict(runtime, rows), 0))


def serve(stage: Stage, name: str, package: Package, env: Mapping[str, str] | None = None) -> Server:
    """Name a server on module 3's stage that serves a package and checks it first; nothing is started yet.

    Args:
        stage: where.
        name: what routes, logs and metrics call it.
        package: what it serves.
        env: other settings for its process.
    """
    server = stage.server(name, package.about["registry_version"], env)
    command = (
        sys.executable, "-m", "workshop_lib.mlops.package_server", "--package", str(package.folder),
        "--http-port", str(server.service.port), "--grpc-port", str(free_port()),
    )  # fmt: skip
    return replace(server, service=replace(server.service, command=command))
