"""The workbench on OpenShift AI: its image, what the image starts, and its manifests, which agree with each other."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from jupyter_server.serverapp import ServerApp

from tests.manifest_samples import skip_without_kubectl
from workshop_lib import doctor
from workshop_lib.editions import LANGUAGES, REST
from workshop_lib.manifest_rules import walk
from workshop_lib.manifests import Document, load, problems, render
from workshop_lib.settings import MODULES, PREFIX, ROOT, Settings

FOLDER = ROOT / "1-predictive"
CONTAINERFILE = (FOLDER / "Containerfile").read_text(encoding="utf-8")
START = FOLDER / "start-workbench"
VALIDATOR = ROOT.parent / "shared" / "crds" / "validate_manifests.py"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
PINS = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").split())

HOME = "/opt/app-root/src"
"""Where OpenShift AI mounts a workbench's volume."""
BUNDLE = "/etc/pki/tls/custom-certs/ca-bundle.crt"
"""Where it mounts the cluster's certificates."""
CERTIFICATE_VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT", "GIT_SSL_CAINFO")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
INSTALLERS = ("PIP_INDEX_URL", "UV_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT")
PATH = "/notebook/supermarket-dev/workshop"
DASHBOARD_ARGUMENTS = f"""--ServerApp.port=8888
                  --ServerApp.token=''
                  --ServerApp.password=''
                  --ServerApp.base_url={PATH}
                  --ServerApp.quit_button=False
                  --ServerApp.tornado_settings={{"user":"ana","hub_host":"https://x.example","hub_prefix":"/projects/p"}}"""
"""NOTEBOOK_ARGS as the dashboard of OpenShift AI writes it into a workbench that is made there."""


# ---- the image


