"""Pipelines run by Tekton's rules, and the course's own runs all nine tasks for real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workshop_lib.manifest_files import parse
from workshop_lib.mlops import approvals, audit, deployments, gitops, packages
from workshop_lib.mlops.pipeline_practice import NAME, Lesson, prepare
from workshop_lib.mlops.pipeline_run import PipelineRun
from workshop_lib.mlops.tekton import TektonError
from workshop_lib.monitoring.inbox import Inbox

PIPELINE = """
kind: Task
metadata: {name: say}
spec:
  params: [{name: text}, {name: code, default: "0"}]
  workspaces: [{name: shared}]
  results: [{name: said}]
  steps:
    - name: say
      env: [{name: TEXT, value: $(params.text)}, {name: CODE, value: $(params.code)}]
      script: |
        #!/bin/sh
        echo "$TEXT" >> "$(workspaces.shared.path)/all"
        echo "$TEXT" > "$(results.said.path)"
        echo "said $TEXT"
        exit "$CODE"
---
kind: Task
metadata: {name: secretive}
spec:
  steps:
    - name: ask
      env:
        - {name: KEY, valueFrom: {secretKeyRef: {name: vault, key: token, optional: true}}}
      script: |
        #!/bin/sh
        echo "key ${KEY:-none}"
---
kind: Task
metadata: {name: forgetful}
spec:
  results: [{name: said}]
  steps: [{name: do, script: "#!/bin/sh\\nsleep \\"${LONG:-0}\\""}]
---
kind: Pipeline
metadata: {name: p}
spec:
  params: [{name: code, default: "0"}, {name: mood, default: good}, {name: approvers, default: [carlos]}]
  tasks:
    - name: one
      taskRef: {kind: Task, name: say}
      params: [{name: text, value: hello}, {name: code, value: $(params.code)}]
    - name: two
      taskRef: {kind: Task, name: say}
      when: [{input: $(params.mood), operator: in, values: [good]}]
      params: [{name: text, value: "$(tasks.one.results.said), world; exit 9"}]
    - name: three
      runAfter: [two]
      taskRef: {kind: Task, name: say}
      params: [{name: text, value: "three"}]
    - name: approval
      runAfter: [three]
      taskRef: {kind: ApprovalTask}
      params:
        - {name: approvers, value: ["$(params.approvers[*])"]}
        - {name: description, value: "after $(tasks.three.results.said)?"}
    - {name: four, runAfter: [approval], taskRef: {kind: Task, name: say}, params: [{name: text, value: four}]}
  finally:
    - name: clean
      taskRef: {kind: Task, name: say}
      when: [{input: $(tasks.one.status), operator: in, values: [Failed]}]
      params: [{name: text, value: cleaned}]
    - name: news
      taskRef: {kind: Task, name: say}
      params: [{name: text, value: "$(tasks.status) $(tasks.four.status)"}]
    - {name: ask, taskRef: {kind: Task, name: secretive}}
