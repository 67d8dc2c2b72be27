"""A household asks what the shop knows about it, and wants it erased: find it in every store, erase it, prove it.

    find(12)                                            # every store, and how much is there
    copy_of(12)                                         # for the household
    erase(12, actor="olga", reason="request of 3 May")  # gone from all; the audit trail has no number
    python -m workshop_lib.mlops.privacy erase 12 --actor olga --reason "request of 3 May"

The rights stand in the GDPR, Regulation (EU) 2016/679: access (Article 15), erasure (Article 17), an answer within a
month (Article 12(3)). A request must find everything, so each place where a household could stand is looked at, also
those that were built to hold none.
"""

from __future__ import annotations

import argparse
import json
import re
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow import parquet
from sqlalchemy import ColumnElement, Engine, MetaData, String, Table, and_, cast, delete, func, inspect, select

from workshop_lib import data
from workshop_lib.data import erased
from workshop_lib.mlops import audit
from workshop_lib.serving import history, prediction_log
from workshop_lib.settings import settings

_NAMED = r"\b(?:household|customer|hogar|cliente)(?:e?s)?\b[^.?!\n]{{0,24}}\b{}\b"
"""How people name a household in a question; rather a sentence too many than one too few."""
_NO_COLUMN = "no column that could name a household"


@dataclass(frozen=True)
class Place:
    """One place, and what stands there about a household."""

    store: str
    place: str
    rows: int
    note: str = ""


def find(household: int | str) -> pd.DataFrame:
    """Look for a household in every store of the settings.

    Returns:
        ``store``, ``place``, ``rows`` and ``note``: also places where nothing was found, since that is an answer too.
    """
    number = str(household)
    places = [*_tables(number), *_history(number), *_predictions(number), *_assistant(number)]
    return pd.DataFrame([vars(place) for place in places])


def copy_of(household: int | str) -> dict[str, list[dict[str, Any]]]:
    """What the shop gives to a household that asks what is known about it: its rows of the tables, ready for JSON."""
    return {
        table: json.loads(_rows(_file(table), str(household)).to_json(orient="records", date_format="iso"))
        for table in data.TABLES
        if _holds_households(table)
    }


def told(household: int | str) -> str:
    """Answer to a request for access, as JSON: ``found`` by :func:`find` and ``copy`` by :func:`copy_of`."""
    return json.dumps({"found": find(household).to_dict(orient="records"), "copy": copy_of(household)})


def erase(household: int | str, *, actor: str, reason: str) -> dict[str, pd.DataFrame]:
    """Erase a household from the stores of the settings, and look again.

    The tables are prepared anew without it, and so they are for good (:mod:`workshop_lib.data.erased`). The audit trail
    names the household by its mark only.

    Returns:
        ``before`` and ``after``, as :func:`find` gives them.

    Raises:
        RuntimeError: when something is still there afterwards.
    """
    before = find(household)
    erased.add(household)
    _forget(str(household))
    data.prepared()
    after = find(household)
    left = after[after["rows"] > 0]
    if len(left):
        raise RuntimeError(f"The household still stands in {', '.join(left['place'])}. The request is not done.")
    details = {place: int(rows) for place, rows in zip(before["place"], before["rows"], strict=True) if rows}
    audit.record("privacy.erase", f"household {erased.mark(household)}", actor=actor, reason=reason, details=details)
    return {"before": before, "after": after}


def _file(table: str) -> Path:
    return settings.data_dir / f"{table}.parquet"


def _holds_households(table: str) -> bool:
    return _file(table).is_file() and erased.COLUMN in parquet.read_schema(_file(table)).names


def _rows(file: Path, household: str, columns: list[str] | None = None) -> pd.DataFrame:
    """Rows of a prepared table that name a household."""
    table = pd.read_parquet(file, columns=columns)
    return table[table[erased.COLUMN].astype(str) == household]


def _tables(household: str) -> Iterator[Place]:
    for table in data.TABLES:
        if not _file(table).is_file():
            yield Place("prepared tables", table, 0, "not prepared here")
        elif not _holds_households(table):
            yield Place("prepared tables", table, 0, _NO_COLUMN)
        else:
            yield Place("prepared tables", table, len(_rows(_file(table), household, [erased.COLUMN])))


def _history(household: str) -> Iterator[Place]:
    """The business API's database: every table is looked at, so a new one is not forgotten."""
    engine = history.connect()
    with engine.connect() as connection:
        for table, about in _conditions(engine, household):
            count = select(func.count()).select_from(table).where(about) if about is not None else None
            rows = 0 if count is None else int(connection.scalar(count) or 0)
            yield Place("history of the API", table.name, rows, _NO_COLUMN if about is None else "")
    engine.dispose()


