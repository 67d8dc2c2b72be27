"""Module 3's manifests: they build, nothing is wrong with them, and they agree with the code that they start."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from fastapi.routing import APIRoute

from tests.manifest_samples import skip_without_kubectl
from workshop_lib.generative import server, weights
from workshop_lib.manifest_rules import containers
from workshop_lib.manifests import Document, load, problems, render
from workshop_lib.serving import forecaster_model
from workshop_lib.serving.api import OPEN, Parts, create_app
from workshop_lib.settings import PREFIX, ROOT, Settings

FOLDER = ROOT / "3-serving" / "manifests"
OVERLAYS = sorted(path.parent.name for path in (FOLDER / "overlays").glob("*/kustomization.yaml"))
VALIDATOR = ROOT.parent / "shared" / "crds" / "validate_manifests.py"
DEFAULTS = {name: field.default for name, field in Settings.model_fields.items()}
"""Of the settings; the tests themselves run on other ports."""
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


@functools.cache
def rendered(overlay: str) -> tuple[Document, ...]:
    skip_without_kubectl()
    return tuple(render(FOLDER / "overlays" / overlay))


def of_kind(overlay: str, kind: str) -> dict[str, Document]:
    return {document.name: document for document in rendered(overlay) if document.kind == kind}


def options(arguments: list[str]) -> dict[str, str]:
    """Command-line options, written --a=b or --a b; a switch has an empty value."""
    words = [
        word for argument in arguments for word in (argument.split("=", 1) if argument[:2] == "--" else [argument])
    ]
    found: dict[str, str] = {}
    for number, word in enumerate(words):
        if word.startswith("--"):
            following = words[number + 1 : number + 2]
            found[word] = following[0] if following and not following[0].startswith("--") else ""
    return found


def environment(overlay: str, deployment: str = "business-api") -> dict[str, str]:
    """What a Deployment's container gets from its ConfigMaps."""
    (container,) = of_kind(overlay, "Deployment")[deployment].get("spec.template.spec.containers")
    names = [source["configMapRef"]["name"] for source in container["envFrom"] if "configMapRef" in source]
    maps = of_kind(overlay, "ConfigMap")
    return {key: value for name in names for key, value in maps[name].body["data"].items()}


def runtime_of(overlay: str, service: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The runtime's container of an InferenceService, and the options of both together."""
    model = of_kind(overlay, "InferenceService")[service].get("spec.predictor.model")
    (container,) = of_kind(overlay, "ServingRuntime")[model["runtime"]].get("spec.containers")
    return container, options([*container["args"], *model.get("args", [])])


# ---- every document


def test_there_is_an_overlay_for_each_place() -> None:
    assert OVERLAYS == ["dev", "production", "production-canary", "staging"]


@every_overlay
def test_nothing_is_wrong_with_what_a_cluster_would_get(overlay: str) -> None:
    assert len(rendered(overlay)) > 10
    assert [str(problem) for problem in problems(rendered(overlay))] == []


def test_nothing_is_wrong_with_the_files() -> None:
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
def test_what_is_referred_to_exists(overlay: str) -> None:
    here = {(document.kind, document.name) for document in rendered(overlay)}
    here |= {("Secret", document.name) for document in load(FOLDER / "secrets")}  # applied once, by hand
    wanted: set[tuple[str, str]] = set()
    for document in rendered(overlay):
        for _, container in containers(document):
            for source in container.get("envFrom", []):
                wanted |= {("ConfigMap", r["name"]) for kind, r in source.items() if kind == "configMapRef"}
                wanted |= {("Secret", r["name"]) for kind, r in source.items() if kind == "secretRef"}
        if account := document.get("spec.template.spec.serviceAccountName"):
            wanted.add(("ServiceAccount", account))
        if document.kind == "InferenceService":
            wanted.add(("ServingRuntime", document.get("spec.predictor.model.runtime")))
            if key := document.get("spec.predictor.model.storage.key"):
                wanted.add(("Secret", key))
        if document.kind == "Route":
            wanted |= {(target["kind"], target["name"]) for target in backends(document)}
        if document.kind == "HorizontalPodAutoscaler":
            target = document.get("spec.scaleTargetRef")
            wanted.add((target["kind"], target["name"]))
    assert len(wanted) >= 7
    assert wanted - here == set()


def backends(route: Document) -> Iterator[dict[str, Any]]:
    yield route.get("spec.to")
    yield from route.get("spec.alternateBackends") or []


@every_overlay
def test_placeholders_of_secrets_are_in_no_overlay(overlay: str) -> None:
    assert of_kind(overlay, "Secret") == {}


@every_overlay
def test_pods_run_as_any_user_and_with_no_more_rights_than_they_need(overlay: str) -> None:
    for document in rendered(overlay):
        pod = document.get("spec.template.spec") or document.get("spec")
        for path, container in containers(document, lists=("containers",)):
            if path.endswith("predictor.model"):
                continue  # the runtime's container
            security = (pod.get("securityContext") or {}) | container["securityContext"]
            assert security["runAsNonRoot"] is True, path
            assert security["allowPrivilegeEscalation"] is False, path
            assert security["capabilities"] == {"drop": ["ALL"]}, path
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}, path


