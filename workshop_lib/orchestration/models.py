"""The three models as parts of chains: typed questions in, typed answers out, and a plan for when one is away.

    models = connect()
    models.forecast.invoke({"category": "SOFT DRINKS", "dates": ["2018-01-01"]})

Each call has a time-out and a bounded number of attempts with a growing, jittered pause between them. When that does
not help, the last known answer to the same question takes its place, marked with its age; without one the call ends
in :class:`ModelUnavailable`.
"""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import openai
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.tools import BaseTool, StructuredTool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr, ValidationError

from workshop_lib.generative import client as llm_client
from workshop_lib.generative.server import llm_server, local_api_key, served_name
from workshop_lib.orchestration.last_known import LastKnown
from workshop_lib.orchestration.results import MODEL, Churn, Forecast, Source
from workshop_lib.serving import api_client
from workshop_lib.serving.api_schemas import ChurnRequest, ChurnResponse, ForecastRequest, ForecastResponse
from workshop_lib.settings import settings

ForecastQuestion = ForecastRequest
"""One category, some days, and what is planned for them."""
ChurnQuestion = ChurnRequest
"""A household by its number, or by its features."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds before the second attempt, and before any later one; each pause doubles the one before."""
REQUEST_ID = "X-Request-ID"
_BUSY = (429, 502, 503)
"""What a server answers that may be well again in a moment."""
_OUR_FAULT = (404, 413, 422)
"""What the business API answers when the question is wrong."""
_ROUNDING = 1e-6

Result = TypeVar("Result", Forecast, Churn)
Response = TypeVar("Response", ForecastResponse, ChurnResponse)


class ModelUnavailable(RuntimeError):
    """A model gives no answer that can be used; ``again`` tells whether another attempt may help."""

    def __init__(self, message: str, again: bool = False) -> None:
        super().__init__(message)
        self.again = again


class ModelRefused(ValueError):
    """A model does not take the question; the message says what is wrong with it."""


@dataclass(frozen=True)
class Models:
    """What chains ask."""

    forecast: Runnable[Any, Forecast]
    """Takes a :class:`ForecastQuestion`, or a dict of its fields."""
    churn: Runnable[Any, Churn]
    """Takes a :class:`ChurnQuestion`, or a dict of its fields."""
    chat: ChatOpenAI
    """The language model; one attempt per call. :func:`patient` gives it more."""

    def tools(self) -> list[BaseTool]:
        """Forecaster and churn model in the form in which a language model may call them."""
        return [
            StructuredTool.from_function(
                lambda **question: self.forecast.invoke(question).model_dump(mode="json"),
                name="forecast_sales",
                description="Units that a category will sell on some days, with intervals.",
                args_schema=ForecastQuestion,
            ),
            StructuredTool.from_function(
                lambda **question: self.churn.invoke(question).model_dump(mode="json"),
                name="score_household",
                description="How likely a household is to stay away for four weeks.",
                args_schema=ChurnQuestion,
            ),
        ]


def worth_another_attempt(error: BaseException) -> bool:
    """Whether a failed call may succeed a moment later.

    A model that was too slow is left alone: it would be slower still with twice the work.
    """
    if isinstance(error, ModelUnavailable):
        return error.again
    if isinstance(error, openai.APIStatusError):
        return error.status_code in _BUSY
    return isinstance(error, openai.APIConnectionError) and not isinstance(error, openai.APITimeoutError)


def patient(runnable: Runnable[Any, Any], attempts: int | None = None) -> Runnable[Any, Any]:
    """A runnable that tries again where that may help, after pauses that grow and vary.

    Args:
        runnable: what to call.
        attempts: at most so many calls; ``settings.model_attempts`` by default.
    """
    return runnable.with_retry(
        retry_if_exception_type=worth_another_attempt,
        stop_after_attempt=attempts or settings.model_attempts,
        exponential_jitter_params={"initial": FIRST_PAUSE, "max": LONGEST_PAUSE, "jitter": FIRST_PAUSE},
    )


