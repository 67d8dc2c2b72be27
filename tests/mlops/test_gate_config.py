"""The limits of the gates: one file, for the library and for the cluster; and how a gate's answer follows from them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from workshop_lib.manifests import load
from workshop_lib.manifests import problems as manifest_problems
from workshop_lib.mlops.gate_config import KEY, load_gates
from workshop_lib.mlops.gate_result import (
    GATES,
    Finding,
    GateResult,
    Measurement,
    Report,
    Severity,
    Status,
    judged,
    problems,
)
from workshop_lib.mlops.gate_security import deductions, score
from workshop_lib.monitoring.config import ConfigError
from workshop_lib.predictive.tracking import TRUSTED_TYPES
from workshop_lib.settings import settings

FILE = settings.quality_gates


def test_the_limits_are_those_of_the_chapter() -> None:
    gates = load_gates()
    assert (gates.performance.accuracy, gates.performance.p95_seconds) == (0.85, 0.1)
    assert (gates.resources.memory_gib, gates.resources.cores, gates.security.score) == (2, 0.5, 8)
    assert (gates.fairness.difference, gates.data.completeness, gates.data.consistency) == (0.1, 0.95, 0.98)


def test_the_cluster_takes_the_file_and_a_pod_reads_its_text(tmp_path: Path) -> None:
    documents = load(FILE)
    assert manifest_problems(documents) == []
    mounted = tmp_path / KEY
    mounted.write_text(documents[0].body["data"][KEY], encoding="utf-8")
    assert load_gates(mounted) == load_gates()


def test_the_types_to_trust_are_those_that_models_are_saved_with() -> None:
    kinds = {name.format(kind=kind) for name in TRUSTED_TYPES for kind in ("Regressor", "Classifier")}
    assert set(load_gates().security.trusted) == kinds


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("score: 8.0", "score: 80", "security.score: got 80"),
        ("score: 8.0", "scores: 8.0", "security.scores: nobody reads a field of this name"),
        ("age: [19, 35, 55]", "age: [19]", "fairness.groups.age"),
        ("noise_loss: 1.05", "noise_loss: .nan", "robustness.noise_loss"),
        ("days: 14", "days: 1", "performance.days"),
    ],
)
def test_a_wrong_limit_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert text.count(old) == 1
    changed = tmp_path / "gates.yaml"
    changed.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_gates(changed)


def found(*severities: Severity) -> list[Finding]:
    return [Finding(severity, "somebody", "something") for severity in severities]


@pytest.mark.parametrize(
    ("value", "severities", "status"),
    [
        (1.0, (), "passed"),
        (1.0, ("low", "medium", "high"), "passed"),
        (3.0, (), "failed"),
        (math.nan, (), "failed"),
        (1.0, ("critical",), "failed"),
        (1.0, ("unanswered",), "review"),
        (3.0, ("unanswered",), "failed"),
    ],
)
def test_how_a_gate_decides(value: float, severities: tuple[Severity, ...], status: str) -> None:
    gate = judged("g", [Measurement("m", value, "<=", 2)], found(*severities), ["Mend", "it."])
    assert (gate.status, gate.recommendation) == (status, "" if status == "passed" else "Mend it.")


@pytest.mark.parametrize(
    ("statuses", "whole"), [((), "passed"), (("review",), "review"), (("review", "failed"), "failed")]
)
def test_the_worst_gate_decides_for_the_version(statuses: tuple[Status, ...], whole: str) -> None:
    """Of six gates the first ones say this, the others have passed."""
    said: list[Status] = [*statuses, *["passed"] * (len(GATES) - len(statuses))]  # type: ignore[list-item]
    gates = tuple(GateResult(name, status) for name, status in zip(GATES, said, strict=True))
    report = Report("m", "v1.0.0", "0" * 64, gates)
    assert report.status == whole and report.not_asked == []


def test_a_gate_that_was_not_asked_is_a_question() -> None:
    report = Report("m", "v1.0.0", "0" * 64, tuple(GateResult(name, "passed") for name in GATES[1:]))
    assert (report.asked_status, report.status) == ("passed", "review")
    assert report.questions() == ["performance: this gate was not asked"]


def test_a_report_says_what_could_not_be_measured_and_keeps_strange_text_harmless() -> None:
    gate = judged("g", [Measurement("m", math.nan, ">=", 1, "s")], [Finding("critical", "s", "<b>bad</b>")], ["Stop."])
    report = Report("m", "v1.0.0", "0" * 64, (gate,))
    row = json.loads(report.to_json())["gates"][0]["measurements"][0]
    assert row["value"] is None and row["met"] is False
    assert "&lt;b&gt;bad" in report.to_html() and "no value" in report.to_html()
    assert problems(gate) == "m no value, limit >= 1 s; <b>bad</b>"
    assert list(report.table().index) == ["g"]


def test_points_are_taken_off_up_to_a_limit_for_each_severity() -> None:
    points = load_gates().security.deductions
    assert score([], points) == 10 and score(found("unanswered"), points) == 10
    assert score(found("low"), points) == 10 - points.low.each
    assert score(found("low") * 1000, points) == 10 - points.low.most
    assert score(found("high"), points) < load_gates().security.score <= score(found("medium"), points)
    assert score(found("critical", "high"), points) == 0
    table = deductions(found("medium", "medium"), points)
    assert table.loc["medium", "findings"] == 2 and table["taken off"].sum() == 2 * points.medium.each
