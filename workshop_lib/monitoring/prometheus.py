"""Prometheus and Alertmanager: real ones on this machine for a lesson or a test, and the platform's on a cluster.

    with start_prometheus("lesson", local_targets(), rules={"groups": […]}, every=1) as prometheus:
        prometheus.wait_for('up{job="business-api"} == 1')
        prometheus.query("sum by (path) (rate(api_requests_total[1m]))")      # a DataFrame

    connect().query("up")       # the Prometheus or Thanos of settings.prometheus_url

Prometheus fetches the figures of each service from its ``/metrics`` in a fixed rhythm, keeps them as series over time
and evaluates rules on them. Alertmanager receives the alerts and passes them to people. Both are programs of their
own, not Python packages.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import pandas as pd
import yaml

from workshop_lib import processes
from workshop_lib.files import write_text
from workshop_lib.monitoring.promql import REMEDY, Prometheus, PrometheusError, answer, connect, frame
from workshop_lib.ports import HOST, free_port
from workshop_lib.processes import Service
from workshop_lib.settings import settings

__all__ = [
    "JOBS", "PROGRAMS", "LocalAlertmanager", "LocalPrometheus", "Prometheus", "PrometheusError", "Rules", "Target",
    "connect", "local_targets", "need_tools", "start_alertmanager", "start_prometheus", "tools",
]  # fmt: skip

PROGRAMS = {
    "prometheus": ("prometheus",),
    "promtool": ("promtool",),
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
    "amtool": ("amtool",),
}
"""What each program may be called: Debian and Ubuntu give Alertmanager a longer name than its makers."""
JOBS = {
    "forecaster": "sales-forecaster-metrics",
    "llm": "llm-metrics",
    "api": "business-api",
    "monitor": "monitor",
}
"""The label ``job`` of each service: the name of its Service on a cluster, and the same on a laptop."""

Rules = Mapping[str, Any]
"""The content of a rules file: ``{"groups": [{"name": …, "rules": […]}]}``."""


@dataclass(frozen=True)
class Target:
    """Something with a page of metrics."""

    job: str
    address: str
    """Host and port, such as ``127.0.0.1:8300``."""
    path: str = "/metrics"
    labels: dict[str, str] = field(default_factory=dict)
    """Added to every series from there."""


def tools() -> dict[str, Path | None]:
    """Where the four programs are; None for one that is not installed."""
    found = {name: next(filter(None, map(shutil.which, names)), None) for name, names in PROGRAMS.items()}
    return {name: Path(path) if path else None for name, path in found.items()}


def need_tools(*names: str) -> dict[str, Path]:
    """Where some of the programs are.

    Args:
        names: of :data:`PROGRAMS`; all four by default.

    Raises:
        PrometheusError: naming all that are missing, and the remedy.
    """
    found = tools()
    missing = [name for name in names or PROGRAMS if found[name] is None]
    if missing:
        raise PrometheusError(f"Not installed: {', '.join(missing)}. {REMEDY}")
    return {name: path for name, path in found.items() if path is not None}


def local_targets() -> list[Target]:
    """The local services with metrics, also those that do not run now; none whose endpoint is set elsewhere."""
    ports = {
        "forecaster": None if settings.forecaster_endpoint else settings.forecaster_port,
        "llm": None if settings.llm_endpoint else settings.llm_port,
        "api": None if settings.api_endpoint else settings.api_port,
        "monitor": settings.monitor_port,
    }
    return [Target(JOBS[name], f"{HOST}:{port}") for name, port in ports.items() if port]


class _Local:
    """A program with a folder and a port of its own, which ends with the block or with :meth:`stop`."""

    service: Service
    folder: Path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the program; its folder stays, to look at, until the next start under the same name."""
        processes.stop(self.service)

    def _use(self, files: Mapping[str, str]) -> None:
        """Replace files of its folder and let it read them; bring the old ones back when it does not accept them."""
        old = {file: (self.folder / file).read_text(encoding="utf-8") for file in files}
        for file, text in files.items():
            write_text(self.folder / file, text)
        answer = httpx.post(f"{self.service.url}/-/reload", timeout=30)
        if answer.is_error:
            for file, text in old.items():
                write_text(self.folder / file, text)
            said = " | ".join(self.service.log.read_text(encoding="utf-8").splitlines()[-3:])
            raise PrometheusError(f"{self.service.name} keeps its old configuration: {answer.text.strip()} | {said}")


class LocalPrometheus(_Local, Prometheus):
    """A Prometheus that was started here; made by :func:`start_prometheus`."""

    def __init__(self, service: Service, folder: Path, config: dict[str, Any]) -> None:
        Prometheus.__init__(self, service.url)
        self.service, self.folder, self._config = service, folder, config

    def reload(self, *, targets: Sequence[Target] | None = None, rules: Rules | None = None) -> None:
        """Go on with other targets or rules; what is not given stays as it is.

        Prometheus looks for its Alertmanager anew then, which takes up to five seconds. This returns when it has found
        it: an alert in between would be sent to nobody.

        Raises:
            PrometheusError: when Prometheus does not accept them; it goes on with the old ones.
        """
        scraped = {} if targets is None else {"scrape_configs": [_scrape(target) for target in targets]}
        config = self._config | scraped
        self._use({"prometheus.yml": _yaml(config)} | ({} if rules is None else {"rules.yml": _yaml(rules)}))
        self._config = config
        end = time.monotonic() + 30
        while "alerting" in config and not self._get("alertmanagers")["activeAlertmanagers"]:
            if time.monotonic() > end:
                raise PrometheusError(f"{self.service.name} has not found its Alertmanager within 30 s.")
            time.sleep(0.1)


