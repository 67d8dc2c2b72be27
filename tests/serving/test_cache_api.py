"""The cache in the business API: what is kept, for how long, and what must never come from it."""

import asyncio
import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import redis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient
from prometheus_client import REGISTRY
from pydantic import SecretStr

from tests.orchestration.fakes import Body, Fake, chat_answer, serve
from workshop_lib import processes
from workshop_lib.ports import free_port
from workshop_lib.predictive.champion import Package, load_package, register_forecaster
from workshop_lib.predictive.forecaster import gradient_boosting, make_dataset, train
from workshop_lib.processes import Service
from workshop_lib.serving import api_client
from workshop_lib.serving.api import Parts, create_app
from workshop_lib.serving.api_schemas import (
    ChurnResponse,
    DayForecast,
    DescribeResponse,
    ForecastRequest,
    ForecastResponse,
    Interval,
    ModelVersion,
)
from workshop_lib.serving.cache_answers import (
    Answers,
    Wish,
    churn_confidence,
    churn_key,
    forecast_confidence,
    forecast_key,
    keep_seconds,
    plan_of,
    text_confidence,
    text_key,
)
from workshop_lib.serving.cache_prefetch import Popularity, next_days, prefetch_hour
from workshop_lib.serving.demand import Demand, load_demand
from workshop_lib.serving.forecaster_client import Endpoint
from workshop_lib.serving.forecasts import Asked, Forecasts
from workshop_lib.serving.households import Households
from workshop_lib.serving.local import cache_service, forecaster_service
from workshop_lib.serving.routing import Backend, Router, Routes, Rule, write_routes
from workshop_lib.serving.texts import Texts
from workshop_lib.settings import settings

NEXT: dict[str, Any] = {"category": "SOFT DRINKS", "dates": ["2018-01-01"]}
WEEK: dict[str, Any] = {"category": "SOFT DRINKS", "dates": [f"2018-01-0{day}" for day in range(1, 8)]}
Start = Callable[..., TestClient]


@pytest.fixture(scope="module")
def valkey() -> Iterator[Service]:
    service = cache_service("cache-of-the-api", free_port())
    processes.start(service)
    yield service
    processes.stop(service)


@pytest.fixture(scope="module")
def households(package: Package) -> Households:
    return Households()


@pytest.fixture(scope="module")
def demand(package: Package) -> Demand:
    return load_demand(package.about["categories"])


@pytest.fixture
def llm() -> Iterator[Fake]:
    def answer(path: str, body: Body) -> Body:
        return {"data": [{"id": "fake"}]} if path.endswith("/models") else chat_answer("A jar of green olives, $1.99.")

    with serve(answer) as fake:
        yield fake


@pytest.fixture
def opened(
    valkey: Service, households: Households, forecaster: Endpoint, llm: Fake, tmp_path: Path,
    use_settings: Callable[..., object],
) -> Iterator[Start]:  # fmt: skip
    """Business APIs with a cache: ``opened(routes, other_setting=…)``."""
    clients: list[TestClient] = []
    redis.Redis(port=valkey.port).flushall()

    def start(routes: Routes | None = None, **changes: Any) -> TestClient:
        given = {"cache": True, "cache_url": SecretStr(f"redis://127.0.0.1:{valkey.port}/0"), "cache_timeout": 5.0}
        given |= {"llm_endpoint": f"{llm.url}/v1", "llm_model": "fake", "history_url": f"sqlite:///{tmp_path}/h.db"}
        use_settings(home=settings.home, **(given | changes))
        file = tmp_path / "routes.json"
        write_routes(routes or backends(champion=forecaster.url), file)
        app = create_app(Parts(Forecasts(Router(file)), households, Texts()))
        clients.append(TestClient(app, headers={"X-API-Key": api_client.api_key()}).__enter__())
        return clients[-1]

    yield start
    for client in clients:
        client.__exit__(None, None, None)


def backends(*rules: Rule, **urls: str) -> Routes:
    return Routes(backends=tuple(Backend(name=name, url=url) for name, url in urls.items()), rules=rules)


