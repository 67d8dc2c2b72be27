"""The pipeline's tasks about the model: train it, compare it with the one in production, and package it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_lib.files import write_text
from workshop_lib.mlops import packages
from workshop_lib.mlops.steps import Results, StepFailed
from workshop_lib.settings import settings

if TYPE_CHECKING:
    import pandas as pd

    from workshop_lib.mlops.packages import Package

MODEL = "model.json"
"""The booster in XGBoost's own format: numbers only, nothing in it is ever executed."""
TRAINING = "training.json"
VALIDATION = "validation.json"


def training(
    workspace: Path, rounds: int = 300, learning_rate: float = 0.05, depth: int = 6, trees: int = 3
) -> Results:
    """Fit the forecaster.

    Args:
        workspace: folder that the run's tasks share.
        rounds: of boosting.
        learning_rate: share of each round's correction that is kept.
        depth: of the trees.
        trees: per round.
    """
    from workshop_lib.predictive.forecaster import gradient_boosting, make_dataset, train

    names = ("n_estimators", "learning_rate", "max_depth", "num_parallel_tree")
    options: dict[str, Any] = dict(zip(names, (rounds, learning_rate, depth, trees), strict=True))
    dataset = make_dataset()
    trained = train(gradient_boosting(**options), dataset)
    trained.model.get_booster().save_model(workspace / MODEL)
    write_text(workspace / TRAINING, json.dumps({"options": options, "seconds": trained.seconds}))
    return {"rows": str(len(dataset.rows(dataset.split.fit)[1]))}


def model_validation(workspace: Path, state_repository: str, margin: float = 0.005) -> Results:
    """Compare the new model with the one in production, on the same days, which neither was trained on.

    It must forecast far better than last week's sales do, and may be worse than the model in production only within a
    margin. (A pipeline also runs when only the code has changed. So it asks whether anything got worse, and not, as
    module 5 does after drift, whether the new model is better beyond chance.)

    Args:
        workspace: folder that the run's tasks share.
        state_repository: says which version is in production; the registry's champion stands in where there is none.
        margin: by how much the WAPE may be higher.

    Raises:
        StepFailed: when the model is not good enough.
    """
    from workshop_lib.mlops.gitops import desired
    from workshop_lib.monitoring.retraining import paired_test
    from workshop_lib.predictive.forecaster import make_dataset, predict_units, seasonal_naive

    dataset = make_dataset()
    features, truth = dataset.rows(dataset.split.test)
    old = _packaged_units(desired(state_repository, "production") or packages.ensure(), features)
    found = paired_test(truth, old, predict_units(_model(workspace), features))
    naive = seasonal_naive(dataset.panel, dataset.split.test).reindex(truth.index)
    ratio = found.challenger_wape / float((truth - naive).abs().sum() / truth.sum())
    measured = {"wape": found.challenger_wape, "production_wape": found.champion_wape, "low": found.low, "ratio": ratio}
    write_text(workspace / VALIDATION, json.dumps(measured))
    said = f"WAPE {found.challenger_wape:.4f}, {found.champion_wape:.4f} in production"
    allowed = settings.thresholds.wape_ratio
    if ratio > allowed:
        raise StepFailed(f"{said}; that is {ratio:.2f} of the error of last week's sales, and {allowed} is allowed.")
    if found.low < -margin:
        raise StepFailed(f"{said}; it may be worse by {-found.low:.4f}, and {margin:g} is allowed.")
    return {"wape": f"{found.challenger_wape:.4f}", "production": f"{found.champion_wape:.4f}"}


def onnx_export(
    workspace: Path, model: str, author: str, version: str = "", reason: str = "trained by the pipeline"
) -> Results:
    """Register the model, export it, and build its signed package; or take a package that was built before.

    Only here its prediction intervals are measured: a model that did not pass needs none. Beside the package it keeps
    questions with the right answers, which the integration tests ask.

    Args:
        workspace: folder that the run's tasks share.
        model: its name in the registry.
        author: who wants it.
        version: a package to release again, such as ``v1.2.0``; empty for the model of this run.
        reason: and why, for the audit trail.

    Raises:
        StepFailed: when the exported model forecasts something else than the trained one.
    """
    if version:
        package = packages.find(version, model)
        if not golden_file(package).is_file():
            from workshop_lib.predictive.forecaster import make_dataset

            dataset = make_dataset()
            _keep_golden(package, dataset.rows(dataset.split.test)[0])
        return {"version": package.version}

    from workshop_lib.predictive.champion import register_forecaster
    from workshop_lib.predictive.forecaster import Trained, make_dataset, predict_units
    from workshop_lib.predictive.onnx_export import relative_difference

    dataset, fitted, about = make_dataset(), _model(workspace), _read(workspace / TRAINING)
    registered = register_forecaster(
        Trained(fitted, dataset, about["seconds"]),
        metrics={f"test_{name}": value for name, value in _read(workspace / VALIDATION).items()},
        description=reason,
        alias=None,
        name=model,
    )
    package = packages.build(str(registered.version), reason=reason, actor=author, name=model)
    features, _ = dataset.rows(dataset.split.test)
    exported, trained = _packaged_units(package, features), predict_units(fitted, features)
    gap = relative_difference(exported.to_numpy(), trained.to_numpy()).max()
    if gap > settings.thresholds.onnx_difference:
        raise StepFailed(f"the exported forecasts differ from the trained model's by up to {gap:.2g}.")
    _keep_golden(package, features)
    if settings.s3_bucket:  # where the servers of a cluster look
        from workshop_lib.serving.model_store import upload

        upload(package.folder, int(package.about["registry_version"]), name=model)
    return {"version": package.version}


def golden_file(package: Package) -> Path:
    """Questions for a package with the answers that its ONNX file gives: ``rows`` of features and ``units``."""
    return settings.home / "mlops" / "golden" / f"{package.folder.name}.json"


def _keep_golden(package: Package, features: pd.DataFrame) -> None:
    """Write the questions: every category on the last of some days."""
    last = features.tail(len(package.about["categories"]))
    rows = last[package.about["features"]].to_numpy().astype("float32")
    golden = {"rows": rows.tolist(), "units": _packaged_units(package, last).tolist()}
    write_text(golden_file(package), json.dumps(golden))


def _packaged_units(package: Package, features: pd.DataFrame) -> pd.Series:
    """What a package's ONNX file forecasts for rows of features; never below zero."""
    import pandas as pd

    from workshop_lib.predictive import onnx_export as export
    from workshop_lib.predictive.champion import ONNX_FILE

    rows = features[package.about["features"]].to_numpy().astype("float32")
    units = export.predict(export.session(package.folder / ONNX_FILE), rows)
    return pd.Series(units.clip(min=0).astype(float), index=features.index)


def _model(workspace: Path) -> Any:
    """The trained model of this run."""
    from workshop_lib.predictive.forecaster import gradient_boosting

    model = gradient_boosting(**_read(workspace / TRAINING)["options"])
    model.load_model(workspace / MODEL)
    return model


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
