"""Local services: started once in the background, found again by every notebook and command.

A service that runs is known by a small file with its process number; its log is one file. Everything
listens on loopback only.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from tqdm.auto import tqdm

from workshop_lib.files import locked, write_text
from workshop_lib.ports import HOST
from workshop_lib.settings import settings


class ServiceError(RuntimeError):
    """A local service cannot be started or reached; the message says why and what to do."""


@dataclass(frozen=True)
class Service:
    """What it takes to start a service and to know that it is well."""

    name: str
    port: int
    command: tuple[str, ...]
    health: str
    """Path that answers 200 when the service is ready."""
    seconds: float = 120
    """How long a start may take."""
    env: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[], dict[str, str]] | None = None
    """Makes what the service needs to find, once; returns variables that are known only then."""
    memory_gib: float = 0
    """Memory that it takes when it runs, GiB."""
    is_ready: Callable[[int], bool] | None = None
    """Asked with the port instead of ``health``, where a service does not speak HTTP."""
    scheme: str = "http"
    """What its address begins with."""

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"{self.scheme}://{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        """Its output."""
        return settings.logs_dir / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        """Its process number and start time."""
        return settings.home / "services" / f"{self.name}.json"


@dataclass(frozen=True)
class Status:
    """How a service is doing."""

    name: str
    state: str
    """``healthy``, ``starting`` (runs, does not answer yet), ``stopped`` or ``port taken``."""
    url: str
    pid: int | None
    log: Path
    start_seconds: float | None = None
    """How long its start took until it was healthy; None when that was not seen."""


def start(service: Service, waiting: Callable[[float], None] = lambda seconds: None) -> Status:
    """Start a service unless it runs, and wait until it is healthy.

    Args:
        service: what to start.
        waiting: called about four times a second with the seconds waited so far.

    Raises:
        ServiceError: when the port is taken, memory is short, the process ends early or never becomes healthy.
    """
    with locked(service.pid_file):  # of two notebooks that need it at once, one starts it
        now = status(service)
        if now.state == "healthy":
            return now
        if now.state == "port taken":
            raise ServiceError(
                f"{service.name}: port {service.port} is in use by another program. Stop it, or set"
                f" WORKSHOP_{service.name.upper()}_PORT to a free port."
            )
        found = _running(service)
        process = found or _spawn(service)
    begun = time.monotonic()
    while time.monotonic() - begun < service.seconds:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            if found:  # it was not starting but ending
                return start(service, waiting)
            raise ServiceError(f"{service.name} ended while it started. {_last_words(service)}")
        if _healthy(service):
            if not found:
                _note(service, process, time.monotonic() - begun)
            return status(service)
        waiting(time.monotonic() - begun)
        time.sleep(0.25)
    stop(service)
    raise ServiceError(f"{service.name} was not ready after {service.seconds:.0f} s. {_last_words(service)}")


def start_with_progress(service: Service) -> Status:
    """Start a service as :func:`start` does, showing the seconds that it takes."""
    bar: tqdm | None = None

    def waiting(seconds: float) -> None:
        nonlocal bar
        # Made at the first wait: what a service prepares before it starts has a bar of its own.
        if bar is None:
            bar = tqdm(bar_format="{desc}", leave=False, mininterval=1, disable=not settings.progress, file=sys.stderr)
        bar.set_description_str(f"Starting {service.name}: {seconds:.0f} s")

    try:
        return start(service, waiting)
    finally:
        if bar is not None:
            bar.close()


def stop(service: Service, seconds: float = 10) -> bool:
    """Stop a service and its children; politely first.

    Returns:
        Whether there was something to stop.
    """
    family = _family(service)
    service.pid_file.unlink(missing_ok=True)
    for member in family:
        _signal(member.terminate)
    _, alive = psutil.wait_procs(family, timeout=seconds)
    for member in alive:
        _signal(member.kill)
    psutil.wait_procs(alive, timeout=seconds)
    return bool(family)


def status(service: Service) -> Status:
    """Look at a service now."""
    process = _running(service)
    if process is not None:
        state = "healthy" if _healthy(service) else "starting"
    else:
        state = "port taken" if port_in_use(service.port) else "stopped"
    if process is None:
        return Status(service.name, state, service.url, None, service.log)
    return Status(service.name, state, service.url, process.pid, service.log, _noted(service).get("start_seconds"))


def port_in_use(port: int) -> bool:
    """Whether something listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def _spawn(service: Service) -> psutil.Process:
    stop(service)  # what is left of one that was killed: its children may still hold memory and ports
    more = service.prepare() if service.prepare else {}
    free = psutil.virtual_memory().available / 2**30
    if free < service.memory_gib:
        raise ServiceError(
            f"{service.name} needs {service.memory_gib:.1f} GiB of memory, {free:.1f} GiB are free. Close other"
            " programs and notebooks' kernels, then start it again."
        )
    service.log.parent.mkdir(parents=True, exist_ok=True)
    with service.log.open("w") as log:
        child = subprocess.Popen(
            service.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | service.env | more,
            start_new_session=True,  # outlives the notebook or command that needed it first
        )
    process = psutil.Process(child.pid)
    _note(service, process)
    return process


