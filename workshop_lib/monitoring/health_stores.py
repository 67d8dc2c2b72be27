"""Caches and databases, asked to do for a moment what they are there for.

ask_cache("redis://127.0.0.1:8500/0", timeout=2)
Databases().ask(timeout=2)
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import redis
import sqlalchemy as sql
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry
from sqlalchemy.exc import SQLAlchemyError

from workshop_lib.orchestration.health import Cause
from workshop_lib.settings import settings

_CORRUPT = ("malformed", "not a database", "encrypted")


class Trouble(Exception):
    """Something is not well: its cause in a word, and why as a sentence."""

    def __init__(self, cause: Cause, reason: str) -> None:
        super().__init__(reason)
        self.cause, self.reason = cause, reason


def ask_cache(url: str, timeout: float) -> str:
    """Let a Valkey or Redis server keep a value, ask for it, and take it away again.

    Args:
        url: such as ``redis://127.0.0.1:8500/0``.
        timeout: longest wait for each of the three, seconds.

    Returns:
        A sentence that says that all is well.

    Raises:
        Trouble: when it does not.
    """
    place = _place(url)
    key, value = f"health:{secrets.token_hex(8)}", secrets.token_hex(16).encode()
    try:
        with closing(_cache_client(url, timeout)) as server:
            server.ping()
            server.set(key, value, ex=60)  # it goes by itself, should this program end before it is deleted
            found = server.get(key)
            server.delete(key)
    except redis.exceptions.TimeoutError:
        raise Trouble("slow", f"The cache at {place} did not answer within {timeout:g} s.") from None
    except AuthenticationError as error:
        raise Trouble("status", f"The cache at {place} does not let us in ({error}).") from error
    except redis.exceptions.ConnectionError as error:
        raise Trouble("refused", f"The cache at {place} cannot be reached.") from error
    except RedisError as error:
        raise Trouble("status", f"The cache at {place} refused ({error}).") from error
    if found != value:
        raise Trouble("wrong", f"The cache at {place} gave back another value than it was given.")
    return "A value was kept, found and taken away."


def _cache_client(url: str, timeout: float) -> redis.Redis:
    # A new connection each time: a check shall see what a new client would see.
    retry = Retry(NoBackoff(), 0)
    return redis.Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=retry)


class Databases:
    """The databases behind the system: MLflow's, which is the model registry, and the history of the business API.

    A local history that nobody has written yet is no trouble. One that was there and is gone is.

    Args:
        urls: other ones, by name, as SQLAlchemy addresses.
    """

    def __init__(self, urls: Mapping[str, str] | None = None) -> None:
        self._urls = urls or {"model registry": settings.tracking_uri, "history": settings.history_database}
        self._optional = set() if urls or settings.history_url else {"history"}

    def ask(self, timeout: float) -> str:
        """Look at each of them.

        Args:
            timeout: longest wait for each, seconds.

        Returns:
            A sentence that says that all is well.

        Raises:
            Trouble: naming the first that is not.
        """
        asked = []
        for name, url in self._urls.items():
            path = _sqlite_file(url)
            if name in self._optional and path is not None and not path.exists():
                continue
            self._optional.discard(name)
            _ask_database(name, url, path, timeout)
            asked.append(name)
        return f"Asked and found well: {', '.join(asked)}."


def _ask_database(name: str, url: str, path: Path | None, timeout: float) -> None:
    if path is not None:
        _ask_sqlite(name, path, timeout)
        return
    place = _place(url)
    try:
        if url.startswith("http"):
            httpx.get(f"{url.rstrip('/')}/health", timeout=timeout).raise_for_status()
        else:
            with _engine(url, timeout).connect() as connection:
                connection.execute(sql.text("SELECT 1"))
    except httpx.TimeoutException:
        raise Trouble("slow", f"The {name} at {place} did not answer within {timeout:g} s.") from None
    except httpx.HTTPStatusError as error:
        raise Trouble("status", f"The {name} at {place} answered with {error.response.status_code}.") from error
    except (httpx.HTTPError, SQLAlchemyError, ImportError) as error:
        raise Trouble("refused", f"The {name} at {place} cannot be used ({type(error).__name__}).") from error


def _ask_sqlite(name: str, path: Path, timeout: float) -> None:
    """Begin a change as any writer would, read the schema, and take it back.

    ``SELECT 1`` would not do: SQLite answers it without a look at the file.
    """
    if not path.is_file():
        raise Trouble("refused", f"The {name} is gone: there is no file {path.name}.")
    try:
        with closing(
            sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=timeout, isolation_level=None)
        ) as db:
            db.execute("begin immediate")
            db.execute("select count(*) from sqlite_master").fetchone()
            db.execute("rollback")
    except sqlite3.Error as error:
        text = str(error)
        if "locked" in text:
            raise Trouble("slow", f"The {name} was locked by another program for {timeout:g} s.") from error
        if any(word in text for word in _CORRUPT):
            raise Trouble("garbage", f"The {name} is damaged: {path.name} is no database any more.") from error
        raise Trouble("reported", f"The {name} cannot be written ({text}).") from error


def _sqlite_file(url: str) -> Path | None:
    if not url.startswith("sqlite"):
        return None
    return Path(sql.make_url(url).database or "")


@cache
def _engine(url: str, timeout: float) -> sql.Engine:
    """Kept: opening one costs more than asking. ``pool_pre_ping`` replaces connections that a restart cut."""
    limits: dict[str, object] = (
        {"connect_timeout": max(1, round(timeout))} if url.startswith(("postgresql", "mysql")) else {}
    )
    return sql.create_engine(url, connect_args=limits, pool_pre_ping=True, pool_size=1)


def _place(url: str) -> str:
    """Host and port of an address, without the password that may stand before them."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
