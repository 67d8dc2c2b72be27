"""The three places where answers are kept: this process's memory, Valkey, and a SQL database.

| tier | who sees it | how long an answer takes | how long it stays |
|---|---|---|---|
| ``memory`` | one process | microseconds | until it is too old or others are asked for more often |
| ``valkey`` | all processes of the API | less than a millisecond | until it is too old |
| ``sql`` | all, and whoever studies the past | about a millisecond | :data:`KEEP_DAYS`, as history |

The two outer ones may be slow, away or wrong at any time. That must cost speed and never an answer, so each call has
a time limit, and a :class:`Breaker` stops calling a tier that failed several times in a row.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import redis.asyncio as redis
import sqlalchemy as sql
from cachetools import TLRUCache
from prometheus_client import Counter, Gauge, Histogram
from pydantic import BaseModel
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from workshop_lib.serving import history
from workshop_lib.serving.envelope import log_line

Result = TypeVar("Result")
Clock = Callable[[], float]

KEEP_DAYS = 400
"""How long the history stays: a year and a month, so that one can look back on last year's holidays."""
PAST_ROWS = 1000
"""Most answers that one look at the past reads."""
WRITE_SECONDS = 1.0
"""Longest time to write into the history, for which nobody waits."""

REQUESTS = Counter("cache_requests_total", "Look-ups in each tier by what came of it", ["tier", "result"])
SECONDS = Histogram(
    "cache_seconds", "Time of a look-up", ["tier"], buckets=(5e-6, 2e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 0.01, 0.05)
)
ENTRIES = Gauge("cache_entries", "Answers in each tier", ["tier"])
EVICTIONS = Counter("cache_evictions_total", "Answers that had to make room", ["tier"])

# A second release of the lock must not open that of somebody else: look and delete in one step.
_UNLOCK = 'if redis.call("get", KEYS[1]) == ARGV[1] then return redis.call("del", KEYS[1]) end return 0'


@dataclass(frozen=True)
class Entry:
    """An answer that is kept."""

    answer: BaseModel
    made: float
    """When, seconds since 1970."""
    expires: float
    """Until when it may be used, likewise."""


class _Bounded(TLRUCache):
    """The store of :class:`MemoryTier`, which counts what it throws out before its time."""

    evicted = 0

    def popitem(self) -> tuple[str, Entry]:
        """Throw out the entry that was not asked for the longest."""
        self.evicted += 1
        found: tuple[str, Entry] = super().popitem()
        return found


class MemoryTier:
    """Answers in this process: so many at most; the ones asked for the longest ago make room.

    Args:
        entries: most answers.
        clock: seconds since 1970; a simulation has a clock of its own.
    """

    name = "memory"

    def __init__(self, entries: int, clock: Clock = time.time) -> None:
        self._store = _Bounded(entries, ttu=lambda _key, entry, _now: entry.expires, timer=clock)

    def __len__(self) -> int:
        return len(self._store)

    @property
    def evicted(self) -> int:
        """Answers that had to make room so far."""
        return self._store.evicted

    def get(self, key: str) -> Entry | None:
        """The entry, unless it is too old."""
        found: Entry | None = self._store.get(key)
        return found

    def put(self, key: str, entry: Entry) -> None:
        """Keep an entry."""
        self._store[key] = entry

    def clear(self) -> None:
        """Forget everything."""
        self._store.clear()


class Breaker:
    """Stops asking a tier that failed several times in a row; now and then one call tries again.

    Args:
        limit: failures in a row.
        seconds: until the next try.
        clock: any clock that runs forward.
    """

    def __init__(self, limit: int = 3, seconds: float = 2, clock: Clock = time.monotonic) -> None:
        self._limit, self._seconds, self._clock = limit, seconds, clock
        self._failures, self._quiet_until = 0, 0.0
        self.reason = ""
        """Why the tier is not asked; empty while it is."""

    def allows(self) -> bool:
        """Whether to call. When the pause is over, one caller may try, and the others wait for its result."""
        if self._failures < self._limit:
            return True
        if self._clock() < self._quiet_until:
            return False
        self._quiet_until = self._clock() + self._seconds
        return True

    def failed(self, reason: str) -> None:
        """Note a failure."""
        self._failures += 1
        if self._failures >= self._limit:
            self.reason = reason
            self._quiet_until = self._clock() + self._seconds

    def succeeded(self) -> None:
        """Note a success: all is well again."""
        self._failures, self.reason = 0, ""