def post(client: TestClient, path: str, body: dict[str, Any], **headers: str) -> Any:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = client.post(path, json=body, headers=given)
    assert answer.status_code == 200, answer.text
    return answer


def state(client: TestClient, path: str, body: dict[str, Any], **headers: str) -> str:
    return post(client, path, body, **headers).headers["x-cache"]


# ---- in the API


def test_the_cache_is_off_unless_somebody_wants_it(opened: Start) -> None:
    client = opened(cache=False)
    assert [state(client, "/forecast", NEXT) for _ in range(2)] == ["off", "off"]
    assert client.get("/forecast/history", params={"category": "EGGS", "date": "2018-01-01"}).status_code == 503
    assert "cache" not in client.get("/health/ready").json()["dependencies"]


@pytest.mark.parametrize(
    ("path", "body"), [("/forecast", WEEK), ("/churn", {"household_id": 1}), ("/describe", {"category": "EGGS"})]
)
def test_the_second_answer_is_the_first_one(opened: Start, path: str, body: dict[str, Any]) -> None:
    client = opened()
    first, second = (post(client, path, body) for _ in range(2))
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("miss", "hit")
    assert "age" not in first.headers and second.headers["age"] == "0"
    assert first.content == second.content


def test_a_caller_may_want_it_fresh_or_not_kept(opened: Start) -> None:
    client = opened()
    wishes = ["no-store", "", "No-Cache", "max-age=0", "", "no-store"]
    found = [state(client, "/forecast", NEXT, cache_control=wish) for wish in wishes]
    assert found == ["off", "miss", "miss", "miss", "hit", "off"]
    assert Wish.read("private, NO-CACHE") == Wish(fresh=True) and Wish.read(None) == Wish()


def test_equal_questions_in_other_words_share_an_answer(opened: Start) -> None:
    client = opened()
    forms: list[dict[str, Any]] = [
        NEXT,
        {"dates": ["2018-01-01"], "category": " soft drinks "},
        NEXT | {"price": None, "promotion": None, "known_until": "2017-12-31"},
        NEXT | {"promotion": {}},
        NEXT | {"promotion": {"display_share": None}},
    ]
    assert [state(client, "/forecast", form) for form in forms] == ["miss"] + ["hit"] * 4
    assert [state(client, "/churn", {"household_id": one}) for one in (1, "1")] == ["miss", "hit"]
    facts = {"product": "olives", "price": "$1.99"}
    bodies: list[dict[str, Any]] = [{"facts": facts}, {"facts": dict(reversed(facts.items())), "tone": "plain"}]
    assert [state(client, "/describe", body) for body in bodies] == ["miss", "hit"]


def test_a_canary_gets_its_share_of_the_questions(opened: Start, forecaster: Endpoint) -> None:
    client = opened(backends(blue=forecaster.url, green=forecaster.url))
    answers = [post(client, "/forecast", NEXT, x_route_key=f"customer {number}") for number in range(40)]
    share = [answer.json()["backend"] for answer in answers].count("green")
    assert 10 <= share <= 30 and [answer.headers["x-cache"] for answer in answers].count("miss") == 2
    for number in (1, 2):  # and who came back gets the same one
        again = post(client, "/forecast", NEXT, x_route_key=f"customer {number}")
        assert again.json()["backend"] == answers[number].json()["backend"]


def test_a_new_rule_holds_at_once(opened: Start, forecaster: Endpoint, tmp_path: Path) -> None:
    client = opened(backends(blue=forecaster.url))
    assert post(client, "/forecast", NEXT).json()["backend"] == "blue"
    rule = Rule(backend="green", categories=frozenset({"SOFT DRINKS"}))
    write_routes(backends(rule, blue=forecaster.url, green=forecaster.url), tmp_path / "routes.json")
    answer = post(client, "/forecast", NEXT)
    assert (answer.json()["backend"], answer.headers["x-cache"]) == ("green", "miss")


