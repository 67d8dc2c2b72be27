"""What tests of this room share."""

from collections.abc import Iterator

import pytest

from workshop_lib.mlops.security_stand import Stand
from workshop_lib.predictive.champion import ensure_champion


@pytest.fixture(scope="session")
def stand() -> Iterator[Stand]:
    """A business API with several keys, an input guard and a log, for the tests of its security."""
    ensure_champion()
    with Stand() as stand:
        yield stand
