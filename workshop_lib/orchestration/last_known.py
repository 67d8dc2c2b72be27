"""Answers of models, kept for the time when a model is away."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workshop_lib.settings import settings

MOST_ANSWERS = 10_000
"""The oldest go when there are more."""
_LOG = logging.getLogger(__name__)
_TABLE = """
create table if not exists answers (
    kind text not null, question text not null, answer text not null, saved_at real not null,
    primary key (kind, question)
)
"""


class LastKnown:
    """The last answer to each question, in a file of SQLite.

    A store that cannot be used costs no answer: saving is given up with a line in the log, and nothing is found.

    Args:
        path: the file; ``settings.assistant_dir / "last_known.db"`` by default.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or settings.assistant_dir / "last_known.db"

    def save(self, kind: str, question: str, answer: str) -> None:
        """Keep an answer; it replaces an older one to the same question.

        Args:
            kind: of the model, such as ``forecast``.
            question: any text that is the same for the same question.
            answer: a text that says it all, such as JSON.
        """
        try:
            with self._open() as db:
                db.execute("insert or replace into answers values (?, ?, ?, ?)", (kind, question, answer, time.time()))
                db.execute(
                    "delete from answers where rowid in"
                    " (select rowid from answers order by saved_at desc limit -1 offset ?)",
                    (MOST_ANSWERS,),
                )
        except (sqlite3.Error, OSError) as error:
            _LOG.warning("%s: the answer was not kept (%s).", self.path, error)

    def find(self, kind: str, question: str) -> tuple[str, float] | None:
        """The last answer and its age in seconds; None when there is none."""
        try:
            with self._open() as db:
                row = db.execute(
                    "select answer, saved_at from answers where kind = ? and question = ?", (kind, question)
                ).fetchone()
        except (sqlite3.Error, OSError) as error:
            _LOG.warning("%s: no answer was found (%s).", self.path, error)
            return None
        return (row[0], max(0.0, time.time() - row[1])) if row else None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, timeout=1)
        try:
            # Several chains and processes write at the same time; so they hardly wait for each other.
            db.execute("pragma journal_mode = wal")
            db.execute("pragma synchronous = normal")
            with db:
                db.execute(_TABLE)
                yield db
        finally:
            db.close()
