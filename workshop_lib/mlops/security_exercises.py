"""Exercises of the notebook on security."""

from __future__ import annotations

from typing import Any

from workshop_lib.exercises import Exercise
from workshop_lib.manifest_rules import Document
from workshop_lib.mlops.roles import NAMESPACE, can, loose_ends

_SIDES = {"dashboard-out", "valkey"}


def _bound(rules: Any) -> list[Document]:
    """The rules as a role that the lesson's person on call has."""
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise TypeError("The rules are a list of dictionaries.")
    place = {"name": "on-call", "namespace": NAMESPACE}
    role: dict[str, Any] = {"kind": "Role", "metadata": place, "rules": rules}
    binding: dict[str, Any] = {
        "kind": "RoleBinding", "metadata": place, "roleRef": {"kind": "Role", "name": "on-call"},
        "subjects": [{"kind": "Group", "name": "on-calls"}],
    }  # fmt: skip
    return [Document("answer", number, 1, body) for number, body in enumerate((role, binding), start=1)]


def _can(rules: Any, verb: str, resource: str, name: str | None = None) -> bool:
    return can("on-call", verb, resource, NAMESPACE, name, documents=_bound(rules))


def _does_its_work(rules: Any) -> bool:
    return _can(rules, "patch", "deployments", "business-api") and _can(rules, "get", "pods/log", "business-api-1")


def _least(rules: Any) -> bool:
    """Enough for the work, and nothing besides."""
    verbs = {verb for rule in rules for verb in rule["verbs"]}
    return (
        _does_its_work(rules)
        and not loose_ends(_bound(rules))
        and not _can(rules, "patch", "deployments", "dashboard")
        and verbs == {"get", "patch"}
        and {resource for rule in rules for resource in rule["resources"]} <= {"deployments", "pods/log"}
        and not _can(rules, "patch", "pods/log")
    )


EXERCISES = {
    "6.5.a": Exercise(
        right=_least,
        hint="Two rules, one per API group: apps and the core group, which is written as an empty text.",
        near_misses=[
            (lambda rules: any("*" in rule[key] for rule in rules for key in rule),
             "A star also allows what does not exist yet. Name each thing."),
            (lambda rules: _can(rules, "patch", "deployments", "dashboard"),
             "This also restarts the dashboard. Add resourceNames to the rule."),
            (lambda rules: _can(rules, "get", "pods") and not _can(rules, "get", "pods/log"),
             "Logs are a resource of their own: pods/log."),
            (lambda rules: not _does_its_work(rules), "The work cannot be done yet. Look at each field."),
            (_does_its_work, "The work can be done, but some right is not needed for it."),
        ],
    ),
    "6.5.b": Exercise(
        right=lambda answer: set(answer) == _SIDES,
        hint="Traffic needs both sides: one policy lets the sender send, another lets the receiver receive.",
        near_misses=[
            (lambda answer: len({*answer} & _SIDES) == 1 and len(answer) == 1, "That is one side. Who else has a say?"),
            (lambda answer: "default-deny" in answer,
             "default-deny stays as it is: policies only add, so others open what it closes."),
            (lambda answer: {*answer} > _SIDES, "Two of them are enough."),
        ],
    ),
}  # fmt: skip