def test_a_shadow_sees_all_questions(opened: Start, forecaster: Endpoint) -> None:
    shadow = Backend(name="dark", url=forecaster.url)
    client = opened(Routes(backends=(Backend(name="blue", url=forecaster.url),), shadow=shadow))
    assert [state(client, "/forecast", NEXT) for _ in range(3)] == ["off"] * 3


def test_a_new_champion_makes_its_own_answers(
    opened: Start, package: Package, free_port: Callable[[], int], tmp_path: Path
) -> None:
    trained = train(gradient_boosting(n_estimators=20), make_dataset(15))
    other = load_package(
        f"models:/sales-forecaster/{register_forecaster(trained, metrics={}, description='', alias=None).version}"
    )
    shared = sorted(set(package.about["categories"]) & set(other.about["categories"]))
    week, registry = WEEK | {"category": shared[0]}, MlflowClient()
    registry.set_registered_model_alias("sales-forecaster", "kept", package.version)
    service = forecaster_service("models:/sales-forecaster@kept", "follower", free_port(), free_port())
    command = tuple(part for part in service.command if part != "--no-reload")
    follower = Service(service.name, service.port, command, service.health, env={"WORKSHOP_RELOAD_SECONDS": "0.2"})
    processes.start(follower)
    try:
        client = opened(
            backends(champion=follower.url), forecaster_model="models:/sales-forecaster@kept", reload_seconds=0.2
        )
        before = [post(client, "/forecast", week) for _ in range(2)]
        assert [answer.headers["x-cache"] for answer in before] == ["miss", "hit"]
        registry.set_registered_model_alias("sales-forecaster", "kept", other.version)
        until = dt.datetime.now() + dt.timedelta(seconds=60)
        while (answer := post(client, "/forecast", week)).json()["model"]["version"] != other.version:
            assert dt.datetime.now() < until and answer.json() == before[0].json()
        assert answer.headers["x-cache"] == "miss" and answer.json() != before[0].json()
        again = post(client, "/forecast", week)
        assert again.headers["x-cache"] == "hit" and again.json()["model"]["version"] == other.version
        registry.set_registered_model_alias("sales-forecaster", "kept", package.version)
        until = dt.datetime.now() + dt.timedelta(seconds=60)
        while (answer := post(client, "/forecast", week)).json()["model"]["version"] != package.version:
            assert dt.datetime.now() < until
        assert answer.headers["x-cache"] == "hit"  # the old answers hold again
    finally:
        processes.stop(follower)
        registry.delete_registered_model_alias("sales-forecaster", "kept")


def test_what_is_known_is_answered_while_the_forecaster_is_away(
    opened: Start, package: Package, free_port: Callable[[], int]
) -> None:
    service = forecaster_service(f"models:/sales-forecaster/{package.version}", "dies", free_port(), free_port())
    processes.start(service)
    try:
        client = opened(backends(champion=service.url), reload_seconds=0.1)
        first = post(client, "/forecast", NEXT)
    finally:
        processes.stop(service)
    again = post(client, "/forecast", NEXT)
    assert again.headers["x-cache"] == "hit" and again.content == first.content
    assert client.post("/forecast", json=WEEK).status_code == 503
    assert client.post("/forecast", json=NEXT, headers={"Cache-Control": "no-cache"}).status_code == 503


def test_without_valkey_and_history_there_are_answers(
    opened: Start, free_port: Callable[[], int], tmp_path: Path
) -> None:
    client = opened(cache_url=SecretStr(f"redis://127.0.0.1:{free_port()}/0"), history_url=f"sqlite:///{tmp_path}")
    assert [state(client, "/forecast", body) for body in (NEXT, WEEK, NEXT, WEEK)] == ["miss", "miss", "hit", "hit"]
    for category in ("EGGS", "CHEESE", "YOGURT"):
        post(client, "/forecast", NEXT | {"category": category})
    ready = client.get("/health/ready").json()
    assert ready["status"] == "degraded" and not ready["dependencies"]["cache"]["required"]
    assert {"valkey", "sql"} == {line.split(":")[0] for line in ready["dependencies"]["cache"]["reason"].split("; ")}
    history = client.get("/forecast/history", params={"category": "EGGS", "date": "2018-01-01"})
    assert history.status_code == 503


