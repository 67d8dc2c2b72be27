"""What came of the answers: sales against forecasts, events counted once, metrics with few labels."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY
from sqlalchemy import select

from tests.serving.postgres import postgres
from workshop_lib.serving import api_client, business_metrics, history
from workshop_lib.serving.api import Parts, create_app
from workshop_lib.serving.api_errors import add_handlers
from workshop_lib.serving.api_schemas import DayForecast, ForecastResponse, Interval, ModelVersion
from workshop_lib.serving.feedback import EVENTS, FORECASTS, KEPT_DAYS, ForecastBook, add_feedback, observe
from workshop_lib.serving.feedback_schemas import MOST_EVENTS
from workshop_lib.serving.forecaster_client import Endpoint
from workshop_lib.serving.forecasts import Forecasts
from workshop_lib.serving.households import Households
from workshop_lib.serving.routing import Router
from workshop_lib.serving.texts import Texts

DAY = dt.date(2017, 12, 1)
SHOP = {"SOFT DRINKS": "GROCERY", "EGGS": "GROCERY", "SALAD": "PRODUCE"}


@pytest.fixture(autouse=True)
def shop(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A shop of three categories, for all tests but those with real models."""
    if "real" not in request.fixturenames:
        monkeypatch.setattr(business_metrics, "departments", lambda: SHOP)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'new' / 'history.db'}"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL."""
    with postgres() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest, url: str) -> str:
    """The address of an empty database of each kind."""
    if request.param == "sqlite":
        return url
    address: str = request.getfixturevalue("server")
    history.METADATA.drop_all(history.connect(address))
    return address


@pytest.fixture
def book(url: str) -> ForecastBook:
    return ForecastBook(url)


def client_of(book: ForecastBook, categories: Sequence[str] = tuple(SHOP)) -> TestClient:
    """An application that takes feedback and nothing else."""
    app = FastAPI()
    add_handlers(app)
    business_metrics.prepare(categories)
    add_feedback(app, book)
    return TestClient(app)


@pytest.fixture
def client(book: ForecastBook) -> TestClient:
    return client_of(book)


def forecast(category: str, units: float = 100, ahead: int = 1, day: dt.date = DAY, opened: bool = True) -> Any:
    """The API's answer for one day, with an interval from half to double."""
    one = DayForecast(
        date=day, units=units, interval=Interval(lower=units / 2, upper=units * 2, coverage=0.9), days_ahead=ahead,
        open=opened,
    )  # fmt: skip
    model = ModelVersion(name="sales-forecaster", version="3")
    return ForecastResponse(category=category, forecasts=[one], model=model, backend="champion")


def sale(category: str, units: float, name: str = "", day: dt.date = DAY) -> dict[str, Any]:
    return {"event_id": name or f"{category[:3]}-{day}", "category": category, "date": str(day), "units": units}


