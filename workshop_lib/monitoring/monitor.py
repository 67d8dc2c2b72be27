"""The monitor: asks all services again and again whether they are well, remembers it, and tells who asks.

    python -m workshop_lib.monitoring.monitor

* ``/health/live`` says whether the monitor itself works. It looks at nothing but its own loops: whoever restarts what
  is not live would restart the monitor for the fault of another service, which mends nothing and loses the watcher.
* ``/health/ready`` says whether the *system* can serve the shop now: 503, with the reasons, while a service that it
  needs is down or nobody knows how it is.
* ``/health/services`` tells all there is to tell about each service.
* ``/metrics`` is for Prometheus.

One failure counts against the error budget. Only several in a row (``health.failures`` of the configuration) make a
service count as down, so that a packet that was lost wakes nobody. After a failure the next look comes soon.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from workshop_lib.monitoring.config import ConfigError, MonitoringConfig, load_config, seconds
from workshop_lib.monitoring.health_checks import Check, Checked, checks
from workshop_lib.monitoring.monitor_metrics import Metrics
from workshop_lib.monitoring.slo import DAY, Timeline
from workshop_lib.monitoring.slo_record import Record
from workshop_lib.serving.api_errors import MEDIA_TYPE, add_handlers, problem_body
from workshop_lib.serving.envelope import App, Envelope, log_line
from workshop_lib.settings import settings

GRACE_SECONDS = 3
"""How long a stop waits for requests in flight."""
STUCK_SECONDS = 120
"""A loop that is so much later than its check can explain hangs; then the monitor is not live."""
BUDGET_SECONDS = 15
"""How often error budgets are computed anew, and old checks deleted."""


@dataclass(frozen=True)
class State:
    """How a service is, as far as the monitor knows."""

    up: bool | None = None
    """None while nobody knows: not asked yet, or the check could not be made."""
    failures: int = 0
    """In a row."""
    last: Checked | None = None
    checked_at: float = 0.0
    """When the last check ended, seconds since 1970."""
    since: float = 0.0
    """Since when ``up`` is what it is, likewise."""

    def after(self, found: Checked, at: float, failures: int) -> State:
        """The state after another check.

        Args:
            found: its result.
            at: when it ended.
            failures: in a row that make a service count as down.
        """
        bad = self.failures + 1 if found.ok is False else 0
        up = found.ok if found.ok is not False else False if bad >= failures else self.up
        return State(up, bad, found, at, self.since if up is self.up and self.last else at)


class Monitor:
    """Loops over checks, each in a thread of its own: a service that hangs keeps no other from being watched.

    Args:
        watched: what to check.
        config: limits.
        record: where the checks are kept.
    """

    def __init__(self, watched: Sequence[Check], config: MonitoringConfig, record: Record) -> None:
        self.watched, self.config, self.record = {check.service: check for check in watched}, config, record
        self.metrics = Metrics(watched, config)
        self.window = float(seconds(config.objectives.window))
        self.record_problem = ""
        """Why checks are not kept now."""
        self._states = {check.service: State() for check in watched}
        self._timelines: dict[str, Timeline] = {check.service: Timeline() for check in watched}
        self._lock, self._end = threading.Lock(), threading.Event()
        self._alive: dict[str, float] = {}

    def start(self) -> None:
        """Begin to look, with what was known before."""
        self._keep(self._remember)
        self._alive = dict.fromkeys(self.watched, time.monotonic())
        for service, check in self.watched.items():
            # A daemon: a stop waits for no service that hangs.
            threading.Thread(target=self._watch, args=[check], name=service, daemon=True).start()
        threading.Thread(target=self._account, name="budgets", daemon=True).start()

    def close(self) -> None:
        """Stop looking. From now on nothing is known, and the record says so."""
        self._end.set()
        now = time.time()
        for service, state in self.states().items():
            if state.last:
                self._keep(lambda service=service: self.record.add(service, now, None, 0.0, cause="stopped"))

    def look(self, service: str) -> Checked:
        """Check a service now and take note of the result."""
        check = self.watched[service]
        found = check.ask()
        now = time.time()
        # Until the next look is due, and a grace: a check that is a little late leaves no hole.
        holds = 2 * check.interval + check.longest
        with self._lock:
            before = self._states[service]
            state = before.after(found, now, self.config.health.failures)
            self._states[service] = state
            self._timelines[service].add(now, found.ok, holds)
            self.metrics.tell(found, state.up)
        self._keep(lambda: self.record.add(service, now, found.ok, holds, found.seconds, found.cause, found.reason))
        if not found.ok or before.last is None or before.last.state != found.state:
            log_line(
                server="monitor", service=service, state=found.state, up=state.up, cause=found.cause or None,
                reason=found.reason, ms=round(found.seconds * 1000, 1),
            )  # fmt: skip
        return found

    def states(self) -> dict[str, State]:
        """How each service is."""
        with self._lock:
            return dict(self._states)

    def problems(self) -> dict[str, str]:
        """Why the system is not ready, by service; empty when it is."""
        found = {}
        for service, state in self.states().items():
            if self.watched[service].needed and not state.up:
                found[service] = state.last.reason if state.last else "It was not asked yet."
        return found

    def stuck(self) -> list[str]:
        """Loops that should have come round long ago."""
        now = time.monotonic()
        return [
            service
            for service, at in self._alive.items()
            if now - at > self.watched[service].interval + self.watched[service].longest + STUCK_SECONDS
        ]

    def budgets(self, now: float | None = None) -> dict[str, float]:
        """Share of the error budget of the objective's window that is left, by service."""
        end = now or time.time()
        objective = self.config.objectives.availability
        with self._lock:
            return {
                service: float(timeline.between(end - self.window, end).budget_remaining(objective))
                for service, timeline in self._timelines.items()
                if timeline.begins
            }

    def _watch(self, check: Check) -> None:
        while not self._end.is_set():
            begun = time.monotonic()
            found = self.look(check.service)
            self._alive[check.service] = time.monotonic()
            # Who may be down is looked at as often as the quickest, so that its return is seen soon as well.
            pause = check.interval if found.ok else min(check.interval, self.config.health.interval_seconds)
            self._end.wait(max(0.0, begun + pause - time.monotonic()))

    def _account(self) -> None:
        while not self._end.wait(BUDGET_SECONDS):
            self._tidy()

    def _tidy(self) -> None:
        oldest = time.time() - self.window - DAY
        self._keep(lambda: self.record.forget(oldest))
        with self._lock:
            for timeline in self._timelines.values():
                timeline.forget(oldest)
        self.metrics.tell_budgets(self.budgets())

    def _remember(self) -> None:
        known = self.record.timelines(time.time() - self.window - DAY)
        self._timelines |= {service: known[service] for service in self.watched if service in known}
        self.metrics.tell_budgets(self.budgets())

    def _keep(self, work: Any) -> None:
        """Use the record; one that cannot be used is told, and stops no check."""
        try:
            work()
        except (sqlite3.Error, OSError) as error:
            if not self.record_problem:
                log_line(server="monitor", event="record away", reason=str(error))
            self.record_problem = f"Checks cannot be kept in {self.record.path.name} ({error})."
        else:
            self.record_problem = ""


