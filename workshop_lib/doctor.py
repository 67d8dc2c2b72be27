"""Checks of the machine and the environment, each with what to do when it is not well."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

import httpx
import psutil
from joblib import cpu_count

from workshop_lib import processes, services
from workshop_lib.checkpoints import machine
from workshop_lib.settings import BOOTSTRAP_VARIABLES, PREFIX, ROOT, Settings, settings
from workshop_lib.thresholds import Thresholds

MIN_CORES = 2
MIN_MEMORY_GIB = 7.0
"""An 8 GB laptop reports a little less than 8 GiB."""
MIN_FREE_GIB = 3.0
"""Room that the course's own products need."""
MEMORY_GIB = {
    "1-predictive": 2.7, "2-generative": 3.4, "3-serving": 6.1, "4-langchain": 6.5, "5-monitoring-optimization": 8.5,
    "6-advanced-mlops": 8.3,
}  # fmt: skip
"""The most memory in use while ./workshop run executed a module, beyond what was in use before: measured on two cores
with 24 GiB. It counts services that earlier notebooks had left running, and two language models side by side; where
memory is short, ./workshop run stops the former and the latter take turns."""
PRODUCTS_GIB = 0.8
"""Measured: all that the course had generated after every notebook."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    found: str
    verdict: str
    """``ok``, ``note`` (the course runs without it) or ``problem``."""
    advice: str = ""


def examine() -> list[Finding]:
    """Run every check."""
    checks: list[Callable[[], list[Finding]]] = [
        _machine, _memory, _memory_budget, _disk, _packages, _variables, _ports, _endpoints, _gpu, _cluster, _alerting,
    ]  # fmt: skip
    return [finding for check in checks for finding in check()]


def _machine() -> list[Finding]:
    cores = cpu_count()
    advice = "" if cores >= MIN_CORES else f"The course is timed on {MIN_CORES} cores; everything takes longer."
    return [Finding("machine", f"{machine()}; {cores} usable cores", "ok" if not advice else "note", advice)]


def _memory() -> list[Finding]:
    memory = psutil.virtual_memory()
    total, free = memory.total / 2**30, memory.available / 2**30
    enough = total >= MIN_MEMORY_GIB and free >= MIN_MEMORY_GIB / 2
    return [
        Finding(
            "memory",
            f"{free:.1f} of {total:.1f} GiB free",
            "ok" if enough else "problem",
            "" if enough else f"Close other programs: {MIN_MEMORY_GIB / 2:.1f} GiB should be free, 8 GB installed.",
        )
    ]


def _memory_budget() -> list[Finding]:
    free = psutil.virtual_memory().available / 2**30
    large = [module for module, needed in MEMORY_GIB.items() if needed > free]
    advice = ""
    if large:
        advice = f"More than is free: {', '.join(large)}. Call ./workshop down before a notebook, close other programs."
    needs = ", ".join(f"{module[0]}: {needed:.1f}" for module, needed in MEMORY_GIB.items())
    return [Finding("memory by module", f"GiB at most, with all services: {needs}", "note" if large else "ok", advice)]


def _disk() -> list[Finding]:
    folder = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    free = shutil.disk_usage(folder).free / 2**30
    writable = folder.is_dir() and os.access(folder, os.W_OK)
    advice = ""
    if not writable:
        advice = f"{folder} cannot be written. Set WORKSHOP_HOME to a folder that can."
    elif free < MIN_FREE_GIB:
        advice = f"Free {MIN_FREE_GIB - free:.1f} GiB, or set WORKSHOP_HOME to a folder on another disk."
    used = f"{free:.0f} GiB free for {settings.home}; a whole course makes {PRODUCTS_GIB:.1f} GiB"
    return [Finding("disk", used, "problem" if advice else "ok", advice)]


def _packages() -> list[Finding]:
    pins = dict(
        line.split("==", 1) for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").split() if "==" in line
    )
    installed = {
        re.sub(r"[-_.]+", "-", str(package.metadata["Name"])).lower(): package.version
        for package in metadata.distributions()
    }
    wrong = [name for name, version in pins.items() if installed.get(name) != version]
    if not wrong:
        return [Finding("packages", f"{len(pins)} of {len(pins)} as locked", "ok")]
    named = ", ".join(f"{name} {installed.get(name, 'missing')}" for name in wrong[:4])
    found = f"{len(pins) - len(wrong)} of {len(pins)} as locked ({named})"
    return [Finding("packages", found, "problem", "Delete .venv and call ./workshop again.")]


def _variables() -> list[Finding]:
    given = sorted(name for name in os.environ if name.startswith(PREFIX))
    fields = {PREFIX + name.upper() for name in Settings.model_fields} | BOOTSTRAP_VARIABLES
    nested = {f"{PREFIX}THRESHOLDS__{name.upper()}" for name in Thresholds.model_fields}
    unknown = [name for name in given if name.upper() not in fields | nested]
    if unknown:
        advice = f"Not read by the course; misspelled? Known: {', '.join(sorted(fields))}."
        return [Finding("settings", ", ".join(unknown), "problem", advice)]
    return [Finding("settings", ", ".join(given) or "defaults", "ok")]


def _ports() -> list[Finding]:
    findings = []
    for service in services.services():
        state = processes.status(service).state
        taken = state == "port taken"
        advice = f"Stop that program or set WORKSHOP_{service.name.upper()}_PORT." if taken else ""
        found = f"port {service.port}: used by another program" if taken else f"port {service.port}: {state}"
        findings.append(Finding(f"service {service.name}", found, "problem" if taken else "ok", advice))
    return findings


def _endpoints() -> list[Finding]:
    findings = []
    tracking = settings.mlflow_uri if settings.mlflow_uri and settings.mlflow_uri.startswith("http") else None
    for name, field, url, health in (
        ("MLflow server", "mlflow_uri", tracking, "/health"),
        ("forecaster", "forecaster_endpoint", settings.forecaster_endpoint, "/v2/health/ready"),
        ("business API", "api_endpoint", settings.api_endpoint, "/health/ready"),
    ):
        if url:
            answers = _answers(url.rstrip("/") + health)
            advice = "" if answers else f"Check WORKSHOP_{field.upper()} and whether the server runs."
            found = f"{url} answers" if answers else f"{url} does not answer"
            findings.append(Finding(name, found, "ok" if answers else "problem", advice))
    if settings.llm_endpoint:
        findings.append(_language_model())
    if settings.ray_address:
        findings.append(Finding("Ray cluster", settings.ray_address, "note", "Used when a search starts."))
    return findings


def _language_model() -> Finding:
    from workshop_lib.generative.client import LLMError, connect

    try:
        return Finding("language model", f"{connect().model} at {settings.llm_endpoint} answers", "ok")
    except LLMError as error:
        return Finding("language model", f"{settings.llm_endpoint} is of no use", "problem", str(error))


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False


def _gpu() -> list[Finding]:
    listed = _first_line(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"])
    if listed:
        return [Finding("GPU", listed, "ok")]
    return [Finding("GPU", "none", "note", "None is needed: every model of the course runs on the CPU.")]


def _cluster() -> list[Finding]:
    user, server = _first_line(["oc", "whoami"]), _first_line(["oc", "whoami", "--show-server"])
    if user:
        return [Finding("OpenShift", f"{user} at {server}", "ok")]
    return [Finding("OpenShift", "not logged in", "note", "Only needed for the cluster steps: oc login.")]


def _alerting() -> list[Finding]:
    from workshop_lib.monitoring.prometheus import tools

    missing = sorted(name for name, path in tools().items() if path is None)
    if not missing:
        return [Finding("Prometheus", "it and Alertmanager are installed", "ok")]
    advice = (
        "Only the notebooks on alerts (module 5) and on canaries (module 6) need them:"
        " sudo apt install prometheus prometheus-alertmanager."
    )
    return [Finding("Prometheus", f"missing: {', '.join(missing)}", "note", advice)]


def _first_line(command: list[str]) -> str:
    """The first line that a program prints; empty when it is missing or fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (subprocess.SubprocessError, OSError):
        return ""
    return next(iter(done.stdout.strip().splitlines()), "")
