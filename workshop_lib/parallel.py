"""Where searches and cross-validation run: the local cores, or a Ray cluster by setting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
