"""The process that sends the requests of a load; :mod:`workshop_lib.serving.load` starts it and reads what it writes.

It has an interpreter of its own: in the notebook's, a plot that is drawn would make every answer look late. It
imports little, so it is at work within a second. What to do is one line of JSON on the standard input; the end of
that input, also when whoever started it has died, is the sign to stop. Each request becomes a line of JSON in a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import selectors
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import aiohttp

CONNECTIONS = 500
"""Most connections at once; requests beyond wait for a free one, and that wait counts. ``select`` knows 1,024 files."""
_KEEP_SECONDS = 2
"""Idle connections are given up before the server does it (uvicorn: after five seconds): a request that is sent into
a connection that is being closed fails, and would be counted against a server that did nothing wrong."""
_WRITE_SECONDS = 0.1


def schedule(rate: float, arrivals: str, seed: int) -> Iterator[float]:
    """When requests are due, seconds from the start: ``poisson`` (random gaps, as of strangers) or ``constant``."""
    gaps, due = random.Random(seed), 0.0
    for number in itertools.count(1):
        yield due
        due = number / rate if arrivals == "constant" else due + gaps.expovariate(rate)


def error_kind(error: Exception) -> str:
    """A short name for why there was no answer."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "no connection"
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | aiohttp.ClientPayloadError):
        return "disconnected"
    return type(error).__name__


def read_tag(body: bytes, path: str) -> str:
    """The value at a place such as ``outputs.0.name`` of a JSON answer; empty when there is none."""
    try:
        value = json.loads(body)
        for step in path.split("."):
            value = value[int(step)] if isinstance(value, list) else value[step]
    except (ValueError, LookupError, TypeError):
        return ""
    return str(value)


class Sender:
    """Sends requests and writes down what became of each.

    Args:
        plan: what :class:`workshop_lib.serving.load.BackgroundLoad` asks for.
        http: where to send them.
        rows: file for a line per request.
    """

    def __init__(self, plan: dict[str, Any], http: aiohttp.ClientSession, rows: TextIO) -> None:
        self._plan, self._http, self._rows = plan, http, rows
        self._bodies = [body.encode() for body in plan["bodies"]] or [None]
        numbered = {name: value for name, value in plan["headers"].items() if "{number}" in value}
        self._headers: Callable[[int], dict[str, str]] = lambda number: {
            name: value.replace("{number}", str(number)) for name, value in numbered.items()
        }
        self.begun, self._cpu = time.monotonic(), time.process_time()
        self._written = 0.0

    def now(self) -> float:
        """Seconds since the load began."""
        return time.monotonic() - self.begun

    async def send(self, number: int, due: float | None = None) -> None:
        """One request; its latency counts from when it was due (now by default) to the end of its answer."""
        sent = self.now()
        due = sent if due is None else due
        status, error, body = 0, "", b""
        try:
            async with self._http.request(
                self._plan["method"],
                self._plan["url"],
                data=self._bodies[number % len(self._bodies)],
                headers=self._headers(number),
            ) as answer:
                status = answer.status
                body = await answer.read()
            if status >= 400:
                error = f"status {status}"
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            error = error_kind(problem)
        end = self.now()
        tag = read_tag(body, self._plan["tag"]) if self._plan["tag"] and body else ""
        self._write([round(due, 6), round(sent, 6), round(1000 * (end - due), 3), status, error, tag])

    def _write(self, row: list[Any] | dict[str, float]) -> None:
        self._rows.write(json.dumps(row) + "\n")
        if self.now() - self._written > _WRITE_SECONDS:  # who looks at the running load sees it a moment later
            self._rows.flush()
            self._written = self.now()

    async def open_loop(self) -> None:
        """Send on schedule, whether or not earlier requests were answered."""
        under_way = set()
        try:
            for number, due in enumerate(schedule(self._plan["rate"], self._plan["arrivals"], self._plan["seed"])):
                if due >= self._plan["seconds"]:
                    break
                await asyncio.sleep(due - self.now())
                task = asyncio.create_task(self.send(number, due))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
        finally:  # also when it was told to stop: what was sent is answered
            await asyncio.gather(*under_way)

    async def closed_loop(self) -> None:
        """Each worker sends its next request when its last one was answered."""
        numbers = itertools.count()
        stopped = False

        async def worker() -> None:
            while not stopped and self.now() < self._plan["seconds"]:
                await self.send(next(numbers))

        workers = asyncio.gather(*(worker() for _ in range(self._plan["workers"])))
        try:
            await asyncio.shield(workers)
        except asyncio.CancelledError:
            stopped = True
            await workers

    def write_begin(self) -> None:
        """Write when the load began, on the clock that all processes of the machine share."""
        self._rows.write(json.dumps({"begun": self.begun}) + "\n")
        self._rows.flush()

    def write_end(self) -> None:
        """Write when it ended and what sending it took."""
        self._rows.write(json.dumps({"seconds": self.now(), "cpu_seconds": time.process_time() - self._cpu}) + "\n")


async def run(plan: dict[str, Any]) -> None:
    """Carry out a plan until its end or until the standard input ends."""
    timeout = aiohttp.ClientTimeout(total=plan["timeout"])
    trust = ssl.create_default_context(cafile=plan["ca_file"] or None)
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=_KEEP_SECONDS, ssl=trust)
    headers = {name: value for name, value in plan["headers"].items() if "{number}" not in value}
    with Path(plan["rows"]).open("w", encoding="utf-8") as rows:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as http:
            sender = Sender(plan, http, rows)
            sender.write_begin()
            work = asyncio.create_task(sender.open_loop() if plan["rate"] else sender.closed_loop())
            loop = asyncio.get_running_loop()

            def stop() -> None:
                loop.remove_reader(sys.stdin)
                work.cancel()

            loop.add_reader(sys.stdin, stop)
            with contextlib.suppress(asyncio.CancelledError):
                await work
            sender.write_end()


def main() -> None:
    """Read the plan and carry it out."""
    plan = json.loads(sys.stdin.readline())
    # epoll's clock ticks in milliseconds, and requests would leave up to one too late; select's is finer.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(run(plan))


if __name__ == "__main__":
    main()
