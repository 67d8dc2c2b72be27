"""How the services behind the dashboard are: asked now, and as recent calls found them.

probe(targets())            # a list of Health, after two seconds at most
calls = Calls()             # a callback handler: LangChain tells it about every call of a model
calls.recent("forecast")    # how many, how fast, how many failed
"""

from __future__ import annotations

import math
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import httpx
import numpy as np
from langchain_core.callbacks import BaseCallbackHandler
from pydantic import BaseModel, ValidationError

from workshop_lib.generative.server import llm_server, local_api_key
from workshop_lib.orchestration.results import Churn, Forecast
from workshop_lib.ports import HOST
from workshop_lib.serving import api_client, forecaster_client
from workshop_lib.serving.api_schemas import ReadyResponse
from workshop_lib.serving.local import forecaster_service
from workshop_lib.settings import settings

TIMEOUT = 2.0
"""Seconds after which a service counts as down: people look at the page while they wait."""
KEPT_CALLS = 200
"""Recent calls of each model that figures are made from."""
MODELS = {"forecast": "forecast", "churn": "churn", "text": "text"}

State = Literal["ok", "degraded", "down", "off"]
"""``off`` is a service that is not there and that nobody needs."""
Cause = Literal["", "refused", "slow", "status", "garbage", "reported", "wrong"]


class WrongAnswer(Exception):
    """An answer has the right form and cannot be true; the message says why."""


@dataclass(frozen=True)
class Target:
    """Something to ask, and how to read what it answers."""

    name: Literal["forecaster", "api", "llm", "mlflow", "dashboard"]
    url: str
    """The address to ask."""
    read: Callable[[httpx.Response], tuple[State, str, str]]
    """From an answer to state, version and detail; raises ValueError, KeyError or TypeError for an answer of
    another form, WrongAnswer for one that cannot be true."""
    headers: dict[str, str] = field(default_factory=dict)
    ca_file: Path | None = None
    """Certificate authority of the service, a PEM file; those of this machine by default."""
    needed: bool = True
    """Whether its absence costs the dashboard anything."""
    local: bool = True
    """Whether it is a service of this machine, which ``./workshop up`` starts."""
    body: bytes | None = None
    """What is posted there, JSON; None for a plain look."""


@dataclass(frozen=True)
class Health:
    """How a service answered."""

    name: str
    state: State
    cause: Cause = ""
    """Why it is not ``ok``."""
    detail: str = ""
    """What the service or the network said about it."""
    milliseconds: float | None = None
    """Time to the answer; None without one."""
    version: str = ""
    """What it serves, where it tells."""
    url: str = ""
    local: bool = True


def targets() -> list[Target]:
    """The services that the settings name."""
    forecaster = settings.forecaster_endpoint or forecaster_service().url
    token = settings.forecaster_token
    api = settings.api_endpoint or api_client.api_service().url
    elsewhere = settings.llm_endpoint
    llm = elsewhere or f"{llm_server().url}/v1"
    key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else "none"
    tracking = settings.mlflow_uri if settings.mlflow_uri and settings.mlflow_uri.startswith("http") else None
    return [
        Target(
            "forecaster", f"{forecaster}/v2/models/{forecaster_client.NAME}", _read_forecaster,
            {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}, settings.forecaster_ca_file,
            local=settings.forecaster_endpoint is None,
        ),
        Target("api", f"{api}/health/ready", _read_api, local=settings.api_endpoint is None),
        Target(
            "llm", f"{llm}/models", _read_llm, {"Authorization": f"Bearer {key if elsewhere else local_api_key()}"},
            settings.llm_ca_file if elsewhere else None, local=elsewhere is None,
        ),
        Target(
            "mlflow", f"{tracking or f'http://{HOST}:{settings.mlflow_port}'}/health", _read_mlflow,
            needed=False, local=tracking is None,
        ),
    ]  # fmt: skip


def probe(services: Sequence[Target], timeout: float = TIMEOUT) -> list[Health]:
    """Ask all services at once.

    Args:
        services: whom to ask.
        timeout: longest wait for each, seconds.
    """
    with ThreadPoolExecutor(max(1, len(services)), thread_name_prefix="health") as threads:
        return list(threads.map(lambda target: _ask(target, timeout), services))


