"""What the monitor tells Prometheus: its checks, the error budgets, the memory of this machine, and drift."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from workshop_lib.monitoring.config import MonitoringConfig
from workshop_lib.monitoring.drift_result import DECISIONS, DriftFileError, read_result
from workshop_lib.monitoring.health_checks import Check, Checked
from workshop_lib.orchestration.health import Cause


class Metrics:
    """The monitor's own metrics, apart from those of the process.

    Args:
        checks: services that are watched; their series are there from the beginning, so that a rate sees the first
            failure.
        config: names the features whose drift is told.
    """

    def __init__(self, checks: Iterable[Check], config: MonitoringConfig) -> None:
        self.registry = own = CollectorRegistry()
        self._up = Gauge(
            "service_up",
            "1 for a service that answers rightly, 0 for one that does not; no sample while nobody knows",
            ["service"],
            registry=own,
        )
        self._seconds = Gauge("service_check_seconds", "What the last check took", ["service"], registry=own)
        self._failures = Counter("service_check_failures_total", "Failed checks", ["service", "cause"], registry=own)
        self._budget = Gauge(
            "slo_error_budget_remaining_ratio",
            "Share of the error budget of the objective's window that is left; below 0 when more was used",
            ["service"],
            registry=own,
        )
        self._relevance = Gauge("text_relevance_score", "Facts in the last test text, inventions counted", registry=own)
        self._coherence = Gauge("text_coherence_score", "Form of the last test text: sentences, variety", registry=own)
        self._invented = Counter("text_invented_numbers_total", "Numbers in test texts that nobody gave", registry=own)
        memory = Gauge("host_memory_used_ratio", "Share of this machine's memory that is used", registry=own)
        memory.set_function(lambda: 1 - psutil.virtual_memory().available / psutil.virtual_memory().total)
        own.register(Drift(frozenset(config.forecaster.drift.features)))
        for check in checks:
            for cause in filter(None, get_args(Cause)):
                self._failures.labels(check.service, cause)

    def tell(self, found: Checked, up: bool | None) -> None:
        """Take over the result of a check.

        Args:
            found: the result.
            up: whether the service counts as up now; None while nobody knows.
        """
        self._seconds.labels(found.service).set(found.seconds)
        if up is None:
            self._up.remove(found.service)
        else:
            self._up.labels(found.service).set(up)
        if found.ok is False:
            self._failures.labels(found.service, found.cause).inc()
        if "relevance" in found.figures:
            self._relevance.set(found.figures["relevance"])
            self._coherence.set(found.figures["coherence"])
            self._invented.inc(found.figures["invented_numbers"])

    def tell_budgets(self, remaining: Mapping[str, float]) -> None:
        """Take over the shares of the error budgets that are left, by service."""
        for service, share in remaining.items():
            self._budget.labels(service).set(share)


class Drift(Collector):
    """The newest result of the drift job, read when somebody asks; its time is 0 while none can be read.

    Args:
        features: whose distances are told; a file may name no others, so that there are never too many series.
    """

    def __init__(self, features: frozenset[str]) -> None:
        self._features = features

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing is told before it is asked for."""
        return []

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The file as metrics."""
        made = GaugeMetricFamily(
            "drift_report_timestamp_seconds", "When the drift job looked last; 0 when nothing tells", labels=["model"]
        )
        try:
            result = read_result()
        except DriftFileError:
            made.add_metric(["forecaster"], 0)  # a series that is not there would make the alert on old reports silent
            yield made
            return
        distance = GaugeMetricFamily(
            "drift_distance", "How far something has moved from the training days", labels=["model", "kind", "feature"]
        )
        for one in result.distances:
            if one.kind != "data" or one.feature in self._features:
                distance.add_metric([result.model, one.kind, one.feature], one.value)
        yield distance
        share = GaugeMetricFamily("drifted_features_ratio", "Share of the features that drifted", labels=["model"])
        share.add_metric([result.model], result.drifted_features_ratio)
        yield share
        decision = GaugeMetricFamily("drift_decision", "1 for what the job decided", labels=["model", "decision"])
        for name in DECISIONS:
            decision.add_metric([result.model, name], float(result.decision == name))
        yield decision
        made.add_metric([result.model], result.made_at.timestamp())
        yield made
