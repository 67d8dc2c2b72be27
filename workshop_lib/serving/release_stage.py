"""The scene of a release: an API in front of servers, a constant load, and notes of what happens.

Everything here is started for the purpose, on free ports, with a file of routes of its own: the shared services
notice nothing, and nothing is left behind. The strategies stand in :mod:`workshop_lib.serving.release`.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx
import psutil

from workshop_lib import processes
from workshop_lib.files import write_text
from workshop_lib.ports import free_port
from workshop_lib.predictive.tracking import FORECASTER
from workshop_lib.processes import Service
from workshop_lib.serving.api_client import api_key, api_service
from workshop_lib.serving.envelope import BUCKETS
from workshop_lib.serving.load import BackgroundLoad, Target, background_load
from workshop_lib.serving.local import forecaster_service
from workshop_lib.serving.release_report import Release, Step
from workshop_lib.serving.release_servers import (
    Server,
    answered,
    questions,
    samples,
    start_together,
    stop_together,
    warm,
)
from workshop_lib.serving.routing import Routes, Rule, write_routes
from workshop_lib.settings import settings

RATE = 40
"""Requests per second of the constant load: well below what two cores can do."""
SLOW_SECONDS = 0.5
_QUIET_SECONDS = 0.4
_NUMBERS = itertools.count(1)
"""Of the stages of this process: several may be open at once, and each has services of its own."""


@dataclass(frozen=True)
class Seen:
    """What the API counted of one backend for a while."""

    requests: int
    failed: int
    slow: int
    """Good answers that took longer than the limit."""


class Stage:
    """An API of its own with a file of routes of its own, and servers behind it; see :func:`open_stage`.

    Args:
        rate: requests per second of the load.
    """

    def __init__(self, rate: float = RATE) -> None:
        self.rate = rate
        self.running: dict[str, Server] = {}
        self.requests_of = ""
        """How the request IDs of the last load begin."""
        self.bodies: Sequence[str] = ()
        """What the load asks; without any, what :func:`questions` gives."""
        self._prefix = f"release-{os.getpid()}-{next(_NUMBERS)}"
        self.routes_file = settings.home / "services" / self._prefix / "routes.json"
        self.api = api_service(
            f"{self._prefix}-api", free_port(), {"WORKSHOP_FORECASTER_ROUTES": str(self.routes_file)}
        )
        self._load: BackgroundLoad | None = None
        self._steps: list[Step] = []
        self._back: tuple[float, float] | None = None
        self._start_seconds, self._most, self._loads = 0.0, 0, 0
        self._known: dict[str, Server] = {}
        self._is_open = False

    # --- The verbs of a strategy ---------------------------------------------------------------------

    def server(self, name: str, version: str, env: Mapping[str, str] | None = None) -> Server:
        """Name a server for a version; nothing is started yet.

        Args:
            name: what routes, logs and metrics call it.
            version: number in the registry.
            env: other settings for its process.
        """
        service = forecaster_service(
            f"models:/{FORECASTER}/{version}", f"{self._prefix}-{name}", free_port(), free_port()
        )
        self._known[name] = Server(name, version, replace(service, env=dict(env or {})))
        return self._known[name]

    def start(self, *servers: Server) -> None:
        """Start servers at once, wait until they are ready, and let each answer before anybody depends on it.

        Raises:
            ServiceError: when one does not become ready.
        """
        missing = [server for server in servers if server.name not in self.running]
        if not missing:
            return
        self._note(f"start {', '.join(server.name for server in missing)}")
        begun = time.monotonic()
        self.running |= {server.name: server for server in missing}
        self._most = max(self._most, len(self.running))
        start_together([*([] if self._is_open else [self.api]), *(server.service for server in missing)])
        self._is_open = True
        for server in missing:
            warm(server.service.url)
        self._start_seconds += time.monotonic() - begun

    def route(
        self, weights: Mapping[Server, float], rules: Sequence[Rule] = (), shadow: Server | None = None, step: str = ""
    ) -> None:
        """Send requests to servers by their weights; it counts from the next request on.

        Args:
            weights: per server its share, relative to the others.
            rules: feature flags.
            shadow: gets copies.
            step: how the time line calls it; by default it names who gets requests.
        """
        backends = tuple(server.backend(weight) for server, weight in weights.items())
        write_routes(
            Routes(backends=backends, rules=tuple(rules), shadow=shadow.backend() if shadow else None),
            self.routes_file,
        )
        self._note(step or _named({server.name: weight for server, weight in weights.items() if weight}))

    def drain(self, server: Server) -> None:
        """Wait until a server that no route names has nothing left to do.

        Its own counter of answers tells: when it stands still, the requests that were under way have their
        answers. The wait has an end, because the API waits no longer than its time-out for an answer.
        """
        until = time.monotonic() + settings.forecaster_timeout + _QUIET_SECONDS
        with contextlib.suppress(httpx.HTTPError):  # one that has died has nothing left to do either
            count, since = answered(server), time.monotonic()
            while time.monotonic() < until and time.monotonic() - since < _QUIET_SECONDS:
                time.sleep(0.1)
                if (now := answered(server)) != count:
                    count, since = now, time.monotonic()

    def stop(self, *servers: Server) -> None:
        """Ask servers to end; they finish what they are working on."""
        if not servers:
            return
        self._note(f"stop {', '.join(server.name for server in servers)}")
        stop_together([server.service for server in servers])
        for server in servers:
            self.running.pop(server.name, None)

    def watch(
        self, seconds: float, server: Server | None = None, at_least: int = 0, slow_seconds: float = SLOW_SECONDS
    ) -> Seen:
        """Let the load go on for a while and read what the API counts.

        Args:
            seconds: how long.
            server: whose requests to count; all of them by default.
            at_least: go on until so many came, at most five times as long.
            slow_seconds: from where an answer is slow; a bucket of the API's histogram.

        Raises:
            ValueError: when the histogram has no such bucket.
        """
        if slow_seconds not in BUCKETS:
            raise ValueError(f"slow_seconds: one of {', '.join(map(str, BUCKETS))}, got {slow_seconds}.")
        before = self._counted(server, slow_seconds)
        for _ in range(5):
            time.sleep(seconds)
            now = self._counted(server, slow_seconds)
            seen = Seen(*(int(count - then) for count, then in zip(now, before, strict=True)))
            if seen.requests >= at_least:
                break
        return seen

    @contextlib.contextmanager
    def going_back(self) -> Iterator[None]:
        """Mark the block in which a strategy returns to the old version."""
        begun = self._now()
        self._note("roll back")
        yield
        self._back = begun, self._now()

    # --- The stage itself ----------------------------------------------------------------------------

    def reset(self, servers: Collection[Server], keep: Collection[Server] = ()) -> None:
        """Put the stage into a known state: these servers share the requests, all others are stopped.

        Args:
            servers: started when they do not run; so is the API.
            keep: go on running without requests.

        Raises:
            ServiceError: when one does not become ready.
        """
        if not self._is_open:  # the API wants a file with routes when it starts
            write_routes(Routes(backends=tuple(server.backend(100) for server in servers)), self.routes_file)
        self.start(*servers)
        self.route(dict.fromkeys(servers, 100))
        idle = [server for server in self.running.values() if server not in (*servers, *keep)]
        for server in idle:
            self.drain(server)
        self.stop(*idle)

    def perform(
        self,
        strategy: str,
        release: Callable[[], Any],
        back: Callable[[], Any] | None = None,
        before: float = 1,
        after: float = 1,
    ) -> Release:
        """Carry out a release under constant load.

        Args:
            strategy: its name.
            release: does it.
            back: returns to the old version afterwards; for strategies that do not do so themselves.
            before: seconds to watch before it.
            after: seconds to watch after it, and again after going back.

        When something is raised, what it started is stopped, what it stopped is started again, and the routes are
        put back.
        """
        self._steps, self._back, self._start_seconds, self._most = [], None, 0.0, len(self.running)
        self._loads += 1
        self.requests_of = f"{self._prefix}-{self._loads}-"
        with self._put_back_after_a_failure(), background_load(self._target(), self.rate) as self._load:
            try:
                time.sleep(before)
                begun = self._now()
                outcome = release()
                ended, start_seconds = self._now(), self._start_seconds
                time.sleep(after)
                if back is not None:
                    with self.going_back():
                        back()
                    time.sleep(after)
            finally:
                load, self._load = self._load, None
        return Release(
            strategy, load.frame(), tuple(self._steps), begun, ended, start_seconds, self._back, self._most, outcome
        )

    @contextlib.contextmanager
    def _put_back_after_a_failure(self) -> Iterator[None]:
        running, routes, complete = dict(self.running), self.routes_file.read_text(encoding="utf-8"), False
        try:
            yield
            complete = True
        finally:
            if not complete:
                self.start(*running.values())
                write_text(self.routes_file, routes)
                self.stop(*(server for name, server in self.running.items() if name not in running))

    def close(self) -> None:
        """Stop everything that was started here, and leave no files of it."""
        services = [self.api, *(server.service for server in self._known.values())]
        stop_together(services)
        for service in services:
            service.log.unlink(missing_ok=True)
            service.pid_file.with_suffix(".lock").unlink(missing_ok=True)
        shutil.rmtree(self.routes_file.parent, ignore_errors=True)
        self.running, self._is_open = {}, False

    def _target(self) -> Target:
        headers = {
            "Content-Type": "application/json",
            "X-API-Key": api_key(),
            "X-Request-ID": self.requests_of + "{number}",
        }
        return Target(f"{self.api.url}/forecast", self.bodies or questions(), headers=headers, tag="model.version")

    def _now(self) -> float:
        return self._load.now() if self._load else 0.0

    def _note(self, what: str) -> None:
        if self._load:
            self._steps.append(Step(self._now(), what))

    def _counted(self, server: Server | None, slow_seconds: float) -> tuple[float, float, float]:
        """Requests, failed ones and slow ones that the API has counted so far."""
        requests = failed = answers = quick = 0.0
        for name, labels, value in samples(self.api.url):
            if server is not None and labels.get("backend") != server.name:
                continue
            if name == "api_backend_requests_total":
                requests += value
                failed += 0 if labels["result"] == "ok" else value
            elif name == "api_backend_seconds_count":
                answers += value
            elif name == "api_backend_seconds_bucket" and float(labels["le"]) == slow_seconds:
                quick += value
        return requests, failed, answers - quick


@contextlib.contextmanager
def open_stage(rate: float = RATE) -> Iterator[Stage]:
    """A stage for as long as the block lasts; then, whatever happened, everything on it is stopped.

    In a notebook, whose cells share a stage, ``ExitStack().enter_context(open_stage())`` opens it. A kernel that
    ends before it is closed takes it along; what a killed one left is cleared away by the next stage.
    """
    _clear_leftovers()
    stage = Stage(rate)
    atexit.register(stage.close)
    try:
        yield stage
    finally:
        stage.close()
        atexit.unregister(stage.close)


def _named(weights: Mapping[str, float]) -> str:
    """Weights in few words: names alone where all are equal."""
    if len(set(weights.values())) == 1:
        return f"to {', '.join(weights)}"
    return ", ".join(f"{name} {weight:g}" for name, weight in weights.items())


def _clear_leftovers() -> None:
    """Stop what belongs to stages whose process is gone, and remove its files."""
    for path in [*(settings.home / "services").glob("release-*"), *settings.logs_dir.glob("release-*")]:
        owner = re.match(r"release-(\d+)-", path.name)
        if owner is None or psutil.pid_exists(int(owner[1])):
            continue
        if path.suffix == ".json":
            processes.stop(Service(path.stem, 0, (), ""))
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
