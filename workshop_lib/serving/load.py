"""A load on an HTTP server, and what became of it: answers, waiting times, processor time and memory.

    target = Target("http://127.0.0.1:8200/v2/models/sales-forecaster/infer", bodies=[body])
    frame = open_loop(target, rate=100, seconds=5)                  # a row per request
    measure(target, workers=8, seconds=3, pid=4711)                 # one Load: the figures of a table
    with background_load(target, rate=40) as load:                  # while something else happens
        ...
    load.frame()

A *closed loop* keeps a fixed number of requests under way: each worker sends its next one when its last one is
answered. A slow server is asked less often, so that a stall of a second costs each worker one slow request. An *open
loop* sends at a rate, however slow the server is. Its latencies count from the moment when a request was due, so
that a stall is seen as all would have felt it who came meanwhile (Gil Tene: coordinated omission).
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from workshop_lib.serving.load_target import LoadError, Target
from workshop_lib.serving.load_wrk import run_wrk
from workshop_lib.settings import settings

PERCENTILES = (50, 95, 99)
COLUMNS = ("due", "sent", "ms", "status", "error", "tag")
_FOREVER = 1e9
_READY_SECONDS = 30


class BackgroundLoad:
    """A load that runs in a process of its own; see :func:`background_load`."""

    def __init__(self, process: subprocess.Popen[str], rows: Path, target: Target) -> None:
        self._process, self._rows, self._target = process, rows, target
        self._kept: list[str] | None = None
        self.begun = self._wait_until_begun()
        """When it began, on the clock of :func:`time.monotonic`."""

    def now(self) -> float:
        """Seconds since the load began: the clock of the frame's columns ``due`` and ``sent``."""
        return time.monotonic() - self.begun

    def frame(self) -> pd.DataFrame:
        """A row per request that has ended so far, in the order in which they were due; may be read at any time.

        Returns:
            ``due`` and ``sent`` in seconds since the load began, ``ms`` from when it was due to the end of its
            answer, ``status`` (0 when there was none), ``error`` (empty, ``status 503``, ``timeout``,
            ``no connection``, ``disconnected`` ...) and ``tag``.
        """
        rows = [row for row in map(json.loads, self._lines()) if isinstance(row, list)]
        frame = pd.DataFrame(rows, columns=list(COLUMNS))
        kinds = {"due": float, "sent": float, "ms": float, "status": int, "error": str, "tag": str}
        return frame.astype(kinds).sort_values("due", ignore_index=True)

    @property
    def seconds(self) -> float:
        """From the beginning to the last answer; NaN while it runs."""
        return self._outcome().get("seconds", float("nan"))

    @property
    def cpu_seconds(self) -> float:
        """Processor time that sending took; NaN while it runs."""
        return self._outcome().get("cpu_seconds", float("nan"))

    def wait(self) -> None:
        """Wait for the end of a load that has one.

        Raises:
            LoadError: when the process failed.
        """
        if self._process.wait() != 0:
            raise LoadError(f"The load generator failed: {self._last_words()}")

    def stop(self) -> None:
        """Send no further requests and wait for the answers to those that were sent."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended by itself
            self._process.stdin.close()
        try:
            self._process.wait(self._target.timeout + 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._kept is None:
            self._kept = self._lines()

    def _lines(self) -> list[str]:
        if self._kept is not None:
            return self._kept
        try:
            text = self._rows.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return text[: text.rfind("\n") + 1].splitlines()  # the last line may be half written

    def _wait_until_begun(self) -> float:
        until = time.monotonic() + _READY_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            if lines := self._lines():
                return float(json.loads(lines[0])["begun"])
            time.sleep(0.01)
        if lines := self._lines():
            return float(json.loads(lines[0])["begun"])
        self._process.kill()
        raise LoadError(f"The load generator did not start: {self._last_words()}")

    def _outcome(self) -> dict[str, float]:
        lines = self._lines()
        last = json.loads(lines[-1]) if lines else {}
        return last if isinstance(last, dict) else {}

    def _last_words(self) -> str:
        assert self._process.stderr is not None
        return (self._process.stderr.read().strip().splitlines() or ["nothing"])[-1]


@contextlib.contextmanager
def background_load(
    target: Target,
    rate: float | None = None,
    workers: int | None = None,
    seconds: float | None = None,
    arrivals: str = "poisson",
    seed: int = settings.seed,
) -> Iterator[BackgroundLoad]:
    """A load for as long as the block lasts (or for ``seconds``), sent by a process of its own.

    Args:
        target: what is asked.
        rate: requests per second of an open loop.
        workers: requests under way in a closed loop; one of the two is given.
        seconds: for how long; until the block ends by default.
        arrivals: ``poisson`` or ``constant``, for an open loop.
        seed: of the random times between requests.

    Raises:
        ValueError: unless one of ``rate`` and ``workers`` is given and above 0, or for other arrivals.
        LoadError: when the process does not start.
    """
    if (rate is None) == (workers is None):
        raise ValueError("Give either rate (open loop) or workers (closed loop).")
    if (rate if rate is not None else workers or 0) <= 0:
        raise ValueError(
            f"The rate or the number of workers must be above 0, got {rate if workers is None else workers}."
        )
    if arrivals not in ("poisson", "constant"):
        raise ValueError(f"arrivals: poisson or constant, got {arrivals!r}.")
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        rows = Path(folder) / "rows.jsonl"
        plan = {
            "url": target.url, "method": target.method, "headers": dict(target.headers), "bodies": list(target.bodies),
            "tag": target.tag, "ca_file": target.ca_file, "timeout": target.timeout, "rate": rate, "workers": workers,
            "arrivals": arrivals,
            "seconds": _FOREVER if seconds is None else seconds, "seed": seed, "rows": str(rows),
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", "workshop_lib.serving.load_worker"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # the notebook's stop button reaches this process, which then stops that one
        )
        load: BackgroundLoad | None = None
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it could not start; the reason is read below
                process.stdin.write(json.dumps(plan) + "\n")
                process.stdin.flush()
            load = BackgroundLoad(process, rows, target)
            yield load
        finally:
            if load is not None:
                load.stop()
            else:
                process.kill()
            process.wait()


def open_loop(
    target: Target, rate: float, seconds: float, arrivals: str = "poisson", seed: int = settings.seed
) -> pd.DataFrame:
    """Send ``rate`` requests per second for ``seconds``, however slow the answers are.

    Returns:
        A row per request, see :meth:`BackgroundLoad.frame`.
    """
    with background_load(target, rate, seconds=seconds, arrivals=arrivals, seed=seed) as load:
        load.wait()
        return load.frame()


def closed_loop(target: Target, workers: int, seconds: float) -> pd.DataFrame:
    """Keep ``workers`` requests under way for ``seconds``.

    Returns:
        A row per request, see :meth:`BackgroundLoad.frame`; each was due when it was sent.
    """
    with background_load(target, workers=workers, seconds=seconds) as load:
        load.wait()
        return load.frame()


@dataclass
class Usage:
    """What a server took while a load ran; NaN where its process is unknown."""

    cpu_seconds: float = float("nan")
    """Processor time of the process and its children."""
    memory_mib: float = float("nan")
    """Their resident memory at the end."""


@contextlib.contextmanager
def watch(pid: int | None) -> Iterator[Usage]:
    """Find out what a process and its children take during the block; the figures are there when it ends.

    Raises:
        LoadError: when there is no such process.
    """
    usage = Usage()
    before = _cpu_seconds(pid)
    yield usage
    after = _cpu_seconds(pid)
    if pid is not None:
        usage.cpu_seconds = sum(after.values()) - sum(before.get(member, 0) for member in after)
        usage.memory_mib = sum(process.memory_info().rss for process in _family(pid)) / 2**20


def _cpu_seconds(pid: int | None) -> dict[int, float]:
    return {} if pid is None else {process.pid: sum(process.cpu_times()[:2]) for process in _family(pid)}


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        raise LoadError(f"The server's process {pid} has ended.") from None


@dataclass(frozen=True)
class Load:
    """The figures of one load."""

    label: str
    engine: str
    """What sent the requests: ``wrk`` or ``own``."""
    asked: float
    """Requests per second (open loop) or requests under way (closed loop)."""
    requests: int
    """All that were sent."""
    errors: Mapping[str, int]
    """How often each error occurred."""
    seconds: float
    """From the beginning to the last answer."""
    ms: Mapping[str, float]
    """Waiting times ``P50``, ``P95``, ``P99`` and ``max``, of all requests, failed ones too."""
    server: Usage
    sender_cores: float
    """Processor cores that the generator took; it runs on the same machine as a local server."""
    late_ms: float = 0
    """How late the generator sent (P99, open loop): waiting times below it say nothing about the server."""

    @property
    def failed(self) -> int:
        """Requests without a good answer."""
        return sum(self.errors.values())

    @property
    def per_second(self) -> float:
        """Good answers per second."""
        return (self.requests - self.failed) / self.seconds

    @property
    def cpu_ms(self) -> float:
        """Processor time of the server per request, milliseconds."""
        return 1000 * self.server.cpu_seconds / max(self.requests, 1)

    def row(self) -> dict[str, float | str]:
        """A row of a table."""
        return {
            "engine": self.engine,
            "requests": self.requests,
            "errors": self.failed,
            "requests/s": self.per_second,
            **{f"{name} ms": value for name, value in self.ms.items()},
            "server CPU ms/request": self.cpu_ms,
            "server cores": self.server.cpu_seconds / self.seconds,
            "server MiB": self.server.memory_mib,
            "sender cores": self.sender_cores,
            "late ms": self.late_ms,
        }


def table(loads: Sequence[Load]) -> pd.DataFrame:
    """A row per load, indexed by its label."""
    return pd.DataFrame([load.row() for load in loads], index=[load.label for load in loads])


def measure(
    target: Target,
    workers: int | None = None,
    rate: float | None = None,
    seconds: float = 3,
    warm_up: float = 1,
    pid: int | None = None,
    label: str = "",
    engine: str | None = None,
    arrivals: str = "poisson",
) -> Load:
    """Put a load on a server and sum it up.

    Args:
        target: what is asked.
        workers: requests under way (closed loop).
        rate: requests per second (open loop); one of the two is given.
        seconds: how long to measure.
        warm_up: seconds of the same load before, which are not counted.
        pid: the server's process, to read what it and its children take.
        label: the load's name in tables.
        engine: ``wrk`` or ``own``; for a closed loop wrk by default where it is installed.
        arrivals: of an open loop, ``poisson`` or ``constant``.

    Raises:
        LoadError: when the generator fails.
        ValueError: as :func:`background_load` does; also for an open loop with wrk, which knows none.
    """
    engine = engine or ("wrk" if workers and rate is None and shutil.which("wrk") else "own")
    if engine == "wrk":
        if workers is None:
            raise ValueError("wrk knows closed loops only: give workers, or engine='own'.")
        return _measure_with_wrk(target, workers, seconds, warm_up, pid, label or f"{workers} at once")
    with background_load(target, rate, workers, arrivals=arrivals) as load:
        time.sleep(warm_up)
        begun = load.now()
        with watch(pid) as usage:
            time.sleep(seconds)
        ended = load.now()
    frame = load.frame()
    frame = frame[frame["due"].between(begun, ended)]
    if frame.empty:
        raise LoadError(f"No request was due within {seconds:g} s; measure for longer.")
    return Load(
        label=label or (f"{workers} at once" if workers else f"{rate:g} per second"),
        engine="own",
        asked=workers or rate or 0,
        requests=len(frame),
        errors=frame.loc[frame["error"] != "", "error"].value_counts().to_dict(),
        seconds=float((frame["due"] + frame["ms"] / 1000).max() - begun),
        ms=percentiles(frame),
        server=usage,
        sender_cores=load.cpu_seconds / load.seconds,
        late_ms=float(np.percentile(1000 * (frame["sent"] - frame["due"]), 99)),
    )


def percentiles(frame: pd.DataFrame) -> dict[str, float]:
    """``P50``, ``P95``, ``P99`` and ``max`` of a frame's waiting times, milliseconds; failed requests count too."""
    return {f"P{share}": float(np.percentile(frame["ms"], share)) for share in PERCENTILES} | {"max": frame["ms"].max()}


def _measure_with_wrk(
    target: Target, connections: int, seconds: float, warm_up: float, pid: int | None, label: str
) -> Load:
    if warm_up:
        run_wrk(target, connections, warm_up)
    with watch(pid) as usage:
        said, cpu_seconds = run_wrk(target, connections, seconds)
    lasted = said["us"] / 1e6
    return Load(
        label=label,
        engine="wrk",
        asked=connections,
        requests=said["requests"],
        errors={kind: count for kind, count in said["errors"].items() if count},
        seconds=lasted,
        ms={name: said[name] / 1000 for name in ("P50", "P95", "P99", "max")},
        server=usage,
        sender_cores=cpu_seconds / lasted,
    )
