"""The subcommands of ``./workshop``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

try:
    from workshop_lib.settings import MODULES, ROOT, SettingsError, settings
except ValueError as problem:  # a SettingsError, which cannot be imported from a module that fails to load
    sys.exit(str(problem))

if TYPE_CHECKING:  # imported where they are used: ./workshop --help must not wait for papermill
    from workshop_lib.notebooks import Run
    from workshop_lib.processes import Service

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="A hands-on MLOps course.", pretty_exceptions_enable=False
)
RECORDS = ("runs", "services", "scorecard.json", "scorecard.lock")
"""What all modules write to, below settings.home; the log of the installation stays on a reset."""
out = Console(highlight=False, soft_wrap=False)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def _say(text: str) -> None:
    """A line as it is: paths are not broken, brackets are no markup."""
    out.print(text, markup=False, soft_wrap=True)


def _warn(text: str) -> None:
    """The same on the error stream."""
    err.print(text, markup=False, soft_wrap=True)


Selection = Annotated[list[str] | None, typer.Argument(metavar="[MODULE or NOTEBOOK]…", show_default=False)]


@app.command()
def run(
    selection: Selection = None,
    parameter: Annotated[list[str], typer.Option("--parameter", "-p", help="NAME=VALUE for the notebooks.")] = [],  # noqa: B006
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not resume a run that stopped.")] = False,
    store: Annotated[bool, typer.Option("--store", help="Renew the outputs stored in the notebooks.")] = False,
) -> None:
    """Execute the notebooks in the order of the course; resumes after a failure."""
    from workshop_lib import notebooks

    paths = notebooks.find_notebooks(selection or [])
    if not paths:
        raise notebooks.NotebookError("There is no notebook to run.")
    if store:
        for path in paths:
            notebooks.store_outputs(path)
            _say(f"stored {path}")
        return
    current = notebooks.start_or_resume(paths, notebooks.parse_parameters(parameter, paths), fresh=fresh)
    done = len(current.results)
    if done:
        _say(
            f"Resuming the run of {current.folder.name}: {done} of {len(paths)} notebooks are done."
            " --fresh starts anew."
        )
    for number, result in enumerate(notebooks.execute(current), start=done + 1):
        state = "failed" if result.error else "done  "
        counts = f"checkpoints {result.met}/{result.conditions}" if result.conditions else ""
        _say(f"[{number}/{len(paths)}] {state} {result.seconds:6.1f} s  {result.notebook}  {counts}")
    _summarise_run(current)
    if current.failed:
        _warn(current.failed.error)
        _warn(f"The executed copy is {current.folder / current.failed.notebook}.")
        _warn("Run the same command again to go on from this notebook.")
        raise typer.Exit(1)


def _summarise_run(current: Run) -> None:
    results = current.results
    seconds = sum(result.seconds for result in results)
    met, conditions = sum(r.met for r in results), sum(r.conditions for r in results)
    passed = sum(not result.error for result in results)
    _say(
        f"{passed} of {len(current.notebooks)} notebooks in {seconds:.0f} s, {met} of {conditions} conditions met,"
        f" copies in {current.folder}"
    )


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def test(context: typer.Context) -> None:
    """Run the test suite; further arguments go to pytest."""
    command = [sys.executable, "-m", "pytest", *(context.args or ["tests"])]
    raise typer.Exit(subprocess.run(command, cwd=ROOT, check=False).returncode)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(context: typer.Context) -> None:
    """Open JupyterLab on the course; further arguments go to it."""
    first = "1-predictive/notebooks/01_data_exploration.ipynb"
    command = [
        sys.executable, "-m", "jupyter", "lab", f"--ServerApp.root_dir={ROOT}", "--ServerApp.ip=127.0.0.1",
        f"--LabApp.default_url=/lab/tree/{first}", *context.args,
    ]  # fmt: skip
    # The course's defaults, which a learner's own settings override: no news and no updates from the internet.
    paths = [str(ROOT / "workshop_lib" / "jupyter"), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, paths))
    os.chdir(ROOT)
    os.execv(sys.executable, command)


@app.command()
def doctor() -> None:
    """Check this machine and the environment: what works, what does not, what to do."""
    from workshop_lib import doctor as checks

    with out.status("Looking at the machine"):
        findings = checks.examine()
    table = Table("check", "found", "result", "what to do", title="Doctor", title_justify="left")
    for finding in findings:
        colour = {"ok": "green", "note": "yellow", "problem": "red"}[finding.verdict]
        table.add_row(finding.check, escape(finding.found), f"[{colour}]{finding.verdict}[/]", escape(finding.advice))
    out.print(table)
    if any(finding.verdict == "problem" for finding in findings):
        raise typer.Exit(1)


Names = Annotated[list[str] | None, typer.Argument(metavar="[SERVICE]…", show_default=False)]


@app.command()
def up(names: Names = None) -> None:
    """Start the local services, or those that are named, and show where they are."""
    from workshop_lib import processes

    for service in _chosen(names):
        processes.start_with_progress(service)
    _show_services()


@app.command()
def down(names: Names = None) -> None:
    """Stop the local services, or those that are named."""
    from workshop_lib import processes

    for service in _chosen(names):
        stopped = processes.stop(service)
        _say(f"{service.name}: {'stopped' if stopped else 'was not running'}")


@app.command()
def status() -> None:
    """Show the local services: addresses, health, logs."""
    _show_services()


def _chosen(names: list[str] | None) -> list[Service]:
    from workshop_lib import services

    known = {service.name: service for service in services.services()}
    if unknown := [name for name in names or [] if name not in known]:
        raise SettingsError(f"There is no local service {', '.join(unknown)}. Known: {', '.join(known) or 'none'}.")
    return [known[name] for name in names or known]


def _show_services() -> None:
    from workshop_lib import processes, services

    table = Table("service", "state", Column("address", no_wrap=True), "started in", Column("log", overflow="fold"))
    for service in services.services():
        found = processes.status(service)
        seconds = f"{found.start_seconds:.0f} s" if found.start_seconds else ""
        table.add_row(found.name, found.state, found.url, seconds, escape(_short(found.log)))
    out.print(table)


@app.command()
def scorecard(as_json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False) -> None:
    """Show every target of the course beside what was measured on this machine."""
    from workshop_lib.checkpoints import SCORECARD_KEYS, number, read_scorecard, verdict

    records = read_scorecard()
    if as_json:
        print(
            json.dumps(
                [{key: record[key] for key in SCORECARD_KEYS} for record in records], indent=2, ensure_ascii=False
            )
        )
        return
    if not records:
        _say("Nothing was measured yet. ./workshop run executes the notebooks and fills the scorecard.")
        return
    table = Table("condition", "target", "measured", "result", "when", title="Scorecard", title_justify="left")
    previous = None
    for record in records:
        heading = f"{record['checkpoint']['number']} {record['checkpoint']['label']}"  # type: ignore[index]
        if heading != previous:
            table.add_section()
            table.add_row(f"[bold]{escape(heading)}[/]")
        measured = float("nan") if record["measured"] is None else float(record["measured"])  # type: ignore[arg-type]
        unit = str(record["unit"])
        when = datetime.fromisoformat(str(record["measured_at"])).astimezone()
        table.add_row(
            escape(str(record["label"])),
            f"{record['comparison']} {number(float(record['target']), unit)}",  # type: ignore[arg-type]
            number(measured, unit),
            f"[{'green' if record['met'] else 'red'}]{verdict(bool(record['met']))}[/]",
            f"{when:%d %b %H:%M}",
        )
        previous = heading
    out.print(table)
    met = sum(bool(record["met"]) for record in records)
    _say(f"{met} of {len(records)} targets met. Measured on {records[-1]['machine']}.")


@app.command()
def reset(
    module: Annotated[str | None, typer.Argument(help="A module folder; everything when left out.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete what the course generated; the installation and your notebooks stay."""
    from workshop_lib import processes, services
    from workshop_lib.checkpoints import forget

    if module is not None and module not in MODULES:
        raise SettingsError(f"{module!r} is not a module. Modules: {', '.join(MODULES)}.")
    targets = [path for path in _generated(module) if path.exists()]
    _say("To be deleted: " + (", ".join(_short(path) for path in targets) or "nothing") + ".")
    if targets and not yes and sys.stdin.isatty():
        typer.confirm("Delete?", abort=True)
    for service in services.services():
        processes.stop(service)
    for path in targets:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if module is not None:
        forget(module)
    _say("Clean.")


