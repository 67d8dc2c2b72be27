"""Semantic versions in the registry: decided by the rules of :mod:`workshop_lib.mlops.semver`, kept as tags.

    assign(find_version("models:/sales-forecaster@champion"))       # v1.0.0, or the next number by the rules

A version is compared with the newest one that has a semantic version. The registry's own number stays as it is.
"""

from __future__ import annotations

from typing import Any

import openvino
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from workshop_lib.files import locked
from workshop_lib.mlops.semver import FIRST, TAG, Decision, Facts, Version, decide
from workshop_lib.predictive.champion import EXPERIMENT, IR_FILE, load_package
from workshop_lib.predictive.tracking import use_tracking
from workshop_lib.settings import settings

REASONS_TAG = "semver_reasons"
_NO_CONFIGURATION = {"features", "categories", "first_day", "last_day", "data_fingerprint", "files"}
"""Of forecaster.json: what the rules look at by itself; all the rest is configuration."""


def facts(version: ModelVersion) -> Facts:
    """What the rules need to know about a registered forecaster, read from its files.

    Raises:
        TrackingError: when a file is missing or is not what was registered.
    """
    package = load_package(f"models:/{version.name}/{version.version}")
    about = package.about
    configuration: dict[str, Any] = {name: about[name] for name in about.keys() - _NO_CONFIGURATION}
    return Facts(
        features=tuple(about["features"]),
        output=openvino.Core().read_model(package.ir_file).output(0).get_any_name(),
        categories=tuple(about["categories"]),
        data_fingerprint=about["data_fingerprint"],
        training_period=(about["first_day"], about["last_day"]),
        weights=about["files"][IR_FILE.replace(".xml", ".bin")],  # the ONNX file holds more than the model's numbers
        configuration=configuration | {"description": version.description},
    )


def newest(name: str) -> tuple[Version, ModelVersion] | None:
    """The registered version with the highest semantic version, or None where there is none."""
    found = MlflowClient(settings.tracking_uri).search_model_versions(f"name = '{name}'")
    tagged = [(Version.parse(version.tags[TAG]), version) for version in found if TAG in version.tags]
    return max(tagged, key=lambda pair: pair[0], default=None)


def assign(version: ModelVersion) -> tuple[Version, Decision]:
    """Give a registered forecaster its semantic version, once; a version that has one keeps it.

    Returns:
        The version, and the decision with its reasons.

    Raises:
        TrackingError: when a file of one of the two is missing or is not what was registered.
    """
    use_tracking(EXPERIMENT)
    client = MlflowClient(settings.tracking_uri)
    with locked(settings.home / "mlops" / "versions"):  # two at once would get the same number
        tags = client.get_model_version(version.name, version.version).tags
        if TAG in tags:
            change, _, reasons = tags[REASONS_TAG].partition(": ")
            return Version.parse(tags[TAG]), Decision(change, tuple(reasons.split("; ")))
        before = newest(version.name)
        if before is None:
            number, decision = FIRST, Decision("major", ("the first version",))
        else:
            decision = decide(facts(before[1]), facts(version))
            number = before[0].bump(decision.change)
        text = f"{decision.change}: {'; '.join(decision.reasons)}"
        client.set_model_version_tag(version.name, version.version, REASONS_TAG, text)
        client.set_model_version_tag(version.name, version.version, TAG, str(number))
    return number, decision
