"""One door to three chains: replies in two languages, follow-ups, steps as they happen, and no way to break it."""

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from tests.orchestration import fakes
from workshop_lib.orchestration import models as wrappers
from workshop_lib.orchestration.assistant import Assistant, Reply, Step
from workshop_lib.orchestration.customer import CustomerInsight
from workshop_lib.orchestration.last_known import LastKnown
from workshop_lib.orchestration.market_results import MarketAnalysis
from workshop_lib.orchestration.memory import Memory, SessionError, new_session
from workshop_lib.orchestration.models import Models
from workshop_lib.orchestration.product import ProductAnalysis
from workshop_lib.orchestration.shop import Shop, load_shop
from workshop_lib.orchestration.tracing import StepTimes


def build(api: str, llm: str, folder: Path) -> Models:
    return wrappers.build(
        api_url=api, api_headers={}, llm_url=f"{llm}/v1", llm_model="fake", llm_key="none",
        store=LastKnown(folder / "last_known.db"), attempts=1, timeout=2, text_timeout=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def shop() -> Shop:
    return load_shop()


@pytest.fixture(scope="module")
def api() -> Iterator[fakes.Fake]:
    with fakes.serve(fakes.business_api) as fake:
        yield fake


@pytest.fixture(scope="module")
def llm() -> Iterator[fakes.Fake]:
    with fakes.serve(lambda path, body: fakes.chat_answer("no")) as fake:
        yield fake


@pytest.fixture(scope="module")
def assistant(api: fakes.Fake, llm: fakes.Fake, shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Assistant:
    folder = tmp_path_factory.mktemp("assistant")
    return Assistant(build(api.url, llm.url, folder), shop, Memory(folder / "conversations.db"))


@pytest.fixture
def session() -> str:
    return new_session()


def numbers(text: str, language: str = "en") -> set[str]:
    text = text.translate(str.maketrans(",.", ".,")) if language == "es" else text
    return {found.replace(",", "") for found in re.findall(r"\d[\d,]*(?:\.\d+)?", text)}


def numbers_in(answer: object) -> set[str]:
    """Every number of an answer, in the forms in which a text may round it; those in its texts too."""
    found: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                walk(inner)
        elif isinstance(value, str):
            found.update(numbers(value), numbers(value, "es"))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.update(f"{abs(scaled):.{digits}f}" for scaled in (value, 100 * value) for digits in (0, 1, 2))

    walk(answer)
    return found


# Replies


def test_a_product_question_gets_figures_and_advice(assistant: Assistant, session: str) -> None:
    reply = assistant.ask("How many soft drinks will we sell in the next 3 days?", session)
    assert isinstance(reply.answer, ProductAnalysis)
    assert reply.route.chain == "product" and reply.answer.forecast
    assert reply.answer.forecast.total == 300
    assert "300 units" in reply.text and "3 days" in reply.text
    assert reply.answer.stock and reply.answer.stock.text in reply.text
    assert {"memory", "route", "forecast", "summary"} <= reply.sources.keys()
    assert 0 < reply.seconds < 60


def test_a_customer_question_gets_the_household_and_a_message(assistant: Assistant, session: str) -> None:
    reply = assistant.ask("¿Qué le ofrecemos al hogar 7?", session)
    assert isinstance(reply.answer, CustomerInsight)
    assert re.match(r"Hogar 7: \d+ cestas, [\d.]+,\d\d \$;", reply.text)
    assert reply.answer.message.text in reply.text
    assert reply.answer.offer and reply.answer.offer.text in reply.text
    assert "Mensaje:" in reply.text and "Message" not in reply.text


def test_a_market_question_gets_trends_and_advice(assistant: Assistant, session: str) -> None:
    reply = assistant.ask("Which categories are growing?", session)
    assert isinstance(reply.answer, MarketAnalysis)
    assert reply.answer.summary.text in reply.text
    for advice in reply.answer.recommendations[:3]:
        assert f" {advice.subject}: {advice.reason}" in reply.text


@pytest.mark.parametrize(
    "text",
    [
        "How many eggs tomorrow?", "¿Cuántos huevos mañana?", "What does household 13 like?", "riesgo del hogar 55",
        "opportunities in produce", "tendencias de la tienda", "eggs at $1.20 in the mailer",
        "describe product 1029743",
    ],
)  # fmt: skip
def test_every_number_of_a_reply_is_one_of_the_answer(text: str, assistant: Assistant, session: str) -> None:
    reply = assistant.ask(text, session)
    assert reply.answer
    assert numbers(reply.text, reply.route.language) <= numbers_in(reply.answer.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "only help"), ("   ", "only help"), ("hello", "Hello"),
        ("¿Cuántas lavadoras venderemos?", "Por ejemplo: "),
        ("household 99999", "no household 99999"), ("{}", "only help"), ("%s %d {x}", "only help"),
        ("\ud800", "only help"), ("x" * 100_000, "do not take"), ("?" * 5000, "only help"), ("¿" * 600, "Solo puedo"),
    ],
)  # fmt: skip
def test_wrong_questions_become_replies(text: str, said: str, assistant: Assistant, session: str) -> None:
    reply = assistant.ask(text, session)
    assert reply.answer is None
    assert reply.route.chain == "none"
    assert said in reply.text


