"""Exported models answer as the originals do, carry their names, and replace a file only when they are good."""

import json
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier, XGBRegressor

from workshop_lib.files import sha256
from workshop_lib.predictive import onnx_export

NAMES = ["first", "second", "third", "fourth"]
ROWS = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
UNITS = ROWS[:, 0] * 20 + ROWS[:, 1] ** 2
LAPSED = (ROWS[:, 0] + ROWS[:, 2] > 0).astype(int)


@pytest.mark.parametrize(
    "model",
    [
        RandomForestRegressor(20, random_state=0),
        XGBRegressor(n_estimators=20, num_parallel_tree=3),
        RandomForestClassifier(20, random_state=0),
        XGBClassifier(n_estimators=20),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ],
    ids=lambda model: type(model).__name__,
)
def test_the_exported_model_answers_the_same(model: object, tmp_path: Path) -> None:
    classifies = hasattr(model, "predict_proba") or isinstance(model, RandomForestClassifier)
    model.fit(pd.DataFrame(ROWS, columns=NAMES), LAPSED if classifies else UNITS)  # type: ignore[attr-defined]
    proto = onnx_export.export(model, tmp_path / "model.onnx", NAMES, {"data_fingerprint": "abc"})
    runtime = onnx_export.session(tmp_path / "model.onnx")
    table = pd.DataFrame(ROWS, columns=NAMES)
    original = model.predict_proba(table)[:, 1] if classifies else model.predict(table)  # type: ignore[attr-defined]
    assert onnx_export.relative_difference(onnx_export.predict(runtime, ROWS), original).max() < 1e-5
    metadata = runtime.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["feature_names"]) == NAMES
    assert metadata["data_fingerprint"] == "abc"
    assert onnx_export.schema(proto).loc["features"].tolist() == ["input", "float", "(n, 4)"]
    domains = [entry.domain for entry in proto.opset_import]
    assert len(domains) == len(set(domains))


def test_two_exports_are_the_same_file(tmp_path: Path) -> None:
    model = XGBRegressor(n_estimators=5).fit(ROWS, UNITS)
    for name in ("one.onnx", "two.onnx"):
        onnx_export.export(model, tmp_path / name, NAMES)
    assert sha256(tmp_path / "one.onnx") == sha256(tmp_path / "two.onnx")


def test_a_failed_export_leaves_the_last_good_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.onnx"
    onnx_export.export(XGBRegressor(n_estimators=2).fit(ROWS, UNITS), file, NAMES)
    before = sha256(file)

    def refuse(*_: object, **__: object) -> None:
        raise onnx.checker.ValidationError("broken graph")

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    with pytest.raises(onnx.checker.ValidationError):
        onnx_export.export(XGBRegressor(n_estimators=3).fit(ROWS, UNITS), file, NAMES)
    assert sha256(file) == before


def test_a_missing_file_names_the_notebook_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="05_export_onnx writes it"):
        onnx_export.session(tmp_path / "none.onnx")


def test_small_values_are_compared_absolutely() -> None:
    assert onnx_export.relative_difference(np.array([0.1, 200.0]), np.array([0.0, 100.0])).tolist() == [0.1, 1.0]


def test_timing_gives_a_row_per_batch() -> None:
    table = onnx_export.time_predictions({"sum": np.sum}, ROWS, [1, 8], seconds=0.01)
    assert table.index.tolist() == [1, 8]
    assert (table["sum"] > 0).all()
