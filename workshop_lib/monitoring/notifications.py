"""Who hears of which alert: the routes of the cluster's AlertmanagerConfig, for a plain Alertmanager as well.

    config = plain(load_notifications(), secrets=Path("~/alert-secrets").expanduser())
    receivers(config, {"alertname": "ForecastLatencyHigh", "severity": "warning", "team": "ai-operations"})

    python -m workshop_lib.monitoring.notifications --secrets FOLDER > alertmanager.yml

``notification_config.yaml`` is the one source. On a cluster its operator translates it, on a laptop :func:`plain`
does. Secrets stay where they are: a translated file names the files that hold them.
"""

from __future__ import annotations

import copy
import re
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from workshop_lib.manifest_files import load
from workshop_lib.monitoring.config import seconds
from workshop_lib.monitoring.inbox import Inbox
from workshop_lib.monitoring.prometheus import need_tools
from workshop_lib.settings import ROOT

NOTIFICATIONS_FILE = ROOT / "5-monitoring-optimization" / "monitoring" / "notification_config.yaml"
TEAMS_BRIDGE = "http://127.0.0.1:2000/alerts"
"""Alertmanager speaks to Teams' present webhooks from 0.28 on; distributions carry older ones. For them a small
program such as prometheus-msteams listens here and passes messages on."""
_LISTS = {"headers", "details"}
"""Pairs of key and value in a manifest, a mapping in Alertmanager's own file."""
_KINDS = {
    "slackConfigs": "slack_configs",
    "pagerdutyConfigs": "pagerduty_configs",
    "emailConfigs": "email_configs",
    "webhookConfigs": "webhook_configs",
    "msteamsv2Configs": "webhook_configs",
}
_WAITS = ("group_wait", "group_interval", "repeat_interval")


class NotificationsError(ValueError):
    """The routes cannot be used; the message says what is wrong."""


def load_notifications(path: Path = NOTIFICATIONS_FILE) -> dict[str, Any]:
    """The ``spec`` of the file's AlertmanagerConfig.

    Raises:
        ManifestError: when the file cannot be read.
        NotificationsError: when there is no such object in it.
    """
    found = [document for document in load(path) if document.kind == "AlertmanagerConfig"]
    if len(found) != 1:
        raise NotificationsError(f"{path}: there should be one AlertmanagerConfig, there are {len(found)}.")
    return dict(found[0].body["spec"])


def plain(spec: Mapping[str, Any], secrets: Path) -> dict[str, Any]:
    """The same as a configuration file of Alertmanager, from version 0.25 on.

    Args:
        spec: of an AlertmanagerConfig (monitoring.coreos.com/v1beta1).
        secrets: folder with one file per key of the Secret; read by Alertmanager, not here.

    Raises:
        NotificationsError: for a kind of receiver that is not foreseen.
    """
    return {
        "route": _route(spec["route"]),
        "receivers": [_receiver(receiver, secrets) for receiver in spec["receivers"]],
        "inhibit_rules": [
            {
                "source_matchers": [_matcher(one) for one in rule["sourceMatch"]],
                "target_matchers": [_matcher(one) for one in rule["targetMatch"]],
                "equal": rule["equal"],
            }
            for rule in spec.get("inhibitRules", [])
        ],
    }


def to_inbox(config: Mapping[str, Any], inbox: Inbox, factor: float = 1) -> dict[str, Any]:
    """The same routes and texts, with an inbox on this machine in place of every service that is out of the house.

    Args:
        config: as :func:`plain` makes it.
        inbox: where everything arrives.
        factor: by which waiting times are divided for a lesson; none falls below a second.
    """
    changed = copy.deepcopy(dict(config))
    for receiver in changed["receivers"]:
        for one in receiver.get("slack_configs", []):
            del one["api_url_file"]
            one["api_url"] = f"{inbox.url}/slack/{one['channel'].removeprefix('#')}"
        for one in receiver.get("pagerduty_configs", []):
            del one["routing_key_file"]
            one |= {"routing_key": "lesson", "url": f"{inbox.url}/pagerduty"}
        for one in receiver.get("webhook_configs", []):
            one["url"] = f"{inbox.url}/webhook/{receiver['name']}"
        for one in receiver.get("email_configs", []):
            del one["auth_username"], one["auth_password_file"]
            one |= {"smarthost": inbox.smarthost, "require_tls": False}
    for route in (changed["route"], *changed["route"]["routes"]):
        for wait in set(_WAITS) & set(route):
            route[wait] = f"{max(1, round(seconds(route[wait]) / factor))}s"
    return changed


