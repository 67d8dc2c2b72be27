"""What was said in each conversation, kept in SQLite for as many turns as the settings allow.

    memory = Memory()
    session = new_session()
    memory.add(session, "How many eggs next week?", "1,234 units.", route)
    memory.messages(session), memory.last_route(session)

A session is a random token that nobody can guess. The file holds its fingerprint only: who reads the file learns no
token with which to ask for more.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, trim_messages

from workshop_lib.files import atomic_path, locked
from workshop_lib.settings import settings

MOST_SESSIONS = 1000
"""Conversations that are kept; the ones that were silent longest go first."""
OLDEST_DAYS = 30
"""Days of silence after which a conversation is forgotten."""
LONGEST_MESSAGE = 4000
"""Characters of a message that are kept."""
WAIT_SECONDS = 5.0
"""Longest wait for another writer."""
_TOKEN_BYTES = 24
_SESSION = re.compile(r"[A-Za-z0-9_-]{32}")
_TABLES = """
create table if not exists turns (
    id integer primary key, session text not null, said_at real not null,
    question text not null, answer text not null, route text
);
create index if not exists turns_of_session on turns (session, id);
"""
_BROKEN = ("malformed", "not a database", "encrypted", "no such table", "no such column", "no column")


class SessionError(ValueError):
    """This is no session's token."""


class MemoryBroken(RuntimeError):
    """The file of conversations cannot be used; the message says what became of it."""


def new_session() -> str:
    """A token for a new conversation: 24 random bytes as 32 characters."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


class Memory:
    """Conversations in one file; threads and processes may share it.

    Each call opens the file for itself and writes in one short transaction. Without parameters for a query there is
    no query: a text never becomes SQL.

    Args:
        path: the file; ``settings.assistant_dir / "conversations.db"`` by default.
        turns: questions and answers that are remembered per session; ``settings.memory_turns`` by default.
    """

    def __init__(self, path: Path | None = None, turns: int | None = None) -> None:
        self.path = path or settings.assistant_dir / "conversations.db"
        self.turns = turns or settings.memory_turns

    def add(self, session: str, question: str, answer: str, route: dict[str, Any] | None = None) -> None:
        """Keep a question and its answer; what leaves the window is deleted.

        Args:
            session: from :func:`new_session`.
            question: what was asked.
            answer: what was answered.
            route: what the question was understood as, if anything; values that JSON knows.

        Raises:
            SessionError: when this is no session.
            MemoryBroken: when the file cannot be used.
        """
        mine, now = _fingerprint(session), time.time()
        with self._open(write=True) as db:
            db.execute(
                "insert into turns (session, said_at, question, answer, route) values (?, ?, ?, ?, ?)",
                (mine, now, _kept(question), _kept(answer), json.dumps(route) if route else None),
            )
            db.execute(
                "delete from turns where session = ? and id not in"
                " (select id from turns where session = ? order by id desc limit ?)",
                (mine, mine, self.turns),
            )
            db.execute(
                "delete from turns where said_at < ? or session in"
                " (select session from turns group by session order by max(id) desc limit -1 offset ?)",
                (now - OLDEST_DAYS * 86400, MOST_SESSIONS),
            )

    def messages(self, session: str) -> list[BaseMessage]:
        """The conversation so far, oldest first; it begins with a question.

        Raises:
            SessionError: when this is no session.
            MemoryBroken: when the file cannot be used.
        """
        said: list[BaseMessage] = []
        for question, answer, _ in self._turns(session):
            said += [HumanMessage(content=question), AIMessage(content=answer)]
        return trim_messages(said, max_tokens=2 * self.turns, token_counter=len, strategy="last", start_on="human")

    def last_route(self, session: str) -> dict[str, Any] | None:
        """What the last question that could be routed was understood as; None without one in the window.

        Raises:
            SessionError: when this is no session.
            MemoryBroken: when the file cannot be used.
        """
        routes = [turn[2] for turn in self._turns(session) if turn[2]]
        try:
            found = json.loads(routes[-1]) if routes else None
        except ValueError:
            return None  # somebody else wrote into the file
        return found if isinstance(found, dict) else None

    def forget(self, session: str) -> None:
        """Delete a conversation.

        Raises:
            SessionError: when this is no session.
            MemoryBroken: when the file cannot be used.
        """
        with self._open(write=True) as db:
            db.execute("delete from turns where session = ?", (_fingerprint(session),))

    def _turns(self, session: str) -> list[tuple[str, str, str | None]]:
        mine = _fingerprint(session)
        with self._open() as db:
            rows = db.execute(
                "select question, answer, route from turns where session = ? and said_at >= ? order by id desc limit ?",
                (mine, time.time() - OLDEST_DAYS * 86400, self.turns),
            ).fetchall()
        return rows[::-1]

    @contextmanager
    def _open(self, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection within one transaction.

        Raises:
            MemoryBroken: when the file cannot be used.
        """
        try:
            db = self._connect()
            try:
                with db:
                    db.execute("begin immediate" if write else "begin")
                    yield db
            finally:
                db.close()
        except sqlite3.DatabaseError as error:
            raise self._broken(error) from error
        except OSError as error:
            raise MemoryBroken(f"{self.path} cannot be used ({error}). The conversation is not remembered.") from error

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            with locked(self.path):
                if not self.path.exists():
                    self._create()
        return sqlite3.connect(self.path, timeout=WAIT_SECONDS, isolation_level=None)

    def _create(self) -> None:
        """Make the file; nobody sees it before its tables are there."""
        with atomic_path(self.path) as draft:
            draft.touch(mode=0o600)  # what people asked is nobody else's business
            with closing(sqlite3.connect(draft)) as db:
                # Readers do not wait for a writer, nor it for them.
                db.execute("pragma journal_mode = wal")
                db.executescript(_TABLES)

    def _broken(self, error: sqlite3.DatabaseError) -> MemoryBroken:
        """Put a file that is no database aside, so that the next call begins a new one."""
        if not any(sign in str(error) for sign in _BROKEN):
            return MemoryBroken(f"{self.path} cannot be used now ({error}). The conversation is not remembered.")
        aside = self.path.with_name(f"{self.path.stem}.broken-{time.time_ns()}{self.path.suffix}")
        with locked(self.path):
            # Another thread may have met the same damage a moment ago: its new file is not to be put aside.
            if self.path.exists() and not self._well():
                for suffix in ("", "-wal", "-shm"):
                    with suppress(FileNotFoundError):
                        self.path.with_name(self.path.name + suffix).rename(aside.with_name(aside.name + suffix))
        return MemoryBroken(f"{self.path} was damaged ({error}). It is kept as {aside.name}; conversations begin anew.")

    def _well(self) -> bool:
        try:
            with closing(sqlite3.connect(self.path)) as db:
                db.execute("select session, said_at, question, answer, route from turns limit 1")
                return bool(db.execute("pragma quick_check").fetchone() == ("ok",))
        except sqlite3.DatabaseError:
            return False


def _kept(text: str) -> str:
    """A text as a file can hold it: bounded, and every character one that UTF-8 knows."""
    return text[:LONGEST_MESSAGE].encode("utf-8", "backslashreplace").decode()


def _fingerprint(session: str) -> str:
    if not isinstance(session, str) or not _SESSION.fullmatch(session):
        raise SessionError("This is no session. new_session() makes one.")
    return hashlib.sha256(session.encode()).hexdigest()
