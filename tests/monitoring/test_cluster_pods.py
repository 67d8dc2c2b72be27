"""What module 5 runs on a cluster can start: its images hold what it imports, and what it refers to is there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from tests.orchestration.test_dashboard_manifests import dashboard_requirements
from tests.serving.test_containers import ELSEWHERE, imported_by, missing_in, serving_requirements
from workshop_lib.manifests import Document, load, render
from workshop_lib.settings import ROOT

MODULE = ROOT / "5-monitoring-optimization"
FILES = (*(MODULE / "monitoring").glob("*.yaml"), *(MODULE / "optimization").glob("*.yaml"))
REQUIREMENTS = {"workshop-serving": serving_requirements, "workshop-dashboard": dashboard_requirements}
BY_HAND = {("Secret", "alert-destinations")}
"""Made with the command in alerts_that_fire.ipynb."""


@cache
def documents() -> tuple[Document, ...]:
    return tuple(document for file in FILES for document in load(file))


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for document in documents():
        for path in ("spec.template.spec", "spec.jobTemplate.spec.template.spec"):
            if pod := document.get(path):
                yield f"{document.kind} {document.name}", pod


PODS = dict(pods())


@pytest.mark.parametrize("name", PODS)
def test_the_image_has_what_the_program_imports(name: str) -> None:
    (container,) = PODS[name]["containers"]
    host, team, image = container["image"].split("/")
    assert (host, team) == ("quay.io", "your-team"), "as in the overlays for production; a bare name is nowhere"
    image, _, tag = image.partition(":")
    assert tag and container["args"][0] == "-m"
    assert missing_in(REQUIREMENTS[image](), imported_by(container["args"][1])) <= ELSEWHERE


@pytest.mark.parametrize("name", PODS)
def test_what_a_pod_refers_to_is_made_somewhere(name: str) -> None:
    pod, wanted = PODS[name], set[tuple[str, str]]()
    (container,) = pod["containers"]
    for source in [*container.get("envFrom", []), *(one.get("valueFrom", {}) for one in container.get("env", []))]:
        kinds = {"configMap": "ConfigMap", "secret": "Secret"}
        wanted |= {
            (kinds[how[:-3].removesuffix("Key")], ref["name"]) for how, ref in source.items() if how != "fieldRef"
        }
    for volume in pod.get("volumes", []):
        if "configMap" in volume:
            wanted.add(("ConfigMap", volume["configMap"]["name"]))
        if "persistentVolumeClaim" in volume:
            wanted.add(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]))
    if "serviceAccountName" in pod:
        wanted.add(("ServiceAccount", pod["serviceAccountName"]))
    here = {(one.kind, one.name) for one in documents()} | BY_HAND
    here |= {("Secret", one.name) for one in load(ROOT / "3-serving" / "manifests" / "secrets")}
    assert wanted and wanted - here == set()


def test_webhooks_name_the_namespace_of_their_service() -> None:
    """Alertmanager lives in another namespace, where a bare name means something else or nothing."""
    (config,) = (one for one in documents() if one.kind == "AlertmanagerConfig")
    urls = [
        hook["url"]
        for receiver in config.get("spec.receivers")
        for hook in receiver.get("webhookConfigs", [])
        if "url" in hook
    ]
    assert urls and all(".supermarket.svc" in url for url in urls)


def test_the_services_that_the_monitor_asks_exist() -> None:
    names = {
        one.name
        for folder in ("3-serving/manifests/overlays/production", "4-langchain/manifests/overlays/production")
        for one in render(ROOT / folder)
        if one.kind in ("Service", "InferenceService")
    }
    (container,) = PODS["Deployment monitor"]["containers"]
    env = {one["name"]: one.get("value", "") for one in container["env"]}
    hosts = {name: url.split("//")[1].split(":")[0] for name, url in env.items() if url.startswith("http")}
    assert hosts.pop("WORKSHOP_MLFLOW_URI") == "mlflow"  # the platform's own, see module 1
    assert {host.removesuffix("-predictor") for host in hosts.values()} <= names
