"""The job on a registered model: a file, a history, an exit code, and nothing lost when it fails."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from mlflow.entities.model_registry import ModelVersion

from tests.orchestration.browser import browser, visit
from workshop_lib import manifests
from workshop_lib.monitoring import drift, drift_report, drift_result, retraining, retraining_job
from workshop_lib.monitoring.config import ConfigError
from workshop_lib.monitoring.drift_data import load_weeks
from workshop_lib.monitoring.drift_result import read_result
from workshop_lib.monitoring.retraining import ForecastComparison
from workshop_lib.predictive import champion
from workshop_lib.predictive.forecaster import random_forest
from workshop_lib.settings import ROOT, Settings

QUICK = partial(random_forest, n_estimators=12, max_depth=10, n_jobs=2)
URI = f"models:/sales-forecaster@{retraining.ALIAS}"


@pytest.fixture(scope="module")
def version() -> ModelVersion:
    """A small forest of weeks 7 to 39 under the lesson's alias."""
    return retraining.register(retraining.train_until(load_weeks(), 39, QUICK), 0.24, "test", first=True)


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Results of one test in a folder of its own."""
    monkeypatch.setattr(drift_result, "settings", Settings(home=tmp_path))
    yield tmp_path / "monitoring"


def test_a_week_becomes_a_file_and_part_of_the_history(version: ModelVersion, results: Path) -> None:
    assert drift.main(["--week", "49", "--model", URI, "--exit-code"]) == drift.EXIT_CODES["retrain"]
    assert drift.main(["--week", "48", "--model", URI]) == 0
    result = read_result()
    assert (result.week, result.model_version, result.decision) == (48, str(version.version), "watch")
    assert (str(result.first_day), str(result.reference_last_day)) == ("2017-11-20", "2017-09-24")
    assert result.rows == 840 and result.drifted_features_ratio >= 0.5
    assert result.distance("concept").value == pytest.approx(result.wape / result.reference_wape)
    history = drift.read_history(str(version.version))
    assert history["decision"].to_dict() == {(str(version.version), 48): "watch", (str(version.version), 49): "retrain"}
    assert drift.read_history("999").empty
    again = [one.value for one in drift.run(48, URI).distances]  # once more: the same, and no third entry
    assert again == pytest.approx([one.value for one in result.distances])
    assert len(drift.read_history()) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--week", "39"], "arrivals are weeks 40 to 53, not week 39"),
        (["--week", "54"], "not week 54"),
        (["--model", "models:/sales-forecaster@nobody"], "no models:/sales-forecaster@nobody"),
        (["--model", "elsewhere"], "no address of a model"),
    ],
)
def test_the_last_good_result_survives_a_failure(
    version: ModelVersion, results: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    drift.run(45, URI)
    before = (results / "drift.json").read_bytes()
    assert drift.main(["--model", URI, *arguments]) == 1
    assert says in capsys.readouterr().err
    assert (results / "drift.json").read_bytes() == before
    assert sorted(path.name for path in results.iterdir()) == ["drift.json", "drift.lock", "history"]


def test_a_broken_configuration_stops_the_job(
    version: ModelVersion, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ConfigError("forecaster.drift.psi: wrong")

    monkeypatch.setattr(drift, "load_config", broken)
    assert drift.main(["--model", URI]) == 1
    assert "forecaster.drift.psi" in capsys.readouterr().err
    assert not results.exists()


def test_training_days_become_whole_weeks() -> None:
    weeks = load_weeks()
    assert drift.training_weeks(weeks, "2017-02-05", "2017-11-10") == (7, 45)  # from a Sunday to a Friday
    assert drift.training_weeks(weeks, "2017-02-06", "2017-09-24") == (7, 39)  # from a Monday to a Sunday
    with pytest.raises(drift.DriftError, match="less than three"):
        drift.training_weeks(weeks, "2017-02-05", "2017-02-20")


def test_the_alias_moves_with_evidence_only(version: ModelVersion) -> None:
    other = retraining.register(retraining.train_until(load_weeks(), 12, QUICK), 0.25, "test")
    no_better = ForecastComparison(0.24, 0.24, 0.0, -0.01, 0.01, 0.5, 28)
    better = ForecastComparison(0.25, 0.24, 0.01, 0.005, 0.015, 0.001, 28)
    assert retraining.promote_if_better(other, no_better) == str(version.version)
    assert retraining.promote_if_better(other, better) == str(other.version)
    found = champion.find_version(URI)
    assert found is not None and found.tags["evidence"] == str(better)
    assert champion.load_package(URI).about["last_day"] == "2017-03-19"
    champion_now = champion.find_version(champion.URI)
    assert champion_now is None or champion_now.version not in (version.version, other.version)
    again = ForecastComparison(0.25, 0.24, 0.01, 0.005, 0.015, 0.001, 28)
    assert retraining.promote_if_better(version, again) == str(version.version)  # for the tests that follow


def test_the_trigger_trains_again_and_only_a_better_model_takes_over(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A poor model in service loses against a challenger; that one then wins against its like."""
    poor = partial(random_forest, n_estimators=2, max_depth=5, n_jobs=2)
    uri = "models:/sales-forecaster@retrained"
    first = retraining.register(retraining.train_until(load_weeks(), 30, poor), 0.6, "test")
    retraining.promote_if_better(first, ForecastComparison(0.9, 0.6, 0.3, 0.2, 0.4, 0.001, 28), alias="retrained")
    assert retraining_job.run(36, uri, QUICK)[0] == "promoted"
    found = champion.find_version(uri)
    assert found is not None and found.version != first.version and "p = 0.000" in found.tags["evidence"]
    outcome, said = retraining_job.run(37, uri, QUICK)
    assert outcome == "kept" and f"Version {found.version} stays" in said
    assert champion.find_version(uri) == found
    assert retraining_job.main(["--week", "50", "--model", uri]) == retraining_job.EXIT_CODES["too early"]
    assert "Week 54 decides" in capsys.readouterr().out
    assert retraining_job.main(["--week", "20", "--model", uri]) == 1
    assert "has seen the sales up to week 36" in capsys.readouterr().err


