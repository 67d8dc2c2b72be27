"""What /metrics says, read and computed with as Prometheus does."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from tests.monitoring.prometheus_tools import skip_without
from workshop_lib.monitoring.exposition import grown, parse_metrics, quantile, series_count, share_above
from workshop_lib.monitoring.prometheus import tools

disable_created_metrics()  # as the course's servers do


class Service:
    """Metrics of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.asked = Counter("asked", "Requests", ["path", "status"], registry=self.registry)
        self.busy = Gauge("busy", "Now", registry=self.registry)
        self.seconds = Histogram("seconds", "Time", ["path"], buckets=(0.1, 0.5, 1), registry=self.registry)

    def look(self) -> pd.DataFrame:
        """What it tells now."""
        return parse_metrics(generate_latest(self.registry).decode())


@pytest.fixture
def service() -> Service:
    return Service()


def test_samples_come_with_their_labels(service: Service) -> None:
    service.asked.labels("/forecast", "200").inc(3)
    service.busy.set(-2)
    table = service.look()
    asked = table[table["name"] == "asked_total"]
    assert asked[["metric", "type", "value", "path", "status"]].to_numpy().tolist() == [
        ["asked", "counter", 3, "/forecast", "200"]
    ]
    busy = table[table["name"] == "busy"].iloc[0]
    assert (busy["type"], busy["value"], busy["path"]) == ("gauge", -2, "")


def test_nothing_told_is_an_empty_table() -> None:
    assert parse_metrics("").empty and series_count(parse_metrics("")).empty


def test_another_format_is_refused() -> None:
    with pytest.raises(ValueError):
        parse_metrics("<html>not found</html>")


def test_every_combination_of_labels_is_a_series(service: Service) -> None:
    for path in ("/a", "/b"):
        service.seconds.labels(path).observe(0.2)
        for status in ("200", "422", "500"):
            service.asked.labels(path, status).inc()
    counted = series_count(service.look()).set_index("metric")["series"]
    # Per path of the histogram: three buckets and the one without a limit, the sum and the count.
    assert counted.to_dict() == {"seconds": 12, "asked": 6, "busy": 1}


def test_what_a_counter_grew_by(service: Service) -> None:
    service.asked.labels("/a", "200").inc(5)
    before = service.look()
    service.asked.labels("/a", "200").inc(2)
    service.asked.labels("/b", "200").inc(1)
    service.busy.set(9)
    table = grown(before, service.look())
    total = table[table["name"] == "asked_total"].set_index("path")["value"]
    assert total.to_dict() == {"/a": 2, "/b": 1} and "busy" not in set(table["metric"])


def test_a_restart_is_no_negative_growth(service: Service) -> None:
    service.asked.labels("/a", "200").inc(5)
    before = service.look()
    restarted = Service()
    restarted.asked.labels("/a", "200").inc(2)
    table = grown(before, restarted.look())
    assert table.loc[table["name"] == "asked_total", "value"].tolist() == [2]


def test_a_quantile_lies_on_a_line_within_its_bucket(service: Service) -> None:
    for path, seconds in (("/a", 0.05), ("/a", 0.3), ("/b", 0.3), ("/b", 0.7)):
        service.seconds.labels(path).observe(seconds)
    table = service.look()
    assert quantile(table, "seconds", 0.5) == pytest.approx(0.3)  # one of two within 0.1 to 0.5
    assert quantile(table, "seconds", 0.125) == pytest.approx(0.05)
    assert quantile(table[table["path"] == "/b"], "seconds", 1) == pytest.approx(1)
    service.seconds.labels("/a").observe(100)
    assert quantile(service.look(), "seconds", 1) == 1  # nobody knows how far beyond


def test_quantiles_are_those_of_prometheus(service: Service, tmp_path: Path) -> None:
    """The same buckets, asked with Prometheus' own function."""
    skip_without("promtool")
    for number in range(64):
        service.seconds.labels("/a").observe(number / 50)
    table = service.look()
    buckets = table[table["name"] == "seconds_bucket"]
    series = [
        {"series": f'seconds_bucket{{le="{bound}"}}', "values": f"{value:g}"}
        for bound, value in zip(buckets["le"], buckets["value"], strict=True)
    ]
    for q in (0.25, 0.5, 0.75, 0.99):
        ours = quantile(table, "seconds", q)
        close = f"abs(histogram_quantile({q}, seconds_bucket) - {ours!r}) < bool 1e-9"
        test = {
            "rule_files": [],
            "tests": [{"input_series": series, "promql_expr_test": [
                {"expr": close, "eval_time": "0m", "exp_samples": [{"labels": "{}", "value": 1}]}
            ]}],
        }  # fmt: skip
        file = tmp_path / f"{q}.yaml"
        file.write_text(json.dumps(test))
        done = subprocess.run([str(tools()["promtool"]), "test", "rules", file], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_histogram_that_is_not_there_or_empty(service: Service) -> None:
    with pytest.raises(KeyError, match="There is no histogram 'minutes'"):
        quantile(service.look(), "minutes", 0.5)
    service.seconds.labels("/a")
    assert math.isnan(quantile(service.look(), "seconds", 0.5))


def test_the_share_above_a_limit(service: Service) -> None:
    for seconds in (0.05, 0.3, 0.7, 2):
        service.seconds.labels("/a").observe(seconds)
    assert share_above(service.look(), "seconds", 0.5) == 0.5
    assert share_above(service.look(), "seconds", 1) == 0.25
    with pytest.raises(KeyError, match=r"no bucket up to 0\.2; its limits are \[0\.1, 0\.5, 1"):
        share_above(service.look(), "seconds", 0.2)
