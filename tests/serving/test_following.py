"""The business API follows the registry: other champions, and versions that know other categories."""

import datetime as dt
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from mlflow.tracking import MlflowClient

from workshop_lib import processes
from workshop_lib.predictive import churn, tracking
from workshop_lib.predictive.champion import Package, load_package, register_forecaster
from workshop_lib.predictive.forecaster import gradient_boosting, make_dataset, train
from workshop_lib.serving import api_client, kinds
from workshop_lib.serving.api import Parts, create_app
from workshop_lib.serving.forecaster_client import Endpoint
from workshop_lib.serving.forecasts import Forecasts
from workshop_lib.serving.households import URI, Households
from workshop_lib.serving.local import forecaster_service
from workshop_lib.serving.routing import Backend, Router, Routes, write_routes
from workshop_lib.serving.texts import Texts
from workshop_lib.settings import settings

FEW = 15
DATES = [f"2018-01-0{day}" for day in range(1, 8)]


@pytest.fixture(scope="module")
def small(package: Package) -> Package:
    """A version that knows few categories; the champion stays what it is."""
    trained = train(gradient_boosting(n_estimators=20), make_dataset(FEW))
    version = register_forecaster(trained, metrics={}, description="For tests.", alias=None).version
    return load_package(f"models:/sales-forecaster/{version}")


@pytest.fixture(scope="module")
def canary(small: Package, free_port: Callable[[], int]) -> Iterator[str]:
    """Address of a server of that version."""
    service = forecaster_service(f"models:/sales-forecaster/{small.version}", "small", free_port(), free_port())
    processes.start(service)
    yield service.url
    processes.stop(service)


def opened(forecasts: Forecasts, households: Households | None = None) -> TestClient:
    parts = Parts(forecasts, households or Households(), Texts())
    return TestClient(create_app(parts), headers={"X-API-Key": api_client.api_key()})


def routed(file: Path, **urls: str) -> Router:
    write_routes(Routes(backends=tuple(Backend(name=name, url=url) for name, url in urls.items())), file)
    return Router(file)


def expected(package: Package, category: str) -> list[float]:
    answer = kinds.Edge(package).forecast(category, [dt.date.fromisoformat(date) for date in DATES])
    return [day.units for day in answer.forecasts]


def test_each_version_gets_the_features_that_it_was_trained_with(
    package: Package, small: Package, forecaster: Endpoint, canary: str, tmp_path: Path
) -> None:
    shared = sorted(set(small.about["categories"]))[:5]
    features = [kinds.Edge(one).demand.rows(shared[0], [dt.date(2017, 12, 4)]) for one in (package, small)]
    assert (features[0] != features[1]).any()  # else this test would show nothing
    with opened(Forecasts(routed(tmp_path / "routes.json", champion=forecaster.url, canary=canary))) as client:
        found = {}
        for number in range(40):
            category = shared[number % len(shared)]
            body = client.post("/forecast", json={"category": category, "dates": DATES}).json()
            found[body["backend"], category] = [day["units"] for day in body["forecasts"]]
    assert {backend for backend, _ in found} == {"champion", "canary"}
    for (backend, category), units in found.items():
        assert units == pytest.approx(expected(package if backend == "champion" else small, category), rel=1e-5)


def test_a_version_that_does_not_know_the_category_says_so(
    package: Package, small: Package, canary: str, tmp_path: Path
) -> None:
    stranger = next(name for name in package.about["categories"] if name not in small.about["categories"])
    with opened(Forecasts(routed(tmp_path / "routes.json", canary=canary))) as client:
        answer = client.post("/forecast", json={"category": stranger, "dates": DATES})
    assert answer.status_code == 422 and f"one of {FEW} known categories" in answer.text


def test_a_new_champions_categories_are_known_soon(
    package: Package, small: Package, canary: str, tmp_path: Path, use_settings: Callable[..., object]
) -> None:
    registry = MlflowClient()
    registry.set_registered_model_alias("sales-forecaster", "moved", package.version)
    use_settings(home=settings.home, forecaster_model="models:/sales-forecaster@moved", reload_seconds=0.2)
    forecasts = Forecasts(routed(tmp_path / "routes.json", canary=canary))
    with opened(forecasts) as client:
        assert len(forecasts.demand.categories) == len(package.about["categories"])
        registry.set_registered_model_alias("sales-forecaster", "moved", small.version)
        wait_until(lambda: forecasts.version == small.version)
        assert set(forecasts.demand.categories) == set(small.about["categories"])
        category = forecasts.demand.categories[0]
        body = client.post("/forecast", json={"category": category, "dates": DATES}).json()
        assert [day["units"] for day in body["forecasts"]] == pytest.approx(expected(small, category), rel=1e-5)
        registry.delete_registered_model_alias("sales-forecaster", "moved")
        time.sleep(0.5)
        assert forecasts.version == small.version  # a registry without a champion leaves the last one


def test_a_new_churn_champion_answers_soon(forecaster: Endpoint, use_settings: Callable[..., object]) -> None:
    households, registry = Households(), MlflowClient()
    before = households.version
    table, _ = churn.split(churn.load_table())
    features = table[list(churn.FEATURES)]
    other = churn.Candidate("logistic regression", {"C": 1.0}).build().fit(features, table["lapsed"])
    use_settings(home=settings.home, reload_seconds=0.2)
    with opened(Forecasts(Router()), households) as client:
        first = client.post("/churn", json={"household_id": 1}).json()
        try:
            tracking.register(other, tracking.CHURN, example=features.head(3), alias="champion")
            wait_until(lambda: households.version != before)
            second = client.post("/churn", json={"household_id": 1}).json()
        finally:
            registry.set_registered_model_alias(tracking.CHURN, URI.rpartition("@")[2], before)
    assert first["model"]["version"] == before and second["model"]["version"] == households.version
    current = churn.load_current().set_index("household_id").loc[[1], list(churn.FEATURES)]
    assert second["probability"] == pytest.approx(other.predict_proba(current)[0, 1], abs=1e-5)
    assert not np.isclose(first["probability"], second["probability"])


def wait_until(happened: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
