"""The guard marks what no category and no household was ever like; then guard, log and keys in one application."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY

from workshop_lib.predictive import churn
from workshop_lib.predictive.champion import ensure_champion
from workshop_lib.serving import api
from workshop_lib.serving.api_keys import KeysFile, Role, add_key, write_keys
from workshop_lib.serving.api_schemas import ChurnRequest, ForecastRequest
from workshop_lib.serving.forecasts import Forecasts
from workshop_lib.serving.households import Households
from workshop_lib.serving.input_guard import HEADER, Guard
from workshop_lib.serving.prediction_log import read_log
from workshop_lib.serving.routing import Router
from workshop_lib.serving.texts import Texts
from workshop_lib.settings import settings

NEXT = {"category": "SOFT DRINKS", "dates": ["2018-01-01"]}


@pytest.fixture(scope="module")
def parts() -> api.Parts:
    """No forecaster runs: the guard looks at what is asked."""
    ensure_champion()
    return api.Parts(Forecasts(Router()), Households(), Texts())


@pytest.fixture(scope="module")
def guard(parts: api.Parts) -> Guard:
    return Guard(parts.forecasts, parts.households)


def question(**plan: object) -> ForecastRequest:
    return ForecastRequest.model_validate(NEXT | plan)


def test_what_was_there_before_is_not_marked(guard: Guard, parts: api.Parts) -> None:
    panel = parts.forecasts.demand.panel
    week = slice("2017-06-01", "2017-06-07")
    for category in parts.forecasts.demand.categories:
        usual = panel.revenue.loc[week, category].sum() / max(panel.units.loc[week, category].sum(), 1)
        assert guard.forecast(question(category=category.lower(), price=usual)) == {}
    assert guard.forecast(question(promotion={"mailer_share": 0})) == {}
    table = churn.load_current().head(200)
    for row in table[list(churn.FEATURES)].to_dict("records"):
        assert guard.churn(ChurnRequest.model_validate({"features": row})) == {}
    assert guard.churn(ChurnRequest(household_id=1)) == {}


def test_what_never_was_is_named_and_counted(guard: Guard, parts: api.Parts) -> None:
    seen = parts.forecasts.demand.panel.plans["display_share"].max()
    quiet = str(seen.idxmin())
    planned = question(category=quiet, price=900, promotion={"display_share": 1, "mailer_share": 0})
    before = REGISTRY.get_sample_value("api_unusual_inputs_total", {"path": "/forecast", "field": "price"}) or 0
    assert guard.forecast(planned) == {HEADER: "price, promotion.display_share"}
    labels = {"path": "/forecast", "field": "price"}
    assert REGISTRY.get_sample_value("api_unusual_inputs_total", labels) == before + 1
    low, high = parts.households.seen["visits"]
    features = dict.fromkeys(churn.FEATURES, 0.0) | {name: edge[1] for name, edge in parts.households.seen.items()}
    assert guard.churn(ChurnRequest.model_validate({"features": features})) == {}, "the edges were seen"
    for value in (low - 1, high + 1):
        assert guard.churn(ChurnRequest.model_validate({"features": features | {"visits": value}})) == {
            HEADER: "visits"
        }


@pytest.fixture
def client(parts: api.Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TestClient, str]]:
    """The application with everything that is off by default, and a key."""
    file = tmp_path / "keys.json"
    write_keys(file, KeysFile(roles={"crm": Role(paths=("/churn",), answers_per_day=3)}))
    key = add_key(file, "crm-1", "crm", "crm")
    on = {"api_keys_file": file, "prediction_log": tmp_path / "log", "input_guard": True}
    monkeypatch.setattr(api, "settings", settings.model_copy(update=on))
    with TestClient(api.create_app(parts)) as client:
        yield client, key


def test_keys_guard_and_log_work_together(client: tuple[TestClient, str], tmp_path: Path, parts: api.Parts) -> None:
    api_, key = client
    household = churn.load_current()["household_id"].iloc[5]
    headers = {"X-API-Key": key}
    usual = api_.post("/churn", json={"household_id": int(household)}, headers=headers)
    assert usual.status_code == 200 and HEADER not in usual.headers
    features = {name: edge[1] for name, edge in parts.households.seen.items()} | {"spend": -5}
    strange = api_.post("/churn", json={"features": features}, headers=headers)
    assert strange.status_code == 200 and strange.headers[HEADER] == "spend"
    assert strange.json().keys() == usual.json().keys(), "answers look as they always did"
    lines = read_log(tmp_path / "log")
    assert [line["key"] for line in lines] == ["crm-1", "crm-1"]
    assert lines[0]["probability"] == pytest.approx(usual.json()["probability"], abs=1e-4)
    assert len(read_log(tmp_path / "log", household)) == 1
    assert api_.post("/churn", json={"household_id": int(household)}, headers=headers).status_code == 200
    over = api_.post("/churn", json={"household_id": int(household)}, headers=headers)
    assert over.status_code == 429 and int(over.headers["retry-after"]) > 0
    assert api_.post("/forecast", json=NEXT, headers=headers).status_code == 403
    assert len(read_log(tmp_path / "log")) == 3, "what is refused was not answered"