def test_notes_come_first(assistant: Assistant, session: str) -> None:
    reply = assistant.ask("What do household 7 and household 12 like?", session)
    assert reply.text.startswith("One household at a time: this is about 7 only. Household 7:")


def test_wrong_sessions_are_refused(assistant: Assistant) -> None:
    for call in (assistant.ask, lambda *asked: list(assistant.stream(*asked))):
        with pytest.raises(SessionError):
            call("hello", "' or 1=1 --")


# Conversations


def test_follow_ups_go_on_from_the_last_question(assistant: Assistant, session: str) -> None:
    assistant.ask("soft drinks for 3 days", session)
    assistant.ask("thank you", session)
    discounted = assistant.ask("y con un 20 % de descuento?", session)
    assert isinstance(discounted.answer, ProductAnalysis)
    asked = discounted.answer.question
    assert (asked.category, asked.days, asked.language) == ("SOFT DRINKS", 3, "es")
    assert asked.price and discounted.answer.without_plan
    household = assistant.ask("and for household 7?", session)
    assert isinstance(household.answer, CustomerInsight)
    other = assistant.ask("and 13?", session)
    assert isinstance(other.answer, CustomerInsight) and other.answer.household_id == 13
    assert other.route.by == "memory"


def test_another_session_knows_nothing_of_it(assistant: Assistant, session: str) -> None:
    assistant.ask("soft drinks for 3 days", session)
    assert assistant.ask("and tomorrow?", new_session()).answer is None
    assert assistant.ask("and tomorrow?", session).answer


def test_questions_and_replies_are_remembered(assistant: Assistant, session: str) -> None:
    reply = assistant.ask("hello", session)
    assert [message.content for message in assistant.memory.messages(session)] == ["hello", reply.text]


def test_conversations_run_beside_each_other(assistant: Assistant) -> None:
    sessions = [new_session() for _ in range(6)]
    asked = ["eggs tomorrow", "household 7", "hogar 13", "soft drinks 3 days", "huevos 2 días", "household 55"]
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(assistant.ask, asked, sessions))
        again = list(pool.map(assistant.ask, asked, sessions))
    for text, session, first, second in zip(asked, sessions, replies, again, strict=True):
        assert first.route == second.route
        said = [message.content for message in assistant.memory.messages(session)]
        assert said == [text, first.text, text, second.text]


def test_the_conversation_reaches_no_prompt(assistant: Assistant, llm: fakes.Fake, session: str) -> None:
    assistant.ask("How many eggs tomorrow? MARKER-IN-HISTORY", session)
    llm.asked.clear()
    assistant.ask("and in the next 3 days?", session)
    assert llm.asked
    assert "MARKER" not in str(llm.asked)


# Steps


def test_steps_are_told_as_they_happen_and_the_reply_comes_last(assistant: Assistant, session: str) -> None:
    *steps, reply = assistant.stream("How many eggs tomorrow?", session)
    assert isinstance(reply, Reply) and isinstance(reply.answer, ProductAnalysis)
    assert all(isinstance(step, Step) for step in steps)
    told = [(step.name, step.state) for step in steps if isinstance(step, Step)]
    assert told[0] == ("assistant", "started")
    assert told[-1] == ("assistant", "done")
    for name in ("recall", "router", "product analysis", "forecast", "reply"):
        assert told.index((name, "started")) < told.index((name, "done"))
    assert told.index(("router", "done")) < told.index(("forecast", "started"))
    open_at_once = {step.name: step.depth for step in steps if isinstance(step, Step)}
    assert open_at_once["assistant"] == 0 < open_at_once["router"] < open_at_once["product analysis"]
    assert all((step.seconds is None) == (step.state == "started") for step in steps if isinstance(step, Step))


