"""Ask Prometheus, or Thanos, which answers the same questions, and get tables.

    connect().query("up")       # the Prometheus or Thanos of settings.prometheus_url

The HTTP API: https://prometheus.io/docs/prometheus/2.42/querying/api/.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pandas as pd

from workshop_lib.settings import settings

REMEDY = (
    "On Debian or Ubuntu: sudo apt install prometheus prometheus-alertmanager. Elsewhere: unpack the releases of"
    " https://prometheus.io/download and put their folder on the PATH. On a cluster, set WORKSHOP_PROMETHEUS_URL to"
    " the platform's Thanos."
)

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
"""Where a pod finds the token of its service account."""
Time = datetime | float
"""A moment: with a time zone, or in seconds since 1970."""


class PrometheusError(RuntimeError):
    """A program is missing, or Prometheus or Alertmanager refused something; the message says what to do."""


class Prometheus:
    """A client of Prometheus, or of Thanos, which answers the same questions.

    Args:
        url: such as ``http://127.0.0.1:9090``.
        token: sent as bearer token, if any.
        ca_file: certificate authority of an address with https.
        namespace: what the tenancy port of OpenShift's Thanos (9092) wants to be told with every question.
    """

    def __init__(
        self, url: str, token: str | None = None, ca_file: Path | None = None, namespace: str | None = None
    ) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._always = {"namespace": namespace} if namespace else {}
        self._http = httpx.Client(
            base_url=self.url, headers=headers, verify=str(ca_file) if ca_file else True, timeout=30
        )

    def query(self, expression: str, at: Time | None = None) -> pd.DataFrame:
        """The value of a PromQL expression at one moment.

        Args:
            expression: whose value is a vector or a scalar; a string or a range of samples is an error.
            at: the moment; now by default.

        Returns:
            One row per series: its labels (``__name__`` included where there is one) and ``value`` (float). No rows
            where nothing matches.

        Raises:
            PrometheusError: for a wrong expression, with Prometheus's words, or when it does not answer.
        """
        data = self._get("query", {"query": expression} | ({} if at is None else {"time": _seconds(at)}))
        if data["resultType"] == "scalar":
            return pd.DataFrame({"value": [float(data["result"][1])]})
        if data["resultType"] != "vector":
            raise PrometheusError(f"{expression}: its value is a {data['resultType']}, not one number per series.")
        return frame([series["metric"] | {"value": float(series["value"][1])} for series in data["result"]], ["value"])

    def query_range(
        self,
        expression: str,
        start: Time | timedelta = timedelta(minutes=5),
        end: Time | None = None,
        step: float = 1,
    ) -> pd.DataFrame:
        """The values of a PromQL expression over a time.

        Args:
            expression: as for :meth:`query`.
            start: the first moment, or how long before ``end``.
            end: the last moment; now by default.
            step: seconds from one value to the next; at most 11,000 values are given.

        Returns:
            One row per series and moment: labels, ``time`` (UTC) and ``value``, in order of time within a series.

        Raises:
            PrometheusError: as for :meth:`query`.
        """
        last = time.time() if end is None else _seconds(end)
        first = last - start.total_seconds() if isinstance(start, timedelta) else _seconds(start)
        data = self._get("query_range", {"query": expression, "start": first, "end": last, "step": step})
        rows = [
            series["metric"] | {"time": moment, "value": float(value)}
            for series in data["result"]
            for moment, value in series["values"]
        ]
        table = frame(rows, ["time", "value"])
        table["time"] = pd.to_datetime((table["time"].astype(float) * 1000).round(), unit="ms", utc=True)
        return table

    def wait_for(self, expression: str, seconds: float = 30) -> pd.DataFrame:
        """Ask until the answer has rows: ``wait_for('up == 1')``.

        Raises:
            PrometheusError: when it still has none after ``seconds``.
        """
        end = time.monotonic() + seconds
        while (answer := self.query(expression)).empty:
            if time.monotonic() > end:
                raise PrometheusError(f"{expression} had no value within {seconds:g} s.")
            time.sleep(0.1)
        return answer

    def alerts(self) -> pd.DataFrame:
        """Alerts that are pending or firing: labels (``alertname`` first), ``state``, ``since`` (UTC), ``value``."""
        found = [
            alert["labels"]
            | {"state": alert["state"], "since": pd.Timestamp(alert["activeAt"]), "value": float(alert["value"])}
            for alert in self._get("alerts")["alerts"]
        ]
        return frame(found, ["alertname", "state", "since", "value"], first=("alertname", "state"))

    def targets(self) -> pd.DataFrame:
        """What is fetched: ``job``, ``instance``, ``health`` (up, down, unknown) and the ``error`` of the last try."""
        found = [
            {"job": target["labels"]["job"], "instance": target["labels"]["instance"],
             "health": target["health"], "error": target["lastError"]}
            for target in self._get("targets", {"state": "active"})["activeTargets"]
        ]  # fmt: skip
        return frame(found, ["job", "instance", "health", "error"]).sort_values("job", ignore_index=True)

    def rules(self) -> pd.DataFrame:
        """Rules that are evaluated: ``group``, ``name``, ``type``, ``health`` and the ``error`` of the last time."""
        found = [
            {"group": group["name"], "name": rule["name"], "type": rule["type"],
             "health": rule["health"], "error": rule.get("lastError", "")}
            for group in self._get("rules")["groups"]
            for rule in group["rules"]
        ]  # fmt: skip
        return frame(found, ["group", "name", "type", "health", "error"])

    def _get(self, what: str, parameters: Mapping[str, Any] | None = None) -> Any:
        return answer(self._http, f"/api/v1/{what}", self._always | dict(parameters or {}))["data"]


def connect() -> Prometheus:
    """The Prometheus of the settings. Without a token there, a pod shows that of its service account.

    Raises:
        PrometheusError: when none is set.
    """
    if settings.prometheus_url is None:
        raise PrometheusError(f"WORKSHOP_PROMETHEUS_URL is not set, and no Prometheus was started here. {REMEDY}")
    token = settings.prometheus_token.get_secret_value() if settings.prometheus_token else None
    if token is None and SERVICE_ACCOUNT.exists():
        token = SERVICE_ACCOUNT.read_text(encoding="utf-8").strip()
    return Prometheus(
        settings.prometheus_url,
        token,
        settings.prometheus_ca_file,
        settings.prometheus_namespace,
    )


def answer(http: httpx.Client, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
    """The JSON at a path; what went wrong otherwise, in the server's own words where it has any."""
    try:
        answer = http.get(path, params=dict(parameters or {}))
    except httpx.HTTPError as error:
        raise PrometheusError(f"{http.base_url} does not answer ({error}). Does it still run?") from error
    if answer.is_error:
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        words = answer.json().get("error") if is_json and isinstance(answer.json(), dict) else answer.text.strip()
        raise PrometheusError(f"{http.base_url} refuses the question ({answer.status_code}): {words}")
    return answer.json()


def frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], first: Sequence[str] = ()) -> pd.DataFrame:
    """Rows as a table that has some columns even without rows: labels by name, then those."""
    labels = sorted({name for row in rows for name in row} - {*columns, *first})
    frame = pd.DataFrame(list(rows), columns=[*first, *labels, *(name for name in columns if name not in first)])
    return frame.astype({"value": float}) if "value" in columns else frame


def _seconds(moment: Time) -> float:
    return moment.astimezone(UTC).timestamp() if isinstance(moment, datetime) else moment
