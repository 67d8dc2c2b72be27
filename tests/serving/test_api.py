"""The business API before real servers: a forecaster behind the protocol, models from the registry."""

import asyncio
import datetime as dt
import json
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from workshop_lib.predictive import churn, tracking
from workshop_lib.predictive.champion import URI, Package
from workshop_lib.processes import log_lines
from workshop_lib.serving import api_client, kinds, shadow
from workshop_lib.serving.api import OPEN, Parts, create_app, load_parts
from workshop_lib.serving.forecaster_client import Answer, Endpoint, ForecasterClient
from workshop_lib.serving.forecasts import Forecasts
from workshop_lib.serving.local import forecaster_service
from workshop_lib.serving.routing import Backend, Router, Routes, Rule, write_routes
from workshop_lib.serving.texts import Texts
from workshop_lib.settings import settings

NEXT = {"category": "SOFT DRINKS", "dates": ["2018-01-01"]}


@pytest.fixture(scope="module")
def parts(forecaster: Endpoint) -> Parts:
    return load_parts()


@pytest.fixture(scope="module")
def api(parts: Parts) -> Iterator[TestClient]:
    with TestClient(create_app(parts), headers={"X-API-Key": api_client.api_key()}) as client:
        yield client


@pytest.fixture
def routed(parts: Parts, tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """The API with routes of its own: ``routed(blue=url, green=url)``."""
    opened: list[TestClient] = []

    def start(routes: Routes) -> TestClient:
        file = tmp_path / "routes.json"
        write_routes(routes, file)
        app = create_app(Parts(Forecasts(Router(file)), parts.households, Texts()))
        opened.append(TestClient(app, headers={"X-API-Key": api_client.api_key()}).__enter__())
        return opened[-1]

    yield start
    for client in opened:
        client.__exit__(None, None, None)


def backends(**urls: str) -> Routes:
    return Routes(backends=tuple(Backend(name=name, url=url) for name, url in urls.items()))


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def assert_problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status and body["title"] and body["detail"]
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


# ---------------------------------------------------------------- forecasts


def test_a_forecast_is_the_registered_models_own(api: TestClient, parts: Parts, package: Package) -> None:
    model = mlflow.sklearn.load_model(URI)
    dates = ["2017-06-01", "2017-11-23", "2017-12-31"]
    for category in parts.forecasts.demand.categories[::15]:
        body = api.post("/forecast", json={"category": category, "dates": dates}).json()
        rows = parts.forecasts.demand.rows(category, [dt.date.fromisoformat(date) for date in dates])
        served = [day["units"] for day in body["forecasts"]]
        assert served == pytest.approx(np.maximum(model.predict(rows), 0), rel=1e-5)
        assert [day["date"] for day in body["forecasts"]] == dates
    assert body["unit"] == "units" and body["backend"] == "champion"
    assert body["model"] == {"name": "sales-forecaster", "version": package.version}


def test_intervals_hold_the_truth_as_often_as_they_promise(api: TestClient, parts: Parts) -> None:
    days = pd.date_range("2017-11-15", "2017-12-15")
    held = []
    for category in parts.forecasts.demand.categories[::8]:
        question = {"category": category, "dates": [f"{day:%Y-%m-%d}" for day in days]}
        for day in api.post("/forecast", json=question).json()["forecasts"]:
            sold = parts.forecasts.demand.units(category, dt.date.fromisoformat(day["date"]))
            interval = day["interval"]
            assert 0 <= interval["lower"] <= interval["upper"] and interval["coverage"] == 0.9
            held.append(interval["lower"] <= sold <= interval["upper"])
    assert 0.8 < np.mean(held) < 0.98


def test_intervals_widen_with_the_days_ahead(api: TestClient) -> None:
    dates = [f"2018-01-0{day}" for day in range(1, 8)]
    found = api.post("/forecast", json={**NEXT, "dates": dates}).json()["forecasts"]
    width = [(day["interval"]["upper"] - day["interval"]["lower"]) / (day["units"] + 1) for day in found]
    assert [day["days_ahead"] for day in found] == list(range(1, 8)) and width[6] > width[0]


def test_a_plan_reaches_the_model(api: TestClient) -> None:
    usual, promoted, cheap = (
        api.post("/forecast", json={**NEXT, **plan}).json()["forecasts"][0]["units"]
        for plan in ({}, {"promotion": {"mailer_share": 1, "display_share": 1}}, {"price": 0.5})
    )
    assert promoted > usual * 1.02 and cheap != usual


@pytest.mark.parametrize(
    ("change", "field", "expected"),
    [
        ({"category": "SOFT DRINK"}, "category", "SOFT DRINKS"),
        ({"category": "\ud800"}, "category", ""),
        ({"category": ""}, "category", "at least 1 character"),
        ({"dates": []}, "dates", "at least 1 item"),
        ({"dates": ["2018-01-08"]}, "dates.0", "to 2018-01-07"),
        ({"dates": ["tomorrow"]}, "dates.0", "date"),
        ({"dates": ["2018-01-01", "2018-01-01"]}, "dates", "different"),
        ({"price": 0}, "price", "greater than 0"),
        ({"price": float("nan")}, "price", "finite"),
        ({"promotion": {"mailer_share": 1.5}}, "promotion.mailer_share", "less than or equal to 1"),
        ({"promotion": {"mailer": 1}}, "promotion.mailer", "no field of this name"),
        ({"prize": 1}, "prize", "no field of this name"),
        ({"known_until": "2019-01-01"}, "known_until", "2017-12-31"),
    ],
)
def test_wrong_input_is_told_by_field(api: TestClient, change: dict[str, Any], field: str, expected: str) -> None:
    body = assert_problem(api.post("/forecast", content=json.dumps({**NEXT, **change})), 422)
    assert body["errors"][0]["field"] == field and expected in body["errors"][0]["expected"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000, b"1" * 5000])
