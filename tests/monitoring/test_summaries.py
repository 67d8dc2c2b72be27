"""The summaries say what Prometheus knows, mark what misses its limit, and go out by e-mail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.monitoring.prometheus_tools import skip_without
from workshop_lib.monitoring.config import load_config
from workshop_lib.monitoring.inbox import Inbox
from workshop_lib.monitoring.prometheus import LocalPrometheus, Target, start_prometheus
from workshop_lib.monitoring.summaries import Figure, Summary, figures, main, summarise

RULES = {
    "groups": [{"name": "g", "rules": [{"alert": "Broken", "expr": "service_up == 0",
                                        "labels": {"severity": "critical"}}]}]
}  # fmt: skip


def _page(number: int) -> str:
    """What a shop would tell at its n-th fetch: one request in ten fails, DELI's forecasts are a quarter off."""
    return f"""
api_requests_total{{path="/forecast",method="POST",status="200"}} {90 * number}
api_requests_total{{path="/forecast",method="POST",status="503"}} {10 * number}
api_requests_total{{path="/metrics",method="GET",status="500"}} {1000 * number}
forecast_actual_units_total{{department="GROCERY"}} {1000 * number}
forecast_actual_units_total{{department="DELI"}} {100 * number}
forecast_absolute_error_units_total{{department="GROCERY"}} {100 * number}
forecast_absolute_error_units_total{{department="DELI"}} {25 * number}
recommendations_total{{list="new",event="shown"}} {100 * number}
recommendations_total{{list="new",event="clicked"}} {number}
service_up{{service="llm"}} 0
service_up{{service="cache"}} 1
slo_error_budget_remaining_ratio{{service="cache"}} 0.75
"""


@pytest.fixture(scope="module")
def prometheus() -> Iterator[LocalPrometheus]:
    skip_without("prometheus")
    numbers = count()

    class Shop(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = _page(next(numbers)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with start_prometheus("summary", [Target("shop", f"127.0.0.1:{server.server_port}")], RULES) as started:
        started.wait_for('count_over_time(ALERTS{alertstate="firing"}[1m:1s]) > 8')  # so that it is minutes
        yield started
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def summary(prometheus: LocalPrometheus) -> Summary:
    return summarise(prometheus, "daily", step="1s")


def test_figures_stand_beside_their_limits(summary: Summary) -> None:
    found = summary.figures.set_index("figure")
    assert found.loc["accuracy", ["value", "before", "limit"]].tolist() == ["88.6%", "no data", "at least 80.0%"]
    assert found.loc["suggestions that are clicked", "value"] == "1.0%"
    assert found.loc["requests answered without a fault", "value"] == "90.000%"  # the page of metrics does not count
    assert found.loc["tokens written", "value"] == "no data" and found.loc["tokens written", "limit"] == ""


def test_what_misses_its_limit_is_marked(summary: Summary) -> None:
    missed = summary.figures.loc[summary.figures["missed"], "figure"].tolist()
    assert missed == ["suggestions that are clicked", "requests answered without a fault"]
    assert summary.title.endswith(": 2 limits missed")
    assert summary.html().count('class="missed"') == 2


def test_limits_are_lowest_or_highest_values() -> None:
    lowest, highest = Figure("s", "l", "x", at_least=2), Figure("s", "l", "x", at_most=2)
    assert [lowest.missed(value) for value in (1, 2, 3, float("nan"))] == [True, False, False, False]
    assert [highest.missed(value) for value in (1, 2, 3, float("nan"))] == [False, False, True, False]
    assert (lowest.limit, highest.limit, Figure("s", "l", "x").limit) == ("at least 2", "at most 2", "")


def test_the_worst_departments_come_first(summary: Summary) -> None:
    assert summary.departments.values.tolist() == [["DELI", "75.0%"], ["GROCERY", "90.0%"]]


def test_services_and_their_budgets_are_one_table(summary: Summary) -> None:
    assert summary.services.values.tolist() == [["cache", "100.000%", "75.0%"], ["llm", "0.000%", "no data"]]


def test_alerts_come_with_the_time_that_they_lasted(summary: Summary) -> None:
    (alert,) = summary.alerts.to_dict("records")
    assert (alert["alert"], alert["service"], alert["severity"]) == ("Broken", "llm", "critical")
    assert 0 < float(alert["minutes"]) < 2


def test_a_week_is_a_week(prometheus: LocalPrometheus) -> None:
    week = summarise(prometheus, "weekly", end=datetime.now(UTC))
    assert week.figures.set_index("figure").loc["accuracy", "value"] == "88.6%"
    assert " to " in week.title
    with pytest.raises(KeyError):
        summarise(prometheus, "yearly")


def test_nothing_known_is_no_error_and_no_miss(prometheus: LocalPrometheus) -> None:
    before = summarise(prometheus, "daily", end=datetime(2020, 1, 1, tzinfo=UTC))
    assert set(before.figures["value"]) == {"no data"} and not before.figures["missed"].any()
    assert "none" in before.text() and ": no limits missed" in before.title and "<td>none</td>" in before.html()


def test_the_page_shows_markup_in_names_as_text(summary: Summary) -> None:
    changed = summary.departments.assign(department="<script>")
    page = Summary(**(vars(summary) | {"departments": changed})).html()
    assert "&lt;script&gt;" in page and "<script>" not in page


def test_the_command_writes_prints_and_sends(
    prometheus: LocalPrometheus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["daily", "--prometheus", prometheus.url]
    assert main(where) == 0
    assert "requests answered without a fault" in capsys.readouterr().out
    assert main([*where, "--html", str(tmp_path / "day.html")]) == 0
    assert (tmp_path / "day.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    with Inbox() as inbox:
        assert main([*where, "--send", inbox.smarthost, "--to", "a@shop.example,b@shop.example"]) == 0
        mail = inbox.wait_for(lambda one: one.channel == "mail")
    assert mail.body["To"] == "a@shop.example, b@shop.example" and "limits missed" in mail.title
    assert "DELI" in mail.text


def test_what_does_not_answer_is_said(capsys: pytest.CaptureFixture[str], prometheus: LocalPrometheus) -> None:
    assert main(["daily", "--prometheus", "http://127.0.0.1:1"]) == 1
    assert "does not answer" in capsys.readouterr().err
    assert main(["daily", "--prometheus", prometheus.url, "--send", "127.0.0.1:1", "--to", "a@x"]) == 1
    assert "The mail server 127.0.0.1:1 did not take the summary" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["daily", "--send", "127.0.0.1:1"])


def test_limits_come_from_the_configuration(use_settings: Callable[..., Any]) -> None:
    config = load_config()
    stricter = config.model_copy(update={"business": config.business.model_copy(update={"rating": 4.9})})
    limits = {figure.label: figure.limit for figure in figures(stricter)}
    assert limits["rating of texts, 1 to 5"] == "at least 4.90"
