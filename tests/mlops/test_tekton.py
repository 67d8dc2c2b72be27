"""The pipeline's file by Tekton's own rules: order, variables, conditions, and mistakes that are named."""

from __future__ import annotations

import re
from typing import Any

import pytest

from workshop_lib import manifests
from workshop_lib.mlops import roles, steps
from workshop_lib.mlops.pipeline_practice import FILE
from workshop_lib.mlops.tekton import Pipeline, TektonError, fill, holds, read_pipeline, run_params

DOCUMENTS = manifests.load(FILE)
NINE = [
    "checkout", "data-validation", "training", "model-validation", "onnx-export", "security-scan", "deploy-staging",
    "integration-tests", "deploy-production",
]  # fmt: skip


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    """The course's pipeline."""
    return read_pipeline(DOCUMENTS, "train-and-release")


def small(tasks: list[dict[str, Any]], **spec: Any) -> list[manifests.Document]:
    """A pipeline `p` of one Task that takes `x` and gives `y`."""
    task = {"params": [{"name": "x", "default": ""}], "results": [{"name": "y"}], "steps": []}
    bodies: list[dict[str, Any]] = [
        {"kind": "Task", "metadata": {"name": "t"}, "spec": task},
        {"kind": "Pipeline", "metadata": {"name": "p"}, "spec": {"tasks": tasks, **spec}},
    ]
    return [manifests.Document("p.yaml", number, 1, body) for number, body in enumerate(bodies, start=1)]


def task(name: str, x: str = "", **more: Any) -> dict[str, Any]:
    return {"name": name, "taskRef": {"kind": "Task", "name": "t"}, "params": [{"name": "x", "value": x}], **more}


def test_the_nine_tasks_come_in_their_order(pipeline: Pipeline) -> None:
    assert [name for name in pipeline.order if name != "approval"] == NINE
    assert pipeline.order.index("approval") == pipeline.order.index("deploy-production") - 1
    assert set(pipeline.finals) == {"rollback-staging", "notify"}


def test_each_step_calls_its_own_command(pipeline: Pipeline) -> None:
    for task in [*pipeline.tasks.values(), *pipeline.finals.values()]:
        for step in task.spec.get("steps", []):
            name = task.name.removesuffix("-staging") if task.name.startswith("rollback") else task.name
            assert f"python -m workshop_lib.mlops.steps {name} " in step["script"]
            options = set(re.findall(r"(?<=--)[a-z-]+", step["script"])) - {"result"}
            taken = {one.replace("_", "-") for one in steps.function_of(name).__annotations__} - {"return"}
            assert options <= taken, f"{name} does not know {options - taken}"


def test_values_from_outside_never_become_part_of_a_script() -> None:
    for document in DOCUMENTS:
        if document.kind == "Task":
            for step in document.body["spec"]["steps"]:
                assert "$(params." not in step["script"], document.name
                assert step["securityContext"]["runAsNonRoot"] and "@sha256:" in step["image"]


def test_the_file_is_sound() -> None:
    assert manifests.problems(DOCUMENTS) == []
    assert {
        document.api_version.rpartition("/")[2] for document in DOCUMENTS if "tekton.dev" in document.api_version
    } == {
        "v1",
        "v1beta1",  # of Triggers, which have no v1
    }
    applications = {one.name: one.get("spec.destination.namespace") for one in DOCUMENTS if one.kind == "Application"}
    assert applications == {"staging-forecaster": roles.STAGING, "production-forecaster": roles.NAMESPACE}


def test_a_run_gives_what_has_no_default(pipeline: Pipeline) -> None:
    with pytest.raises(TektonError, match="needs a value for author"):
        run_params(pipeline, {})
    with pytest.raises(TektonError, match="no parameter colour"):
        run_params(pipeline, {"author": "ana", "colour": "red"})
    assert run_params(pipeline, {"author": "ana", "depth": "4"})["depth"] == "4"


def test_the_order_follows_results_as_well() -> None:
    found = read_pipeline(small([task("b", "$(tasks.a.results.y)"), task("a"), task("c", runAfter=["b"])]), "p")
    assert found.order == ["a", "b", "c"]
    assert found.tasks["b"].needs == {("a", "y")}


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([task("a", runAfter=["b"]), task("b", runAfter=["a"])], "wait for each other"),
        ([task("a", runAfter=["z"])], "task a: there is no z"),
        ([task("a", "$(tasks.b.results.y)")], "there is no b"),
        ([task("a"), task("b", "$(tasks.a.results.z)")], r"there is no tasks\.a\.results\.z"),
        ([task("a", "$(params.colour)")], r"there is no params\.colour"),
        ([task("a", params=[{"name": "z", "value": ""}])], "z is missing, or no parameter"),
        ([task("a", taskRef={"kind": "Task", "name": "u"})], "there is no Task u"),
        ([task("a", taskRef={"kind": "ClusterTask", "name": "t"})], "kind ClusterTask"),
        ([task("a", timeout="soon")], "'soon' is no duration"),
    ],
)
def test_mistakes_are_named(tasks: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(TektonError, match=said):
        read_pipeline(small(tasks), "p")


def test_variables_are_filled_and_shells_are_left_alone() -> None:
    variables = {"params.a": "1", "params.list": ["x", "y"], "tasks.t.results.r": "z", "workspaces.w.path": "/w"}
    assert fill("$(params.a) $(tasks.t.results.r) $(workspaces.w.path)/f", variables) == "1 z /w/f"
    assert fill({"k": ["$(params.list[*])", "$(params.a)"]}, variables) == {"k": ["x", "y", "1"]}
    assert fill("$(date) ${HOME} $(( 1 + 1 ))", variables) == "$(date) ${HOME} $(( 1 + 1 ))"
    assert fill(3, variables) == 3
    with pytest.raises(TektonError, match=r"\$\(params\.b\) has no value"):
        fill("$(params.b)", variables)


def test_conditions() -> None:
    variables = {"params.version": ""}
    assert holds({"input": "$(params.version)", "operator": "in", "values": [""]}, variables)
    assert not holds({"input": "v1", "operator": "in", "values": ["$(params.version)"]}, variables)
    assert holds({"input": "v1", "operator": "notin", "values": [""]}, variables)


def test_durations() -> None:
    found = read_pipeline(small([task("a", timeout="1h30m"), task("b")]), "p")
    assert (found.tasks["a"].seconds, found.tasks["b"].seconds) == (5400, None)