def stage(name: str) -> list[tuple[str, str]]:
    """A stage's instructions and their arguments, continued lines joined."""
    (text,) = re.findall(rf"^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", CONTAINERFILE, flags=re.MULTILINE | re.DOTALL)
    lines = re.sub(r"\s*\\\n\s*", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    return [(word, rest.strip()) for line in lines if line for word, _, rest in [line.partition(" ")]]


def arguments(name: str, instruction: str) -> list[str]:
    return [rest for word, rest in stage(name) if word == instruction]


def environment(name: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for line in arguments(name, "ENV") for pair in line.split())


def test_the_image_is_built_on_ubi_with_the_python_of_the_course() -> None:
    sources = re.findall(r"^FROM (\S+) AS (\S+)$", CONTAINERFILE, flags=re.MULTILINE)
    assert [name for _, name in sources] == ["python", "environment", "workbench"]
    assert [source for source, _ in sources[1:]] == ["python", "python"]
    serving = (ROOT / "3-serving" / "Containerfile").read_text(encoding="utf-8")
    assert f"FROM {sources[0][0]} AS python\n" in serving  # one base for all images of the course
    assert re.search(r"\bpython3\.11\b", arguments("python", "RUN")[0])
    hosts = set(re.findall(r"\b(?:[\w-]+\.)+(?:org|com|io|net|dev)\b", CONTAINERFILE))
    assert hosts == {"registry.access.redhat.com"}


def test_the_environment_is_the_lock_s_installed_by_the_entry_point() -> None:
    """./workshop installs the whole lock into the Python that is active, and nothing else installs anything."""
    install, _ = arguments("environment", "RUN")
    assert re.search(r"python3\.11 -m venv /opt/app-root && .*\./workshop --help && ", install)
    assert environment("python")["WORKSHOP_ENV"] == "active"
    assert environment("python")["PATH"].split(":")[0] == "/opt/app-root/bin"
    copied = {word for line in arguments("environment", "COPY") for word in line.split()[:-1]}
    assert {"workshop", "requirements.lock", "pyproject.toml", "workshop_lib"} < copied
    assert "COPY --from=environment /opt/app-root /opt/app-root" in CONTAINERFILE
    assert not re.search(r"\b(pip|uv) install\b|==", CONTAINERFILE)


def test_the_environment_looks_for_the_course_where_the_start_puts_it() -> None:
    """Otherwise its editable package is nowhere, and ./workshop installs everything once more."""
    (course,) = arguments("environment", "WORKDIR")
    assert course == f"{HOME}/mlops-workshop" and "\ncourse=$HOME/mlops-workshop\n" in START.read_text(encoding="utf-8")
    assert environment("workbench")["HOME"] == HOME
    # An image that has a course in that place would start with that one, without a copy.
    assert arguments("environment", "RUN")[-1].endswith(f"rm -r {course}")


def test_any_user_of_group_0_may_write_and_none_is_root() -> None:
    for line, folder in zip(arguments("environment", "RUN"), ("/opt/app-root", "/opt/workshop"), strict=True):
        assert f"chgrp -R 0 {folder} && chmod -R g=u {folder}" in line
    words, (user,) = [word for word, _ in stage("workbench")], arguments("workbench", "USER")
    assert int(user) >= 1000
    assert not {"RUN", "COPY", "USER"} & set(words[words.index("USER") + 1 :])


def test_the_build_takes_mirrors_and_leaves_no_trace_of_them() -> None:
    declared = arguments("environment", "ARG")
    assert declared == [*INSTALLERS, "EDITION=en"]
    words = [word for word, _ in stage("environment")]
    assert words.index("ARG") < words.index("RUN")
    # What a stage declares is in the history of its image, and addresses may hold passwords.
    assert arguments("python", "ARG") == arguments("workbench", "ARG") == []
    assert not {*PROXIES, *INSTALLERS} & {*environment("python"), *environment("workbench")}
    for name in (*PROXIES, *INSTALLERS, "EDITION"):
        assert re.search(rf"^#.*\b{name}\b", CONTAINERFILE, flags=re.MULTILINE), f"{name} is not explained"


def test_the_build_argument_makes_every_edition() -> None:
    build = arguments("environment", "RUN")[-1]
    assert build.startswith('if [ "$EDITION" = en ]; then cp -a . /opt/workshop; else ')
    assert './workshop edition "$EDITION" /opt/workshop; fi' in build
    assert LANGUAGES == ("es",) and "EDITION=es" in CONTAINERFILE


def test_the_whole_course_reaches_the_builder_and_nothing_of_this_machine() -> None:
    lines = (FOLDER / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert lines[1] == "*" and allowed == {"README.md", "tests", *MODULES, *REST}
    assert all((ROOT / name).exists() for name in allowed)


# ---- what it starts


def started(
    tmp_path: Path, given: dict[str, str] | None = None, *, bundle: bool = False
) -> tuple[list[str], dict[str, str]]:
    """What Jupyter would be called with by the image's entry point: its arguments and its variables."""
    image, home, programs = (tmp_path / name for name in ("image", "home", "programs"))
    for folder in (image / "1-predictive", home, programs):
        folder.mkdir(parents=True, exist_ok=True)
    certificates = tmp_path / "ca-bundle.crt"
    if bundle:
        certificates.write_text("a certificate\n")
    script = START.read_text(encoding="utf-8")
    assert script.count(BUNDLE) == 1
    (image / "1-predictive" / START.name).write_text(script.replace(BUNDLE, shlex.quote(str(certificates))))
    (image / "README.md").write_text("the course\n")
    (image / ".env").write_text("WORKSHOP_LANG=es\n")
    dump = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"
    # Not Python in the first line: its path may hold a blank.
    (programs / "jupyter").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(dump)} "$@"\n')
    (programs / "jupyter").chmod(0o755)
    done = subprocess.run(
        ["bash", image / "1-predictive" / START.name], capture_output=True, text=True, check=False, cwd=home,
        env={"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(home), **(given or {})},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    words, variables = json.loads(done.stdout)
    return words, variables


def as_jupyter_reads(words: list[str]) -> ServerApp:
    """A server with these options that is never started."""
    assert words[0] == "lab"
    app = ServerApp()
    app.parse_command_line(words[1:])
    return app


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"NOTEBOOK_ARGS": DASHBOARD_ARGUMENTS, "NB_PREFIX": PATH}, f"{PATH}/"),
        ({"NB_PREFIX": PATH}, f"{PATH}/"),
        ({}, "/"),
    ],
    ids=["from the dashboard", "from any Notebook", "without a cluster"],
)
def test_the_server_listens_where_the_controller_expects_it(given: dict[str, str], path: str, tmp_path: Path) -> None:
    words, _ = started(tmp_path, given)
    app = as_jupyter_reads(words)
    assert (app.base_url, app.port) == (path, 8888)
    assert app.ip == ""  # every address of the pod
    assert app.allow_origin == "*" and not app.open_browser
    assert app.root_dir == str(tmp_path / "home")
    # Without the Notebook's word no login stands in front: Jupyter makes a token, which nobody gets in without.
    assert ("token" in app.config.ServerApp) == ("NOTEBOOK_ARGS" in given)
    assert app.tornado_settings.get("hub_prefix") == ("/projects/p" if "NOTEBOOK_ARGS" in given else None)


