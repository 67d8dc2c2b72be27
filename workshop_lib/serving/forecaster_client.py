"""Calls to a forecaster behind the Open Inference Protocol: the local server or one on a cluster.

endpoint = connect()                      # starts the local server when no endpoint is configured
httpx.get(f"{endpoint.url}/v2/models/{endpoint.model}", **endpoint.options)

client = ForecasterClient()               # asynchronous, for servers that call it
answer = await client.infer(url, rows, request_id="a1")
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import orjson

from workshop_lib import processes
from workshop_lib.ports import HOST
from workshop_lib.predictive.champion import OUTPUT
from workshop_lib.predictive.onnx_export import INPUT
from workshop_lib.serving.local import forecaster_service
from workshop_lib.settings import settings

NAME = "sales-forecaster"
"""The model's name in addresses: ``/v2/models/sales-forecaster/infer``."""
DATATYPE = "FP32"


class ForecasterError(RuntimeError):
    """The forecaster gave no forecast; the message says why."""


class ForecasterUnavailable(ForecasterError):
    """It cannot be reached, is too slow, or failed by itself: trying again later may help."""


class ForecasterRefused(ForecasterError):
    """It does not accept the request; sending the same again will not help.

    ``status`` is the HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Endpoint:
    """Where a forecaster answers and what a client has to bring along."""

    url: str
    """Base address of REST, without ``/v2``."""
    grpc: str | None
    """Address of gRPC as ``host:port``; None where it is not known."""
    model: str
    options: dict[str, Any]
    """Keyword arguments for httpx: headers with the token, certificate authority, time-out."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers alone, for other clients; a new copy each time, because some of them write into it."""
        return dict(self.options["headers"])


def connect() -> Endpoint:
    """The configured forecaster, or the local server, which is started when it does not run.

    Raises:
        ServiceError: when the local server cannot be started.
    """
    if settings.forecaster_endpoint:
        return Endpoint(settings.forecaster_endpoint, settings.forecaster_grpc_endpoint, NAME, http_options())
    service = forecaster_service()
    processes.start_with_progress(service)
    return Endpoint(service.url, f"{HOST}:{settings.forecaster_grpc_port}", NAME, http_options())


def http_options() -> dict[str, Any]:
    """What every HTTP call to the forecaster needs: token, trust and time-out from the settings."""
    token, ca_file = settings.forecaster_token, settings.forecaster_ca_file
    return {
        "headers": {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {},
        "verify": ssl.create_default_context(cafile=str(ca_file)) if ca_file else True,
        "timeout": settings.forecaster_timeout,
    }


def v2_body(rows: np.ndarray, request_id: str | None = None) -> dict[str, Any]:
    """A request of the Open Inference Protocol.

    Args:
        rows: features in the model's order, shape (n, features).
        request_id: comes back in the answer.
    """
    rows = np.asarray(rows, dtype=np.float32)
    tensor = {"name": INPUT, "shape": list(rows.shape), "datatype": DATATYPE, "data": rows.ravel().tolist()}
    return {**({"id": request_id} if request_id else {}), "inputs": [tensor]}


@dataclass(frozen=True)
class Answer:
    """Forecasts and the version that made them."""

    units: np.ndarray
    """Shape (n,)."""
    version: str | None
    """Number in the registry; None from a server that does not tell."""


class ForecasterClient:
    """Asynchronous calls over kept-alive connections.

    Args:
        connections: most connections at once to all backends together.
    """

    def __init__(self, connections: int = 64) -> None:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.AsyncClient(**http_options(), limits=limits)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def infer(self, url: str, rows: np.ndarray, request_id: str = "") -> Answer:
        """Ask one backend for forecasts.

        Args:
            url: its base address.
            rows: features in the model's order, shape (n, features).
            request_id: sent along, so that the logs of both sides can be joined.

        Raises:
            ForecasterUnavailable: when it does not answer in time, or answers with 429 or 5xx.
            ForecasterRefused: when it answers with another 4xx.
        """
        headers = {"Content-Type": "application/json", **({"X-Request-ID": request_id} if request_id else {})}
        body = orjson.dumps(v2_body(rows, request_id))
        try:
            reply = await self._http.post(f"{url}/v2/models/{NAME}/infer", content=body, headers=headers)
        except httpx.TimeoutException as error:
            raise ForecasterUnavailable(f"{url} did not answer within {settings.forecaster_timeout:g} s.") from error
        except httpx.HTTPError as error:
            raise ForecasterUnavailable(f"{url} cannot be reached ({type(error).__name__}).") from error
        return read_answer(url, reply, len(rows))

    async def is_ready(self, url: str) -> bool:
        """Whether a backend is ready to forecast."""
        try:
            return (await self._http.get(f"{url}/v2/models/{NAME}/ready")).status_code == 200
        except httpx.HTTPError:
            return False


def read_answer(url: str, reply: httpx.Response, rows: int) -> Answer:
    """The forecasts in a V2 answer.

    Raises:
        ForecasterUnavailable: for a status 429 or 5xx, or an answer that is none of the protocol.
        ForecasterRefused: for another status from 400 on.
    """
    if reply.status_code == 429 or reply.status_code >= 500:
        raise ForecasterUnavailable(f"{url} answered {reply.status_code}: {reply.text[:200]}")
    if reply.status_code >= 400:
        raise ForecasterRefused(reply.status_code, f"{url} answered {reply.status_code}: {reply.text[:200]}")
    try:
        body = orjson.loads(reply.content)
        outputs = {output["name"]: output["data"] for output in body["outputs"]}
        units = np.asarray(outputs[OUTPUT], dtype=np.float64).reshape(rows)
    except (ValueError, KeyError, TypeError) as error:
        raise ForecasterUnavailable(f"{url} gave no answer of the protocol ({error!r}).") from error
    return Answer(units, body.get("model_version"))