def sold(client: TestClient, *sales: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/feedback/sales", json={"events": sales})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.fixture
def grown() -> Callable[..., float]:
    """By how much a counter has grown since the test began."""
    before = {(one.name, *sorted(one.labels.items())): one.value for m in REGISTRY.collect() for one in m.samples}
    return lambda name, **labels: round(value(name, **labels) - before.get((name, *sorted(labels.items())), 0), 6)


# ---------------------------------------------------------------- sales


def test_sales_are_compared_with_the_forecast_of_their_day(
    client: TestClient, book: ForecastBook, grown: Callable[..., float]
) -> None:
    for category, units in (("SOFT DRINKS", 100), ("EGGS", 50), ("SALAD", 10)):
        book.note(forecast(category, units))
    body = sold(client, sale("soft drinks ", 90), sale("EGGS", 70), sale("SALAD", 30))
    assert body == {"counted": 3, "duplicates": 0, "rejected": []}
    assert grown("forecast_actual_units_total", department="GROCERY") == 160
    assert grown("forecast_error_units_total", department="GROCERY", direction="over") == 10
    assert grown("forecast_error_units_total", department="GROCERY", direction="under") == 20
    assert grown("forecast_squared_error_units_total", department="GROCERY") == 10**2 + 20**2
    assert grown("forecast_squared_actual_units_total", department="GROCERY") == 90**2 + 70**2
    assert grown("forecast_absolute_error_units_total", department="GROCERY") == 10  # 150 forecast, 160 sold
    assert grown("forecast_absolute_error_units_total", department="PRODUCE") == 20
    assert grown("forecast_days_total", department="GROCERY", inside="true") == 2
    assert grown("forecast_days_total", department="PRODUCE", inside="false") == 1


def test_errors_of_different_days_do_not_cancel_out(
    client: TestClient, book: ForecastBook, grown: Callable[..., float]
) -> None:
    tomorrow = DAY + dt.timedelta(days=1)
    book.note(forecast("EGGS", 100))
    book.note(forecast("EGGS", 100, day=tomorrow))
    sold(client, sale("EGGS", 90), sale("EGGS", 110, day=tomorrow))
    assert grown("forecast_absolute_error_units_total", department="GROCERY") == 20


def test_the_same_sales_count_once(client: TestClient, book: ForecastBook, grown: Callable[..., float]) -> None:
    book.note(forecast("EGGS"))
    assert sold(client, sale("EGGS", 90))["counted"] == 1
    assert sold(client, sale("EGGS", 90)) == {"counted": 0, "duplicates": 1, "rejected": []}
    again = sold(client, sale("EGGS", 95, "another"))
    assert again["rejected"] == [{"event_id": "another", "reason": "already known"}]
    assert grown("forecast_actual_units_total", department="GROCERY") == 90
    assert grown("feedback_rejected_total", reason="duplicate") == 1
    assert grown("feedback_rejected_total", reason="already known") == 1


def test_sales_outlive_a_restart(either: str, grown: Callable[..., float]) -> None:
    for _ in range(2):
        book = ForecastBook(either)
        book.note(forecast("EGGS"))
        sold(client_of(book), sale("EGGS", 90))
        book.close()
    assert grown("forecast_actual_units_total", department="GROCERY") == 90


def test_what_cannot_be_compared_is_said_and_may_come_again(client: TestClient, book: ForecastBook) -> None:
    body = sold(client, sale("EGGS", 90), sale("MOON ROCKS", 1))
    assert body["counted"] == 0
    assert [one["reason"] for one in body["rejected"]] == ["no forecast", "unknown category"]
    book.note(forecast("EGGS"))
    assert sold(client, sale("EGGS", 90))["counted"] == 1


def test_the_forecast_that_looked_ahead_least_is_the_one_that_counts(either: str, grown: Callable[..., float]) -> None:
    book = ForecastBook(either)
    client = client_of(book)
    book.note(forecast("EGGS", 10, ahead=2))
    book.flush()
    book.note(forecast("EGGS", 80, ahead=1))
    book.note(forecast("EGGS", 20, ahead=3))
    book.flush()
    book.note(forecast("EGGS", 30, ahead=3))
    sold(client, sale("EGGS", 90))
    assert grown("forecast_error_units_total", department="GROCERY", direction="under") == 10


def test_what_was_judged_does_not_change_any_more(client: TestClient, book: ForecastBook) -> None:
    book.note(forecast("EGGS", 80))
    sold(client, sale("EGGS", 90))
    book.note(forecast("EGGS", 90))
    book.flush()
    with book.engine.connect() as connection:
        assert connection.execute(select(FORECASTS.c.units, FORECASTS.c.sold)).all() == [(80, 90)]


def test_two_processes_that_are_told_the_same_count_it_once(either: str) -> None:
    books = [ForecastBook(either), ForecastBook(either)]
    categories = [f"C{number}" for number in range(200)]
    events = [sale(one, 90, one) for one in categories]
    for one in categories:
        books[0].note(forecast(one))
    books[0].flush()
    with pytest.MonkeyPatch.context() as patched, ThreadPoolExecutor(2) as pool:
        patched.setattr(business_metrics, "departments", lambda: dict.fromkeys(categories, "GROCERY"))
        clients = [client_of(book, categories) for book in books]
        bodies = list(pool.map(lambda client: sold(client, *events), clients))
    assert sum(body["counted"] for body in bodies) == len(categories)
    assert sum(body["duplicates"] for body in bodies) == len(categories)


def test_a_closed_day_and_a_what_if_are_no_promise(book: ForecastBook) -> None:
    observe(book, forecast("EGGS", opened=False), what_if=False)
    observe(book, forecast("EGGS"), what_if=True)
    book.flush()
    with book.engine.connect() as connection:
        assert connection.execute(select(FORECASTS)).all() == []


def test_how_wide_intervals_are_is_observed(book: ForecastBook, grown: Callable[..., float]) -> None:
    observe(book, forecast("SALAD", 100), what_if=True)
    observe(book, forecast("SALAD", 0.5), what_if=False)  # over 1, not over a half
    observe(book, forecast("SALAD", opened=False), what_if=False)
    assert grown("forecast_interval_relative_width_count", department="PRODUCE") == 2
    assert grown("forecast_interval_relative_width_sum", department="PRODUCE") == 1.5 + 0.75


# ---------------------------------------------------------------- other events


BOUGHT = {"list": "new", "event": "bought"}


@pytest.mark.parametrize(
    ("path", "event", "metric", "labels"),
    [
        ("recommendations", BOUGHT, "recommendations_total", BOUGHT),
        ("ratings", {"event": "engaged"}, "content_events_total", {"event": "engaged"}),
        ("ratings", {"event": "rated", "rating": 4}, "content_rating_sum", {"source": "person"}),
        ("ratings", {"event": "rated", "rating": 2, "source": "machine"}, "content_rating_sum", {"source": "machine"}),
        ("campaigns", {"campaign_type": "A", "event": "contacted"}, "campaign_contacts_total", {"campaign_type": "A"}),
        ("campaigns", {"campaign_type": "B", "event": "redeemed"}, "campaign_redemptions_total",
         {"campaign_type": "B"}),
    ],
)  # fmt: skip
def test_events_are_counted_once(
    client: TestClient, grown: Callable[..., float], path: str, event: dict[str, Any], metric: str, labels: Any
) -> None:
    events = [{"event_id": f"e{number}", **event} for number in range(3)]
    for counted in (3, 0):
        answer = client.post(f"/feedback/{path}", json={"events": events})
        assert answer.json() == {"counted": counted, "duplicates": 3 - counted, "rejected": []}
    assert grown(metric, **labels) == 3 * event.get("rating", 1)
    assert grown("feedback_rejected_total", reason="duplicate") == 3


def test_an_id_counts_once_per_kind(client: TestClient) -> None:
    campaign = {"event_id": "x", "campaign_type": "A", "event": "contacted"}
    content = {"event_id": "x", "event": "viewed"}
    assert client.post("/feedback/campaigns", json={"events": [campaign]}).json()["counted"] == 1
    assert client.post("/feedback/ratings", json={"events": [content]}).json()["counted"] == 1


RECOMMENDATION = {"event_id": "a", "list": "new", "event": "shown"}


@pytest.mark.parametrize(
    ("path", "events", "field"),
    [
        ("sales", [], "events"),
        ("sales", [sale("EGGS", -1)], "events.0.units"),
        ("sales", [sale("EGGS", 1) | {"units": "NaN"}], "events.0.units"),
        ("sales", [sale("EGGS", 1) | {"event_id": "with space"}], "events.0.event_id"),
        ("sales", [sale("EGGS", 1) | {"event_id": "x" * 65}], "events.0.event_id"),
        ("sales", [sale("EGGS", 1) | {"date": "yesterday"}], "events.0.date"),
        ("recommendations", [RECOMMENDATION | {"event": "liked"}], "events.0.event"),
        ("recommendations", [RECOMMENDATION | {"household": 1}], "events.0.household"),
        ("recommendations", [RECOMMENDATION, RECOMMENDATION], "body"),
        ("ratings", [{"event_id": "a", "event": "rated"}], "events.0"),
        ("ratings", [{"event_id": "a", "event": "viewed", "rating": 3}], "events.0"),
        ("ratings", [{"event_id": "a", "event": "rated", "rating": 6}], "events.0.rating"),
        ("campaigns", [{"event_id": "a", "campaign_type": "D", "event": "contacted"}], "events.0.campaign_type"),
        ("campaigns", [{"event_id": str(n), "campaign_type": "A", "event": "redeemed"} for n in range(MOST_EVENTS + 1)],
         "events"),
    ],
)  # fmt: skip
def test_wrong_feedback_is_refused_as_a_whole_and_explained(
    client: TestClient, grown: Callable[..., float], path: str, events: list[Any], field: str
) -> None:
    answer = client.post(f"/feedback/{path}", json={"events": events})
    assert answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json"
    assert field in [one["field"] for one in answer.json()["errors"]]
    assert grown("validation_errors_total", path=f"/feedback/{path}") == 1


# ---------------------------------------------------------------- the database


def test_a_database_that_is_away_costs_feedback_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    book = ForecastBook(f"sqlite:///{folder / 'history.db'}")
    folder.rmdir()
    folder.touch()  # a file where the folder was
    client = client_of(book)
    observe(book, forecast("EGGS"), what_if=False)
    answer = client.post("/feedback/sales", json={"events": [sale("EGGS", 90)]})
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
    assert "database" in answer.json()["detail"] and "INSERT" not in answer.text
    folder.unlink()
    folder.mkdir()
    assert sold(client, sale("EGGS", 90))["counted"] == 1  # what was noted meanwhile is not lost


def test_a_request_that_is_given_up_counts_what_it_wrote_down(
    book: ForecastBook, grown: Callable[..., float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the lanes of the API do it when the time is over."""
    book.note(forecast("EGGS"))
    settle, written = book.settle, threading.Event()

    def slow(events: Sequence[Any]) -> Any:
        time.sleep(0.3)
        found = settle(events)
        threading.Timer(0.3, written.set).start()
        return found

    monkeypatch.setattr(book, "settle", slow)

    async def give_up() -> None:
        app = client_of(book).app
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await client.post("/feedback/sales", json={"events": [sale("EGGS", 90)]})

    asyncio.run(give_up())
    assert written.wait(10)
    assert grown("forecast_actual_units_total", department="GROCERY") == 90


def test_what_is_very_old_is_forgotten(either: str) -> None:
    book = ForecastBook(either)
    book.new_events("campaigns", ["old", "new"])
    with book.engine.begin() as connection:
        old = EVENTS.update().where(EVENTS.c.event_id == "old")
        connection.execute(old.values(made_at=EVENTS.c.made_at - (KEPT_DAYS["feedback_events"] + 1) * 86400))
    later = ForecastBook(either)
    assert later.new_events("campaigns", ["old", "new"]) == {"old"}


def test_a_password_stays_out_of_every_message(free_port: Callable[[], int]) -> None:
    book = ForecastBook(f"postgresql://shop:secret@127.0.0.1:{free_port()}/history")
    answer = client_of(book).post("/feedback/sales", json={"events": [sale("EGGS", 90)]})
    assert answer.status_code == 503 and "secret" not in answer.text
    assert "secret" not in (asyncio.run(book.problem()) or "secret")


def test_other_databases_are_refused_in_plain_words() -> None:
    with pytest.raises(ValueError, match="WORKSHOP_HISTORY_URL: mysql is not known"):
        history.connect("mysql://somewhere/history")


def test_a_failed_batch_leaves_nothing_behind(book: ForecastBook, monkeypatch: pytest.MonkeyPatch) -> None:
    book.note(forecast("EGGS"))
    book.flush()
    with book.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE UPDATE ON forecasts WHEN NEW.sold > 500 BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    book.note(forecast("SALAD"))
    events = [sale("EGGS", 90), sale("SALAD", 501)]
    assert client_of(book).post("/feedback/sales", json={"events": events}).status_code == 503
    with book.engine.connect() as connection:
        assert set(connection.execute(select(FORECASTS.c.sold)).scalars()) == {None}


# ---------------------------------------------------------------- labels


def test_a_shop_with_many_departments_has_few_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    monkeypatch.undo()  # the real function
    many = pd.DataFrame({"category": [f"C{n}" for n in range(50)], "units": range(50)})
    many["department"] = "D" + many["category"]
    monkeypatch.setattr(business_metrics.data, "load", lambda *_, **__: many)
    business_metrics.departments.cache_clear()
    try:
        labels = set(business_metrics.departments().values())
    finally:
        business_metrics.departments.cache_clear()
    assert len(labels) == business_metrics.MOST_DEPARTMENTS + 1 and "DC49" in labels and "DC0" not in labels


def test_series_are_there_before_the_first_event(client: TestClient) -> None:
    known = {one.name for metric in REGISTRY.collect() for one in metric.samples if one.labels.get("department")}
    assert {"forecast_actual_units_total", "forecast_days_total", "forecast_interval_relative_width_bucket"} <= known
    assert REGISTRY.get_sample_value("recommendations_total", {"list": "popular", "event": "clicked"}) is not None


# ---------------------------------------------------------------- the real API


@pytest.fixture(scope="module")
def real(forecaster: Endpoint) -> Iterator[TestClient]:
    """The real API before the real forecaster."""
    parts = Parts(Forecasts(Router()), Households(), Texts())
    with TestClient(create_app(parts), headers={"X-API-Key": api_client.api_key()}) as client:
        yield client


def test_the_api_keeps_its_forecasts_and_learns_what_was_sold(real: TestClient, grown: Callable[..., float]) -> None:
    asked = {"category": "SOFT DRINKS", "dates": ["2017-12-01"]}
    units = real.post("/forecast", json=asked).json()["forecasts"][0]["units"]
    promoted = real.post("/forecast", json={**asked, "price": 0.5}).json()["forecasts"][0]["units"]
    assert promoted != units
    assert sold(real, sale("SOFT DRINKS", 0))["counted"] == 1
    over = grown("forecast_error_units_total", department="GROCERY", direction="over")
    assert over == pytest.approx(units, abs=1e-3)
    assert grown("forecast_interval_relative_width_count", department="GROCERY") == 2
    assert real.get("/health/ready").json()["dependencies"]["database"]["status"] == "ok"
    assert "forecast_days_total" in real.get("/metrics").text


def test_feedback_wants_the_key(real: TestClient) -> None:
    body = {"events": [sale("EGGS", 1)]}
    assert real.post("/feedback/sales", json=body, headers={"X-API-Key": "guess"}).status_code == 401
