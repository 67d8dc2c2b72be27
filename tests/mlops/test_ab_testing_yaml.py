"""ab_testing.yaml: what a cluster takes, and what its gates say when there is nothing to say."""

from __future__ import annotations

import json
import subprocess
from math import nan
from pathlib import Path

import pytest

from tests.monitoring.prometheus_tools import skip_without
from workshop_lib.manifest_files import ManifestError
from workshop_lib.manifests import Document, load, problems
from workshop_lib.mlops import canary
from workshop_lib.mlops.judge import FIGURES
from workshop_lib.monitoring.prometheus import need_tools
from workshop_lib.settings import ROOT

ARGUMENTS = {
    "label": "backend", "stable": "old", "canary": "new", "stable-version": "1", "canary-version": "2",
}  # fmt: skip
THE_API_HAS = ("api_backend_requests_total", "api_backend_seconds_bucket", "api_backend_seconds_count")


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return load(canary.FILE)


@pytest.fixture(scope="module")
def plan() -> canary.Plan:
    return canary.read_plan(ARGUMENTS)


def one(documents: list[Document], kind: str, name: str) -> Document:
    (found,) = (document for document in documents if (document.kind, document.name) == (kind, name))
    return found


def test_the_rules_for_manifests_have_nothing_to_say(documents: list[Document]) -> None:
    assert [str(problem) for problem in problems(documents)] == []


def test_a_service_that_reaches_no_pod_is_still_found_beside_other_workloads(documents: list[Document]) -> None:
    without = [document for document in documents if document.kind != "Rollout"]
    (problem,) = problems(without)
    assert problem.document.name == "business-api-canary" and problem.field == "spec.selector"


def test_it_releases_a_deployment_that_is_ours(documents: list[Document]) -> None:
    rollout = one(documents, "Rollout", "business-api")
    reference = rollout.get("spec.workloadRef")
    ours = [document for document in load("3-serving/manifests/base/api") if document.kind == reference["kind"]]
    assert [document.name for document in ours] == [reference["name"]]
    route = one(
        documents,
        "Route",
        rollout.get("spec.strategy.canary.trafficRouting.plugins")["argoproj-labs/openshift"]["routes"][0],
    )
    (canary_service,) = route.get("spec.alternateBackends")
    assert route.get("spec.to.name") == rollout.get("spec.strategy.canary.stableService")
    assert canary_service["name"] == rollout.get("spec.strategy.canary.canaryService")
    assert one(documents, "Service", canary_service["name"])
    assert one(documents, "HorizontalPodAutoscaler", "business-api").get("spec.scaleTargetRef.kind") == "Rollout"


def test_steps_and_gates(plan: canary.Plan) -> None:
    assert [step.weight for step in plan.steps] == [20, 40, 60, 80, 100]
    names = {tuple(gate.name for gate in step.gates) for step in plan.steps}
    assert names == {("error-share", "slow-share", "accuracy-loss", "lost-sales")}


def test_every_argument_of_a_query_has_a_value(documents: list[Document], plan: canary.Plan) -> None:
    for step in plan.steps:
        assert not [gate.name for gate in step.gates if "{{" in gate.query]
    templates = {document.name: document for document in documents if document.kind == "AnalysisTemplate"}
    rollout = one(documents, "Rollout", "business-api")
    for step in rollout.get("spec.strategy.canary.steps"):
        for used in step.get("analysis", {}).get("templates", []):
            given = {argument["name"] for argument in step["analysis"]["args"]}
            needed = templates[used["templateName"]].get("spec.args")
            assert {argument["name"] for argument in needed if argument.keys() == {"name"}} <= given


@pytest.mark.parametrize("values", [[], [nan]])
def test_no_answer_and_no_number_are_neither_good_nor_bad(values: list[float], plan: canary.Plan) -> None:
    assert {gate.judge(values) for step in plan.steps for gate in step.gates} == {"inconclusive"}


def test_numbers_are_good_or_bad(plan: canary.Plan) -> None:
    for gate in plan.steps[0].gates:
        limit = float(gate.success.rpartition(" ")[2])
        said = [gate.judge([limit + off]) for off in (-0.01, 0, 0.01)]
        assert said == ["successful", "successful", "failed"]


