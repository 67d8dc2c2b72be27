"""Read what a service tells at ``/metrics``, and compute with it as Prometheus does.

    before = read_metrics(api.url)
    after = read_metrics(api.url)
    grown(before, after)

Prometheus keeps such samples over time and computes with them in its own language; here two looks at the text are
enough to see what it does.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pandas as pd
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_SECONDS = 10


def read_metrics(url: str) -> pd.DataFrame:
    """Fetch ``/metrics`` of a service.

    Raises:
        httpx.HTTPError: when it does not answer.
    """
    return parse_metrics(httpx.get(f"{url}/metrics", timeout=TIMEOUT_SECONDS).raise_for_status().text)


def parse_metrics(text: str) -> pd.DataFrame:
    """The samples in a text of Prometheus' format.

    Returns:
        A row per sample: ``metric`` (without ``_total``), ``type``, ``name``, ``value``, and a column per label,
        empty text where a sample does not have it.

    Raises:
        ValueError: for a text in another format.
    """
    rows = [
        {"metric": family.name, "type": family.type, "name": sample.name, "value": sample.value, **sample.labels}
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    table = pd.DataFrame(rows, columns=None if rows else ["metric", "type", "name", "value"])
    labels = [column for column in table.columns if column not in ("metric", "type", "name", "value")]
    return table.fillna(dict.fromkeys(labels, ""))


def series_count(samples: pd.DataFrame) -> pd.DataFrame:
    """How many series each metric has, most first: ``metric``, ``type``, ``series``. Each costs Prometheus memory."""
    counted = samples.groupby(["metric", "type"]).size().rename("series").reset_index()
    return counted.sort_values(["series", "metric"], ascending=[False, True], ignore_index=True)


def grown(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """By how much counters and histograms grew between two looks: the rows of ``after`` with other values.

    A counter that is smaller than before was reset by a restart; what it shows then came after it, as in Prometheus'
    ``increase``.
    """
    cumulative = after[after["type"].isin(("counter", "histogram", "summary"))].copy()
    known = dict(zip(map(_key, before.to_dict("records")), before["value"], strict=True))
    earlier = np.array([known.get(_key(row), 0.0) for row in cumulative.to_dict("records")])
    now = cumulative["value"].to_numpy(dtype=float)
    return cumulative.assign(value=np.where(now >= earlier, now - earlier, now))


def _key(row: dict[Any, Any]) -> str:
    labels = {name: value for name, value in row.items() if name not in ("metric", "type", "value") and value != ""}
    return json.dumps(labels, sort_keys=True, default=str)


def quantile(samples: pd.DataFrame, metric: str, q: float) -> float:
    """A quantile of a histogram, all its series together.

    The value is found on a straight line within its bucket, as ``histogram_quantile`` does
    (https://prometheus.io/docs/prometheus/2.42/querying/functions/#histogram_quantile): it is only as exact as the
    buckets are narrow. Beyond the last finite bound it is that bound.

    Args:
        samples: of :func:`read_metrics` or :func:`grown`.
        metric: name of the histogram.
        q: between 0 and 1.

    Returns:
        NaN for a histogram without observations.

    Raises:
        KeyError: when there is no histogram of that name.
    """
    cumulative = _buckets(samples, metric)
    bounds, counts = cumulative.index.to_numpy(), cumulative.to_numpy()
    if not counts[-1]:
        return float("nan")
    wanted = q * counts[-1]
    place = int(np.searchsorted(counts, wanted))
    if np.isinf(bounds[place]):
        return float(bounds[place - 1])
    low, below = (bounds[place - 1], counts[place - 1]) if place else (0.0, 0.0)
    inside = counts[place] - below
    return float(low + (bounds[place] - low) * ((wanted - below) / inside if inside else 1.0))


def share_above(samples: pd.DataFrame, metric: str, limit: float) -> float:
    """Share of a histogram's observations above one of its limits; NaN without observations.

    Raises:
        KeyError: when there is no histogram of that name, or no bucket with that limit.
    """
    cumulative = _buckets(samples, metric)
    if limit not in cumulative.index:
        raise KeyError(f"{metric} has no bucket up to {limit:g}; its limits are {cumulative.index[:-1].tolist()}.")
    total = cumulative.iloc[-1]
    return float(1 - cumulative[limit] / total) if total else float("nan")


def _buckets(samples: pd.DataFrame, metric: str) -> pd.Series:
    """Observations up to each limit, all series together, indexed by the limit."""
    buckets = samples[samples["name"] == f"{metric}_bucket"]
    if buckets.empty:
        raise KeyError(f"There is no histogram {metric!r}.")
    return buckets.assign(le=buckets["le"].astype(float)).groupby("le")["value"].sum().sort_index()
