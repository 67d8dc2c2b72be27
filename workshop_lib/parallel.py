"""Where searches and cross-validation run: the local cores, or a Ray cluster by setting."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import joblib

from workshop_lib.settings import SettingsError, settings


@contextmanager
def parallel_backend() -> Iterator[None]:
    """Run joblib's parallel work inside the block on the configured workers.

    ``WORKSHOP_JOBS`` sets the number of local workers; ``WORKSHOP_RAY_ADDRESS`` hands the same calls
    to a Ray cluster instead (https://docs.ray.io/en/latest/ray-more-libs/joblib.html). scikit-learn's
    searches and forests use the backend by themselves when their ``n_jobs`` is ``None``.

    Raises:
        SettingsError: when a Ray address is set and Ray is not installed or does not answer.
    """
    if settings.ray_address is None:
        with joblib.parallel_config(backend="loky", n_jobs=settings.jobs):
            yield
        return
    _require_answer(settings.ray_address)
    try:
        import ray
        from ray.util.joblib import register_ray

        ray.init(settings.ray_address, ignore_reinit_error=True, log_to_driver=False)
    except ImportError as error:
        raise SettingsError(
            "WORKSHOP_RAY_ADDRESS is set, but Ray is not installed. Install the extra: uv pip install '.[ray]'."
        ) from error
    except (ConnectionError, RuntimeError, TimeoutError) as error:
        raise SettingsError(
            f"WORKSHOP_RAY_ADDRESS={settings.ray_address}: no Ray cluster answers ({error})."
        ) from error
    register_ray()
    with joblib.parallel_config(backend="ray", n_jobs=settings.jobs):
        yield


def _require_answer(address: str) -> None:
    """Ask for a connection once: Ray by itself goes on trying for minutes."""
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        socket.create_connection((parts.hostname or "", parts.port or 10001), timeout=5).close()
    except (OSError, ValueError) as error:
        raise SettingsError(f"WORKSHOP_RAY_ADDRESS={address}: no Ray cluster answers ({error}).") from error