"""


def start(folder: Path, text: str = PIPELINE, secrets: dict[str, Any] | None = None, **params: object) -> PipelineRun:
    body = {"spec": {"pipelineRef": {"name": "p"}}}
    return PipelineRun(parse(text, "p.yaml"), body, folder / "run-1", params, secrets).advance()


def states(run: PipelineRun) -> dict[str, str]:
    return dict(run.table()["status"])


def test_a_run_waits_for_its_approval_and_goes_on(tmp_path: Path) -> None:
    run = start(tmp_path, approvers=["olga", "group:approvers"])
    assert run.status == "Running" and run.question is not None
    assert run.question.description == "after three?" and run.question.approvers == ("olga", "group:approvers")
    assert states(run) == {
        "one": "Succeeded",
        "two": "Succeeded",
        "three": "Succeeded",
        "approval": "None",
        "four": "None",
    }
    with pytest.raises(TektonError, match="ana is none of the approvers"):
        run.answer("ana")
    run.answer("carlos", message="looks good")
    assert run.status == "Succeeded" and states(run)["four"] == "Succeeded"
    assert run.logs["approval"].said == "carlos says yes: looks good"
    assert run.result("two", "said") == "hello, world; exit 9", "a value became part of the script"
    assert (run.workspace / "all").read_text(encoding="utf-8").splitlines()[-1] == "Succeeded Succeeded"
    with pytest.raises(TektonError, match="waits for nobody"):
        run.answer("carlos")


@pytest.mark.parametrize("end", [lambda run: run.expire(), lambda run: run.answer("carlos", approved=False)])
def test_without_a_yes_nothing_follows(tmp_path: Path, end: Any) -> None:
    run = end(start(tmp_path))
    assert run.status == "Failed"
    assert states(run) | {"four": "None", "news": "Succeeded", "clean": "Skipped"} == states(run)


def test_a_failure_stops_the_rest_but_not_finally(tmp_path: Path) -> None:
    run = start(tmp_path, code=3)
    assert run.status == "Failed" and run.question is None
    assert states(run) == {
        **{"one": "Failed", "two": "None", "three": "None", "approval": "None", "four": "None"},
        **{"clean": "Succeeded", "news": "Succeeded", "ask": "Succeeded"},
    }
    assert run.logs["one"].said == "said hello"
    assert (run.workspace / "all").read_text(encoding="utf-8") == "hello\ncleaned\nFailed None\n"


def test_a_skipped_task_skips_those_that_need_its_results_only(tmp_path: Path) -> None:
    text = PIPELINE.replace('{name: text, value: "three"}', '{name: text, value: "$(tasks.two.results.said)"}')
    run = start(tmp_path, mood="bad")
    assert states(run) | {"two": "Skipped", "three": "Succeeded"} == states(run)
    assert run.answer("carlos").status == "Completed"
    chained = start(tmp_path / "again", text, mood="bad")
    assert chained.logs["three"].said == "there is no two.said"
    assert chained.question is None, "somebody was asked about nothing"
    assert states(chained) | {"three": "Skipped", "approval": "Skipped", "four": "Skipped"} == states(chained)


def test_secrets_reach_a_step_as_variables(tmp_path: Path) -> None:
    assert start(tmp_path, code=1).logs["ask"].said == "key none"
    run = start(tmp_path / "again", code=1, secrets={"vault": {"token": "abc"}})
    assert run.logs["ask"].said == "key abc"
    needed = PIPELINE.replace(", optional: true", "")
    with pytest.raises(TektonError, match="no Secret vault"):
        start(tmp_path / "needed", needed, code=1)


FIRST = """taskRef: {kind: Task, name: say}
      params: [{name: text, value: hello}, {name: code, value: $(params.code)}]"""
FORGETFUL = "taskRef: {kind: Task, name: forgetful}"


def test_a_task_that_keeps_its_result_for_itself_has_failed(tmp_path: Path) -> None:
    run = start(tmp_path, PIPELINE.replace(FIRST, FORGETFUL))
    assert run.logs["one"].said == "it wrote no result said"


def test_a_task_ends_with_its_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONG", "60")
    run = start(tmp_path, PIPELINE.replace(FIRST, f"timeout: 1s\n      {FORGETFUL}"))
    assert run.status == "Failed" and run.logs["one"].said == "it took longer than its timeout"


# --- The course's own pipeline --------------------------------------------------------------------


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lesson]:
    """Repositories with the code of the checkout, and empty stages."""
    yield prepare(tmp_path_factory.mktemp("cicd") / "lesson")
    deployments.stop_all()


@pytest.fixture(scope="module")
def inbox() -> Iterator[Inbox]:
    """Where the runs send their news."""
    with Inbox() as inbox:
        yield inbox


@pytest.fixture(scope="module")
def green(lesson: Lesson, inbox: Inbox) -> PipelineRun:
    """The nine tasks, with a model that trains quickly, up to the approval."""
    secrets = {"release-notifications": {"url": f"{inbox.url}/slack/releases"}}
    run = lesson.run("green", secrets=secrets, author="ana", rounds=120, learning_rate=0.12, trees=1)
    return run.advance()


@pytest.mark.long
def test_all_nine_run_for_real(lesson: Lesson, inbox: Inbox, green: PipelineRun) -> None:
    assert green.question is not None, green.table().to_string()
    version = green.result("onnx-export", "version")
    assert version in green.question.description
    assert green.result("checkout", "commit") == gitops.git("rev-parse", "HEAD", folder=lesson.code)
    staging = deployments.current("staging")
    assert staging is not None and staging.version == version
    assert deployments.current("production") is None, "production was changed before the approval"
    assert approvals.state(NAME, version) == "validated"

    with pytest.raises(approvals.ApprovalRefused):
        approvals.approve(NAME, version, "ana", "mine")
    approvals.approve(NAME, version, "carlos", "looked at the report", reviewed=True)
    green.answer("carlos")
    assert green.status == "Succeeded", green.table().to_string()
    assert set(states(green).values()) == {"Succeeded", "Skipped"} and states(green)["rollback-staging"] == "Skipped"
    production = deployments.current("production")
    assert production is not None and production.version == version
    width = len(packages.find(version, NAME).about["features"])
    answer = deployments.infer(production.url, [[1.0] * width]).json()
    assert answer["model_version"] == production.registry_version
    assert approvals.state(NAME, version) == "in_production"
    assert inbox.messages[-1].title == "green: Succeeded"
    audit.verify()


@pytest.mark.long
def test_a_failed_integration_test_rolls_staging_back(lesson: Lesson, inbox: Inbox, green: PipelineRun) -> None:
    version = green.result("onnx-export", "version")
    before, production = deployments.current("staging"), deployments.current("production")
    assert before is not None and production is not None
    secrets = {"release-notifications": {"url": f"{inbox.url}/slack/releases"}}
    run = lesson.run("narrow", secrets=secrets, author="ana", version=version, max_rows=64).advance()
    assert run.status == "Failed"
    assert "120 rows in one request are answered with 400" in run.logs["integration-tests"].said
    assert [name for name, status in states(run).items() if status == "None"] == ["approval", "deploy-production"]
    assert states(run)["training"] == "Skipped" and states(run)["rollback-staging"] == "Succeeded"
    after = deployments.current("staging")
    assert after is not None and (after.version, after.options) == (before.version, before.options)
    assert deployments.current("production") == production
    assert inbox.messages[-1].title == "narrow: Failed" and "tests Failed" in inbox.messages[-1].text


@pytest.mark.long
def test_a_package_that_was_changed_goes_nowhere(lesson: Lesson, green: PipelineRun) -> None:
    version = green.result("onnx-export", "version")
    production = deployments.current("production")
    assert production is not None
    file = Path(production.folder) / "forecaster.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(text + " ", encoding="utf-8")
    try:
        run = lesson.run("tampered", author="ana", version=version).advance()
    finally:
        file.write_text(text, encoding="utf-8")
    assert run.status == "Failed" and "SignatureError" in run.logs["onnx-export"].said
    assert {states(run)[name] for name in ("security-scan", "deploy-staging", "deploy-production")} == {"None"}
    assert deployments.current("production") == production
