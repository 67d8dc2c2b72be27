"""What is measured about whole requests, and what the models and texts do under every fault of the proxy."""

import datetime as dt
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.orchestration import fakes
from workshop_lib.generative import prompts
from workshop_lib.orchestration import models as wrappers
from workshop_lib.orchestration.end_to_end import (
    Fault,
    Request,
    fault_table,
    first_sentence,
    run,
    table,
    under,
)
from workshop_lib.orchestration.end_to_end_exercises import EXERCISES, SUBSTITUTES
from workshop_lib.orchestration.faults import FileFault, Mode, Proxy, broken, broken_file
from workshop_lib.orchestration.last_known import LastKnown
from workshop_lib.orchestration.models import ModelRefused, Models
from workshop_lib.orchestration.results import MODEL, Answer, Source
from workshop_lib.orchestration.shop import UnknownThing
from workshop_lib.orchestration.wording import NO_SPANISH, WordingInput, word
from workshop_lib.orchestration.wrong_answers import DISTORTED

DAY = dt.date(2018, 1, 1)
UNITS = 12.5
TEXT = "Green olives by the store brand come in a jar of 7 ounces and cost $1.99 today."


def answered(kind: str = "model", why: str = "") -> Answer:
    return Answer(sources={"forecast": MODEL, "text": Source(kind=kind, why=why)})


def failing(error: Exception) -> Callable[[], Any]:
    def ask() -> Any:
        raise error

    return ask


# What is counted


def test_outcomes_tell_what_became_of_each_request() -> None:
    requests = [
        Request("a", answered),
        Request("b", partial(answered, "last known", "The forecaster is away. It was asked.")),
        Request("c", answered, lambda answer: ["units: 5 in place of 7"]),
        Request("d", failing(UnknownThing("category", "EGGZ", ["EGGS"]))),
        Request("e", failing(ModelRefused("No such household."))),
        Request("f", failing(KeyError("days"))),
        Request("g", partial(answered, "template", NO_SPANISH)),
    ]
    found = table(run(requests, at_once=3))
    assert found["scenario"].tolist() == list("abcdefg")
    assert found["outcome"].tolist() == ["whole", "degraded", "wrong", "refused", "refused", "unhandled", "whole"]
    assert found.loc[1, ["substituted", "told"]].tolist() == ["text", "The forecaster is away."]
    assert found["told"][3] == "The shop has no category 'EGGZ'." or "EGGZ" in found["told"][3]
    assert found["wrong"][2] == "units: 5 in place of 7"


def test_a_wrong_number_is_worse_than_a_substitute() -> None:
    request = Request("a", partial(answered, "missing", "Away."), lambda answer: ["wrong"])
    assert run([request], 1)[0].kind == "wrong"


def test_requests_run_at_once_but_not_too_many() -> None:
    under_way, most, lock = 0, 0, threading.Lock()

    def ask() -> Answer:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.05)
        with lock:
            under_way -= 1
        return answered()

    outcomes = run([Request("a", ask)] * 9, at_once=3)
    assert most == 3
    assert all(0.05 <= outcome.seconds < 20 for outcome in outcomes)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("It failed. Try again.", "It failed."),
        ("http://127.0.0.1:8300/forecast gave no answer within 0.5 s.", None),
        ("It is version 1.4 of it! ¿Y ahora?", "It is version 1.4 of it!"),
        ("", ""),
    ],
)
def test_first_sentence(text: str, first: str | None) -> None:
    assert first_sentence(text) == (text if first is None else first)


class _Switch:
    """A dependency that stays broken a little longer than its fault."""

    def __init__(self, slow_start: float = 0.0) -> None:
        self.slow_start, self.well_from = slow_start, 0.0

    @contextmanager
    def broken(self) -> Iterator[None]:
        self.well_from = math.inf
        yield
        self.well_from = time.monotonic() + self.slow_start

    def ask(self) -> Answer:
        well = time.monotonic() >= self.well_from
        return answered() if well else answered("missing", "The service is away. Nothing is known.")


