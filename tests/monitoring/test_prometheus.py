"""Prometheus and Alertmanager are started, asked, given other rules and stopped; and what is wrong is said."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.monitoring.prometheus_tools import skip_without
from workshop_lib import processes
from workshop_lib.monitoring import prometheus as module
from workshop_lib.monitoring import promql
from workshop_lib.monitoring.prometheus import (
    LocalPrometheus,
    Prometheus,
    PrometheusError,
    Target,
    connect,
    local_targets,
    need_tools,
    start_alertmanager,
    start_prometheus,
)

RULES = {
    "groups": [
        {
            "name": "first",
            "rules": [
                {"record": "job:shelves:sum", "expr": "sum by (job) (shelves)"},
                {"alert": "Empty", "expr": "shelves == 0", "labels": {"severity": "warning"}},
            ],
        }
    ]
}
SILENT = {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}


class _Shop(BaseHTTPRequestHandler):
    """A page of metrics."""

    def do_GET(self) -> None:
        body = b'shelves{kind="eggs"} 3\nshelves{kind="milk"} 0\n'
        self.send_response(200 if self.path == "/figures" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Shop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def prometheus(shop: str) -> Iterator[LocalPrometheus]:
    skip_without("prometheus")
    targets = [Target("shop", shop, "/figures", {"city": "Utrera"}), Target("ghost", "127.0.0.1:1")]
    with start_prometheus("test", targets, RULES) as started:
        started.wait_for('up{job="shop"} == 1')
        started.wait_for("job:shelves:sum")
        yield started


def test_a_query_gives_one_row_per_series(prometheus: LocalPrometheus) -> None:
    found = prometheus.query("sort(shelves)")
    assert found[["kind", "city", "job", "value"]].values.tolist() == [
        ["milk", "Utrera", "shop", 0.0], ["eggs", "Utrera", "shop", 3.0],
    ]  # fmt: skip
    assert prometheus.query("job:shelves:sum")["value"].tolist() == [3.0]
    assert prometheus.query("2 * 3")["value"].tolist() == [6.0]


def test_no_series_are_no_rows(prometheus: LocalPrometheus) -> None:
    assert prometheus.query("nothing").empty and list(prometheus.query("nothing")) == ["value"]
    empty = prometheus.query_range("nothing")
    assert empty.empty and list(empty) == ["time", "value"] and str(empty["time"].dtype) == "datetime64[ns, UTC]"


def test_a_query_may_be_about_another_moment(prometheus: LocalPrometheus) -> None:
    assert prometheus.query("shelves", at=datetime.now(UTC) - timedelta(hours=1)).empty
    assert prometheus.query("time()", at=datetime(2026, 1, 1, tzinfo=UTC))["value"].item() == 1767225600


def test_a_range_has_a_row_per_moment_and_series(prometheus: LocalPrometheus) -> None:
    prometheus.wait_for("count_over_time(job:shelves:sum[10s]) > 2")
    end = datetime.now(UTC)
    found = prometheus.query_range("job:shelves:sum", end - timedelta(seconds=2), end, step=0.5)
    assert found["value"].eq(3).all() and found["time"].is_monotonic_increasing
    assert found["time"].diff().dropna().dt.total_seconds().eq(0.5).all()
    assert len(found) == len(prometheus.query_range("job:shelves:sum", timedelta(seconds=2), end, step=0.5))


def test_alerts_targets_and_rules_are_tables(prometheus: LocalPrometheus) -> None:
    prometheus.wait_for('ALERTS{alertstate="firing"}')
    (alert,) = prometheus.alerts().to_dict("records")
    assert (alert["alertname"], alert["state"], alert["kind"], alert["value"]) == ("Empty", "firing", "milk", 0.0)
    targets = prometheus.targets().set_index("job")
    assert targets["health"].to_dict() == {"ghost": "down", "shop": "up"}
    assert "refused" in targets.loc["ghost", "error"] and targets.loc["shop", "error"] == ""
    assert prometheus.rules()[["name", "type", "health"]].values.tolist() == [
        ["job:shelves:sum", "recording", "ok"], ["Empty", "alerting", "ok"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "words"),
    [("sum(", "parse error"), ('"text"', "its value is a string"), ("shelves[1m]", "its value is a matrix")],
)
def test_a_wrong_question_is_answered_with_why(prometheus: LocalPrometheus, expression: str, words: str) -> None:
    with pytest.raises(PrometheusError, match=words):
        prometheus.query(expression)


def test_waiting_ends(prometheus: LocalPrometheus) -> None:
    with pytest.raises(PrometheusError, match=r"nothing had no value within 0\.2 s"):
        prometheus.wait_for("nothing", 0.2)


def test_it_goes_on_with_other_rules_but_not_with_wrong_ones(prometheus: LocalPrometheus) -> None:
    other = {"groups": [{"name": "second", "rules": [{"record": "a:b", "expr": "vector(7)"}]}]}
    prometheus.reload(rules=other)
    assert prometheus.wait_for("a:b")["value"].item() == 7
    wrong = {"groups": [{"name": "third", "rules": [{"record": "c:d", "expr": "vector("}]}]}
    with pytest.raises(PrometheusError, match=r"keeps its old configuration.*parse error"):
        prometheus.reload(rules=wrong)
    assert prometheus.rules()["group"].unique().tolist() == ["second"]
    assert "second" in (prometheus.folder / "rules.yml").read_text()
    prometheus.reload(rules=RULES)


def test_a_start_ends_what_was_left_and_forgets_its_figures(shop: str, tmp_path: Path) -> None:
    skip_without("prometheus")
    first = start_prometheus("again", [Target("shop", shop, "/figures")])
    with start_prometheus("again", []) as second:
        assert second.query("up").empty
        with pytest.raises(PrometheusError, match="does not answer"):
            first.query("up")
    assert processes.status(second.service).state == "stopped"


def test_rules_that_cannot_be_read_stop_the_start() -> None:
    skip_without("prometheus")
    wrong = {"groups": [{"name": "g", "rules": [{"alert": "A", "expr": "1 >"}]}]}
    with pytest.raises(processes.ServiceError, match=r"prometheus-wrong ended while it started.*rules"):
        start_prometheus("wrong", [], wrong)


def test_alertmanager_starts_shows_alerts_and_keeps_a_good_configuration() -> None:
    skip_without("alertmanager")
    with start_alertmanager("test", SILENT) as alertmanager:
        assert alertmanager.alerts().empty
        alert = {"labels": {"alertname": "Empty", "kind": "milk"}}
        httpx.post(f"{alertmanager.url}/api/v2/alerts", json=[alert]).raise_for_status()
        (found,) = alertmanager.alerts().to_dict("records")
        assert (found["alertname"], found["kind"], found["inhibited"]) == ("Empty", "milk", False)
        with pytest.raises(PrometheusError, match="keeps its old configuration"):
            alertmanager.reload({"route": {}})
        alertmanager.reload(SILENT)


def test_a_missing_program_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PrometheusError, match=r"Not installed: prometheus, amtool\. .*apt install prometheus"):
        need_tools("prometheus", "amtool")
    with pytest.raises(PrometheusError, match="Not installed: prometheus"):
        start_prometheus("none", [])


def test_alertmanager_goes_by_either_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "alertmanager"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module.tools() == {"prometheus": None, "promtool": None, "alertmanager": program, "amtool": None}


def test_services_elsewhere_are_no_local_targets(use_settings: Callable[..., Any]) -> None:
    use_settings(forecaster_endpoint="https://forecaster.example", api_port=28300)
    jobs = {target.job: target.address for target in local_targets()}
    assert "sales-forecaster-metrics" not in jobs and jobs["business-api"] == "127.0.0.1:28300"


def test_a_cluster_is_asked_with_token_and_namespace(
    use_settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PrometheusError, match="WORKSHOP_PROMETHEUS_URL is not set"):
        connect()
    use_settings(prometheus_url="https://thanos.example/", prometheus_token="secret", prometheus_namespace="shop")
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"data": {"resultType": "vector", "result": []}})

    real = httpx.Client
    monkeypatch.setattr(
        promql.httpx, "Client", lambda **options: real(**options, transport=httpx.MockTransport(answer))
    )
    connect().query("up")
    assert asked[0].headers["Authorization"] == "Bearer secret"
    assert dict(asked[0].url.params) == {"namespace": "shop", "query": "up"}
    assert str(asked[0].url).startswith("https://thanos.example/api/v1/query?")


def test_a_pod_shows_the_token_of_its_account(
    use_settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_settings(prometheus_url="https://thanos.example")
    (tmp_path / "token").write_text("from the pod\n")
    monkeypatch.setattr(promql, "SERVICE_ACCOUNT", tmp_path / "token")
    assert connect()._http.headers["Authorization"] == "Bearer from the pod"


def test_what_is_no_prometheus_is_said(shop: str) -> None:
    with pytest.raises(PrometheusError, match=r"refuses the question \(404\)"):
        Prometheus(f"http://{shop}").query("up")
