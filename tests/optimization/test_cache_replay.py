"""The replay of baskets: questions in their order, hits in simulated time, what they save."""

import datetime as dt
import json
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from tests.orchestration.fakes import serve
from workshop_lib.exercises import _holds
from workshop_lib.optimization import cache_replay
from workshop_lib.optimization.cache_exercises import EXERCISES
from workshop_lib.optimization.cache_replay import (
    KINDS,
    Ahead,
    by_kind,
    latency,
    learn,
    learning_days,
    load_questions,
    play,
    replay,
    savings,
    sweep,
)
from workshop_lib.serving.api_client import Api
from workshop_lib.serving.cache_prefetch import Popularity

HOUR = 3600.0
KNOWN = ["MILK", "EGGS"]
# basket, household, product, category, moment
LINES = [
    (2, 20, 201, "EGGS", "2017-12-04 10:00:00"),
    (1, 10, 101, "MILK", "2017-12-04 09:00:00"),
    (1, 10, 102, "MILK", "2017-12-04 09:00:00"),
    (1, 10, 103, "BEERS/ALES", "2017-12-04 09:00:00"),
    (1, 10, 104, "CANDLES", "2017-12-04 09:00:00"),
    (3, 10, 101, "MILK", "2017-12-05 09:30:00"),
]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    columns = ["basket_id", "household_id", "product_id", "category", "local_time"]
    table = pd.DataFrame(LINES, columns=columns)
    table["local_time"] = pd.to_datetime(table["local_time"])
    table["date"] = table["local_time"].dt.normalize()
    monkeypatch.setattr(cache_replay.data, "load", lambda name, wanted: table[wanted])
    return table


@pytest.fixture
def questions(lines: pd.DataFrame) -> pd.DataFrame:
    return load_questions(dt.date(2017, 12, 4), dt.date(2017, 12, 5), KNOWN)


def asked(*rows: tuple[str, object, str]) -> pd.DataFrame:
    """Questions at times of 4 December, or with a date of their own."""
    table = pd.DataFrame(rows, columns=["kind", "thing", "moment"])
    table["moment"] = pd.to_datetime([m if len(m) > 8 else f"2017-12-04 {m}" for m in table["moment"]])
    return table.assign(day=table["moment"].dt.date, basket=1)


def kept(hours: float) -> dict[str, float]:
    return dict.fromkeys(KINDS, hours * HOUR)


def test_a_basket_asks_for_its_household_its_categories_and_its_products(questions: pd.DataFrame) -> None:
    first = questions[questions["basket"] == 1]
    assert sorted(zip(first["kind"], map(str, first["thing"]), strict=True)) == [
        ("churn", "10"), ("describe", "101"), ("describe", "102"), ("describe", "104"), ("forecast", "MILK"),
    ]  # fmt: skip
    assert first["kind"].iloc[0] == "churn"  # beer is nothing to write about, and candles are not forecast


def test_the_order_is_that_of_the_day(questions: pd.DataFrame) -> None:
    assert questions["moment"].is_monotonic_increasing
    assert list(questions["basket"].drop_duplicates()) == [1, 2, 3]
    assert list(questions["day"].drop_duplicates()) == [dt.date(2017, 12, 4), dt.date(2017, 12, 5)]


def test_days_without_sales_are_refused(lines: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="Nothing was sold from 2018-05-01"):
        load_questions(dt.date(2018, 5, 1), dt.date(2018, 5, 2), KNOWN)


def test_a_question_of_the_same_day_is_a_hit_until_it_is_too_old() -> None:
    rows = asked(*(("forecast", "MILK", moment) for moment in ("09:00:00", "09:59:59", "10:00:00", "10:30:00")))
    assert list(replay(rows, 10, kept(1)).hits) == [False, True, False, True]
    assert list(replay(rows, 10, kept(2)).hits) == [False, True, True, True]


