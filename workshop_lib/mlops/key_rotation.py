"""The runbook "a key has leaked", carried out under load: is anybody turned away who should not be?

Two callers ask the API all the time. The *owner* of the key is one of our own programs. It keeps its key in a file, as
a pod keeps a mounted secret, and reads the file before each request. The *thief* has a copy of the key. The steps: a
second key for the same owner; the owner changes over; the API's metrics show that the second key is in use; the first
one ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pandas as pd
from prometheus_client.parser import text_string_to_metric_families

from workshop_lib.files import write_text
from workshop_lib.serving.api_keys import add_key, remove_key

STEPS = ("leaked", "second key added", "owner changed over", "first key ended")
"""What happens one after the other."""
PAUSE = 0.02
"""Seconds between two requests of a caller."""


class _Caller(threading.Thread):
    """Asks again and again, and notes for each request the step in which it began and its status."""

    def __init__(self, name: str, url: str, key: Callable[[], str]) -> None:
        super().__init__(name=name, daemon=True)
        self._url, self._key, self._ended = url, key, threading.Event()
        self.step, self.seen = STEPS[0], list[tuple[str, int]]()

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._ended.wait(PAUSE):
                step = self.step
                try:
                    headers = {"X-API-Key": self._key()}
                    status = client.post("/churn", json={"household_id": 1}, headers=headers).status_code
                except httpx.HTTPError:
                    status = 0  # no answer at all is a failure like any other
                self.seen.append((step, status))

    def end(self) -> None:
        """Stop after the request under way."""
        self._ended.set()
        self.join()


@dataclass(frozen=True)
class Rotation:
    """What came of it."""

    requests: pd.DataFrame
    """Columns ``caller`` (``owner`` or ``thief``), ``step`` and ``status``; a row per request."""
    second_key_uses: int
    """Requests with the second key, by the API's metrics, before the first one ended."""

    @property
    def failed(self) -> int:
        """Requests of the owner that were not answered."""
        return int((self.requests["status"].ne(200) & self.requests["caller"].eq("owner")).sum())

    @property
    def let_in(self) -> int:
        """Requests of the thief that were answered after the first key had ended."""
        after = self.requests["step"].eq(STEPS[-1]) & self.requests["caller"].eq("thief")
        return int((after & self.requests["status"].eq(200)).sum())

    def table(self) -> pd.DataFrame:
        """Requests of each caller in each step, answered and turned away."""
        result = self.requests["status"].eq(200).map({True: "answered", False: "turned away"})
        counted = pd.crosstab(self.requests["step"], [self.requests["caller"], result])
        columns = pd.MultiIndex.from_product([["owner", "thief"], ["answered", "turned away"]])
        return counted.reindex(index=list(STEPS), columns=columns, fill_value=0).rename_axis(index=None)


def rotate(url: str, keys_file: Path, owner: str, role: str, mounted: Path, requests: int = 20) -> Rotation:
    """Carry out the runbook while both callers ask.

    Args:
        url: of the business API.
        keys_file: of the API; it holds ``{owner}-1``, and in the end ``{owner}-2`` instead.
        owner: whose key has leaked.
        role: of that key.
        mounted: the file with the key, from which the owner reads it before each request.
        requests: of each caller in each step, at least.

    Raises:
        KeysError: when the file of keys is another one.
        httpx.HTTPError: when the API is away.
    """
    leaked = mounted.read_text(encoding="utf-8")
    callers = (
        _Caller("owner", url, lambda: mounted.read_text(encoding="utf-8")),
        _Caller("thief", url, lambda: leaked),
    )
    for caller in callers:
        caller.start()

    def wait(step: str) -> None:
        """Let both ask some times in a step."""
        for caller in callers:
            caller.step = step
        while any(sum(seen == step for seen, _ in caller.seen) < requests for caller in callers):
            time.sleep(PAUSE)

    try:
        wait(STEPS[0])
        second = add_key(keys_file, f"{owner}-2", owner, role)
        wait(STEPS[1])
        write_text(mounted, second)
        wait(STEPS[2])
        in_use = uses(url).get(f"{owner}-2", 0)
        remove_key(keys_file, f"{owner}-1")
        wait(STEPS[3])
    finally:
        for caller in callers:
            caller.end()
    rows = [(caller.name, *seen) for caller in callers for seen in caller.seen]
    return Rotation(pd.DataFrame(rows, columns=["caller", "step", "status"]), int(in_use))


def uses(url: str) -> dict[str, int]:
    """Requests that the API has let in so far with each key, by its metrics."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=5).raise_for_status().text)
    return {
        one.labels["key"]: int(one.value)
        for family in families
        for one in family.samples
        if one.name == "api_key_requests_total"
    }