def test_a_body_that_is_no_object_is_refused(api: TestClient, content: bytes) -> None:
    for path in ("/forecast", "/churn", "/describe"):
        answer = api.post(path, content=content)
        assert_problem(answer, 400 if answer.status_code == 400 else 422)


# ---------------------------------------------------------------- request IDs, key, metrics, documentation


def test_a_request_id_goes_through_every_hop(
    api: TestClient, parts: Parts, capfd: pytest.CaptureFixture[str], forecaster: Endpoint
) -> None:
    answer = api.post("/forecast", json=NEXT, headers={"X-Request-ID": "joined-up.1"})
    assert answer.headers["x-request-id"] == "joined-up.1"
    line = next(json.loads(line) for line in capfd.readouterr().out.splitlines() if "joined-up.1" in line)
    assert {"path": "/forecast", "status": 200, "backend": "champion", "server": "api"}.items() <= line.items()
    assert line["version"] and line["ms"] > 0
    assert log_lines("joined-up.1", [forecaster_service()])


def test_logs_hold_neither_the_key_nor_the_body(api: TestClient, capfd: pytest.CaptureFixture[str]) -> None:
    api.post("/forecast", json=NEXT)
    api.post("/describe", json={"facts": {"product": "a very secret sauce"}})
    logged = capfd.readouterr().out
    assert logged and api_client.api_key() not in logged and "SOFT DRINKS" not in logged and "secret" not in logged


@pytest.mark.parametrize("given", ["", "bad\nid", "x" * 129, "ünï"])
def test_an_unusable_request_id_is_replaced(api: TestClient, given: str) -> None:
    raw = api.build_request("POST", "/forecast", json=NEXT)
    raw.headers = type(raw.headers)([*raw.headers.raw, (b"x-request-id", given.encode())])
    answer = api.send(raw)
    assert answer.headers["x-request-id"] != given and len(answer.headers["x-request-id"]) == 32


def test_only_watchers_come_in_without_the_key(api: TestClient) -> None:
    def ask(method: str, path: str, key: bytes | None) -> Any:
        request = api.build_request(method, path, json=NEXT)
        del request.headers["x-api-key"]
        more = [(b"x-api-key", key)] if key is not None else []
        request.headers = type(request.headers)([*request.headers.raw, *more])
        return api.send(request)

    for path in ("/forecast", "/churn", "/describe", "/nothing"):
        assert "X-API-Key" in assert_problem(ask("POST", path, None), 401)["detail"]
    right = api_client.api_key().encode()
    for key in (b"", b"wrong", right[:-1], right + b"x", "ké".encode()):
        assert_problem(ask("POST", "/forecast", key), 401)
    for path in OPEN:
        assert ask("GET", path, None).status_code == 200, path
    assert ask("POST", "/forecast", right).status_code == 200


