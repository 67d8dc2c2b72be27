"""Is it well? Each service is asked a question whose answer is known, because a wrong answer is as bad as none.

    for check in checks():
        found = check.ask()
        found.ok, found.cause, found.reason, found.seconds

| service | what it is asked | what counts as an answer |
|---|---|---|
| forecaster | a test prediction | what the registered ONNX file computes for the same rows |
| api | whether it is ready, and a forecast of days that are over | not far from what was sold on them |
| llm | a text about a product | enough of the facts, hardly an invention, whole sentences |
| dashboard | its page | the page, or the login before it |
| cache | to keep a value for a moment | the same value |
| database | to begin a change, in each database | a schema that can be read, and nobody in the way |

The dashboard's own page looks at the services as well (:mod:`workshop_lib.orchestration.health`): it asks whether they
answer. Here they have to answer rightly. Limits come from the monitoring configuration.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle

import httpx
import numpy as np
import openai
import orjson

from workshop_lib.generative import prompts, quality
from workshop_lib.generative.client import LLM, LLMError, LLMRefused
from workshop_lib.monitoring.config import MonitoringConfig, load_config
from workshop_lib.monitoring.health_known import KnownAnswers, SalesQuestion, Unverifiable, sales_question
from workshop_lib.monitoring.health_stores import Databases, Trouble, ask_cache
from workshop_lib.orchestration import health
from workshop_lib.orchestration.health import Cause, State, Target, WrongAnswer
from workshop_lib.orchestration.labels import LANGUAGES, Labels
from workshop_lib.orchestration.local import dashboard_service
from workshop_lib.predictive.onnx_export import relative_difference
from workshop_lib.serving import api_client, texts
from workshop_lib.serving.api_schemas import ForecastResponse
from workshop_lib.serving.forecaster_client import NAME, ForecasterError, read_answer, v2_body
from workshop_lib.serving.local import forecaster_service
from workshop_lib.settings import settings

PLAUSIBLE = 3
"""The API's test forecast may be so many times what was sold, or that part of it: a unit or a sign gone wrong is far
outside, a bad week is not. How good forecasts are is measured elsewhere."""
PRODUCTS = (
    {"product": "shredded cheese", "brand": "store brand", "size": "8 ounces", "price": "$1.50"},
    {"product": "white bread", "brand": "store brand", "size": "20 ounces", "price": "$0.97"},
    {"product": "tortilla chips", "brand": "national brand", "size": "12.5 ounces", "price": "$2.29"},
)
"""What the language model is asked to write about in turn: best sellers of the catalogue."""


@dataclass(frozen=True)
class Checked:
    """What a check found."""

    service: str
    ok: bool | None
    """Whether it answered rightly; None when the check itself could not be made."""
    cause: Cause = ""
    """Why not, in one of a few words."""
    reason: str = ""
    """The same as a sentence."""
    seconds: float = 0.0
    """What it took."""
    poorer: bool = False
    """Whether it answers, but with something missing or of low quality."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """What else was measured, such as the relevance of a text."""

    @property
    def state(self) -> str:
        """``ok``, ``degraded``, ``down`` or ``unknown``."""
        return "unknown" if self.ok is None else "down" if not self.ok else "degraded" if self.poorer else "ok"


@dataclass(frozen=True)
class Check:
    """A question that a service is asked again and again."""

    service: str
    ask: Callable[[], Checked]
    interval: float
    """Seconds from the beginning of one to that of the next."""
    longest: float
    """Seconds that one takes at most."""
    needed: bool
    """Whether the shop cannot be served without the service."""


def checks(config: MonitoringConfig | None = None, at: Mapping[str, str] | None = None) -> list[Check]:
    """The checks of all services that the settings name; the cache only where one is used.

    Args:
        config: limits and intervals; those of the file by default.
        at: other addresses, by service: an experiment puts something between.
    """
    config, at = config or load_config(), at or {}
    limits, targets = config.health, {target.name: target for target in health.targets()}
    bases = {
        "forecaster": settings.forecaster_endpoint or forecaster_service().url,
        "api": settings.api_endpoint or api_client.api_service().url,
        "dashboard": settings.dashboard_endpoint or dashboard_service().url,
        **at,
    }
    forecaster = replace(targets["forecaster"], url=f"{bases['forecaster']}/v2/models/{NAME}")
    api = replace(targets["api"], url=f"{bases['api']}/health/ready")
    stores = Databases({"database": at["database"]} if "database" in at else None)
    wait = limits.timeout_seconds
    asks: dict[str, Callable[[], Checked]] = {
        "forecaster": partial(check_forecaster, forecaster, wait, limits.forecast_difference, KnownAnswers()),
        "api": partial(check_api, api, wait, sales_question),
        "llm": Writer(config, at.get("llm")).check,
        "dashboard": partial(check_dashboard, bases["dashboard"], wait),
        "database": partial(_check_store, "database", lambda: stores.ask(wait)),
    }
    if settings.cache or settings.cache_url or "cache" in at:
        server = at.get("cache", settings.cache_server)
        asks["cache"] = partial(_check_store, "cache", lambda: ask_cache(server, wait))
    texts_every, text_takes = limits.generation_interval_seconds, limits.generation_timeout_seconds
    return [
        Check(
            service,
            ask,
            interval=texts_every if service == "llm" else limits.interval_seconds,
            longest=text_takes if service == "llm" else 2 * wait,
            needed=service in limits.needed,
        )
        for service, ask in asks.items()
    ]


def check_forecaster(alive: Target, timeout: float, difference: float, known: KnownAnswers) -> Checked:
    """Ask for a test prediction, and compare it with what the registered file computes.

    Args:
        alive: where the forecaster tells what it serves; that it does is all that can be said without a registry.
        timeout: longest wait, seconds.
        difference: largest relative difference from the known answer.
        known: computes it.
    """
    target = replace(alive, url=f"{alive.url}/infer")

    def read(answer: httpx.Response) -> tuple[State, str, str]:
        try:
            found = read_answer(target.url, answer, len(rows))
        except ForecasterError as error:
            raise ValueError(str(error)) from error
        try:
            wanted = known.answer(found.version)
        except KeyError:
            raise WrongAnswer(
                f"It says that it is version {found.version}, which the registry does not have."
            ) from None
        if not np.all(relative_difference(found.units, wanted) <= difference):  # nothing is near "not a number"
            gave, right = (" and ".join(f"{units:,.1f}" for units in both[:2]) for both in (found.units, wanted))
            raise WrongAnswer(f"The test prediction is {gave} units; the registered file computes {right}.")
        if found.version not in (None, newest):
            return "degraded", str(found.version), f"It serves version {found.version}; the champion is {newest}."
        return "ok", newest, f"The test prediction is right, by version {newest}."

    try:
        rows, newest = known.rows(), known.champion()
        return _look(replace(target, read=read, body=orjson.dumps(v2_body(rows))), timeout)
    except Unverifiable as error:
        there = _look(alive, timeout)
        return there if not there.ok else Checked(target.name, None, reason=str(error), seconds=there.seconds)


def check_api(target: Target, timeout: float, known: Callable[[], SalesQuestion | None]) -> Checked:
    """Ask whether it is ready, and then for a forecast of days that are over.

    Args:
        target: where it tells whether it is ready.
        timeout: longest wait for each of both, seconds.
        known: gives the days, and what was sold on them; None where this machine has no data.
    """
    ready, question = _look(target, timeout), known()
    if not ready.ok or question is None:
        return ready

    def read(answer: httpx.Response) -> tuple[State, str, str]:
        if answer.is_error:
            return "down", "", f"a forecast was refused ({answer.json()['detail']})"
        total = sum(day.units for day in ForecastResponse.model_validate_json(answer.content).forecasts)
        if not question.sold / PLAUSIBLE <= total <= question.sold * PLAUSIBLE:
            raise WrongAnswer(
                f"The test forecast is {total:,.0f} units of {question.category}; {question.sold:,.0f} were sold."
            )
        return "ok", "", f"Ready, and a test forecast is within a factor of {PLAUSIBLE} of what was sold."

    url = target.url.removesuffix("/health/ready") + "/forecast"
    headers = {"X-API-Key": api_client.api_key()}
    asked = _look(replace(target, url=url, read=read, body=question.body, headers=headers), timeout)
    both = replace(asked, seconds=ready.seconds + asked.seconds)
    return replace(both, poorer=True, reason=ready.reason) if asked.ok and ready.poorer else both


def check_dashboard(url: str, timeout: float) -> Checked:
    """Ask for the dashboard's page, and look for its title: there, or on the login page that it leads to.

    Args:
        url: its address.
        timeout: longest wait, seconds.
    """
    titles = [Labels(language)("page.title") for language in LANGUAGES]

    def read(answer: httpx.Response) -> tuple[State, str, str]:
        if answer.headers.get("location") == "/login":
            return "ok", "", "It asks for a login."
        if not any(title in answer.text for title in titles):
            raise ValueError("not the dashboard")
        return "ok", "", "Its page is there."

    return _look(Target("dashboard", f"{url}/{settings.lang}/", read), timeout)


class Writer:
    """Lets the language model write about one of :data:`PRODUCTS` after the other, and measures the texts.

    The measure is that of module 2, :mod:`workshop_lib.generative.quality`. *Relevance* is its ``content``: the facts
    that the text mentions, with inventions counted off. *Coherence* is its ``form``: sentences, length, variety and
    difficulty. Both count what can be counted. A text with high scores may still be dull, or wrong in a way that no
    rule knows; one with low scores is certainly of no use.

    Args:
        config: limits.
        url: another address of the endpoint, up to and including ``/v1``.
    """

    def __init__(self, config: MonitoringConfig, url: str | None = None) -> None:
        self._least, self._wanted = config.health.generation_quality, config.generator.quality
        self._timeout = config.health.generation_timeout_seconds
        found = texts.reach(self._timeout)
        ca_file = str(settings.llm_ca_file) if settings.llm_endpoint and settings.llm_ca_file and not url else None
        self._llm = LLM(
            url or found.url, found.model, str(found.openai.api_key), timeout=self._timeout, retries=0,
            ca_file=ca_file, restart="Look at its log.",
        )  # fmt: skip
        self._prompt, self._products = prompts.load(texts.PROMPT), cycle(PRODUCTS)

    def check(self) -> Checked:
        """Ask for one text."""
        begun = time.perf_counter()
        facts = next(self._products)
        cause, reason, text = self._write(facts, begun)
        seconds = time.perf_counter() - begun
        if cause:
            return Checked("llm", False, cause, reason, seconds)
        found = quality.measure(text, facts)
        figures = {
            "relevance": found.content,
            "coherence": found.form,
            "invented_numbers": float(len(found.invented_numbers)),
        }
        about = f"relevance {found.content:.2f}, coherence {found.form:.2f}"
        if found.score < self._least:
            return Checked(
                "llm", False, "wrong", f"The test text is of no use ({about}).", seconds, figures=figures
            )  # fmt: skip
        poorer = found.content < self._wanted.relevance or found.form < self._wanted.coherence
        reason = f"The test text is {'poor' if poorer else 'good'} ({about})."
        return Checked("llm", True, "", reason, seconds, poorer, figures)

    def _write(self, facts: Mapping[str, str], begun: float) -> tuple[Cause, str, str]:
        """Cause and reason of a failure, or the text."""
        late = f"No text within {self._timeout:g} s."
        try:
            if not self._llm.model:  # an endpoint of which only the address was given
                self._llm.model = self._llm.models()[0]
            stream = self._llm.stream(self._prompt.render(facts=facts), **self._prompt.sampling)
            for _ in stream:
                if time.perf_counter() - begun > self._timeout:  # a time-out by itself covers one piece only
                    return "slow", late, ""
        except LLMRefused as error:
            return "status", str(error), ""
        except LLMError as error:
            return (
                ("slow", late, "")
                if isinstance(error.__cause__, openai.APITimeoutError)
                else ("refused", str(error), "")
            )
        except httpx.TimeoutException:
            return "slow", late, ""
        except httpx.HTTPError as error:
            return "garbage", f"{self._llm.url} broke off within the text ({type(error).__name__}).", ""
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return "garbage", f"{self._llm.url} answers in another form than a language model.", ""
        if not stream.reply.text.strip():
            return "garbage", f"{self._llm.url} answered, and there was no text in it.", ""
        return "", "", stream.reply.text


def _check_store(service: str, ask: Callable[[], str]) -> Checked:
    begun = time.perf_counter()
    try:
        reason = ask()
    except Trouble as trouble:
        return Checked(service, False, trouble.cause, trouble.reason, time.perf_counter() - begun)
    return Checked(service, True, "", reason, time.perf_counter() - begun)


def _look(target: Target, timeout: float) -> Checked:
    """One question over HTTP, and what came of it in a sentence."""
    begun = time.perf_counter()
    found = health.probe([target], timeout)[0]
    seconds = found.milliseconds / 1000 if found.milliseconds is not None else time.perf_counter() - begun
    sentences = {
        "refused": f"No answer from {target.url} ({found.detail}).",
        "slow": f"No answer within {timeout:g} s.",
        "status": f"It answers with an error ({found.detail}).",
        "garbage": f"What answers at {target.url} is another program, or this one out of order.",
        "reported": f"It says that something is missing: {found.detail}",
        "wrong": found.detail,
        "": found.detail or "It is ready.",
    }
    ok, poorer = found.state in ("ok", "degraded"), found.state == "degraded"
    return Checked(target.name, ok, "" if ok else found.cause, sentences[found.cause], seconds, poorer)
