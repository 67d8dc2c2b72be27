"""Two servers of the same language model against each other: speed, memory, and whether they say the same.

servers = {"bfloat16": bf16_server(), "INT8": int8_server()}
found = alternate(servers, measure, rounds=2)
speed(found)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import psutil
from tokenizers import Tokenizer

from workshop_lib import processes
from workshop_lib.generative.benchmark import Run, Workload, closed_loop, warm_up
from workshop_lib.generative.client import LLM, LLMError, local
from workshop_lib.generative.comparison import write_descriptions
from workshop_lib.generative.facts import ProductFacts
from workshop_lib.generative.prompts import Prompt
from workshop_lib.processes import Service

STREAMS = (1, 4, 8)
_FEWEST = 3
T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """One server in one round."""

    runs: list[Run]
    """A closed loop per number of streams."""
    memory_gib: float
    """Memory that would be free again if the server ended."""
    start_seconds: float | None
    """From start to healthy; None when it ran before and that was not seen."""


def alternate(
    servers: Mapping[str, Service], measure: Callable[[Service, LLM], T], rounds: int = 2
) -> dict[tuple[str, int], T]:
    """Measure servers in turns: the first, the second, then the second, the first, and so on.

    They run at the same time, of which one works, as long as memory suffices; otherwise one is stopped before the
    other starts. Afterwards all is as before: those that ran go on running, the others are stopped.

    Args:
        servers: by name.
        measure: is given the server and its model.
        rounds: how often each is measured.

    Returns:
        What ``measure`` returned, by name and number of the round (from 1).

    Raises:
        ServiceError: when a server cannot be started.
    """
    ran = {name for name, service in servers.items() if processes.status(service).state == "healthy"}
    together = fits([service for name, service in servers.items() if name not in ran])
    found: dict[tuple[str, int], T] = {}
    try:
        for number in range(1, rounds + 1):
            order = list(servers) if number % 2 else list(servers)[::-1]
            for name in order:
                if not together:
                    for other in servers.keys() - {name}:
                        processes.stop(servers[other])
                found[name, number] = measure(servers[name], connect(servers[name]))
    finally:
        for name, service in servers.items():
            if name not in ran:
                processes.stop(service)
        for name in ran:
            processes.start_with_progress(servers[name])
    return found


def fits(services: Sequence[Service]) -> bool:
    """Whether there is memory to start all of them beside what runs."""
    return psutil.virtual_memory().available / 2**30 >= sum(service.memory_gib for service in services)


def connect(service: Service) -> LLM:
    """The model behind a server of this room, which is started unless it runs."""
    options = dict(zip(service.command, service.command[1:], strict=False))
    llm = local(service)
    llm.model = options["--served-model-name"]
    return llm


def measure_speed(
    service: Service, llm: LLM, tokens: int = 48, streams: Sequence[int] = STREAMS, requests: int = 2
) -> Measured:
    """Closed loops with several numbers of streams, and the server's memory after them.

    Args:
        service: the server.
        llm: its model.
        tokens: per answer.
        streams: requests at once.
        requests: per stream; three in all at least.

    Raises:
        LLMError: when a request failed: figures of the others would mislead.
    """
    workload = Workload(tokens=tokens)
    warm_up(llm, Workload(tokens=4), max(streams))
    runs = [closed_loop(llm, workload, count, max(_FEWEST, requests * count)) for count in streams]
    if errors := sum((run.errors for run in runs), start=runs[0].errors.__class__()):
        raise LLMError(f"{service.name}: requests failed: {dict(errors)}. Its log is {service.log}.")
    return Measured(runs, memory_gib(service), processes.status(service).start_seconds)


def memory_gib(service: Service) -> float:
    """Unique memory (USS) of a service's process and its children, GiB.

    Raises:
        ServiceError: when it does not run.
    """
    pid = processes.status(service).pid
    if pid is None:
        raise processes.ServiceError(f"{service.name} does not run.")
    process = psutil.Process(pid)
    return sum(p.memory_full_info().uss for p in (process, *process.children(recursive=True))) / 2**30


def speed(found: Mapping[tuple[str, int], Measured]) -> pd.DataFrame:
    """Medians over the rounds.

    Returns:
        Indexed by server and number of streams: ``tokens/s``, ``first token ms`` and ``between tokens ms`` (P50 each),
        and ``lowest`` and ``highest`` tokens/s of a round.
    """
    rows = [
        {
            "server": name,
            "streams": int(run.load),
            "tokens/s": run.tokens_per_second,
            "first token ms": run.summary()["first token ms P50"],
            "between tokens ms": run.summary()["between tokens ms P50"],
        }
        for (name, _), measured in found.items()
        for run in measured.runs
    ]
    groups = pd.DataFrame(rows).groupby(["server", "streams"], sort=False)
    rates = groups["tokens/s"].agg(["min", "max"]).set_axis(["lowest", "highest"], axis=1)
    return groups.median().join(rates)


def speed_up(found: Mapping[tuple[str, int], Measured], faster: str, base: str) -> pd.Series:
    """Tokens per second of one server over the other's, of the same round; median over the rounds, by streams."""
    rates = {
        (name, number, int(run.load)): run.tokens_per_second
        for (name, number), measured in found.items()
        for run in measured.runs
    }
    wide = pd.Series(rates).unstack(0)
    return (wide[faster] / wide[base]).groupby(level=1).median().rename_axis("streams")


