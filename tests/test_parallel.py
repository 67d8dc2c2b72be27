"""Where parallel work runs: the configured number of local workers, or a Ray cluster by setting."""

import socket
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import joblib
import pytest
from joblib._parallel_backends import ThreadingBackend

from workshop_lib.parallel import parallel_backend
from workshop_lib.settings import SettingsError


@pytest.fixture
def address() -> Iterator[str]:
    """A port that accepts connections, as a cluster's head does."""
    with socket.create_server(("127.0.0.1", 0)) as head:
        yield f"ray://127.0.0.1:{head.getsockname()[1]}"


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a stand-in for Ray in place: it starts as it is told to, and brings joblib's threads under its name."""

    def install(init: Callable[..., None]) -> None:
        ray, util, by_joblib = ModuleType("ray"), ModuleType("ray.util"), ModuleType("ray.util.joblib")
        ray.__dict__["init"] = init
        by_joblib.__dict__["register_ray"] = lambda: joblib.register_parallel_backend("ray", ThreadingBackend)
        for module in (ray, util, by_joblib):
            monkeypatch.setitem(sys.modules, module.__name__, module)

    return install


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_setting_decides_the_number_of_local_workers(jobs: int, use_settings: Callable[..., object]) -> None:
    use_settings(jobs=jobs)
    before = joblib.parallel.get_active_backend()[1]
    with parallel_backend():
        assert joblib.parallel.get_active_backend()[1] == jobs
        assert joblib.Parallel()(joblib.delayed(pow)(n, 2) for n in range(4)) == [0, 1, 4, 9]
    assert joblib.parallel.get_active_backend()[1] == before


def test_a_ray_address_hands_the_same_calls_to_ray(
    ray: Callable[..., None], address: str, use_settings: Callable[..., object]
) -> None:
    asked: list[str] = []
    ray(lambda where, **options: asked.append(where))
    use_settings(ray_address=address, jobs=2)
    with parallel_backend():
        assert isinstance(joblib.parallel.get_active_backend()[0], ThreadingBackend)
        assert joblib.Parallel()(joblib.delayed(pow)(n, 2) for n in range(4)) == [0, 1, 4, 9]
    assert asked == [address]


def test_a_cluster_that_refuses_is_named(
    ray: Callable[..., None], address: str, use_settings: Callable[..., object]
) -> None:
    def refuse(where: str, **options: object) -> None:
        raise ConnectionError("wrong version")

    ray(refuse)
    use_settings(ray_address=address)
    with pytest.raises(SettingsError, match=f"WORKSHOP_RAY_ADDRESS={address}: no Ray cluster answers .wrong version"):
        parallel_backend().__enter__()


@pytest.mark.parametrize("nowhere", ["ray://127.0.0.1:9", "127.0.0.1:9", "ray://127.0.0.1:port"])
def test_an_address_without_a_cluster_is_told_at_once(nowhere: str, use_settings: Callable[..., object]) -> None:
    use_settings(ray_address=nowhere)
    with pytest.raises(SettingsError, match=f"WORKSHOP_RAY_ADDRESS={nowhere}: no Ray cluster answers"):
        parallel_backend().__enter__()


def test_ray_is_an_extra_that_the_message_names(
    address: str, monkeypatch: pytest.MonkeyPatch, use_settings: Callable[..., object]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    use_settings(ray_address=address)
    with pytest.raises(SettingsError, match=r"Ray is not installed.*\[ray\]"):
        parallel_backend().__enter__()
