"""A whole alerting path on this machine, with a part that can be broken.

    with AlertStand(rules(load_config()), factor=60) as stand:
        story = stand.experiment("dead", "EndpointDown", ["slack/critical-alerts"])
        story.table()                       # broken, pending, firing, told, mended, over, told again

    traffic ── a second business API ── proxy ── forecaster
                       │                  │
                       └── Prometheus ────┘ ── Alertmanager ── inbox

Forecaster, language model and dashboard are the course's own. API, monitor, proxy, Prometheus, Alertmanager and inbox
belong to the stand. Waiting times of rules and routes are divided by one factor; what the alerts compare, and
everything else about them, is as checked in.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import pandas as pd

from workshop_lib import data, processes
from workshop_lib.files import write_text
from workshop_lib.generative import client as llm_client
from workshop_lib.generative.client import LLM
from workshop_lib.monitoring.alerts import AlertsError, alerts, faster
from workshop_lib.monitoring.config import load_config, with_health
from workshop_lib.monitoring.inbox import Inbox, Message
from workshop_lib.monitoring.local import monitor_service
from workshop_lib.monitoring.notifications import load_notifications, plain, to_inbox
from workshop_lib.monitoring.prometheus import (
    JOBS,
    Rules,
    Target,
    start_alertmanager,
    start_prometheus,
)
from workshop_lib.orchestration.faults import Mode, Proxy, broken
from workshop_lib.orchestration.local import dashboard_service
from workshop_lib.ports import free_port
from workshop_lib.processes import Service
from workshop_lib.serving import api_client, forecaster_client
from workshop_lib.serving.routing import Backend, Routes, write_routes
from workshop_lib.settings import settings

STEPS = ("broken", "pending", "firing", "told", "mended", "over", "told again")
"""The way of an alert, in its order."""
_TRAFFIC_SECONDS = 0.2
_CATEGORIES = 4
"""That the traffic asks for in turn: the largest ones."""


@dataclass(frozen=True)
class Story:
    """What happened to one alert, and when."""

    alert: str
    moments: Mapping[str, datetime]
    """Of each of :data:`STEPS`."""
    message: Message
    """The first one that arrived."""
    waited: float
    """The alert's own ``for``, seconds."""

    @property
    def overhead(self) -> float:
        """From the fault to the message, less the alert's own wait, seconds."""
        return (self.moments["told"] - self.moments["broken"]).total_seconds() - self.waited

    def table(self) -> pd.DataFrame:
        """One row per step in order of time: ``step``, ``seconds`` since the fault."""
        begun = self.moments["broken"]
        rows = [(step, (moment - begun).total_seconds()) for step, moment in self.moments.items()]
        table = pd.DataFrame(rows, columns=["step", "seconds"])
        return table.sort_values("seconds", kind="stable", ignore_index=True)