def _note(service: Service, process: psutil.Process, start_seconds: float | None = None) -> None:
    known = {"pid": process.pid, "started": process.create_time(), "start_seconds": start_seconds}
    write_text(service.pid_file, json.dumps(known))


def _noted(service: Service) -> dict[str, Any]:
    """What is known of the process that was started last; empty when there is nothing usable."""
    try:
        known = json.loads(service.pid_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _running(service: Service) -> psutil.Process | None:
    """The service's process, if the one in its file is still that one."""
    known = _noted(service)
    try:
        process = psutil.Process(known["pid"])
        same = abs(process.create_time() - known["started"]) < 1
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (TypeError, ValueError, KeyError, psutil.NoSuchProcess):
        return None


def _family(service: Service) -> list[psutil.Process]:
    """The service's process and all that it started, also when it is gone itself.

    It leads a session of its own, which its children belong to. The kernel gives its number to no other process
    as long as one of them lives.
    """
    leader = _noted(service).get("pid")
    if not isinstance(leader, int):
        return []
    if _running(service) is None and psutil.pid_exists(leader) and not _is_zombie(leader):
        return []  # the number belongs to somebody else by now
    return [process for process in psutil.process_iter() if _session(process.pid) == leader]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _healthy(service: Service) -> bool:
    if service.is_ready is not None:
        return service.is_ready(service.port)
    try:
        return httpx.get(service.url + service.health, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _signal(send: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):  # it may have ended by itself in the meantime
        send()


def log_lines(text: str, services: Sequence[Service], seconds: float = 10) -> list[dict[str, Any]]:
    """The lines with a text in the logs of services that write a JSON object per line, service by service.

    A server may write its line a moment after it has answered, so each service is given time to have one.

    Args:
        text: such as the number of a request.
        services: whose logs are read.
        seconds: longest wait for all of them.
    """
    until = time.monotonic() + seconds
    found: dict[str, list[dict[str, Any]]] = {}
    while len(found) < len(services):
        for service in services:
            log = service.log.read_text(encoding="utf-8", errors="replace") if service.log.exists() else ""
            whole = [line for line in log.splitlines(keepends=True) if text in line and line.endswith("\n")]
            if whole:
                found[service.name] = [json.loads(line) for line in whole]
        if time.monotonic() > until:
            break
        time.sleep(0.1)
    return [line for service in services for line in found.get(service.name, [])]


def _last_words(service: Service) -> str:
    try:
        lines = service.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
    except OSError:
        lines = []
    return f"Its log {service.log} ends with: {' | '.join(lines) or 'nothing'}"
