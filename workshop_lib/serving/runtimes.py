"""Which runtime answers which batch size: measured in process and over HTTP.

``settings.forecaster_openvino_rows`` is the number of rows from which the forecaster's server uses OpenVINO; it is
what :func:`crossover` finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from workshop_lib.predictive import onnx_export
from workshop_lib.serving.load import measure
from workshop_lib.serving.side_by_side import Rival, Scratch, course

BATCHES = (16, 64, 256, 1024)
ONNX_RUNTIME, OPENVINO = "ONNX Runtime", "OpenVINO"
_NEVER = 10**9


def in_process(rows: np.ndarray, batches: Sequence[int] = BATCHES, seconds: float = 0.2) -> pd.DataFrame:
    """Rows per second of the champion's two runtimes without a server.

    Args:
        rows: float32, shape (n, features), n at least the largest batch.
        batches: rows per call.
        seconds: to spend on each.

    Returns:
        A row per batch size and a column per runtime.
    """
    from workshop_lib.predictive.champion import ensure_champion, load_package
    from workshop_lib.serving.forecaster_model import open_package

    ensure_champion()
    loaded = open_package(load_package())
    predictors = {ONNX_RUNTIME: loaded.small, OPENVINO: loaded.large}
    milliseconds = onnx_export.time_predictions(predictors, rows, batches, seconds)
    return _per_second(milliseconds)


def one_runtime_each(forest: Scratch | None = None) -> list[Rival]:
    """Two endpoints: from two rows on, one answers with ONNX Runtime, the other one with OpenVINO.

    With a single row both use ONNX Runtime, so that they can share the work of two equal workers.

    Args:
        forest: what they serve; None for the learner's champion.
    """
    return [_only(forest, ONNX_RUNTIME, openvino_rows=_NEVER), _only(forest, OPENVINO, openvino_rows=2)]


def _only(forest: Scratch | None, runtime: str, openvino_rows: int) -> Rival:
    rival = course(forest, runtime)
    service = rival.service
    variables = {"WORKSHOP_FORECASTER_OPENVINO_ROWS": str(openvino_rows)}
    return replace(rival, service=replace(service, env=service.env | variables))


def over_http(
    servers: Sequence[Rival],
    rows: np.ndarray,
    batches: Sequence[int] = BATCHES,
    seconds: float = 1,
    connections: int = 2,
) -> pd.DataFrame:
    """The same through the protocol: JSON is written and read as well.

    Args:
        servers: that run, as :func:`one_runtime_each` makes them.
        rows: as in :func:`in_process`.
        batches: rows per request.
        seconds: per server and batch size.
        connections: requests under way.

    Returns:
        A row per (batch size, runtime) with ``rows/s``, ``P50 ms``, ``CPU ms/request`` and ``errors``.
    """
    found = {}
    for batch in batches:
        for rival in servers:
            load = measure(
                rival.target(rows[:batch]),
                connections,
                seconds=seconds,
                warm_up=0.2,
                pid=rival.pid,
                label=rival.label,
                engine="own",
            )
            found[batch, rival.label] = {
                "rows/s": batch * load.per_second,
                "P50 ms": load.ms["P50"],
                "CPU ms/request": load.cpu_ms,
                "errors": load.failed,
            }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis(["batch", "runtime"])


def crossover(rows_per_second: pd.DataFrame) -> int | None:
    """The batch size from which OpenVINO is the faster one, at it and at every larger one.

    Args:
        rows_per_second: a row per batch size, columns :data:`ONNX_RUNTIME` and :data:`OPENVINO`.

    Returns:
        One of the sizes that were measured; None when OpenVINO does not win at the largest.
    """
    table = rows_per_second.sort_index(ascending=False)
    wins = (table[OPENVINO] >= table[ONNX_RUNTIME]).cummin()
    return int(wins.index[wins].min()) if wins.any() else None


def _per_second(milliseconds: pd.DataFrame) -> pd.DataFrame:
    return milliseconds.rdiv(1000 * milliseconds.index.to_numpy(), axis=0)