def _conditions(engine: Engine, household: str) -> Iterator[tuple[Table, ColumnElement[bool] | None]]:
    """Every table with the condition for its rows about a household; None for a table that names none."""
    for name in sorted(inspect(engine).get_table_names()):
        table = Table(name, MetaData(), autoload_with=engine)
        yield table, _about(table, household)


def _about(table: Table, household: str) -> ColumnElement[bool] | None:
    if erased.COLUMN in table.c:
        return cast(table.c[erased.COLUMN], String) == household
    if {"kind", "subject"} <= {column.name for column in table.c}:  # the answers that the cache keeps
        return and_(table.c.kind == "churn", table.c.subject == household)
    return None


def _predictions(household: str) -> Iterator[Place]:
    """The log of predictions, where a household has a pseudonym."""
    if settings.prediction_log is None:
        yield Place("log of predictions", "lines", 0, "not kept here")
    else:
        yield Place("log of predictions", "lines", len(prediction_log.read_log(settings.prediction_log, household)))


def _assistant(household: str) -> Iterator[Place]:
    """What the assistant keeps: last known scores, and conversations in which the household was named."""
    for file, found in (("last_known.db", _last_known), ("conversations.db", _turns)):
        if not (settings.assistant_dir / file).is_file():
            yield Place("assistant", file, 0, "nothing was kept here")
            continue
        with closing(sqlite3.connect(settings.assistant_dir / file)) as db:
            yield Place("assistant", file, len(found(db, household)))


def _last_known(db: sqlite3.Connection, household: str) -> list[int]:
    """Row numbers of the scores of a household."""
    rows = db.execute("select rowid, question from answers where kind = 'churn'").fetchall()
    return [number for number, question in rows if _names(question, household)]


def _turns(db: sqlite3.Connection, household: str) -> list[int]:
    """Row numbers of the questions and answers that are about a household."""
    rows = db.execute("select rowid, question, answer, route from turns").fetchall()
    said = re.compile(_NAMED.format(re.escape(household)), re.IGNORECASE)
    return [
        number for number, question, answer, route in rows
        if _names(route, household) or said.search(question) or said.search(answer)
    ]  # fmt: skip


def _names(text: str | None, household: str) -> bool:
    """Whether a JSON text has the household's number under its name, at any depth."""

    def walk(node: Any) -> bool:
        if isinstance(node, dict):
            return str(node.get(erased.COLUMN)) == household or any(map(walk, node.values()))
        return isinstance(node, list) and any(map(walk, node))

    try:
        return walk(json.loads(text or "null"))
    except ValueError:
        return False


def _forget(household: str) -> None:
    """Delete rows from the databases; SQLite files are rewritten, so that the bytes are gone too."""
    engine = history.connect()
    with engine.begin() as connection:
        for table, about in _conditions(engine, household):
            if about is not None:
                connection.execute(delete(table).where(about))
    if engine.dialect.name == "sqlite":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            _rewrite(connection.exec_driver_sql)
    engine.dispose()
    if settings.prediction_log is not None:
        prediction_log.erase(settings.prediction_log, household)
    for file, rows, found in (("last_known.db", "answers", _last_known), ("conversations.db", "turns", _turns)):
        if (settings.assistant_dir / file).is_file():
            with closing(sqlite3.connect(settings.assistant_dir / file, isolation_level=None)) as db:
                db.executemany(f"delete from {rows} where rowid = ?", [(row,) for row in found(db, household)])
                _rewrite(db.execute)


def _rewrite(execute: Any) -> None:
    """Deleted rows stay in a SQLite file, and in its log, until both are written anew."""
    execute("vacuum")
    execute("pragma wal_checkpoint(truncate)")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: prints what was found as JSON."""
    parser = argparse.ArgumentParser(prog="python -m workshop_lib.mlops.privacy", description="A household's request.")
    parser.add_argument("what", choices=("find", "erase"))
    parser.add_argument("household")
    parser.add_argument("--actor", help="who carries out an erasure")
    parser.add_argument("--reason", help="and why")
    given = parser.parse_args(arguments)
    if given.what == "find":
        print(told(given.household))
    elif given.actor and given.reason:
        done = erase(given.household, actor=given.actor, reason=given.reason)
        print(json.dumps({name: table.to_dict(orient="records") for name, table in done.items()}))
    else:
        parser.error("an erasure needs --actor and --reason")
    return 0


if __name__ == "__main__":
    sys.exit(main())
