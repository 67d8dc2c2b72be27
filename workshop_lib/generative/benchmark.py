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
import contextlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workshop_lib.generative.client import LLM, LLMError, LLMRefused
from workshop_lib.settings import settings

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Workload:
    """What is asked: the same prompts of one length in every run, answers of exactly ``tokens`` tokens."""

    tokens: int = 32
    system: str = ""
    """A message before every prompt, the same for all."""
    share_prefix: bool = False
    """Whether a request may use what the server keeps of earlier prompts; without it each one has a secret of its own
    (vLLM's ``cache_salt``), so that a run does not profit from the runs before it."""

    def body(self, model: str, number: int) -> dict[str, Any]:
        """The request with this number, as the API takes it."""
        # The number stands first: what requests of a run may share ends with the system message.
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
    """Generated tokens, as the server counts them."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Tokens of the prompt that the server found in its prefix cache."""
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
    def at_once(self) -> int:
        """The most requests that were under way at the same moment and got their whole answer."""
        return max((lane + 1 for lane, _ in lanes(self)), default=0)

    @property
    def inter_token(self) -> list[float]:
        """Seconds between one piece of an answer and the next, of all answers; nearly always a piece is a token."""
        return [gap for record in self.answered for gap in np.diff(record.arrivals)]

    @property
    def seconds_per_token(self) -> float:
        """Mean time between tokens: from first to last piece, over the tokens after the first; NaN of none."""
        gaps = sum(record.tokens - 1 for record in self.answered)
        return sum(self.inter_token) / gaps if gaps else float("nan")

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
    """Let the server do everything once, so that the first measured request is like the others.

    Raises:
        LLMUnavailable: when the server cannot be reached.
        LLMError: when it refuses the requests; a load of nothing but errors measures nothing.
    """
    if errors := closed_loop(llm, workload, concurrency, concurrency).errors:
        kinds = ", ".join(f"{count} × {error}" for error, count in errors.items())
        raise LLMError(f"The requests of the warm-up to {llm.url} failed: {kinds}. Try llm.chat(...) for the reason.")


def closed_loop(llm: LLM, workload: Workload, concurrency: int, requests: int) -> Run:
    """Keep ``concurrency`` requests under way until ``requests`` were sent.

    Errors do not stop the load; they are counted by kind in :attr:`Run.errors`. An answer that takes longer than
    ``WORKSHOP_LLM_TIMEOUT`` is one of them.

    Raises:
        LLMUnavailable: when the server cannot be reached before the first request.
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

    The times between them are drawn from an exponential distribution (a Poisson process). Errors as in
    :func:`closed_loop`.

    Raises:
        LLMUnavailable: when the server cannot be reached before the first request.
        ValueError: for a rate that is not above 0.
    """

    async def load(ask: _Asker) -> None:
        async def at(number: int, due: float) -> None:
            await asyncio.sleep(due - ask.now())
            await ask(number, due)  # counted from when it was due, even if this process was late to send it

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

    Means are compared, because the server keeps exact sums but only coarse histograms. The two do not measure quite
    the same: the server's clock for a request starts when it begins to prepare the prompt and stops when a token is
    made; the client's holds the connection, the network and the text that is made of tokens as well. Times between
    tokens hold none of that, except where the server gets too busy to send.

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
        "between tokens": (1000 * run.seconds_per_token, mean("vllm:inter_token_latency_seconds")),
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
            async with asyncio.timeout(settings.llm_timeout):
                await self._stream(self._workload.body(self._llm.model, number), record)
            if not record.error and (record.tokens != self._workload.tokens or not record.arrivals):
                record.error = "incomplete answer"
        except httpx.HTTPStatusError as error:
            record.error = f"status {error.response.status_code}"
        except httpx.HTTPError as error:
            record.error = type(error).__name__
        except TimeoutError:
            record.error = "no answer in time"
        except json.JSONDecodeError:
            record.error = "unreadable answer"
        self._bar.update()

    async def _stream(self, body: dict[str, Any], record: Record) -> None:
        # Lines of the event stream are read as they are: a client library builds objects for every token, which
        # takes twice the time, and on a laptop the server needs those cores.
        async with self._http.stream("POST", f"{self._llm.url}/chat/completions", json=body) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    self._take(json.loads(line[6:]), record)
        record.end = self.now()

    def _take(self, chunk: dict[str, Any], record: Record) -> None:
        if "error" in chunk:  # the status was sent before the server got into trouble
            record.error = "error within the answer"
        if any(choice["delta"].get("content") for choice in chunk.get("choices", [])):
            record.arrivals.append(self.now())
        if usage := chunk.get("usage"):
            record.tokens, record.prompt_tokens = usage["completion_tokens"], usage["prompt_tokens"]
            record.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0


def _measure(
    llm: LLM,
    workload: Workload,
    label: str,
    load: float,
    requests: int,
    send: Callable[[_Asker], Coroutine[Any, Any, None]],
) -> Run:
    with contextlib.suppress(LLMRefused):  # refusals are counted with the load; without a server there is none
        llm.models()

    async def run(bar: tqdm) -> Run:
        key = {"Authorization": f"Bearer {llm.openai.api_key}"}
        limits = httpx.Limits(max_connections=None)  # an open loop may have any number under way
        async with httpx.AsyncClient(headers=key, timeout=None, limits=limits, verify=llm.trust) as http:
            ask = _Asker(llm, workload, http, bar)
            await send(ask)
            return Run(label, load, ask.records, ask.now())

    with tqdm(total=requests, desc=label, leave=False, disable=not settings.progress) as bar:
        return _in_a_thread(run(bar))


def _in_a_thread(work: Coroutine[Any, Any, Run]) -> Run:
    """Run a coroutine to its end, also from a notebook, whose own event loop is running.

    An interruption (the stop button) ends the coroutine as well.
    """
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Run]]] = Future()

    async def supervised() -> Run:
        task = asyncio.ensure_future(work)
        started.set_result((asyncio.get_running_loop(), task))
        return await task

    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(asyncio.run, supervised())
        try:
            return run.result()
        except KeyboardInterrupt:
            loop, task = started.result()
            with contextlib.suppress(RuntimeError):  # the loop is closed: it ended at the same moment
                loop.call_soon_threadsafe(task.cancel)
            raise


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