def test_two_apis_share_their_answers(opened: Start) -> None:
    one, other = opened(), opened()
    assert [state(client, "/forecast", WEEK) for client in (one, other, other)] == ["miss", "hit", "hit"]
    assert [state(client, "/describe", {"category": "EGGS"}) for client in (one, other)] == ["miss", "hit"]
    # A score is made more quickly than it is fetched, so each makes its own.
    assert [state(client, "/churn", {"household_id": 1}) for client in (one, other, other)] == ["miss", "miss", "hit"]


def test_a_text_is_written_once(opened: Start, llm: Fake) -> None:
    client = opened()
    states = [state(client, "/describe", {"category": "EGGS", "tone": tone}) for tone in ("plain", "formal", "plain")]
    assert states == ["miss", "miss", "hit"]
    assert sum(path.endswith("/chat/completions") for path, _ in llm.asked) == 2


def test_another_model_writes_its_own_texts(opened: Start, llm: Fake) -> None:
    assert state(opened(), "/describe", {"category": "EGGS"}) == "miss"
    assert state(opened(llm_model="other"), "/describe", {"category": "EGGS"}) == "miss"
    unnamed = opened(llm_model=None)  # its name is known only when it has answered once
    assert [state(unnamed, "/describe", {"category": "CHEESE"}) for _ in range(3)] == ["miss", "miss", "hit"]


def test_a_refused_question_stays_refused(opened: Start) -> None:
    client = opened()
    for _ in range(2):
        assert client.post("/forecast", json=NEXT | {"category": "SOFT DRINK"}).status_code == 422
        assert client.post("/churn", json={"household_id": "nobody"}).status_code == 404
        assert client.post("/describe", json={"product_id": "nothing"}).status_code == 404


def test_the_history_tells_how_a_forecast_changed(opened: Start) -> None:
    client = opened()
    for evening in ("2017-12-20", "2017-12-22", "2017-12-22", "2017-12-23"):
        post(client, "/forecast", {"category": "EGGS", "dates": ["2017-12-24"], "known_until": evening})
    post(client, "/forecast", {"category": "EGGS", "dates": ["2017-12-24"], "price": 1.0})  # nobody promised that
    past = client.get("/forecast/history", params={"category": "eggs", "date": "2017-12-24"}).json()
    assert [one["forecast"]["days_ahead"] for one in past] == [4, 2, 1]
    assert sorted(one["made"] for one in past) == [one["made"] for one in past]
    assert len({one["forecast"]["units"] for one in past}) == 3 and {one["backend"] for one in past} == {"champion"}
    nothing = client.get("/forecast/history", params={"category": "EGGS", "date": "2017-12-25"})
    assert nothing.json() == []
    assert client.get("/forecast/history", params={"category": "EGG", "date": "2017-12-24"}).status_code == 422


def test_the_metrics_have_their_names(opened: Start) -> None:
    client = opened()
    [post(client, "/forecast", NEXT) for _ in range(2)]
    found = client.get("/metrics").text
    for line in ('cache_requests_total{result="hit",tier="memory"}', 'cache_seconds_count{tier="valkey"}',
                 'cache_entries{tier="memory"}', 'cache_evictions_total{tier="memory"}', "cache_shared_total",
                 "cache_prefetched_total"):  # fmt: skip
        assert line in found


# ---- how long


def forecast(*widths: float, opening: bool = True) -> ForecastResponse:
    """Forecasts of 100 units whose intervals have these widths."""
    days = [
        DayForecast(
            date=dt.date(2018, 1, 1), units=100, days_ahead=1, open=opening,
            interval=Interval(lower=100 - width / 2, upper=100 + width / 2, coverage=0.9),
        )
        for width in widths
    ]  # fmt: skip
    return ForecastResponse(category="A", forecasts=days, model=ModelVersion(name="m", version="1"), backend="b")


