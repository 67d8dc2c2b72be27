"""Messages of HTTP as the fault proxy reads, passes on and falsifies them."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

INVENTED = "Only 987 of these are left, now 73% off for $0.19, sold 4,321 times since 1893!"
"""What the language model says in the mode ``invented``."""

CANNED: dict[str, Callable[[bytes], bytes]] = {
    "error 500": lambda request: message(500, b'{"detail": "out of order"}'),
    "no JSON": lambda request: message(200, b"<html>Welcome to the hotel's wireless network</html>"),
    "other form": lambda request: message(200, b'{"answer": [42]}'),
    "invented": lambda request: _invented(streaming=b'"stream":true' in request.replace(b" ", b"")),
}
"""By mode, an answer to a request's body for which the server is not asked."""

DISTORTED: dict[str, Callable[[float], float]] = {
    "negative": lambda number: -1 - 1000 * abs(number),
    "not a number": lambda number: math.nan,
    "thousandfold": lambda number: 1000 * number,
}
"""By mode, what becomes of each fractional number in the server's answer."""


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of a request; clients of JSON APIs tell how long it is."""
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return head, await reader.readexactly(int(lengths[0])) if lengths else b""


def request_head(head: bytes, host: str, mode: str) -> bytes:
    """A request's head for the server: its own name, and one answer per connection."""
    first, *lines = _lines(head, b"host:", b"connection:", b"accept-encoding:")
    if mode in DISTORTED:
        first = first.replace(b" HTTP/1.1", b" HTTP/1.0")  # an answer in one piece can be read as JSON
    return b"\r\n".join([first, b"Host: " + host.encode(), b"Connection: close", *lines, b"", b""])


def answer_head(head: bytes) -> bytes:
    """An answer's head for the client, which shall ask through a new connection next time."""
    first, *lines = _lines(head, b"connection:", b"keep-alive:")
    return b"\r\n".join([first, b"Connection: close", *lines, b"", b""])


def message(status: int, body: bytes, kind: str = "application/json") -> bytes:
    """A whole answer."""
    head = f"HTTP/1.1 {status} Answer\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close"
    return f"{head}\r\n\r\n".encode() + body


def distorted(head: bytes, body: bytes, mode: str) -> bytes:
    """A server's answer with every fractional number changed; counts, such as the sizes of a tensor, stay."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner) for inner in value]
        return DISTORTED[mode](value) if isinstance(value, float) else value

    with suppress(ValueError):  # what is no JSON stays as it is
        body = json.dumps(walk(json.loads(body))).encode()
    return message(int(head.split()[1]), body)


def _lines(head: bytes, *without: bytes) -> list[bytes]:
    return [line for line in head.rstrip(b"\r\n").split(b"\r\n") if not line.lower().startswith(without)]


def _invented(streaming: bool) -> bytes:
    """An answer of the OpenAI protocol whose text states numbers that nobody gave."""
    about = {"id": "fault", "created": 0, "model": "fault"}
    said = {"index": 0, "finish_reason": "stop"}
    words = {"role": "assistant", "content": INVENTED}
    if not streaming:
        usage = {"prompt_tokens": 1, "completion_tokens": 30, "total_tokens": 31}
        whole = about | {"object": "chat.completion", "choices": [said | {"message": words}], "usage": usage}
        return message(200, json.dumps(whole).encode())
    piece = about | {"object": "chat.completion.chunk", "choices": [said | {"delta": words}]}
    return message(200, f"data: {json.dumps(piece)}\n\ndata: [DONE]\n\n".encode(), "text/event-stream")
