"""vLLM's own knobs: each turned by itself, on a server of its own, under three loads.

Every setting needs a start of its own, so the whole sweep takes a quarter of an hour: it is made by a command and its
results are kept. A notebook draws them.

    python -m workshop_lib.optimization.vllm_knobs
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workshop_lib import processes
from workshop_lib.checkpoints import machine
from workshop_lib.files import write_text
from workshop_lib.generative.benchmark import Run, Workload, closed_loop, percentile, warm_up
from workshop_lib.generative.client import LLM, LLMError
from workshop_lib.generative.server_metrics import cache_settings
from workshop_lib.optimization.llm_comparison import connect
from workshop_lib.optimization.llm_int8 import int8_server
from workshop_lib.plots import BLUE, GREY, ORANGE
from workshop_lib.progress import track
from workshop_lib.settings import ROOT, settings

USUAL: Mapping[str, Any] = {
    "max_num_seqs": 16,
    "max_num_batched_tokens": 2048,
    "enable_prefix_caching": True,
    "enable_chunked_prefill": True,
    "gpu_memory_utilization": 0.92,
}
"""The setting that all others differ from in one knob: the course's server, with what vLLM 0.32 takes by default."""
SWEEP: Mapping[str, Sequence[Any]] = {
    "max_num_seqs": (1, 4, 16, 32),
    "max_num_batched_tokens": (256, 1024, 2048, 8192),
    "enable_prefix_caching": (False, True),
    "enable_chunked_prefill": (False, True),
    "gpu_memory_utilization": (0.3, 0.92),
}
KEPT = ROOT / "benchmarks" / "vllm_knobs.json"
"""The sweep that comes with the course."""
STREAMS = 16
_LONG = "You answer for a supermarket. " + "Be short and polite, and name no price that you were not given. " * 60
"""Instructions of about 900 tokens."""


@dataclass(frozen=True)
class Figures:
    """What one setting does under the three loads; times in milliseconds."""

    tokens_per_second: float
    """A crowd of 16 that asks short questions at once."""
    crowd_first_token: float
    """P95 of its wait for the first token."""
    longest_pause: float
    """While three write, others hand in long prompts: P99 of the writers' time between two tokens."""
    long_first_token: float
    """Median wait of those who hand in the long prompts."""
    repeated_first_token: float
    """One after the other with the same long instructions: median wait."""
    cache_tokens: float
    """Tokens for which the server keeps keys and values."""


@dataclass(frozen=True)
class Sweep:
    """Results with where and when they were measured."""

    machine: str
    measured_at: str
    """ISO date and time, UTC."""
    load_average: float
    """Of the machine before the sweep; near 0 when it was left alone."""
    table: pd.DataFrame
    """A row per measurement: ``knob`` and ``value`` (``usual`` for the repeated usual one), and :class:`Figures`."""