def _ask(target: Target, timeout: float) -> Health:
    begun = time.perf_counter()
    taken: float | None = None

    def health(state: State, cause: Cause = "", detail: str = "", version: str = "") -> Health:
        if state == "down" and not target.needed:
            state = "off"
        return Health(target.name, state, cause, detail, taken, version, target.url, target.local)

    try:
        answer = _client(target.ca_file).request(
            "GET" if target.body is None else "POST", target.url, content=target.body, timeout=timeout,
            headers=target.headers if target.body is None else {"Content-Type": "application/json", **target.headers},
        )  # fmt: skip
    except httpx.TimeoutException:
        return health("down", "slow", f"{timeout:g} s")
    except httpx.RequestError as error:
        return health("down", "refused", str(error) or type(error).__name__)
    taken = 1000 * (time.perf_counter() - begun)  # without the time that reading it takes
    # The business API explains itself in the body of a 503 as well.
    if answer.is_error and not (target.name == "api" and answer.status_code == 503):
        return health("down", "status", f"HTTP {answer.status_code}")
    try:
        state, version, detail = target.read(answer)
    except WrongAnswer as error:
        return health("down", "wrong", str(error))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return health("down", "garbage")
    return health(state, "" if state == "ok" else "reported", detail, version)


@cache
def _client(ca_file: Path | None) -> httpx.Client:
    """Kept, because reading the certificates takes longer than asking a service."""
    return httpx.Client(verify=ssl.create_default_context(cafile=str(ca_file)) if ca_file else True)


def _read_forecaster(answer: httpx.Response) -> tuple[State, str, str]:
    about = answer.json()
    return "ok", ", ".join(str(version) for version in about.get("versions") or ()), str(about["name"])


def _read_api(answer: httpx.Response) -> tuple[State, str, str]:
    try:
        ready = ReadyResponse.model_validate_json(answer.content)
    except ValidationError as error:
        raise ValueError("not an answer of the business API") from error
    wrong = [
        f"{name}: {one.reason or one.status}" for name, one in ready.dependencies.items() if one.status != "ok"
    ]  # fmt: skip
    states: dict[str, State] = {"ok": "ok", "degraded": "degraded", "failed": "down"}
    return states[ready.status], "", "; ".join(wrong)


def _read_llm(answer: httpx.Response) -> tuple[State, str, str]:
    return "ok", ", ".join(str(model["id"]) for model in answer.json()["data"]), ""


def _read_mlflow(answer: httpx.Response) -> tuple[State, str, str]:
    if answer.text.strip() != "OK":
        raise ValueError("not MLflow")
    return "ok", "", ""


class Recent(BaseModel):
    """What the recent calls of a model were like."""

    calls: int
    failed: int
    substitutes: int
    """Answered from the last known answers."""
    median_ms: float
    p95_ms: float
    version: str


@dataclass(frozen=True)
class _Call:
    seconds: float
    failed: bool
    substitute: bool = False


class Calls(BaseCallbackHandler):
    """Times every call of the models; given to them as a callback, it changes none.

    A forecast's time includes repeated attempts: it is what a reader waited.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[UUID, tuple[str, float]] = {}
        self._calls: dict[str, deque[_Call]] = {name: deque(maxlen=KEPT_CALLS) for name in MODELS}
        self._versions: dict[str, str] = {}

    def recent(self, name: str) -> Recent:
        """Figures of one model's recent calls.

        Args:
            name: ``forecast``, ``churn`` or ``text``.
        """
        with self._lock:
            calls = list(self._calls[name])
        times = [1000 * call.seconds for call in calls]
        return Recent(
            calls=len(calls),
            failed=sum(call.failed for call in calls),
            substitutes=sum(call.substitute for call in calls),
            median_ms=float(np.median(times)) if times else math.nan,
            p95_ms=float(np.percentile(times, 95)) if times else math.nan,
            version=self._versions.get(name, ""),
        )

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **about: Any) -> None:
        """Note when a forecast or a score was asked for."""
        if about.get("name") in ("forecast", "churn"):
            self._start(str(about["name"]), run_id)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **about: Any) -> None:
        """Note how long it took, and which version answered."""
        if isinstance(outputs, Forecast | Churn):
            self._end(run_id, failed=False, substitute=outputs.source.degraded, version=outputs.version)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **about: Any) -> None:
        """Note that there was no answer."""
        self._end(run_id, failed=True)

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **about: Any) -> None:
        """Note when a text was asked for."""
        self._start("text", run_id)

    def on_llm_end(self, response: Any, *, run_id: UUID, **about: Any) -> None:
        """Note how long the language model took."""
        made = [getattr(one, "message", None) for several in response.generations for one in several]
        names = [message.response_metadata.get("model_name") for message in made if message is not None]
        self._end(run_id, failed=False, version=next(filter(None, names), None))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **about: Any) -> None:
        """Note that it gave no text."""
        self._end(run_id, failed=True)

    def _start(self, name: str, run_id: UUID) -> None:
        with self._lock:
            self._begun[run_id] = name, time.perf_counter()

    def _end(self, run_id: UUID, failed: bool, substitute: bool = False, version: str | None = None) -> None:
        with self._lock:
            name, begun = self._begun.pop(run_id, ("", 0.0))
            if not name:
                return
            self._calls[name].append(_Call(time.perf_counter() - begun, failed, substitute))
            if version:
                self._versions[name] = version
