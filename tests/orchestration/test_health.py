"""How the dashboard finds out how its services are, and what it remembers of their calls."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import openai
import pytest

from tests.orchestration.dashboard_fakes import SLOW_SECONDS, Services, services
from workshop_lib.orchestration import dashboard_parts, health, models
from workshop_lib.orchestration.last_known import LastKnown
from workshop_lib.ports import free_port


@pytest.fixture
def running() -> Iterator[Services]:
    """Forecaster, business API and language model that do as the test says."""
    with services() as behaviour:
        yield behaviour


@pytest.fixture
def targets(running: Services, use_settings: Callable[..., object]) -> list[health.Target]:
    """What the settings of that place make of it."""
    use_settings(
        forecaster_endpoint=running.url, api_endpoint=running.url, llm_endpoint=f"{running.url}/v1",
        forecaster_token="the-token", llm_api_key="the-key", mlflow_port=free_port(),
    )  # fmt: skip
    return health.targets()


def by_name(found: list[health.Health]) -> dict[str, health.Health]:
    return {one.name: one for one in found}


def test_services_that_are_well_say_what_they_serve(targets: list[health.Target]) -> None:
    found = by_name(health.probe(targets))
    assert {name: one.state for name, one in found.items()} == {
        "forecaster": "ok", "api": "ok", "llm": "ok", "mlflow": "off",
    }  # fmt: skip
    assert (found["forecaster"].version, found["llm"].version) == ("7", "small-llm")
    assert all(0 < (one.milliseconds or 0) < 2000 for one in found.values() if one.state == "ok")
    assert not any(one.local for one in found.values() if one.name != "mlflow")


@pytest.mark.parametrize(("name", "path"), [("forecaster", "/v2/models/sales-forecaster"), ("llm", "/v1/models")])
@pytest.mark.parametrize(("mode", "cause"), [("error", "status"), ("garbage", "garbage")])
def test_a_service_that_answers_wrongly_is_down(
    running: Services, targets: list[health.Target], name: str, path: str, mode: str, cause: str
) -> None:
    running.mode[name] = mode
    found = by_name(health.probe(targets))[name]
    assert (found.state, found.cause) == ("down", cause)
    assert path in [asked for asked, _ in running.asked]


def test_a_slow_service_keeps_nobody_waiting(running: Services, targets: list[health.Target]) -> None:
    running.mode["llm"] = "slow"
    begun = time.monotonic()
    found = by_name(health.probe(targets, timeout=0.5))
    assert time.monotonic() - begun < SLOW_SECONDS
    assert (found["llm"].state, found["llm"].cause, found["llm"].milliseconds) == ("down", "slow", None)
    assert found["forecaster"].state == "ok"


def test_nobody_at_an_address_is_down_and_named(targets: list[health.Target]) -> None:
    away = [replace(target, url=f"http://127.0.0.1:{free_port()}/health") for target in targets]
    found = by_name(health.probe(away))
    assert {one.cause for one in found.values()} == {"refused"}
    assert found["api"].state == "down"
    assert found["mlflow"].state == "off", "nobody needs it"


def test_the_api_names_what_it_misses(running: Services, targets: list[health.Target]) -> None:
    running.mode["forecaster"] = "error"
    found = by_name(health.probe(targets))["api"]
    assert (found.state, found.cause) == ("down", "reported")
    assert found.detail == "forecaster: it is not ready"


def test_keys_travel_along(targets: list[health.Target]) -> None:
    sent = {target.name: target.headers.get("Authorization") for target in targets}
    assert sent == {"forecaster": "Bearer the-token", "api": None, "llm": "Bearer the-key", "mlflow": None}


def test_without_addresses_the_local_services_are_asked(home: Path) -> None:
    assert all(target.local for target in health.targets())
    assert all(target.url.startswith("http://127.0.0.1:") for target in health.targets())


# ---- calls


@pytest.fixture
def watched(running: Services, tmp_path: Path) -> tuple[models.Models, health.Calls]:
    """Models of those services, and what notes their calls."""
    calls = health.Calls()
    made = models.build(
        api_url=running.url, api_headers={}, llm_url=f"{running.url}/v1", llm_model="small-llm", llm_key="none",
        store=LastKnown(tmp_path / "last.db"), attempts=1,
    )  # fmt: skip
    return dashboard_parts.watched(made, calls), calls


QUESTION = {"category": "SOUP", "dates": ["2018-01-01"]}


def test_calls_are_counted_and_timed(watched: tuple[models.Models, health.Calls]) -> None:
    asked, calls = watched
    for _ in range(3):
        asked.forecast.invoke(QUESTION)
    asked.churn.invoke({"household_id": 1})
    asked.chat.invoke("Name a soup.")
    forecast, churn, text = (calls.recent(name) for name in health.MODELS)
    assert (forecast.calls, churn.calls, text.calls) == (3, 1, 1)
    assert (forecast.version, churn.version) == ("7", "2")
    assert 0 < forecast.median_ms <= forecast.p95_ms < 5000
    assert forecast.failed == forecast.substitutes == 0


def test_failures_and_substitutes_are_counted_apart(
    running: Services, watched: tuple[models.Models, health.Calls]
) -> None:
    asked, calls = watched
    asked.forecast.invoke(QUESTION)
    running.mode |= {"api": "error", "llm": "error"}
    asked.forecast.invoke(QUESTION)
    with pytest.raises(models.ModelUnavailable):
        asked.churn.invoke({"household_id": 1})
    with pytest.raises(openai.InternalServerError):
        asked.chat.invoke("Name a soup.")
    forecast, churn, text = (calls.recent(name) for name in health.MODELS)
    assert (forecast.calls, forecast.substitutes, forecast.failed) == (2, 1, 0)
    assert (churn.calls, churn.failed) == (1, 1)
    assert (text.calls, text.failed) == (1, 1)


def test_only_the_last_calls_count() -> None:
    calls = health.Calls()
    for _ in range(health.KEPT_CALLS + 20):
        run = uuid.uuid4()
        calls.on_chat_model_start({}, [], run_id=run)
        calls.on_llm_error(RuntimeError(), run_id=run)
    assert calls.recent("text").calls == health.KEPT_CALLS
    assert calls._begun == {}, "nothing is kept for a call that has ended"


def test_no_calls_have_no_times() -> None:
    recent = health.Calls().recent("text")
    assert recent.calls == 0 and math.isnan(recent.median_ms) and recent.version == ""