def test_the_first_page_is_a_notebook_of_the_course(tmp_path: Path) -> None:
    (page,) = [word for word in started(tmp_path)[0] if word.startswith("--LabApp.default_url=")]
    _, _, notebook = page.partition("/lab/tree/mlops-workshop/")
    assert (ROOT / notebook).is_file()


def test_the_course_is_copied_once_and_then_left_alone(tmp_path: Path) -> None:
    home, whole = tmp_path / "home", [".env", "1-predictive", "README.md"]
    (home / "mlops-workshop.new" / "half").mkdir(parents=True)  # of a start that was interrupted
    for text in ("the course\n", "the learner's notes\n"):
        started(tmp_path)
        assert [path.name for path in home.iterdir()] == ["mlops-workshop"]
        assert sorted(path.name for path in (home / "mlops-workshop").iterdir()) == whole
        assert (home / "mlops-workshop" / "README.md").read_text() == text
        (home / "mlops-workshop" / "README.md").write_text("the learner's notes\n")


def test_the_clusters_certificates_are_used_where_there_are_any(tmp_path: Path) -> None:
    _, without = started(tmp_path / "without")
    assert not set(CERTIFICATE_VARIABLES) & set(without)
    _, variables = started(tmp_path / "with", {"SSL_CERT_FILE": "/my/own.pem"}, bundle=True)
    expected = dict.fromkeys(CERTIFICATE_VARIABLES, str(tmp_path / "with" / "ca-bundle.crt"))
    assert {name: variables[name] for name in CERTIFICATE_VARIABLES} == {**expected, "SSL_CERT_FILE": "/my/own.pem"}


def test_proxies_are_passed_on_and_never_asked_for_this_machine(tmp_path: Path) -> None:
    given = {"HTTP_PROXY": "http://p.example:1", "HTTPS_PROXY": "http://p.example:2", "NO_PROXY": ".svc"}
    _, variables = started(tmp_path, given)
    for name in PROXIES:
        assert variables[name] == variables[name.lower()]
    assert {name: variables[name] for name in PROXIES} == {**given, "NO_PROXY": "127.0.0.1,localhost,.svc"}
    _, without = started(tmp_path)
    assert "http_proxy" not in without and without["NO_PROXY"] == "127.0.0.1,localhost"


def test_the_entry_point_is_a_program_in_the_image() -> None:
    (entry,) = (json.loads(line) for line in arguments("workbench", "ENTRYPOINT"))
    assert entry == [f"/opt/workshop/{START.relative_to(ROOT)}"] and os.access(START, os.X_OK)
    overrides = Path(environment("workbench")["JUPYTER_CONFIG_PATH"]).relative_to("/opt/workshop")
    assert (ROOT / overrides / "labconfig" / "default_setting_overrides.json").is_file()


# ---- manifests


@functools.cache
def rendered() -> tuple[Document, ...]:
    skip_without_kubectl()
    return tuple(render(FOLDER / "manifests"))


