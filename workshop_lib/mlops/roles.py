"""Who may do what: the roles of ``security_policies.yaml``, evaluated as the cluster would.

    can("ana", "create", "pipelineruns", NAMESPACE)        # a person, by the group that the bindings name
    can("pipeline", "patch", "inferenceservices", NAMESPACE)    # a service account of that namespace
    matrix(ACTIONS)                                        # everybody and everything, as a table

RBAC only ever allows: what no rule allows is refused, and there is no rule that forbids. So the answer is "yes" when
one rule of one bound role fits (Kubernetes documentation, "Using RBAC Authorization").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from workshop_lib.manifest_files import load
from workshop_lib.manifest_rules import Document
from workshop_lib.settings import ROOT

if TYPE_CHECKING:
    import pandas as pd

POLICIES = ROOT / "6-advanced-mlops" / "security" / "security_policies.yaml"
NAMESPACE = "supermarket"
"""Production."""
STAGING = "supermarket-staging"
PEOPLE = {"ana": "data-scientist", "carlos": "approver", "olga": "operator", "andrei": "auditor"}
"""People of the lessons and their roles. On a cluster a role is a group of the company's directory."""
ACCOUNTS = ("pipeline", "business-api")
"""Service accounts: programs that act by themselves."""
API_GROUPS = {
    "": ("pods", "pods/log", "pods/exec", "services", "configmaps", "secrets", "events", "serviceaccounts",
         "persistentvolumeclaims", "namespaces"),
    "apps": ("deployments", "deployments/scale", "replicasets"),
    "batch": ("jobs", "cronjobs"),
    "serving.kserve.io": ("inferenceservices", "servingruntimes"),
    "kubeflow.org": ("notebooks",),
    "tekton.dev": ("pipelines", "pipelineruns", "tasks", "taskruns"),
    "openshift-pipelines.org": ("approvaltasks",),
    "argoproj.io": ("rollouts", "rollouts/status", "analysisruns", "analysistemplates", "applications"),
    "route.openshift.io": ("routes",),
    "networking.k8s.io": ("networkpolicies",),
    "monitoring.coreos.com": ("prometheusrules", "servicemonitors"),
    "external-secrets.io": ("externalsecrets", "secretstores"),
    "rbac.authorization.k8s.io": ("roles", "rolebindings", "clusterroles", "clusterrolebindings"),
    "admissionregistration.k8s.io": ("validatingadmissionpolicies", "validatingadmissionpolicybindings"),
    "config.openshift.io": ("imagepolicies", "clusterimagepolicies", "apiservers"),
}  # fmt: skip
"""Which API group a resource belongs to: a rule with the wrong one passes every schema and never allows anything."""
_GROUP_OF = {resource: group for group, resources in API_GROUPS.items() for resource in resources}


class Action(NamedTuple):
    """Something that somebody may want to do."""

    verb: str
    resource: str
    namespace: str = NAMESPACE
    name: str | None = None
    """Of one object, where it matters which."""


ACTIONS: dict[str, Action] = {
    "try a model in staging": Action("create", "inferenceservices", STAGING),
    "read logs in staging": Action("get", "pods/log", STAGING),
    "start the pipeline": Action("create", "pipelineruns"),
    "see what serves": Action("get", "inferenceservices"),
    "approve a release": Action("update", "approvaltasks"),
    "change what serves": Action("patch", "inferenceservices"),
    "take a model away": Action("delete", "inferenceservices"),
    "restart the API": Action("patch", "deployments", NAMESPACE, "business-api"),
    "stop a canary": Action("patch", "rollouts"),
    "read logs in production": Action("get", "pods/log"),
    "fetch a new key from the vault": Action("patch", "externalsecrets", NAMESPACE, "business-api-keys"),
    "read a key": Action("get", "secrets", NAMESPACE, "business-api-keys"),
    "open a shell in a pod": Action("create", "pods/exec"),
    "read who has which rights": Action("list", "rolebindings"),
    "give out rights": Action("create", "rolebindings"),
    "open the network": Action("patch", "networkpolicies"),
    "read the admission rules": Action("get", "validatingadmissionpolicies", ""),
    "loosen the admission rules": Action("patch", "validatingadmissionpolicies", ""),
}
"""What the lesson asks about; the names are for the table."""


