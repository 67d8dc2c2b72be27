"""A dashboard under test, and one small real server that stands in for the services behind it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from pydantic import SecretStr
from starlette.responses import JSONResponse, Response, StreamingResponse

from tests.orchestration.fakes import Body, chat_answer, churn_answer, forecast_answer, serve
from workshop_lib.orchestration import health
from workshop_lib.orchestration.dashboard import create_app
from workshop_lib.orchestration.dashboard_parts import Parts, load_parts
from workshop_lib.orchestration.last_known import LastKnown
from workshop_lib.orchestration.models import build
from workshop_lib.ports import free_port
from workshop_lib.settings import settings

GOOD = "{product} from a {brand}, for a good day at home. A package of {size} costs {price}."
INVENTED = "{product} from a {brand}, {size} for {price}. It won 17 awards."
SLOW_SECONDS = 10
"""Longer than the dashboard waits for a sign of life."""


@dataclass
class Services:
    """How the services behave; a test changes it while they run."""

    url: str = ""
    mode: dict[str, str] = field(default_factory=dict)
    """Per service (``forecaster``, ``api``, ``llm``) ``well``, ``slow``, ``error`` or ``garbage``."""
    text: str = GOOD
    """What the language model writes; the facts of the prompt fill its gaps."""
    piece_seconds: float = 0.0
    """Pause between two words of a text that is streamed."""
    asked: list[tuple[str, Body]] = field(default_factory=list)

    def answer(self, path: str, body: Body) -> Any:
        """One answer, by the path."""
        service = "forecaster" if path.startswith("/v2") else "llm" if path.startswith("/v1") else "api"
        mode = self.mode.get(service, "well")
        self.asked.append((path, body))
        if mode == "slow":
            time.sleep(SLOW_SECONDS)
        if mode == "error":
            return JSONResponse({"detail": "Something broke."}, 500)
        if mode == "garbage":
            return JSONResponse(["nonsense"])
        return self._well(path, body)

    def _well(self, path: str, body: Body) -> Any:
        if path.startswith("/v2"):
            return {"name": "sales-forecaster", "versions": ["7"], "platform": "test"}
        if path == "/v1/models":
            return {"object": "list", "data": [{"id": "small-llm", "object": "model"}]}
        if path.startswith("/v1"):
            text = self._words(body["messages"][-1]["content"])
            return self._stream(text) if body.get("stream") else chat_answer(text)
        if path == "/health/ready":
            return self._ready()
        if path == "/churn":
            return churn_answer(body, probability=int(body["household_id"]) * 37 % 100 / 100)
        return planned(body)

    def _ready(self) -> Response:
        well = self.mode.get("forecaster", "well") == "well"
        one = {"status": "ok" if well else "failed", "required": True, "reason": None if well else "it is not ready"}
        return JSONResponse({"status": one["status"], "dependencies": {"forecaster": one}}, 200 if well else 503)

    def _stream(self, text: str) -> Response:
        def events() -> Iterator[str]:
            for place, word in enumerate([*text.split(" "), ""]):
                time.sleep(self.piece_seconds)
                last = place == len(text.split(" "))
                delta = {} if last else {"role": "assistant", "content": f"{word} "}
                choice = {"index": 0, "delta": delta, "finish_reason": "stop" if last else None}
                piece = {
                    "id": "1",
                    "object": "chat.completion.chunk",
                    "created": 1,
                    "model": "fake",
                    "choices": [choice],
                }
                yield f"data: {json.dumps(piece)}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    def _words(self, prompt: str) -> str:
        facts = dict(line[2:].split(": ", 1) for line in prompt.splitlines() if line.startswith("- ") and ": " in line)
        try:
            return self.text.format(**facts)
        except (KeyError, IndexError, ValueError):
            return self.text


def planned(question: Body) -> Body:
    """100 units a day; a display adds its share to that, any other price takes half of it away."""
    display = (question.get("promotion") or {}).get("display_share") or 0
    return forecast_answer(question, 100 * (1 + display) * (0.5 if question.get("price") else 1), version="7")


@contextmanager
def services() -> Iterator[Services]:
    """All three on one address, as long as the block lasts."""
    behaviour = Services()
    with serve(behaviour.answer) as fake:
        behaviour.url = fake.url
        yield behaviour


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """An application behind a real socket; gives its address."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@dataclass(frozen=True)
class Running:
    """A dashboard behind a socket, and the services behind the dashboard."""

    url: str
    services: Services
    parts: Parts

    @property
    def host(self) -> str:
        """Its host and port."""
        return urlsplit(self.url).netloc


def parts_for(behaviour: Services, folder: Path) -> Parts:
    """Everything real but the services: data, chains, recommender, and models that ask the given services."""
    models = build(
        api_url=behaviour.url, api_headers={}, llm_url=f"{behaviour.url}/v1", llm_model="small-llm", llm_key="none",
        store=LastKnown(folder / "last.db"), attempts=1,
    )  # fmt: skip
    parts = load_parts(models)
    addresses = {"forecaster": "/v2/models/sales-forecaster", "api": "/health/ready", "llm": "/v1/models"}

    def targets() -> list[health.Target]:
        return [
            replace(target, url=behaviour.url + addresses[target.name])
            for target in health.targets()
            if target.name in addresses
        ]

    return replace(parts, targets=targets)


@contextmanager
def dashboard(folder: Path, login: tuple[str, str] | None = None, like: Running | None = None) -> Iterator[Running]:
    """A dashboard as long as the block lasts.

    Args:
        folder: for what it keeps.
        login: user and password; open without.
        like: shares the services and the data of another one.
    """
    with ExitStack() as stack:
        behaviour = like.services if like else stack.enter_context(services())
        parts = like.parts if like else parts_for(behaviour, folder)
        changes = {"dashboard_user": login[0], "dashboard_password": SecretStr(login[1])} if login else {}
        app = create_app(parts, settings.model_copy(update=changes))
        url = stack.enter_context(listening(app))
        if not like:  # what is made once and kept, so that no test waits for it
            assert len(parts.customers.at_risk)
            parts.customer.invoke({"household_id": 7})
            parts.market.invoke({})
            behaviour.asked.clear()
        yield Running(url, behaviour, parts)
