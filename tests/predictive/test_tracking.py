"""MLflow round trips in a database of their own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from xgboost import XGBClassifier, XGBRegressor

from workshop_lib.predictive import tracking
from workshop_lib.predictive.comparison import Comparison
from workshop_lib.settings import Settings

BETTER = Comparison(0.32, 0.31, 0.01, 0.005, 0.015, 0.001, 500)
NO_BETTER = Comparison(0.32, 0.319, 0.001, -0.01, 0.012, 0.4, 500)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a space in its name: paths in URIs have to survive it."""
    return tmp_path_factory.mktemp("the home")


@pytest.fixture(autouse=True)
def local_mlflow(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tracking in the temporary folder, and data that need no preparation."""
    monkeypatch.setattr(tracking, "settings", Settings(home=home, mlflow_uri=None, mlflow_artifacts=None))
    monkeypatch.setattr(tracking.data, "prepared", lambda: SimpleNamespace(fingerprint="0123456789abcdef"))
    for name in (
        "MLFLOW_TRACKING_URI",
        "PATH",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT",
    ):
        monkeypatch.setenv(name, "/usr/bin:/bin" if name == "PATH" else "")
    tracking.use_tracking("tests")
    yield
    while mlflow.active_run():
        mlflow.end_run()


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Three features whose sum decides the outcome."""
    values = np.random.default_rng(0).uniform(size=(80, 3)).astype("float32").astype("float64")
    return pd.DataFrame(values, columns=["a", "b", "c"])


@pytest.fixture(scope="module")
def outcome(frame: pd.DataFrame) -> pd.Series:
    """0 or 1 per row."""
    return (frame.sum(axis=1) > 1.5).astype(int)


MODELS = [
    LogisticRegression(),
    RandomForestClassifier(5, random_state=0),
    XGBClassifier(n_estimators=5),
    RandomForestRegressor(5, random_state=0),
    XGBRegressor(n_estimators=5),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_a_registered_model_answers_as_before(model, frame: pd.DataFrame, outcome: pd.Series) -> None:  # type: ignore[no-untyped-def]
    name = type(model).__name__
    model.fit(frame, outcome)
    tracking.register(model, name, example=frame.head(2), alias="champion", tags={"kind": "test"}, description="d")
    loaded = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    expected = (model.predict_proba if hasattr(model, "predict_proba") else model.predict)(frame)
    np.testing.assert_allclose(loaded.predict(frame), expected, rtol=1e-9)
    native = mlflow.sklearn.load_model(f"models:/{name}@champion")
    assert type(native) is type(model)
    version = mlflow.MlflowClient().get_model_version_by_alias(name, "champion")
    assert version.tags == {"kind": "test", "data_fingerprint": "0123456789abcdef"}
    assert version.description == "d"
    with pytest.raises(MlflowException, match="missing inputs"):
        loaded.predict(frame[["a"]])
    assert mlflow.active_run() is None


def test_extra_files_travel_with_the_version(frame: pd.DataFrame, outcome: pd.Series, tmp_path: Path) -> None:
    file = tmp_path / "draft.txt"
    file.write_text("features")
    model = LogisticRegression().fit(frame, outcome)
    with mlflow.start_run() as run:
        version = tracking.register(model, "extra", example=frame.head(2), extra_files={"features.json": file})
    assert version.run_id == run.info.run_id
    assert tracking.version_file(f"models:/extra/{version.version}", "features.json").read_text() == "features"
    with pytest.raises(tracking.TrackingError, match=r"has no file other\.txt"):
        tracking.version_file(f"models:/extra/{version.version}", "other.txt")


def test_an_example_with_missing_values_is_refused(frame: pd.DataFrame, outcome: pd.Series) -> None:
    model = LogisticRegression().fit(frame, outcome)
    with pytest.raises(ValueError, match="missing values"):
        tracking.register(model, "holes", example=frame.head(2).mask(frame.head(2) > 0))


@pytest.fixture
def versions(frame: pd.DataFrame, outcome: pd.Series) -> list[str]:
    """Two versions of one model, neither with an alias."""
    client = mlflow.MlflowClient()
    model = LogisticRegression().fit(frame, outcome)
    if client.search_registered_models("name = 'rivals'"):
        client.delete_registered_model("rivals")
    return [str(tracking.register(model, "rivals", example=frame.head(1)).version) for _ in range(2)]


def test_a_promotion_must_be_earned(versions: list[str]) -> None:
    first, second = versions
    assert str(tracking.promote("rivals", first).version) == first
    for evidence, reason in ((None, "not compared"), (NO_BETTER, r"does not beat .* p = 0\.400")):
        with pytest.raises(tracking.PromotionRefused, match=reason):
            tracking.promote("rivals", second, evidence)
        assert str(mlflow.MlflowClient().get_model_version_by_alias("rivals", "champion").version) == first
    promoted = tracking.promote("rivals", second, BETTER)
    assert (str(promoted.version), promoted.tags["replaces"]) == (second, first)
    assert "p = 0.001" in promoted.tags["evidence"]


def test_runs_become_a_table() -> None:
    for number in (1, 2):
        with mlflow.start_run(run_name=f"run {number}", tags={"session": "table"}):
            mlflow.log_param("depth", number)
            mlflow.log_metric("loss", number / 10)
    table = tracking.compare_runs("tags.session = 'table'", params=["depth", "absent"], metrics=["loss"])
    assert list(table.index) == ["run 1", "run 2"]
    assert list(table.columns) == ["depth", "absent", "loss"]
    assert (list(table["depth"]), list(table["loss"])) == (["1", "2"], [0.1, 0.2])


def test_the_data_of_a_run_is_on_record(frame: pd.DataFrame, outcome: pd.Series) -> None:
    labelled = frame.assign(outcome=outcome)
    with mlflow.start_run() as run:
        digest = tracking.log_dataset(labelled, "the data", target="outcome", context="training")
    stored = mlflow.get_run(run.info.run_id)
    assert stored.inputs is not None
    dataset = stored.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest) == ("the data", digest)
    assert "transactions.parquet" in dataset.source
    assert stored.data.tags["data_fingerprint"] == "0123456789abcdef"
    with mlflow.start_run():
        assert tracking.log_dataset(labelled.assign(a=0.0), "x", target="outcome", context="training") != digest


def test_artifacts_stay_in_the_home(home: Path) -> None:
    experiment = tracking.use_tracking("somewhere")
    with mlflow.start_run():
        mlflow.log_text("hello", "note.txt")
    assert experiment.artifact_location == (home / "mlflow" / "artifacts" / "somewhere").as_uri()
    assert list((home / "mlflow" / "artifacts" / "somewhere").rglob("note.txt"))


def test_artifacts_go_where_the_setting_says(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "settings", Settings(home=home, mlflow_uri=None, mlflow_artifacts="s3://models/"))
    assert tracking.use_tracking("bucket").artifact_location == "s3://models/bucket"


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:{port}", "postgresql://me:secret@127.0.0.1:{port}/mlflow", "sqlite:////absent/m.db"]
)
def test_a_place_that_does_not_answer_is_named(address: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = address.format(port=free.getsockname()[1])
    monkeypatch.setattr(tracking, "settings", Settings(home=home, mlflow_uri=uri))
    with pytest.raises(tracking.TrackingError, match="Check WORKSHOP_MLFLOW_URI") as caught:
        tracking.use_tracking("tests")
    assert uri.replace("secret", "***") in str(caught.value)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho the port is taken >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(tracking.sys, "executable", str(program))
    with pytest.raises(tracking.TrackingError, match="did not start: the port is taken"):  # noqa: SIM117
        with tracking.serve_model("models:/absent@champion"):
            pass