def create_app(monitor: Monitor) -> App:
    """The monitor's HTTP server; the monitor starts and stops with it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        monitor.start()
        yield
        monitor.close()

    app = FastAPI(title="Monitor", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    add_handlers(app)

    @app.get("/health/live")
    async def live() -> Response:
        """Whether the monitor itself works; if not, restart it."""
        stuck = monitor.stuck()
        if stuck:
            body = problem_body(503, f"The loops of these checks hang: {', '.join(stuck)}.", None)
            return Response(body, 503, media_type=MEDIA_TYPE)
        return JSONResponse({"status": "ok"})

    @app.get("/health/ready")
    async def ready() -> Response:
        """Whether the system can serve the shop."""
        problems = monitor.problems()
        if problems:
            detail = " ".join(f"{service}: {reason}" for service, reason in problems.items())
            errors = [{"service": service, "reason": reason} for service, reason in problems.items()]
            return Response(problem_body(503, detail, None, errors), 503, media_type=MEDIA_TYPE)
        return JSONResponse(_about(monitor))

    @app.get("/health/services")
    async def services() -> dict[str, Any]:
        """How each service is."""
        return _about(monitor)

    @app.get("/metrics")
    async def metrics() -> Response:
        """What Prometheus collects."""
        return Response(generate_latest(monitor.metrics.registry) + generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return Envelope(app, "monitor", settings.max_body_bytes)


def _about(monitor: Monitor) -> dict[str, Any]:
    now, budgets, states = time.time(), monitor.budgets(), monitor.states()
    told = {
        service: {
            "state": _state(state),
            "needed": monitor.watched[service].needed,
            "reason": state.last.reason if state.last else "It was not asked yet.",
            "cause": state.last.cause or None if state.last else None,
            "milliseconds": round(state.last.seconds * 1000, 1) if state.last else None,
            "failures": state.failures,
            "checked_seconds_ago": round(now - state.checked_at, 1) if state.last else None,
            "so_for_seconds": round(now - state.since, 1) if state.last else None,
            "error_budget_remaining": budgets.get(service),
        }
        for service, state in states.items()
    }
    well = all(one["state"] == "ok" for one in told.values()) and not monitor.record_problem
    status = "failed" if monitor.problems() else "ok" if well else "degraded"
    return {"status": status, "record": monitor.record_problem or "ok", "services": told}


def _state(state: State) -> str:
    """``ok``, ``degraded``, ``down`` or ``unknown``; a first failure changes nothing yet."""
    if state.up is None or state.last is None:
        return "unknown"
    if not state.up:
        return "down"
    return "degraded" if state.last.poorer or not state.last.ok else "ok"


def main() -> None:
    """Read the command line and the configuration, and watch."""
    parser = argparse.ArgumentParser(description="Watch the services of the course.")
    parser.add_argument("--record", type=Path, help="where checks are kept; a file of SQLite")
    given = parser.parse_args()
    # A registry that is away must not keep a check waiting for minutes, as MLflow's client would.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    begun = time.perf_counter()
    try:
        config = load_config()
        monitor = Monitor(checks(config), config, Record(given.record))
    except ConfigError as error:
        sys.exit(f"The monitor cannot start: {error}")
    log_line(
        server="monitor", event="loaded", watched=list(monitor.watched), seconds=round(time.perf_counter() - begun, 2)
    )
    uvicorn.run(
        create_app(monitor),
        host=settings.bind_host,
        port=settings.monitor_port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


if __name__ == "__main__":
    main()
