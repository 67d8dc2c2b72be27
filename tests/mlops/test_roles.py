"""Who can and who cannot, evaluated from the YAML as the cluster would."""

from __future__ import annotations

from typing import Any

import pytest

from workshop_lib import manifests
from workshop_lib.mlops.roles import (
    ACTIONS,
    NAMESPACE,
    PEOPLE,
    POLICIES,
    STAGING,
    Action,
    can,
    loose_ends,
    matrix,
    policies,
)

MAY = {
    "try a model in staging": {"ana"},
    "read logs in staging": {"ana", "andrei"},
    "start the pipeline": {"ana"},
    "see what serves": {"ana", "carlos", "olga", "andrei", "pipeline"},
    "approve a release": {"carlos"},
    "change what serves": {"olga", "pipeline"},
    "take a model away": {"olga"},
    "restart the API": {"olga"},
    "stop a canary": {"olga", "pipeline"},
    "read logs in production": {"olga", "andrei"},
    "fetch a new key from the vault": {"olga"},
    "read a key": set(),
    "open a shell in a pod": set(),
    "read who has which rights": {"andrei"},
    "give out rights": set(),
    "open the network": set(),
    "read the admission rules": {"andrei"},
    "loosen the admission rules": set(),
}  # fmt: skip
"""The whole matrix, written down a second time on purpose."""


def test_everybody_can_what_they_need_and_nothing_else() -> None:
    table = matrix()
    assert {action: set(table.columns[row]) for action, row in zip(table.index, table.to_numpy(), strict=True)} == MAY
    assert ACTIONS.keys() == MAY.keys()


def test_no_rule_is_loose() -> None:
    assert loose_ends(policies()) == []


def test_four_eyes() -> None:
    starts = {who for who in PEOPLE if can(who, "create", "pipelineruns")}
    approves = {who for who in PEOPLE if can(who, "update", "approvaltasks") or can(who, "patch", "approvaltasks")}
    assert starts and approves and not starts & approves


def test_the_auditor_changes_nothing_anywhere() -> None:
    changing = ("create", "update", "patch", "delete", "deletecollection")
    groups = {group for one in policies() for group in one.body.get("rules", ()) for group in group["resources"]}
    for place in (NAMESPACE, STAGING, ""):
        assert [(verb, what) for verb in changing for what in groups if can("andrei", verb, what, place)] == []


def test_rights_end_at_the_namespace_and_at_the_name() -> None:
    assert can("ana", "delete", "inferenceservices", STAGING) and not can("ana", "delete", "inferenceservices")
    assert not can("ana", "delete", "inferenceservices", "somebody-else")
    assert not can("pipeline", "patch", "inferenceservices", "somebody-else")
    assert can(f"{NAMESPACE}:pipeline", "patch", "inferenceservices", STAGING)
    assert not can(f"{STAGING}:pipeline", "patch", "inferenceservices", NAMESPACE)
    assert can("olga", "patch", "deployments", name="business-api")
    assert not can("olga", "patch", "deployments", name="postgresql") and not can("olga", "patch", "deployments")
    assert can("olga", "get", "pods") and not can("carlos", "get", "pods/log")


@pytest.mark.parametrize("nobody", ["mallory", "", "system:anonymous", "approvers", "data-scientists", "workshop"])
def test_strangers_can_nothing(nobody: str) -> None:
    assert not any(can(nobody, *action) for action in ACTIONS.values())


def test_a_role_has_the_rights_of_its_people() -> None:
    for person, role in PEOPLE.items():
        assert [can(person, *action) for action in ACTIONS.values()] == [
            can(role, *action) for action in ACTIONS.values()
        ]


def test_an_unknown_resource_is_an_error_and_no_no() -> None:
    with pytest.raises(ValueError, match="'inferenceservice' is no resource"):
        can("ana", "get", "inferenceservice")


ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: r, namespace: supermarket}
rules: [{apiGroups: ["apps"], resources: [deployments], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: b, namespace: supermarket}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: operators}]
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("verbs: [get]", 'verbs: ["*"]', "wildcard"),
        ('"apps"', '""', "deployments is not in the API group core"),
        ("deployments", "deployment", "deployment is not in"),
        ('"apps"], resources: [deployments]', '""], resources: [secrets]', "it can read secrets"),
        ('"apps"], resources: [deployments]', '""], resources: [pods/exec]', "a shell"),
        ('"apps"], resources: [deployments], verbs: [get]',
         "rbac.authorization.k8s.io], resources: [roles], verbs: [bind]", "has all rights"),
        ("name: r}\nsubjects", "name: q}\nsubjects", "there is no Role q"),
        ("kind: Role, name: r}", "kind: ClusterRole, name: r}", "there is no ClusterRole r"),
    ],
)  # fmt: skip
def test_loose_rules_are_found(old: str, new: str, said: str) -> None:
    assert loose_ends(manifests.parse(ROLE, "f")) == [] and old in ROLE
    assert said in " ".join(loose_ends(manifests.parse(ROLE.replace(old, new), "f")))


def test_the_api_group_counts() -> None:
    def asked(text: str, **changes: Any) -> bool:
        return can("olga", *Action("get", "deployments"), documents=manifests.parse(text, "f"), **changes)

    assert asked(ROLE) and not asked(ROLE.replace('"apps"', '""'))
    assert not asked(ROLE.replace("operators", "others")) and not asked(ROLE.replace("kind: Group", "kind: User"))
    assert POLICIES.is_file()