def test_the_key_is_made_once_and_for_its_owner(home: Path, use_settings: Callable[..., object]) -> None:
    key = api_client.api_key()
    file = home / "services" / "api-key.txt"
    assert api_client.api_key() == key == file.read_text() and len(key) >= 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    use_settings(api_key="given")
    assert api_client.api_key() == "given"


def test_metrics_count_by_path_and_stay_few(api: TestClient) -> None:
    api.post("/forecast", json=NEXT)
    for number in range(50):
        api.get(f"/nothing/{number}")
    text = api.get("/metrics").text
    assert 'api_requests_total{method="POST",path="/forecast",status="200"}' in text
    assert 'api_request_seconds_bucket{le="0.1",path="/forecast"}' in text
    assert 'api_backend_requests_total{backend="champion",result="ok"}' in text
    assert "api_requests_in_flight 1.0" in text  # this very one
    assert "/nothing" not in text and 'path="unknown"' in text


def test_the_documentation_is_complete_and_needs_no_internet(api: TestClient) -> None:
    schema = api.get("/openapi.json").json()
    assert {"/forecast", "/churn", "/describe", "/health/live", "/health/ready", "/metrics"} <= schema["paths"].keys()
    for path in ("/forecast", "/churn", "/describe"):
        operation = schema["paths"][path]["post"]
        assert operation["security"] == [{"key": []}]
        assert "application/problem+json" in operation["responses"]["422"]["content"]
    for name in ("ForecastRequest", "ChurnRequest", "DescribeRequest"):
        assert schema["components"]["schemas"][name]["examples"]
    page = api.get("/docs").text
    assert "https://" not in page and "docs/ui.js" in page


def test_the_examples_of_the_documentation_work(api: TestClient) -> None:
    schemas = api.get("/openapi.json").json()["components"]["schemas"]
    for path, name in (("/forecast", "ForecastRequest"), ("/churn", "ChurnRequest")):
        for example in schemas[name]["examples"]:
            assert api.post(path, json=example).status_code == 200


# ---------------------------------------------------------------- churn and descriptions


def test_a_household_gets_the_registered_models_probability(api: TestClient) -> None:
    model = mlflow.sklearn.load_model(f"models:/{tracking.CHURN}@champion")
    table = churn.load_current()
    wanted = model.predict_proba(table[list(churn.FEATURES)])[:, 1]
    answers = []
    for place in (0, 100, 1000, int(wanted.argmax())):
        household = int(table["household_id"].iloc[place])
        by_id = api.post("/churn", json={"household_id": household}).json()
        features = table.iloc[place][list(churn.FEATURES)].astype(float).to_dict()
        by_features = api.post("/churn", json={"features": features}).json()
        assert by_id["probability"] == pytest.approx(wanted[place], abs=settings.thresholds.served_difference)
        assert by_features["probability"] == by_id["probability"]
        assert by_id["contact"] == (wanted[place] >= by_id["threshold"])
        answers.append(by_id["contact"])
    assert set(answers) == {True, False} and by_id["model"]["name"] == "household-churn"
    assert by_id["as_of"] == "2018-01-01" and by_features["as_of"] is None


def test_households_that_cannot_be_scored_are_told(api: TestClient) -> None:
    body = assert_problem(api.post("/churn", json={"household_id": 10**30}), 404)
    assert "84 days" in body["detail"]
    assert_problem(api.post("/churn", json={}), 422)
    assert_problem(api.post("/churn", json={"household_id": 1, "features": None, "x": 1}), 422)
    missing = assert_problem(api.post("/churn", json={"features": {"visits": 1}}), 422)
    assert {"field": "features.recency_days", "got": "nothing", "expected": "a value"} in missing["errors"]


def test_without_the_language_model_everything_else_works(
    parts: Parts, use_settings: Callable[..., object], free_port: Callable[[], int]
) -> None:
    use_settings(home=settings.home, llm_endpoint=f"http://127.0.0.1:{free_port()}/v1", llm_model="away")
    app = create_app(Parts(parts.forecasts, parts.households, Texts()))
    client = TestClient(app, headers={"X-API-Key": api_client.api_key()})
    answer = client.post("/describe", json={"facts": {"product": "olives"}})
    assert "does not answer" in assert_problem(answer, 503)["detail"] and int(answer.headers["retry-after"]) > 0
    assert client.post("/churn", json={"household_id": 1}).status_code == 200
    assert Texts()._llm.model == "away"


