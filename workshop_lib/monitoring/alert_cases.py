"""What each alerting rule is tried with: cases in which it fires, and cases in which it stays quiet.

    cases = load_cases()
    run(rules(load_config()), cases)        # a table; every row says whether promtool agrees

The cases stand in ``alert_cases.yaml`` beside this file. They are what a rule is worth: an expression that names a
metric that nobody emits passes every other check.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from workshop_lib.monitoring.alerts import AlertsError, run_cases
from workshop_lib.monitoring.prometheus import Rules

CASES_FILE = Path(__file__).with_name("alert_cases.yaml")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Case(_Part):
    """Series and the moment at which one looks."""

    why: str = ""
    """Why nothing fires."""
    every: str = "15s"
    """Time between two values, and between two evaluations."""
    at: str
    series: dict[str, str]


class Cases(_Part):
    """The cases of one rule."""

    alert: str
    labels: dict[str, str] = {}
    """What tells the rule from others of the same name."""
    fires: Case
    quiet: Annotated[tuple[Case, ...], Field(min_length=1)]

    @property
    def selector(self) -> str:
        """The series that Prometheus keeps of this alert while it fires."""
        labels = {"alertname": self.alert, "alertstate": "firing", **self.labels}
        return "ALERTS{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


def load_cases(path: Path = CASES_FILE) -> list[Cases]:
    """Read the cases.

    Raises:
        AlertsError: when the file has another form, naming the place.
    """
    try:
        return TypeAdapter(list[Cases]).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise AlertsError(f"{path.name}: {error}") from error


def run(groups: Rules, cases: Iterable[Cases]) -> pd.DataFrame:
    """Try rules with cases, by ``promtool test rules``.

    Returns:
        One row per case: ``alert``, ``labels``, ``expected`` (fires or stays quiet), ``why``, ``at``.

    Raises:
        AlertsError: when a rule does something else than a case says, with promtool's words.
        PrometheusError: when promtool is not installed.
    """
    flat = [(one, case, case is one.fires) for one in cases for case in (one.fires, *one.quiet)]
    together: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one, case, fires in flat:
        together.setdefault((one.alert, case.every), []).append(_for_promtool(one, case, fires))
    for (alert, every), some in together.items():
        run_cases({"groups": [_alone(groups, alert)]}, some, every)
    rows = [
        {"alert": one.alert, "labels": ", ".join(one.labels.values()), "why": case.why, "at": case.at,
         "expected": "fires" if fires else "quiet"}
        for one, case, fires in flat
    ]  # fmt: skip
    return pd.DataFrame(rows).sort_values(["alert", "labels", "expected"], ignore_index=True, kind="stable")


def _alone(groups: Rules, alert: str) -> dict[str, Any]:
    """The group of an alert without other alerts: promtool evaluates every rule that it is given, for every case."""
    for group in groups["groups"]:
        if any(rule.get("alert") == alert for rule in group["rules"]):
            return group | {"rules": [rule for rule in group["rules"] if rule.get("alert", alert) == alert]}
    raise AlertsError(f"{CASES_FILE.name}: there is no alert {alert}.")


def _for_promtool(one: Cases, case: Case, fires: bool) -> dict[str, Any]:
    """One entry of promtool's ``tests``. The alert's own texts are not compared: they are no condition."""
    found = f"count({one.selector})" if fires else f"absent(count({one.selector}))"
    return {
        "name": f"{one.alert} {'fires' if fires else 'stays quiet: ' + case.why}",
        "interval": case.every,
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "promql_expr_test": [
            {"expr": f"{found} > bool 0", "eval_time": case.at, "exp_samples": [{"labels": "{}", "value": 1}]}
        ],
    }
