"""Feedback from what really happened, and what comes out: the same figures in metrics and database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import duckdb
import httpx
import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient

from tests.serving.conftest import forecaster, package  # noqa: F401  (the real server, for these tests as well)
from workshop_lib import data
from workshop_lib.data import DataError
from workshop_lib.monitoring import replay_feedback as replay
from workshop_lib.monitoring.exposition import grown, parse_metrics
from workshop_lib.monitoring.forecast_quality import accuracy, by_group, by_level, settled_forecasts, summary
from workshop_lib.orchestration.recommender_items import collect
from workshop_lib.serving import api_client
from workshop_lib.serving.api import Parts, create_app
from workshop_lib.serving.api_client import Api
from workshop_lib.serving.feedback import ForecastBook
from workshop_lib.serving.forecasts import Forecasts
from workshop_lib.serving.households import Households
from workshop_lib.serving.routing import Router
from workshop_lib.serving.texts import Texts

FIRST, LAST = dt.date(2017, 12, 23), dt.date(2017, 12, 26)
CATEGORIES = ["SOFT DRINKS", "EGGS", "BEEF", "APPLES"]
API = Api("http://testserver", {})


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('replay') / 'history.db'}"


@pytest.fixture(scope="module")
def real(forecaster: object, url: str) -> Iterator[TestClient]:  # noqa: F811
    """The real API before the real forecaster, with a database of its own."""
    parts = Parts(Forecasts(Router()), Households(), Texts(), ForecastBook(url))
    with TestClient(create_app(parts), headers={"X-API-Key": api_client.api_key()}) as client:
        yield client


@pytest.fixture(scope="module")
def told(real: TestClient, url: str) -> Iterator[tuple[pd.DataFrame, pd.DataFrame, replay.Told]]:
    """What the metrics grew by, the settled forecasts, and what was counted."""

    class Open:
        def __enter__(self) -> TestClient:
            return real

        def __exit__(self, *_: object) -> None: ...

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(replay, "_client", lambda _: Open())
        before = parse_metrics(real.get("/metrics").text)
        assert replay.ask_forecasts(API, FIRST, LAST, CATEGORIES) == 16
        counted = replay.tell_sales(API, FIRST, LAST)
        assert replay.tell_sales(API, FIRST, LAST).counted == 0
        yield grown(before, parse_metrics(real.get("/metrics").text)), settled_forecasts(url), counted


def test_what_is_told_is_what_was_sold(told: tuple[pd.DataFrame, pd.DataFrame, replay.Told]) -> None:
    _, settled, counted = told
    lines = data.load("transactions", ["category", "date", "units"])
    real = lines.groupby(["category", "date"])["units"].sum()
    assert settled["sold"].tolist() == [
        real[key] for key in settled[["category", "date"]].itertuples(index=False, name=None)
    ]
    # On 25 December the shop is closed, and of the other categories nobody had asked.
    assert counted.counted == len(settled) == 12 and counted.rejected == 3 * (len(replay.forecast_categories()) - 4)


def test_forecasts_look_from_the_evening_before(
    told: tuple[pd.DataFrame, pd.DataFrame, replay.Told], real: TestClient
) -> None:
    settled = told[1]
    row = settled[settled["category"] == "EGGS"].iloc[0]
    asked = {
        "category": "EGGS",
        "dates": [str(row["date"].date())],
        "known_until": str((row["date"] - pd.Timedelta(days=1)).date()),
    }
    day = real.post("/forecast", json=asked).json()["forecasts"][0]
    assert (day["days_ahead"], day["units"]) == (1, pytest.approx(row["forecast"]))


def test_metrics_and_database_agree(told: tuple[pd.DataFrame, pd.DataFrame, replay.Told]) -> None:
    metrics, settled, _ = told
    total = metrics.groupby("name")["value"].sum()
    for metric, level in (
        ("forecast_absolute_error_units_total", ("department", "date")),
        ("forecast_error_units_total", ("category", "date")),
    ):
        by_metrics = 1 - total[metric] / total["forecast_actual_units_total"]
        assert by_metrics == pytest.approx(accuracy(settled, level), abs=1e-6)
    days = metrics[metrics["name"] == "forecast_days_total"].groupby("inside")["value"].sum()
    assert days["true"] / days.sum() == pytest.approx(summary(settled)["coverage"])


def test_no_label_is_a_category(told: tuple[pd.DataFrame, pd.DataFrame, replay.Told]) -> None:
    assert not told[0].isin(["SOFT DRINKS", "EGGS"]).any().any()


# ---------------------------------------------------------------- figures about forecasts


def settled_by_hand() -> pd.DataFrame:
    """Two categories of a department on two days."""
    dates = pd.to_datetime(["2017-12-04", "2017-12-04", "2017-12-05", "2017-12-05"])
    return pd.DataFrame(
        {
            "department": "A", "category": ["x", "y", "x", "y"], "date": dates, "week": dates[0],
            "forecast": [10.0, 10, 30, 10], "sold": [20.0, 0, 20, 10], "lower": 0.0, "upper": [15.0, 15, 35, 15],
        }
    )  # fmt: skip


def test_the_accuracy_depends_on_the_level() -> None:
    settled = settled_by_hand()
    found = by_level(settled).set_index("level")["accuracy"]
    assert found["category and day"] == pytest.approx(1 - 30 / 50)
    assert found["department and day"] == found["shop and day"] == pytest.approx(1 - 10 / 50)
    assert found["department and week"] == pytest.approx(1 - 10 / 50)
    assert found["category and week"] == pytest.approx(1 - 10 / 50)


def test_figures_by_group() -> None:
    found = by_group(settled_by_hand(), "department").loc["A"]
    assert found[["units", "mae", "coverage"]].tolist() == [50, 7.5, 0.75]
    assert found["rmse"] == pytest.approx(np.sqrt(300 / 4))
    assert found["accuracy"] == pytest.approx(0.8) and found["accuracy_category_day"] == pytest.approx(0.4)


def test_no_sales_make_no_accuracy() -> None:
    assert np.isnan(accuracy(settled_by_hand().assign(sold=0.0)))


# ---------------------------------------------------------------- other events


@pytest.fixture(scope="module")
def events() -> list[replay.Event]:
    lines = data.load("transactions", ["household_id", "basket_id", "product_id", "date"])
    return replay.recommendation_events(lines, dt.date(2017, 12, 4), households=60, length=5)


def test_suggestions_count_as_bought_when_they_really_were(events: list[replay.Event]) -> None:
    counted = pd.DataFrame(events).groupby(["list", "event"]).size()
    assert counted["popular", "shown"] == counted["new", "shown"] == 60 * 5
    assert set(counted.index.get_level_values("event")) == {"shown", "bought"}  # the data knows no clicks
    # What a household buys anyway is bought more often than what is popular, and that more than what is new to it.
    assert counted["again", "bought"] > counted["popular", "bought"] > counted["new", "bought"] > 0
    # What is popular with all, counted again in the raw lines.
    lines = data.load("transactions", ["household_id", "basket_id", "product_id", "date"])
    before = collect(lines, data.load("products"), pd.Timestamp("2017-12-04"))
    some = before.households[np.linspace(0, len(before.households) - 1, 60).astype(int)]
    order = np.argsort(-before.popularity, kind="stable")
    top = order[np.sort(np.unique(before.kinds[order], return_index=True)[1])][:5]
    products = before.items[top].tolist()
    later = duckdb.sql(
        "SELECT count(DISTINCT (household_id, product_id)) FROM lines"
        " WHERE date >= '2017-12-04' AND date < '2018-01-01'"
        f" AND list_contains({some.tolist()}, household_id) AND list_contains({products}, product_id)"
    ).fetchone()
    assert later and counted["popular", "bought"] == later[0]


def test_ids_are_different_and_tell_no_household(events: list[replay.Event]) -> None:
    ids = [event["event_id"] for event in events]
    assert len(set(ids)) == len(ids)
    assert all(int(one.split("-")[2]) < 60 for one in ids)  # a running number


def test_campaigns_are_counted_as_in_the_raw_tables() -> None:
    first, last = dt.date(2017, 10, 30), dt.date(2017, 12, 31)
    campaigns, leaflets = replay.campaign_events(first, last)
    counted = pd.DataFrame(campaigns).groupby(["campaign_type", "event"]).size()
    files = data.find_source().files
    folder = files["campaigns"].parent
    sent = duckdb.sql(
        f"SELECT campaign_type[6:] AS type, count(*) FROM '{folder}/campaigns.parquet' JOIN"
        f" '{folder}/campaign_descriptions.parquet' USING (campaign_id) WHERE start_date >= '{first}' GROUP BY ALL"
    ).fetchall()
    assert {kind: counted[kind, "contacted"] for kind in "ABC"} == dict(sent)
    engaged = duckdb.sql(
        f"SELECT count(DISTINCT (campaign_id, household_id)) FROM '{folder}/coupon_redemptions.parquet' JOIN"
        f" '{folder}/campaign_descriptions.parquet' USING (campaign_id) JOIN '{folder}/campaigns.parquet'"
        f" USING (campaign_id, household_id) WHERE start_date >= '{first}' AND redemption_date >= '{first}'"
    ).fetchone()
    assert engaged is not None
    expected = {"viewed": sum(count for _, count in sent), "engaged": engaged[0]}
    assert pd.DataFrame(leaflets)["event"].value_counts().to_dict() == expected


def test_own_data_has_no_campaigns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(replay.data, "find_source", lambda: data.Source({}, utc=False))
    with pytest.raises(DataError, match="has no campaigns"):
        replay.campaigns(FIRST, LAST)


def test_days_that_are_not_there_are_an_error(package: object) -> None:  # noqa: F811
    with pytest.raises(ValueError, match="no open day from 2019-01-01"):
        replay.daily_units(dt.date(2019, 1, 1), dt.date(2019, 1, 2))


def test_a_busy_api_is_asked_again_and_a_refusal_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = iter([503, 504, 200, 422])
    soon = {"retry-after": "0"}
    transport = httpx.MockTransport(lambda _: httpx.Response(next(statuses), json={"n": 1}, headers=soon))
    with httpx.Client(base_url="http://api", transport=transport) as client:
        assert replay._post(client, "/feedback/sales", {}) == {"n": 1}
        with pytest.raises(httpx.HTTPStatusError):
            replay._post(client, "/feedback/sales", {})


def test_many_events_go_in_several_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [len(some) for some in replay._batches(range(2500), 1000)]
    assert sizes == [1000, 1000, 500]
