"""What happens around every request of the business API, as four plain ASGI middlewares, outermost first:

* :class:`Trace`: a request ID, one log line, metrics;
* :class:`ApiKey`: who has no key stays outside (with several keys, :class:`workshop_lib.serving.api_access.Access`);
* :class:`Body`: reads the body, up to a largest size and for a limited time;
* :class:`Lanes`: so many requests at once, a short queue, and a time limit. What comes on top is turned away at
  once with ``Retry-After``: a server that accepts more than it can do gets slow for everybody.

Starlette's convenient base class for middlewares costs several times as much per request as the work done here.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from prometheus_client import Counter, Gauge, Histogram

from workshop_lib.serving.api_errors import MEDIA_TYPE, RETRY_SECONDS, problem_body, problem_headers
from workshop_lib.serving.envelope import BUCKETS, REQUEST_ID, App, Message, Receive, Scope, Send, log_line

KEY_HEADER = b"x-api-key"
_USABLE_ID = re.compile(rb"[\w.:-]{1,128}")
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})

REQUESTS = Counter("api_requests_total", "Requests by path, method and status", ["path", "method", "status"])
SECONDS = Histogram("api_request_seconds", "Time to the whole answer", ["path"], buckets=BUCKETS)
IN_FLIGHT = Gauge("api_requests_in_flight", "Requests that are being answered or wait")
REJECTED = Counter("api_rejected_total", "Requests turned away before they were read or worked on", ["reason"])


async def send_problem(
    scope: Scope,
    send: Send,
    status: int,
    detail: str,
    retry: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer a request with a problem, without the framework."""
    body = problem_body(status, detail, scope["trace"]["request_id"])
    given = {
        "content-type": MEDIA_TYPE, "content-length": str(len(body)), **problem_headers(retry), **(headers or {}),
    }  # fmt: skip
    raw = [(name.lower().encode(), value.encode()) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


class Trace:
    """Name every request, count it, time it and log it; what is inside adds to ``scope["trace"]``.

    Args:
        app: what is inside.
        paths: the paths that exist; any other counts as ``unknown``, so that metrics stay few.
        quiet: paths that are logged only when they fail.
    """

    def __init__(self, app: App, paths: Collection[str], quiet: Collection[str]) -> None:
        self._app, self._paths, self._quiet = app, frozenset(paths), frozenset(quiet)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        given = next((value for name, value in scope["headers"] if name == REQUEST_ID), b"")
        request_id = given if _USABLE_ID.fullmatch(given) else uuid.uuid4().hex.encode()
        trace = scope["trace"] = {"request_id": request_id.decode()}
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID, request_id)]
            await send(message)

        IN_FLIGHT.inc()
        try:
            await self._app(scope, receive, answer)
        finally:
            IN_FLIGHT.dec()
            seconds = time.perf_counter() - begun
            path = scope["path"] if scope["path"] in self._paths else "unknown"
            method = scope["method"] if scope["method"] in _METHODS else "other"
            status = status or 500  # an error is on its way to the framework's last handler
            REQUESTS.labels(path, method, status).inc()
            SECONDS.labels(path).observe(seconds)
            if path not in self._quiet or status >= 400:
                log_line(
                    server="api", method=method, path=path, status=status, ms=round(seconds * 1000, 2), **trace
                )  # fmt: skip


class ApiKey:
    """Let nobody in without the key, but for the open paths.

    Args:
        app: what is inside.
        key: what ``X-API-Key`` must say.
        open_paths: paths that need no key.
    """

    def __init__(self, app: App, key: str, open_paths: Collection[str]) -> None:
        self._app, self._key, self._open = app, key.encode(), frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] in self._open:
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == KEY_HEADER), b"")
        # Compared in constant time: an ordinary comparison ends earlier the earlier a character differs.
        if hmac.compare_digest(given, self._key):
            await self._app(scope, receive, send)
            return
        REJECTED.labels("key").inc()
        detail = "The header X-API-Key is missing." if not given else "The header X-API-Key has a wrong key."
        await send_problem(scope, send, 401, detail, headers={"WWW-Authenticate": "ApiKey"})


def charge(scope: Scope, answers: int) -> None:
    """Take answers out of the caller's budget, where it has one: see :mod:`workshop_lib.serving.api_access`.

    Raises:
        Problem: 429 when there are not so many left.
    """
    if "budget" in scope:
        scope["budget"].charge(answers)


class Body:
    """Read the whole body before anything works on it: a slow sender holds no place that others wait for.

    Args:
        app: what is inside; gets the body in one piece.
        largest: bytes that are accepted, declared or not.
        seconds: time that sending the body may take.
    """

    def __init__(self, app: App, largest: int, seconds: float) -> None:
        self._app, self._largest, self._seconds = app, largest, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        size = int(declared) if declared.isdigit() else 0
        pieces: list[bytes] = []
        more = True
        try:
            async with asyncio.timeout(self._seconds):
                while more and size <= self._largest:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    pieces.append(message.get("body", b""))
                    size = max(size, sum(map(len, pieces)))
                    more = message.get("more_body", False)
        except TimeoutError:
            REJECTED.labels("slow body").inc()
            detail = f"The body did not arrive within {self._seconds:g} s."
            await send_problem(scope, send, 408, detail, headers={"Connection": "close"})
            return
        if size > self._largest:
            REJECTED.labels("large body").inc()
            # The rest of the body is not read, so the connection cannot be used again.
            detail = f"body: at most {self._largest} bytes are accepted."
            await send_problem(scope, send, 413, detail, headers={"Connection": "close"})
            return
        whole: list[Message] = [{"type": "http.request", "body": b"".join(pieces), "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, replay, send)


@dataclass
class Lane:
    """Room for one kind of request."""

    slots: int
    """Requests worked on at once."""
    queue: int
    """Requests that may wait for a slot."""
    seconds: float | None
    """Time from arrival to the beginning of the answer; None for answers that last."""
    _waiting: int = 0
    _free: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.slots)

    @property
    def is_full(self) -> bool:
        """Whether a further request would have to wait where nobody may."""
        return self._free.locked() and self._waiting >= self.queue

    async def __aenter__(self) -> None:
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1

    async def __aexit__(self, *error: object) -> None:
        self._free.release()


class Lanes:
    """Bound the work: a lane per kind of request, so that slow ones cannot take the place of quick ones.

    Args:
        app: what is inside.
        lanes: per path; ``"*"`` for all others.
        unbounded: paths without a lane: who asks whether the server lives must not wait in its queue.
    """

    def __init__(self, app: App, lanes: Mapping[str, Lane], unbounded: Collection[str]) -> None:
        self._app, self._lanes, self._unbounded = app, lanes, frozenset(unbounded)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] in self._unbounded:
            await self._app(scope, receive, send)
            return
        lane = self._lanes.get(scope["path"]) or self._lanes["*"]
        if lane.is_full:
            REJECTED.labels("full").inc()
            detail = "The service works on as many requests as it can. Try again later."
            await send_problem(scope, send, 503, detail, retry=RETRY_SECONDS)
            return
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            async with asyncio.timeout(lane.seconds), lane:
                await self._app(scope, receive, answer)
        except TimeoutError:
            if begun:
                raise  # half an answer cannot be taken back; the connection ends
            REJECTED.labels("time").inc()
            detail = f"No answer within {lane.seconds:g} s."
            await send_problem(scope, send, 504, detail, retry=RETRY_SECONDS)