def check(config: Mapping[str, Any]) -> str:
    """Let Alertmanager's own tool look at a configuration.

    Returns:
        What it says.

    Raises:
        NotificationsError: for one that Alertmanager would not take, with its words.
        PrometheusError: when amtool is not installed.
    """
    return _amtool(config, lambda file: ["check-config", file])


def receivers(config: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    """Which receivers an alert with these labels reaches, by ``amtool config routes test``.

    Raises:
        NotificationsError: when amtool refuses configuration or labels.
        PrometheusError: when amtool is not installed.
    """
    pairs = [f"{name}={value}" for name, value in labels.items()]
    said = _amtool(config, lambda file: ["config", "routes", "test", "--config.file", file, *pairs])
    return said.splitlines()[-1].split(",")


def routing(config: Mapping[str, Any], alerts: pd.DataFrame) -> pd.DataFrame:
    """A table of who hears of which alert: ``alert``, ``severity``, ``team`` and a column per receiver (bool).

    Args:
        config: as :func:`plain` makes it.
        alerts: as :func:`workshop_lib.monitoring.alerts.table` makes it.
    """
    known = alerts[["alert", "severity", "team"]].drop_duplicates(ignore_index=True)
    names = [receiver["name"] for receiver in config["receivers"]]
    reached = [
        receivers(config, {"alertname": row.alert, "severity": row.severity, "team": row.team})
        for row in known.itertuples()
    ]
    return known.join(pd.DataFrame([{name: name in found for name in names} for found in reached]))


def _amtool(config: Mapping[str, Any], arguments: Any) -> str:
    program = need_tools("amtool")["amtool"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "alertmanager.yml"
        file.write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
        done = subprocess.run([str(program), *arguments(str(file))], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotificationsError((done.stdout + done.stderr).strip())
    return done.stdout.strip()


def _route(route: Mapping[str, Any]) -> dict[str, Any]:
    """One route with those below it."""
    made = {_snake(key): value for key, value in route.items() if key not in ("matchers", "routes")}
    if "matchers" in route:
        made["matchers"] = [_matcher(one) for one in route["matchers"]]
    if "routes" in route:
        made["routes"] = [_route(one) for one in route["routes"]]
    return made


def _matcher(one: Mapping[str, str]) -> str:
    quoted = one["value"].replace("\\", "\\\\").replace('"', '\\"')
    return f'{one["name"]}{one.get("matchType", "=")}"{quoted}"'


def _receiver(receiver: Mapping[str, Any], secrets: Path) -> dict[str, Any]:
    made: dict[str, Any] = {"name": receiver["name"]}
    for kind, entries in receiver.items():
        if kind == "name":
            continue
        if kind not in _KINDS:
            raise NotificationsError(f"Receiver {receiver['name']}: {kind} is not foreseen; there are {list(_KINDS)}.")
        made.setdefault(_KINDS[kind], []).extend(
            {"url": TEAMS_BRIDGE, "send_resolved": entry["sendResolved"]}
            if kind == "msteamsv2Configs"
            else dict(_setting(key, value, secrets) for key, value in entry.items())
            for entry in entries
        )
    return made


def _setting(key: str, value: Any, secrets: Path) -> tuple[str, Any]:
    """One field of a receiver; a reference to a Secret becomes the name of a file."""
    if isinstance(value, dict) and set(value) == {"name", "key"}:
        return f"{_snake(key)}_file", str(secrets / value["key"])
    if key in _LISTS:
        return _snake(key), {pair["key"]: pair["value"] for pair in value}
    return _snake(key), value


def _snake(name: str) -> str:
    """``groupWait`` as ``group_wait``, ``apiURL`` as ``api_url``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def main(arguments: list[str]) -> int:
    """Print the plain configuration; for the command line."""
    parser = ArgumentParser(description="The routes of notification_config.yaml for a plain Alertmanager.")
    parser.add_argument("--secrets", type=Path, required=True, help="folder with slack-url, pagerduty-key, …")
    config = plain(load_notifications(), parser.parse_args(arguments).secrets.resolve())
    yaml.safe_dump(config, sys.stdout, sort_keys=False, width=120, allow_unicode=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
