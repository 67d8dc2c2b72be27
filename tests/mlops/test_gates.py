"""The six gates over versions made to fail: each is found by its gate and by no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from workshop_lib.mlops import gate_practice, gate_resources, packages
from workshop_lib.mlops.gate_config import load_gates
from workshop_lib.mlops.gate_performance import judge as judge_performance
from workshop_lib.mlops.gate_practice import GOOD, Model
from workshop_lib.mlops.gate_result import HTML_FILE, JSON_FILE, Report
from workshop_lib.mlops.gate_robustness import judge as judge_robustness
from workshop_lib.mlops.gates import EXIT_CODES, GATES, GateError, Subject, main, run_gates
from workshop_lib.settings import settings

BROKEN = {
    "hasty": "performance", "greedy": "resources", "poisoned": "security",
    "biased": "fairness", "starved": "data", "wild": "robustness",
}  # fmt: skip


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {model.name: model for model in gate_practice.make_models(packages.ensure())}


@pytest.fixture(scope="module")
def reports(models: dict[str, Model]) -> dict[str, Report]:
    return gate_practice.ask_all(list(models.values()))


def test_there_is_a_model_for_every_gate(models: dict[str, Model]) -> None:
    assert {name: model.gate for name, model in models.items()} == {GOOD: ""} | BROKEN
    assert set(BROKEN.values()) == set(GATES)


@pytest.mark.parametrize(("name", "gate"), BROKEN.items())
def test_a_broken_version_fails_its_gate_and_no_other(reports: dict[str, Report], name: str, gate: str) -> None:
    found = gate_practice.failures(reports).loc[name]
    assert list(found[found].index) == [gate]
    assert reports[name].status == "failed" and reports[name].gate(gate).recommendation


def test_the_good_version_is_left_to_a_person_and_says_why(reports: dict[str, Report]) -> None:
    good = reports[GOOD]
    assert good.status == "review" and not gate_practice.failures(reports).loc[GOOD].any()
    assert {gate.name for gate in good.gates if gate.status == "review"} >= {"security", "fairness"}
    told = "\n".join(good.questions())
    assert "security: nobody answered for" in told and "fairness: found, age" in told
    assert "somebody who can look it up" in good.gate("security").recommendation


def test_targets_of_the_course_are_measured_on_the_good_version(reports: dict[str, Report]) -> None:
    figures = {one.name: one for gate in reports[GOOD].gates for one in gate.measurements}
    assert figures["accuracy, category and week"].value > 0.85 and figures["memory"].value < 2
    assert figures["score"].value >= 8 and figures["processor"].value < 0.5
    assert figures["completeness"].value > 0.95 and figures["consistency"].value > 0.98


def test_impossible_inputs_are_refused_by_the_server(models: dict[str, Model], reports: dict[str, Report]) -> None:
    served = gate_resources.serve(models[GOOD].subject.package, load_gates())
    assert set(served.answers.values()) == {400} and len(served.answers) == 5
    assert served.load is not None and served.load.failed == 0


def test_a_report_is_written_for_people_and_for_a_pipeline(reports: dict[str, Report], tmp_path: Path) -> None:
    body = json.loads(reports["greedy"].write(tmp_path).read_text(encoding="utf-8"))
    assert body["status"] == "failed" and body["version"] == reports["greedy"].version and body["questions"]
    rows = {row["name"]: row for gate in body["gates"] for row in gate["measurements"]}
    assert rows["memory"]["met"] is False and rows["processor"]["met"] is True
    page = (tmp_path / HTML_FILE).read_text(encoding="utf-8")
    assert '<td class="missed">missed</td>' in page and "For a person to answer" in page and "<script" not in page


@pytest.mark.parametrize(
    ("model", "gate", "status", "whole"),
    [("hasty", "performance", "failed", "failed"), (GOOD, "data", "passed", "review")],
)
def test_the_command_tells_a_pipeline(
    models: dict[str, Model], reports: dict[str, Report], tmp_path: Path, model: str, gate: str, status: str, whole: str
) -> None:
    """The exit status is about the gates that were asked; the report says that others were not."""
    arguments = ["--package", str(models[model].subject.package), "--out", str(tmp_path), "--only", gate]
    assert main([*arguments, "--exit-code"]) == EXIT_CODES[status]  # type: ignore[index]
    body = json.loads((tmp_path / JSON_FILE).read_text(encoding="utf-8"))
    assert body["status"] == whole and "robustness: this gate was not asked" in body["questions"]
    assert main(arguments) == 0


def test_the_command_asks_the_source_of_the_settings(
    models: dict[str, Model], tmp_path: Path, use_settings: Callable[..., object]
) -> None:
    use_settings(home=settings.home, advisories=models[GOOD].subject.advisories)
    arguments = ["--package", str(models[GOOD].subject.package), "--out", str(tmp_path), "--only", "security"]
    assert main([*arguments, "--exit-code"]) == EXIT_CODES["review"]


def test_what_is_no_package_gets_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--package", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "no package that could be judged" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("only", [["speed"], []])
def test_only_gates_that_exist_are_asked(tmp_path: Path, only: list[str]) -> None:
    with pytest.raises(GateError, match="there are performance, resources"):
        run_gates(Subject(tmp_path), only)


def test_a_package_that_was_tampered_with_does_not_serve(models: dict[str, Model]) -> None:
    """The server refuses it, so the gates that need one fail, and the scan says why."""
    good = models[GOOD].subject
    folder = gate_practice.copy(good.package, "tampered", gate_practice.tamper, seal_again=False)
    report = run_gates(Subject(folder, advisories=good.advisories), ["resources", "security"])
    assert "it does not serve" in report.gate("resources").findings[0].text
    assert "was changed" in " ".join(one.text for one in report.gate("security").findings if one.severity == "critical")


def test_days_that_the_model_has_seen_judge_nothing(models: dict[str, Model], reports: dict[str, Report]) -> None:
    def forget(folder: Path) -> None:
        about = json.loads((folder / "forecaster.json").read_text(encoding="utf-8"))
        (folder / "forecaster.json").write_text(json.dumps(about | {"last_day": "2017-12-29"}))

    subject = Subject(gate_practice.copy(models[GOOD].subject.package, "late", forget))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workshop_lib.mlops.gate_performance.serve", lambda *_: gate_resources.Served(None, {}))
        found = judge_performance(subject, load_gates())
    assert "only 2 days came after the training" in found.findings[-1].text
    assert not any(one.name.startswith("accuracy") for one in found.measurements)


@pytest.mark.parametrize(("others", "status"), [(0.0, "failed"), (1e3, "review")])
def test_a_long_wait_fails_unless_the_machine_was_crowded(
    models: dict[str, Model], reports: dict[str, Report], monkeypatch: pytest.MonkeyPatch, others: float, status: str
) -> None:
    subject, limits = models[GOOD].subject, load_gates()
    served = gate_resources.serve(subject.package, limits)
    assert served.load is not None
    slow = replace(served, load=replace(served.load, ms=served.load.ms | {"P95": 900.0}), others=others)  # type: ignore[operator]
    monkeypatch.setattr("workshop_lib.mlops.gate_performance.serve", lambda *_: slow)
    found = judge_performance(subject, limits)
    assert found.status == status and ("quiet" in found.recommendation) is (status == "review")


def test_a_server_that_answers_the_impossible_fails(
    models: dict[str, Model], reports: dict[str, Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, limits = models[GOOD].subject, load_gates()
    served = gate_resources.serve(subject.package, limits)
    careless = gate_resources.Served(served.load, served.answers | {"a value is missing (null)": 200})
    monkeypatch.setattr("workshop_lib.mlops.gate_robustness.serve", lambda *_: careless)
    found = judge_robustness(subject, limits)
    assert found.status == "failed"
    assert [one.text for one in found.findings] == ["a value is missing (null): answered with 200"]
