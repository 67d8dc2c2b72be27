"""Feedback of the shop: what came of the answers of the business API.

The API keeps its forecasts in a small table (:class:`ForecastBook`). When the sales of a day arrive, each is compared
with the forecast that was made for it, and the metrics of :mod:`workshop_lib.serving.business_metrics` move. Whoever
sends the same events again, because an answer got lost, changes nothing: ids of events are kept in SQL, so that they
outlive a restart and are shared by several processes.

An event is first written down and then counted: a process that dies in between leaves one uncounted, never one that
is counted twice.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI
from sqlalchemy import Column, Date, Float, Integer, String, Table, and_, delete, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from workshop_lib.serving import business_metrics as metrics
from workshop_lib.serving import history
from workshop_lib.serving.api_errors import PROBLEMS, RETRY_SECONDS, Problem
from workshop_lib.serving.api_schemas import ForecastResponse
from workshop_lib.serving.envelope import log_line
from workshop_lib.serving.feedback_schemas import (
    Campaign,
    Campaigns,
    Content,
    Contents,
    FeedbackResponse,
    Recommendation,
    Recommendations,
    Rejected,
    Sale,
    Sales,
)

FLUSH_SECONDS = 1
"""How often forecasts are written down: at most so many seconds of them are lost with the process."""
CHECK_SECONDS = 0.5
"""A database that is away must not keep the API from saying that it is ready without it."""
KEPT_DAYS = {"forecasts": 400, "feedback_events": 90}
"""An event that is sent again after that long would count again."""
MOST_PENDING = 20_000
"""Forecasts that wait for a database that is away; older ones are given up."""

FORECASTS = Table(
    "forecasts", history.METADATA,
    Column("category", String(200), primary_key=True),
    Column("date", Date, primary_key=True),
    Column("units", Float, nullable=False),
    Column("lower", Float, nullable=False),
    Column("upper", Float, nullable=False),
    Column("days_ahead", Integer, nullable=False),
    Column("version", String(20)),
    Column("made_at", Float, nullable=False),
    Column("sold", Float),
    Column("sold_event", String(64)),
)  # fmt: skip
"""One row per category and day: the last forecast of those that looked ahead least, and what was sold."""
EVENTS = Table(
    "feedback_events", history.METADATA,
    Column("kind", String(20), primary_key=True),
    Column("event_id", String(64), primary_key=True),
    Column("made_at", Float, nullable=False),
)  # fmt: skip

Row = dict[str, Any]


class ForecastBook:
    """Forecasts and what came of them, in SQL; events that have been counted.

    Args:
        url: of the database; ``settings.history_database`` by default.

    Raises:
        ValueError: for a kind of database that is not known.
    """

    def __init__(self, url: str | None = None) -> None:
        self.engine = history.connect(url)
        self._pending: dict[tuple[str, dt.date], Row] = {}
        self._noting, self._flushing = threading.Lock(), threading.Lock()
        self._made = False

    def note(self, answer: ForecastResponse) -> None:
        """Remember a forecast until the next :meth:`flush`; quick, and never fails."""
        now = time.time()
        with self._noting:
            for day in answer.forecasts:
                key = answer.category, day.date
                known = self._pending.get(key)
                if day.open and (known is None or day.days_ahead <= known["days_ahead"]):
                    self._pending[key] = {
                        "category": answer.category, "date": day.date, "units": day.units, "lower": day.interval.lower,
                        "upper": day.interval.upper, "days_ahead": day.days_ahead, "version": answer.model.version,
                        "made_at": now,
                    }  # fmt: skip

    def flush(self) -> None:
        """Write down what was noted. A day whose sales are known keeps its forecast.

        Raises:
            SQLAlchemyError: when the database is away; what was noted stays noted.
        """
        with self._flushing:
            with self._noting:
                rows, self._pending = self._pending, {}
            try:
                self._make()
                if rows:
                    self._write(list(rows.values()))
            except SQLAlchemyError:
                with self._noting:
                    kept = {**rows, **self._pending}
                    self._pending = dict(list(kept.items())[-MOST_PENDING:])
                raise

    def _write(self, rows: list[Row]) -> None:
        new = history.insert(self.engine, FORECASTS)
        better = and_(FORECASTS.c.sold.is_(None), new.excluded.days_ahead <= FORECASTS.c.days_ahead)
        changed = {name: new.excluded[name] for name in rows[0] if name not in ("category", "date")}
        upsert = new.on_conflict_do_update(index_elements=["category", "date"], set_=changed, where=better)
        with self.engine.begin() as connection:
            connection.execute(upsert, rows)

    def _make(self) -> None:
        """Make the tables and forget what is very old, once."""
        if self._made:
            return
        history.make_tables(self.engine, FORECASTS, EVENTS)
        with self.engine.begin() as connection:
            for table in (FORECASTS, EVENTS):
                oldest = time.time() - KEPT_DAYS[table.name] * 86400
                connection.execute(delete(table).where(table.c.made_at < oldest))
        self._made = True

    def settle(self, events: Sequence[Sale]) -> tuple[list[metrics.Judged], FeedbackResponse]:
        """Put sales beside the forecasts that were made for them.

        Raises:
            SQLAlchemyError: when the database is away; nothing is written then.
        """
        self.flush()
        names = {name.casefold(): name for name in metrics.departments()}
        judged, duplicates, rejected = [], 0, []
        with self.engine.begin() as connection:
            for event in events:
                category = names.get(event.category.strip().casefold())
                if category is None:
                    rejected.append(Rejected(event_id=event.event_id, reason="unknown category"))
                    continue
                this = and_(FORECASTS.c.category == category, FORECASTS.c.date == event.date)
                # Of two processes that are told the same, only one finds the row without sales.
                claim = update(FORECASTS).where(this, FORECASTS.c.sold.is_(None))
                claim = claim.values(sold=event.units, sold_event=event.event_id)
                columns = (FORECASTS.c.units, FORECASTS.c.lower, FORECASTS.c.upper)
                row = connection.execute(claim.returning(*columns)).one_or_none()
                if row is not None:
                    judged.append(metrics.Judged(category, event.date, row.units, row.lower, row.upper, event.units))
                    continue
                known = connection.execute(select(FORECASTS.c.sold_event).where(this)).scalar_one_or_none()
                duplicates += known == event.event_id
                if known != event.event_id:
                    reason = "already known" if known else "no forecast"
                    rejected.append(Rejected(event_id=event.event_id, reason=reason))
        return judged, FeedbackResponse(counted=len(judged), duplicates=duplicates, rejected=rejected)

    def new_events(self, kind: str, ids: Sequence[str]) -> set[str]:
        """Write down the ids of events, and tell which of them were not there before.

        Raises:
            SQLAlchemyError: when the database is away; nothing is written then.
        """
        self._make()
        rows = [{"kind": kind, "event_id": one, "made_at": time.time()} for one in ids]
        new = history.insert(self.engine, EVENTS).on_conflict_do_nothing().returning(EVENTS.c.event_id)
        with self.engine.begin() as connection:
            return set(connection.execute(new, rows).scalars())

    async def problem(self) -> str | None:
        """Why the database cannot be used, asked for at most :data:`CHECK_SECONDS`; None when it can."""
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await asyncio.to_thread(self._ask)
        except TimeoutError:
            return f"no answer within {CHECK_SECONDS:g} s"
        except SQLAlchemyError as error:
            return _reason(error)
        return None

    def _ask(self) -> None:
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    async def keep(self) -> None:
        """Write down forecasts every :data:`FLUSH_SECONDS`, for ever; log when the database goes and comes back."""
        away = False
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await asyncio.to_thread(self.flush)
            except SQLAlchemyError as error:
                if not away:
                    log_line(server="api", event="database away", reason=_reason(error))
                away = True
            else:
                if away:
                    log_line(server="api", event="database back")
                away = False

    def close(self) -> None:
        """Write down what was noted, if the database is there, and close it."""
        try:
            self.flush()
        except SQLAlchemyError as error:
            log_line(server="api", event="forecasts lost", reason=_reason(error))
        self.engine.dispose()


def _reason(error: SQLAlchemyError) -> str:
    """The database's own words; the statement and its values, which SQLAlchemy adds, belong in no answer."""
    return str(getattr(error, "orig", None) or type(error).__name__).splitlines()[0][:200]


