"""Break a dependency on purpose, and mend it again: what a system does then should not be learned from a real outage.

    with Proxy("http://127.0.0.1:8300") as api:     # clients use api.url in place of the server's
        with broken(api, "slow", seconds=3):
            ...                                     # every answer comes three seconds late
        ...                                         # all is well again

A database of SQLite has faults of its own: :func:`broken_file`.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
import ssl
from collections.abc import Coroutine, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, Literal, Self, get_args
from urllib.parse import urlsplit

from workshop_lib.orchestration import wrong_answers as wrong
from workshop_lib.ports import HOST, free_port

Mode = Literal[
    "pass", "slow", "hang", "dead", "cut",
    "error 500", "no JSON", "other form", "negative", "not a number", "thousandfold", "invented",
]  # fmt: skip
"""``hang`` accepts a request and never answers, ``dead`` closes the port, ``cut`` breaks off within the answer; what
follows are wrong answers, the last one a text with numbers that nobody gave to the language model."""
FileFault = Literal["locked", "read-only", "corrupt"]


class Proxy:
    """A door between clients and a server, which passes everything through until it is told to misbehave.

    Each connection carries one request, so that a change of mode counts from the next request on.

    Args:
        upstream: the server's address, with a path where clients need one, such as ``…/v1``.
        ca_file: certificate authority of an upstream with https.
    """

    def __init__(self, upstream: str, ca_file: Path | None = None) -> None:
        parts = urlsplit(upstream)
        self._tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self._host, self._port = parts.hostname or HOST, parts.port or (443 if self._tls else 80)
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}{parts.path}"
        self.mode: Mode = "pass"
        self.requests = 0
        """Requests that arrived, repeated ones included; a dead server sees none."""
        self._delay = 0.0
        self._connections: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name=f"proxy {self.port}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def become(self, mode: Mode, seconds: float = 0) -> None:
        """Behave in another way from the next request on; ``seconds`` is the delay of ``slow`` alone."""
        if mode not in get_args(Mode):
            raise ValueError(f"{mode!r} is no mode; there are {', '.join(get_args(Mode))}.")
        if mode == "dead":
            self._do(self._close())
        elif self.mode == "dead":
            self._do(self._open())
        self.mode, self._delay = mode, {"slow": seconds, "hang": math.inf}.get(mode, 0.0)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, self.port)

    async def _close(self) -> None:
        self._server.close()
        while self._connections:
            for connection in self._connections:
                connection.transport.abort()
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            head, body = await wrong.read_request(reader)
            self.requests += 1
            answer = asyncio.create_task(self._answer(head, body, writer))
            given_up = asyncio.create_task(reader.read())  # ends when the client hangs up
            await asyncio.wait({answer, given_up}, return_when=asyncio.FIRST_COMPLETED)
            for task in (answer, given_up):
                task.cancel()
            await asyncio.gather(answer, given_up, return_exceptions=True)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client left before it had asked
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _answer(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        mode = self.mode
        if mode in wrong.CANNED:
            writer.write(wrong.CANNED[mode](body))
        else:
            await asyncio.sleep(self._delay)
            upstream, request = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
            with closing(request):
                request.write(wrong.request_head(head, self._host, mode) + body)
                await _pass_on(upstream, writer, mode)
        await writer.drain()


async def _pass_on(upstream: asyncio.StreamReader, writer: asyncio.StreamWriter, mode: Mode) -> None:
    head = await upstream.readuntil(b"\r\n\r\n")
    if mode in wrong.DISTORTED:
        writer.write(wrong.distorted(head, await upstream.read(), mode))
        return
    writer.write(wrong.answer_head(head))
    while piece := await upstream.read(2**16):
        if mode == "cut":
            writer.write(piece[:-20])
            return
        writer.write(piece)


@contextmanager
def broken(proxy: Proxy, mode: Mode, seconds: float = 0) -> Iterator[None]:
    """Let a proxy misbehave within the block; see :meth:`Proxy.become`."""
    proxy.become(mode, seconds)
    try:
        yield
    finally:
        proxy.become("pass")


@contextmanager
def broken_file(path: Path, fault: FileFault) -> Iterator[None]:
    """Break a database of SQLite within the block, and bring it back as it was.

    Args:
        path: the file; it exists.
        fault: ``locked`` by another program, ``read-only``, or ``corrupt``: its beginning is overwritten.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # all that was written is in the one file then
        if fault == "locked":
            connection.execute("BEGIN EXCLUSIVE")
            yield
            return
    good = path.read_bytes()
    # Byte 18 is the version that writers need to know (https://sqlite.org/fileformat.html): rights would not stop root.
    bad = good[:18] + b"\x09" + good[19:] if fault == "read-only" else b"no database " * 100 + good[1200:]
    path.write_bytes(bad)
    try:
        yield
    finally:
        for leftover in ("-wal", "-shm", "-journal"):
            path.with_name(path.name + leftover).unlink(missing_ok=True)
        path.write_bytes(good)