class AlertStand:
    """The path of an alert; it ends with its block, or with :meth:`close`.

    Args:
        rules: what Prometheus evaluates, with their real durations.
        factor: by which the durations of rules and routes are divided.
        name: of the folders; one per notebook or test.

    Raises:
        PrometheusError: when Prometheus or Alertmanager is not installed.
        ServiceError: when something does not start.
    """

    def __init__(self, rules: Rules, factor: float = 60, name: str = "alerts") -> None:
        self._rules, self._begun = faster(rules, factor), time.monotonic()
        self._stack = ExitStack()
        self._folder = settings.home / "monitoring" / f"stand-{name}"
        shutil.rmtree(self._folder, ignore_errors=True)
        try:
            self._start(factor, name)
        except BaseException:  # an interruption, too, shall leave no process behind
            self._stack.close()
            raise

    def _start(self, factor: float, name: str) -> None:
        enter = self._stack.enter_context
        self.inbox = enter(Inbox())
        routes = to_inbox(plain(load_notifications(), Path("/")), self.inbox, factor)
        self.alertmanager = enter(start_alertmanager(name, routes))
        endpoint = forecaster_client.connect()
        self.forecaster = enter(Proxy(endpoint.url, settings.forecaster_ca_file))
        history = f"sqlite:///{self._folder / 'history.db'}"
        service = _api(name, self.forecaster.url, self._folder, history)
        self.api = api_client.Api(service.url, {"X-API-Key": api_client.api_key()})
        llm = llm_client.connect()
        monitor = _monitor(name, self.forecaster.url, service.url, llm, self._folder, history)
        watched = {"forecaster": self.forecaster.url, "api": service.url, "monitor": monitor.url}
        if not settings.llm_endpoint:
            watched["llm"] = llm.url
        for own in (service, monitor):
            processes.stop(own)  # one that is left over
            self._stack.callback(processes.stop, own)
        targets = [Target(JOBS[job], urlsplit(url).netloc) for job, url in watched.items()]
        with ThreadPoolExecutor(2) as background:  # each takes seconds, as does Prometheus' first fetch
            started = [background.submit(processes.start, one) for one in (service, dashboard_service())]
            self.prometheus = enter(start_prometheus(name, targets, None, self.alertmanager.url))
            for one in started:
                one.result()
        processes.start(monitor)  # not earlier: it would find that the API does not answer
        enter(_Traffic(service))
        for target in targets:
            self.prometheus.wait_for(f'up{{job="{target.job}"}} == 1', 60)
        # Not before: a service that is still starting would be an alert of its own.
        self.prometheus.reload(rules=self._rules)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def hours(self) -> float:
        """How long ago it began: what a picture has to look back."""
        return (time.monotonic() - self._begun) / 3600

    def close(self) -> None:
        """Stop everything that belongs to the stand."""
        self._stack.close()

    def experiment(
        self,
        mode: Mode,
        alert: str,
        channels: Sequence[str],
        slowness: float = 0,
        meanwhile: Callable[[], None] = lambda: None,
        patience: float = 60,
    ) -> Story:
        """Break the way to the forecaster, wait for an alert and its message, mend it and wait for the end of both.

        Args:
            mode: how the proxy misbehaves.
            alert: the name of the alert that should fire.
            channels: of the inbox where its messages should arrive; those at the first one are timed.
            slowness: seconds by which the mode ``slow`` delays answers.
            meanwhile: called after the messages have arrived, while it is still broken.
            patience: longest wait for each of the steps, seconds.

        Raises:
            AlertsError: when there is no such alert about the forecaster.
            PrometheusError: when the alert does not end in time.
            InboxError: when no message arrives in time.
        """
        rule, selector = self._rule(alert), f'ALERTS{{alertname="{alert}", service="forecaster"}}'
        summary = rule["annotations"]["summary"]
        self.prometheus.wait_for(f"absent({selector})", patience)  # a machine may be slow without our help
        self._wait_until_taken_back(summary, channels, patience)
        old = self.inbox.messages
        moments = {"broken": _now()}

        def wait_for(channel: str, status: str) -> Message:
            return self.inbox.wait_for(_message(channel, status, summary, old), patience)

        with broken(self.forecaster, mode, slowness):
            told = {channel: wait_for(channel, "firing") for channel in channels}
            meanwhile()
        moments["mended"] = _now()
        self.prometheus.wait_for(f"absent({selector})", patience)
        moments["over"] = _now()
        over = {channel: wait_for(channel, "resolved") for channel in channels}
        states = self.prometheus.query_range(selector, moments["broken"].timestamp(), step=0.25)
        first = states.groupby("alertstate")["time"].min()
        message = told[channels[0]]
        moments |= {"told": message.time, "told again": over[channels[0]].time}
        # Messages are timed exactly, states by looking a few times a second: a cause is not later than its effect.
        moments["firing"] = min(first["firing"], moments["told"])
        moments["pending"] = min(first["pending"], moments["firing"])
        moments["over"] = min(moments["over"], moments["told again"])
        waited = float(rule["for"].removesuffix("s"))
        return Story(alert, {step: moments[step] for step in STEPS}, message, waited)

    def _wait_until_taken_back(self, summary: str, channels: Sequence[str], patience: float) -> None:
        """Wait for the end of earlier messages: what Alertmanager has not taken back, it does not tell anew."""
        for channel in channels:
            told = [one for one in self.inbox.messages if one.channel == channel and summary in one.title]
            if told and told[-1].status == "firing":
                self.inbox.wait_for(_message(channel, "resolved", summary, told), patience)

    def _rule(self, alert: str) -> dict[str, Any]:
        """The alert of a name that is about the forecaster."""
        for rule in alerts(self._rules):
            if rule["alert"] == alert and rule["labels"].get("service") == "forecaster":
                return rule
        raise AlertsError(f"This stand has no alert {alert} about the forecaster.")


