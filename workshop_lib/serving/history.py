"""The SQL database of the business API: forecasts that it made, what came of them, answers of its cache.

    engine = history.connect()
    with engine.begin() as connection:
        connection.execute(history.insert(engine, table).on_conflict_do_nothing(), rows)

Locally that is one SQLite file, which several processes may write; elsewhere PostgreSQL, by ``WORKSHOP_HISTORY_URL``.
A module that keeps something defines its tables with :data:`METADATA` and makes them with :func:`make_tables`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, MetaData, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite

from workshop_lib.settings import settings

METADATA = MetaData()
BUSY_SECONDS = 2
"""How long a writer of SQLite waits for another one; PostgreSQL: for a connection."""


def connect(url: str | None = None) -> Engine:
    """The database's engine. It connects when it is used, so a database that is away does not keep the API from
    starting.

    Args:
        url: as SQLAlchemy takes it; ``settings.history_database`` by default.

    Raises:
        ValueError: for another kind of database than SQLite and PostgreSQL.
    """
    address = make_url(url or settings.history_database)
    kind = address.get_backend_name()
    if kind == "postgresql":
        if address.drivername == "postgresql":  # SQLAlchemy would look for another driver than the installed one
            address = address.set(drivername="postgresql+psycopg2")
        return create_engine(address, pool_pre_ping=True, connect_args={"connect_timeout": BUSY_SECONDS})
    if kind != "sqlite":
        raise ValueError(f"WORKSHOP_HISTORY_URL: {kind} is not known here; sqlite:/// and postgresql:// are.")
    if address.database:
        Path(address.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(address, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _tune)
    return engine


def _tune(connection: Any, _: object) -> None:
    """Let readers and a writer of the file work side by side (a write-ahead log), with one wait per transaction."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def make_tables(engine: Engine, *tables: Table) -> None:
    """Make the tables that are not there yet.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: when the database is away.
    """
    METADATA.create_all(engine, tables=list(tables), checkfirst=True)


def insert(engine: Engine, table: Table) -> Any:
    """An ``INSERT`` that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update`` of the engine's database."""
    return {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[engine.dialect.name](table)
