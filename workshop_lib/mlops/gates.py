"""Quality gates: may this version serve? Six questions, each answered by measuring, with limits from one file.

    report = run_gates(Subject(package.folder))
    report.status                                   # passed, failed or review
    report.write(folder)                            # HTML for people, JSON for the pipeline

    python -m workshop_lib.mlops.gates --package FOLDER --out FOLDER --exit-code

A gate has three answers. *Passed* and *failed* are measured. *Review* means that a question remained open which no
measurement here can answer: nobody could say whether a package has known weaknesses, or a group is too small to tell
a difference from chance. A person then decides (:mod:`workshop_lib.mlops.approvals`). A gate that cannot ask never
passes by itself, and a report without all gates is for a person, too.

Each gate lies in a module of its own and is imported when it is asked: a step of a pipeline that scans files need not
wait for the import of a server.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_lib.files import sha256
from workshop_lib.mlops.gate_config import Gates, load_gates
from workshop_lib.mlops.gate_result import GATES, GateError, GateResult, Report, Status
from workshop_lib.mlops.packages import PACKAGE_JSON

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EXIT_CODES", "GATES", "GateError", "GateResult", "Report", "Subject", "main", "run_gates"]

EXIT_CODES: dict[Status, int] = {"passed": 0, "review": 3, "failed": 4}
"""1 is a failure of the command and 2 a wrong argument."""


@dataclass(frozen=True)
class Subject:
    """What is judged: a package of the forecaster, and what serves beside it."""

    package: Path
    """The package's folder."""
    churn: Any = None
    """The churn model, a fitted classifier; the registered champion when None."""
    tables: Callable[[], tuple[pd.DataFrame, pd.DataFrame]] | None = None
    """Gives raw sales lines and products; the newest weeks of the shop's own when None."""
    advisories: str | None = None
    """Where to ask for known weaknesses of the environment's packages; ``settings.advisories`` when None."""

    @property
    def about(self) -> dict[str, Any]:
        """What the package says about itself. Whether that is true is a question of the gate ``security``.

        Raises:
            GateError: when the folder is no package.
        """
        try:
            return dict(json.loads((self.package / PACKAGE_JSON).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise GateError(f"{self.package} is no package that could be judged ({error}).") from error


def run_gates(subject: Subject, only: Sequence[str] | None = None, limits: Gates | None = None) -> Report:
    """Ask the gates about a version.

    Args:
        subject: what is judged.
        only: names from :data:`GATES`; all by default.
        limits: those of ``settings.quality_gates`` by default.

    Raises:
        GateError: when there is no such gate, or the subject is no package.
        ConfigError: when the limits cannot be read.
    """
    unknown = sorted(set(only or ()) - set(GATES))
    if unknown or only == []:
        raise GateError(f"There is no gate {', '.join(unknown) or 'to ask'}; there are {', '.join(GATES)}.")
    limits, about = limits or load_gates(), subject.about
    wanted = [name for name in GATES if only is None or name in only]
    results = [import_module(f"workshop_lib.mlops.gate_{name}").judge(subject, limits) for name in wanted]
    return Report(about["name"], about["version"], sha256(subject.package / PACKAGE_JSON), tuple(results))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workshop_lib.mlops.gates", description="May this version serve?")
    parser.add_argument("--package", type=Path, required=True, help="the package's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")
    parser.add_argument("--only", nargs="+", choices=GATES, help="some gates; all by default")
    parser.add_argument("--exit-code", action="store_true", help="3 for review, 4 for failed")
    given = parser.parse_args(arguments)
    try:
        report = run_gates(Subject(given.package), given.only)
    except (GateError, ValueError, OSError) as error:
        print(f"No report: {error}", file=sys.stderr)
        return 1
    written = report.write(given.out)
    for gate in report.gates:
        print(f"{gate.name}: {gate.status}. {gate.recommendation}".rstrip())
    print(f"{report.subject} {report.version}: {report.status}, see {written}")
    return EXIT_CODES[report.asked_status] if given.exit_code else 0


if __name__ == "__main__":
    sys.exit(main())