def attempt(runnable: Runnable[Any, Result], question: object) -> tuple[Result | None, Source]:
    """Ask, and take no answer for an answer too.

    Returns:
        The answer and its source; without an answer None and a source that tells why.
    """
    try:
        answer = runnable.invoke(question)
    except (ModelUnavailable, ModelRefused) as error:
        return None, Source(kind="missing", why=str(error))
    return answer, answer.source


def connect() -> Models:
    """The models that the settings name; local servers are started when they do not run.

    Raises:
        ServiceError: when a local server cannot be started.
        LLMError: when a configured language model cannot be reached.
    """
    api, llm = api_client.connect(), llm_client.connect()
    return build(
        api_url=api.url, api_headers=api.headers, llm_url=llm.url, llm_model=llm.model, llm_key=llm.openai.api_key
    )


def reach() -> Models:
    """The same models without a look whether they run: for a service, which starts none and outlives them all."""
    api = settings.api_endpoint or api_client.api_service().url
    if settings.llm_endpoint:
        key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else "none"
        url, model = settings.llm_endpoint, settings.llm_model or ""
    else:
        url, model, key = f"{llm_server().url}/v1", served_name(), local_api_key()
    headers = {"X-API-Key": api_client.api_key()}
    return build(api_url=api, api_headers=headers, llm_url=url, llm_model=model, llm_key=key)


def build(
    *,
    api_url: str,
    api_headers: dict[str, str],
    llm_url: str,
    llm_model: str,
    llm_key: str,
    store: LastKnown | None = None,
    timeout: float | None = None,
    text_timeout: float | None = None,
    attempts: int | None = None,
) -> Models:
    """Models at given addresses.

    Args:
        api_url: of the business API.
        api_headers: its key.
        llm_url: of the language model, up to and including ``/v1``.
        llm_model: its served name.
        llm_key: its key.
        store: where last known answers are kept.
        timeout: longest wait for a forecast or a score, seconds; ``settings.model_timeout`` by default.
        text_timeout: longest wait for a text, seconds; ``settings.text_timeout`` by default.
        attempts: calls at most; ``settings.model_attempts`` by default.
    """
    api = httpx.Client(base_url=api_url, headers=api_headers, timeout=timeout or settings.model_timeout)
    store = store or LastKnown()
    trust: Any = True
    if settings.llm_ca_file and llm_url == settings.llm_endpoint:
        trust = ssl.create_default_context(cafile=str(settings.llm_ca_file))
    return Models(
        forecast=_with_last_known("forecast", ForecastQuestion, Forecast, _ask_forecast(api), store, attempts),
        churn=_with_last_known("churn", ChurnQuestion, Churn, _ask_churn(api), store, attempts),
        chat=ChatOpenAI(
            base_url=llm_url,
            model=llm_model,
            api_key=SecretStr(llm_key),
            timeout=text_timeout or settings.text_timeout,
            max_retries=0,
            stream_usage=True,
            temperature=0,
            http_client=httpx.Client(verify=trust, timeout=text_timeout or settings.text_timeout),
        ),
    )


def _with_last_known(
    kind: str,
    form: type[BaseModel],
    result: type[Result],
    ask: Callable[[Any, RunnableConfig], Result],
    store: LastKnown,
    attempts: int | None,
) -> Runnable[Any, Result]:
    """A model with retries, and behind it the last known answer to the same question."""

    def check(question: object) -> dict[str, Any]:
        try:
            return {"question": form.model_validate(question)}
        except ValidationError as error:
            raise ModelRefused(f"This is no question for the {kind} model. {_problems(error)}") from error

    def fresh(asked: dict[str, Any], config: RunnableConfig) -> Result:
        answer = ask(asked["question"], config)
        store.save(kind, asked["question"].model_dump_json(), answer.model_dump_json())
        return answer

    def last_known(asked: dict[str, Any]) -> Result:
        error = asked["error"]
        found = store.find(kind, asked["question"].model_dump_json())
        if found is None:
            raise error
        answer = result.model_validate_json(found[0])
        source = Source(kind="last known", why=str(error), age_seconds=found[1], version=answer.version)
        return answer.model_copy(update={"source": source})

    steady = patient(RunnableLambda(fresh, name=f"{kind} attempt"), attempts).with_config(run_name=f"{kind} model")
    steps = RunnableLambda(check, name=f"{kind} question") | steady.with_fallbacks(
        [RunnableLambda(last_known, name=f"last known {kind}")],
        exceptions_to_handle=(ModelUnavailable,),
        exception_key="error",
    )

    # Each question of a batch goes its own way: LangChain's batch of a runnable with fallbacks fails as a whole when
    # one question fails with an error that the fallback is not for.
    def ask_one(question: object, config: RunnableConfig) -> Result:
        return steps.invoke(question, config)

    return RunnableLambda(ask_one, name=kind)


