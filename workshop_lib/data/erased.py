"""Households that asked to be forgotten: a list that the preparation of the data honours.

Raw files come again, from the till or from a backup. Deleting a household once is therefore not enough: whoever reads
the files leaves it out for good. The list must not become a register of who was there, so it holds keyed hashes:
without the key nobody can tell, or find out by trying, which numbers stand in it.

Nothing is written before the first household is erased, and as long as there is no list nothing else changes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd

from workshop_lib.data.schemas import DataError
from workshop_lib.files import locked, secret, write_text
from workshop_lib.settings import settings

COLUMN = "household_id"
_CHECK = "is this the right key?"


def erased_file() -> Path:
    """Where the list lies."""
    return settings.home / "erased" / "households.json"


def mark(household: object) -> str:
    """The name under which a household stands in the list and in the audit trail: 16 hexadecimal digits.

    The key is made the first time that it is needed.
    """
    key = secret(erased_file().with_name("key")).encode()
    return hashlib.blake2b(str(household).encode(), key=key, digest_size=8, person=b"erased").hexdigest()


def add(household: object) -> None:
    """Put a household on the list; the tables are prepared anew when they are asked for the next time."""
    with locked(erased_file()):
        marks = sorted({*_read(), mark(household)})
        write_text(erased_file(), json.dumps({"check": mark(_CHECK), "households": marks}, indent=1))


def without(frame: pd.DataFrame) -> pd.DataFrame:
    """A raw table without the rows of households on the list.

    Raises:
        DataError: when the list was written with another key: who is on it can then no longer be told.
    """
    marks = _read()
    if not marks or COLUMN not in frame:
        return frame
    gone = [household for household in frame[COLUMN].unique() if mark(household) in marks]
    return frame[~frame[COLUMN].isin(gone)].reset_index(drop=True)


def _read() -> frozenset[str]:
    if not erased_file().exists():
        return frozenset()
    known = json.loads(erased_file().read_text(encoding="utf-8"))
    if known["check"] != mark(_CHECK):
        raise DataError(
            f"{erased_file()} was written with another key than the one beside it, so nobody can tell who asked to be"
            " forgotten. Bring the file 'key' back before any data is prepared."
        )
    return frozenset(known["households"])
