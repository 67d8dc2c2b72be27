"""Lineage: from the data to the running endpoint, and back, as a graph.

    graph = trace([package], {"production": deployment_url})
    origins(graph, "production")            # everything that the running endpoint was made from
    affected(graph, data_node(package))     # everything that wrong data would reach

What a package was made from stands in its signed package.json. Which package an endpoint runs is asked of the
endpoint itself: the protocol's answers name the version that made them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import httpx
import matplotlib.pyplot as plt
import networkx as nx  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from workshop_lib.mlops.packages import Package
from workshop_lib.plots import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY
from workshop_lib.serving.forecaster_client import NAME, http_options, v2_body

KINDS = {
    "data": GREY, "code": GREY, "environment": GREY, "training days": SKY, "training run": ORANGE,
    "registered version": PINK, "package": BLUE, "endpoint": GREEN,
}  # fmt: skip
"""What a node can be, from the first cause on, and its colour."""
_COLUMNS = {
    "data": 0, "training days": 1, "training run": 2, "registered version": 3, "code": 3, "environment": 3,
    "package": 4, "endpoint": 5,
}  # fmt: skip
_SHORT = 8
"""Digits of a checksum that are enough to tell two apart."""


def data_node(package: Package) -> str:
    """How the graph calls the data that a package's model was trained on."""
    return f"data {package.about['data_fingerprint'][:_SHORT]}"


def trace(packages: Iterable[Package], endpoints: Mapping[str, str] = {}) -> nx.DiGraph:
    """The graph of some packages and the endpoints that may run them.

    Args:
        packages: of one registered model.
        endpoints: running forecasters: what to call them, and their base addresses.

    Returns:
        A node per thing with its ``kind`` (see :data:`KINDS`); edges lead from what was used to what was made. An
        endpoint that runs none of the packages has no edge, so that its origin is visibly unknown.

    Raises:
        httpx.HTTPError: when an endpoint does not answer.
    """
    graph = nx.DiGraph()
    built = {}
    for package in packages:
        about = package.about
        days = "{} to {}".format(*about["training_period"])
        run = f"run {about['run_id'][:_SHORT]}"
        version = f"{package.name} {about['registry_version']}"
        built[about["registry_version"]] = str(package)
        kinds = {
            data_node(package): "data",
            days: "training days",
            run: "training run",
            version: "registered version",
            f"code {about['code_commit'][:_SHORT]}": "code",
            f"lock {about['environment_sha256'][:_SHORT]}": "environment",
            str(package): "package",
        }
        for node, kind in kinds.items():
            graph.add_node(node, kind=kind)
            if kind in ("code", "environment"):
                graph.add_edge(node, str(package))
        nx.add_path(graph, [data_node(package), days, run, version, str(package)])
    for name, url in endpoints.items():
        graph.add_node(name, kind="endpoint")
        answered = running_version(url)
        if answered in built:
            graph.add_edge(built[answered], name)
    return graph


def running_version(url: str) -> str:
    """Number in the registry of the version that answers at a forecaster's base address.

    Raises:
        httpx.HTTPError: when it does not answer.
    """
    with httpx.Client(base_url=f"{url}/v2/models", **http_options()) as client:
        width = client.get(f"/{NAME}").raise_for_status().json()["inputs"][0]["shape"][1]
        answer = client.post(f"/{NAME}/infer", json=v2_body(np.ones((1, width)))).raise_for_status().json()
    return str(answer["model_version"])


def origins(graph: nx.DiGraph, node: str) -> pd.DataFrame:
    """Everything that a node was made from, the first cause first: columns ``kind`` and ``node``."""
    return _listed(graph, nx.ancestors(graph, node))


def affected(graph: nx.DiGraph, node: str) -> pd.DataFrame:
    """Everything that was made from a node, the nearest first: columns ``kind`` and ``node``."""
    return _listed(graph, nx.descendants(graph, node))


def _listed(graph: nx.DiGraph, nodes: set[str]) -> pd.DataFrame:
    listed = [(kind, node) for kind in KINDS for node in graph if node in nodes and graph.nodes[node]["kind"] == kind]
    return pd.DataFrame(listed, columns=["kind", "node"])


def draw(graph: nx.DiGraph, highlight: str | None = None) -> Figure:
    """The graph from left to right, in the colours of :data:`KINDS`.

    Args:
        graph: from :func:`trace`.
        highlight: a node whose origins and what it affects stay in colour; all else fades.
    """
    places = _places(graph)
    near = {highlight, *nx.ancestors(graph, highlight), *nx.descendants(graph, highlight)} if highlight else set(graph)
    fig, axis = plt.subplots(figsize=(12, 0.4 + 0.8 * _rows(places)))
    boxes = {}
    for node, (x, y) in places.items():
        kind, shown = graph.nodes[node]["kind"], 1 if node in near else 0.35
        box = {"boxstyle": "round,pad=0.45", "facecolor": "white", "edgecolor": KINDS[kind], "linewidth": 2}
        label = _broken(node) if node.startswith(kind) else f"{kind}\n{_broken(node)}"
        text = axis.text(x, y, label, ha="center", va="center", fontsize=8, bbox=box | {"alpha": shown}, alpha=shown)
        boxes[node] = text.get_bbox_patch()
    for start, end in graph.edges:
        inside = near.issuperset((start, end))
        arrow: dict[str, Any] = {
            "arrowstyle": "-|>",
            "patchA": boxes[start],
            "patchB": boxes[end],
            "shrinkA": 1,
            "shrinkB": 1,
        }
        arrow |= {"color": RED if highlight and inside else GREY, "alpha": 1 if inside else 0.35}
        axis.annotate("", places[end], places[start], arrowprops=arrow)
    axis.set(xlim=(-0.6, max(_COLUMNS.values()) + 0.6), ylim=(-_rows(places) / 2, _rows(places) / 2))
    axis.axis("off")
    return fig


def _places(graph: nx.DiGraph) -> dict[str, tuple[float, float]]:
    """Columns by kind; within one the nodes lie one below the other, by kind and in the order they were added."""
    columns: dict[int, list[str]] = {}
    for kind in reversed(KINDS):
        for node in (node for node in graph if graph.nodes[node]["kind"] == kind):
            columns.setdefault(_COLUMNS[kind], []).append(node)
    return {
        node: (column, (len(nodes) - 1) / 2 - row)
        for column, nodes in columns.items()
        for row, node in enumerate(nodes)
    }


def _rows(places: Mapping[str, tuple[float, float]]) -> int:
    """Most nodes in one column."""
    columns = [x for x, _ in places.values()]
    return max(columns.count(x) for x in columns)


def _broken(text: str) -> str:
    """A name in two lines, cut at the space nearest to its middle."""
    if len(text) < 16 or " " not in text:
        return text
    spaces = [place for place, letter in enumerate(text) if letter == " "]
    cut = min(spaces, key=lambda place: abs(place - len(text) / 2))
    return f"{text[:cut]}\n{text[cut + 1 :]}"