def _ask_forecast(api: httpx.Client) -> Callable[[ForecastQuestion, RunnableConfig], Forecast]:
    def ask(question: ForecastQuestion, config: RunnableConfig) -> Forecast:
        answer = _post(api, "/forecast", question, ForecastResponse, config)
        days = answer.forecasts
        plausible = [day.date for day in days] == question.dates and all(
            0 <= day.units < float("inf")
            and day.interval.lower - _ROUNDING <= day.units <= day.interval.upper + _ROUNDING
            for day in days
        )
        if not plausible:
            raise ModelUnavailable(f"{_address(api, '/forecast')} answered with numbers that cannot be right.")
        return Forecast(category=answer.category, days=tuple(days), version=answer.model.version, source=MODEL)

    return ask


def _ask_churn(api: httpx.Client) -> Callable[[ChurnQuestion, RunnableConfig], Churn]:
    def ask(question: ChurnQuestion, config: RunnableConfig) -> Churn:
        answer = _post(api, "/churn", question, ChurnResponse, config)
        same = question.household_id is None or str(answer.household_id) == str(question.household_id)
        if not same or not 0 <= answer.probability <= 1:
            raise ModelUnavailable(f"{_address(api, '/churn')} answered with a score that cannot be right.")
        fields = answer.model_dump(exclude={"model"})
        return Churn(**fields, version=answer.model.version, source=MODEL)

    return ask


def _post(api: httpx.Client, path: str, question: BaseModel, form: type[Response], config: RunnableConfig) -> Response:
    """Ask the business API.

    Raises:
        ModelUnavailable: when it gives no answer of the right form.
        ModelRefused: when the question is wrong.
    """
    address = _address(api, path)
    # One ID from the chain's caller through every log on the way.
    request_id = str((config.get("metadata") or {}).get("request_id") or uuid.uuid4().hex)
    try:
        answer = api.post(
            path, json=question.model_dump(mode="json", exclude_none=True), headers={REQUEST_ID: request_id}
        )
    except httpx.TimeoutException as error:
        raise ModelUnavailable(f"{address} gave no answer within {api.timeout.read:g} s.") from error
    except httpx.TransportError as error:
        raise ModelUnavailable(f"{address} does not answer ({error or type(error).__name__}).", again=True) from error
    if answer.status_code in _OUR_FAULT:
        raise ModelRefused(_detail(answer))
    if answer.is_error:
        raise ModelUnavailable(
            f"{address} failed with status {answer.status_code}: {_detail(answer).rstrip('.')}.",
            answer.status_code in _BUSY,
        )
    try:
        return form.model_validate_json(answer.content)
    except ValidationError as error:
        raise ModelUnavailable(f"{address} answered with something else than a {form.__name__}.") from error


def _address(api: httpx.Client, path: str) -> str:
    return str(api.base_url).rstrip("/") + path


def _detail(answer: httpx.Response) -> str:
    """What problem+json says, else the beginning of whatever came."""
    try:
        problem = answer.json()
        wrong = [
            f"{one['field']}: got {one['got']}, expected {one['expected']}." for one in problem.get("errors") or ()
        ]
        return " ".join(wrong) or str(problem["detail"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return answer.text[:200] or "no reason given"


def _problems(error: ValidationError) -> str:
    return " ".join(
        f"{'.'.join(str(part) for part in one['loc']) or 'question'}: {one['msg'].removeprefix('Value error, ')}."
        for one in error.errors()
    )
