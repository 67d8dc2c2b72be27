"""The exercises tell right from wrong, and near misses get the hint that helps."""

from __future__ import annotations

from typing import Any

import pytest

from workshop_lib.exercises import check

LOGS = {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}
RESTART = {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["business-api"], "verbs": ["patch"]}


def test_the_least_role_is_right() -> None:
    assert check("6.5.a", [LOGS, RESTART]).correct and check("6.5.a", [RESTART, LOGS]).correct


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ([LOGS, RESTART | {"verbs": ["*"]}], "star"),
        ([LOGS, {key: value for key, value in RESTART.items() if key != "resourceNames"}], "resourceNames"),
        ([LOGS | {"resources": ["pods"]}, RESTART], "pods/log"),
        ([LOGS, RESTART | {"apiGroups": [""]}], "cannot be done yet"),
        ([LOGS], "cannot be done yet"),
        ([LOGS, RESTART | {"verbs": ["patch", "delete"]}], "not needed"),
        ([LOGS | {"resources": ["pods/log", "secrets"]}, RESTART], "not needed"),
        ([LOGS | {"resources": ["pods/log", "pods/exec"]}, RESTART], "not needed"),
        ("rules", "Two rules"),
        ([1], "Two rules"),
        (..., "Two rules"),
    ],
)
def test_other_roles_are_not(answer: Any, hint: str) -> None:
    feedback = check("6.5.a", answer)
    assert not feedback.correct and hint in feedback.hint


def test_traffic_needs_both_sides() -> None:
    assert check("6.5.b", {"dashboard-out", "valkey"}).correct and check("6.5.b", ["valkey", "dashboard-out"]).correct


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ({"valkey"}, "one side"),
        (["dashboard-out"], "one side"),
        ({"default-deny", "valkey", "dashboard-out"}, "policies only add"),
        ({"dns", "valkey", "dashboard-out"}, "Two of them are enough"),
        ({"mlflow"}, "both sides"),
        (7, "both sides"),
        (None, "both sides"),
    ],
)
def test_other_policies_are_not(answer: Any, hint: str) -> None:
    feedback = check("6.5.b", answer)
    assert not feedback.correct and hint in feedback.hint
