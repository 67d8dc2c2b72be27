"""What every HTTP server of the course does around a request: size limit, request ID, metrics and one log line.

A plain ASGI middleware: Starlette's convenient base class would cost several times as much per request.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
from prometheus_client import Counter, Histogram, disable_created_metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST_ID = b"x-request-id"
_USABLE_ID = re.compile(rb"[\w.:-]{1,128}")
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# Otherwise each series has a second one with the time at which it began, which nobody asks for.
disable_created_metrics()
REQUESTS = Counter("http_requests_total", "Requests by path template and status", ["server", "path", "status"])
SECONDS = Histogram("http_request_seconds", "Time to the whole answer", ["server", "path"], buckets=BUCKETS)


def log_line(**fields: object) -> None:
    """Write one JSON object to the standard output, with the time in UTC."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
    sys.stdout.buffer.write(orjson.dumps({"time": stamp, **fields}, default=str) + b"\n")
    sys.stdout.buffer.flush()


class _TooLarge(Exception):
    """A body grew over the limit while it was read."""


class Envelope:
    """Wrap an ASGI application.

    Requests with an ``X-Request-ID`` get it back and are logged; so is every answer from 400 on.

    Args:
        app: the application.
        server: its name in logs and metrics.
        max_body_bytes: largest body; a larger one is answered with 413, declared or not.
    """

    def __init__(self, app: App, server: str, max_body_bytes: int) -> None:
        self._app, self._server, self._limit = app, server, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = headers.get(REQUEST_ID, b"")
        request_id = request_id if _USABLE_ID.fullmatch(request_id) else b""
        status, size = 0, _declared(headers)
        refused = size > self._limit

        async def limited() -> Message:
            nonlocal size, refused
            message = await receive()
            size += 0 if b"content-length" in headers else len(message.get("body", b""))
            refused = refused or size > self._limit
            if refused:
                raise _TooLarge
            return message

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if request_id:
                    message["headers"] = [*message["headers"], (REQUEST_ID, request_id)]
            await send(message)

        async def answer_unless_refused(message: Message) -> None:
            if not refused:  # frameworks turn an error while reading a body into a 400 of their own
                await answer(message)

        try:
            if not refused:
                with contextlib.suppress(_TooLarge):
                    await self._app(scope, limited, answer_unless_refused)
            if refused and not status:
                await self._refuse(answer)
        finally:
            path = _template(scope)
            seconds = time.perf_counter() - begun
            REQUESTS.labels(self._server, path, status or 500).inc()
            SECONDS.labels(self._server, path).observe(seconds)
            if request_id or status >= 400 or not status:
                log_line(
                    server=self._server, request_id=request_id.decode() or None, method=scope["method"],
                    path=path, status=status or 500, ms=round(seconds * 1000, 2),
                )  # fmt: skip

    async def _refuse(self, send: Send) -> None:
        body = orjson.dumps({"error": f"body: at most {self._limit} bytes are accepted."})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        # The rest of the body is not read, so the connection cannot be used again.
        await send({"type": "http.response.start", "status": 413, "headers": [*headers, (b"connection", b"close")]})
        await send({"type": "http.response.body", "body": body})


def _declared(headers: dict[bytes, bytes]) -> int:
    length = headers.get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


def _template(scope: Scope) -> str:
    """The path with its parameters by name: few values, whatever is asked for."""
    route = scope.get("route")
    return getattr(route, "path", "unknown")