def test_recovery_is_measured_until_the_first_whole_answer() -> None:
    switch = _Switch(slow_start=0.4)
    fault = Fault("service", "dead", switch.broken, [Request("untouched", answered)] + [Request("hit", switch.ask)] * 3)
    endured = under(fault, at_once=2)
    assert (endured.count("whole"), endured.count("degraded")) == (1, 3)
    assert 0.4 <= endured.recovery_seconds < 20
    row = fault_table([endured]).iloc[0]
    assert row[["dependency", "fault", "requests", "answered", "degraded", "unhandled"]].tolist() == [
        "service", "dead", 4, 4, 3, 0,
    ]  # fmt: skip
    assert (row["substituted"], row["told"]) == ("text", "The service is away.")


def test_a_system_that_does_not_recover_is_not_waited_for_for_ever() -> None:
    switch = _Switch(slow_start=60)
    endured = under(Fault("service", "dead", switch.broken, [Request("hit", switch.ask)]), at_once=1, limit=0.2)
    assert endured.recovery_seconds == math.inf


def test_an_unhandled_error_is_counted_not_raised() -> None:
    fault = Fault("service", "dead", _Switch().broken, [Request("hit", failing(KeyError("units")))])
    endured = under(fault, at_once=1, limit=0.1)
    row = fault_table([endured]).iloc[0]
    assert (row["answered"], row["unhandled"], row["recovery_seconds"]) == (0, 1, math.inf)


# What models and texts do under every fault


def answer(path: str, body: fakes.Body) -> fakes.Body:
    """The business API and a language model, as far as one question to each goes."""
    return fakes.chat_answer(TEXT) if path.endswith("/chat/completions") else fakes.forecast_answer(body, UNITS)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with fakes.serve(answer) as fake:
        yield fake.url


@pytest.fixture
def api(server: str) -> Iterator[Proxy]:
    with Proxy(server) as proxy:
        yield proxy


@pytest.fixture
def llm(server: str) -> Iterator[Proxy]:
    with Proxy(f"{server}/v1") as proxy:
        yield proxy


@pytest.fixture
def store(tmp_path: Path) -> LastKnown:
    return LastKnown(tmp_path / "last_known.db")


@pytest.fixture
def models(api: Proxy, llm: Proxy, store: LastKnown) -> Models:
    return wrappers.build(
        api_url=api.url, api_headers={}, llm_url=llm.url, llm_model="small", llm_key="none", store=store,
        timeout=0.3, text_timeout=0.3, attempts=2,
    )  # fmt: skip


def forecast(models: Models, category: str = "EGGS") -> Answer:
    answer, source = wrappers.attempt(models.forecast, {"category": category, "dates": [DAY]})
    found = Answer(sources={"forecast": source})
    object.__setattr__(found, "units", None if answer is None else answer.total)
    return found


def units_are_right(answer: Any) -> list[str]:
    return [] if answer.units in (None, UNITS) else [f"{answer.units} units"]


def text(models: Models) -> Answer:
    facts = {"product": "green olives", "brand": "store brand", "size": "7 ounces", "price": "$1.99"}
    found = word(
        models.chat, prompts.load("product_description.few_shot"), WordingInput(facts=facts, template="Olives.")
    )
    return Answer(sources={"text": found.source})


def a_fault(name: str, begin: Callable[[], AbstractContextManager[Any]], requests: list[Request]) -> Fault:
    return Fault("dependency", name, begin, requests)


