"""A load generator for streaming answers: what users wait for, and what the server gets done.

    workload = Workload(tokens=32)
    runs = [closed_loop(llm, workload, concurrency, requests=16) for concurrency in (1, 4, 16)]
    table(runs)

A *closed loop* keeps a fixed number of requests under way: who gets an answer asks the next question. An *open
loop* lets requests arrive at a rate, however slow the server is, as a crowd of strangers does; waiting is counted
from the moment a request was due, so that a stalled server cannot hide it (Tene 2013, coordinated omission).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workshop_lib.generative.client import LLM
from workshop_lib.settings import settings

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Workload:
    """What is asked: prompts of one length, answers of exactly ``tokens`` tokens."""

    tokens: int = 32
    system: str = ""
    """A message before every prompt, the same for all."""
    share_prefix: bool = True
    """Whether requests may reuse each other's prefix cache (vLLM's ``cache_salt`` keeps them apart)."""

    def body(self, model: str, number: int) -> dict[str, Any]:
        """The request with this number, as the API takes it."""
        # The number stands first: no two prompts have a beginning in common that the cache could serve.
        prompt = f"{number:05d}: tell me what a supermarket should put on its shelves in spring, and why."
        system = [{"role": "system", "content": self.system}] if self.system else []
        salt = {} if self.share_prefix else {"cache_salt": f"{time.time_ns()}-{number}"}
        return {
            "model": model,
            "messages": [*system, {"role": "user", "content": prompt}],
            "max_tokens": self.tokens,
            "min_tokens": self.tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        } | salt


@dataclass
class Record:
    """One request; all times in seconds since the run began."""

    due: float
    """When it should have been sent."""
    arrivals: list[float] = field(default_factory=list)
    """When pieces of the answer came."""
    end: float = float("nan")
    tokens: int = 0
    error: str = ""
    """What went wrong; such a request counts for nothing else."""

    @property
    def first_token(self) -> float:
        """Seconds from when it was due to the first piece of the answer."""
        return self.arrivals[0] - self.due

    @property
    def latency(self) -> float:
        """Seconds from when it was due to the end of the answer."""
        return self.end - self.due


@dataclass(frozen=True)
class Run:
    """All requests of one load."""

    label: str
    load: float
    """Requests at once (closed loop) or per second (open loop)."""
    records: Sequence[Record]
    seconds: float
    """From the first request to the last end."""

    @property
    def answered(self) -> list[Record]:
        """The requests that got their whole answer."""
        return [record for record in self.records if not record.error]

    @property
    def errors(self) -> Counter[str]:
        """How often each error occurred."""
        return Counter(record.error for record in self.records if record.error)

    @property
    def inter_token(self) -> list[float]:
        """Seconds between one piece of an answer and the next, of all answers."""
        return [gap for record in self.answered for gap in np.diff(record.arrivals)]

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens of all answers over the time of the run."""
        return sum(record.tokens for record in self.answered) / self.seconds

    def summary(self) -> dict[str, float]:
        """Throughput, and percentiles of what users wait for (NaN when nothing was answered)."""
        waits = {
            "first token ms": [1000 * record.first_token for record in self.answered],
            "between tokens ms": [1000 * gap for gap in self.inter_token],
            "answer s": [record.latency for record in self.answered],
        }
        return {
            "requests": len(self.records),
            "errors": self.errors.total(),
            "requests/s": len(self.answered) / self.seconds,
            "tokens/s": self.tokens_per_second,
        } | {f"{name} P{p}": percentile(values, p) for name, values in waits.items() for p in PERCENTILES}


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` percent of the values do not exceed, linearly interpolated; NaN of none."""
    return float(np.percentile(values, share)) if len(values) else float("nan")


def table(runs: Sequence[Run]) -> pd.DataFrame:
    """A row per run, indexed by its label."""
    return pd.DataFrame([run.summary() for run in runs], index=[run.label for run in runs])


def warm_up(llm: LLM, workload: Workload, concurrency: int = 4) -> None:
    """Let the server and the connection do everything once, so that the first measured request is like the others."""
    closed_loop(llm, workload, concurrency, concurrency)


def closed_loop(llm: LLM, workload: Workload, concurrency: int, requests: int) -> Run:
    """Keep ``concurrency`` requests under way until ``requests`` were sent.

    Errors do not stop the load; they are counted by kind in :attr:`Run.errors`.
    """

    async def load(ask: _Asker) -> None:
        numbers = iter(range(requests))

        async def worker() -> None:
            for number in numbers:  # all workers take from the same numbers
                await ask(number, ask.now())

        await asyncio.gather(*(worker() for _ in range(concurrency)))

    return _measure(llm, workload, f"{concurrency} at once", concurrency, requests, load)


def open_loop(llm: LLM, workload: Workload, rate: float, requests: int, seed: int = settings.seed) -> Run:
    """Send ``requests`` at ``rate`` per second on average, without waiting for answers.

    The times between them are drawn from an exponential distribution (a Poisson process).
    """

    async def load(ask: _Asker) -> None:
        async def at(number: int, due: float) -> None:
            await asyncio.sleep(due - ask.now())
            await ask(number, due)

        await asyncio.gather(*(at(number, due) for number, due in enumerate(schedule(rate, requests, seed))))

    return _measure(llm, workload, f"{rate:.1f} per second", rate, requests, load)


def schedule(rate: float, requests: int, seed: int) -> list[float]:
    """When the requests of an open loop are due, seconds; the first at 0.

    Raises:
        ValueError: for a rate that is not above 0.
    """
    if rate <= 0:
        raise ValueError(f"The rate is requests per second and must be above 0, got {rate}.")
    gaps = np.random.default_rng(seed).exponential(1 / rate, requests - 1)
    return [0.0, *np.cumsum(gaps).tolist()]


def compare_with_server(run: Run, before: Mapping[str, float], after: Mapping[str, float]) -> pd.DataFrame:
    """Put the client's figures beside what the server counted during the run.

    Means are compared, because the server keeps exact sums but only coarse histograms. The client's times hold the
    way through the network in addition.

    Args:
        run: a closed loop; nothing else may use the server meanwhile.
        before: :func:`workshop_lib.generative.server_metrics.read_metrics` before the run.
        after: the same after it.

    Returns:
        Columns ``client``, ``server`` and ``gap`` (relative difference); times in milliseconds.
    """

    def grown(name: str) -> float:
        return after[name] - before[name]

    def mean(name: str) -> float:
        return 1000 * grown(f"{name}_sum") / grown(f"{name}_count")

    rows = {
        "generated tokens": (sum(r.tokens for r in run.answered), grown("vllm:generation_tokens_total")),
        "first token": (
            1000 * np.mean([r.first_token for r in run.answered]),
            mean("vllm:time_to_first_token_seconds"),
        ),
        "between tokens": (1000 * np.mean(run.inter_token), mean("vllm:inter_token_latency_seconds")),
        "whole answer": (1000 * np.mean([r.latency for r in run.answered]), mean("vllm:e2e_request_latency_seconds")),
    }
    found = pd.DataFrame.from_dict(rows, orient="index", columns=["client", "server"])
    return found.assign(gap=(found["client"] / found["server"] - 1).abs())


class _Asker:
    """Sends the requests of one run and keeps their records."""

    def __init__(self, llm: LLM, workload: Workload, http: httpx.AsyncClient, bar: tqdm) -> None:
        self.records: list[Record] = []
        self._llm, self._workload, self._http, self._bar = llm, workload, http, bar
        self._begun = time.perf_counter()

    def now(self) -> float:
        return time.perf_counter() - self._begun

    async def __call__(self, number: int, due: float) -> None:
        record = Record(due)
        self.records.append(record)
        try:
            await self._stream(self._workload.body(self._llm.model, number), record)
            if record.tokens != self._workload.tokens:
                record.error = "incomplete answer"
        except httpx.HTTPStatusError as error:
            record.error = f"status {error.response.status_code}"
        except httpx.HTTPError as error:
            record.error = type(error).__name__
        self._bar.update()

    async def _stream(self, body: dict[str, Any], record: Record) -> None:
        # Lines of the event stream are read as they are: building a client library's objects for every token
        # would take time from a server that runs on the same two cores.
        async with self._http.stream("POST", f"{self._llm.url}/chat/completions", json=body) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    self._take(json.loads(line[6:]), record)
        record.end = self.now()

    def _take(self, chunk: dict[str, Any], record: Record) -> None:
        if any(choice["delta"].get("content") for choice in chunk["choices"]):
            record.arrivals.append(self.now())
        if usage := chunk.get("usage"):
            record.tokens = usage["completion_tokens"]


def _measure(llm: LLM, workload: Workload, label: str, load: float, requests: int, send: Any) -> Run:
    async def run() -> Run:
        key = {"Authorization": f"Bearer {llm.openai.api_key}"}
        limits = httpx.Limits(max_connections=None)  # an open loop may have any number under way
        with tqdm(total=requests, desc=label, leave=False, disable=not settings.progress) as bar:
            async with httpx.AsyncClient(
                headers=key, timeout=settings.llm_timeout, limits=limits, verify=llm.trust
            ) as http:
                ask = _Asker(llm, workload, http, bar)
                await send(ask)
                return Run(label, load, ask.records, ask.now())

    return _in_a_thread(run())


def _in_a_thread(work: Coroutine[Any, Any, Run]) -> Run:
    """Run a coroutine to its end, also from a notebook, whose own event loop is running."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def lanes(run: Run) -> Iterator[tuple[int, Record]]:
    """Give every answer of a run a row for a timeline: the lowest one that is free when it is due."""
    free_from: list[float] = []
    for record in sorted(run.answered, key=lambda record: record.due):
        for lane in itertools.count():
            if lane == len(free_from):
                free_from.append(0.0)
            if free_from[lane] <= record.due:
                free_from[lane] = record.end
                yield lane, record
                break