def test_the_reply_is_the_same_whether_somebody_watches_or_not(assistant: Assistant) -> None:
    *_, watched = assistant.stream("How many eggs tomorrow?", new_session())
    alone = assistant.ask("How many eggs tomorrow?", new_session())
    assert isinstance(watched, Reply)
    assert watched.model_dump(exclude={"seconds"}) == alone.model_dump(exclude={"seconds"})


def test_steps_arrive_before_the_work_is_done(
    api: fakes.Fake, llm: fakes.Fake, shop: Shop, tmp_path: Path, session: str
) -> None:
    go = threading.Event()
    with fakes.serve(lambda path, body: go.wait(5) and fakes.business_api(path, body)) as slow:
        found = Assistant(build(slow.url, llm.url, tmp_path), shop, Memory(tmp_path / "m.db"))
        events = found.stream("How many eggs tomorrow?", session)
        before = []
        for step in events:
            before.append(step)
            if isinstance(step, Step) and (step.name, step.state) == ("forecast", "started"):
                break
        assert not any(isinstance(step, Reply) for step in before)
        go.set()
        *_, reply = events
        assert isinstance(reply, Reply) and reply.answer


def test_callers_may_watch_with_handlers_of_their_own(assistant: Assistant, session: str) -> None:
    times = StepTimes()
    list(assistant.stream("How many eggs tomorrow?", session, {"callbacks": [times]}))
    steps = set(times.table()["step"])
    assert {"assistant", "router", "product analysis", "reply"} <= steps


def test_it_runs_within_a_larger_chain(assistant: Assistant, session: str) -> None:
    times = StepTimes()
    outer: RunnableLambda[str, Reply] = RunnableLambda(
        lambda text, config: assistant.ask(text, session, config), name="outer"
    )
    assert outer.invoke("hello", {"callbacks": [times]}).route.chain == "none"
    assert times.table().set_index("step")["depth"]["assistant"] == 1


# What is away


def test_without_models_there_is_still_a_reply(shop: Shop, tmp_path: Path, session: str) -> None:
    away = build("http://127.0.0.1:9", "http://127.0.0.1:9", tmp_path)
    found = Assistant(away, shop, Memory(tmp_path / "m.db"), ask_model=True)
    product = found.ask("How many eggs tomorrow?", session)
    assert isinstance(product.answer, ProductAnalysis) and product.answer.forecast is None
    assert product.degraded["forecast"].kind == "missing"
    assert "Missing at the moment: forecast" in product.text
    customer = found.ask("¿Qué le gusta al hogar 7?", session)
    assert isinstance(customer.answer, CustomerInsight) and customer.answer.churn is None
    assert "Falta en este momento" in customer.text and "probabilidad de abandono" in customer.text
    doubtful = found.ask("¿Dónde estamos perdiendo dinero?", session)
    assert isinstance(doubtful.answer, MarketAnalysis)
    assert doubtful.degraded["route"].kind == "missing"


def test_a_last_known_forecast_is_called_so_with_its_age(
    llm: fakes.Fake, shop: Shop, tmp_path: Path, session: str
) -> None:
    memory = Memory(tmp_path / "m.db")
    with fakes.serve(fakes.business_api) as api:
        assert Assistant(build(api.url, llm.url, tmp_path), shop, memory).ask("eggs tomorrow", session).answer
    reply = Assistant(build("http://127.0.0.1:9", llm.url, tmp_path), shop, memory).ask("eggs tomorrow", session)
    assert isinstance(reply.answer, ProductAnalysis) and reply.answer.forecast
    assert re.search(r"last known value stands in for: .*forecast.* \(\d+ seconds? old\)", reply.text)


def test_a_damaged_memory_costs_the_memory_only(
    api: fakes.Fake, llm: fakes.Fake, shop: Shop, tmp_path: Path, session: str
) -> None:
    memory = Memory(tmp_path / "m.db")
    found = Assistant(build(api.url, llm.url, tmp_path), shop, memory)
    found.ask("eggs tomorrow", session)
    with closing(memory.path.open("wb")) as file:
        file.write(b"broken" * 2000)
    reply = found.ask("soft drinks tomorrow", session)
    assert reply.answer
    assert "damaged" in reply.degraded["memory"].why
    assert found.ask("and 2 days?", session).answer, "the conversation goes on in a new file"


def test_a_route_in_the_file_that_is_none_is_forgotten(assistant: Assistant, session: str) -> None:
    for kept in (
        {"chain": "admin", "question": {}},
        {"chain": "product", "question": {"category": 7, "x": 1}},
        {"a": 1},
    ):
        assistant.memory.add(session, "q", "a", kept)
        assert assistant.ask("and tomorrow?", session).answer is None
