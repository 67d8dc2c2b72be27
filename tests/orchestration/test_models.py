"""The models as parts of chains: what they answer, and what they do when a dependency is slow, wrong or gone."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse

from tests.orchestration.fakes import Body, Fake, business_api, chat_answer, churn_answer, forecast_answer, serve
from workshop_lib.orchestration.last_known import LastKnown
from workshop_lib.orchestration.models import (
    ModelRefused,
    Models,
    ModelUnavailable,
    attempt,
    build,
    patient,
)

QUESTION = {"category": "SOFT DRINKS", "dates": ["2018-01-01", "2018-01-02"]}


@pytest.fixture
def api() -> Iterator[Fake]:
    with serve(business_api) as fake:
        yield fake


@pytest.fixture
def store(tmp_path: Path) -> LastKnown:
    return LastKnown(tmp_path / "last_known.db")


@pytest.fixture
def models(api: Fake, store: LastKnown) -> Models:
    return make(api.url, store)


def make(url: str, store: LastKnown, **options: Any) -> Models:
    options = {"timeout": 5, "attempts": 3} | options
    return build(
        api_url=url, api_headers={"X-API-Key": "k"}, llm_url=f"{url}/v1", llm_model="fake", llm_key="none",
        store=store, **options,
    )  # fmt: skip


def late(answer: Body) -> Body:
    """The answer, some seconds later."""
    time.sleep(10)
    return answer


def failing_first(times: int, failure: Callable[[], Any]) -> Callable[[str, Body], Any]:
    """Fails so many times, then is well."""
    left = [times]

    def answer(path: str, body: Body) -> Any:
        if left[0]:
            left[0] -= 1
            return failure()
        return business_api(path, body)

    return answer


def test_a_forecast_has_days_intervals_version_and_source(models: Models) -> None:
    forecast = models.forecast.invoke(QUESTION)
    assert [day.units for day in forecast.days] == [100, 100]
    assert (forecast.days[0].interval.lower, forecast.days[0].interval.upper) == (80, 130)
    assert (forecast.total, forecast.version, forecast.source.kind) == (200, "3", "model")
    assert not forecast.source.degraded


def test_a_score_has_probability_version_and_source(models: Models) -> None:
    churn = models.churn.invoke({"household_id": 7})
    assert (churn.household_id, churn.probability, churn.contact, churn.version) == (7, 0.25, True, "2")
    assert churn.source.kind == "model"


def test_key_and_request_id_go_along(models: Models, api: Fake) -> None:
    models.forecast.invoke(QUESTION, config={"metadata": {"request_id": "abc"}})
    models.forecast.invoke(QUESTION)
    assert api.headers[0]["x-api-key"] == "k"
    assert api.headers[0]["x-request-id"] == "abc"
    assert len(api.headers[1]["x-request-id"]) == 32


@pytest.mark.parametrize(
    "question",
    [
        {"category": "SOFT DRINKS"},
        {"category": "", "dates": ["2018-01-01"]},
        QUESTION | {"colour": "red"},
        "soft drinks",
    ],
)
def test_a_question_of_the_wrong_form_never_leaves_the_house(models: Models, api: Fake, question: Any) -> None:
    with pytest.raises(ModelRefused, match="no question for the forecast model"):
        models.forecast.invoke(question)
    assert api.asked == []


def test_what_the_api_refuses_is_told_once_and_as_it_said_it(models: Models, api: Fake) -> None:
    problem = {"detail": "wrong", "errors": [{"field": "category", "got": "X", "expected": "one of 120"}]}
    api.answer = lambda path, body: JSONResponse(problem, 422)
    with pytest.raises(ModelRefused, match=r"category: got X, expected one of 120\."):
        models.forecast.invoke(QUESTION)
    assert len(api.asked) == 1


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_busy_api_is_asked_again(models: Models, api: Fake, status: int) -> None:
    api.answer = failing_first(2, lambda: JSONResponse({"detail": "busy"}, status))
    assert models.forecast.invoke(QUESTION).source.kind == "model"
    assert len(api.asked) == 3


def test_attempts_are_bounded_and_pauses_grow(models: Models, api: Fake) -> None:
    times: list[float] = []

    def busy(path: str, body: Body) -> Any:
        times.append(time.monotonic())
        return JSONResponse({"detail": "busy"}, 503)

    api.answer = busy
    with pytest.raises(ModelUnavailable, match=r"127\.0\.0\.1:\d+/forecast failed with status 503: busy"):
        models.forecast.invoke(QUESTION)
    assert len(times) == 3
    assert times[2] - times[1] > times[1] - times[0] - 0.1 > 0  # jitter is at most a tenth of a second


@pytest.mark.parametrize("status", [401, 500, 504])
def test_what_another_attempt_does_not_help_is_tried_once(models: Models, api: Fake, status: int) -> None:
    api.answer = lambda path, body: PlainTextResponse("no", status)
    with pytest.raises(ModelUnavailable, match=f"status {status}: no"):
        models.forecast.invoke(QUESTION)
    assert len(api.asked) == 1


def test_a_slow_api_is_left_alone(api: Fake, store: LastKnown) -> None:
    api.answer = lambda path, body: late(business_api(path, body))
    models = make(api.url, store, timeout=0.5)
    begun = time.monotonic()
    with pytest.raises(ModelUnavailable, match=r"no answer within 0\.5 s"):
        models.forecast.invoke(QUESTION)
    assert time.monotonic() - begun < 10
    assert len(api.asked) == 1


def test_nobody_there_is_said(store: LastKnown, free_port: Callable[[], int]) -> None:
    with pytest.raises(ModelUnavailable, match="does not answer"):
        make(f"http://127.0.0.1:{free_port()}", store).forecast.invoke(QUESTION)


WRONG = {
    "no JSON": lambda body: PlainTextResponse("<html>"),
    "another form": lambda body: {"units": 3},
    "other days": lambda body: forecast_answer(body | {"dates": ["2018-01-05", "2018-01-06"]}),
    "fewer days": lambda body: forecast_answer(body | {"dates": body["dates"][:1]}),
    "negative": lambda body: forecast_answer(body, units=-5),
    "outside its own interval": lambda body: _with_units(forecast_answer(body), 500),
    "not a number": lambda body: PlainTextResponse('{"units": NaN}'),
}


def _with_units(answer: Body, units: float) -> Body:
    answer["forecasts"][0]["units"] = units
    return answer


@pytest.mark.parametrize("kind", WRONG)
def test_nonsense_is_no_forecast(models: Models, api: Fake, kind: str) -> None:
    api.answer = lambda path, body: WRONG[kind](body)
    with pytest.raises(ModelUnavailable, match="answered with"):
        models.forecast.invoke(QUESTION)


@pytest.mark.parametrize(
    "answer", [lambda body: churn_answer(body, 1.5), lambda body: churn_answer({"household_id": 8})]
)
def test_nonsense_is_no_score(models: Models, api: Fake, answer: Callable[[Body], Body]) -> None:
    api.answer = lambda path, body: answer(body)
    with pytest.raises(ModelUnavailable, match="cannot be right"):
        models.churn.invoke({"household_id": 7})


def test_the_last_known_answer_stands_in_and_says_so(models: Models, api: Fake) -> None:
    fresh = models.forecast.invoke(QUESTION)
    api.answer = lambda path, body: PlainTextResponse("broken", 500)
    time.sleep(0.05)
    old = models.forecast.invoke(QUESTION)
    assert old.days == fresh.days
    assert old.source.kind == "last known"
    assert old.source.degraded
    assert old.source.version == fresh.version is not None
    assert "status 500: broken" in old.source.why
    assert old.source.age_seconds is not None and 0.05 <= old.source.age_seconds < 300


def test_the_answer_to_another_question_does_not_stand_in(models: Models, api: Fake) -> None:
    models.forecast.invoke(QUESTION)
    models.churn.invoke({"household_id": 7})
    api.answer = lambda path, body: PlainTextResponse("broken", 500)
    for other in ({"price": 2.0}, {"category": "BEEF"}, {"promotion": {"display_share": 0.5}}):
        with pytest.raises(ModelUnavailable):
            models.forecast.invoke(QUESTION | other)
    with pytest.raises(ModelUnavailable):
        models.churn.invoke({"household_id": 8})
    assert models.churn.invoke({"household_id": 7}).source.kind == "last known"


def test_after_recovery_answers_are_fresh_again(models: Models, api: Fake) -> None:
    models.forecast.invoke(QUESTION)
    api.answer = lambda path, body: PlainTextResponse("broken", 500)
    models.forecast.invoke(QUESTION)
    api.answer = lambda path, body: forecast_answer(body, units=120)
    assert (models.forecast.invoke(QUESTION).total, models.forecast.invoke(QUESTION).source.kind) == (240, "model")


def test_no_answer_is_an_answer_for_a_chain(models: Models, api: Fake) -> None:
    assert attempt(models.forecast, QUESTION)[1].kind == "model"
    api.answer = lambda path, body: PlainTextResponse("broken", 500)
    answer, source = attempt(models.churn, {"household_id": 7})
    assert (answer, source.kind) == (None, "missing")
    assert "broken" in source.why


def test_a_batch_answers_in_order(models: Models) -> None:
    answers = models.forecast.batch([QUESTION | {"category": name} for name in "abcdef"], {"max_concurrency": 3})
    assert [answer.category for answer in answers] == list("abcdef")


def test_one_refused_question_does_not_spoil_a_batch(models: Models, api: Fake) -> None:
    def answer(path: str, body: Body) -> Any:
        return JSONResponse({"detail": "unknown"}, 404) if body["household_id"] == 2 else churn_answer(body)

    api.answer = answer
    answers = models.churn.batch([{"household_id": number} for number in (1, 2, 3)], return_exceptions=True)
    assert [type(one).__name__ for one in answers] == ["Churn", "ModelRefused", "Churn"]


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"no database" * 100), lambda path: path.mkdir()])
def test_a_store_that_cannot_be_used_costs_no_answer(api: Fake, tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    path = tmp_path / "damaged.db"
    damage(path)
    models = make(api.url, LastKnown(path))
    assert models.forecast.invoke(QUESTION).source.kind == "model"
    api.answer = lambda path, body: PlainTextResponse("broken", 500)
    with pytest.raises(ModelUnavailable, match="broken"):
        models.forecast.invoke(QUESTION)


def test_a_store_that_is_locked_keeps_nobody_waiting_long(models: Models, store: LastKnown) -> None:
    models.forecast.invoke(QUESTION)
    with sqlite3.connect(store.path) as db:
        db.execute("begin exclusive")
        begun = time.monotonic()
        assert models.forecast.invoke(QUESTION).source.kind == "model"
        assert time.monotonic() - begun < 9.5  # looking and keeping would each wait for five seconds


def test_the_store_forgets_the_oldest(store: LastKnown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workshop_lib.orchestration.last_known.MOST_ANSWERS", 3)
    for number in range(5):
        store.save("forecast", str(number), "{}")
        time.sleep(0.002)
    assert [number for number in range(5) if store.find("forecast", str(number))] == [2, 3, 4]


def test_the_language_model_gets_one_attempt_unless_patient(models: Models, api: Fake) -> None:
    api.answer = failing_first(2, lambda: JSONResponse({"error": {"message": "busy"}}, 503))
    with pytest.raises(Exception, match="busy"):
        models.chat.invoke("hello")
    assert len(api.asked) == 1
    api.answer = failing_first(2, lambda: JSONResponse({"error": {"message": "busy"}}, 503))
    api_answer = api.answer
    api.answer = lambda path, body: (
        found if isinstance(found := api_answer(path, body), JSONResponse) else chat_answer("good morning")
    )
    assert patient(models.chat).invoke("hello").content == "good morning"
    assert len(api.asked) == 4


def test_a_slow_language_model_is_not_asked_twice(api: Fake, store: LastKnown) -> None:
    api.answer = lambda path, body: late(chat_answer("late"))
    models = make(api.url, store, text_timeout=0.3)
    with pytest.raises(Exception, match="timed out"):
        patient(models.chat).invoke("hello")
    assert len(api.asked) == 1


def test_tools_describe_their_questions_and_answer_with_data(models: Models) -> None:
    forecast, churn = models.tools()
    assert set(forecast.args) == {"category", "dates", "price", "promotion", "known_until"}
    assert forecast.invoke(QUESTION)["days"][1]["units"] == 100
    assert churn.invoke({"household_id": 7})["probability"] == 0.25
