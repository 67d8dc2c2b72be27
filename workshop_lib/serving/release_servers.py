"""The parts of a stage: servers that start and stop together, what they count, and what a load asks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import numpy as np
import pandas as pd
from prometheus_client.parser import text_string_to_metric_families

from workshop_lib import data, processes
from workshop_lib.predictive.champion import load_package
from workshop_lib.processes import Service
from workshop_lib.serving.forecaster_client import NAME, v2_body
from workshop_lib.serving.routing import Backend
from workshop_lib.settings import settings

_WARM_UPS = 20


@dataclass(frozen=True, eq=False)
class Server:
    """A process that serves one version."""

    name: str
    version: str
    """Number in the registry."""
    service: Service = field(repr=False)

    def backend(self, weight: float = 0) -> Backend:
        """How the routes call it."""
        return Backend(name=self.name, url=self.service.url, weight=weight)


def warm(url: str, requests: int = _WARM_UPS) -> None:
    """Let a server answer some requests: the first ones are slower than those to come.

    Raises:
        httpx.HTTPError: when it does not answer them all.
    """
    with httpx.Client(base_url=f"{url}/v2/models", timeout=settings.forecaster_timeout) as client:
        width = client.get(f"/{NAME}").raise_for_status().json()["inputs"][0]["shape"][1]
        body = v2_body(np.ones((1, width)))
        for _ in range(requests):
            client.post(f"/{NAME}/infer", json=body).raise_for_status()


def questions(several: int = 2) -> list[str]:
    """Bodies for the API's forecast: every category in turn, the next day.

    Args:
        several: every so many-th asks for three past days at once instead.
    """
    categories = load_package().about["categories"]
    last = data.load("daily_sales")["date"].max()
    next_day, past = ([last + pd.Timedelta(days=shift) for shift in shifts] for shifts in ([1], [-9, -8, -7]))
    asked = [(name, past if number % several == 0 else next_day) for number, name in enumerate(categories, start=1)]
    return [json.dumps({"category": name, "dates": [f"{day:%Y-%m-%d}" for day in days]}) for name, days in asked]


def start_together(services: Sequence[Service]) -> None:
    """Start services at the same time; the progress of the first one is shown.

    Raises:
        ServiceError: when one does not become ready.
    """
    with ThreadPoolExecutor() as pool:
        others = [pool.submit(processes.start, service) for service in services[1:]]
        processes.start_with_progress(services[0])
        for other in others:
            other.result()


def stop_together(services: Sequence[Service]) -> None:
    """Stop services at the same time."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(processes.stop, services))


def answered(server: Server) -> float:
    """Requests for forecasts that a server has answered so far."""
    counters = [sample for sample in samples(server.service.url) if sample[0] == "http_requests_total"]
    return sum(value for _, labels, value in counters if "infer" in labels.get("path", ""))


def samples(url: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Names, labels and values of a server's metrics."""
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=5).raise_for_status().text):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value