def only(kind: str) -> Document:
    """The one document of its kind."""
    (found,) = (document for document in rendered() if document.kind == kind)
    return found


def notebook() -> tuple[Document, dict[str, Any], dict[str, Any]]:
    """The Notebook, its pod and its container."""
    document = only("Notebook")
    pod = document.get("spec.template.spec")
    (container,) = pod["containers"]
    return document, pod, container


def variables_of(container: dict[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container["env"]}


def amount(quantity: str) -> float:
    """A quantity of memory or storage in GiB."""
    assert quantity.endswith("Gi")
    return float(quantity.removesuffix("Gi"))


def test_nothing_is_wrong_with_the_manifests() -> None:
    assert [str(problem) for problem in problems(load(FOLDER / "manifests"))] == []
    assert {document.kind for document in rendered()} == {"ImageStream", "Notebook", "PersistentVolumeClaim"}
    assert [str(problem) for problem in problems(rendered())] == []


@pytest.mark.skipif(not VALIDATOR.is_file(), reason="the schemas of custom resources are not beside the checkout")
@pytest.mark.parametrize("place", ["files", "rendered"])
def test_custom_resources_fit_their_schemas(place: str, tmp_path: Path) -> None:
    target = FOLDER / "manifests"
    if place == "rendered":
        target = tmp_path / "rendered.yaml"
        target.write_text(yaml.safe_dump_all(document.body for document in rendered()), encoding="utf-8")
    done = subprocess.run([sys.executable, VALIDATOR, target], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_openshift_ai_lists_the_image_and_says_what_is_in_it() -> None:
    stream = only("ImageStream")
    labels, annotations = stream.get("metadata.labels"), stream.get("metadata.annotations")
    for label in ("opendatahub.io/notebook-image", "opendatahub.io/dashboard"):
        assert labels[label] == "true"
    assert labels["app.kubernetes.io/created-by"] == "byon"
    assert annotations["opendatahub.io/notebook-image-name"] and annotations["opendatahub.io/notebook-image-desc"]
    (tag,) = stream.get("spec.tags")
    assert tag["name"] == VERSION and f":{VERSION} " in CONTAINERFILE
    packages = json.loads(tag["annotations"]["opendatahub.io/notebook-python-dependencies"])
    assert {"JupyterLab", "scikit-learn"} <= {package["name"] for package in packages}
    for package in packages:
        assert f"{PINS[package['name'].lower()]}.".startswith(f"{package['version']}."), package
    (python,) = json.loads(tag["annotations"]["opendatahub.io/notebook-software"])
    assert python["name"] == "Python" and f"python{python['version']} -m venv" in CONTAINERFILE


def test_the_notebook_runs_that_image_in_its_own_project() -> None:
    document, _, container = notebook()
    stream, project = only("ImageStream"), document.get("metadata.namespace")
    assert {one.get("metadata.namespace") for one in rendered()} == {project}
    registry, owner, selection = container["image"].split("/")
    assert registry == "image-registry.openshift-image-registry.svc:5000" and owner == project
    annotations = document.get("metadata.annotations")
    assert annotations["notebooks.opendatahub.io/last-image-selection"] == selection == f"{stream.name}:{VERSION}"
    assert annotations["opendatahub.io/workbench-image-namespace"] == project
    assert variables_of(container)["JUPYTER_IMAGE"] == selection
    # The dashboard changes these two by their number when somebody edits the workbench.
    assert [variable["name"] for variable in container["env"]][:2] == ["NOTEBOOK_ARGS", "JUPYTER_IMAGE"]


def test_another_project_is_written_in_one_file_only(tmp_path: Path) -> None:
    skip_without_kubectl()
    shutil.copytree(FOLDER / "manifests", tmp_path / "manifests")
    file = tmp_path / "manifests" / "kustomization.yaml"
    old = only("Notebook").get("metadata.namespace")
    file.write_text(file.read_text(encoding="utf-8").replace(old, "my-project"), encoding="utf-8")
    assert [path for one in render(file.parent) for path, value in walk(one.body) if old in str(value)] == []


def test_the_login_stands_in_front_of_the_notebook() -> None:
    document, _, container = notebook()
    annotations = document.get("metadata.annotations")
    for name in ("inject-oauth", "inject-auth"):  # OpenShift AI 2 and 3
        assert annotations[f"notebooks.opendatahub.io/{name}"] == "true"
    assert container["name"] == document.name  # by which the controllers find it


def test_notebook_and_image_meet_at_port_and_path(tmp_path: Path) -> None:
    document, _, container = notebook()
    path = f"/notebook/{document.get('metadata.namespace')}/{document.name}"
    given = {
        "NOTEBOOK_ARGS": variables_of(container)["NOTEBOOK_ARGS"],
        "NB_PREFIX": path,
    }  # which the controller sets so
    words, _ = started(tmp_path, given)
    app = as_jupyter_reads(words)
    (port,) = container["ports"]
    assert [int(exposed) for exposed in arguments("workbench", "EXPOSE")] == [port["containerPort"]] == [app.port]
    assert app.base_url == f"{path}/" and app.config.ServerApp.token == ""
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": f"{path}/api", "port": port["name"]}


def test_the_volume_is_the_image_s_home() -> None:
    _, pod, container = notebook()
    claim = only("PersistentVolumeClaim")
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert volumes[mounts[HOME]["name"]]["persistentVolumeClaim"] == {"claimName": claim.name}
    assert environment("workbench")["HOME"] == container["workingDir"] == HOME
    assert arguments("workbench", "WORKDIR") == [HOME]
    assert amount(claim.get("spec.resources.requests.storage")) == 20 > doctor.MIN_FREE_GIB


def test_the_clusters_certificates_are_mounted_where_the_start_looks() -> None:
    _, pod, container = notebook()
    (mount,) = (mount for mount in container["volumeMounts"] if mount["mountPath"] != HOME)
    (volume,) = (volume["configMap"] for volume in pod["volumes"] if volume["name"] == mount["name"])
    (item,) = volume["items"]
    assert mount["name"] == "trusted-ca" and mount["readOnly"] is True  # the name that the controller replaces
    assert f"{mount['mountPath']}/{item['path']}" == BUNDLE
    # Without that map the pod starts all the same: a subPath of nothing would be a folder in the place of the file.
    assert volume["optional"] is True and "subPath" not in mount


def test_the_notebook_gets_what_the_doctor_asks_for() -> None:
    _, _, container = notebook()
    resources = container["resources"]
    assert amount(resources["requests"]["memory"]) >= doctor.MIN_MEMORY_GIB
    assert int(resources["requests"]["cpu"]) >= doctor.MIN_CORES
    assert resources["requests"] == resources["limits"] == {"cpu": "2", "memory": "8Gi"}
    assert variables_of(container)["OMP_NUM_THREADS"] == resources["limits"]["cpu"]


def test_the_pod_has_no_user_of_its_own_and_no_more_rights_than_it_needs() -> None:
    document, pod, container = notebook()
    keys = {path.rpartition(".")[2] for path, _ in walk(document.body)}
    assert "securityContext" in keys and not {"runAsUser", "runAsGroup", "fsGroup"} & keys
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert pod["enableServiceLinks"] is False


def test_settings_and_proxies_come_from_a_secret_that_may_be_missing() -> None:
    _, _, container = notebook()
    (example,) = load(FOLDER / "manifests" / "secrets")
    assert container["envFrom"] == [{"secretRef": {"name": example.name, "optional": True}}]
    names, known = set(example.body["stringData"]), {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert {name for name in names if name.startswith(PREFIX)} <= known
    assert set(PROXIES) <= names and any(name.startswith(PREFIX) for name in names)
    for name, value in example.body["stringData"].items():
        if name.endswith(("KEY", "TOKEN", "PASSWORD")):
            assert value == "replace-me"