def write_texts(llm: LLM, prompt: Prompt, products: Sequence[ProductFacts], server: str) -> pd.DataFrame:
    """Product texts with module 2's measure of quality, one request at a time, so that a run repeats itself.

    Returns:
        What :func:`workshop_lib.generative.comparison.write_descriptions` returns, with ``server`` as its ``prompt``:
        two such tables together are what :func:`workshop_lib.generative.comparison.gain` compares.
    """
    return write_descriptions(llm, [prompt], products, streams=1).assign(prompt=server)


def agreement(one: Sequence[str], other: Sequence[str], checkpoint: Path) -> pd.DataFrame:
    """How far two models write the same text before they part.

    After the first different token the texts go their own ways, so what follows is not compared.

    Args:
        one: texts of the first model.
        other: texts of the second, about the same.
        checkpoint: folder with ``tokenizer.json``.

    Returns:
        A row per pair: ``tokens`` of the first text, ``equal`` ones before the first difference, and their ``share``
        (1 for texts that are the same to the end).
    """
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    rows = []
    for left, right in zip(one, other, strict=True):
        first, second = tokenizer.encode(left).ids, tokenizer.encode(right).ids
        differ = [place for place, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]]
        equal = differ[0] if differ else min(len(first), len(second))
        longer = max(len(first), len(second))
        rows.append({"tokens": len(first), "equal": equal, "share": equal / longer if longer else 1.0})
    return pd.DataFrame(rows)


def same_next_token(llm: LLM, prompt: Prompt, products: Sequence[ProductFacts], texts: Sequence[str]) -> float:
    """Share of the places of given texts at which the model would have gone on with the same token.

    The model reads each text as if it had written it, and tells the rank of every token among its own guesses.
    Other than :func:`agreement`, one difference does not spoil what follows.

    Args:
        llm: the model that is asked.
        prompt: what the texts answer.
        products: what each text is about.
        texts: written greedily by another model.

    Raises:
        LLMError: when the server does not tell.
    """
    ranks: list[int] = []
    for product, text in zip(products, texts, strict=True):
        ranks += _ranks(llm, prompt.render(facts=product.facts), text)
    return float(np.mean(np.array(ranks) == 1))


def _ranks(llm: LLM, conversation: list[dict[str, str]], text: str) -> list[int]:
    """The rank of each token of an answer among the model's guesses at its place; 1 is the one it would write."""
    begins = llm.chat(conversation, max_tokens=1, temperature=0).prompt_tokens
    create: Any = llm.openai.chat.completions.create
    answer = create(
        model=llm.model,
        messages=[*conversation, {"role": "assistant", "content": text}],
        max_tokens=1,
        temperature=0,
        extra_body={"prompt_logprobs": 0, "add_generation_prompt": False, "continue_final_message": True},
    )
    told = (answer.model_extra or {}).get("prompt_logprobs")
    if not told:
        raise LLMError(f"{llm.url} does not tell the probabilities of a prompt (prompt_logprobs).")
    return [next(iter(place.values()))["rank"] for place in told[begins:]]
