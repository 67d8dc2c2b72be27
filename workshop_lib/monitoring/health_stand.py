"""An experiment with the monitor: a door before each service that can be told to misbehave, and a monitor behind it.

    stand = Stand()
    for fault in stand.faults():
        endured = stand.endure(fault)
        endured.detected, endured.recovered, endured.reason
    stand.close()

    monitor ──┬── proxy ── a second forecaster ── registry
              ├── proxy ── business API · language model · dashboard, the course's own
              └── a Valkey server and a database of the experiment

What is broken belongs to the experiment: nobody else uses the doors, the second forecaster, the Valkey server and the
database.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
from tqdm.auto import tqdm

from workshop_lib import processes
from workshop_lib.files import write_text
from workshop_lib.generative import client as llm_client
from workshop_lib.monitoring.config import load_config, with_health
from workshop_lib.monitoring.health_checks import Check, checks
from workshop_lib.monitoring.local import monitor_service
from workshop_lib.monitoring.slo_record import Record
from workshop_lib.orchestration.fault_stand import killed
from workshop_lib.orchestration.faults import Mode, Proxy, broken, broken_file
from workshop_lib.orchestration.local import dashboard_service
from workshop_lib.ports import HOST, free_port
from workshop_lib.processes import Service
from workshop_lib.serving import api_client
from workshop_lib.serving.local import cache_service, forecaster_service
from workshop_lib.settings import PREFIX, settings

LIMIT_SECONDS = 180.0
"""How long an experiment waits for something to be seen: longer than any target."""
_POLL_SECONDS = 0.1
_PATIENT = {"timeout_seconds": 20.0, "generation_timeout_seconds": 120.0}
"""A service that is merely slow, on a machine that is busy with the experiment, shall not look broken."""


@dataclass(frozen=True)
class Fault:
    """Something that can be broken."""

    service: str
    """Who is hit."""
    name: str
    broken: Callable[[], AbstractContextManager[None]]
    """Breaks it for the length of a block."""


@dataclass(frozen=True)
class Endured:
    """What became of a fault; times in seconds, NaN for what was not seen."""

    fault: Fault
    begun: float
    """When it was injected, seconds since 1970."""
    detected: float
    """Until the service counted as down."""
    recovered: float
    """From the end of the fault, or from the begin of a restart, until the service counted as well again."""
    down: float
    """Bad time that the record holds because of it."""
    cause: str
    reason: str


class Stand:
    """Services with doors before them, and a monitor that looks through these doors.

    Args:
        every: seconds between two checks of a service.
        texts_every: the same between two test generations.

    Raises:
        ServiceError: when a server cannot be started.
    """

    def __init__(self, every: float = 1.0, texts_every: float = 5.0) -> None:
        folder = settings.home / "monitoring" / "experiment"
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*"):
            old.unlink()
        rhythm = {"interval_seconds": every, "generation_interval_seconds": texts_every}
        self.config = with_health(load_config(), **rhythm, **_PATIENT)
        write_text(folder / "monitoring.yaml", json.dumps(self.config.model_dump(by_alias=True)))
        self._stack = ExitStack()
        self.forecaster = forecaster_service(name="forecaster-experiment", http_port=free_port(), grpc_port=free_port())
        self.cache = cache_service("cache-experiment", free_port())
        # It takes seconds, in which the others can start.
        starting = self._stack.enter_context(ThreadPoolExecutor(1)).submit(self._own, self.forecaster)
        self._own(self.cache)
        self.database = folder / "history.db"
        _make_database(self.database)
        llm, api = llm_client.connect(), api_client.connect()
        self._llm_key = str(llm.openai.api_key)
        dashboard = dashboard_service()
        processes.start_with_progress(dashboard)
        upstream = {
            "forecaster": (self.forecaster.url, None),
            "api": (api.url, None),
            "llm": (llm.url, settings.llm_ca_file),
            "dashboard": (dashboard.url, None),
        }
        self.doors = {name: self._stack.enter_context(Proxy(*about)) for name, about in upstream.items()}
        self.record = Record(folder / "uptime.db")
        env = {
            "MONITORING_CONFIG": str(folder / "monitoring.yaml"),
            "FORECASTER_ENDPOINT": self.doors["forecaster"].url,
            "API_ENDPOINT": self.doors["api"].url,
            "LLM_ENDPOINT": self.doors["llm"].url,
            "LLM_MODEL": llm.model,
            "LLM_API_KEY": self._llm_key,
            "DASHBOARD_PORT": str(self.doors["dashboard"].port),
            "CACHE_URL": f"redis://{HOST}:{self.cache.port}/0",
            "HISTORY_URL": f"sqlite:///{self.database}",
        }
        variables = {PREFIX + name: value for name, value in env.items()}
        self.monitor = monitor_service("monitor-experiment", free_port(), variables, self.record.path)
        self._own(self.monitor)
        starting.result()
        self._http = self._stack.enter_context(httpx.Client(base_url=self.monitor.url, timeout=10))

    def close(self) -> None:
        """Stop what belongs to the experiment."""
        self._stack.close()

    def checks(self, **limits: float) -> dict[str, Check]:
        """The monitor's checks, to be made here and now, through the same doors.

        Args:
            limits: other values of the configuration's part ``health``.
        """
        at = {name: door.url for name, door in self.doors.items()}
        at |= {"cache": f"redis://{HOST}:{self.cache.port}/0", "database": f"sqlite:///{self.database}"}
        return {check.service: check for check in checks(with_health(self.config, **limits), at)}

    def ask(self, path: str) -> httpx.Response:
        """Ask the monitor."""
        return self._http.get(path)

    def wait(self, service: str, *states: str) -> float:
        """Wait until the monitor sees a service in one of some states, and return how long it took, seconds.

        Returns:
            NaN when it did not happen within :data:`LIMIT_SECONDS`.
        """
        begun = time.monotonic()
        while time.monotonic() - begun < LIMIT_SECONDS:
            if self.about(service).get("state") in states:
                return time.monotonic() - begun
            time.sleep(_POLL_SECONDS)
        return float("nan")

    def wait_until_well(self) -> None:
        """Wait until all services are seen to be well, or as good as they are here."""
        for service in (*self.doors, "cache", "database"):
            self.wait(service, "ok", "degraded")

    def about(self, service: str) -> dict[str, Any]:
        """What the monitor tells about a service; nothing while it is away itself."""
        try:
            told: dict[str, Any] = self.ask("/health/services").json()["services"][service]
        except httpx.TransportError:
            return {}
        return told

    def table(self) -> pd.DataFrame:
        """What the monitor tells about all services, a row each."""
        told = pd.DataFrame(self.ask("/health/services").json()["services"]).T.rename_axis("service")
        return told[["state", "needed", "milliseconds", "reason"]]

    def faults(self) -> list[Fault]:
        """One fault or two for each service: it is away, or it answers wrongly."""
        wrong: Sequence[tuple[str, Mode]] = [
            ("forecaster", "thousandfold"), ("api", "dead"), ("llm", "invented"),
            ("dashboard", "no JSON"),
        ]  # fmt: skip
        return [
            Fault("forecaster", "killed", partial(killed, self.forecaster)),
            *(Fault(service, mode, partial(broken, self.doors[service], mode)) for service, mode in wrong),
            Fault("cache", "killed", partial(killed, self.cache)),
            Fault("database", "corrupt", partial(broken_file, self.database, "corrupt")),
        ]

    def endure(self, fault: Fault) -> Endured:
        """Inject a fault, wait until the monitor has seen it, end it, and wait until all is well again."""
        self.wait(fault.service, "ok", "degraded")
        before, begun = self._down(fault.service), time.time()
        with fault.broken():
            detected = self.wait(fault.service, "down")
            about = self.about(fault.service)
            ended = time.monotonic()
        restarted = time.monotonic() - ended
        recovered = restarted + self.wait(fault.service, "ok", "degraded")
        down = self._down(fault.service) - before
        return Endured(fault, begun, detected, recovered, down, str(about.get("cause")), str(about.get("reason")))

    def endure_all(self, faults: Sequence[Fault]) -> list[Endured]:
        """One fault after the other."""
        bar = tqdm(faults, "faults", leave=False, disable=not settings.progress)
        return [self.endure(fault) for fault in bar]

    def stop_monitor(self, pause: float = 3.0) -> pd.Series:
        """Stop the monitor, and see what the record says of the time since.

        Args:
            pause: seconds to wait.

        Returns:
            Seconds in which the service ``api`` was ``up``, ``down`` or nobody knows.
        """
        begun = time.time()
        processes.stop(self.monitor)
        time.sleep(pause)
        found = self.record.timelines()["api"].between(begun, time.time())
        return pd.Series({"up": found.up, "down": found.down, "unknown": found.unknown}, name="seconds")

    def answers(self, service: str) -> bool:
        """What a simple probe sees: whether something answers, with a status below 400."""
        paths = {"forecaster": "/v2/health/ready", "api": "/health/live", "llm": "/models", "dashboard": "/health/live"}
        headers = {"Authorization": f"Bearer {self._llm_key}"} if service == "llm" else {}
        try:
            return not httpx.get(self.doors[service].url + paths[service], headers=headers, timeout=30).is_error
        except httpx.HTTPError:
            return False

    def compare(self, cases: Sequence[tuple[str, Mode]], **limits: float) -> pd.DataFrame:
        """What a simple probe says about faults, and what the check says that knows the right answer.

        Args:
            cases: services and what their doors do; ``pass`` for nothing.
            limits: other values of the configuration's part ``health``.
        """
        found, rows = self.checks(**limits), []
        for service, mode in cases:
            with broken(self.doors[service], mode):
                checked = found[service].ask()
                rows.append((service, mode, self.answers(service), bool(checked.ok), checked.cause, checked.reason))
        return pd.DataFrame(rows, columns=["service", "fault", "answers", "answers rightly", "cause", "reason"])

    def _down(self, service: str) -> float:
        timeline = self.record.timelines().get(service)
        return float(timeline.between(0.0, time.time()).down) if timeline else 0.0

    def _own(self, service: Service) -> None:
        processes.stop(service)  # one that is left over
        self._stack.callback(processes.stop, service)
        processes.start(service)


def table(endured: Sequence[Endured], budget: float) -> pd.DataFrame:
    """Faults as a table: detected and recovered, down time, and share of the error budget that it used, percent.

    Args:
        endured: what became of each.
        budget: bad time that the objective allows, seconds.
    """
    return pd.DataFrame(
        {
            "service": [one.fault.service for one in endured],
            "fault": [one.fault.name for one in endured],
            "detected": [one.detected for one in endured],
            "recovered": [one.recovered for one in endured],
            "down": [one.down for one in endured],
            "budget": [100 * one.down / budget for one in endured],
            "reason": [one.reason for one in endured],
        }
    )


def _make_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("create table answers (answer text)")
        db.commit()