@every_overlay
def test_own_images_carry_the_version_of_the_course(overlay: str) -> None:
    images = {container["image"] for document in rendered(overlay) for _, container in containers(document)
              if "workshop-" in container.get("image", "")}  # fmt: skip
    assert images and {image.rpartition(":")[2] for image in images} == {VERSION}
    assert all("/" in image for image in images), "an overlay forgot to say where the image lies"


# ---- settings


def test_every_variable_is_a_setting() -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    files = [*FOLDER.rglob("*.yaml"), *FOLDER.rglob("*.env"), *(ROOT / "3-serving").glob("compose.yaml")]
    files.append(ROOT / "3-serving" / "Containerfile")
    named = {name for file in files for name in re.findall(r"\bWORKSHOP_[A-Z0-9_]+", file.read_text(encoding="utf-8"))}
    assert len(named) >= 6
    assert named - known == set()


@every_overlay
def test_the_values_of_the_variables_are_accepted(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = environment(overlay)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.bind_host == "0.0.0.0"
    assert (settings.forecaster_endpoint, settings.llm_endpoint) == (
        given["WORKSHOP_FORECASTER_ENDPOINT"], given["WORKSHOP_LLM_ENDPOINT"],
    )  # fmt: skip


# ---- the forecaster


@every_overlay
def test_the_forecaster_answers_where_and_by_the_name_that_callers_use(overlay: str) -> None:
    for service in of_kind(overlay, "InferenceService"):
        if not service.startswith("sales-forecaster"):
            continue
        container, given = runtime_of(overlay, service)
        assert given["--model_name"] == forecaster_model.NAME
        (port,) = (port["containerPort"] for port in container["ports"])
        assert given["--rest_port"] == str(port)
        # The model's own path: the server says ready even when the model failed to load.
        for probe in ("startupProbe", "readinessProbe"):
            assert container[probe]["httpGet"] == {"path": f"/v2/models/{forecaster_model.NAME}/ready", "port": port}
        assert container["livenessProbe"]["httpGet"]["port"] == port
        caller = service.replace("sales-forecaster", "business-api")
        assert environment(overlay, caller)["WORKSHOP_FORECASTER_ENDPOINT"] == f"http://{service}-predictor:{port}"


def pinned_versions(overlay: str, service: str) -> list[int]:
    _, given = runtime_of(overlay, service)
    return list(json.loads(given["--model_version_policy"])["specific"]["versions"])


@every_overlay
def test_one_named_version_of_the_forecaster_answers(overlay: str) -> None:
    # Without it a restarted pod would serve whatever was uploaded last.
    (version,) = pinned_versions(overlay, "sales-forecaster")
    assert version >= 1


@every_overlay
def test_the_format_is_one_that_the_runtime_knows(overlay: str) -> None:
    for service in of_kind(overlay, "InferenceService").values():
        model = service.get("spec.predictor.model")
        runtime = of_kind(overlay, "ServingRuntime")[model["runtime"]]
        known = [
            {key: entry.get(key) for key in model["modelFormat"]} for entry in runtime.get("spec.supportedModelFormats")
        ]
        assert model["modelFormat"] in known
        assert model.get("protocolVersion") in (None, *(runtime.get("spec.protocolVersions") or []))


# ---- the language model


@every_overlay
def test_the_language_model_answers_where_and_by_the_name_that_callers_use(overlay: str) -> None:
    container, given = runtime_of(overlay, "llm")
    (port,) = (port["containerPort"] for port in container["ports"])
    assert given["--port"] == str(port)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": server.llm_server().health, "port": port}
    settings = environment(overlay)
    assert settings["WORKSHOP_LLM_ENDPOINT"] == f"http://llm-predictor:{port}/v1"
    assert settings["WORKSHOP_LLM_MODEL"] == given["--served-model-name"]


def test_without_a_gpu_the_server_starts_as_on_a_laptop() -> None:
    _, given = runtime_of("dev", "llm")
    local = options(list(server.llm_server().command))
    differing = {"--host", "--port", "--model"}
    assert {name: value for name, value in given.items() if name not in differing} == {
        name: value for name, value in local.items() if name not in differing
    }
    assert given["--served-model-name"] == weights.NAME
    container, _ = runtime_of("dev", "llm")
    assert container["args"][:2] == ["-m", "vllm.entrypoints.openai.api_server"]


def test_waiting_times_suit_each_other() -> None:
    for overlay in OVERLAYS:
        route = of_kind(overlay, "Route")["business-api"]
        patience = route.get("metadata.annotations")["haproxy.router.openshift.io/timeout"]
        assert int(patience.removesuffix("s")) > DEFAULTS["api_llm_timeout"]
        assert of_kind(overlay, "InferenceService")["llm"].get("spec.predictor.timeout") >= DEFAULTS["llm_timeout"]


# ---- the business API


@every_overlay
def test_the_business_api_is_reached_on_its_port(overlay: str) -> None:
    for name, deployment in of_kind(overlay, "Deployment").items():
        (container,) = deployment.get("spec.template.spec.containers")
        assert container["args"][0] == "-m" and find_spec(container["args"][1]) is not None
        assert [(port["name"], port["containerPort"]) for port in container["ports"]] == [
            ("http", DEFAULTS["api_port"])
        ]
        (port,) = of_kind(overlay, "Service")[name].get("spec.ports")
        assert (port["port"], port["targetPort"]) == (DEFAULTS["api_port"], "http")
    assert of_kind(overlay, "Route")["business-api"].get("spec.port.targetPort") == "http"


def api_paths() -> set[str]:
    """The business API's paths, of an application that is asked nothing."""
    app = create_app(cast(Parts, SimpleNamespace(forecasts=None, households=None, texts=None, book=None)))
    return {route.path for route in app.routes if isinstance(route, APIRoute)}


@every_overlay
def test_probes_ask_paths_that_there_are_and_that_want_no_key(overlay: str) -> None:
    for deployment in of_kind(overlay, "Deployment").values():
        (container,) = deployment.get("spec.template.spec.containers")
        probes = {probe: container[probe]["httpGet"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
        assert {probe["path"] for probe in probes.values()} <= api_paths() & set(OPEN)
        assert {probe["port"] for probe in probes.values()} == {"http"}
        # Being ready depends on others: a restart because of them would help nobody.
        assert probes["readinessProbe"]["path"] == "/health/ready"
        assert probes["livenessProbe"]["path"] == probes["startupProbe"]["path"] == "/health/live"


@every_overlay
def test_policies_and_budgets_name_pods_that_there_are(overlay: str) -> None:
    pods = [document.get("spec.template.metadata.labels") for document in of_kind(overlay, "Deployment").values()]
    for budget in of_kind(overlay, "PodDisruptionBudget").values():
        assert [labels for labels in pods if budget.get("spec.selector.matchLabels").items() <= labels.items()]
    policies = of_kind(overlay, "NetworkPolicy")
    (expression,) = policies["business-api"].get("spec.podSelector.matchExpressions")
    assert {labels[expression["key"]] for labels in pods} <= set(expression["values"])
    opened = {port["port"] for rule in policies["models"].get("spec.ingress") for port in rule["ports"]}
    served = {port["containerPort"] for runtime in of_kind(overlay, "ServingRuntime").values()
              for _, container in containers(runtime) for port in container["ports"]}  # fmt: skip
    assert served <= opened


def test_the_autoscaler_alone_says_how_many_pods_there_are() -> None:
    scaled = {
        document.get("spec.scaleTargetRef.name")
        for document in of_kind("production", "HorizontalPodAutoscaler").values()
    }
    assert scaled == {"business-api"}
    assert of_kind("production", "Deployment")["business-api"].get("spec.replicas") is None
    assert of_kind("production", "HorizontalPodAutoscaler")["business-api"].get("spec.minReplicas") >= 2
    assert of_kind("production", "InferenceService")["sales-forecaster"].get("spec.predictor.minReplicas") >= 2


# ---- the canary


def test_the_canary_adds_to_production_and_changes_the_route_only() -> None:
    before = {(document.kind, document.name): document.body for document in rendered("production")}
    after = {(document.kind, document.name): document.body for document in rendered("production-canary")}
    assert before.keys() < after.keys()
    assert all("-canary" in name for _, name in after.keys() - before.keys())
    assert {kind for kind, name in before if before[kind, name] != after[kind, name]} == {"Route"}


def test_the_canary_gets_a_small_share_and_another_version() -> None:
    route = of_kind("production-canary", "Route")["business-api"]
    shares = {target["name"]: target["weight"] for target in backends(route)}
    assert set(shares) == {"business-api", "business-api-canary"}
    assert sum(shares.values()) == 100 and 0 < shares["business-api-canary"] <= 20
    assert pinned_versions("production-canary", "sales-forecaster-canary") != pinned_versions(
        "production", "sales-forecaster"
    )
    stable, canary = (of_kind("production-canary", "Deployment")[name] for name in shares)
    images = [document.get("spec.template.spec.containers")[0]["image"] for document in (stable, canary)]
    assert images[0] == images[1]


def test_each_service_finds_the_pods_of_its_own_release() -> None:
    pods = {name: document.get("spec.template.metadata.labels")
            for name, document in of_kind("production-canary", "Deployment").items()}  # fmt: skip
    # KServe gives the labels of an InferenceService to its pods.
    pods |= {name: document.get("metadata.labels")
             for name, document in of_kind("production-canary", "InferenceService").items()}  # fmt: skip
    for name, service in of_kind("production-canary", "Service").items():
        selector = service.get("spec.selector")
        assert [pod for pod, labels in pods.items() if selector.items() <= labels.items()] == [name]
