"""The shadow: another version gets copies of requests, and its answers are compared, logged and thrown away.

It must never be felt: copies run in the background over connections of their own, only so many at once, and
what does not fit is dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from prometheus_client import Counter

from workshop_lib.serving.api_errors import InvalidInput
from workshop_lib.serving.forecaster_client import ForecasterClient, ForecasterError
from workshop_lib.settings import settings

PENDING = 8
"""Copies at once."""
LARGEST_LOG = 5 * 2**20
"""Bytes of the log; a full one is kept once as ``shadow.jsonl.1``."""

COPIES = Counter("api_shadow_total", "Copies of requests for the shadow", ["result"])

Ask = Callable[[ForecasterClient], Awaitable[tuple[list[float], str | None]]]
"""Puts the same question to the shadow: units per day, and the version that made them."""


def log_file() -> Path:
    """Where comparisons are kept: a JSON object a line."""
    return settings.home / "services" / "shadow.jsonl"


class Shadow:
    """Copies of requests in the background.

    Args:
        pending: copies at once; further ones are dropped.
    """

    def __init__(self, pending: int = PENDING) -> None:
        self._client = ForecasterClient(connections=pending)
        self._limit = pending
        self._tasks: set[asyncio.Task[None]] = set()
        file = log_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        self._log = logging.Logger("shadow")
        self._handler = RotatingFileHandler(file, maxBytes=LARGEST_LOG, backupCount=1, encoding="utf-8", delay=True)
        self._log.addHandler(self._handler)

    def compare(self, ask: Ask, about: dict[str, Any], units: list[float], seconds: float) -> None:
        """Send a copy and return at once.

        Args:
            ask: puts the question.
            about: what the log shall say about the request.
            units: the answer that the client got.
            seconds: how long that took.
        """
        if len(self._tasks) >= self._limit:
            COPIES.labels("dropped").inc()
            return
        task = asyncio.create_task(self._compare(ask, about, units, seconds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _compare(self, ask: Ask, about: dict[str, Any], units: list[float], seconds: float) -> None:
        begun = time.perf_counter()
        try:
            shadow_units, version = await ask(self._client)
        except (ForecasterError, InvalidInput) as error:  # the shadow may know other categories
            COPIES.labels("failed").inc()
            self._write({**about, "error": str(error)})
            return
        COPIES.labels("compared").inc()
        self._write(
            {
                **about,
                "units": units,
                "shadow_units": shadow_units,
                "shadow_version": version,
                "largest_difference": float(np.abs(np.subtract(shadow_units, units)).max()),
                "ms": round(seconds * 1000, 2),
                "shadow_ms": round((time.perf_counter() - begun) * 1000, 2),
            }
        )

    def _write(self, line: dict[str, Any]) -> None:
        self._log.info(orjson.dumps({"time": time.time(), **line}).decode())

    async def close(self) -> None:
        """Wait for what is under way and close the connections."""
        await asyncio.gather(*self._tasks)
        await self._client.close()
        self._handler.close()
