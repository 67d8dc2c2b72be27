"""Mistakes in rules that Prometheus accepts and that make an alert silent or useless.

    lint(rules(load_config()), known=emitted | EXPORTERS)

An expression with a metric that nobody emits is valid and never has a value; so is one that looks for ``up == 0`` when
no pod is left. An alert without an urgency reaches nobody in time, one without a runbook helps nobody.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from workshop_lib.monitoring.alert_cases import Cases
from workshop_lib.monitoring.alerts import alerts
from workshop_lib.monitoring.prometheus import Rules

EXPORTERS = frozenset(
    {
        # Prometheus itself
        "up", "ALERTS",
        # OpenVINO Model Server, docs/metrics.md
        "ovms_request_time_us_bucket", "ovms_requests_success", "ovms_requests_fail", "ovms_inference_time_us_bucket",
        # the kubelet (cAdvisor) and kube-state-metrics, which every cluster's monitoring collects
        "container_memory_working_set_bytes", "container_cpu_usage_seconds_total", "kube_pod_container_resource_limits",
        # NVIDIA's DCGM exporter, etc/default-counters.csv
        "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_GPU_TEMP",
    }
)  # fmt: skip
"""Metrics of programs that are not part of the course, as their documentation names them."""
LABELS = ("severity", "team")
TEXTS = ("summary", "description", "runbook_url")
_NO_NAMES = re.compile(
    r"""
    "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*'                       # text
    | \{[^}]*\} | \[[^\]]*\]                                     # conditions on labels, ranges
    | \b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)   # labels to keep or to match
    | \boffset\s+\w+                                             # durations
    | \b\d[\w.]*                                                 # numbers
    """,
    re.VERBOSE,
)
_NAME = re.compile(r"[a-zA-Z_:][\w:]*(?!\s*\()(?![\w:])")
_WORDS = {"and", "or", "unless", "bool", "inf", "nan"}
_UP_IS_ZERO = re.compile(r"\bup\s*(\{[^}]*\})?\s*==\s*(bool\s*)?0\b")


def metric_names(expression: str) -> set[str]:
    """The metrics that a PromQL expression reads."""
    found = _NAME.findall(_NO_NAMES.sub(" ", _without_text(expression)))
    return {name for name in found if name.lower() not in _WORDS}


def _without_text(expression: str) -> str:
    """A brace within quotes, as in ``path="/models/{name}"``, would end a condition too early."""
    return re.sub(r'"(?:\\.|[^"\\])*"', '""', expression)


def lint(groups: Rules, known: Collection[str]) -> list[str]:
    """What is wrong with rules, one line per finding; an empty list when nothing was found.

    Args:
        groups: rules.
        known: names of metrics that somebody emits; those that the rules record themselves come on top.
    """
    every = [rule for group in groups["groups"] for rule in group["rules"]]
    known = {*known, *(rule["record"] for rule in every if "record" in rule)}
    found = []
    for rule in every:
        name = rule.get("alert") or rule["record"]
        for metric in sorted(metric_names(rule["expr"]) - known):
            found.append(f"{name}: nobody emits {metric}")
        if _UP_IS_ZERO.search(rule["expr"]):
            found.append(f"{name}: up == 0 is silent when no pod is left; use absent(up{{…}} == 1)")
    for rule in alerts(groups):
        missing = [label for label in LABELS if label not in rule["labels"]]
        missing += [text for text in TEXTS if text not in rule.get("annotations", {})]
        found += [f"{rule['alert']}: it has no {what}" for what in missing]
        anchor = rule.get("annotations", {}).get("runbook_url", "").partition("#")[2]
        if anchor and anchor != rule["alert"].lower():
            found.append(f"{rule['alert']}: its runbook link leads to #{anchor}")
    return found


def untried(groups: Rules, cases: Collection[Cases]) -> list[str]:
    """Alerts without a case in which they fire and one in which they stay quiet; told apart by their labels."""
    return [
        " ".join([rule["alert"], *_apart(rule["labels"])])
        for rule in alerts(groups)
        if not any(_about(one, rule["alert"], rule["labels"]) for one in cases)
    ]


def _about(one: Cases, alert: str, labels: dict[str, str]) -> bool:
    """Whether cases are those of a rule: they may name further labels, which come from the series."""
    if one.alert != alert:
        return False
    return all(one.labels.get(name, value) == value for name, value in labels.items()) and (
        "window" not in labels or "window" in one.labels
    )


def _apart(labels: dict[str, str]) -> Iterator[str]:
    return (f"{name}={value}" for name, value in labels.items() if name in ("service", "window"))
