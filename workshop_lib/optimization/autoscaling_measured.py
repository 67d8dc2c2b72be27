"""What one replica can do, as measured: by the load tests of modules 2 and 3, or now."""

from __future__ import annotations

import json
from dataclasses import dataclass

import httpx
import numpy as np

from workshop_lib import processes
from workshop_lib.checkpoints import read_scorecard
from workshop_lib.serving import forecaster_client
from workshop_lib.serving.load import Target, measure
from workshop_lib.serving.local import forecaster_service
from workshop_lib.settings import settings

TOKENS_PER_TEXT = 64
"""Of a product's text, roughly; only to turn tokens per second into texts per second."""
_SECONDS = 2


@dataclass(frozen=True)
class Measured:
    """Requests per second of one replica, and who says so."""

    per_second: float
    source: str


def measured_forecaster() -> Measured:
    """Requests per second that the forecaster answers with one core.

    From the scorecard of module 3's load test (requests per second over cores); where there is none, from a short
    load on the forecaster, which is started when it does not run. On a cluster, where nobody sees its processor time,
    that load gives what the endpoint answers altogether.

    Raises:
        ServiceError: when the local server cannot be started.
        LoadError: when the load cannot be carried out.
    """
    known = _scorecard("endpoint.requests_per_second", "endpoint.cores")
    if known:
        return Measured(known[0] / known[1], "scorecard, checkpoint 3.4")
    endpoint = forecaster_client.connect()
    address = f"{endpoint.url}/v2/models/{endpoint.model}"
    about = httpx.get(address, **endpoint.options).raise_for_status().json()
    # The values do not matter: any row goes through every tree from its root to a leaf.
    body = forecaster_client.v2_body(np.zeros((1, about["inputs"][0]["shape"][1])))
    headers = {"Content-Type": "application/json", **endpoint.headers}
    authority = str(settings.forecaster_ca_file or "")
    target = Target(f"{address}/infer", [json.dumps(body)], headers=headers, ca_file=authority)
    pid = None if settings.forecaster_endpoint else processes.status(forecaster_service()).pid
    load = measure(target, workers=8, seconds=_SECONDS, pid=pid)
    return Measured(load.per_second if pid is None else 1000 / load.cpu_ms, f"measured now, for {_SECONDS} s")


def measured_llm() -> Measured | None:
    """Texts per second of the local language model with full batches, from the scorecard of module 2; else None."""
    known = _scorecard("llm.tokens_per_second")
    return Measured(known[0] / TOKENS_PER_TEXT, "scorecard, checkpoint 2.4") if known else None


def _scorecard(*keys: str) -> list[float] | None:
    """The measured values of these conditions; None unless all of them are there and above 0."""
    values = {str(record["id"]): record["measured"] for record in read_scorecard()}
    found = [values.get(key) for key in keys]
    numbers = [float(value) for value in found if isinstance(value, int | float) and value > 0]
    return numbers if len(numbers) == len(keys) else None