def test_without_a_reason_nothing_is_trained(
    version: ModelVersion, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert retraining_job.main(["--model", URI]) == 1 and "drift.json" in capsys.readouterr().err
    drift.run(48, URI)
    assert retraining_job.main(["--model", URI]) == retraining_job.EXIT_CODES["not due"]
    assert "said watch of week 48" in capsys.readouterr().out
    assert retraining_job.main(["--model", f"models:/sales-forecaster/{version.version}"]) == 1
    assert "has an alias" in capsys.readouterr().err


def test_the_report_opens_in_a_browser_without_a_network(version: ModelVersion, results: Path) -> None:
    result = drift.run(48, URI, report=True)
    assert result.report == "drift-week-48.html"
    path = drift_report.report_file(48)
    assert path.parent == results and 1e6 < path.stat().st_size < 8e6
    with browser() as program, visit(program) as seen:
        seen.page.goto(path.as_uri())
        seen.page.get_by_text("mean_28").first.wait_for()
        seen.page.get_by_text("Drift is detected", exact=False).first.wait_for()
        shown = seen.page.inner_text("body")
    assert seen.hosts <= {""} and not seen.complaints
    drifted = sum(one.drifted for one in result.distances if one.kind == "data")
    assert f"{drifted / 10:.3g}"[:3] in shown


def test_the_cron_job_runs_this_and_writes_where_the_monitor_reads() -> None:
    documents = manifests.load("5-monitoring-optimization/monitoring/model_monitoring_config.yaml")
    found = {(one.kind, one.name): one for one in documents}
    job = found["CronJob", "drift"].get("spec.jobTemplate.spec.template.spec")
    monitor = found["Deployment", "monitor"].get("spec.template.spec")
    assert job["containers"][0]["args"][:2] == ["-m", drift.__spec__.name]
    assert "--exit-code" not in job["containers"][0]["args"]  # a decision is no failed job
    places = set()
    for pod in (job, monitor):
        claims = {volume["name"]: volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod["volumes"]}
        mounts = {claims[mount["name"]]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        places.add(("monitoring-results", mounts["monitoring-results"]))
    home = Path("/opt/workshop/generated")  # WORKSHOP_HOME of the image, see 3-serving/Containerfile
    assert f"WORKSHOP_HOME={home}" in (ROOT / "3-serving" / "Containerfile").read_text()
    assert places == {("monitoring-results", str(home / "monitoring"))}
    assert ("PersistentVolumeClaim", "monitoring-results") in found
