"""The real services, broken for real: business API, forecaster, files; only the language model is a small stand-in."""

import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import mlflow
import pytest

from tests.orchestration import fakes
from workshop_lib import processes
from workshop_lib.generative.client import LLM
from workshop_lib.orchestration.end_to_end import Fault, Request, fault_table, run, under
from workshop_lib.orchestration.fault_stand import Stand, killed
from workshop_lib.orchestration.faults import Mode, broken, broken_file
from workshop_lib.orchestration.results import DATA, Source, Text
from workshop_lib.orchestration.scenarios import (
    QUESTIONS,
    Truth,
    follow_up_request,
    household_faults,
    household_request,
    market_faults,
    market_request,
    mixed,
    product_faults,
    question_request,
    reply_faults,
    scenarios,
    stock_request,
)
from workshop_lib.orchestration.stated_numbers import unstated_numbers
from workshop_lib.serving import api_client
from workshop_lib.settings import settings

pytestmark = pytest.mark.long

HUEVOS = next(iter(QUESTIONS))


def llm_answer(path: str, body: fakes.Body) -> Any:
    """A language model whose text the check refuses: it mentions nothing that it was given."""
    if path.endswith("/models"):
        return {"object": "list", "data": [{"id": "fake", "object": "model", "created": 1, "owned_by": "test"}]}
    return fakes.chat_answer("Something good for everybody.")


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with fakes.serve(llm_answer) as fake:
        system = Stand(timeout=4, text_timeout=4, llm=LLM(f"{fake.url}/v1", "fake", "none"))
        yield system
        system.close()
    assert processes.status(system.service).state == "stopped"


@pytest.fixture(scope="module")
def truth(stand: Stand) -> Truth:
    return Truth(stand.doors.shop, api_client.connect())


def one_of_each(stand: Stand, truth: Truth) -> list[Request]:
    return [kind.make(random.Random(1)) for kind in scenarios(stand.doors, truth)]


def test_every_scenario_is_answered_and_right(stand: Stand, truth: Truth) -> None:
    outcomes = run(one_of_each(stand, truth), at_once=2)
    assert [(one.scenario, one.error, one.wrong) for one in outcomes] == [
        (kind.name, None, ()) for kind in scenarios(stand.doors, truth)
    ]
    assert all(one.well for one in outcomes)
    refused = {one.scenario for one in outcomes if one.kind == "degraded"}
    assert refused == {"keep a household", "product text"}, "only these are worded by the language model"


def test_a_mix_has_its_shares_and_is_the_same_for_the_same_seed(stand: Stand, truth: Truth) -> None:
    kinds = scenarios(stand.doors, truth)
    names = [request.scenario for request in mixed(kinds, 20)]
    assert {kind.name: names.count(kind.name) for kind in kinds} == {kind.name: kind.weight / 5 for kind in kinds}
    assert names == [request.scenario for request in mixed(kinds, 20)]
    assert names != [request.scenario for request in mixed(kinds, 20, seed=1)]


def test_the_checks_find_what_is_wrong(stand: Stand, truth: Truth) -> None:
    stock, household, market, question, *_ = (request.ask() for request in one_of_each(stand, truth))
    days = tuple(day.model_copy(update={"units": 1.1 * day.units}) for day in stock.forecast.days)
    forecast = stock.forecast.model_copy(update={"days": days})
    assert any("forecast" in one for one in product_faults(stock.model_copy(update={"forecast": forecast}), truth))
    features = stock.features.model_copy(update={"sold": stock.features.sold + 1})
    assert any("sold" in one for one in product_faults(stock.model_copy(update={"features": features}), truth))
    advice = stock.stock.model_copy(update={"text": "Pida 98.765.432 unidades, 98765432."})
    assert any("98765432" in one for one in product_faults(stock.model_copy(update={"stock": advice}), truth))

    churn = household.churn.model_copy(update={"probability": household.churn.probability / 2})
    assert any("likelihood" in one for one in household_faults(household.model_copy(update={"churn": churn}), truth))
    history = household.history.model_copy(update={"baskets": household.history.baskets + 1})
    assert any("baskets" in one for one in household_faults(household.model_copy(update={"history": history}), truth))

    kept = Source(kind="last known", version=stock.forecast.version)
    old = forecast.model_copy(update={"source": kept})
    assert any("forecast" in one for one in product_faults(stock.model_copy(update={"forecast": old}), truth))

    elsewhere = market.model_copy(update={"department": "GROCERY" if market.department != "GROCERY" else "DELI"})
    assert any("another department" in one for one in market_faults(elsewhere, truth))

    assert reply_faults(question, truth, question.answer.category) == []
    assert reply_faults(question, truth, "CANDLES") != []
    assert reply_faults(question, truth, question.answer.category, days=question.answer.question.days - 1) != []
    spoilt = question.model_copy(update={"answer": stock.model_copy(update={"forecast": forecast})})
    assert reply_faults(spoilt, truth, stock.category) != []


