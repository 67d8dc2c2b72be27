"""The file with all limits: read, refused with the field's name, and the same in the cluster's ConfigMap."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from workshop_lib.manifests import Document, load, problems
from workshop_lib.monitoring.config import KEY, ConfigError, load_config, seconds
from workshop_lib.predictive.features import FEATURES
from workshop_lib.settings import ROOT, settings

FILE = settings.monitoring_config
VALIDATOR = ROOT.parent / "shared" / "crds" / "validate_manifests.py"


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[str, str], Path]:
    """A copy of the file in which the first match of a pattern is replaced."""

    def change(pattern: str, new: str) -> Path:
        text, count = re.subn(pattern, new, FILE.read_text(encoding="utf-8"), count=1)
        assert count == 1
        file = tmp_path / "config.yaml"
        file.write_text(text, encoding="utf-8")
        return file

    return change


def test_the_checked_in_file_is_the_default() -> None:
    config = load_config()
    assert config.forecaster.service.p95_seconds == 0.1 and config.forecaster.quality.accuracy == 0.8
    assert (config.alerts.latency_high.for_, config.alerts.gpu_high.for_) == ("2m", "3m")
    assert config.alerts.memory_high.threshold == 0.85 and config.generator.service.gpu_utilisation == 0.9
    assert config.objectives.error_budget == pytest.approx(0.001)


def test_one_changed_number_is_seen(changed: Callable[[str, str], Path]) -> None:
    config = load_config(changed("p95_seconds: 0.1", "p95_seconds: 0.25"))
    assert config.forecaster.service.p95_seconds == 0.25
    assert config.model_copy(update={"forecaster": load_config().forecaster}) == load_config()


def test_the_settings_name_the_file(changed: Callable[[str, str], Path], use_settings: Callable[..., object]) -> None:
    use_settings(monitoring_config=changed("factor: 14.4", "factor: 10"))
    assert load_config().objectives.burn_rates[0].factor == 10


def test_a_pod_reads_the_text_alone(tmp_path: Path) -> None:
    config_map = load(FILE)[0]
    mounted = tmp_path / KEY
    mounted.write_text(config_map.body["data"][KEY], encoding="utf-8")
    assert load_config(mounted) == load_config()


@pytest.mark.parametrize(
    ("pattern", "new", "message"),
    [
        ("p95_seconds: 0.1", "p95_second: 0.1", "forecaster.service.p95_seconds: it is missing"),
        ("p95_seconds: 0.1", "p95_second: 0.1", "forecaster.service.p95_second: nobody reads a field of this name"),
        ("p95_seconds: 0.1", "p95_seconds: 0", "forecaster.service.p95_seconds: got 0, expected greater than 0"),
        ("p95_seconds: 0.1", "p95_seconds: .nan", "forecaster.service.p95_seconds: got '.nan'"),
        ("accuracy: 0.80", "accuracy: 80", "forecaster.quality.accuracy: got 80, expected less than or equal to 1"),
        ("for: 2m", "for: 2 minutes", "alerts.latency_high.for: got '2 minutes', expected a duration such as 30s"),
        ("for: 2m", "for: 0m", "alerts.latency_high.for"),
        ("severity: warning", "severity: mild", "alerts.accuracy_degraded.severity: got 'mild'"),
        ("availability: 0.999", "availability: 1", "objectives.availability: got 1"),
        ("long: 1h", "long: 5m", "objectives.burn_rates.0: got"),
        (r"watch_share: [\d.]+", "watch_share: 0.99", "watch_share may not be above retrain_share"),
        (r"features: \[(\w+)", r"features: [\1, \1", "features: each once"),
        ("threshold: 0.85, ", "", "alerts.memory_high.threshold: it is missing"),
        ("    business:\n", "    busyness:\n", "business: it is missing"),
        ("mae: 12", "mae: 12\n        mae: 13", f"{KEY}, line 10: the key 'mae' is there twice"),
        ("mae: 12", "mae: [12", f"{KEY}, line"),
        (rf"{KEY}: \|", "limits.yaml: |", f"neither a ConfigMap with the key {KEY} nor its text"),
    ],
)
def test_a_mistake_is_named_with_its_field(
    changed: Callable[[str, str], Path], pattern: str, new: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(changed(pattern, new))
    assert message in str(caught.value)


def test_every_mistake_is_named_at_once(changed: Callable[[str, str], Path]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(changed("accuracy: 0.80", "accuracy: 80\n        extra: 1\n        # "))
    assert len(str(caught.value).splitlines()) == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: there is no YAML file"):
        load_config(tmp_path / "nowhere.yaml")


def test_nothing_can_be_changed_by_mistake() -> None:
    with pytest.raises(ValidationError):
        load_config().forecaster.service.p95_seconds = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "expected"), [("30s", 30), ("2m", 120), ("1h30m", 5400), ("7d", 604800), ("1w", 604800)]
)
def test_durations_are_those_of_prometheus(text: str, expected: int) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "2", "m", "2 m", "-2m", "1.5h", "0s", "2m!"])
def test_no_other_text_is_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="a duration such as"):
        seconds(text)


def test_the_watched_features_exist() -> None:
    assert set(load_config().forecaster.drift.features) <= set(FEATURES)


def test_reading_the_limits_is_quick() -> None:
    """A service reads them at its start: no notebook machinery may come along."""
    code = (
        "import sys, workshop_lib.monitoring.config; print(sorted(set(sys.modules) & {'IPython', 'pandas', 'mlflow'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ast.literal_eval(done.stdout) == []


# ---------------------------------------------------------------- the cluster's objects


def objects(kind: str) -> list[Document]:
    return [document for document in load(FILE) if document.kind == kind]


def test_nothing_in_the_file_is_known_to_be_wrong() -> None:
    assert [str(problem) for problem in problems(load(FILE))] == []


def test_the_file_fits_the_clusters_schemas() -> None:
    if not VALIDATOR.is_file():
        pytest.skip("The schemas of the operators are not on this machine.")
    done = subprocess.run(
        [sys.executable, VALIDATOR, FILE], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]


def test_every_monitored_service_is_one_that_exists() -> None:
    services = [
        document
        for folder in ("3-serving/manifests/base", "4-langchain/manifests/base")
        for document in load(folder)
        if document.kind == "Service"
    ] + objects("Service")
    for monitor in objects("ServiceMonitor"):
        labels = monitor.get("spec.selector.matchLabels")
        (service,) = (one for one in services if labels.items() <= one.get("metadata.labels").items())
        ports = {port["name"] for port in service.get("spec.ports")}
        assert {endpoint["port"] for endpoint in monitor.get("spec.endpoints")} <= ports
        assert not monitor.get("spec.namespaceSelector")  # user workload monitoring ignores it
    assert {one.name for one in objects("ServiceMonitor")} == {"business-api", "dashboard", "monitor"}


def test_no_predictor_is_monitored_twice() -> None:
    """OpenShift AI makes the ServiceMonitor of each InferenceService."""
    assert not [one for one in objects("ServiceMonitor") if "serving.kserve.io" in str(one.body)]


def test_the_monitor_reads_the_limits_of_this_file() -> None:
    (deployment,) = objects("Deployment")
    pod = deployment.get("spec.template.spec")
    (volume,) = (one for one in pod["volumes"] if "configMap" in one)
    (mount,) = (one for one in pod["containers"][0]["volumeMounts"] if one["name"] == volume["name"])
    env = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    assert volume["configMap"]["name"] == objects("ConfigMap")[0].name
    assert env["WORKSHOP_MONITORING_CONFIG"] == f"{mount['mountPath']}/{KEY}"