class RemoteTier:
    """What the outer tiers share: calls that fail quietly, and quickly once it is known that they fail.

    Args:
        name: in metrics.
        failures: errors that mean that the tier is not well.
        breaker: when to stop calling.
    """

    def __init__(self, name: str, failures: tuple[type[Exception], ...], breaker: Breaker | None = None) -> None:
        self.name, self.breaker = name, breaker or Breaker()
        self._failures: tuple[type[Exception], ...] = (*failures, OSError, TimeoutError)

    async def attempt(self, work: Callable[[], Awaitable[Result]]) -> Result | None:
        """Do something with the tier; None when it failed or is not asked for now."""
        if not self.breaker.allows():
            return None
        was_well = not self.breaker.reason
        try:
            found = await work()
        except self._failures as error:
            self.breaker.failed(f"{type(error).__name__}: {error}"[:200])
            REQUESTS.labels(self.name, "error").inc()
            if was_well and self.breaker.reason:
                log_line(server="api", event="cache tier away", tier=self.name, reason=self.breaker.reason)
            return None
        if not was_well:
            log_line(server="api", event="cache tier back", tier=self.name)
        self.breaker.succeeded()
        return found


class ValkeyTier(RemoteTier):
    """Answers that all processes of the API share, in a Valkey or Redis server.

    Args:
        url: such as ``redis://127.0.0.1:8500/0`` or ``rediss://user:password@host:6379/0``.
        timeout: longest wait for a reply, seconds.
        breaker: when to stop calling.
    """

    def __init__(self, url: str, timeout: float, breaker: Breaker | None = None) -> None:
        super().__init__("valkey", (RedisError,), breaker)
        self._client = redis.Redis.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0)
        )
        self._evicted = 0

    async def get(self, key: str) -> bytes | None:
        """The sealed entry."""
        found = await self.attempt(lambda: self._client.get(key))
        return found if isinstance(found, bytes) else None

    async def put(self, key: str, sealed: bytes, seconds: float) -> None:
        """Keep a sealed entry for some seconds."""
        await self.attempt(lambda: self._client.set(key, sealed, px=max(1, round(seconds * 1000))))

    async def drop(self, key: str) -> None:
        """Throw an entry away."""
        await self.attempt(lambda: self._client.delete(key))

    async def lock(self, key: str, token: str, seconds: float) -> tuple[bool, bytes | None]:
        """Take the lock of a key, and look once more, because another process may just have put the answer there.

        Args:
            key: of the answer.
            token: who takes it.
            seconds: after which it opens by itself, should its holder die.

        Returns:
            Whether the caller should make the answer, and the sealed entry if there is one by now. A tier that is
            away locks nobody out.
        """

        async def both() -> list[object]:
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.set(f"{key}:lock", token, nx=True, px=max(1, round(seconds * 1000)))
                pipeline.get(key)
                found: list[object] = await pipeline.execute()
                return found

        replies = await self.attempt(both)
        if replies is None:
            return True, None
        return bool(replies[0]), replies[1] if isinstance(replies[1], bytes) else None

    async def unlock(self, key: str, token: str) -> None:
        """Give the lock back, unless it is somebody else's by now."""
        await self.attempt(lambda: self._client.eval(_UNLOCK, 1, f"{key}:lock", token))

    async def measure(self) -> None:
        """Read the server's own counts into the metrics; they hold all that lies in this database."""

        async def counts() -> tuple[int, int]:
            return int(await self._client.dbsize()), int((await self._client.info("stats"))["evicted_keys"])

        found = await self.attempt(counts)
        if found is not None:
            ENTRIES.labels(self.name).set(found[0])
            EVICTIONS.labels(self.name).inc(max(0, found[1] - self._evicted))
            self._evicted = found[1]

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