def _generated(module: str | None) -> list[Path]:
    """What `reset` removes: a module's products, or those of all modules and the records of the course.

    They are named one by one, because WORKSHOP_HOME may be a folder that holds a learner's own files too.
    """
    products = {
        "1-predictive": ["data", "data-own", "mlflow", "models", "predictions"],
        "2-generative": ["llm"],
        "3-serving": ["benchmarks", "forecasts"],
        "4-langchain": ["assistant", "screenshots"],
    }
    names = products.get(module, []) if module else [*chain(*products.values()), *RECORDS]
    # What an interrupted preparation left behind starts with a dot (workshop_lib.files.atomic_path).
    return [path for name in names for path in (settings.home / name, *settings.home.glob(f".{name}.*"))]


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def main() -> None:
    """Run a subcommand; a known failure ends in one readable message."""
    from workshop_lib.checkpoints import ScorecardError
    from workshop_lib.processes import ServiceError

    try:
        app(prog_name="./workshop")
    except (SettingsError, ScorecardError, ServiceError, OSError) as error:
        _fail(error)
    except RuntimeError as error:
        from workshop_lib.notebooks import NotebookError

        if not isinstance(error, NotebookError):
            raise
        _fail(error)


def _fail(error: Exception) -> None:
    _warn(str(error))
    sys.exit(1)


if __name__ == "__main__":
    main()
