"""One real language model server for all tests that need one."""

import pytest

from workshop_lib.generative.client import LLM, connect


@pytest.fixture(scope="session")
def llm() -> LLM:
    """The course's model behind vLLM; started by the first test that asks, stopped when the suite ends."""
    return connect()
