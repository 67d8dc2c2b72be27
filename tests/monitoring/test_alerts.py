"""The alerts: up to date with the limits, tried with series, and without the mistakes that Prometheus lets through."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry

from tests.monitoring.prometheus_tools import skip_without
from workshop_lib.manifests import load, problems
from workshop_lib.monitoring import alerts as module
from workshop_lib.monitoring.alert_cases import load_cases, run
from workshop_lib.monitoring.alert_lint import EXPORTERS, TEXTS, lint, metric_names, untried
from workshop_lib.monitoring.alerts import (
    ALERTS_FILE,
    AlertsError,
    alerts,
    check,
    faster,
    main,
    render,
    rules,
    run_cases,
    table,
)
from workshop_lib.monitoring.config import MonitoringConfig, load_config, seconds
from workshop_lib.monitoring.prometheus import Rules
from workshop_lib.settings import ROOT, settings

VALIDATOR = ROOT.parent / "shared" / "crds" / "validate_manifests.py"
README = ROOT / "5-monitoring-optimization" / "README.md"


@pytest.fixture(scope="module")
def groups() -> Rules:
    return rules(load_config())


def changed(**parts: dict[str, Any]) -> MonitoringConfig:
    """The checked-in limits with some replaced: `changed(forecaster={"service": {"p95_seconds": 1}})`."""

    def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        return old | {key: merged(old[key], value) if isinstance(value, dict) else value for key, value in new.items()}

    return MonitoringConfig.model_validate(merged(load_config().model_dump(by_alias=True), parts))


# ---- the file


def test_the_file_is_up_to_date() -> None:
    assert main([]) == 0


def test_an_old_file_is_noticed_and_written_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "ALERTS_FILE", tmp_path / "alerts.yaml")
    assert main([]) == 1 and "--write" in capsys.readouterr().err
    assert main(["--write"]) == 0 and main([]) == 0
    assert (tmp_path / "alerts.yaml").read_text() == ALERTS_FILE.read_text()
    (tmp_path / "alerts.yaml").write_text(ALERTS_FILE.read_text().replace("> 0.1", "> 0.2"))
    assert main([]) == 1


def test_a_cluster_would_take_it() -> None:
    documents = load(ALERTS_FILE)
    assert [(document.kind, document.get("metadata.namespace")) for document in documents] == [
        ("PrometheusRule", None), ("PrometheusRule", "nvidia-gpu-operator"),
    ]  # fmt: skip
    assert problems(documents) == []
    if VALIDATOR.exists():
        done = subprocess.run([sys.executable, VALIDATOR, ALERTS_FILE], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_nothing_is_left_of_the_template() -> None:
    text = ALERTS_FILE.read_text(encoding="utf-8")
    assert "${" not in text and "#%" not in text


# ---- the limits


def _alert_fields() -> Iterator[tuple[str, str]]:
    known = load_config().alerts
    for name in type(known).model_fields:
        for field in type(getattr(known, name)).model_fields:
            yield name, field


@pytest.mark.parametrize(("name", "field"), list(_alert_fields()))
def test_every_limit_of_an_alert_is_used(name: str, field: str) -> None:
    other = {"window": "11m", "for_": "17m", "severity": "info", "threshold": 0.4321}[field]
    was = getattr(getattr(load_config().alerts, name), field)
    assert was != other or field == "severity"
    if was == other:
        other = "critical"
    assert render(changed(alerts={name: {field.rstrip("_"): other}})) != render(load_config())


@pytest.mark.parametrize(
    ("limits", "alert"),
    [
        ({"forecaster": {"service": {"p95_seconds": 0.3}}}, "ForecastLatencyHigh"),
        ({"forecaster": {"quality": {"accuracy": 0.5}}}, "ForecastAccuracyDegraded"),
        ({"generator": {"service": {"gpu_utilisation": 0.99}}}, "GpuBusy"),
        ({"alerts": {"gpu_high": {"for": "30m"}}}, "GpuBusy"),
        ({"alerts": {"memory_high": {"threshold": 0.99}}}, "MemoryHigh"),
        ({"business": {"engagement_drop": 0.1}}, "EngagementDrop"),
    ],
)
def test_another_limit_is_another_alert(limits: dict[str, Any], alert: str) -> None:
    skip_without("promtool")
    cases = [one for one in load_cases() if one.alert == alert][:1]
    run(rules(load_config()), cases)
    with pytest.raises(AlertsError, match=alert):
        run(rules(changed(**limits)), cases)


def test_the_limits_come_from_the_file(tmp_path: Path) -> None:
    copied = tmp_path / "limits.yaml"
    text = settings.monitoring_config.read_text(encoding="utf-8")
    assert text.count("p95_seconds: 0.1 ") == 1
    copied.write_text(text.replace("p95_seconds: 0.1 ", "p95_seconds: 0.3 "), encoding="utf-8")
    expressions = table(rules(load_config(copied))).set_index("alert")["expression"]
    assert expressions["ForecastLatencyHigh"] == "workshop:forecast_seconds:p95 > 0.3"


def test_another_number_of_burn_rates_is_another_number_of_alerts() -> None:
    rates = load_config().model_dump(by_alias=True)["objectives"]["burn_rates"]
    fewer = table(rules(changed(objectives={"burn_rates": rates[:1]})))
    assert (fewer["alert"] == "ErrorBudgetBurns").sum() == 1 and (fewer["alert"] == "UptimeBudgetBurns").sum() == 1


def test_a_limit_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text("expr: up > ${forecaster.quality.beauty}\n")
    monkeypatch.setattr(module, "TEMPLATE", tmp_path / "template.yaml")
    with pytest.raises(AlertsError, match=r"template\.yaml: .*beauty"):
        render(load_config())


# ---- what fires


def test_every_alert_has_cases_and_they_hold(groups: Rules) -> None:
    skip_without("promtool")
    cases = load_cases()
    assert untried(groups, cases) == []
    results = run(groups, cases)
    assert len(results) == sum(1 + len(one.quiet) for one in cases)
    assert set(results["expected"]) == {"fires", "quiet"}


@pytest.mark.parametrize("name", sorted({one.alert for one in load_cases()}))
def test_texts_name_what_they_are_about(groups: Rules, name: str) -> None:
    """A text knows the labels of the series, not those that the rule adds: it would have a hole there."""
    skip_without("promtool")
    one = next(one for one in load_cases() if one.alert == name)
    group = next(group for group in groups["groups"] if any(rule.get("alert") == name for rule in group["rules"]))
    shown = {
        "interval": one.fires.every,
        "input_series": [{"series": series, "values": values} for series, values in one.fires.series.items()],
        "alert_rule_test": [{"eval_time": one.fires.at, "alertname": name, "exp_alerts": []}],
    }
    with pytest.raises(AlertsError) as caught:
        run_cases({"groups": [group]}, [shown], one.fires.every)
    said = " ".join(str(caught.value).split())
    for rule in [rule for rule in group["rules"] if rule.get("alert") == name][:1]:
        for text in TEXTS:
            pieces = re.split(r"\{\{.*?\}\}", " ".join(rule["annotations"][text].split()))
            pattern = r"[^\s\"].*?".join(map(re.escape, pieces))
            assert re.search(rf'{text}="{pattern}\s?"', said), (text, said)


def test_an_alert_without_a_case_is_noticed(groups: Rules) -> None:
    cases = load_cases()
    assert untried(groups, [one for one in cases if one.labels.get("service") != "llm"]) == [
        "EndpointDown service=llm", "UptimeBudgetBurns window=1h", "UptimeBudgetBurns window=6h",
        "UptimeBudgetBurns window=3d",
    ]  # fmt: skip
    assert untried(groups, [one for one in cases if one.alert != "GpuBusy"]) == ["GpuBusy service=llm"]


@pytest.mark.parametrize(
    ("expression", "kind"), [("vector(0) > 1", "count(ALERTS"), ("vector(1)", "absent(count(ALERTS")]
)
def test_cases_notice_an_alert_that_never_fires_and_one_that_always_does(
    groups: Rules, expression: str, kind: str
) -> None:
    skip_without("promtool")
    broken = copy.deepcopy(dict(groups))
    for rule in alerts(broken):
        rule["expr"] = expression
        rule.pop("for", None)
    for one in [one for one in load_cases() if one.alert in ("PredictionDrift", "TextQueueLong", "NetworkErrors")]:
        with pytest.raises(AlertsError) as caught:
            run(broken, [one])
        assert f'"{kind}' in str(caught.value)


def test_a_case_of_no_alert_is_an_error(groups: Rules) -> None:
    one = load_cases()[0].model_copy(update={"alert": "NoSuchAlert"})
    with pytest.raises(AlertsError, match="there is no alert NoSuchAlert"):
        run(groups, [one])


def test_a_broken_file_of_cases_is_named(tmp_path: Path) -> None:
    (tmp_path / "cases.yaml").write_text("- alert: A\n  fires: {at: 1m}\n  quiet: []\n")
    with pytest.raises(AlertsError, match=r"cases\.yaml(.|\n)*series(.|\n)*quiet"):
        load_cases(tmp_path / "cases.yaml")


# ---- what passes every other check


def _described(registry: CollectorRegistry) -> Iterator[str]:
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "summary": ["_sum", "_count"]}
    for collector in list(registry._collector_to_names):
        for family in collector.describe() if hasattr(collector, "describe") else []:
            yield from (family.name + suffix for suffix in suffixes.get(family.type, [""]))


@pytest.fixture(scope="module")
def emitted() -> set[str]:
    """The names that the services really register: the course's own by importing them, vLLM's from its source."""
    import workshop_lib.serving.api
    import workshop_lib.serving.forecaster_server  # noqa: F401
    from workshop_lib.monitoring.monitor_metrics import Metrics

    spec = find_spec("vllm")  # importing it would take longer than all the rest
    assert spec is not None and spec.origin is not None
    source = (Path(spec.origin).parent / "v1" / "metrics" / "loggers.py").read_text(encoding="utf-8")
    of_vllm = re.findall(r'name="(vllm:\w+)"', source)
    drift = {f"drift{name}" for name in ("_distance", "ed_features_ratio", "_decision", "_report_timestamp_seconds")}
    watched = Metrics([], load_config()).registry
    return {
        *_described(REGISTRY), *_described(watched), *drift,
        *(name + suffix for name in of_vllm for suffix in ("", "_total", "_bucket", "_sum", "_count")),
    }  # fmt: skip


def test_nothing_is_wrong_with_the_rules(groups: Rules, emitted: set[str]) -> None:
    assert lint(groups, emitted | EXPORTERS) == []


def test_promtool_takes_the_rules_and_their_faster_form(groups: Rules) -> None:
    skip_without("promtool")
    assert "SUCCESS" in check(groups) and "SUCCESS" in check(faster(groups, 60))
    with pytest.raises(AlertsError, match="parse error"):
        check({"groups": [{"name": "g", "rules": [{"alert": "A", "expr": "1 >"}]}]})


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"expr": "forecast_seconds > 1"}, "Thing: nobody emits forecast_seconds"),
        ({"expr": 'up{job="api"} == 0'}, "Thing: up == 0 is silent when no pod is left; use absent(up{…} == 1)"),
        ({"labels": {"team": "shop"}}, "Thing: it has no severity"),
        ({"annotations": {"summary": "s", "description": "d"}}, "Thing: it has no runbook_url"),
        (
            {"annotations": {"summary": "s", "description": "d", "runbook_url": "https://x/#other"}},
            "Thing: its runbook link leads to #other",
        ),
    ],
)
def test_each_mistake_is_found(change: dict[str, Any], finding: str) -> None:
    good = {
        "alert": "Thing", "expr": "up > 1", "labels": {"severity": "info", "team": "shop"},
        "annotations": {"summary": "s", "description": "d", "runbook_url": "https://x/#thing"},
    }  # fmt: skip
    assert lint({"groups": [{"name": "g", "rules": [good]}]}, {"up"}) == []
    assert lint({"groups": [{"name": "g", "rules": [good | change]}]}, {"up"}) == [finding]


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum by (le, path) (rate(a_bucket{path=~"/v2/{x}/.*", le="1"}[5m])) / 1e6 > bool 0.5', {"a_bucket"}),
        ("a:b:c offset 1d or on (x) group_left (y) d unless e", {"a:b:c", "d", "e"}),
        ('absent(up{job="sum"} == 1)', {"up"}),
        ("time() - t > 5 * (1 - 0.999) and -inf < f", {"t", "f"}),
        ("avg_over_time(vllm:num_requests_waiting[1m])", {"vllm:num_requests_waiting"}),
    ],
)
def test_metrics_are_told_from_the_rest_of_an_expression(expression: str, names: set[str]) -> None:
    assert metric_names(expression) == names


def test_every_alert_has_its_runbook(groups: Rules) -> None:
    _, _, runbooks = README.read_text(encoding="utf-8").partition("\n## Runbooks\n")
    headings = re.findall(r"^### (\w+)$", runbooks, re.MULTILINE)
    assert {rule["alert"] for rule in alerts(groups)} == set(headings)


# ---- for a lesson


def test_a_lesson_is_faster_and_otherwise_the_same(groups: Rules) -> None:
    quick = {rule["alert"]: rule for rule in alerts(faster(groups, 60))}
    slow = {rule["alert"]: rule for rule in alerts(groups)}
    assert quick["ForecastLatencyHigh"] == slow["ForecastLatencyHigh"] | {"for": "2s"}
    assert quick["EngagementDrop"]["for"] == "30s" and "offset 1440s)" in quick["EngagementDrop"]["expr"]
    recorded = {rule["record"]: rule["expr"] for group in faster(groups, 60)["groups"] for rule in group["rules"]
                if "record" in rule}  # fmt: skip
    assert (
        "[5s]" in recorded["workshop:network_errors:ratio"]
        and "[10080s]" in recorded["workshop:forecast_accuracy:ratio"]
    )
    assert faster(groups, 1) != faster(groups, 60) and seconds(slow["ForecastLatencyHigh"]["for"]) == 120
