"""A package holds all that a version needs, is built once, and is refused when anything in it was changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from workshop_lib import data
from workshop_lib.files import sha256
from workshop_lib.mlops import audit, packages, practice, signing, versions
from workshop_lib.mlops.packages import Package, PackageError
from workshop_lib.mlops.semver import TAG
from workshop_lib.mlops.signing import SignatureError
from workshop_lib.monitoring.drift_data import load_weeks
from workshop_lib.predictive import champion, onnx_export
from workshop_lib.predictive.features import FEATURES
from workshop_lib.predictive.tracking import FORECASTER
from workshop_lib.settings import ROOT, settings


@pytest.fixture(scope="module")
def registered() -> Iterator[list[ModelVersion]]:
    """Three practice versions: the first, the same with other intervals, and one that was trained for longer."""
    practice.forget()
    weeks = load_weeks()
    first = practice.fit(weeks, 20)
    yield [
        practice.register(first, "first"),
        practice.register(first, "first", margin=1.1),
        practice.register(practice.fit(weeks, 30), "first"),
    ]
    practice.forget()


@pytest.fixture(scope="module")
def built(registered: list[ModelVersion]) -> list[Package]:
    """Their packages."""
    return [
        packages.build(str(version.version), reason="lesson", actor="ana", name=practice.PRACTICE)
        for version in registered
    ]


@pytest.fixture
def copy(built: list[Package], tmp_path: Path) -> Path:
    """A copy of the first package, to be changed."""
    return Path(shutil.copytree(built[0].folder, tmp_path / built[0].folder.name))


def test_the_rules_decide_and_the_registry_remembers(built: list[Package]) -> None:
    assert [package.version for package in built] == ["v1.0.0", "v1.0.1", "v1.1.0"]
    assert [package.about["reasons"] for package in built[:2]] == [["the first version"], ["configuration: interval"]]
    assert built[2].about["change"] == "minor" and "other weights" in built[2].about["reasons"]
    client = MlflowClient(settings.tracking_uri)
    found = client.get_model_version(practice.PRACTICE, built[1].about["registry_version"])
    assert found.tags[TAG] == "v1.0.1"
    assert versions.assign(found)[1].reasons == ("configuration: interval",)  # asked again, answered the same


def test_the_champion_stays_who_it_is(built: list[Package]) -> None:
    found = champion.find_version(champion.URI)
    assert found is None or found.name == FORECASTER == packages.NAME
    assert "alias" in built[0].about and built[0].about["alias"] == ""


def test_everything_is_in_it(built: list[Package]) -> None:
    package = built[2]
    about = package.about
    assert str(package) == "sales-forecaster-practice v1.1.0"
    assert package.folder == settings.home / "mlops" / "packages" / "sales-forecaster-practice-v1.1.0"
    top = {"forecaster.onnx", "forecaster.json", "model.xml", "model.bin", "requirements.lock"}
    assert top | {"model/MLmodel", "model/model.skops"} <= about["files"].keys()
    assert not [file for file in about["files"] if file.endswith((".pkl", ".joblib"))]
    assert about["features"] == list(FEATURES) and len(about["categories"]) == 120
    assert about["output"] == "units" and about["metrics"]["train_seconds"] > 0
    assert about["environment_sha256"] == sha256(ROOT / "requirements.lock")
    assert about["code_commit"] == packages.code_commit() and about["training_period"][0] < about["training_period"][1]
    assert about["built_by"] == "ana" and about["data_fingerprint"] == data.prepared().fingerprint


def test_the_two_models_in_it_agree(built: list[Package]) -> None:
    folder = built[0].folder
    rows = load_weeks().rows(25, 25)[0][list(FEATURES)].to_numpy(np.float32)
    model = mlflow.sklearn.load_model(str(folder / "model"))
    answers = onnx_export.predict(onnx_export.session(folder / "forecaster.onnx"), rows)
    np.testing.assert_allclose(answers, model.predict(rows), rtol=1e-4, atol=1e-3)


def test_a_version_is_packaged_once(built: list[Package]) -> None:
    entries = [entry for entry in audit.read() if entry.subject == str(built[0])]
    assert entries[-1].actor == "ana" and entries[-1].action == "build" and entries[-1].reason == "lesson"
    again = packages.build("1", reason="once more", actor="eva", name=practice.PRACTICE)
    assert again == built[0]
    assert entries == [entry for entry in audit.read() if entry.subject == str(built[0])]


def test_another_model_under_the_same_number_is_refused(built: list[Package]) -> None:
    client = MlflowClient(settings.tracking_uri)
    right = client.get_model_version(practice.PRACTICE, "1").tags[champion.CHECKSUM_TAG]
    client.set_model_version_tag(practice.PRACTICE, "1", champion.CHECKSUM_TAG, "0" * 64)
    try:
        with pytest.raises(PackageError, match="the registry has been made anew"):
            packages.build("1", reason="lesson", actor="ana", name=practice.PRACTICE)
    finally:
        client.set_model_version_tag(practice.PRACTICE, "1", champion.CHECKSUM_TAG, right)


def test_what_is_not_registered_cannot_be_packaged(built: list[Package]) -> None:
    for version in ("77", "nobody"):
        with pytest.raises(PackageError, match=f"The registry has no models:/.*{version}"):
            packages.build(version, reason="lesson", actor="ana", name=practice.PRACTICE)


def _append(folder: Path, file: str) -> None:
    (folder / file).write_bytes((folder / file).read_bytes() + b" ")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: _append(folder, "forecaster.onnx"),
        lambda folder: _append(folder, "model/model.skops"),
        lambda folder: _append(folder, "package.json"),
        lambda folder: _append(folder, "requirements.lock"),
        lambda folder: (folder / "model.bin").unlink(),
        lambda folder: (folder / "model" / "helper.py").write_text("import os", encoding="utf-8"),
        lambda folder: (folder / "model.sig").unlink(),
    ],
)
def test_a_changed_package_is_refused(copy: Path, change: Callable[[Path], object]) -> None:
    assert packages.load(copy).version == "v1.0.0"
    change(copy)
    with pytest.raises(SignatureError):
        packages.load(copy)


def test_the_lesson_spoils_copies_in_every_way(built: list[Package]) -> None:
    refused = practice.refusals(built[2])
    assert list(refused.index) == list(practice.TAMPERINGS) and "" not in set(refused)
    assert ["forecaster.onnx" in why for why in refused] == [True, True, False, False]
    assert "package.json" in refused.iloc[1] and "key" in refused.iloc[2] and "sitecustomize.py" in refused.iloc[3]
    assert packages.load(built[2].folder) == built[2]  # only copies were spoilt


def test_a_patch_errs_as_the_version_before_and_a_retrained_one_differs(built: list[Package]) -> None:
    errors = [practice.wape_of(package, *load_weeks().rows(40, 41)) for package in built]
    assert errors[0] == errors[1] != errors[2] and max(errors) < 0.5
    few = Package(built[0].folder, built[0].about | {"categories": built[0].about["categories"][:10]})
    assert practice.wape_of(few, *load_weeks().rows(40, 41)) != errors[0]


def test_what_was_signed_must_belong_together(copy: Path) -> None:
    """Even the owner of the key cannot exchange a file without anybody noticing."""
    _append(copy, "forecaster.onnx")
    signing.sign(copy)
    with pytest.raises(PackageError, match=r"forecaster\.onnx differ"):
        packages.load(copy)
    (copy / "package.json").unlink()
    with pytest.raises(PackageError, match=r"it has no package\.json"):
        packages.load(copy)


def test_a_package_is_found_by_its_version(built: list[Package]) -> None:
    assert packages.find("v1.0.1", practice.PRACTICE) == built[1]
    with pytest.raises(PackageError, match=r"no package of .* v9\.0\.0. Built so far: v1\.0\.0, v1\.0\.1, v1\.1\.0"):
        packages.find("v9.0.0", practice.PRACTICE)


def test_two_versions_compared(built: list[Package]) -> None:
    found = packages.compare(built[0], built[2]).set_index("field")
    assert list(found.columns) == ["a", "b"]
    assert tuple(found.loc["version"]) == ("v1.0.0", "v1.1.0")
    assert found.loc["training_period", "a"][1] < found.loc["training_period", "b"][1]
    assert "files.model.bin" in found.index and "metrics.train_seconds" in found.index
    assert "features" not in found.index and "data_fingerprint" not in found.index  # they are equal
    configured = packages.compare(built[0], built[1]).set_index("field")
    assert "files.forecaster.json" in configured.index and "files.model.bin" not in configured.index
    smaller = Package(built[0].folder, built[0].about | {"categories": [*built[0].about["categories"][:100], "NEW"]})
    assert tuple(packages.compare(built[0], smaller).loc[0]) == ("categories", "120, 20 only here", "101, 1 only here")


def test_the_champion_has_a_package() -> None:
    package = packages.ensure()
    assert package == packages.ensure() == packages.find(package.version)
    found = champion.find_version(champion.URI)
    assert found is not None and package.about["registry_version"] == str(found.version)
    assert json.loads((package.folder / "package.json").read_text(encoding="utf-8")) == package.about


def test_forgetting_leaves_nothing(registered: list[ModelVersion], built: list[Package]) -> None:
    practice.forget()
    assert packages.existing(practice.PRACTICE) == []
    assert versions.newest(practice.PRACTICE) is None
    practice.forget()  # nothing left to forget
