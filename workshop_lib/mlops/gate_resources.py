"""The gate *resources*, and the server that it shares with two others: what does a version take while it serves?

The package is served as it would be on a stage (:class:`workshop_lib.mlops.package_server.PackagedForecaster`), in a
process of its own, and gets the load of the limits' part ``traffic``. Memory and processor time are that process's.

A server imports for seconds before it does anything. Whoever compares several packages would wait for that each time,
so the processes here are forked from one that has done its imports (Python's *forkserver*).
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from workshop_lib.files import sha256
from workshop_lib.mlops.gate_config import Gates, Traffic
from workshop_lib.mlops.gate_result import Finding, GateResult, Measurement, judged
from workshop_lib.mlops.gates import Subject
from workshop_lib.ports import HOST, free_port
from workshop_lib.processes import ServiceError
from workshop_lib.serving.forecaster_client import NAME, v2_body
from workshop_lib.serving.load import Load, LoadError, measure
from workshop_lib.serving.load_target import Target
from workshop_lib.settings import settings

SERVED = ("forecaster.onnx", "model.xml", "model.bin", "forecaster.json")
"""The files of a package that a server loads: two packages that have the same ones serve alike."""
_START_SECONDS, _STOP_SECONDS, _WARM_UP_SECONDS = 120, 15, 0.5
_TRIES = 3
_MEASURED: dict[str, Served] = {}
_WORKERS = multiprocessing.get_context("forkserver")
_WORKERS.set_forkserver_preload(["workshop_lib.mlops.gate_worker"])


@dataclass(frozen=True)
class Served:
    """How a package served."""

    load: Load | None
    """None when it did not serve."""
    answers: dict[str, int]
    """HTTP status for each kind of input that no forecast can be made from."""
    others: float = 0
    """Processor cores that other programs took meanwhile; with few left, waiting times say little."""
    why: str = ""
    """Why it did not serve."""

    @property
    def p95_seconds(self) -> float:
        """95% of the answers came within; NaN when it did not serve."""
        return self.load.ms["P95"] / 1000 if self.load else math.nan

    @property
    def crowded(self) -> bool:
        """Whether other programs took more than half of the machine."""
        return self.others > psutil.cpu_count() / 2

    @property
    def findings(self) -> list[Finding]:
        """That it did not serve, and requests that failed."""
        if self.load is None:
            return [Finding("critical", "server", f"it does not serve: {self.why}")]
        failed = self.load.failed
        text = f"{failed} of {self.load.requests} requests failed at the load"
        return [Finding("critical", "server", text)] if failed else []


def serve(package: Path, limits: Gates) -> Served:
    """Serve a package, put the load on it, and ask it for impossible things; measured once per process.

    A waiting time that is too long may be a hiccup of the machine: the load is tried again, and the best try counts.

    Args:
        package: its folder.
        limits: the load, and which waiting time is too long.
    """
    parts = [sha256(package / name) for name in SERVED if (package / name).is_file()]
    parts += [limits.traffic.model_dump_json(), limits.performance.model_dump_json()]
    key = hashlib.sha256(" ".join(parts).encode()).hexdigest()
    if key not in _MEASURED:
        try:
            with server(package) as (url, pid):
                for _ in range(_TRIES):
                    tried = _under_load(url, pid, package, limits.traffic)
                    best = _MEASURED.get(key, tried)
                    _MEASURED[key] = min(best, tried, key=lambda one: one.p95_seconds)
                    if tried.p95_seconds <= limits.performance.p95_seconds:
                        break
                _MEASURED[key] = replace(_MEASURED[key], answers=_ask_the_impossible(url, package))
        except (ServiceError, LoadError, httpx.HTTPError) as error:
            _MEASURED[key] = Served(None, {}, why=str(error))
    return _MEASURED[key]


def _under_load(url: str, pid: int, package: Path, traffic: Traffic) -> Served:
    target = Target(f"{url}/v2/models/{NAME}/infer", [json.dumps(v2_body(np.ones((1, _width(package)))))])
    psutil.cpu_percent()  # from here on
    load = measure(target, rate=traffic.requests_per_second, seconds=traffic.seconds, warm_up=_WARM_UP_SECONDS, pid=pid)
    busy = psutil.cpu_percent() / 100 * psutil.cpu_count()
    return Served(load, {}, others=busy - load.server.cpu_seconds / load.seconds - load.sender_cores)


@contextmanager
def server(package: Path) -> Iterator[tuple[str, int]]:
    """The address and the process of a server of the package, for as long as the block lasts.

    Raises:
        ServiceError: when it does not become ready, with the last line that it wrote.
    """
    port, log = free_port(), settings.logs_dir / f"gate-{os.getpid()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    process = _WORKERS.Process(target=_serve, args=(package, port, free_port(), log), daemon=True)
    process.start()
    try:
        _wait(process, f"http://{HOST}:{port}", log)
        assert process.pid is not None  # it has been started
        yield f"http://{HOST}:{port}", process.pid
    finally:
        process.terminate()
        process.join(_STOP_SECONDS)
        process.kill()
        log.unlink(missing_ok=True)


def _serve(*arguments: Any) -> None:
    from workshop_lib.mlops import gate_worker  # only the forked processes have imported it

    gate_worker.run(*arguments)


def _wait(process: BaseProcess, url: str, log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    with httpx.Client(base_url=url, timeout=2) as client:
        while process.is_alive() and time.monotonic() < until:
            try:
                if client.get("/v2/health/ready").status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.1)
    lines = log.read_text(encoding="utf-8").strip().splitlines() if log.exists() else []
    raise ServiceError((lines or ["no word from its process"])[-1])


def _ask_the_impossible(url: str, package: Path) -> dict[str, int]:
    """The HTTP status of requests that no number may be the answer to."""
    width = _width(package)
    whole = json.dumps(v2_body(np.ones((1, width))))
    bodies = {
        "a value is missing (null)": whole.replace("[1.0", "[null"),
        "a value is no number (NaN)": whole.replace("[1.0", "[NaN"),
        "a value is text": whole.replace("[1.0", '["many"'),
        "a value is too large (1e39)": whole.replace("[1.0", "[1e39"),
        "a column is missing": json.dumps(v2_body(np.ones((1, width - 1)))),
    }
    headers = {"Content-Type": "application/json"}
    with httpx.Client(base_url=url, headers=headers, timeout=10) as client:
        path = f"/v2/models/{NAME}/infer"
        return {kind: client.post(path, content=body).status_code for kind, body in bodies.items()}


def _width(package: Path) -> int:
    return len(json.loads((package / "forecaster.json").read_text(encoding="utf-8"))["features"])


def judge(subject: Subject, limits: Gates) -> GateResult:
    """The gate: memory and processor of the server's process at the load."""
    served = serve(subject.package, limits)
    load, allowed = served.load, limits.resources
    measurements = (
        []
        if load is None
        else [
            Measurement("memory", load.server.memory_mib / 1024, "<=", allowed.memory_gib, "GiB"),
            Measurement("processor", load.server.cpu_seconds / load.seconds, "<=", allowed.cores, "cores"),
        ]
    )
    advice = [
        "Look at what the model holds in memory and computes per request: fewer or shallower trees, a smaller table,"
        " INT8 (module 5). If it needs as much, raise the limit here and the pod's on the cluster, in one change."
    ]
    return judged("resources", measurements, served.findings, advice)
