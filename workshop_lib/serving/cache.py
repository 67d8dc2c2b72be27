"""A cache of three tiers: an answer that was made once is given again, as long as it is right and recent enough.

    cache = open_cache()
    found = await cache.answer(Asked("churn", "1", {"household": "1", "version": "3"}), ChurnResponse, make)
    found.answer, found.state, found.age

A question is looked up in memory, then in Valkey, then in the history. Only when none has it, it is worked on, and then
once: equal questions that arrive meanwhile wait for the same answer (*single flight*), also in other processes.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import orjson
from prometheus_client import Counter
from pydantic import BaseModel, ValidationError

from workshop_lib.serving.api_client import api_key
from workshop_lib.serving.cache_seal import Opened, SealError, seal, seal_key, unseal
from workshop_lib.serving.cache_tiers import (
    ENTRIES,
    EVICTIONS,
    REQUESTS,
    SECONDS,
    Clock,
    Entry,
    MemoryTier,
    Row,
    SqlTier,
    ValkeyTier,
)
from workshop_lib.serving.history import connect as connect_history
from workshop_lib.settings import settings

Form = TypeVar("Form", bound=BaseModel)

LOOK_SECONDS = 0.01
"""Between two looks for an answer that another process is working on."""
MEASURE_SECONDS = 15
"""Between two counts of what lies in the tiers."""
PRUNE_SECONDS = 3600
"""Between two times that old answers are deleted from the history."""
FORM = 1
"""Raised whenever answers get another form or meaning, so that a new release does not give out old ones."""
_WRITES = 100
"""Answers that may wait to be written into the history; a database that is slow must not fill the memory."""

SHARED = Counter("cache_shared_total", "Requests that waited for the answer of another, equal one")


@dataclass(frozen=True)
class Asked:
    """A question in the form in which equal ones are equal."""

    kind: str
    """Which path: ``forecast``, ``churn`` or ``describe``."""
    subject: str
    """About what: for the history."""
    parts: dict[str, Any]
    """All that the answer depends on, as JSON: the question itself, the versions of model and data."""
    version: str = ""
    """Of the model that will answer: for the history."""
    patience: float = 2
    """How long an answer may take to be made: so long another process is waited for, seconds."""
    quick: bool = False
    """Whether it is made more quickly than it is fetched: then it is kept in memory and in the history only."""
    key: str = field(init=False)
    """The name under which the answer lies. Equal parts have equal names, in whatever order; others never do."""

    def __post_init__(self) -> None:
        text = orjson.dumps([FORM, self.parts], option=orjson.OPT_SORT_KEYS)
        object.__setattr__(self, "key", f"shop:{self.kind}:{hashlib.sha256(text).hexdigest()}")


@dataclass(frozen=True)
class Found(Generic[Form]):
    """An answer and where it comes from."""

    answer: Form
    state: Literal["hit", "miss", "off"]
    """Whether it was there, was made now, or was asked for without the cache."""
    age: float = 0
    """Seconds since it was made."""

    @property
    def headers(self) -> dict[str, str]:
        """What an HTTP response says about it; ``Age`` as in RFC 9111."""
        return {"X-Cache": self.state} | ({"Age": str(int(self.age))} if self.state == "hit" else {})


Make = Callable[[], Awaitable[tuple[Form, float]]]
"""Makes the answer, and says for how many seconds it may be kept; 0 for not at all."""


class Cache:
    """Answers in up to three tiers.

    Args:
        memory: in this process.
        shared: seen by all processes; None to do without.
        history: the database; None to do without.
        secret: for the seals on what lies outside this process; see :func:`seal_key`.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        memory: MemoryTier,
        shared: ValkeyTier | None,
        history: SqlTier | None,
        secret: bytes,
        clock: Clock = time.time,
    ) -> None:
        self.memory, self.shared, self.history = memory, shared, history
        self._secret, self._clock = secret, clock
        self._flights: dict[str, asyncio.Task[Found[Any]]] = {}
        self._writes: set[asyncio.Task[None]] = set()
        self._evicted = 0

    async def answer(self, asked: Asked, form: type[Form], make: Make[Form], fresh: bool = False) -> Found[Form]:
        """The answer to a question.

        Args:
            asked: the question.
            form: of the answer; what is kept and does not have it any more counts as broken.
            make: works on the question; what it raises reaches all who wait.
            fresh: make it anew and keep that, whatever is there.
        """
        if fresh:
            return await self._make(asked, make)
        begun = time.perf_counter()
        entry = self.memory.get(asked.key)
        SECONDS.labels("memory").observe(time.perf_counter() - begun)
        REQUESTS.labels("memory", "miss" if entry is None else "hit").inc()
        if entry is not None and isinstance(entry.answer, form):
            return self._found(entry, entry.answer)
        flight = self._flights.get(asked.key)
        if flight is None:
            further = self._make(asked, make) if asked.quick else self._look_further(asked, form, make)
            flight = asyncio.create_task(further)
            self._flights[asked.key] = flight
            flight.add_done_callback(lambda done: self._landed(asked.key, done))
        else:
            SHARED.inc()
        # Shielded: who asked first may leave, and the others still want the answer.
        return await asyncio.shield(flight)

    def _landed(self, key: str, flight: asyncio.Task[Found[Any]]) -> None:
        self._flights.pop(key, None)
        if not flight.cancelled():
            flight.exception()  # looked at, also when nobody waits any more

    async def _look_further(self, asked: Asked, form: type[Form], make: Make[Form]) -> Found[Form]:
        entry = await self._look(self.shared, asked.key, form)
        if entry is None:
            entry = await self._look(self.history, asked.key, form)
            if entry is not None:
                await self._share(asked.key, self._seal(asked.key, entry), entry)
        if entry is None:
            return await self._make_once(asked, form, make)
        self.memory.put(asked.key, entry)
        assert isinstance(entry.answer, form)
        return self._found(entry, entry.answer)

    async def _look(self, tier: ValkeyTier | SqlTier | None, key: str, form: type[Form]) -> Entry | None:
        """An entry of an outer tier that is whole and recent."""
        if tier is None:
            return None
        begun = time.perf_counter()
        sealed = await tier.get(key)
        SECONDS.labels(tier.name).observe(time.perf_counter() - begun)
        return await self._open(tier, key, sealed, form)

    async def _open(self, tier: ValkeyTier | SqlTier, key: str, sealed: bytes | None, form: type[Form]) -> Entry | None:
        if sealed is None:
            if not tier.breaker.reason:
                REQUESTS.labels(tier.name, "miss").inc()
            return None
        try:
            opened = unseal(self._secret, key, sealed)
            entry = Entry(form.model_validate_json(opened.body), opened.made, opened.expires)
        except (SealError, ValidationError):
            REQUESTS.labels(tier.name, "error").inc()
            await tier.drop(key)
            return None
        recent = entry.expires > self._clock()
        REQUESTS.labels(tier.name, "hit" if recent else "stale").inc()
        return entry if recent else None

    async def _make_once(self, asked: Asked, form: type[Form], make: Make[Form]) -> Found[Form]:
        """Make the answer, unless another process is at it: then wait for that one, but not for ever."""
        if self.shared is None:
            return await self._make(asked, make)
        token, until = uuid.uuid4().hex, time.monotonic() + asked.patience
        mine, sealed = await self.shared.lock(asked.key, token, asked.patience)
        waited = False
        while sealed is None and not mine and time.monotonic() < until:
            waited = True
            await asyncio.sleep(LOOK_SECONDS)
            mine, sealed = await self.shared.lock(asked.key, token, asked.patience)
        try:
            entry = await self._open(self.shared, asked.key, sealed, form) if sealed is not None else None
            if entry is None:
                return await self._make(asked, make)
            if waited:
                SHARED.inc()
            self.memory.put(asked.key, entry)
            assert isinstance(entry.answer, form)
            return self._found(entry, entry.answer)
        finally:
            if mine:
                await self.shared.unlock(asked.key, token)

    async def _make(self, asked: Asked, make: Make[Form]) -> Found[Form]:
        answer, seconds = await make()
        if seconds > 0:
            now = self._clock()
            await self._keep(asked, Entry(answer, now, now + seconds))
        return Found(answer, "miss")

    async def _keep(self, asked: Asked, entry: Entry) -> None:
        self.memory.put(asked.key, entry)
        sealed = self._seal(asked.key, entry)
        if not asked.quick:
            await self._share(asked.key, sealed, entry)
        if self.history is not None and len(self._writes) < _WRITES:
            row = Row(asked.key, asked.kind, asked.subject, asked.version, entry.made, entry.expires, sealed)
            # Nobody waits for the history; the set keeps the task alive until it is done.
            write = asyncio.create_task(self.history.put(row))
            self._writes.add(write)
            write.add_done_callback(self._writes.discard)

    async def _written(self) -> None:
        if self._writes:
            await asyncio.wait(self._writes)

    def _seal(self, key: str, entry: Entry) -> bytes:
        opened = Opened(entry.answer.model_dump_json().encode(), entry.made, entry.expires)
        return seal(self._secret, key, opened)

    async def _share(self, key: str, sealed: bytes, entry: Entry) -> None:
        if self.shared is not None:
            await self.shared.put(key, sealed, entry.expires - self._clock())

    def _found(self, entry: Entry, answer: Form) -> Found[Form]:
        return Found(answer, "hit", max(0.0, self._clock() - entry.made))

    async def past(self, kind: str, subject: str, form: type[Form]) -> list[tuple[float, Form]] | None:
        """Answers about something in the order in which they were made, with the time of each.

        What is broken is left out. None when there is no history, or it is away.
        """
        await self._written()
        rows = await self.history.past(kind, subject) if self.history is not None else None
        if rows is None:
            return None
        found = []
        for row in reversed(rows):
            try:
                body = unseal(self._secret, row.key, row.sealed).body
                found.append((row.made, form.model_validate_json(body)))
            except (SealError, ValidationError):
                REQUESTS.labels("sql", "error").inc()
        return found

    @property
    def problems(self) -> dict[str, str]:
        """The outer tiers that are away, and why."""
        tiers = [tier for tier in (self.shared, self.history) if tier is not None]
        return {tier.name: tier.breaker.reason for tier in tiers if tier.breaker.reason}

    async def watch(self) -> None:
        """Count what lies in the tiers, and delete what is too old, for ever."""
        pruned = float("-inf")
        while True:
            ENTRIES.labels("memory").set(len(self.memory))
            EVICTIONS.labels("memory").inc(self.memory.evicted - self._evicted)
            self._evicted = self.memory.evicted
            if self.shared is not None:
                await self.shared.measure()
            if self.history is not None and time.monotonic() - pruned > PRUNE_SECONDS:
                await self.history.prune(self._clock())
                pruned = time.monotonic()
            await asyncio.sleep(MEASURE_SECONDS)

    async def close(self) -> None:
        """Finish what is being written and close the connections."""
        await self._written()
        for tier in (self.shared, self.history):
            if tier is not None:
                await tier.close()


def open_cache() -> Cache | None:
    """The cache of the settings; None when it is switched off. Nothing is called yet.

    Raises:
        ValueError: when an address in the settings is none.
    """
    if not settings.cache:
        return None
    return Cache(
        MemoryTier(settings.cache_entries),
        ValkeyTier(settings.cache_server, settings.cache_timeout),
        SqlTier(connect_history(), settings.cache_timeout),
        seal_key(api_key()),
    )
