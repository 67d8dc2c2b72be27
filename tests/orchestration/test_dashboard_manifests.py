"""Module 4's manifests and image: they build, nothing is wrong with them, and they agree with the dashboard's code."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tests.manifest_samples import skip_without_kubectl
from tests.serving import test_containers as containers_of_module_3
from tests.serving.test_overlays import DEFAULTS, VALIDATOR, VERSION
from tests.serving.test_overlays import environment as environment_of_module_3
from workshop_lib.manifests import Document, load, problems, render
from workshop_lib.orchestration.dashboard_login import HOURS, OPEN
from workshop_lib.orchestration.local import dashboard_service
from workshop_lib.settings import PREFIX, ROOT, Settings

FOLDER = ROOT / "4-langchain" / "manifests"
OVERLAYS = sorted(path.parent.name for path in (FOLDER / "overlays").glob("*/kustomization.yaml"))
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)
MODULE = "workshop_lib.orchestration.dashboard"
MONITORING = "openshift-user-workload-monitoring"
"""The namespace of the Prometheus that collects what is not the platform's own."""


@functools.cache
def rendered(overlay: str) -> tuple[Document, ...]:
    skip_without_kubectl()
    return tuple(render(FOLDER / "overlays" / overlay))


def only(overlay: str, kind: str) -> Document:
    """The one document of its kind."""
    (found,) = (document for document in rendered(overlay) if document.kind == kind)
    return found


@every_overlay
def test_nothing_is_wrong_with_what_a_cluster_would_get(overlay: str) -> None:
    assert {document.kind for document in rendered(overlay)} == {
        "Deployment", "Service", "ServiceAccount", "Route", "NetworkPolicy", "ConfigMap",
    }  # fmt: skip
    assert [str(problem) for problem in problems(rendered(overlay))] == []


def test_nothing_is_wrong_with_the_files() -> None:
    assert OVERLAYS == ["dev", "production"]
    assert [str(problem) for problem in problems(load(FOLDER))] == []


@pytest.mark.skipif(not VALIDATOR.is_file(), reason="the schemas of custom resources are not beside the checkout")
@pytest.mark.parametrize("place", ["files", *OVERLAYS])
def test_custom_resources_fit_their_schemas(place: str, tmp_path: Path) -> None:
    target = FOLDER
    if place != "files":
        target = tmp_path / "rendered.yaml"
        target.write_text(yaml.safe_dump_all(document.body for document in rendered(place)), encoding="utf-8")
    done = subprocess.run([sys.executable, VALIDATOR, target], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@every_overlay
def test_the_pod_has_no_more_rights_than_it_needs(overlay: str) -> None:
    pod = only(overlay, "Deployment").get("spec.template.spec")
    (container,) = pod["containers"]
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert set(container["resources"]) == {"requests", "limits"}
    assert pod["serviceAccountName"] == only(overlay, "ServiceAccount").name
    name, _, tag = container["image"].rpartition(":")
    assert tag == VERSION and name.endswith("/workshop-dashboard")


@every_overlay
def test_everything_meets_at_the_dashboards_port(overlay: str) -> None:
    (container,) = only(overlay, "Deployment").get("spec.template.spec.containers")
    assert container["args"] == ["-m", MODULE] and find_spec(MODULE) is not None
    assert list(dashboard_service().command[1:]) == container["args"]
    assert container["ports"] == [{"name": "http", "containerPort": DEFAULTS["dashboard_port"]}]
    (port,) = only(overlay, "Service").get("spec.ports")
    assert (port["port"], port["targetPort"]) == (DEFAULTS["dashboard_port"], "http")
    route = only(overlay, "Route")
    assert route.get("spec.to")["name"] == only(overlay, "Service").name
    assert route.get("spec.port.targetPort") == "http"
    labels = only(overlay, "Deployment").get("spec.template.metadata.labels").items()
    for selector in (
        only(overlay, "Service").get("spec.selector"),
        only(overlay, "NetworkPolicy").get("spec.podSelector.matchLabels"),
    ):
        assert selector.items() <= labels


@every_overlay
def test_probes_ask_what_needs_no_login(overlay: str) -> None:
    (container,) = only(overlay, "Deployment").get("spec.template.spec.containers")
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert set(paths.values()) <= set(OPEN)
    # Being ready may depend on more one day; a restart because of it would help nobody.
    assert paths["livenessProbe"] == paths["startupProbe"] == dashboard_service().health
    assert {container[name]["httpGet"]["port"] for name in paths} == {"http"}


@every_overlay
def test_the_router_and_prometheus_come_in_and_nobody_else(overlay: str) -> None:
    (rule,) = only(overlay, "NetworkPolicy").get("spec.ingress")
    assert rule == {
        "from": [
            {"namespaceSelector": {"matchLabels": {"network.openshift.io/policy-group": "ingress"}}},
            {
                "namespaceSelector": {
                    "matchLabels": {"kubernetes.io/metadata.name": "openshift-user-workload-monitoring"}
                }
            },
            {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "monitor"}}},
        ],
        "ports": [{"port": "http"}],
    }
    patience = only(overlay, "Route").get("metadata.annotations")["haproxy.router.openshift.io/timeout"]
    assert int(patience.removesuffix("s")) > 2 * DEFAULTS["text_timeout"]
    assert only(overlay, "Route").get("spec.tls") == {
        "termination": "edge", "insecureEdgeTerminationPolicy": "Redirect",
    }  # fmt: skip
    assert HOURS < 24


