"""What happened in a chain: as a table at once, and as traces in the store."""

import time
from collections.abc import Iterator

import mlflow
import pytest
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.orchestration.fakes import chat_answer, serve
from workshop_lib.orchestration import tracing


@pytest.fixture
def chat() -> Iterator[ChatOpenAI]:
    with serve(lambda path, body: chat_answer("three little words")) as fake:
        yield ChatOpenAI(base_url=f"{fake.url}/v1", model="fake", api_key=SecretStr("none"), max_retries=0)


def slowly(name: str) -> RunnableLambda[object, str]:
    def wait(_: object) -> str:
        time.sleep(0.2)
        return name

    return RunnableLambda(wait, name=name)


def test_parallel_steps_overlap_and_following_ones_do_not() -> None:
    steps = tracing.StepTimes()
    chain = (RunnableParallel(a=slowly("first"), b=slowly("second")) | slowly("last")).with_config(run_name="whole")
    chain.invoke("x", config={"callbacks": [steps]})
    table = steps.table().set_index("step")
    assert set(table.index) == {"whole", "first", "second", "last"} and table.index[0] == "whole"
    assert table["depth"].to_dict() == {"whole": 0, "first": 1, "second": 1, "last": 1}
    assert (table["took_ms"] >= 200).all()
    ended = table["started_ms"] + table["took_ms"]
    assert table.loc["second", "started_ms"] < ended["first"] and table.loc["first", "started_ms"] < ended["second"]
    assert table.loc["last", "started_ms"] >= ended[["first", "second"]].max()
    assert table.loc["whole", "took_ms"] >= 400


def test_tokens_of_the_language_model_are_counted(chat: ChatOpenAI) -> None:
    steps = tracing.StepTimes()
    (RunnableLambda(str, name="question") | chat).invoke("hello", config={"callbacks": [steps]})
    table = steps.table().set_index("step")
    assert table.loc["language model", "tokens"] == 3
    assert table["tokens"].sum() == 3


def test_a_failed_step_is_named_with_its_error() -> None:
    def fail(_: object) -> None:
        raise KeyError("gone")

    steps = tracing.StepTimes()
    with pytest.raises(KeyError):
        (slowly("well") | RunnableLambda(fail, name="broken")).invoke("x", config={"callbacks": [steps]})
    failed = steps.table().set_index("step")["failed"]
    assert (failed["well"], failed["broken"]) == ("", "KeyError")


def test_no_steps_make_an_empty_table() -> None:
    assert tracing.StepTimes().table().empty


@pytest.fixture
def traced(home: object) -> Iterator[None]:
    before = mlflow.get_tracking_uri()
    tracing.use_tracing()
    yield
    mlflow.langchain.autolog(disable=True, silent=True)
    mlflow.set_tracking_uri(before)


def test_one_request_is_one_trace_with_a_span_per_step(traced: None, chat: ChatOpenAI) -> None:
    with tracing.request("two chains", asked="something"):
        slowly("first").invoke("x")
        (RunnableLambda(str, name="question") | chat).invoke("hello")
    trace = tracing.last_trace()
    table = tracing.trace_table(trace).set_index("span")
    assert table.index[0] == "two chains"
    assert {"first", "question", "ChatOpenAI"} <= set(table.index)
    assert table.loc["first", "took_ms"] >= 200
    assert table.loc["first", "status"] == "OK"
    assert trace.info.token_usage == {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13}


def test_the_newest_trace_is_the_last_one(traced: None) -> None:
    for name in ("older", "newer"):
        with tracing.request(name):
            slowly("step").invoke("x")
    assert tracing.trace_table(tracing.last_trace())["span"].iloc[0] == "newer"


def test_a_request_that_fails_leaves_its_trace_and_its_error(traced: None) -> None:
    with pytest.raises(ZeroDivisionError), tracing.request("broken"):
        divide: RunnableLambda[str, float] = RunnableLambda(lambda text: len(text) / 0, name="division")
        divide.invoke("x")
    assert tracing.trace_table(tracing.last_trace()).set_index("span").loc["division", "status"] == "ERROR"


def test_without_a_trace_it_says_what_to_do(home: object) -> None:
    before = mlflow.get_tracking_uri()
    try:
        with pytest.raises(LookupError, match="Call use_tracing"):
            tracing.last_trace()
    finally:
        mlflow.set_tracking_uri(before)
