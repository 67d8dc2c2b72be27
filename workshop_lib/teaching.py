"""For a class: where a learner is, how to bring a late one along, and whether everything is ready for tomorrow.

progress()                           # what of each notebook is done
catch_up("4-langchain")              # build what the modules before it leave behind
preflight()                          # the day before
"""

from __future__ import annotations

import ast
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat

from workshop_lib import doctor, processes, services
from workshop_lib.checkpoints import read_scorecard
from workshop_lib.doctor import Finding
from workshop_lib.messages import translate
from workshop_lib.notebooks import Result, find_notebooks
from workshop_lib.processes import ServiceError
from workshop_lib.settings import MODULES, ROOT, SettingsError, settings

OLD_DAYS = 14
"""A run of the notebooks that is older proves little about tomorrow."""


# --- Where a learner is -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """What is done of a notebook."""

    notebook: Path
    checkpoints: tuple[str, ...]
    """Numbers, such as ``1.3``."""
    met: int
    conditions: int
    """Recorded on the scorecard; none before the notebook has run up to its checkpoint."""

    @property
    def state(self) -> str:
        """``open``, ``done``, or ``done, N missed``."""
        if not self.conditions:
            return "open"
        return "done" if self.met == self.conditions else f"done, {self.conditions - self.met} missed"


def progress() -> list[Stage]:
    """Every notebook in the order of the course with what the scorecard says of it.

    Raises:
        ScorecardError: when the scorecard cannot be read.
    """
    records = read_scorecard()
    stages = []
    for notebook in find_notebooks():
        numbers = checkpoints_of(notebook)
        mine = [record for record in records if record["checkpoint"]["number"] in numbers]  # type: ignore[index]
        stages.append(Stage(notebook, numbers, sum(bool(record["met"]) for record in mine), len(mine)))
    return stages


def checkpoints_of(notebook: Path) -> tuple[str, ...]:
    """The numbers of a notebook's checkpoints.

    Args:
        notebook: relative to the checkout.
    """
    cells = nbformat.read(ROOT / notebook, as_version=4).cells
    found = []
    for cell in cells:
        if cell.cell_type == "code" and "checkpoint(" in cell.source:
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "checkpoint":
                    found.append(str(ast.literal_eval(node.args[0])))
    return tuple(found)


# --- A learner who comes late -----------------------------------------------------------------------


@dataclass(frozen=True)
class Built:
    """Something that was built, or was there."""

    what: str
    seconds: float


def catch_up(module: str) -> Iterator[Built]:
    """Build what the modules before one leave behind, unless it is there: data, models, weights.

    All else a notebook makes itself when it needs it. Nothing of a learner's is overwritten.

    Args:
        module: a folder such as ``4-langchain``, or its number.

    Yields:
        Each thing when it is ready.

    Raises:
        SettingsError: for a module that does not exist.
    """
    chosen = [name for name in MODULES if module.rstrip("/") in (name, name.split("-")[0])]
    if not chosen:
        raise SettingsError(f"{module!r} is not a module. Modules: {', '.join(MODULES)}.")
    for before, what, build in LEFT_BEHIND:
        if MODULES.index(before) < MODULES.index(chosen[0]):
            begun = time.monotonic()
            build()
            yield Built(what, time.monotonic() - begun)


def _data() -> None:
    from workshop_lib import data

    data.prepared()


def _forecaster() -> None:
    from workshop_lib.predictive.champion import ensure_champion

    ensure_champion()


def _churn() -> None:
    from workshop_lib.serving.households import ensure_champion

    ensure_champion()


def _weights() -> None:
    from workshop_lib.generative.weights import build_checkpoint

    if settings.llm_endpoint is None:
        build_checkpoint()


LEFT_BEHIND: tuple[tuple[str, str, Callable[[], None]], ...] = (
    ("1-predictive", "data", _data),
    ("1-predictive", "sales forecaster", _forecaster),
    ("1-predictive", "churn model", _churn),
    ("2-generative", "language model", _weights),
)
"""Which module leaves what behind, and what makes it."""


# --- The day before ---------------------------------------------------------------------------------


def preflight() -> Iterator[Finding]:
    """Whether a class can begin: the machine, each service started for a trial, and that every notebook ran here.

    Yields:
        Findings as of ``./workshop doctor``, each when it is known. Services that did not run are stopped again.
    """
    yield from doctor.examine()
    for service in services.services():
        yield _trial(service)
    yield from _runs()


def _trial(service: processes.Service) -> Finding:
    """Start a service as a notebook would."""
    ran = processes.status(service).state == "healthy"
    begun = time.monotonic()
    try:
        processes.start_with_progress(service)
    except ServiceError as error:
        return Finding(f"service {service.name}", "does not start", "problem", str(error))
    seconds = time.monotonic() - begun
    if not ran:
        processes.stop(service)
    return Finding(f"service {service.name}", "runs" if ran else f"started in {seconds:.0f} s", "ok")


def _runs() -> Iterator[Finding]:
    """What the executed copies say: which notebook ran here, when, and how long it took."""
    newest = _newest_results()
    for module in MODULES:
        names = [str(path) for path in find_notebooks([module])]
        ran = {name: newest[name] for name in names if name in newest}
        lacking = {
            "never ran": [name for name in names if name not in ran],
            "with an error": [name for name, (result, _) in ran.items() if result.error],
            "long ago": [name for name, (_, days) in ran.items() if days > OLD_DAYS],
        }
        well = len(ran) - len(lacking["with an error"])
        seconds = sum(result.seconds for result, _ in ran.values())
        advice = "; ".join(
            f"{translate(what)}: {', '.join(Path(name).stem for name in some)}"
            for what, some in lacking.items()
            if some
        )
        yield Finding(
            module,
            f"{well} of {len(names)} notebooks ran, {seconds:.0f} s together",
            "problem" if lacking["with an error"] else "note" if advice else "ok",
            f"{advice}. Call ./workshop run {module}." if advice else "",
        )


def _newest_results() -> dict[str, tuple[Result, float]]:
    """Each notebook's last result in the executed copies, and how many days ago that was."""
    newest: dict[str, tuple[Result, float]] = {}
    for file in sorted(settings.runs_dir.glob("*/run.json")):
        try:
            results = [Result(**one) for one in json.loads(file.read_text(encoding="utf-8"))["results"]]
        except (ValueError, TypeError, KeyError):
            continue  # cut off while it was written
        newest |= {result.notebook: (result, (time.time() - file.stat().st_mtime) / 86_400) for result in results}
    return newest