def test_sales_of_the_night_make_new_forecasts_and_scores_and_no_new_texts() -> None:
    rows = asked(*((kind, 1, f"2017-12-0{day} 23:59:59") for day in (4, 5) for kind in KINDS))
    assert list(replay(rows, 10, kept(72)).hits) == [False, False, False, False, False, True]


def test_what_does_not_fit_is_forgotten() -> None:
    rows = asked(*(("forecast", thing, "09:00:00") for thing in "ABABA"))
    assert list(replay(rows, 2, kept(1)).hits) == [False, False, True, True, True]
    small = replay(rows, 1, kept(1))
    assert not small.hits.any() and small.evicted == 4


def test_each_thing_may_be_kept_for_its_own_time() -> None:
    rows = asked(*(("forecast", thing, moment) for moment in ("09:00:00", "11:00:00") for thing in "AB"))
    found = replay(rows, 10, kept(1) | {"forecast": {"A": 3 * HOUR, "B": HOUR}})
    assert list(found.hits) == [False, False, True, False]


def test_the_likely_is_made_ahead_and_counted() -> None:
    past = asked(*(("forecast", thing, f"2017-11-27 {hour}:30:00") for thing, hour in [("A", 9), ("A", 9), ("B", 9)]))
    ahead = {"forecast": learn(past, "forecast", 2)}
    rows = asked(("forecast", "A", "08:59:00"), ("forecast", "A", "09:10:00"), ("forecast", "C", "09:20:00"),
                 ("forecast", "A", "2017-12-05 09:10:00"))  # fmt: skip
    found = replay(rows, 10, kept(24), ahead)
    assert list(found.hits) == [False, True, False, False]  # Tuesdays were never seen
    assert found.made_ahead == {"forecast": 1} and found.used_ahead == {}  # A was there already, B nobody wanted
    quick = replay(rows.iloc[1:], 10, kept(0.5), ahead)
    assert list(quick.hits) == [True, False, False]
    assert quick.made_ahead == {"forecast": 2} and quick.used_ahead == {"forecast": 1}


def test_an_answer_made_ahead_counts_as_used_once() -> None:
    ahead = {"forecast": Ahead(Popularity({(0, 9): ("A",)}), 1)}
    rows = asked(("churn", 1, "09:00:00"), *(("forecast", "A", f"09:{minute}:00") for minute in (10, 20, 30)))
    found = replay(rows, 10, kept(2), ahead)
    assert list(found.hits) == [False, True, True, True] and found.used_ahead == {"forecast": 1}


def test_what_was_made_ahead_and_too_old_does_not_count_as_used() -> None:
    ahead = {"forecast": Ahead(Popularity({(0, 9): ("A",)}), 1)}
    rows = asked(("churn", 1, "09:00:00"), ("forecast", "A", "09:40:00"))
    found = replay(rows, 10, kept(0.5), ahead)
    assert not found.hits.any() and found.used_ahead == {}


def test_nothing_is_learned_from_the_days_that_are_replayed() -> None:
    first, last = learning_days(dt.date(2017, 12, 4))
    assert last == dt.date(2017, 12, 3) and (last - first).days == 13 * 7 - 1


def test_the_table_adds_up(questions: pd.DataFrame) -> None:
    found = replay(questions, 100, kept(48))
    table = by_kind(questions, found)
    assert table["questions"].to_dict() == {"forecast": 3, "churn": 3, "describe": 5, "all": 11}
    assert table.loc["all", "hits"] == table["hits"].iloc[:3].sum() == 1  # the milk's text on the second day
    assert table.loc["describe", "hit_rate"] == pytest.approx(1 / 5)


def test_more_room_and_more_time_never_cost_hits() -> None:
    random = np.random.default_rng(3)
    things = random.zipf(1.5, 400) % 50
    moments = pd.Timestamp("2017-12-04") + pd.to_timedelta(np.sort(random.uniform(0, 24, 400)), "h")
    rows = asked(*(("describe", thing, str(moment)) for thing, moment in zip(things, moments, strict=True)))
    table = sweep(rows, [2, 10, 50], [0.5, 4, 48])
    assert (table.diff().dropna() >= 0).all().all() and (table.diff(axis=1).iloc[:, 1:] >= 0).all().all()
    assert table.loc[50, 48] == pytest.approx(1 - len(set(things)) / 400)


