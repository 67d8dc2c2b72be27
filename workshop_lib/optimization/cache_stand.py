"""Business APIs with a cache of their own, to measure and to break without disturbing anybody."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import httpx
import pandas as pd
import redis
from prometheus_client.parser import text_string_to_metric_families

from workshop_lib import processes
from workshop_lib.optimization.cache_replay import body_of
from workshop_lib.ports import HOST, free_port
from workshop_lib.processes import Service
from workshop_lib.serving import api_client
from workshop_lib.serving.api_client import Api
from workshop_lib.serving.forecaster_client import connect
from workshop_lib.serving.households import ensure_champion
from workshop_lib.serving.local import cache_service
from workshop_lib.settings import settings

TIMEOUT_SECONDS = 2
"""How long the APIs here wait for Valkey: long, so that a busy machine does not change what a lesson shows."""


class Stand:
    """A forecaster, a Valkey server, a database and business APIs that share them. Everything begins empty.

    Args:
        names: of the APIs.

    Raises:
        ServiceError: when one of them cannot be started.
    """

    def __init__(self, *names: str) -> None:
        connect()
        ensure_champion()  # here, so that the two that start side by side do not both train one
        self.valkey = cache_service("cache-stand", free_port())
        processes.stop(self.valkey)  # one that was left over, with answers in it
        processes.start_with_progress(self.valkey)
        file = settings.home / "services" / "cache-stand.db"
        for name in (file.name, f"{file.name}-wal", f"{file.name}-shm"):
            file.with_name(name).unlink(missing_ok=True)
        self._env = {
            "WORKSHOP_CACHE": "on",
            "WORKSHOP_CACHE_URL": f"redis://{HOST}:{self.valkey.port}/0",
            "WORKSHOP_CACHE_TIMEOUT": str(TIMEOUT_SECONDS),
            "WORKSHOP_HISTORY_URL": f"sqlite:///{file}",
        }
        self._services: dict[str, Service] = {}
        try:
            # Side by side: each reads a year of sales when it starts.
            with ThreadPoolExecutor() as pool:
                started = pool.map(lambda name: api_client.start_another(name, self._env), names)
                self._services.update(zip(names, started, strict=True))
        except processes.ServiceError:
            self.close()
            raise

    def __enter__(self) -> Stand:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def api(self, name: str) -> Api:
        """How to reach one of the APIs."""
        return Api(self._services[name].url, {"X-API-Key": api_client.api_key()})

    def ask(self, name: str, path: str, body: Mapping[str, object], **headers: str) -> httpx.Response:
        """Ask one of the APIs."""
        api = self.api(name)
        return httpx.post(f"{api.url}{path}", json=dict(body), headers=api.headers | headers, timeout=60)

    def burst(self, path: str, body: Mapping[str, object], count: int) -> pd.DataFrame:
        """Ask all APIs the same at the same moment, each ``count`` times.

        Returns:
            One row: ``requests``, ``answered`` (with 200), ``different answers``, and how often the forecaster had to
            be asked for it (``forecaster calls``).
        """
        before = sum(self._calls(name) for name in self._services)
        names = [name for name in self._services for _ in range(count)]
        with ThreadPoolExecutor(len(names)) as pool:
            answers = list(pool.map(lambda name: self.ask(name, path, body), names))
        found = {
            "requests": len(answers),
            "answered": sum(answer.status_code == 200 for answer in answers),
            "different answers": len({answer.content for answer in answers}),
            "forecaster calls": int(sum(self._calls(name) for name in self._services) - before),
        }
        return pd.DataFrame([found], index=["burst"])

    def _calls(self, name: str) -> float:
        return sum(value for labels, value in self.metric(name, "api_backend_requests_total"))

    def metric(self, name: str, sample: str) -> list[tuple[dict[str, str], float]]:
        """All values of one metric of an API: labels and number."""
        text = httpx.get(f"{self.api(name).url}/metrics").text
        families = text_string_to_metric_families(text)
        return [(one.labels, one.value) for family in families for one in family.samples if one.name == sample]

    def lookups(self, name: str) -> pd.DataFrame:
        """Look-ups in the tiers of an API so far: a row per tier, a column per result."""
        found = {
            (labels["tier"], labels["result"]): int(value)
            for labels, value in self.metric(name, "cache_requests_total")
        }
        table = pd.Series(found, dtype=int).unstack(fill_value=0)
        return table.reindex(index=["memory", "valkey", "sql"], columns=["hit", "miss", "stale", "error"], fill_value=0)

    def spoil(self) -> int:
        """Flip one bit in the middle of every forecast in Valkey.

        Whether a text is kept at all depends on how it turned out, so texts are left alone.

        Returns:
            How many were spoilt.
        """
        with redis.Redis(port=self.valkey.port) as client:
            keys = [key for key in client.scan_iter("shop:forecast:*") if not key.endswith(b":lock")]
            for key in keys:
                entry = bytearray(client.get(key))
                entry[len(entry) // 2] ^= 1
                client.set(key, bytes(entry), keepttl=True)
        return len(keys)

    def stop_valkey(self) -> None:
        """End the Valkey server."""
        processes.stop(self.valkey)

    def bodies(self, name: str, questions: pd.DataFrame) -> list[bytes]:
        """What an API answers to some questions, word for word."""
        rows, api = zip(questions["kind"], questions["thing"], questions["day"], strict=True), self.api(name)
        with httpx.Client(base_url=api.url, headers=api.headers, timeout=60) as client:
            return [client.post(f"/{kind}", json=body_of(kind, thing, day)).content for kind, thing, day in rows]

    def close(self) -> None:
        """Stop the APIs and Valkey."""
        for service in (*self._services.values(), self.valkey):
            processes.stop(service)