def test_what_a_replaced_model_said_in_its_time_is_old_and_not_wrong(stand: Stand, truth: Truth) -> None:
    """A last known answer is marked with its age; the model that replaced it says something else."""
    stock, household, *_ = (request.ask() for request in one_of_each(stand, truth))
    source = Source(kind="last known", version="0")
    days = tuple(day.model_copy(update={"units": 1.1 * day.units}) for day in stock.forecast.days)
    forecast = stock.forecast.model_copy(update={"days": days, "source": source})
    advice = stock.stock.model_copy(update={"expected": forecast.total})
    old = stock.model_copy(update={"forecast": forecast, "stock": advice})
    assert not any("forecast" in one for one in product_faults(old, truth))
    churn = household.churn.model_copy(update={"probability": household.churn.probability / 2, "source": source})
    assert not any(
        "likelihood" in one for one in household_faults(household.model_copy(update={"churn": churn}), truth)
    )


def test_how_far_the_market_review_looks_ahead_is_no_invented_number(stand: Stand, truth: Truth) -> None:
    """Other figures of the answer are often 7 by chance; here none is."""
    market = market_request(stand.doors, truth, "GROCERY").ask()
    headline = market.headline.model_copy(update={"forecast": None, "change": None, "sold": 1234.0})
    nothing = dict.fromkeys(("trends", "seasons", "pairs", "opportunities", "recommendations"), ())
    summary = Text(text="Para los próximos 7 días.", source=DATA)
    bare = market.model_copy(update={**nothing, "sold": 1234.0, "headline": headline, "summary": summary})
    assert unstated_numbers(bare) == ("7",)
    assert market_faults(bare, truth) == []


def test_every_department_gets_a_right_answer(stand: Stand, truth: Truth) -> None:
    requests = [market_request(stand.doors, truth, department) for department in (None, *truth.shop.departments)]
    assert [(one.error, one.wrong) for one in run(requests, at_once=2)] == [(None, ())] * len(requests)


def hit(stand: Stand, truth: Truth) -> list[Request]:
    return [stock_request(stand.doors, truth, "EGGS"), question_request(stand.doors, truth, HUEVOS)]


@pytest.mark.parametrize("mode", ["slow", "dead", "error 500", "other form", "negative", "not a number"])
def test_a_broken_forecaster_costs_freshness_and_no_wrong_number_comes_through(
    stand: Stand, truth: Truth, mode: Mode
) -> None:
    asked = hit(stand, truth)
    assert all(one.kind == "whole" for one in run(asked, 2))
    endured = under(Fault("forecaster", mode, partial(broken, stand.forecaster, mode, 5), asked), at_once=2)
    assert [one.kind for one in endured.outcomes] == ["degraded"] * 2, [one.wrong for one in endured.outcomes]
    assert all(one.substitutes["forecast"].kind == "last known" for one in endured.outcomes)
    reasons = {
        "slow": "did not answer",
        "dead": "cannot be reached",
        "error 500": "answered 500",
        "negative": "cannot be right",
    }
    assert all(reasons.get(mode, "no answer of the protocol") in one.told for one in endured.outcomes)
    assert endured.recovery_seconds < settings.thresholds.recovery_seconds


def test_a_killed_api_comes_back_by_itself_for_those_who_ask(stand: Stand, truth: Truth) -> None:
    asked = [*hit(stand, truth), household_request(stand.doors, truth, 1, "es")]
    run(asked, 1)
    before = processes.status(stand.service).pid
    endured = under(Fault("business API", "killed", partial(killed, stand.service), asked), at_once=3)
    assert [one.kind for one in endured.outcomes] == ["degraded"] * 3
    assert 1 < endured.recovery_seconds < settings.thresholds.recovery_seconds, "its start counts"
    assert processes.status(stand.service).pid not in (None, before)


def test_a_conversation_without_its_memory_goes_on_from_nothing(stand: Stand, truth: Truth) -> None:
    asked = [follow_up_request(stand.doors, truth, HUEVOS, "¿Y mañana?")]
    assert run(asked, 1)[0].kind == "whole"
    endured = under(Fault("conversations", "locked", partial(broken_file, stand.memory.path, "locked"), asked), 1)
    assert [one.kind for one in endured.outcomes] == ["degraded"]
    assert "memory" in endured.outcomes[0].substitutes
    assert endured.recovery_seconds < settings.thresholds.recovery_seconds


def test_requests_do_not_need_their_traces(stand: Stand, truth: Truth) -> None:
    asked = hit(stand, truth)
    run(asked, 1)
    fault = Fault("traces", "locked", partial(stand.broken_traces, "locked"), asked)
    row = fault_table([under(fault, at_once=2)]).iloc[0]
    assert row[["answered", "degraded", "unhandled"]].tolist() == [2, 0, 0]
    assert mlflow.get_tracking_uri() == settings.tracking_uri
