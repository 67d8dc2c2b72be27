"""Where parallel work runs: the configured number of local workers, or a Ray cluster by setting."""

import sys
from collections.abc import Callable
from types import ModuleType

import joblib
import pytest

from workshop_lib.parallel import parallel_backend
from workshop_lib.settings import SettingsError


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A stand-in for Ray that notes what it is asked for and registers joblib's threads under its name."""
    asked: dict[str, object] = {}
    ray, util, by_joblib = ModuleType("ray"), ModuleType("ray.util"), ModuleType("ray.util.joblib")

    def init(address: str, **options: object) -> None:
        if "nowhere" in address:
            raise ConnectionError("no route to host")
        asked["address"] = address

    def register() -> None:
        from joblib._parallel_backends import ThreadingBackend

        joblib.register_parallel_backend("ray", ThreadingBackend)

    ray.init, by_joblib.register_ray = init, register  # type: ignore[attr-defined]
    for module in (ray, util, by_joblib):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return asked


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_setting_decides_the_number_of_local_workers(jobs: int, use_settings: Callable[..., object]) -> None:
    use_settings(jobs=jobs)
    before = joblib.parallel.get_active_backend()[1]
    with parallel_backend():
        assert joblib.parallel.get_active_backend()[1] == jobs
        assert joblib.Parallel()(joblib.delayed(pow)(n, 2) for n in range(4)) == [0, 1, 4, 9]
    assert joblib.parallel.get_active_backend()[1] == before


def test_a_ray_address_hands_the_same_calls_to_ray(ray: dict[str, object], use_settings: Callable[..., object]) -> None:
    use_settings(ray_address="ray://head:10001", jobs=2)
    with parallel_backend():
        assert type(joblib.parallel.get_active_backend()[0]).__name__ == "ThreadingBackend"
        assert joblib.Parallel()(joblib.delayed(pow)(n, 2) for n in range(4)) == [0, 1, 4, 9]
    assert ray == {"address": "ray://head:10001"}


def test_a_cluster_that_does_not_answer_is_named(ray: dict[str, object], use_settings: Callable[..., object]) -> None:
    use_settings(ray_address="ray://nowhere:10001")
    with pytest.raises(SettingsError, match=r"WORKSHOP_RAY_ADDRESS=ray://nowhere:10001: no Ray cluster answers"):
        parallel_backend().__enter__()


def test_ray_is_an_extra_that_the_message_names(
    monkeypatch: pytest.MonkeyPatch, use_settings: Callable[..., object]
) -> None:
    use_settings(ray_address="ray://head:10001")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError, match=r"Ray is not installed.*\[ray\]"):
        parallel_backend().__enter__()
