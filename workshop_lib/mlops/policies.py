"""What a pod may be and what is let in: Pod Security's level "restricted", and the admission policies' own patterns.

broken_rules(pod)                  # what "restricted" would refuse, in plain words
trusted_image("…@sha256:…")        # by the pattern in security_policies.yaml
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import yaml

from workshop_lib.manifest_files import load
from workshop_lib.manifest_rules import Document
from workshop_lib.mlops.roles import policies

WORKLOADS = (
    "3-serving/manifests/base/api/deployment.yaml",
    "4-langchain/manifests/base/deployment.yaml",
    "5-monitoring-optimization/monitoring/model_monitoring_config.yaml",
    "5-monitoring-optimization/monitoring/notification_config.yaml",
)
"""The files with the course's pods; those of the models are made by KServe from the runtimes."""
RUNTIMES = (
    "3-serving/manifests/base/forecaster-runtime.yaml",
    "3-serving/manifests/components/llm-gpu/runtime.yaml",
)
_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
_HOST = ("hostNetwork", "hostPID", "hostIPC")


def pods(files: Iterable[str] = (*WORKLOADS, *RUNTIMES)) -> dict[str, Mapping[str, Any]]:
    """The pods that some files start: name to the pod's specification."""
    found: dict[str, Mapping[str, Any]] = {}
    for document in (document for file in files for document in load(file)):
        for place in ("spec.template.spec", "spec.jobTemplate.spec.template.spec"):
            if spec := document.get(place):
                found[f"{document.kind} {document.name}"] = spec
        if document.kind == "ServingRuntime":
            found[f"{document.kind} {document.name}"] = document.body["spec"]
    return found


def broken_rules(pod: Mapping[str, Any]) -> list[str]:
    """What a namespace of the level "restricted" would refuse about a pod; an empty list when it may start.

    After the Kubernetes documentation, "Pod Security Standards". What a container leaves out, it inherits from the
    pod.
    """
    found = [f"{name} is on" for name in _HOST if pod.get(name)]
    for volume in pod.get("volumes", ()):
        kinds = volume.keys() - {"name"}
        found += [f"volume {volume['name']} is of the kind {kind}" for kind in sorted(kinds - _VOLUMES)]
    shared = pod.get("securityContext") or {}
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        security = shared | (container.get("securityContext") or {})
        problems = [*_of_container(security)]
        problems += ["takes a port of the node" for port in container.get("ports", ()) if port.get("hostPort")]
        found += [f"{container['name']} {problem}" for problem in problems]
    return found


def _of_container(security: Mapping[str, Any]) -> Iterator[str]:
    capabilities = security.get("capabilities") or {}
    if security.get("privileged"):
        yield "is privileged"
    if security.get("allowPrivilegeEscalation") is not False:
        yield "may gain rights (allowPrivilegeEscalation)"
    if security.get("runAsNonRoot") is not True or security.get("runAsUser") == 0:
        yield "may run as root (runAsNonRoot)"
    if "ALL" not in capabilities.get("drop", ()) or {*capabilities.get("add", ())} - {"NET_BIND_SERVICE"}:
        yield "keeps capabilities (drop: [ALL])"
    if (security.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "has no seccomp profile"


def trusted_image(image: str) -> bool:
    """Whether the policy ``images-by-digest`` lets an image in: by its own pattern, read from the file."""
    return _pattern().search(image) is not None


@cache
def _pattern() -> re.Pattern[str]:
    """The pattern is a text within CEL, the language of the policy; its regular expressions are a part of Python's."""
    (variable,) = _policy("images-by-digest").get("spec.variables")
    return re.compile(ast.literal_eval(variable["expression"]))


def deployers() -> list[str]:
    """Who may say which model is served, by the policy ``model-by-pipeline``."""
    (variable,) = _policy("model-by-pipeline").get("spec.variables")
    return list(ast.literal_eval(variable["expression"]))


def audited_groups() -> dict[str, str]:
    """Per group how much of its requests the API server writes down: the profile of its audit log."""
    (document,) = (one for one in policies() if one.name == "audit-policy")
    rules = yaml.safe_load(document.body["data"]["apiserver.yaml"])["spec"]["audit"]["customRules"]
    return {rule["group"]: rule["profile"] for rule in rules}


def _policy(name: str) -> Document:
    (found,) = (one for one in policies() if (one.kind, one.name) == ("ValidatingAdmissionPolicy", name))
    return found
