"""What the tests of whole notebooks share."""

import pytest

from tests.notebooks.comparing import EARLY, Comparing


@pytest.fixture(scope="session")
def early(request: pytest.FixtureRequest) -> Comparing | None:
    """What began in the background with the session."""
    found: Comparing | None = request.config.stash.get(EARLY, None)
    return found