def options(**knobs: Any) -> list[str]:
    """Knobs as arguments of vLLM: ``options(max_num_seqs=4)`` is ``["--max-num-seqs", "4"]``.

    Raises:
        ValueError: for a knob that is not among :data:`USUAL`.
    """
    if unknown := knobs.keys() - USUAL.keys():
        raise ValueError(f"{', '.join(sorted(unknown))}: the knobs here are {', '.join(USUAL)}.")
    arguments = []
    for name, value in knobs.items():
        flag = name.replace("_", "-")
        arguments += [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return arguments


@contextmanager
def serving(**knobs: Any) -> Iterator[LLM]:
    """A server of the INT8 model with some knobs turned, for the time of the block.

    Raises:
        ServiceError: when it cannot be started.
        ValueError: for an unknown knob.
    """
    service = int8_server(options(**{**USUAL, **knobs}))
    try:
        yield connect(service)
    finally:
        processes.stop(service)


def measure(llm: LLM, tokens: int = 32) -> Figures:
    """Put the three loads on a server, one after the other.

    Raises:
        LLMError: when a request is not answered.
    """
    warm_up(llm, Workload(tokens=4), 4)
    crowd = _checked(closed_loop(llm, Workload(tokens=tokens), STREAMS, STREAMS))
    writers, readers = _writers_and_readers(llm, tokens)
    repeated = _checked(closed_loop(llm, Workload(tokens=2, system=_LONG, share_prefix=True), 1, 4))
    return Figures(
        tokens_per_second=crowd.tokens_per_second,
        crowd_first_token=crowd.summary()["first token ms P95"],
        longest_pause=1000 * percentile(writers.inter_token, 99),
        long_first_token=readers.summary()["first token ms P50"],
        # The first one reads the instructions; what the cache is good for shows from the second on.
        repeated_first_token=1000 * float(np.median([record.first_token for record in repeated.answered[1:]])),
        cache_tokens=float(cache_settings(llm).get("kv_cache_size_tokens", "nan")),
    )


def _writers_and_readers(llm: LLM, tokens: int) -> tuple[Run, Run]:
    """Three get long answers to short questions; meanwhile long prompts come, one after the other."""
    with ThreadPoolExecutor(2) as pool:
        writers = pool.submit(closed_loop, llm, Workload(tokens=3 * tokens), 3, 3)
        readers = pool.submit(closed_loop, llm, Workload(tokens=2, system=_LONG), 1, 3)
        return _checked(writers.result()), _checked(readers.result())


def _checked(run: Run) -> Run:
    if run.errors:
        raise LLMError(f"Requests failed ({dict(run.errors)}); figures of the others would mislead.")
    return run


def sweep(knobs: Mapping[str, Sequence[Any]] = SWEEP) -> Sweep:
    """Turn every knob by itself. The usual setting is measured at the beginning, in between and at the end.

    How far the repeated measurements of the usual setting lie apart says what a difference of others is worth.
    """
    load = os.getloadavg()[0]
    turns: list[tuple[str, Any, dict[str, Any]]] = [("usual", "usual", {})]
    for knob, values in knobs.items():
        turns += [(knob, value, {knob: value}) for value in values if value != USUAL[knob]]
    turns.insert(len(turns) // 2, ("usual", "usual", {}))
    turns.append(("usual", "usual", {}))
    rows = []
    for knob, value, turned in track(turns, "Settings"):
        with serving(**turned) as llm:
            rows.append({"knob": knob, "value": value} | asdict(measure(llm)))
    return Sweep(machine(), datetime.now(UTC).isoformat(timespec="minutes"), load, pd.DataFrame(rows))


def write(found: Sweep, path: Path) -> None:
    """Keep a sweep as JSON."""
    rows = found.table.to_dict("records")
    content = {**vars(found), "table": [{k: _plain(v) for k, v in row.items()} for row in rows]}
    write_text(path, json.dumps(content, indent=1))


def _plain(value: Any) -> Any:
    return round(value, 2) if isinstance(value, float) else value


def read(path: Path | None = None) -> Sweep:
    """A kept sweep: the learner's own where there is one, else the one that comes with the course.

    Raises:
        FileNotFoundError: when there is none at ``path``.
        ValueError: when the file is not a sweep.
    """
    path = path or (own() if own().is_file() else KEPT)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Sweep(**{**content, "table": pd.DataFrame(content["table"])})
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a sweep ({error}). Delete it and make a new one with the command.") from error


def own() -> Path:
    """Where the command keeps a learner's sweep."""
    return settings.home / "benchmarks" / "vllm_knobs.json"


def by_knob(found: Sweep, knob: str) -> pd.DataFrame:
    """The figures of one knob's values; those of its usual value are the median of all that were measured.

    Returns:
        Columns of :class:`Figures`, a row per value in the order of :data:`SWEEP`.
    """
    figures = [figure.name for figure in fields(Figures)]
    of = found.table.groupby("knob")
    values = {row["value"]: row[figures] for _, row in of.get_group(knob).iterrows()}
    values[USUAL[knob]] = of.get_group("usual")[figures].median()
    return pd.DataFrame(values).T.astype(float).sort_index()


def noise(found: Sweep) -> pd.Series:
    """Largest over smallest value of each figure among the measurements of the usual setting."""
    usual = found.table[found.table["knob"] == "usual"].drop(columns=["knob", "value"])
    return usual.max() / usual.min()


_PANELS = (
    ("max_num_seqs", "tokens_per_second", "A crowd of 16", "tokens per second"),
    ("max_num_seqs", "crowd_first_token", "Wait of that crowd", "first token, ms (P95)"),
    ("max_num_batched_tokens", "longest_pause", "Pauses of writers", "between tokens, ms (P99)"),
    ("max_num_batched_tokens", "long_first_token", "Wait with a long prompt", "first token, ms"),
    ("max_num_batched_tokens", "tokens_per_second", "A crowd of 16", "tokens per second"),
    ("enable_chunked_prefill", "longest_pause", "Pauses of writers", "between tokens, ms (P99)"),
    ("enable_prefix_caching", "repeated_first_token", "Same instructions again", "first token, ms"),
    ("gpu_memory_utilization", "cache_tokens", "Tokens in the cache", "tokens"),
)


def plot(found: Sweep) -> Figure:
    """A panel per knob and the figure that it is turned for; the usual value is orange.

    The grey band is the range of the usual setting's own repeated measurements.
    """
    fig, axes = plt.subplots(2, 4, figsize=(12, 5))
    for axis, (knob, figure, title, unit) in zip(axes.flat, _PANELS, strict=True):
        _panel(axis, found, knob, figure)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(knob, fontsize=8.5)
        axis.set_ylabel(unit, fontsize=8.5)
        axis.tick_params(labelsize=8)
    where = f"measured on {found.measured_at[:10]} by {found.machine}; load before {found.load_average:.1f}"
    fig.suptitle(f"Kept sweep, {where}", x=0.01, ha="left", fontsize=9)
    return fig


def _panel(axis: Axes, found: Sweep, knob: str, figure: str) -> None:
    values = by_knob(found, knob)[figure]
    usual = found.table.loc[found.table["knob"] == "usual", figure]
    axis.axhspan(usual.min(), usual.max(), color=GREY, alpha=0.25, lw=0)
    labels = [("on" if value else "off") if isinstance(value, bool) else str(value) for value in values.index]
    axis.bar(labels, values, color=[ORANGE if value == USUAL[knob] else BLUE for value in values.index], width=0.6)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m workshop_lib.optimization.vllm_knobs", description=main.__doc__)
    parser.add_argument("--output", type=Path, default=own(), help="file for the results (default: %(default)s)")
    parser.add_argument("--knob", choices=SWEEP, action="append", help="only this one; may be given several times")
    chosen = parser.parse_args(arguments)
    found = sweep({knob: SWEEP[knob] for knob in chosen.knob or SWEEP})
    write(found, chosen.output)
    print(found.table.round(1).to_string(index=False))
    print(f"Kept in {chosen.output}")


if __name__ == "__main__":
    main()