def test_a_sure_answer_is_kept_longer() -> None:
    found = [forecast_confidence(forecast(width)) for width in (0, 50, 100, 200, 300)]
    assert found == pytest.approx([1, 0.75, 0.5, 0, 0])
    assert forecast_confidence(forecast(0, 100)) == pytest.approx(0.75)
    assert forecast_confidence(forecast(50, opening=False)) == 1
    assert keep_seconds(0) == settings.cache_shortest and keep_seconds(1) == settings.cache_longest
    assert keep_seconds(0.2) < keep_seconds(0.3) and keep_seconds(1, 5000) == 5000


@pytest.mark.parametrize(("probability", "confidence"), [(0, 1), (0.1, 0.5), (0.2, 0), (0.6, 0.5), (1, 1)])
def test_a_score_is_sure_far_from_the_threshold(probability: float, confidence: float) -> None:
    score = ChurnResponse(
        household_id=1, probability=probability, horizon_days=28, threshold=0.2, contact=probability >= 0.2,
        as_of=None, model=ModelVersion(name="m", version="1"),
    )  # fmt: skip
    assert churn_confidence(score) == pytest.approx(confidence)


@pytest.mark.parametrize(
    ("missing", "invented", "confidence"),
    [([], [], 1), (["size"], [], 0.5), ([], ["organic"], 0), (["size"], ["9"], 0)],
)
def test_a_text_is_sure_when_it_says_all_and_no_more(
    missing: list[str], invented: list[str], confidence: float
) -> None:
    text = DescribeResponse(
        text="t", facts={"a": "1", "size": "2"}, missing=missing, invented=invented, prompt="p", model="m", tokens=1
    )
    assert text_confidence(text) == confidence


# ---- keys


def expected(demand: Demand, body: ForecastRequest, backend: str = "blue", version: str | None = "1") -> Any:
    question = demand.ask(body.category, body.dates, plan_of(body), body.known_until)
    asked = Asked(question, Backend(name=backend, url="http://somewhere"), version, demand)
    return forecast_key(asked, demand.days_of(question))


SHARES = st.none() | st.sampled_from([0.0, 0.25, 0.5, 1.0])
BODIES = st.fixed_dictionaries(
    {
        "category": st.sampled_from(["SOFT DRINKS", "EGGS", "soft drinks", " Eggs"]),
        "dates": st.lists(st.sampled_from([f"2018-01-0{day}" for day in range(1, 4)]), min_size=1, unique=True),
    },
    optional={
        "price": st.none() | st.sampled_from([1.0, 1, 2.5]),
        "promotion": st.none()
        | st.dictionaries(st.sampled_from(["display_share", "mailer_share", "front_page_share"]), SHARES, max_size=3),
        "known_until": st.none() | st.just("2017-12-31") | st.just("2017-12-30"),
    },
)


def meaning(body: dict[str, Any]) -> str:
    """What a question asks, said in one way only."""
    promotion = {name: float(share) for name, share in (body.get("promotion") or {}).items() if share is not None}
    price = body.get("price")
    return json.dumps(
        [
            body["category"].strip().upper(), body["dates"], None if price is None else float(price),
            sorted(promotion.items()), body.get("known_until") or "2017-12-31",
        ]
    )  # fmt: skip


@given(BODIES, BODIES, st.randoms(use_true_random=False))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
def test_questions_share_a_key_when_they_mean_the_same_and_never_else(
    demand: Demand, one: dict[str, Any], other: dict[str, Any], random: Any
) -> None:
    fields = list(one.items())
    random.shuffle(fields)
    keys = [expected(demand, ForecastRequest.model_validate(body)).key for body in (one, dict(fields), other)]
    assert keys[0] == keys[1]
    assert (keys[0] == keys[2]) == (meaning(one) == meaning(other))


