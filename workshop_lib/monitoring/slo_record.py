"""Every check that was made, kept in SQLite: what uptime and error budget are computed from.

    record = Record()
    record.add("forecaster", at, up=True, holds=40, seconds=0.02)
    record.timelines()["forecaster"].between(begin, end)

Rows are added and never changed. What is older than the objective's window is deleted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pandas as pd

from workshop_lib.monitoring.slo import Timeline
from workshop_lib.settings import settings

_TABLE = """
create table if not exists checks (
    at real not null, service text not null, up integer, holds real not null, seconds real not null,
    cause text, reason text
);
create index if not exists checks_by_time on checks (at);
"""
WAIT_SECONDS = 5.0
"""Longest wait for another writer."""


class Record:
    """Checks in one file; several programs may write and read it.

    Args:
        path: the file; ``settings.home / "monitoring" / "uptime.db"`` by default.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or settings.home / "monitoring" / "uptime.db"

    def add(
        self,
        service: str,
        at: float,
        up: bool | None,
        holds: float,
        seconds: float = 0.0,
        cause: str = "",
        reason: str = "",
    ) -> None:
        """Add a check.

        Args:
            service: which.
            at: when it ended, seconds since 1970.
            up: what was found; None when it could not be made.
            holds: for how long it says something, at most, seconds.
            seconds: what it took.
            cause: of a failure, a word.
            reason: the same as a sentence; kept for failures only.

        Raises:
            sqlite3.Error, OSError: when it cannot be kept.
        """
        row = (at, service, up, holds, seconds, cause or None, reason if not up else None)
        with self._open() as db:
            db.execute("insert into checks values (?, ?, ?, ?, ?, ?, ?)", row)

    def forget(self, before: float) -> int:
        """Delete checks that ended before a moment, and return how many.

        Raises:
            sqlite3.Error, OSError: when it cannot be done.
        """
        with self._open() as db:
            return db.execute("delete from checks where at < ?", (before,)).rowcount

    def timelines(self, since: float = 0.0) -> dict[str, Timeline]:
        """What is known about each service.

        Args:
            since: leave out older checks.

        Raises:
            sqlite3.Error, OSError: when the file cannot be read.
        """
        found: dict[str, Timeline] = {}
        with self._open() as db:
            for at, service, up, holds in db.execute(
                "select at, service, up, holds from checks where at >= ? order by at", (since,)
            ):
                found.setdefault(service, Timeline()).add(at, None if up is None else bool(up), holds)
        return found

    def failures(self, since: float = 0.0) -> pd.DataFrame:
        """Checks that failed or could not be made: at, service, cause, reason, the oldest first.

        Raises:
            sqlite3.Error, OSError: when the file cannot be read.
        """
        with self._open() as db:
            rows = db.execute(
                "select at, service, cause, reason from checks where up is not 1 and at >= ? order by at", (since,)
            ).fetchall()
        return pd.DataFrame(rows, columns=["at", "service", "cause", "reason"])

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=WAIT_SECONDS)) as db:
            # Not in the mode "wal": on a cluster the file lies on a shared volume, where that does not work.
            db.execute("pragma synchronous = normal")
            with db:
                db.executescript(_TABLE)
                yield db
