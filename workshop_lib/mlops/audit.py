"""The audit trail: who changed what, when and why, in a file that only grows and tells when it was changed.

    record("promote", "sales-forecaster v1.1.0", actor="olga", reason="passed all gates")
    verify()                                                        # number of entries, or AuditError

One line of JSON per entry. Each line holds the SHA-256 of its own content and of the line before it (a *hash
chain*), and the last checksum is kept in a second file beside it, the *head*. A line that was changed, taken out,
put in or moved no longer fits its neighbour, and a tail that was cut off no longer fits the head.

What a chain cannot do: whoever may write both files can compute everything anew. So a copy of the head belongs
where the writers of the trail have no access, such as the log of another team.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_lib.files import locked, write_text
from workshop_lib.settings import settings

if TYPE_CHECKING:  # pipeline steps that only record need not wait for its import
    import pandas as pd

GENESIS = "0" * 64
"""What the first entry names as the checksum before it."""


class AuditError(RuntimeError):
    """The trail was changed behind its back; the message names the first line that shows it."""

    def __init__(self, path: Path, line: int, what: str) -> None:
        super().__init__(
            f"{path.name}, line {line}: {what} Do not go on: find out who had access, and compare with a copy."
        )
        self.line = line
        """The line's number, from 1."""


@dataclass(frozen=True)
class Entry:
    """One line of the trail."""

    number: int
    """From 1, without a gap."""
    at: str
    """When, UTC, ISO 8601."""
    actor: str
    """Who: a person or a service account."""
    action: str
    """Did what, such as ``build`` or ``approve``."""
    subject: str
    """To what, such as ``sales-forecaster v1.1.0``."""
    reason: str
    """And why."""
    details: dict[str, Any] = field(default_factory=dict)
    previous: str = GENESIS
    """Checksum of the line before."""
    sha256: str = ""
    """Checksum of everything above."""

    def checksum(self) -> str:
        """SHA-256 of the content, with which :attr:`sha256` must agree."""
        content = {name: value for name, value in asdict(self).items() if name != "sha256"}
        return hashlib.sha256(_json(content).encode()).hexdigest()


@dataclass(frozen=True)
class _Head:
    """What the second file says about the first."""

    entries: int = 0
    sha256: str = GENESIS
    size: int = 0
    """Bytes of the file, so that writing an entry need not read all others."""


def trail_file() -> Path:
    """Where the course's own trail lies."""
    return settings.home / "mlops" / "audit.jsonl"


def record(
    action: str,
    subject: str,
    *,
    actor: str,
    reason: str,
    details: Mapping[str, Any] = {},
    path: Path | None = None,
) -> Entry:
    """Write an entry at the end of the trail.

    Args:
        action: what was done.
        subject: to what.
        actor: who did it.
        reason: why.
        details: more about it, ready for JSON.
        path: the trail; the course's own by default.

    Raises:
        ValueError: when one of the four texts is empty, or the details are no JSON.
        AuditError: when the trail no longer ends where the last entry ended.
    """
    path = path or trail_file()
    for name, text in {"action": action, "subject": subject, "actor": actor, "reason": reason}.items():
        if not text.strip():
            raise ValueError(f"{name}: an entry needs one. Who reads the trail later cannot ask any more.")
    with locked(path):
        head = _read_head(path)
        if (path.stat().st_size if path.exists() else 0) != head.size:
            head = _checked(path)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        plain = json.loads(_json(dict(details)))  # a tuple becomes a list now and not only when it is read again
        draft = Entry(head.entries + 1, now, actor, action, subject, reason, plain, head.sha256)
        entry = Entry(**(asdict(draft) | {"sha256": draft.checksum()}))
        with path.open("a", encoding="utf-8") as stream:
            stream.write(_json(asdict(entry)) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        write_text(_head_file(path), json.dumps(asdict(_Head(entry.number, entry.sha256, path.stat().st_size))))
    return entry


def read(path: Path | None = None) -> list[Entry]:
    """All entries, the oldest first, unchecked; an empty list where nothing was recorded.

    Raises:
        AuditError: when a line is no entry at all.
    """
    path = path or trail_file()
    if not path.exists():
        return []
    return [_parse(path, number, line) for number, line in enumerate(_lines(path), start=1)]


def verify(path: Path | None = None) -> int:
    """Check every line against its neighbours and the last one against the head.

    Returns:
        The number of entries.

    Raises:
        AuditError: naming the first line that was changed, is missing, or stands in another place.
    """
    path = path or trail_file()
    with locked(path):  # an entry and its head are two writes
        return _checked(path).entries


def table(entries: Iterable[Entry]) -> pd.DataFrame:
    """Entries for reading: a row each with who, what, why and the details as text; the checksums are left out."""
    import pandas as pd

    columns = ["number", "at", "actor", "action", "subject", "reason"]
    rows = [
        {name: getattr(entry, name) for name in columns}
        | {"details": ", ".join(f"{name} {value}" for name, value in entry.details.items())}
        for entry in entries
    ]
    return pd.DataFrame(rows, columns=[*columns, "details"]).set_index("number")


def _checked(path: Path) -> _Head:
    """What the head ought to say, computed from the trail; it must agree with what it says."""
    head, previous, number = _read_head(path), GENESIS, 0
    lines = _lines(path) if path.exists() else []
    for number, line in enumerate(lines, start=1):
        entry = _parse(path, number, line)
        if entry.number != number:
            raise AuditError(path, number, f"here stands entry {entry.number}; lines are missing or moved.")
        if _json(asdict(entry)) != line or entry.checksum() != entry.sha256:
            raise AuditError(path, number, "it was changed: its checksum is another one.")
        if entry.previous != previous:
            raise AuditError(path, max(number - 1, 1), f"it was changed, and its checksum too: line {number} shows it.")
        previous = entry.sha256
        if number == head.entries and previous != head.sha256:
            raise AuditError(path, number, "it is not the line that the head knows.")
    if number < head.entries:
        raise AuditError(path, number + 1, f"it is missing: the head knows {head.entries} lines.")
    # One line more is what a crash between the two writes leaves; it follows from the chain, so it may stay.
    if number > head.entries + 1:
        raise AuditError(path, head.entries + 1, f"the head knows {head.entries} lines, and there are {number}.")
    return _Head(number, previous, path.stat().st_size if path.exists() else 0)


def _lines(path: Path) -> list[str]:
    """The lines as they are; a last one that was not finished counts too. A strange byte spoils its checksum."""
    lines = path.read_bytes().decode(errors="replace").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _parse(path: Path, number: int, line: str) -> Entry:
    try:
        return Entry(**json.loads(line))
    except (ValueError, TypeError) as error:
        raise AuditError(path, number, "it cannot be read as an entry.") from error


def _head_file(path: Path) -> Path:
    return path.with_suffix(".head")


def _read_head(path: Path) -> _Head:
    file = _head_file(path)
    try:
        return _Head(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else _Head()
    except (ValueError, TypeError) as error:
        raise AuditError(path, 1, f"the head beside it, {file.name}, cannot be read.") from error


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, sort_keys=True, allow_nan=False)