def test_the_queries_are_promql_and_ask_for_metrics_that_exist(plan: canary.Plan, tmp_path: Path) -> None:
    skip_without("promtool")
    rules = [{"record": f"gate:{gate.name.replace('-', '_')}", "expr": gate.query} for gate in plan.steps[0].gates]
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "gates", "rules": rules}]}))
    command = [str(need_tools("promtool")["promtool"]), "check", "rules", str(tmp_path / "rules.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for gate in plan.steps[0].gates:
        assert any(name in gate.query for name in (*THE_API_HAS, *FIGURES)), gate.query


def test_versions_are_compared_on_the_same_days(plan: canary.Plan, tmp_path: Path) -> None:
    """The canary is as good on the easy day and worse on the hard one, on which it is asked more."""
    skip_without("promtool")
    (gate,) = (gate for gate in plan.steps[0].gates if gate.name == "accuracy-loss")
    told: dict[tuple[str, str], dict[str, float]] = {
        ("1", "easy"): {"units": 800, "error_units": 100, "forecasts": 40},
        ("2", "easy"): {"units": 100, "error_units": 12.5, "forecasts": 10},
        ("1", "hard"): {"units": 100, "error_units": 50, "forecasts": 5},
        ("2", "hard"): {"units": 300, "error_units": 225, "forecasts": 45},
        ("2", "later"): {"units": 300, "error_units": 300, "forecasts": 45},  # asked of the canary alone
    }
    series = [
        {"series": f'settled_{name}{{version="{version}", day="{day}", job="judge"}}', "values": str(value)}
        for (version, day), values in told.items()
        for name, value in values.items()
    ]
    loss = (0.0 * 100 + (0.75 - 0.5) * 300) / 400  # the sums of all days say 0.60
    expected = {"expr": gate.query, "eval_time": "0s", "exp_samples": [{"labels": "{}", "value": loss}]}
    cases = {"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [expected]}]}
    (tmp_path / "cases.yaml").write_text(json.dumps(cases))
    command = [str(need_tools("promtool")["promtool"]), "test", "rules", str(tmp_path / "cases.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# --- Conditions and durations


@pytest.mark.parametrize(
    ("condition", "values", "expected"),
    [
        ("result[0] < 0.5", [0.4], True),
        ("!(result[0] < 0.5)", [0.4], False),
        ("len(result) == 0 || result[0] != 1", [], True),
        ("len(result) > 0 && result[0] >= 1", [], False),
        ("isNaN(result[0])", [nan], True),
    ],
)
def test_conditions(condition: str, values: list[float], expected: bool) -> None:
    assert canary.holds(condition, values) is expected


@pytest.mark.parametrize(
    "condition", ["result[0] < 1", "__import__('os')", "max(result) > 1", "result.value", "a b", "result[0] < 1 < 2"]
)
def test_conditions_that_cannot_be_used_are_named(condition: str) -> None:
    with pytest.raises(ManifestError, match="cannot be used"):
        canary.holds(condition, [])


def test_durations_and_how_they_shrink() -> None:
    pace = canary.Pace(minute=2, day=5)
    assert [pace.seconds(text) for text in ("", "30s", "2m", "1h", "24h", "48h", "3d")] == [0, 1, 4, 120, 5, 10, 15]
    assert canary.CLUSTER.seconds("90m") == 5400
    with pytest.raises(ManifestError, match="no duration"):
        pace.seconds("soon")


def test_the_window_of_the_queries_shrinks_with_the_minutes() -> None:
    step = canary.read_plan(ARGUMENTS, canary.Pace(minute=1.5, day=3)).steps[0]
    assert "[3000ms]" in step.gates[0].query and "[120000ms]" in canary.read_plan(ARGUMENTS).steps[0].gates[0].query


def test_the_file_lies_where_the_readme_says() -> None:
    assert canary.FILE.relative_to(ROOT).as_posix() == "6-advanced-mlops/pipelines/ab_testing.yaml"
