"""How fast the student's variants answer, and the memory that they take.

All variants are measured in turns, a few hundredths of a second each, round after round: when the machine gets slower
for a while, it does so for all of them.

    times = race(variants, rows, batches=(1, 64, 512, 4096))
    milliseconds(times)
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd

from workshop_lib.optimization.quantization import FLOAT, Predictor, Variant
from workshop_lib.progress import track

BATCHES = (1, 64, 512, 4096)
_MIB = 2**20


def race(
    variants: Sequence[Variant],
    rows: np.ndarray,
    batches: Sequence[int] = BATCHES,
    rounds: int = 7,
    seconds: float = 0.03,
    threads: int = 1,
) -> pd.DataFrame:
    """Time all variants at all batch sizes in turns.

    Args:
        variants: what :func:`~workshop_lib.optimization.quantization.build_variants` made.
        rows: float32, shape (n, features), n at least the largest batch.
        batches: rows per call.
        rounds: how often everything is measured; each round begins with another variant.
        seconds: per variant, batch size and round; three calls at least.
        threads: per call. One, unless the machine has nothing else to do: results with more depend on who shares it.

    Returns:
        A row per round, batch and variant: columns ``round``, ``batch``, ``variant`` and ``ms`` (median of a call).

    Raises:
        ValueError: when there are fewer rows than the largest batch.
    """
    if len(rows) < max(batches):
        raise ValueError(f"The largest batch has {max(batches)} rows, {len(rows)} were given.")
    opened = {variant.name: variant.open(threads) for variant in variants}
    for predict in opened.values():
        for batch in batches:
            predict(rows[:batch])  # the first call of a shape allocates
    names, found = list(opened), []
    for number in track(range(rounds), "Timing"):
        first = number % len(names)
        for batch in batches:
            for name in names[first:] + names[:first]:
                ms = _median_ms(opened[name], rows[:batch], seconds)
                found.append({"round": number, "batch": batch, "variant": name, "ms": ms})
    return pd.DataFrame(found)


def milliseconds(times: pd.DataFrame) -> pd.DataFrame:
    """Median over the rounds: a row per variant in the order of the race, a column per batch size."""
    table = times.pivot_table(index="variant", columns="batch", values="ms", aggfunc="median")
    return table.loc[times["variant"].unique()]


def time_saved(times: pd.DataFrame, variants: Sequence[Variant]) -> pd.DataFrame:
    """Share of the time that each variant saves against its own runtime's float32; below zero it is slower.

    Both are taken from the same round, a moment apart; the median over the rounds is given.

    Returns:
        A row per variant that is not float32 itself, a column per batch size.
    """
    wide = times.pivot(index=["round", "batch"], columns="variant", values="ms")
    saved = {v.name: 1 - wide[v.name] / wide[FLOAT[v.runtime]] for v in variants if v.name != FLOAT[v.runtime]}
    return pd.DataFrame(saved).groupby("batch").median().T.rename_axis("variant")


def memory(variants: Sequence[Variant]) -> pd.DataFrame:
    """Memory of a process of its own that imports the runtime, loads the model and answers 512 rows.

    Returns:
        Indexed by variant, MiB: ``runtime`` (Python and the imported runtime) and ``model`` (what came on top).
    """
    found = {}
    for variant in track(variants, "Memory"):
        command = [sys.executable, "-m", "workshop_lib.optimization.loaded_memory", str(variant.file)]
        precision = variant.options.get("INFERENCE_PRECISION_HINT")
        answer = subprocess.run(
            [*command, precision] if precision else command, capture_output=True, text=True, check=True
        )
        before, after = json.loads(answer.stdout)
        found[variant.name] = {"runtime": before / _MIB, "model": (after - before) / _MIB}
    return pd.DataFrame(found).T.rename_axis("variant")


def _median_ms(predict: Predictor, batch: np.ndarray, seconds: float) -> float:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        predict(batch)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))