def _api(name: str, forecaster: str, folder: Path, history: str) -> Service:
    """A business API whose forecasts come through the proxy, and none of them from a cache."""
    routes = folder / "routes.json"
    write_routes(Routes(backends=(Backend(name="champion", url=forecaster),)), routes)
    env = {
        "WORKSHOP_FORECASTER_ROUTES": str(routes),
        "WORKSHOP_FORECASTER_TIMEOUT": "1",
        "WORKSHOP_CACHE": "false",
        "WORKSHOP_HISTORY_URL": history,
    }
    return api_client.api_service(f"api-{name}", free_port(), env)


def _monitor(name: str, forecaster: str, api: str, llm: LLM, folder: Path, history: str) -> Service:
    """A monitor that looks every second, and at the forecaster through the proxy."""
    limits = folder / "monitoring.yaml"
    config = with_health(load_config(), interval_seconds=1)
    write_text(limits, json.dumps(config.model_dump(by_alias=True)))
    env = {
        "WORKSHOP_MONITORING_CONFIG": str(limits),
        "WORKSHOP_FORECASTER_ENDPOINT": forecaster,
        "WORKSHOP_API_ENDPOINT": api,
        "WORKSHOP_LLM_ENDPOINT": llm.url,
        "WORKSHOP_LLM_MODEL": llm.model,
        "WORKSHOP_LLM_API_KEY": str(llm.openai.api_key),
        "WORKSHOP_CACHE": "false",
        "WORKSHOP_HISTORY_URL": history,
    }
    return monitor_service(f"monitor-{name}", free_port(), env, folder / "uptime.db")


class _Traffic:
    """Asks the API for a forecast a few times a second, whatever it answers."""

    def __init__(self, service: Service) -> None:
        sales = data.load("daily_sales", columns=["category", "date", "units"])
        largest = sales.groupby("category")["units"].sum().nlargest(_CATEGORIES).index
        day = f"{sales['date'].max():%Y-%m-%d}"
        self._questions = [{"category": category, "dates": [day]} for category in largest]
        self._url = f"{service.url}/forecast"
        self._stop = Event()
        self._thread = Thread(target=self._ask, name="traffic", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        with httpx.Client(headers={"X-API-Key": api_client.api_key()}, timeout=10) as http:
            for question in cycle(self._questions):
                begun = time.monotonic()
                with suppress(httpx.HTTPError):  # what users see then is what the alerts are about
                    http.post(self._url, json=question)
                if self._stop.wait(max(0.0, _TRAFFIC_SECONDS - (time.monotonic() - begun))):
                    return


def _message(channel: str, status: str, summary: str, old: Sequence[Message]) -> Callable[[Message], bool]:
    """Whether a message is one at a channel about an alert, and none of the old ones."""
    return lambda one: (one.channel, one.status) == (channel, status) and summary in one.title and one not in old


def _now() -> datetime:
    return datetime.now(UTC)