@dataclass(frozen=True)
class Row:
    """A line of the history."""

    key: str
    kind: str
    """What was asked for: ``forecast``, ``churn`` or ``describe``."""
    subject: str
    """About what: a category, a household, a product."""
    version: str
    """Of the model that answered."""
    made: float
    expires: float
    sealed: bytes


_TABLE = sql.Table(
    "answers",
    history.METADATA,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("key", sql.String(100), nullable=False),
    sql.Column("kind", sql.String(20), nullable=False),
    sql.Column("subject", sql.String(200), nullable=False),
    sql.Column("version", sql.String(100), nullable=False),
    sql.Column("made", sql.Double, nullable=False),
    sql.Column("expires", sql.Double, nullable=False),
    sql.Column("sealed", sql.LargeBinary, nullable=False),
    sql.Index("answers_by_key", "key", "made"),
    sql.Index("answers_by_subject", "kind", "subject", "made"),
)


class SqlTier(RemoteTier):
    """Every answer that was made, with its version and time. Slower than Valkey, and it survives a restart.

    Args:
        engine: from :func:`workshop_lib.serving.history.connect`; the table is made when it is missing.
        timeout: longest wait when a question is looked up, seconds.
        breaker: when to stop calling.
    """

    def __init__(self, engine: sql.Engine, timeout: float, breaker: Breaker | None = None) -> None:
        super().__init__("sql", (SQLAlchemyError,), breaker)
        self._engine, self._timeout, self._ready = engine, timeout, False
        # Threads of its own: a database that hangs must not take those that others need.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="history")

    async def get(self, key: str) -> bytes | None:
        """The latest sealed entry of a key."""
        query = sql.select(_TABLE.c.sealed).where(_TABLE.c.key == key).order_by(_TABLE.c.made.desc()).limit(1)
        return await self.attempt(lambda: self._in_thread(lambda db: db.scalar(query), self._timeout))

    async def put(self, row: Row) -> None:
        """Add an answer to the history."""
        await self.attempt(lambda: self._write(sql.insert(_TABLE).values(**vars(row))))

    async def drop(self, key: str) -> None:
        """Take all answers of a key out of the history."""
        await self.attempt(lambda: self._write(sql.delete(_TABLE).where(_TABLE.c.key == key)))

    async def past(self, kind: str, subject: str) -> list[Row] | None:
        """Answers about something, the latest first; None when the database is away."""
        columns = [_TABLE.c[name] for name in Row.__dataclass_fields__]
        query = sql.select(*columns).where(_TABLE.c.kind == kind, _TABLE.c.subject == subject)
        latest = query.order_by(_TABLE.c.made.desc(), _TABLE.c.id.desc()).limit(PAST_ROWS)

        def work(db: sql.Connection) -> list[Row]:
            return [Row(*row) for row in db.execute(latest)]

        return await self.attempt(lambda: self._in_thread(work))

    async def prune(self, now: float) -> None:
        """Delete what is older than :data:`KEEP_DAYS`, and count what is there."""
        old = sql.delete(_TABLE).where(_TABLE.c.made < now - KEEP_DAYS * 86400)

        def work(db: sql.Connection) -> tuple[int, int]:
            return db.execute(old).rowcount, db.scalar(sql.select(sql.func.count()).select_from(_TABLE)) or 0

        found = await self.attempt(lambda: self._in_thread(work))
        if found is not None:
            EVICTIONS.labels(self.name).inc(found[0])
            ENTRIES.labels(self.name).set(found[1])

    async def close(self) -> None:
        """Let threads and connections go."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._engine.dispose()

    async def _write(self, statement: sql.Insert | sql.Delete) -> None:
        await self._in_thread(lambda db: db.execute(statement).rowcount)

    async def _in_thread(self, work: Callable[[sql.Connection], Result], seconds: float = WRITE_SECONDS) -> Result:
        async with asyncio.timeout(seconds):
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._work, work)

    def _work(self, work: Callable[[sql.Connection], Result]) -> Result:
        if not self._ready:
            history.make_tables(self._engine, _TABLE)
            self._ready = True
        with self._engine.begin() as db:
            return work(db)
