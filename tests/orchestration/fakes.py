"""Small real servers that speak the protocols of the business API and of a language model, as a test wants them.

They run in a thread on a free port of loopback; what they answer is a function that the test may exchange at any
time, and what they were asked is kept.
"""

from __future__ import annotations

import datetime as dt
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Body = dict[str, Any]


@dataclass
class Fake:
    """A running server: where it is, what it was asked, and how it answers."""

    url: str
    answer: Callable[[str, Body], Any]
    """Gets path and body; returns a dict (sent as JSON) or a Response."""
    asked: list[tuple[str, Body]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


def forecast_answer(body: Body, units: float = 100.0, version: str = "3") -> Body:
    """What the business API answers to a question for a forecast."""
    dates = [dt.date.fromisoformat(day) for day in body["dates"]]
    return {
        "category": body["category"],
        "unit": "units",
        "forecasts": [
            {
                "date": day.isoformat(), "units": units, "days_ahead": place + 1, "open": True,
                "interval": {"lower": units * 0.8, "upper": units * 1.3, "coverage": 0.9},
            }
            for place, day in enumerate(dates)
        ],
        "model": {"name": "sales-forecaster", "version": version},
        "backend": "stable",
    }  # fmt: skip


def churn_answer(body: Body, probability: float = 0.25) -> Body:
    """What the business API answers to a question for a score."""
    return {
        "household_id": body.get("household_id"), "probability": probability, "horizon_days": 28,
        "threshold": 0.1667, "contact": probability >= 0.1667, "as_of": "2017-12-31",
        "model": {"name": "household-churn", "version": "2"},
    }  # fmt: skip


def business_api(path: str, body: Body) -> Body:
    """A business API that is well."""
    return forecast_answer(body) if path == "/forecast" else churn_answer(body)


def chat_answer(text: str, finish_reason: str = "stop") -> Body:
    """What an OpenAI-compatible endpoint answers."""
    return {
        "id": "chat-1", "object": "chat.completion", "created": 1, "model": "fake",
        "choices": [{"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": len(text.split()), "total_tokens": 10 + len(text.split())},
    }  # fmt: skip


def chat_stream(text: str) -> Response:
    """The same, word by word."""

    def events() -> Iterator[str]:
        for word in text.split(" "):
            piece = {"id": "chat-1", "object": "chat.completion.chunk", "created": 1, "model": "fake",
                     "choices": [{"index": 0, "delta": {"content": f"{word} "}, "finish_reason": None}]}  # fmt: skip
            yield f"data: {json.dumps(piece)}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@contextmanager
def serve(answer: Callable[[str, Body], Any]) -> Iterator[Fake]:
    """Run a server as long as the block lasts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        fake = Fake(f"http://127.0.0.1:{listener.getsockname()[1]}", answer)

        async def handle(request: Request) -> Response:
            raw = await request.body()
            body = json.loads(raw) if raw else {}
            fake.asked.append((request.url.path, body))
            fake.headers.append(dict(request.headers))
            # In a thread: a slow answer must not keep others waiting.
            made = await run_in_threadpool(fake.answer, request.url.path, body)
            return made if isinstance(made, Response) else JSONResponse(made)

        app = Starlette(routes=[Route("/{path:path}", handle, methods=["GET", "POST"])])
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield fake
        finally:
            server.should_exit = True
            thread.join(timeout=5)
