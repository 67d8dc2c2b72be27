"""Servers of module 3, started once for all tests that need them."""

from collections.abc import Iterator

import numpy as np
import pytest

from workshop_lib.predictive.champion import Package, ensure_champion, load_package
from workshop_lib.serving.forecaster_client import Endpoint, connect


@pytest.fixture(scope="session")
def package() -> Package:
    """The registered champion's files; it is trained and registered first."""
    ensure_champion()
    return load_package()


@pytest.fixture(scope="session")
def forecaster(package: Package) -> Iterator[Endpoint]:
    """The real forecaster server, following the champion."""
    yield connect()


@pytest.fixture(scope="session")
def rows(package: Package) -> np.ndarray:
    """Inputs of plausible sizes: float32, shape (64, features)."""
    return np.random.default_rng(5).gamma(2, 20, (64, len(package.about["features"]))).astype(np.float32)
