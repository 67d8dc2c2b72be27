"""Requests through the whole system: how fast, how well, and what is left of it while a part of it is broken.

    outcomes = run(requests, at_once=4)
    table(outcomes)
    fault_table([under(fault, at_once=4) for fault in faults])

A request is any function without arguments. Its answer has ``sources`` (:mod:`workshop_lib.orchestration.results`),
which tell whether it is whole or has substitutes in it.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from workshop_lib.orchestration.models import ModelRefused
from workshop_lib.orchestration.results import Source, Text
from workshop_lib.orchestration.shop import UnknownThing
from workshop_lib.orchestration.wording import NO_SPANISH
from workshop_lib.progress import track
from workshop_lib.settings import settings

Kind = Literal["whole", "degraded", "wrong", "refused", "unhandled"]
KINDS: tuple[Kind, ...] = ("whole", "degraded", "wrong", "refused", "unhandled")
REFUSALS = (UnknownThing, ModelRefused)
"""How the system says that a question is wrong. Anything else that a request raises is an unhandled error."""
POLL_SECONDS = 0.05
"""Pause between two questions whether the system is well again."""


def _nothing(answer: Any) -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Request:
    """One thing that somebody wants to know."""

    scenario: str
    ask: Callable[[], Any] = field(repr=False)
    check: Callable[[Any], Sequence[str]] = field(default=_nothing, repr=False)
    """What is wrong in an answer, such as a number that the data does not confirm; nothing when all is right."""


@dataclass(frozen=True)
class Outcome:
    """What became of a request."""

    scenario: str
    seconds: float
    answer: Any = field(repr=False)
    error: BaseException | None = None
    wrong: tuple[str, ...] = ()

    @property
    def substitutes(self) -> dict[str, Source]:
        """Parts of the answer that stand in for something that could not be had.

        A fixed wording in Spanish is no substitute: nothing better was tried.
        """
        sources: Mapping[str, Source] = getattr(self.answer, "sources", {})
        return {part: source for part, source in sources.items() if source.degraded and source.why != NO_SPANISH}

    @property
    def texts(self) -> tuple[Text, ...]:
        """The answer's worded parts."""
        answer = getattr(self.answer, "answer", self.answer)  # a reply holds the answer of a chain
        return tuple(part for _, part in answer or () if isinstance(part, Text))

    @property
    def well(self) -> bool:
        """Whether no part was away: a text that was written and refused is a substitute, but no outage."""
        refused = {text.source.why for text in self.texts if text.rejected}
        right = self.error is None and not self.wrong
        return right and all(source.why in refused for source in self.substitutes.values())

    @property
    def kind(self) -> Kind:
        """``wrong`` is worst: the answer looks well and is not."""
        if self.error is not None:
            return "refused" if isinstance(self.error, REFUSALS) else "unhandled"
        if self.wrong:
            return "wrong"
        return "degraded" if self.substitutes else "whole"

    @property
    def told(self) -> str:
        """Why the first substitute was needed, in one sentence; empty for a whole answer.

        Files are named without this machine's folder.
        """
        reasons = [str(self.error)] if self.error else [source.why for source in self.substitutes.values()]
        return first_sentence(reasons[0].replace(f"{settings.home}/", "")) if reasons else ""


def first_sentence(text: str) -> str:
    """The text up to the first full stop that ends a sentence."""
    return re.split(r"(?<=[.!?])\s+(?=[A-ZÁÉÍÓÚ¿¡])", text.strip(), maxsplit=1)[0]


def run(requests: Sequence[Request], at_once: int, label: str = "") -> list[Outcome]:
    """Send requests, a bounded number at the same time.

    Args:
        requests: in the order in which they are sent.
        at_once: how many may be under way.
        label: of the progress bar; none without it.

    Returns:
        An outcome per request, in the same order. Errors are outcomes too.
    """
    seconds = [float("nan")] * len(requests)

    def ask(place: int) -> Any:
        begun = time.perf_counter()
        try:
            return requests[place].ask()
        finally:
            seconds[place] = time.perf_counter() - begun

    with ThreadPoolExecutor(at_once, thread_name_prefix="request") as pool:
        asked = [pool.submit(ask, place) for place in range(len(requests))]
        for _ in track(as_completed(asked), label, total=len(asked)) if label else ():
            pass
    return [
        _outcome(request, took, done.exception(), done)
        for request, took, done in zip(requests, seconds, asked, strict=True)
    ]