def test_questions_reach_a_server_as_it_takes_them(questions: pd.DataFrame) -> None:
    def answer(path: str, body: dict[str, Any]) -> Any:
        return {"path": path, "body": body}

    with serve(answer) as fake:
        played = play(Api(fake.url, {"X-API-Key": "k"}), questions.iloc[:3], {"Cache-Control": "no-store"})
    assert [path for path, _ in fake.asked if path != "/health/live"] == [f"/{kind}" for kind in played["kind"]]
    bodies = dict(fake.asked)
    assert bodies["/churn"] == {"household_id": 10} and bodies["/describe"] == {"product_id": 101}
    forecast = bodies["/forecast"]
    assert (forecast["category"], forecast["known_until"]) == ("MILK", "2017-12-03")
    assert (forecast["dates"][0], forecast["dates"][-1], len(forecast["dates"])) == ("2017-12-04", "2017-12-10", 7)
    assert fake.headers[-1]["cache-control"] == "no-store" and fake.headers[-1]["x-api-key"] == "k"
    assert (played["status"] == 200).all() and (played["milliseconds"] > 0).all()


def test_an_api_that_is_away_is_no_hit() -> None:
    with pytest.raises(httpx.HTTPError):
        play(Api("http://127.0.0.1:9", {}), asked(("churn", 1, "09:00:00")))


def measured(kind: str, **milliseconds: list[float]) -> pd.DataFrame:
    rows = [(kind, state, one) for state, values in milliseconds.items() for one in values]
    return pd.DataFrame(rows, columns=["kind", "cache", "milliseconds"])


def test_latency_and_savings_by_hand() -> None:
    played = pd.concat([measured("forecast", hit=[1, 2, 3], miss=[20]), measured("churn", miss=[2])])
    without = pd.concat([measured("forecast", off=[10, 10]), measured("churn", off=[1])])
    table = latency(played, without)
    assert table.loc["forecast"].to_dict() == pytest.approx({"without": 10, "miss": 20, "hit": 2, "lower": 0.8})
    assert np.isnan(table.loc["churn", "lower"])
    hits = pd.DataFrame({"hits": {"forecast": 3_600_000, "churn": 10, "describe": 5}})
    saved = savings(hits, table.loc[["forecast"]], {"forecast": 0.5})
    assert saved.loc["forecast"].to_dict() == pytest.approx(
        {"calls_saved": 3_600_000, "hours_saved": 8, "dollars_saved": 4}
    )


def near(name: str, answer: object) -> list[str]:
    return [hint for test, hint in EXERCISES[name].near_misses if _holds(test, answer)]


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("5.6.a", {"model version": True, "request id": False, "data": True, "plan": True, "time of day": False,
                   "backend": True}, {"model version": True}),
        ("5.6.b", (12 - 10) / (12 - 1), 0.5),
    ],
)  # fmt: skip
def test_exercises_know_right_from_wrong(name: str, right: object, wrong: object) -> None:
    assert _holds(EXERCISES[name].right, right) and not _holds(EXERCISES[name].right, wrong)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("5.6.a", {"model version": True}),
        ("5.6.a", {"model version": True, "request id": True, "data": True, "plan": True, "time of day": False,
                   "backend": True}),
        ("5.6.a", {"model version": True, "request id": False, "data": True, "plan": True, "time of day": False,
                   "backend": False}),
        ("5.6.b", "18%"), ("5.6.b", 18.18), ("5.6.b", 1 - 2 / 11), ("5.6.b", 2 / 12), ("5.6.b", 2 / 10),
    ],
)  # fmt: skip
def test_near_misses_get_their_hint(name: str, answer: object) -> None:
    assert not _holds(EXERCISES[name].right, answer)
    assert near(name, answer), json.dumps(answer)