def test_another_backend_version_or_other_data_make_another_question(demand: Demand, package: Package) -> None:
    body = ForecastRequest.model_validate(NEXT)
    panel = demand.panel
    units = panel.units.iloc[: -len(next_days(demand))].copy()
    kept = {name: getattr(panel, name).loc[units.index] for name in ("revenue", "discount", "open")}
    kept |= {"plans": {name: table.loc[units.index] for name, table in panel.plans.items()}}
    same = Demand(replace(panel, units=units, **kept))
    assert same.fingerprint == demand.fingerprint
    units.iloc[-30, 0] += 1
    other = Demand(replace(panel, units=units, **kept))
    assert other.fingerprint != demand.fingerprint
    keys = [
        expected(demand, body), expected(other, body), expected(demand, body, backend="green"),
        expected(demand, body, version="2"), expected(demand, body, version=None),
    ]  # fmt: skip
    assert len({asked.key for asked in keys}) == len(keys) and expected(same, body).key == keys[0].key


@pytest.mark.parametrize("change", [{"household": 2}, {"version": "2"}, {"data": "e"}, {"threshold": 0.3}])
def test_whatever_a_score_depends_on_makes_another_question(change: dict[str, Any]) -> None:
    given_: dict[str, Any] = {"household": 1, "version": "1", "data": "d", "threshold": 0.2}
    assert churn_key(**given_).key == churn_key(**given_ | {"household": "1"}).key
    assert churn_key(**given_).key != churn_key(**given_ | change).key


@pytest.mark.parametrize(
    "change", [{"facts": {"a": "2"}}, {"tone": "formal"}, {"prompt": {"version": 2}}, {"model": "other"}]
)
def test_whatever_a_text_depends_on_makes_another_question(change: dict[str, Any]) -> None:
    identity: dict[str, Any] = {"facts": {"a": "1"}, "tone": "plain", "prompt": {"version": 1}, "model": "m"}
    assert text_key(identity).key != text_key(identity | change).key


# ---- ahead of time


def test_the_likely_is_what_was_wanted_at_this_hour_of_the_week() -> None:
    moments = pd.to_datetime(["2017-12-04 09:10", "2017-12-11 09:50", "2017-12-04 09:30", "2017-12-04 10:00"])
    popularity = Popularity.learn(pd.DataFrame({"what": ["b", "b", "a", "c"], "when": moments}), "what", "when")
    monday = dt.datetime(2018, 1, 1, 9, 59)
    assert popularity.likely(monday, 5) == ("b", "a") and popularity.likely(monday, 1) == ("b",)
    assert popularity.likely(monday + dt.timedelta(hours=1), 5) == ("c",)
    assert popularity.likely(monday + dt.timedelta(days=1), 5) == ()


def test_what_was_made_ahead_is_there_when_it_is_asked_for(
    opened: Start, households: Households, forecaster: Endpoint, tmp_path: Path
) -> None:
    client = opened()

    async def ahead() -> int:
        from workshop_lib.serving.cache import open_cache

        mine = open_cache()
        forecasts = Forecasts(Router(tmp_path / "routes.json"))
        answers = Answers(forecasts, households, Texts(), mine)
        made = [await prefetch_hour(answers, ("SOFT DRINKS", "NO SUCH THING", "EGGS")) for _ in range(2)]
        await forecasts.close()
        assert mine is not None and made[1] == 0
        await mine.close()
        return made[0]

    assert asyncio.run(ahead()) == 2
    assert [state(client, "/forecast", WEEK | {"category": name}) for name in ("EGGS", "CHEESE")] == ["hit", "miss"]


def test_the_api_makes_likely_forecasts_by_itself(opened: Start) -> None:
    def made() -> float:
        return REGISTRY.get_sample_value("cache_prefetched_total") or 0

    before, until = made(), dt.datetime.now() + dt.timedelta(seconds=60)
    opened(cache_prefetch=20)
    while made() == before:
        assert dt.datetime.now() < until
        time.sleep(0.1)
