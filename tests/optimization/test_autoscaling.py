"""The autoscaler's arithmetic against the documentation's examples and the controller's own tests; the YAML."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.manifest_samples import skip_without_kubectl
from workshop_lib.manifests import Document, load, problems, render
from workshop_lib.optimization import autoscaling
from workshop_lib.optimization.autoscaling import Autoscaler, Direction, Limit, Metric, Pod, Policy, PolicyError
from workshop_lib.settings import ROOT

VALIDATOR = ROOT.parent / "shared" / "crds" / "validate_manifests.py"
FREE = Direction(0, (Limit("Percent", 10_000, 15),))
CPU = Metric("cpu", "Utilization", 50)
LOAD = Metric("load", "AverageValue", 100)


def policy(least: int = 1, most: int = 100, up: Direction = FREE, down: Direction = FREE, *metrics: Metric) -> Policy:
    return Policy("test", "test", least, most, metrics or (LOAD,), up, down)


def pods(*values: float | None, starting: tuple[float | None, ...] = ()) -> list[Pod]:
    return [*(Pod(value) for value in values), *(Pod(value, ready=False) for value in starting)]


# ---- one metric: the documentation's formula, and cases of replica_calculator_test.go


@pytest.mark.parametrize(
    ("value", "expected"),
    [(200, 8), (50, 2), (110, 4), (90, 4), (111, 5), (89, 4), (74, 3)],
)
def test_the_documentations_ratio_doubles_halves_and_tolerates_a_tenth(value: float, expected: int) -> None:
    assert autoscaling.wanted(Metric("m", "Value", 100), value, 4, 4) == expected


@pytest.mark.parametrize(
    ("target", "readings", "replicas", "expected"),
    [
        (30, pods(30, 50, 70), 3, 5),  # ScaleUp
        (50, pods(10, 30, 50, 25, 25), 5, 3),  # ScaleDown
        (30, pods(50, 70, starting=(30,)), 3, 4),  # ScaleUpUnreadyLessScale
        (30, pods(40, starting=(50, 70)), 3, 3),  # ScaleUpUnreadyNoScale
        (50, pods(10, 30, 50, starting=(25, 25)), 5, 2),  # ScaleDownIncludeUnreadyPods
        (100, pods(100, None), 2, 2),  # MissingMetricsNoChangeEq
        (100, pods(190, None), 2, 2),  # MissingMetricsNoChangeGt
        (100, pods(60, None), 2, 2),  # MissingMetricsNoChangeLt
        (100, pods(None, None), 2, None),  # EmptyMetrics
    ],
)
def test_percentages_of_pods(target: float, readings: list[Pod], replicas: int, expected: int | None) -> None:
    ready = sum(pod.ready for pod in readings)
    assert autoscaling.wanted(Metric("cpu", "Utilization", target), readings, replicas, ready) == expected


@pytest.mark.parametrize(
    ("kind", "target", "value", "replicas", "ready", "expected"),
    [
        ("AverageValue", 2150, 8600, 3, 3, 4),  # ScaleUpPerPodCMExternal
        ("AverageValue", 2867, 8600, 5, 5, 3),  # ScaleDownPerPodCMExternal
        ("Value", 4400, 8600, 1, 1, 2),  # ScaleUpCMExternal
        ("Value", 4400, 8600, 3, 1, 2),  # ScaleUpCMExternalIgnoresUnreadyPods
        ("Value", 14334, 8600, 5, 5, 3),  # ScaleDownCMExternal
    ],
)
def test_single_figures(
    kind: autoscaling.Kind, target: float, value: float, replicas: int, ready: int, expected: int
) -> None:
    assert autoscaling.wanted(Metric("qps", kind, target), value, replicas, ready) == expected


def test_a_figure_that_is_no_number_is_missing() -> None:
    assert autoscaling.wanted(LOAD, float("nan"), 2, 2) is None
    assert autoscaling.wanted(LOAD, None, 2, 2) is None


# ---- several metrics


def test_the_metric_that_asks_for_most_decides() -> None:
    both = Autoscaler(policy(1, 100, FREE, FREE, LOAD, CPU), 4)
    assert both.sync(0, {"load": 900, "cpu": pods(50, 50, 50, 50)}) == 9
    assert both.sync(15, {"load": 100, "cpu": pods(*[100.0] * 9)}) == 18


def test_with_a_metric_missing_it_grows_and_does_not_shrink() -> None:
    both = Autoscaler(policy(1, 100, FREE, FREE, LOAD, CPU), 4)
    assert both.sync(0, {"load": 100}) == 4
    assert both.missing == ["cpu"]
    assert both.sync(15, {"load": 900}) == 9
    assert both.sync(30, {}) == 9
    assert both.sync(45, {"load": 100, "cpu": pods(*[1.0] * 9)}) == 1


# ---- behavior: the documentation's policies

FOUR_OR_TEN_PERCENT = Direction(0, (Limit("Pods", 4, 60), Limit("Percent", 10, 60)))


def test_the_documentations_example_of_two_policies() -> None:
    shrinking = Autoscaler(policy(1, 100, FREE, FOUR_OR_TEN_PERCENT), 80)
    numbers = [shrinking.sync(60 * minute, {"load": 1000}) for minute in range(16)]
    assert numbers[:3] == [72, 64, 57]  # "8 replicas will be reduced", 7.2 "is rounded up to 8"
    assert numbers[5:] == [45 - 5, 36, 32, 28, 24, 20, 16, 12, 10, 10, 10][: len(numbers) - 5]  # then four at a time


def test_the_period_counts_what_was_changed_before() -> None:
    shrinking = Autoscaler(policy(1, 100, FREE, FOUR_OR_TEN_PERCENT), 80)
    assert [shrinking.sync(15 * step, {"load": 1000}) for step in range(6)] == [72, 72, 72, 72, 64, 64]


def test_select_min_takes_the_smaller_step_and_disabled_takes_none() -> None:
    cautious = replace(FOUR_OR_TEN_PERCENT, select="Min")
    assert Autoscaler(policy(1, 100, FREE, cautious), 80).sync(0, {"load": 1000}) == 76
    assert Autoscaler(policy(1, 100, FREE, replace(FREE, select="Disabled")), 80).sync(0, {"load": 1000}) == 80
    assert Autoscaler(policy(1, 100, replace(FREE, select="Disabled")), 8).sync(0, {"load": 9000}) == 8


def test_the_default_adds_four_pods_or_doubles_every_15_seconds() -> None:
    growing = Autoscaler(policy(1, 100, autoscaling.DEFAULT_UP, autoscaling.DEFAULT_DOWN), 1)
    assert [growing.sync(15 * step, {"load": 10_000}) for step in range(6)] == [5, 10, 20, 40, 80, 100]


def test_stabilisation_takes_the_lowest_wish_up_and_the_highest_down() -> None:
    windows = Autoscaler(policy(1, 100, replace(FREE, window=60), replace(FREE, window=300)), 2)
    assert [windows.sync(15 * step, {"load": 600}) for step in range(5)] == [2, 2, 2, 2, 6]
    assert windows.sync(75, {"load": 100}) == 6
    assert [windows.sync(float(now), {"load": 100}) for now in range(90, 390, 15)] == [6] * 18 + [1] * 2


def test_a_spike_that_is_shorter_than_the_window_adds_nothing() -> None:
    windows = Autoscaler(policy(1, 100, replace(FREE, window=60), replace(FREE, window=300)), 2)
    loads = [200] * 8 + [900] * 3 + [200] * 8
    assert {windows.sync(15.0 * step, {"load": load}) for step, load in enumerate(loads)} == {2}


def test_what_lies_outside_the_bounds_is_brought_back() -> None:
    assert Autoscaler(policy(2, 5), 9).sync(0, {"load": 9000}) == 5
    assert Autoscaler(policy(2, 5), 1).sync(0, {}) == 2


directions = st.builds(
    Direction,
    st.sampled_from([0, 30, 60, 300]),
    st.lists(
        st.builds(
            Limit, st.sampled_from(["Percent", "Pods"]), st.integers(1, 200), st.sampled_from([15, 60, 300])
        ), min_size=1, max_size=2,
    ).map(tuple),
    st.sampled_from(["Max", "Min", "Disabled"]),
)  # fmt: skip


@settings(deadline=None)
@given(directions, directions, st.lists(st.floats(0, 5000), min_size=1, max_size=60), st.integers(1, 12))
def test_whatever_comes_the_bounds_and_the_direction_hold(
    up: Direction, down: Direction, loads: list[float], start: int
) -> None:
    scaler = Autoscaler(policy(1, 12, up, down), start)
    for step, value in enumerate(loads):
        before, wish = scaler.replicas, autoscaling.wanted(LOAD, value, scaler.replicas, scaler.replicas)
        after = scaler.sync(15.0 * step, {"load": value})
        assert 1 <= after <= 12 and wish is not None
        assert (after - before) * (wish - before) >= 0  # never against the wish
        assert up.select != "Disabled" or after <= before
        assert down.select != "Disabled" or after >= before


@settings(deadline=None)
@given(st.floats(1, 2000), st.integers(1, 20))
def test_a_constant_load_is_reached_and_kept(load: float, start: int) -> None:
    scaler = Autoscaler(policy(1, 20, replace(FREE, window=60), replace(FREE, window=300)), start)
    numbers = [scaler.sync(15.0 * step, {"load": load}) for step in range(80)]
    assert len(set(numbers[40:])) == 1
    assert load / numbers[-1] <= 100 * 1.1 + 1e-6 or numbers[-1] == 20
    assert numbers[-1] == 1 or load / (numbers[-1] - 1) >= 100 * 0.9 - 1e-6


# ---- reading YAML


def test_the_policy_of_the_chapter() -> None:
    forecaster, llm = autoscaling.read_policy("sales-forecaster"), autoscaling.read_policy("llm")
    targets = {metric.name: (metric.kind, metric.target) for metric in forecaster.metrics}
    assert targets["cpu"] == ("Utilization", 70) and targets["memory"] == ("Utilization", 80)
    assert targets["requests"][0] == "AverageValue"
    assert (forecaster.least, forecaster.most) == (1, 10)
    assert (forecaster.up.window, forecaster.down.window) == (60, 300)
    assert [metric.name for metric in llm.metrics] == ["queue", "waiting-seconds", "gpu"]
    assert llm.most == 3 and llm.metrics[2].target == 80


def test_the_autoscaler_of_module_3_is_read_as_well() -> None:
    api = autoscaling.read_policy("business-api", "3-serving/manifests/overlays/production/autoscaler.yaml")
    assert api == Policy("business-api", "business-api", 2, 6, (Metric("cpu", "Utilization", 70),))


def up_of(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = body["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleUp"]
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda body: body["spec"]["triggers"][0]["metadata"].pop("value"), "spec.triggers.0 is None, not a number"),
        (lambda body: body["spec"]["triggers"][2]["metadata"].update(threshold="many"), "triggers.2 is 'many'"),
        (lambda body: body["spec"]["triggers"][2]["metadata"].update(threshold="0"), "triggers.2 is '0'"),
        (lambda body: body["spec"]["triggers"][1].update(type="kafka"), "spec.triggers.1.type is kafka; known"),
        (lambda body: body["spec"].pop("scaleTargetRef"), "would take ('scaleTargetRef')"),
        (lambda body: body["spec"]["triggers"][0].pop("type"), "type is None; known"),
        (lambda body: up_of(body).update(stabilizationWindowSeconds=4000), "is 4000, not between 0 and 3600"),
        (lambda body: up_of(body)["policies"][0].pop("periodSeconds"), "would take ('periodSeconds')"),
        (lambda body: body["spec"].update(maxReplicaCount=0, minReplicaCount=4), "maxReplicaCount is 100"),
        (lambda body: body["spec"].update(maxReplicaCount=1, minReplicaCount=4), "and must have 4 at least"),
    ],
)  # fmt: skip
def test_a_policy_that_cannot_be_used_names_the_field(change: object, message: str, tmp_path: Path) -> None:
    body = copy.deepcopy(next(one for one in load(autoscaling.CONFIG) if one.name == "sales-forecaster").body)
    change(body)  # type: ignore[operator]
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(body))
    if "100" in message:  # 0 is "not given" to KEDA
        assert autoscaling.read_policy("sales-forecaster", tmp_path / "a.yaml").most == 100
        return
    with pytest.raises(PolicyError, match=re.escape(message)):
        autoscaling.read_policy("sales-forecaster", tmp_path / "a.yaml")


def test_a_name_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(PolicyError, match="no autoscaler 'forecaster'; there are llm, sales-forecaster"):
        autoscaling.read_policy("forecaster")


# ---- the YAML and the cluster


def test_nothing_is_wrong_with_the_yaml() -> None:
    assert [str(problem) for problem in problems(load(autoscaling.CONFIG))] == []


def test_every_document_fits_its_schema() -> None:
    if not VALIDATOR.exists():
        pytest.skip("the schemas of the operators are not on this machine")
    done = subprocess.run([sys.executable, str(VALIDATOR), str(autoscaling.CONFIG)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def production(annotate: bool) -> list[Document]:
    """Module 3's production overlay with the autoscalers, with the annotation or without it."""
    skip_without_kubectl()
    documents = [*render("3-serving/manifests/overlays/production"), *load(autoscaling.CONFIG)]
    for document in documents:
        if document.kind == "InferenceService" and annotate:
            document.body["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] = "external"
    return documents


def test_it_fits_the_manifests_of_module_3() -> None:
    documents = production(annotate=True)
    assert [str(problem) for problem in problems(documents)] == []
    services = {document.name for document in documents if document.kind == "InferenceService"}
    for name in ("sales-forecaster", "llm"):
        assert autoscaling.read_policy(name).deployment.removesuffix("-predictor") in services
    model = next(one for one in documents if one.kind == "InferenceService" and one.name == "llm")
    served = next(word for word in model.get("spec.predictor.model.args") if "served-model-name" in word).split("=")[1]
    assert all(f'model_name="{served}"' in one.query for one in autoscaling.read_policy("llm").metrics)
    runtime = next(one for one in documents if one.kind == "ServingRuntime" and one.name == "openvino")
    assert "--model_name=sales-forecaster" in runtime.get("spec.containers")[0]["args"]


def test_without_the_annotation_two_autoscalers_would_fight() -> None:
    said = [str(problem) for problem in problems(production(annotate=False))]
    assert len(said) == 2 and all("autoscalerClass: external" in problem for problem in said)


def test_the_queries_are_promql(tmp_path: Path) -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (Debian package prometheus)")
    queries = [one.query for name in ("sales-forecaster", "llm") for one in autoscaling.read_policy(name).metrics]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(filter(None, queries))]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True)
    assert done.returncode == 0 and len(rules) == 4, done.stderr