def observe(book: ForecastBook, answer: ForecastResponse, what_if: bool) -> None:
    """Let the metrics and the book know of an answer.

    Args:
        book: where it is kept.
        answer: the forecasts.
        what_if: whether it was asked what would happen at another price or promotion: nobody promised that.
    """
    metrics.count_forecast(answer)
    if not what_if:
        book.note(answer)


async def _in_database(work: Callable[[], FeedbackResponse]) -> FeedbackResponse:
    """Write down and count in a thread: a slow database holds up nobody else, and a request that is given up after
    its events were written down counts them all the same.

    Raises:
        Problem: 503 when the database is away.
    """
    try:
        return await asyncio.to_thread(work)
    except SQLAlchemyError as error:
        raise Problem(503, f"The database of feedback is away: {_reason(error)}", RETRY_SECONDS) from error


def _count_sales(book: ForecastBook, events: Sequence[Sale]) -> FeedbackResponse:
    judged, answer = book.settle(events)
    metrics.count_sales(judged)
    metrics.REJECTED.labels("duplicate").inc(answer.duplicates)
    for one in answer.rejected:
        metrics.REJECTED.labels(one.reason).inc()
    return answer


def _count(
    book: ForecastBook, kind: str, events: Sequence[Recommendation] | Sequence[Content] | Sequence[Campaign]
) -> FeedbackResponse:
    new = book.new_events(kind, [event.event_id for event in events])
    for event in events:
        if event.event_id in new:
            metrics.count_event(event)
    duplicates = len(events) - len(new)
    metrics.REJECTED.labels("duplicate").inc(duplicates)
    return FeedbackResponse(counted=len(new), duplicates=duplicates, rejected=[])


def add_feedback(app: FastAPI, book: ForecastBook) -> None:
    """Add ``POST /feedback/…`` to an application.

    Args:
        app: the business API.
        book: where forecasts and events are kept.
    """

    @app.post("/feedback/sales", responses=PROBLEMS, tags=["feedback"])
    async def sales(body: Sales) -> FeedbackResponse:
        """What was really sold, compared with the forecasts that this API made for those days."""
        return await _in_database(lambda: _count_sales(book, body.events))

    @app.post("/feedback/recommendations", responses=PROBLEMS, tags=["feedback"])
    async def recommendations(body: Recommendations) -> FeedbackResponse:
        """Which suggestions were shown, clicked and bought."""
        return await _in_database(lambda: _count(book, "recommendations", body.events))

    @app.post("/feedback/ratings", responses=PROBLEMS, tags=["feedback"])
    async def ratings(body: Contents) -> FeedbackResponse:
        """Which texts and leaflets were seen, acted upon and rated."""
        return await _in_database(lambda: _count(book, "ratings", body.events))

    @app.post("/feedback/campaigns", responses=PROBLEMS, tags=["feedback"])
    async def campaigns(body: Campaigns) -> FeedbackResponse:
        """Who was sent a campaign, and which coupons were redeemed."""
        return await _in_database(lambda: _count(book, "campaigns", body.events))