def can(
    subject: str,
    verb: str,
    resource: str,
    namespace: str = NAMESPACE,
    name: str | None = None,
    *,
    documents: Sequence[Document] | None = None,
) -> bool:
    """Whether somebody may do something.

    Args:
        subject: a person of :data:`PEOPLE`, a role, or a service account (``pipeline``; ``namespace:pipeline`` for
            one of another namespace). Anybody else has no rights.
        verb: such as ``get``, ``list``, ``create``, ``patch``.
        resource: in the plural, with its subresource: ``inferenceservices``, ``pods/log``.
        namespace: where; empty for what belongs to the whole cluster.
        name: of the object, for rules that name objects.
        documents: the policies; those of :data:`POLICIES` by default.

    Raises:
        ValueError: for a resource that is not in :data:`API_GROUPS`.
    """
    if resource not in _GROUP_OF:
        raise ValueError(f"{resource!r} is no resource that is known here; see API_GROUPS.")
    documents = policies() if documents is None else documents
    return any(_allows(rule, verb, resource, name) for rule in _rules(subject, namespace, documents))


def matrix(actions: Mapping[str, Action] = ACTIONS, subjects: Iterable[str] = (*PEOPLE, *ACCOUNTS)) -> pd.DataFrame:
    """A row per action, a column per subject: True where it is allowed."""
    import pandas as pd

    return pd.DataFrame({who: {what: can(who, *action) for what, action in actions.items()} for who in subjects})


def loose_ends(documents: Iterable[Document]) -> list[str]:
    """Rules that give more than anybody needs, or nothing at all; an empty list when every rule is in order.

    Looked for: wildcards, rights to secrets' contents, to shells in pods and to rights themselves, resources under a
    wrong API group, bindings to roles that are not there.
    """
    documents = list(documents)
    found = []
    known = {(one.kind, _namespace(one), one.name) for one in documents}
    for one in documents:
        for rule in one.body.get("rules", ()) if one.kind in ("Role", "ClusterRole") else ():
            found += [f"{one.kind} {one.name}: {problem}" for problem in _problems(rule)]
        if one.kind in ("RoleBinding", "ClusterRoleBinding"):
            kind, name = one.get("roleRef.kind"), one.get("roleRef.name")
            if (kind, _namespace(one) if kind == "Role" else "", name) not in known:
                found.append(f"{one.kind} {one.name}: there is no {kind} {name}")
    return found


def _problems(rule: Mapping[str, Any]) -> Iterator[str]:
    groups, resources, verbs = rule.get("apiGroups", []), rule["resources"], rule["verbs"]
    if "*" in (*groups, *resources, *verbs):
        yield "a wildcard also allows what does not exist yet"
    for resource in resources:
        if _GROUP_OF.get(resource) not in groups:
            yield f"{resource} is not in the API group {', '.join(groups) or 'core'}"
    if "secrets" in resources and {"get", "list", "watch"} & {*verbs}:
        yield "it can read secrets; a program gets them mounted"
    if "pods/exec" in resources:
        yield "a shell in a pod can do all that the pod can"
    rights = {resource for resource in resources if _GROUP_OF.get(resource) == "rbac.authorization.k8s.io"}
    if rights and {*verbs} - {"get", "list", "watch"}:
        yield "who may change rights has all rights"


def policies(path: Path = POLICIES) -> tuple[Document, ...]:
    """The documents of the policies' file."""
    return _read(path, path.stat().st_mtime_ns)


@cache
def _read(path: Path, changed: int) -> tuple[Document, ...]:
    return tuple(load(path))


def _rules(subject: str, namespace: str, documents: Sequence[Document]) -> Iterator[Mapping[str, Any]]:
    """Every rule that is bound to a subject in a namespace."""
    roles = {(one.kind, _namespace(one), one.name): one for one in documents if one.kind in ("Role", "ClusterRole")}
    for binding in documents:
        here = binding.kind == "RoleBinding" and _namespace(binding) == namespace
        if not here and binding.kind != "ClusterRoleBinding":
            continue
        if any(_is(subject, one, namespace) for one in binding.get("subjects") or ()):
            kind = binding.get("roleRef.kind")
            role = roles.get((kind, namespace if kind == "Role" else "", binding.get("roleRef.name")))
            yield from role.body.get("rules", ()) if role else ()


def _is(subject: str, bound: Mapping[str, str], namespace: str) -> bool:
    """Whether a subject is the one that a binding names."""
    if bound["kind"] == "Group":
        return bound["name"] == f"{PEOPLE.get(subject, subject)}s"  # the role operator is the group operators
    place, _, account = subject.rpartition(":")
    return bound["kind"] == "ServiceAccount" and (bound.get("namespace"), bound["name"]) == (
        place or namespace or NAMESPACE, account,
    )  # fmt: skip


def _allows(rule: Mapping[str, Any], verb: str, resource: str, name: str | None) -> bool:
    def holds(key: str, value: str) -> bool:
        return value in rule.get(key, ()) or "*" in rule.get(key, ())

    named = rule.get("resourceNames")
    return (
        holds("verbs", verb)
        and holds("resources", resource)
        and holds("apiGroups", _GROUP_OF[resource])
        and (not named or name in named)
    )


def _namespace(document: Document) -> str:
    return str(document.get("metadata.namespace") or "")