@every_overlay
def test_the_settings_are_accepted_and_name_module_3s_services(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = only(overlay, "ConfigMap").body["data"]
    assert given.keys() <= {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.bind_host == "0.0.0.0" and settings.lang == "en"
    there = environment_of_module_3(overlay)
    for name in ("FORECASTER_ENDPOINT", "LLM_ENDPOINT", "LLM_MODEL", "MLFLOW_URI"):
        assert given[f"{PREFIX}{name}"] == there[f"{PREFIX}{name}"]
    assert settings.api_endpoint == f"http://business-api:{DEFAULTS['api_port']}"


@every_overlay
def test_what_is_referred_to_exists_and_secrets_stay_outside(overlay: str) -> None:
    (container,) = only(overlay, "Deployment").get("spec.template.spec.containers")
    references = [(kind, reference["name"]) for source in container["envFrom"] for kind, reference in source.items()]
    assert references[0] == ("configMapRef", only(overlay, "ConfigMap").name)
    secrets = {document.name for folder in (FOLDER, ROOT / "3-serving" / "manifests")
               for document in load(folder / "secrets")}  # fmt: skip
    assert {name for kind, name in references if kind == "secretRef"} <= secrets
    (example,) = load(FOLDER / "secrets")
    assert set(example.body["stringData"]) == {"WORKSHOP_DASHBOARD_USER", "WORKSHOP_DASHBOARD_PASSWORD"}
    assert set(example.body["stringData"].values()) == {"replace-me"}


# ---- the image


def test_the_image_starts_the_dashboard_on_its_port() -> None:
    stage = containers_of_module_3.stage("dashboard")
    assert re.findall(r"^EXPOSE (\d+)$", stage, flags=re.MULTILINE) == [str(DEFAULTS["dashboard_port"])]
    (check,) = re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", stage, flags=re.MULTILINE)
    assert json.loads(check)[-1] == f"http://127.0.0.1:{DEFAULTS['dashboard_port']}{dashboard_service().health}"
    assert f'CMD ["-m", "{MODULE}"]' in stage
    (user,) = re.findall(r"^USER (.*)$", stage, flags=re.MULTILINE)
    assert int(user) >= 1000 and "RUN" not in stage.partition(f"USER {user}")[2]


def dashboard_requirements() -> list[str]:
    lines = (ROOT / "4-langchain" / "dashboard-requirements.txt").read_text(encoding="utf-8").splitlines()
    return [*containers_of_module_3.serving_requirements(), *(line for line in lines if line and line[0] != "#")]


def test_the_image_has_every_package_that_the_dashboard_imports() -> None:
    pins = {line.split("==")[0] for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").split()}
    assert set(dashboard_requirements()) <= pins
    imported = containers_of_module_3.imported_by(MODULE)
    assert {"gradio", "plotly", "langchain_core"} <= imported
    missing = containers_of_module_3.missing_in(dashboard_requirements(), imported)
    assert missing <= containers_of_module_3.ELSEWHERE | {"polib"}  # for catalogues, which the image does not hold
