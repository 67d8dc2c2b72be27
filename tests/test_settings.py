"""Settings: the defaults, what the environment changes, and how a bad value is named."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from workshop_lib.settings import PREFIX, ROOT, Settings, SettingsError, load_settings
from workshop_lib.thresholds import Thresholds


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "PROGRESS", "MLFLOW_PORT", "LLM_PORT"):
        monkeypatch.delenv(PREFIX + name)


def test_everything_generated_goes_under_one_ignored_folder() -> None:
    settings = load_settings()
    folders = [settings.data_dir, settings.mlflow_dir, settings.models_dir, settings.runs_dir, settings.logs_dir]
    folders.append(settings.llm_dir)
    assert {folder.parent for folder in [*folders, settings.scorecard_file]} == {ROOT / "generated"}
    assert "generated/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert settings.tracking_uri == f"sqlite:///{ROOT}/generated/mlflow/mlflow.db"


def test_the_targets_are_those_the_chapters_promise() -> None:
    promised = Thresholds()
    assert (promised.completeness, promised.consistency, promised.test_r2) == (0.95, 0.98, 0.85)
    assert (promised.wape_ratio, promised.train_seconds, promised.onnx_difference) == (0.70, 60, 1e-4)
    assert (promised.llm_start_seconds, promised.llm_first_token_ms) == (30, 500)
    assert (promised.llm_tokens_per_second, promised.llm_concurrency, promised.llm_metrics_gap) == (50, 10, 0.10)


def test_the_environment_overrides_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKSHOP_SEED", "7")
    monkeypatch.setenv("WORKSHOP_THRESHOLDS__TEST_R2", "0.5")
    monkeypatch.setenv("WORKSHOP_MLFLOW_URI", "http://mlflow.example:5000")
    monkeypatch.setenv("WORKSHOP_JOBS", "")  # set but empty, as a CI system leaves it
    settings = load_settings()
    assert (settings.seed, settings.jobs) == (7, -1)
    assert (settings.thresholds.test_r2, settings.thresholds.wape_ratio) == (0.5, 0.70)
    assert settings.tracking_uri == "http://mlflow.example:5000"


def test_relative_folders_start_at_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKSHOP_HOME", "elsewhere/../other")
    assert load_settings().home == ROOT / "other"
    monkeypatch.setenv("WORKSHOP_HOME", "~/course")
    assert load_settings().home == Path.home() / "course"


def test_own_data_is_prepared_apart_from_the_course_data(tmp_path: Path) -> None:
    course, own = Settings(home=tmp_path), Settings(home=tmp_path, data=tmp_path)
    assert course.uses_course_data and not own.uses_course_data
    assert course.data_dir != own.data_dir


@pytest.mark.parametrize(
    ("name", "value", "accepts"),
    [
        ("JOBS", "zero", "a valid integer"),
        ("JOBS", "0", "-1 (one worker per core)"),
        ("SEED", "-1", "greater than or equal to 0"),
        ("MLFLOW_PORT", "80", "greater than or equal to 1024"),
        ("PROGRESS", "perhaps", "a valid boolean"),
        ("DATA", "/no/such/folder", "an existing folder"),
        ("TIMEZONE", "Europe/Atlantis", "such as Europe/Madrid"),
        ("HOLIDAYS", "Spain", "such as ES"),
        ("LLM_ENDPOINT", "granite.example", "starts with http:// or https://"),
        ("LLM_CA_FILE", "/no/such/file.pem", "an existing PEM file"),
        ("THRESHOLDS__TEST_R2", "1.5", "less than or equal to 1"),
    ],
)
def test_a_bad_value_is_named_with_its_variable_and_what_it_accepts(
    name: str, value: str, accepts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    message = str(caught.value)
    assert message.startswith(f"WORKSHOP_{name}={value} is not usable (")
    assert accepts in message
    assert len(message.splitlines()) == 1


def test_every_bad_value_gets_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKSHOP_SEED", "x")
    monkeypatch.setenv("WORKSHOP_JOBS", "y")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert sorted(line.split("=")[0] for line in str(caught.value).splitlines()) == ["WORKSHOP_JOBS", "WORKSHOP_SEED"]


def test_every_setting_says_what_it_is_for() -> None:
    fields = Settings.model_fields | Thresholds.model_fields
    assert [name for name, field in fields.items() if name != "thresholds" and not field.description] == []


def test_settings_do_not_change_under_way() -> None:
    with pytest.raises(ValidationError):
        load_settings().seed = 1  # type: ignore[misc]