@pytest.mark.parametrize("mode", [mode for mode in get_args(Mode)[1:-1] if mode != "thousandfold"])
def test_a_broken_api_costs_freshness_not_answers(models: Models, api: Proxy, mode: Mode) -> None:
    known = Request("known", partial(forecast, models), units_are_right)
    new = Request("new", partial(forecast, models, "FROZEN PIZZA"), units_are_right)
    assert run([known], 1)[0].kind == "whole"
    endured = under(a_fault(mode, partial(broken, api, mode, 1), [known, new, known]), at_once=3)
    assert [one.kind for one in endured.outcomes] == ["degraded"] * 3
    kinds = [one.substitutes["forecast"].kind for one in endured.outcomes]
    assert kinds == ["last known", "missing", "last known"]
    reasons = {"slow": "no answer within", "hang": "no answer within", "negative": "cannot be right"}
    assert all(reasons.get(mode, "") in one.told for one in endured.outcomes)
    assert ("no answer within" in endured.outcomes[0].told) == (mode in ("slow", "hang"))
    assert endured.recovery_seconds < 60
    assert run([new], 1)[0].kind == "whole"


def test_a_plausible_wrong_number_is_told_from_a_right_one_by_the_check_alone(models: Models, api: Proxy) -> None:
    request = Request("forecast", partial(forecast, models), units_are_right)
    with broken(api, "thousandfold"):
        assert run([request], 1)[0].kind == "wrong"
    assert run([request], 1)[0].kind == "whole"


@pytest.mark.parametrize("mode", [mode for mode in get_args(Mode)[1:] if mode not in DISTORTED])
def test_a_broken_language_model_costs_words_not_answers(models: Models, llm: Proxy, mode: Mode) -> None:
    request = Request("text", partial(text, models))
    assert run([request], 1)[0].kind == "whole", "the text is one that the check lets through"
    endured = under(a_fault(mode, partial(broken, llm, mode, 1), [request] * 3), at_once=3)
    assert [one.kind for one in endured.outcomes] == ["degraded"] * 3
    assert {one.substitutes["text"].kind for one in endured.outcomes} == {"template"}
    assert endured.recovery_seconds < 60


@pytest.mark.parametrize("fault", get_args(FileFault))
def test_a_broken_store_costs_nothing_while_the_model_answers(
    models: Models, store: LastKnown, api: Proxy, fault: FileFault
) -> None:
    request = Request("forecast", partial(forecast, models), units_are_right)
    run([request], 1)
    endured = under(a_fault(fault, partial(broken_file, store.path, fault), [request] * 2), at_once=2)
    assert [one.kind for one in endured.outcomes] == ["whole"] * 2
    with broken(api, "dead"):
        assert run([request], 1)[0].substitutes["forecast"].kind == "last known", "what was kept is there again"
        with broken_file(store.path, "corrupt"):
            assert run([request], 1)[0].substitutes["forecast"].kind == "missing"


# Exercises

RIGHT: dict[str, Any] = {"4.6.a": SUBSTITUTES, "4.6.b": {"whole": 0.96431, "any": 0.999}}
WRONG: dict[str, list[Any]] = {
    "4.6.a": [
        {"forecaster dead": "missing"},
        SUBSTITUTES | {"trace store locked": "none"},
        SUBSTITUTES | {"forecaster sends negative units": "nothing"},
        SUBSTITUTES | {"forecaster dead, never asked this": "last known"},
        SUBSTITUTES | {"trace store locked": "missing"},
    ],
    "4.6.b": [
        {"whole": 96.431, "any": 99.9},
        {"whole": 0.98, "any": 0.999},
        {"whole": 0.999999999, "any": 0.999},
        {"whole": 0.96431, "any": 0.96431},
        {"whole": 0.96431, "any": 1.0},
        {"whole": 0.96431, "any": 0.994},
    ],
}


@pytest.mark.parametrize("number", EXERCISES)
def test_right_answers_are_right_and_foreseen_mistakes_get_their_hint(number: str) -> None:
    exercise = EXERCISES[number]
    assert exercise.right(RIGHT[number])
    hints = []
    for wrong in WRONG[number]:
        assert not exercise.right(wrong)
        hints.append(next(hint for mistaken, hint in exercise.near_misses if mistaken(wrong)))
    assert len(set(hints)) == len(hints) == len(exercise.near_misses)
