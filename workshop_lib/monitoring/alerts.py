"""The alerts: rendered from one template with the limits of the configuration, checked, and made faster for a lesson.

    python -m workshop_lib.monitoring.alerts            # is prometheus_alerts.yaml up to date?
    python -m workshop_lib.monitoring.alerts --write    # bring it up to date

    groups = rules(load_config())                       # what a local Prometheus takes
    start_prometheus("lesson", …, rules=faster(groups, 60))

The template ``alert_rules.yaml`` beside this file says what is compared; how much is too much, for how long and how
urgent it is then comes from ``model_monitoring_config.yaml``. What is checked in is plain YAML with the numbers in
place: a reader sees them, and a cluster needs no tool of the course. The cost is a file to render again after a
change, which a test reminds of.
"""

from __future__ import annotations

import copy
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml

from workshop_lib.files import write_text
from workshop_lib.monitoring.config import MonitoringConfig, load_config, seconds
from workshop_lib.monitoring.prometheus import JOBS, Rules, need_tools
from workshop_lib.settings import ROOT, settings

TEMPLATE = Path(__file__).with_name("alert_rules.yaml")
ALERTS_FILE = ROOT / "5-monitoring-optimization" / "monitoring" / "prometheus_alerts.yaml"
_RANGE = re.compile(r"(?<=\[)\w+(?=\])|(?<=\boffset )\w+")
"""Durations in an expression: how far back a function looks, and what it is compared with."""
_SHORTEST = 5
"""Seconds: a rate needs a few fetches within its range, and in a lesson there is one a second."""


class AlertsError(ValueError):
    """The rules cannot be rendered, or are wrong; the message says where and why."""


def render(config: MonitoringConfig) -> str:
    """The text of ``prometheus_alerts.yaml`` with the limits of a configuration.

    Raises:
        AlertsError: when the template asks for a limit that the configuration does not have.
    """
    environment = jinja2.Environment(
        variable_start_string="${", variable_end_string="}", line_statement_prefix="#%", comment_start_string="#{#",
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True,
        finalize=lambda value: f"{value:g}" if isinstance(value, float) else value,
    )  # fmt: skip
    environment.filters |= {"seconds": seconds, "percent": lambda share: f"{100 * share:g}%"}
    windows = {window for rate in config.objectives.burn_rates for window in (rate.short, rate.long)}
    try:
        return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
            config.model_dump(by_alias=True),
            runbooks=settings.runbooks,
            jobs=JOBS,
            budget_windows=sorted(windows, key=seconds),
        )
    except jinja2.TemplateError as error:
        raise AlertsError(f"{TEMPLATE.name}: {error}") from error


def rules(config: MonitoringConfig) -> Rules:
    """All groups of rules, as a Prometheus outside a cluster takes them."""
    documents = yaml.safe_load_all(render(config))
    return {"groups": [group for document in documents for group in document["spec"]["groups"]]}


def alerts(groups: Rules) -> Iterator[dict[str, Any]]:
    """The alerting rules of some groups, in their order."""
    return (rule for group in groups["groups"] for rule in group["rules"] if "alert" in rule)


def table(groups: Rules) -> pd.DataFrame:
    """The alerts: ``alert``, ``service``, ``severity``, ``team``, ``for``, ``expression``."""
    return pd.DataFrame(
        {"alert": rule["alert"], "service": rule["labels"].get("service", "each"),
         "severity": rule["labels"]["severity"], "team": rule["labels"]["team"],
         "for": rule.get("for", ""), "expression": " ".join(rule["expr"].split())}
        for rule in alerts(groups)
    )  # fmt: skip


def faster(groups: Rules, factor: float) -> Rules:
    """The same rules with every duration divided by a factor, for a lesson: with 60, minutes become seconds.

    What an alert compares stays as it is. Ranges stay long enough for a few fetches, one a second.

    Args:
        groups: rules.
        factor: 1 or above.
    """
    hurried = copy.deepcopy(dict(groups))
    for group in hurried["groups"]:
        for rule in group["rules"]:
            rule["expr"] = _RANGE.sub(lambda found: _divided(found[0], factor, _SHORTEST), rule["expr"])
            if "for" in rule:
                rule["for"] = _divided(rule["for"], factor, 1)
    return hurried


def _divided(duration: str, factor: float, least: int) -> str:
    return f"{max(least, round(seconds(duration) / factor))}s"


def check(groups: Rules) -> str:
    """Let Prometheus' own tool look at rules.

    Returns:
        What it says.

    Raises:
        AlertsError: for rules that Prometheus would not take, with its words.
        PrometheusError: when promtool is not installed.
    """
    return _promtool("check", {"rules.yml": groups}, "rules.yml")


def run_cases(groups: Rules, cases: list[dict[str, Any]], every: str = "1m") -> str:
    """Feed rules with made-up series and compare what fires, by ``promtool test rules``.

    Args:
        groups: rules.
        cases: entries of ``tests`` in promtool's format
            (https://prometheus.io/docs/prometheus/2.42/configuration/unit_testing_rules/).
        every: time between two evaluations of the rules.

    Returns:
        What it says.

    Raises:
        AlertsError: when a case ends otherwise than it says, with the difference.
        PrometheusError: when promtool is not installed.
    """
    tests = {"rule_files": ["rules.yml"], "evaluation_interval": every, "tests": cases}
    return _promtool("test", {"rules.yml": groups, "cases.yml": tests}, "cases.yml")


def _promtool(verb: str, files: Mapping[str, Mapping[str, Any]], argument: str) -> str:
    program = need_tools("promtool")["promtool"]
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_text(yaml.safe_dump(dict(content), sort_keys=False), encoding="utf-8")
        done = subprocess.run(
            [str(program), verb, "rules", argument], cwd=folder, capture_output=True, text=True, check=False
        )
    said = "\n".join(line for line in (done.stdout + done.stderr).splitlines() if line.strip())
    if done.returncode:
        raise AlertsError(said)
    return said


def main(arguments: list[str]) -> int:
    """Compare the file with what it should be, or write it; for the command line."""
    text = render(load_config())
    if "--write" in arguments:
        write_text(ALERTS_FILE, text)
        return 0
    same = ALERTS_FILE.exists() and ALERTS_FILE.read_text(encoding="utf-8") == text
    if not same:
        print(f"{ALERTS_FILE} is out of date. Run: python -m {__spec__.name} --write", file=sys.stderr)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
