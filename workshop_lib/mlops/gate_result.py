"""What a gate says, and the report of all gates: as a table, as JSON for a pipeline, as HTML for people."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from workshop_lib.checkpoints import number, verdict
from workshop_lib.files import write_text

if TYPE_CHECKING:  # the steps of a pipeline are short; they show no tables
    import pandas as pd

Status = Literal["passed", "failed", "review"]
Severity = Literal["critical", "high", "medium", "low", "unanswered"]
"""``unanswered`` is no severity: a question that nobody answered. It costs no points, and it lets nothing pass."""
GATES = ("performance", "resources", "security", "fairness", "data", "robustness")
"""In the order of a report; the module of each is called ``gate_`` and its name."""
JSON_FILE, HTML_FILE = "gate_report.json", "gate_report.html"
TEMPLATE = Path(__file__).with_name("gate_report.html")


class GateError(RuntimeError):
    """A version cannot be judged; the message says why."""


@dataclass(frozen=True)
class Measurement:
    """One figure and its limit."""

    name: str
    value: float
    """NaN when it could not be measured, which meets nothing."""
    comparison: Literal[">=", "<="]
    limit: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the limit is kept."""
        return self.value >= self.limit if self.comparison == ">=" else self.value <= self.limit


@dataclass(frozen=True)
class Finding:
    """Something that a person should know."""

    severity: Severity
    source: str
    """Which check says so."""
    text: str


@dataclass(frozen=True)
class GateResult:
    """What one gate says of a version."""

    name: str
    status: Status
    measurements: tuple[Measurement, ...] = ()
    findings: tuple[Finding, ...] = ()
    recommendation: str = ""
    """What to do about it; empty when it passed."""


def judged(
    name: str, measurements: Sequence[Measurement], findings: Sequence[Finding] = (), advice: Sequence[str] = ()
) -> GateResult:
    """A gate's result by the common rule.

    It failed when a limit is not kept or something critical was found. Otherwise it needs a review when a question
    remained unanswered. Otherwise it passed.

    Args:
        name: of the gate.
        measurements: every figure with its limit.
        findings: what a person should know.
        advice: what to do, unless the gate passed.
    """
    failed = not all(one.met for one in measurements) or any(one.severity == "critical" for one in findings)
    open_questions = any(one.severity == "unanswered" for one in findings)
    status: Status = "failed" if failed else "review" if open_questions else "passed"
    return GateResult(
        name, status, tuple(measurements), tuple(findings), "" if status == "passed" else " ".join(advice)
    )


@dataclass(frozen=True)
class Report:
    """What all gates say of one version."""

    subject: str
    version: str
    package_sha256: str
    """Checksum of the package's description, so that a report belongs to one package and no other."""
    gates: tuple[GateResult, ...]
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def status(self) -> Status:
        """``failed`` if any gate failed, else ``review`` if any needs one or was not asked, else ``passed``."""
        worst = self.asked_status
        return "review" if worst == "passed" and self.not_asked else worst

    @property
    def asked_status(self) -> Status:
        """The same of the gates that were asked, for a step of a pipeline that asks some of them."""
        said = {gate.status for gate in self.gates}
        return "failed" if "failed" in said else "review" if "review" in said else "passed"

    @property
    def not_asked(self) -> list[str]:
        """Gates that this report says nothing of."""
        return [name for name in GATES if name not in {gate.name for gate in self.gates}]

    def gate(self, name: str) -> GateResult:
        """One gate's result.

        Raises:
            KeyError: when the gate was not asked.
        """
        return {gate.name: gate for gate in self.gates}[name]

    def questions(self) -> list[str]:
        """What a person has to answer before the version may go on: the open questions of all gates."""
        opened = [
            f"{gate.name}: {finding.text}"
            for gate in self.gates
            for finding in gate.findings
            if finding.severity == "unanswered"
        ]
        return opened + [f"{name}: this gate was not asked" for name in self.not_asked]

    def table(self) -> pd.DataFrame:
        """A row per gate: status, what missed its limit or is open, recommendation."""
        import pandas as pd

        rows = [(gate.name, gate.status, problems(gate), gate.recommendation) for gate in self.gates]
        return pd.DataFrame(rows, columns=["gate", "status", "because", "recommendation"]).set_index("gate")

    def to_json(self) -> str:
        """For a pipeline. A figure that could not be measured is null."""
        body = asdict(self)
        for gate, mine in zip(body["gates"], self.gates, strict=True):
            for row, measurement in zip(gate["measurements"], mine.measurements, strict=True):
                row["met"] = measurement.met
                row["value"] = measurement.value if math.isfinite(measurement.value) else None
        return json.dumps({"status": self.status, "questions": self.questions()} | body, indent=1, ensure_ascii=False)

    def to_html(self) -> str:
        """For people: one page without scripts, readable without a network."""
        import jinja2

        page = jinja2.Template(TEMPLATE.read_text(encoding="utf-8"), autoescape=True, trim_blocks=True)
        return page.render(report=self, number=number, verdict=verdict)

    def write(self, folder: Path) -> Path:
        """Write both forms into a folder.

        Returns:
            The JSON file.
        """
        write_text(folder / HTML_FILE, self.to_html())
        write_text(folder / JSON_FILE, self.to_json())
        return folder / JSON_FILE


def problems(gate: GateResult) -> str:
    """In a line what missed its limit and what was found, the gravest first; low findings only in the full report."""
    missed = [
        f"{one.name} {number(one.value, one.unit)}, limit {one.comparison} {number(one.limit, one.unit)}"
        for one in gate.measurements
        if not one.met
    ]
    return "; ".join(missed + [one.text for one in gate.findings if one.severity in ("critical", "high", "unanswered")])