def start_prometheus(
    name: str,
    targets: Sequence[Target],
    rules: Rules | None = None,
    alertmanager: str | None = None,
    every: float = 1,
) -> LocalPrometheus:
    """Start a Prometheus with an empty store, on a free loopback port; it is ready when this returns.

    One that still runs under the same name, such as from a notebook that was interrupted, is ended first.

    Args:
        name: of the folder ``monitoring/prometheus-NAME`` below the course's home; one per notebook or test.
        targets: what to fetch.
        rules: groups of recording and alerting rules.
        alertmanager: address that alerts are sent to.
        every: seconds from one fetch to the next, and from one evaluation of the rules to the next.

    Raises:
        PrometheusError: when Prometheus is not installed.
        ServiceError: when it does not start, as with rules that it cannot read; with the end of its log.
    """
    program = need_tools("prometheus")["prometheus"]
    config: dict[str, Any] = {
        "global": {"scrape_interval": _duration(every), "scrape_timeout": _duration(every),
                   "evaluation_interval": _duration(every)},
        "rule_files": ["rules.yml"],
        "scrape_configs": [_scrape(target) for target in targets],
    }  # fmt: skip
    if alertmanager:
        address = alertmanager.removeprefix("http://")
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [address]}]}]}
    files = {"prometheus.yml": _yaml(config), "rules.yml": _yaml(rules or {"groups": []})}
    # An alert that found no Alertmanager is sent again after this time; by default, after a minute.
    options = ["--web.enable-lifecycle", "--rules.alert.resend-delay", _duration(5 * every)]
    service, folder = _start(f"prometheus-{name}", program, "--storage.tsdb.path", options, files)
    return LocalPrometheus(service, folder, config)


class LocalAlertmanager(_Local):
    """An Alertmanager that was started here; made by :func:`start_alertmanager`."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service, self.folder, self.url = service, folder, service.url
        self._http = httpx.Client(base_url=service.url, timeout=30)

    def alerts(self) -> pd.DataFrame:
        """Alerts that it knows: labels, ``state`` (active, suppressed or unprocessed), ``inhibited`` (bool)."""
        found = [
            alert["labels"] | {"state": alert["status"]["state"], "inhibited": bool(alert["status"]["inhibitedBy"])}
            for alert in answer(self._http, "/api/v2/alerts")
        ]
        return frame(found, ["alertname", "state", "inhibited"], first=("alertname", "state"))

    def wait_for(self, alert: str, seconds: float = 30) -> pd.DataFrame:
        """Ask until it knows an alert of this name.

        Returns:
            All that it knows then, as :meth:`alerts` gives it.

        Raises:
            PrometheusError: when it still knows none after ``seconds``.
        """
        end = time.monotonic() + seconds
        while not (known := self.alerts())["alertname"].eq(alert).any():
            if time.monotonic() > end:
                raise PrometheusError(f"No alert {alert} reached Alertmanager within {seconds:g} s.")
            time.sleep(0.1)
        return known

    def reload(self, config: Mapping[str, Any]) -> None:
        """Go on with another configuration.

        Raises:
            PrometheusError: when Alertmanager does not accept it; it goes on with the old one.
        """
        self._use({"alertmanager.yml": _yaml(config)})


def start_alertmanager(
    name: str, config: Mapping[str, Any], files: Mapping[str, str] | None = None
) -> LocalAlertmanager:
    """Start an Alertmanager on a free loopback port, alone, without a cluster of its own.

    Args:
        name: of the folder ``monitoring/alertmanager-NAME`` below the course's home.
        config: content of its configuration file; paths in it count from its folder.
        files: further files there by name, such as message templates.

    Raises:
        PrometheusError: when Alertmanager is not installed.
        ServiceError: when it does not start; with the end of its log.
    """
    program = need_tools("alertmanager")["alertmanager"]
    files = {"alertmanager.yml": _yaml(config), **(files or {})}
    return LocalAlertmanager(
        *_start(f"alertmanager-{name}", program, "--storage.path", ["--cluster.listen-address="], files)
    )


def _start(
    name: str, program: Path, storage: str, options: Sequence[str], files: Mapping[str, str]
) -> tuple[Service, Path]:
    """Run a program of the Prometheus family in a fresh folder until it is ready; the first file configures it."""
    folder = settings.home / "monitoring" / name
    port = free_port()
    command = (
        str(program), "--config.file", str(folder / next(iter(files))), storage, str(folder / "data"), *options,
        "--web.listen-address", f"{HOST}:{port}", "--log.level", "warn",
    )  # fmt: skip
    service = Service(name=name, port=port, command=command, health="/-/ready", seconds=30, memory_gib=0.1)
    processes.stop(service)
    shutil.rmtree(folder, ignore_errors=True)
    for file, text in files.items():
        write_text(folder / file, text)
    processes.start(service)
    return service, folder


def _scrape(target: Target) -> dict[str, Any]:
    return {
        "job_name": target.job,
        "metrics_path": target.path,
        "static_configs": [{"targets": [target.address], "labels": target.labels}],
    }


def _duration(seconds: float) -> str:
    """As Prometheus writes it: whole milliseconds."""
    return f"{round(seconds * 1000)}ms"


def _yaml(content: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(content), sort_keys=False, width=120, allow_unicode=True)