def test_a_language_model_that_hangs_is_not_waited_for(
    parts: Parts, use_settings: Callable[..., object], silent: str
) -> None:
    use_settings(home=settings.home, llm_endpoint=f"{silent}/v1", llm_model="slow", api_llm_timeout=0.5)
    client = TestClient(create_app(Parts(parts.forecasts, parts.households, Texts())))
    client.headers["X-API-Key"] = api_client.api_key()
    begun = dt.datetime.now()
    answer = client.post("/describe", json={"facts": {"product": "olives"}})
    assert answer.status_code in (503, 504) and int(answer.headers["retry-after"]) > 0
    assert (dt.datetime.now() - begun).total_seconds() < 30


def test_a_text_comes_with_what_can_be_trusted_in_it(parts: Parts) -> None:
    from workshop_lib.generative.client import connect

    connect()
    app = create_app(Parts(parts.forecasts, parts.households, Texts()))
    client = TestClient(app, headers={"X-API-Key": api_client.api_key()})
    facts = {"product": "green olives", "brand": "store brand", "size": "7 ounces", "price": "$1.99"}
    body = client.post("/describe", json={"facts": facts, "tone": "friendly"}).json()
    assert "olives" in body["text"].lower() and body["facts"] == facts and body["tokens"] > 5
    assert body["prompt"].startswith("product_description.few_shot v")
    assert client.post("/describe", json={"category": "soft drinks"}).json()["facts"]["product"]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 422, "one of product_id, category and facts"),
        ({"facts": {}}, 422, "at least 1"),
        ({"facts": {"product": "x" * 300}}, 422, "at most 200"),
        ({"product_id": 1}, 404, "catalogue"),
        ({"category": "MOON ROCKS"}, 404, "catalogue"),
        ({"category": "CIGARETTES"}, 422, "law"),
        ({"facts": {"product": "beer"}}, 422, "law"),
        ({"category": "EGGS", "tone": "rude"}, 422, "friendly"),
    ],
)
def test_what_cannot_be_described_is_told(api: TestClient, body: dict[str, Any], status: int, says: str) -> None:
    assert says in assert_problem(api.post("/describe", json=body), status)["detail"]


# ---------------------------------------------------------------- nothing makes it fail

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = {
    "/forecast": ["category", "dates", "price", "promotion", "known_until", "x"],
    "/churn": ["household_id", "features", "x"],
    "/describe": ["product_id", "category", "facts", "tone", "x"],
}
_PLAUSIBLE = st.one_of(
    st.sampled_from(["SOFT DRINKS", "2018-01-01", 1, 2**63, -1e308, {"mailer_share": 0.5}, {"mailer_share": 5}]),
    st.lists(st.dates().map(str), max_size=40),
    st.just([f"2018-01-0{day}" for day in range(1, 8)]),
    st.fixed_dictionaries(dict.fromkeys(churn.FEATURES, st.floats())),
)


@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_no_body_makes_it_fail(api: TestClient, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(_FIELDS)))
    fields = st.dictionaries(st.sampled_from(_FIELDS[path]), _PLAUSIBLE | _JSON, max_size=4)
    answer = api.post(path, content=json.dumps(data.draw(fields | _JSON)).encode("utf-8", "replace"))
    away = path == "/describe" and answer.status_code == 503  # no language model runs here
    assert answer.status_code in (200, 400, 404, 422) or away
    if answer.status_code != 200:
        assert_problem(answer, answer.status_code)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/forecast", 405), ("POST", "/forecast/", 404), ("DELETE", "/churn", 405), ("BREW", "/health/live", 405)],
)
def test_wrong_methods_and_paths_are_problems(api: TestClient, method: str, path: str, status: int) -> None:
    assert_problem(api.request(method, path), status)


# ---------------------------------------------------------------- backends


def test_readiness_names_what_is_away(api: TestClient, routed: Any, forecaster: Endpoint, free_port: Any) -> None:
    alone = api.get("/health/ready")
    assert alone.status_code == 200 and alone.json()["dependencies"]["forecaster"]["status"] == "ok"
    nowhere = f"http://127.0.0.1:{free_port()}"
    half = routed(backends(blue=forecaster.url, green=nowhere)).get("/health/ready")
    assert half.status_code == 200 and half.json()["status"] == "degraded"
    assert "green" in half.json()["dependencies"]["forecaster"]["reason"]
    none = routed(backends(green=nowhere)).get("/health/ready")
    assert none.status_code == 503 and none.json()["status"] == "failed"
    assert none.json()["dependencies"]["history"] == {"status": "ok", "required": True, "reason": None}


