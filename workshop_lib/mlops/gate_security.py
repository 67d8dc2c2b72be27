"""The gate *security*: a score over scans, documented point by point.

It begins at ten. Every finding takes off points by its severity, findings of one severity together no more than their
limit; all of these numbers stand in ``quality_gates.yaml``. A critical finding fails whatever the score. A question
that nobody answered costs nothing and lets nothing pass: the gate then asks for a person.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from workshop_lib.mlops.gate_config import Deductions, Gates
from workshop_lib.mlops.gate_result import Finding, GateResult, Measurement, judged
from workshop_lib.mlops.gate_scans import Scan, scan_all
from workshop_lib.mlops.gates import Subject
from workshop_lib.settings import settings

BEST = 10.0
ADVICE = {
    "modelscan": "Throw pickles out of the package and save the model with skops or as ONNX.",
    "skops": "Find out who brought this type into the model before you allow it.",
    "onnx": "Export the model with standard operators only.",
    "openvino": "Export the model with standard operations only.",
    "files": "Take the file out, or add a scanner for its kind.",
    "secrets": "Revoke the secret first, it is known now. Then take it out and build the package anew.",
    "pip-audit": "If weaknesses were found: update these packages and lock anew. If nobody answered: name a source of"
    " advisories that can be reached (WORKSHOP_ADVISORIES), or ask somebody who can look it up.",
    "sbom": "Make the bill of materials from the lock of this package.",
    "signature": "Do not load it. Build the package anew from the registry, and find out who changed it.",
    "bandit": "Mend the dangerous places in the code, the gravest first.",
}
"""What to do, by who found it."""


def deductions(findings: Sequence[Finding], points: Deductions) -> pd.DataFrame:
    """The points that findings cost.

    Returns:
        Index ``severity``; ``findings``, ``points each``, ``at most``, ``taken off``.
    """
    rows = {}
    for severity, rule in points:
        count = sum(one.severity == severity for one in findings)
        rows[severity] = (count, rule.each, rule.most, min(count * rule.each, rule.most))
    columns = ["findings", "points each", "at most", "taken off"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("severity")


def score(findings: Sequence[Finding], points: Deductions) -> float:
    """Ten less the points that findings cost, never below zero."""
    return max(0.0, BEST - float(deductions(findings, points)["taken off"].sum()))


def scans(subject: Subject, limits: Gates) -> list[Scan]:
    """All scans of a subject."""
    return scan_all(subject.package, subject.advisories or settings.advisories, limits.security)


def judge(subject: Subject, limits: Gates) -> GateResult:
    """The gate: score, critical findings, open questions."""
    allowed = limits.security
    findings = [finding for scan in scans(subject, limits) for finding in scan.findings]
    measurements = [Measurement("score", score(findings, allowed.deductions), ">=", allowed.score, "of 10")]
    grave = {one.source: None for one in findings if one.severity in ("critical", "high", "unanswered")}
    return judged("security", measurements, findings, [ADVICE[source] for source in grave] or [ADVICE["bandit"]])
