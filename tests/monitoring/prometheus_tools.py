"""When tests of Prometheus and Alertmanager can run."""

from __future__ import annotations

import os

import pytest

from workshop_lib.monitoring.prometheus import tools


def skip_without(*names: str) -> None:
    """Skip the test where one of the programs is missing; in CI it fails instead."""
    missing = [name for name in names if tools()[name] is None]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"not installed: {', '.join(missing)}")
