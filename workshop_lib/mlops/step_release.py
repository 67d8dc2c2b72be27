"""The pipeline's tasks around a release: scan, deploy, test, deploy to production, and go back."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import httpx

from workshop_lib.files import write_text
from workshop_lib.mlops import deployments, gitops, packages
from workshop_lib.mlops.deployments import PRODUCTION, STAGING, DeploymentError
from workshop_lib.mlops.packages import Package
from workshop_lib.mlops.step_model import golden_file
from workshop_lib.mlops.steps import Results, StepFailed
from workshop_lib.settings import settings

GATES = "gates"
"""Folder of the workspace for the report of the quality gates."""
CARD = "model-card.json"
TESTS = "tests.json"
WAIT_SECONDS = 300
"""How long a stage on a cluster may take to serve what the repository says."""


def security_scan(workspace: Path, model: str, version: str) -> Results:
    """Ask the gate ``security`` about the package: scans of files, code and environment, and the signature.

    Args:
        workspace: folder that the run's tasks share.
        model: its name in the registry.
        version: of the package.

    Raises:
        StepFailed: when the gate says no. A question that stays open goes to the approver.
    """
    from workshop_lib.mlops.gates import Subject, run_gates

    report = run_gates(Subject(packages.find(version, model).folder), only=["security"])
    report.write(workspace / GATES)
    gate = report.gate("security")
    if report.status == "failed":
        raise StepFailed(f"the gate security has failed. {gate.recommendation}")
    score = next(one.value for one in gate.measurements if "score" in one.name)
    return {"score": f"{score:.1f}", "status": report.status}


def deploy_staging(
    workspace: Path, model: str, version: str, state_repository: str, url: str = "", max_rows: int = 10_000
) -> Results:
    """Let staging serve the package.

    Args:
        workspace: folder that the run's tasks share.
        model: its name in the registry.
        version: of the package.
        state_repository: says what each stage shall serve.
        url: of the stage on a cluster; empty on this machine.
        max_rows: most rows in one request there.
    """
    package = packages.find(version, model)
    options = {"WORKSHOP_FORECASTER_MAX_ROWS": str(max_rows)}
    return _deploy(STAGING, package, state_repository, url, "scanned", options)


def integration_tests(workspace: Path, model: str, version: str, url: str, author: str) -> Results:
    """Ask staging over HTTP what the shop will ask production, and hand the version in for approval if it answers well.

    Args:
        workspace: folder that the run's tasks share.
        model: its name in the registry.
        version: of the package.
        url: of staging.
        author: who hands it in.

    Raises:
        StepFailed: naming the tests that failed.
    """
    package = packages.find(version, model)
    golden = json.loads(golden_file(package).read_text(encoding="utf-8"))
    found = {name: test(url, package, golden) for name, test in _TESTS.items()}
    write_text(workspace / TESTS, json.dumps(found, indent=1))
    failed = {name: said for name, said in found.items() if said}
    if failed:
        raise StepFailed("; ".join(f"{name}: {said}" for name, said in failed.items()))
    _hand_in(workspace, package, author)
    return {"passed": str(len(found))}


def deploy_production(workspace: Path, model: str, version: str, state_repository: str, url: str = "") -> Results:
    """Let production serve the package, if it was approved.

    Args:
        workspace: folder that the run's tasks share.
        model: its name in the registry.
        version: of the package.
        state_repository: says what each stage shall serve.
        url: of the stage on a cluster; empty on this machine.

    Raises:
        StepFailed: when nobody approved it, or it does not serve; production and the repository are then as before.
    """
    return _deploy(PRODUCTION, packages.find(version, model), state_repository, url, "tested and approved")


def rollback(stage: str, state_repository: str, url: str = "") -> Results:
    """Let a stage serve again what it served before the last change.

    Args:
        stage: which one.
        state_repository: says what each stage shall serve.
        url: of the stage on a cluster; empty on this machine.
    """
    commit = gitops.revert(state_repository, stage, actor="pipeline", reason="integration tests failed")
    package = gitops.desired(state_repository, stage)
    _settle(stage, package, state_repository, url)
    return {"serves": str(package or "nothing"), "commit": commit}


def _deploy(
    stage: str, package: Package, repository: str, url: str, reason: str, options: dict[str, str] | None = None
) -> Results:
    from workshop_lib.mlops.approvals import NotApproved

    try:
        gitops.propose(repository, stage, package, actor="pipeline", reason=reason, options=options)
    except NotApproved as error:
        raise StepFailed(str(error)) from None
    try:
        return {"url": _settle(stage, package, repository, url)}
    except DeploymentError as error:
        gitops.revert(repository, stage, actor="pipeline", reason="it does not serve")
        raise StepFailed(str(error)) from None


def _settle(stage: str, package: Package | None, repository: str, url: str) -> str:
    """Wait until a stage serves what the repository says; on this machine, make it so. Returns its address."""
    if not url:
        gitops.reconcile(repository, stage, actor="pipeline")
        running = deployments.current(stage)
        return running.url if running else ""
    end = time.monotonic() + WAIT_SECONDS
    while package is not None and _served(url) != package.about["registry_version"]:
        if time.monotonic() > end:
            raise DeploymentError(f"{stage} does not serve {package} after {WAIT_SECONDS} s.")
        time.sleep(2)
    return url


def _served(url: str) -> str:
    """The version that a server says it has; empty while it does not answer."""
    try:
        about = httpx.get(f"{url}/v2/models/{deployments.MODEL}", timeout=5)
        return str((about.json()["versions"] or [""])[-1]) if about.status_code == 200 else ""
    except (httpx.HTTPError, ValueError, LookupError):
        return ""


def _hand_in(workspace: Path, package: Package, author: str) -> None:
    """Hand a version in for approval with its evidence; one that was handed in before stays where it is."""
    from workshop_lib.mlops import approvals
    from workshop_lib.mlops.gate_result import JSON_FILE
    from workshop_lib.mlops.model_card import model_card

    if approvals.state(package.name, package.version) not in ("draft", "rejected"):
        return
    # Kept with the packages: the workspace goes with its run, and the evidence has to stay as long as the version.
    folder = settings.home / "mlops" / "evidence" / package.folder.name
    shutil.copytree(workspace / GATES, folder, dirs_exist_ok=True)
    card = model_card(deployments.MODEL, package=package, report=folder / JSON_FILE)
    body = {"title": card.title, "version": card.version, "facts": [vars(fact) for fact in card.facts]}
    write_text(folder / CARD, json.dumps(body, indent=1))
    evidence = {
        "gate_report": folder / JSON_FILE,
        "signature": package.folder / packages.SIGNATURE,
        "model_card": folder / CARD,
    }
    approvals.submit(package.name, package.version, author, evidence, reason="passed the pipeline")


# The integration tests: each returns what is wrong, or nothing.


def _answers_as_packaged(url: str, package: Package, golden: dict[str, Any]) -> str:
    """All categories of a day in one request, as the shop asks every evening."""
    answer = deployments.infer(url, golden["rows"])
    if answer.status_code != 200:
        return f"{len(golden['rows'])} rows in one request are answered with {answer.status_code}, {answer.text[:120]}"
    units = answer.json()["outputs"][0]["data"]
    pairs = zip(units, golden["units"], strict=True)
    gap = max(abs(got - expected) / max(abs(expected), 1) for got, expected in pairs)
    return f"forecasts differ by up to {gap:.2g}" if gap > settings.thresholds.endpoint_difference else ""


def _right_version(url: str, package: Package, golden: dict[str, Any]) -> str:
    answer = deployments.infer(url, golden["rows"][:1])
    said = answer.json().get("model_version")
    return "" if said == package.about["registry_version"] else f"it answers as version {said}"


def _refuses_nonsense(url: str, package: Package, golden: dict[str, Any]) -> str:
    status = deployments.infer(url, [golden["rows"][0][:-1]]).status_code
    return "" if status == 400 else f"a row with a feature too few is answered with {status}"


def _tells_metrics(url: str, package: Package, golden: dict[str, Any]) -> str:
    told = httpx.get(f"{url}/metrics", timeout=5).text
    return "" if "http_requests_total" in told else "nothing for Prometheus at /metrics"


_TESTS = {
    "all categories in one request": _answers_as_packaged,
    "version in the answer": _right_version,
    "nonsense is refused": _refuses_nonsense,
    "metrics": _tells_metrics,
}