def test_a_dead_backend_is_503_and_a_slow_one_504(
    routed: Any, silent: str, free_port: Any, use_settings: Callable[..., object]
) -> None:
    answer = routed(backends(green=f"http://127.0.0.1:{free_port()}")).post("/forecast", json=NEXT)
    assert "green" in assert_problem(answer, 503)["detail"] and answer.headers["retry-after"] == "1"
    use_settings(home=settings.home, forecaster_timeout=0.3)
    answer = routed(backends(slow=silent)).post("/forecast", json=NEXT)
    assert "within 0.3 s" in assert_problem(answer, 504)["detail"]


def test_a_request_that_loses_its_backend_is_asked_again(
    routed: Any, forecaster: Endpoint, free_port: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = routed(backends(blue=f"http://127.0.0.1:{free_port()}"))
    asked: list[str] = []
    infer = ForecasterClient.infer

    async def switching(self: ForecasterClient, url: str, *rest: Any) -> Answer:
        asked.append(url)
        write_routes(backends(green=forecaster.url), tmp_path / "routes.json")
        return await infer(self, url, *rest)

    monkeypatch.setattr(ForecasterClient, "infer", switching)
    body = client.post("/forecast", json=NEXT).json()
    assert body["backend"] == "green" and len(asked) == 2


def test_one_version_makes_all_days_of_a_forecast(
    routed: Any, forecaster: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = routed(backends(blue=forecaster.url))
    versions = iter(["8001", "8001", *["8002"] * 4])  # that the registry does not have
    calls = []

    async def infer(self: ForecasterClient, url: str, rows: np.ndarray, request_id: str = "") -> Answer:
        calls.append(next(versions))
        return Answer(np.full(len(rows), float(calls[-1])), calls[-1])

    monkeypatch.setattr(ForecasterClient, "infer", infer)
    dates = ["2018-01-01", "2018-01-02", "2018-01-03"]
    body = client.post("/forecast", json={**NEXT, "dates": dates}).json()
    assert [day["units"] for day in body["forecasts"]] == [8002, 8002, 8002] and body["model"]["version"] == "8002"


def test_weights_rules_and_keys_choose_the_backend(routed: Any, forecaster: Endpoint, tmp_path: Path) -> None:
    blue, green = (
        Backend(name="blue", url=forecaster.url, weight=70),
        Backend(name="green", url=forecaster.url, weight=30),
    )
    rule = Rule(backend="green", categories=frozenset({"EGGS"}))
    client = routed(Routes(backends=(blue, green), rules=(rule,)))

    def chosen(category: str, key: str | None = None) -> str:
        headers = {"X-Route-Key": key} if key else {}
        return str(client.post("/forecast", json={**NEXT, "category": category}, headers=headers).json()["backend"])

    names = [chosen("SOFT DRINKS") for _ in range(100)]
    assert 10 < names.count("green") < 50
    assert {chosen("EGGS") for _ in range(10)} == {"green"}
    assert all(len({chosen("SOFT DRINKS", key) for _ in range(3)}) == 1 for key in "abcdef")
    write_routes(Routes(backends=(green,)), tmp_path / "routes.json")
    assert {chosen("SOFT DRINKS") for _ in range(10)} == {"green"}


def test_the_shadow_is_compared_and_never_felt(
    routed: Any, forecaster: Endpoint, silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "shadow.jsonl"
    monkeypatch.setattr(shadow, "log_file", lambda: log)
    champion = Backend(name="blue", url=forecaster.url)
    client = routed(Routes(backends=(champion,), shadow=Backend(name="same", url=forecaster.url)))
    client.post("/forecast", json=NEXT, headers={"X-Request-ID": "copied"})
    before = dt.datetime.now()
    while not log.exists() and (dt.datetime.now() - before).total_seconds() < 60:
        client.get("/health/live")
    [line] = [json.loads(line) for line in log.read_text().splitlines()]
    assert line["request_id"] == "copied" and line["units"] == line["shadow_units"] and line["largest_difference"] == 0
    assert (line["backend"], line["shadow"], line["dates"]) == ("blue", "same", NEXT["dates"])

    write_routes(Routes(backends=(champion,), shadow=Backend(name="slow", url=silent)), tmp_path / "routes.json")
    begun = dt.datetime.now()
    answers = [client.post("/forecast", json=NEXT) for _ in range(3 * shadow.PENDING)]
    assert {answer.status_code for answer in answers} == {200}
    assert (dt.datetime.now() - begun).total_seconds() < shadow.PENDING * settings.forecaster_timeout
    metrics = client.get("/metrics").text
    assert 'api_shadow_total{result="compared"}' in metrics and 'api_shadow_total{result="dropped"}' in metrics


# ---------------------------------------------------------------- kinds of serving


def test_all_kinds_of_serving_give_the_same_numbers(api: TestClient, parts: Parts, tmp_path: Path) -> None:
    evening, tomorrow = dt.date(2017, 12, 6), dt.date(2017, 12, 7)
    edge = kinds.Edge(demand=parts.forecasts.demand)
    file = kinds.batch(edge, evening, tmp_path)
    table = pd.read_parquet(file).set_index("category")
    assert list(table.index) == parts.forecasts.demand.categories
    query: Any = {"category": "SOFT DRINKS", "start": str(evening), "days": 1, "pause": 0}
    event = api.get("/forecast/stream", params=query).text
    streamed = json.loads(event.split("data: ")[1])
    online = api.post("/forecast", json={**NEXT, "dates": [str(tomorrow)]}).json()
    at_the_edge = edge.forecast("SOFT DRINKS", [tomorrow])
    found = {
        "batch": table.loc["SOFT DRINKS", ["units", "lower", "upper"]].tolist(),
        **{
            kind: [day["units"], day["interval"]["lower"], day["interval"]["upper"]]
            for kind, day in (("streaming", streamed["forecast"]), ("online", online["forecasts"][0]))
        },
        "edge": [
            at_the_edge.forecasts[0].units,
            at_the_edge.forecasts[0].interval.lower,
            at_the_edge.forecasts[0].interval.upper,
        ],
    }
    for numbers in found.values():
        assert numbers == pytest.approx(found["online"], rel=1e-6)
    assert streamed["sold"] == parts.forecasts.demand.units("SOFT DRINKS", evening)


def test_a_batch_that_runs_twice_does_no_harm(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edge = kinds.Edge(demand=parts.forecasts.demand)
    file = kinds.batch(edge, folder=tmp_path)
    content, when = file.read_bytes(), file.stat().st_mtime_ns
    assert kinds.batch(edge, folder=tmp_path) == file and file.stat().st_mtime_ns == when
    file.unlink()
    assert kinds.batch(edge, folder=tmp_path).read_bytes() == content
    file.unlink()
    monkeypatch.setattr(pd.DataFrame, "to_parquet", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        kinds.batch(edge, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_stream_brings_a_forecast_for_each_evening(api: TestClient) -> None:
    query: Any = {"category": "eggs", "start": "2017-12-22", "days": 4, "pause": 0}
    with api.stream("GET", "/forecast/stream", params=query) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        days = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]
    assert [day["forecast"]["date"] for day in days] == [f"2017-12-{day}" for day in (23, 24, 25, 26)]
    assert days[2]["forecast"]["units"] == 0 and not days[2]["forecast"]["open"]
    for change in ({"start": "2018-02-01"}, {"days": 100}, {"category": "x"}, {"days": 0}, {"pause": -1}):
        assert_problem(api.get("/forecast/stream", params={**query, **change}), 422)


def test_a_stream_whose_forecaster_dies_says_so(routed: Any, free_port: Any) -> None:
    client = routed(backends(green=f"http://127.0.0.1:{free_port()}"))
    query: Any = {"category": "EGGS", "start": "2017-12-22", "days": 4, "pause": 0}
    text = client.get("/forecast/stream", params=query).text
    assert text.startswith("event: problem") and "green" in text


def test_closing_waits_for_the_shadow(parts: Parts) -> None:
    done = []

    async def copy(_: ForecasterClient) -> tuple[list[float], str]:
        await asyncio.sleep(0.1)
        done.append(1)
        return [1.0], "2"

    async def use() -> None:
        copies = shadow.Shadow()
        copies.compare(copy, {}, [1.0], 0.1)
        await copies.close()

    asyncio.run(use())
    assert done
