"""Two stages on this machine, staging and production, each a real server of one verified package.

    deploy("staging", packages.find("v1.2.0"))
    current("staging").url

A stage changes *blue-green*: the new server is started beside the old one and asked a question, and only then the
stage points to it and the old one stops. A start that fails leaves everything as it was. The address changes with each
server; the file of the stage says which one counts, as a Service does on a cluster. What was served before, and so
where a way back leads, stands in the repository (:func:`gitops.revert`).

Whatever reaches production was approved before: there is no way around :func:`approvals.require`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from workshop_lib import processes
from workshop_lib.files import locked, write_text
from workshop_lib.mlops import audit
from workshop_lib.ports import HOST, free_port
from workshop_lib.processes import Service, ServiceError
from workshop_lib.settings import settings

if TYPE_CHECKING:
    from workshop_lib.mlops.packages import Package

MODEL = "sales-forecaster"
"""The model's name in addresses: whichever package is served, its callers ask for the same model."""
STAGING, PRODUCTION = STAGES = ("staging", "production")


class DeploymentError(RuntimeError):
    """A stage cannot be changed or asked; it is as it was before. The message says why."""


@dataclass(frozen=True)
class Deployment:
    """A package that a stage serves."""

    stage: str
    name: str
    version: str
    """Of the package, such as ``v1.2.0``."""
    registry_version: str
    """Its number in the registry, which every answer of the server names."""
    folder: str
    """Where the package lies."""
    port: int
    at: str
    """Since when, UTC."""
    options: dict[str, str] = field(default_factory=dict)
    """Variables of the server's environment, such as ``WORKSHOP_FORECASTER_MAX_ROWS``."""

    @property
    def url(self) -> str:
        """Where it answers the Open Inference Protocol."""
        return f"http://{HOST}:{self.port}"

    @property
    def service(self) -> Service:
        """Its process."""
        return Service(
            name=f"{self.stage}-{self.port}",
            port=self.port,
            command=(
                sys.executable, "-m", "workshop_lib.mlops.package_server",
                *("--package", self.folder, "--http-port", str(self.port), "--grpc-port", str(free_port())),
            ),
            health="/v2/health/ready",
            env=self.options,
            memory_gib=1,
        )  # fmt: skip


def deploy(
    stage: str,
    package: Package,
    *,
    actor: str = "pipeline",
    reason: str = "released",
    options: Mapping[str, str] | None = None,
) -> Deployment:
    """Serve a package on a stage in place of what is there.

    Args:
        stage: one of :data:`STAGES`.
        package: what to serve; the server itself checks its signature and its checksums again.
        actor: who does it, for the audit trail.
        reason: and why.
        options: variables of the server's environment.

    Raises:
        NotApproved: for production, when nobody allowed it.
        DeploymentError: when the new server does not start, or does not answer as it should.
    """
    with locked(_file(stage)):
        return _switch(_read(stage), _planned(stage, package, options or {}), actor, reason)


def current(stage: str) -> Deployment | None:
    """What a stage serves now; None when nothing runs there."""
    last = _read(stage)
    return last if last and processes.status(last.service).pid is not None else None


def stop(stage: str, *, actor: str = "pipeline", reason: str = "stopped") -> None:
    """Stop a stage's server and forget what it served; the audit trail still knows."""
    if not _file(stage).exists():
        return
    with locked(_file(stage)):
        if last := _read(stage):
            audit.record("stop", f"{last.name} {last.version}", actor=actor, reason=reason, details={"stage": stage})
            _stop(last)
            _file(stage).unlink()


def stop_all() -> None:
    """Stop both stages."""
    for stage in STAGES:
        stop(stage)


def infer(url: str, rows: Sequence[Sequence[float]]) -> httpx.Response:
    """Ask a stage's server for forecasts: one request of the Open Inference Protocol.

    Nothing but HTTP is needed here, so a pipeline's step starts quickly; larger callers use
    :mod:`workshop_lib.serving.forecaster_client`.

    Args:
        url: of the server.
        rows: features in the model's order, one row per forecast.

    Raises:
        httpx.HTTPError: when there is no answer in time.
    """
    data = [float(value) for row in rows for value in row]
    tensor = {"name": "features", "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": data}
    address = f"{url}/v2/models/{MODEL}/infer"
    return httpx.post(address, json={"inputs": [tensor]}, timeout=settings.forecaster_timeout)


def _planned(stage: str, package: Package, options: Mapping[str, str]) -> Deployment:
    return Deployment(
        stage=stage,
        name=package.name,
        version=package.version,
        registry_version=str(package.about["registry_version"]),
        folder=str(package.folder),
        port=free_port(),
        at=_now(),
        options=dict(options),
    )


def _switch(old: Deployment | None, new: Deployment, actor: str, reason: str) -> Deployment:
    """Start ``new``, ask it, note it, and stop ``old``."""
    if new.stage == PRODUCTION:
        from workshop_lib.mlops import approvals

        approvals.require(new.name, new.version)
    with ExitStack() as undo:
        undo.callback(_stop, new)
        try:
            processes.start_with_progress(new.service)
            _check(new)
        except (ServiceError, httpx.HTTPError) as error:
            raise DeploymentError(
                f"{new.version} does not serve on {new.stage}, which stays as it was. {error}"
            ) from error
        details = {"stage": new.stage, "replaces": old.version if old else "", "options": new.options}
        audit.record("deploy", f"{new.name} {new.version}", actor=actor, reason=reason, details=details)
        write_text(_file(new.stage), json.dumps(asdict(new), indent=1))
        undo.pop_all()
    if old:
        _stop(old)
    return new


def _check(new: Deployment) -> None:
    """Ask the new server one question before it counts: right width, right version, a number in the answer."""
    about: dict[str, Any] = httpx.get(f"{new.url}/v2/models/{MODEL}", timeout=5).raise_for_status().json()
    width = about["inputs"][0]["shape"][1]
    answer = infer(new.url, [[1.0] * width]).raise_for_status().json()
    if answer["model_version"] != new.registry_version:
        said = f"it answers as version {answer['model_version']} and not {new.registry_version}"
        raise DeploymentError(f"{new.version} does not serve on {new.stage}, which stays as it was: {said}.")


def _stop(deployment: Deployment) -> None:
    service = deployment.service
    processes.stop(service)
    service.pid_file.with_suffix(".lock").unlink(missing_ok=True)


def _file(stage: str) -> Path:
    if stage not in STAGES:
        raise DeploymentError(f"There is no stage {stage!r}; there are {' and '.join(STAGES)}.")
    return settings.home / "mlops" / "deployments" / f"{stage}.json"


def _read(stage: str) -> Deployment | None:
    """What was deployed on a stage last; its server may have died since."""
    file = _file(stage)
    return Deployment(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