def _outcome(request: Request, seconds: float, error: BaseException | None, done: Future[Any]) -> Outcome:
    if error is not None:
        return Outcome(request.scenario, seconds, None, error)
    answer = done.result()
    return Outcome(request.scenario, seconds, answer, wrong=tuple(request.check(answer)))


def table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row per outcome: ``scenario``, ``seconds``, ``outcome``, ``substituted``, ``told``, ``wrong``."""
    return pd.DataFrame(
        {
            "scenario": [one.scenario for one in outcomes],
            "seconds": [one.seconds for one in outcomes],
            "outcome": pd.Categorical([one.kind for one in outcomes], KINDS),
            "substituted": [", ".join(one.substitutes) for one in outcomes],
            "told": [one.told for one in outcomes],
            "wrong": ["; ".join(one.wrong) for one in outcomes],
        }
    )


@dataclass(frozen=True)
class Fault:
    """A part of the system, and one way in which it breaks."""

    dependency: str
    name: str
    broken: Callable[[], AbstractContextManager[Any]] = field(repr=False)
    """Breaks it within a block, and mends it."""
    requests: Sequence[Request] = field(repr=False)
    """What is asked meanwhile."""


@dataclass(frozen=True)
class Endured:
    """What became of the requests during a fault, and how soon all was well again."""

    fault: Fault
    outcomes: Sequence[Outcome] = field(repr=False)
    recovery_seconds: float
    """From the end of the fault until a request that was hit is answered well; infinite when it never is."""

    def count(self, kind: Kind) -> int:
        """Requests of this outcome."""
        return sum(one.kind == kind for one in self.outcomes)


def under(fault: Fault, at_once: int, limit: float | None = None) -> Endured:
    """Break a part, ask meanwhile, mend it, and wait until the system answers as before.

    Args:
        fault: what to break, and what to ask.
        at_once: requests at the same time.
        limit: longest wait for recovery, seconds; twice its target by default.
    """
    with fault.broken():
        outcomes = run(fault.requests, at_once, f"{fault.dependency}: {fault.name}")
        mended = time.perf_counter()  # what it takes to mend it belongs to the recovery
    hit = [request for request, one in zip(fault.requests, outcomes, strict=True) if one.kind != "whole"]
    limit = limit or 2 * settings.thresholds.recovery_seconds
    again = (hit or list(fault.requests))[:1]
    while not run(again, 1)[0].well:
        if time.perf_counter() - mended > limit:
            return Endured(fault, outcomes, math.inf)
        time.sleep(POLL_SECONDS)
    return Endured(fault, outcomes, time.perf_counter() - mended)


def fault_table(endured: Sequence[Endured]) -> pd.DataFrame:
    """One row per fault.

    Columns: ``dependency``, ``fault``, ``requests``, ``answered`` (whole or degraded, and right), ``degraded``,
    ``wrong``, ``refused``, ``unhandled``, ``substituted`` (parts), ``told`` (first sentence), ``median_seconds`` of an
    answer meanwhile, ``recovery_seconds``.
    """
    rows = []
    for one in endured:
        parts = dict.fromkeys(part for outcome in one.outcomes for part in outcome.substitutes)
        told = [outcome.told for outcome in one.outcomes if outcome.told]
        rows.append(
            {
                "dependency": one.fault.dependency,
                "fault": one.fault.name,
                "requests": len(one.outcomes),
                "answered": one.count("whole") + one.count("degraded"),
                "degraded": one.count("degraded"),
                "wrong": one.count("wrong"),
                "refused": one.count("refused"),
                "unhandled": one.count("unhandled"),
                "substituted": ", ".join(parts),
                "told": told[0] if told else "",
                "median_seconds": pd.Series([outcome.seconds for outcome in one.outcomes]).median(),
                "recovery_seconds": one.recovery_seconds,
            }
        )
    return pd.DataFrame(rows)
