"""The graph leads from the data to the endpoint and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import matplotlib.pyplot as plt
import networkx as nx  # type: ignore[import-untyped]
import pytest

from workshop_lib.mlops import lineage
from workshop_lib.mlops.packages import Package


def _package(version: str, number: str, **about: Any) -> Package:
    facts = {
        "name": "forecaster",
        "version": version,
        "registry_version": number,
        "data_fingerprint": "d" * 64,
        "training_period": ["2017-02-05", f"2017-0{number}-30"],
        "run_id": f"run{number}" * 8,
        "code_commit": "c" * 40,
        "environment_sha256": "e" * 64,
    }
    return Package(Path(version), facts | about)


PACKAGES = [_package("v1.0.0", "1"), _package("v1.1.0", "2")]


class _Forecaster(BaseHTTPRequestHandler):
    """Answers as the second version does."""

    def do_GET(self) -> None:
        assert self.path == "/v2/models/sales-forecaster"
        self._answer({"inputs": [{"shape": [-1, 3]}]})

    def do_POST(self) -> None:
        assert self.path == "/v2/models/sales-forecaster/infer"
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert body["inputs"][0]["shape"] == [1, 3]
        self._answer({"model_version": "2"})

    def _answer(self, content: dict[str, Any]) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Address of a forecaster."""
    server = HTTPServer(("127.0.0.1", 0), _Forecaster)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_from_the_endpoint_to_the_data(url: str) -> None:
    graph = lineage.trace(PACKAGES, {"production": url})
    found = lineage.origins(graph, "production")
    assert list(found["kind"]) == [
        "data", "code", "environment", "training days", "training run", "registered version", "package",
    ]  # fmt: skip
    assert found["node"].iloc[-1] == "forecaster v1.1.0"
    assert "2017-02-05 to 2017-02-30" in set(found["node"]) and "2017-02-05 to 2017-01-30" not in set(found["node"])


def test_from_the_data_to_the_endpoint(url: str) -> None:
    graph = lineage.trace(PACKAGES, {"production": url})
    reached = lineage.affected(graph, lineage.data_node(PACKAGES[0]))
    assert {"forecaster v1.0.0", "forecaster v1.1.0", "production"} <= set(reached["node"])
    assert lineage.affected(graph, "forecaster v1.0.0").empty  # packaged, and running nowhere


def test_an_endpoint_of_unknown_origin_stands_alone(url: str) -> None:
    graph = lineage.trace(PACKAGES[:1], {"production": url})
    assert graph.nodes["production"]["kind"] == "endpoint" and lineage.origins(graph, "production").empty


def test_an_endpoint_that_does_not_answer() -> None:
    with pytest.raises(httpx.HTTPError):
        lineage.trace(PACKAGES, {"production": "http://127.0.0.1:9"})


def test_other_data_is_another_node() -> None:
    other = _package("v1.2.0", "3", data_fingerprint="f" * 64)
    graph = lineage.trace([*PACKAGES, other])
    assert lineage.data_node(other) != lineage.data_node(PACKAGES[0])
    assert set(lineage.affected(graph, lineage.data_node(other))["kind"]) == {
        "training days", "training run", "registered version", "package",
    }  # fmt: skip
    assert nx.is_directed_acyclic_graph(graph)


def test_the_picture_names_every_node(url: str) -> None:
    graph = lineage.trace(PACKAGES, {"production": url})
    for highlight in (None, "production"):
        figure = lineage.draw(graph, highlight)
        texts = " ".join(text.get_text().replace("\n", " ") for text in figure.axes[0].texts)
        assert all(node in texts for node in graph)
        faded = [text for text in figure.axes[0].texts if text.get_text() and text.get_alpha() != 1]
        assert len(faded) == (4 if highlight else 0)  # days, run, version and package of the first
        plt.close(figure)
