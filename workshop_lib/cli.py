"""The subcommands of ``./workshop``."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Column

try:
    from workshop_lib.console import add_finding, add_heading, add_row, findings, out, say, table, warn
    from workshop_lib.messages import translate
    from workshop_lib.settings import MODULES, ROOT, SettingsError, settings
except ValueError as problem:  # a SettingsError, which cannot be imported from a module that fails to load
    sys.exit(str(problem))

if TYPE_CHECKING:  # imported where they are used: ./workshop --help must not wait for papermill
    from workshop_lib.notebooks import Run
    from workshop_lib.processes import Service

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help=translate("A hands-on MLOps course."),
    pretty_exceptions_enable=False,
)


def _command(name: str | None = None, **options: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A subcommand, whose docstring is its help in the learner's language."""
    return lambda function: app.command(name, help=translate(inspect.getdoc(function) or ""), **options)(function)


Selection = Annotated[list[str] | None, typer.Argument(metavar="[MODULE or NOTEBOOK]…", show_default=False)]


@_command()
def run(
    selection: Selection = None,
    parameter: Annotated[
        list[str], typer.Option("--parameter", "-p", help=translate("NAME=VALUE for the notebooks."))
    ] = [],  # noqa: B006
    fresh: Annotated[bool, typer.Option("--fresh", help=translate("Do not resume a run that stopped."))] = False,
    store: Annotated[
        bool, typer.Option("--store", help=translate("Renew the outputs stored in the notebooks."))
    ] = False,
) -> None:
    """Execute the notebooks in the order of the course; resumes after a failure."""
    from workshop_lib import notebooks

    paths = notebooks.find_notebooks(selection or [])
    if not paths:
        raise notebooks.NotebookError("There is no notebook to run.")
    if store:
        for path in paths:
            notebooks.store_outputs(path)
            say(f"stored {path}")
        return
    current = notebooks.start_or_resume(paths, notebooks.parse_parameters(parameter, paths), fresh=fresh)
    done = len(current.results)
    if done:
        say(
            f"Resuming the run of {current.folder.name}: {done} of {len(paths)} notebooks are done."
            " --fresh starts anew."
        )
    for number, result in enumerate(notebooks.execute(current), start=done + 1):
        state = translate("error") if result.error else translate("done")
        counts = f"checkpoints {result.met}/{result.conditions}" if result.conditions else ""
        say(f"[{number}/{len(paths)}] {state:6} {result.seconds:6.1f} s  {result.notebook}  {counts}")
    _summarise_run(current)
    if current.failed:
        warn(current.failed.error)
        warn(f"The executed copy is {current.folder / current.failed.notebook}.")
        warn("Run the same command again to go on from this notebook.")
        raise typer.Exit(1)


def _summarise_run(current: Run) -> None:
    results = current.results
    seconds = sum(result.seconds for result in results)
    met, conditions = sum(r.met for r in results), sum(r.conditions for r in results)
    passed = sum(not result.error for result in results)
    say(
        f"{passed} of {len(current.notebooks)} notebooks in {seconds:.0f} s, {met} of {conditions} conditions met,"
        f" copies in {current.folder}"
    )


@_command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def test(context: typer.Context) -> None:
    """Run the test suite; further arguments go to pytest."""
    command = [sys.executable, "-m", "pytest", *(context.args or ["tests"])]
    raise typer.Exit(subprocess.run(command, cwd=ROOT, check=False).returncode)


@_command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(
    context: typer.Context,
    lang: Annotated[
        Literal["en", "es"] | None, typer.Option(help=translate("Language; WORKSHOP_LANG by default."))
    ] = None,
) -> None:
    """Open JupyterLab on the course; further arguments go to it."""
    first, folder, language = "1-predictive/notebooks/00_what_is_mlops.ipynb", ROOT, lang or settings.lang
    os.environ["WORKSHOP_LANG"] = language  # for the kernels
    if language != "en":
        folder = _in_language(language)
    command = [
        sys.executable, "-m", "jupyter", "lab", f"--ServerApp.root_dir={folder}", "--ServerApp.ip=127.0.0.1",
        f"--LabApp.default_url=/lab/tree/{first}", *context.args,
    ]  # fmt: skip
    # The course's defaults, which a learner's own settings override: no news and no updates from the internet.
    paths = [str(ROOT / "workshop_lib" / "jupyter"), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, paths))
    os.chdir(ROOT)
    os.execv(sys.executable, command)


def _in_language(language: str) -> Path:
    """The folder with the notebooks in a language, brought up to date; what was worked in them stays."""
    from workshop_lib import editions

    if (ROOT / editions.MARK).exists():
        return ROOT
    folder = settings.home / "editions" / language
    with out.status(str(folder)):
        editions.write_edition(language, folder, whole=False)
    return folder


@_command()
def edition(
    language: Annotated[str, typer.Argument(help="es")],
    folder: Annotated[Path, typer.Argument(help=translate("Where to; what you worked on there stays."))],
) -> None:
    """Write the whole course in another language, as for a workbench."""
    from workshop_lib import editions

    with out.status(str(folder)):
        written = editions.write_edition(language, folder)
    say(f"{len(written)} notebooks and pages in {folder}")


@_command()
def slides(
    module: Annotated[str, typer.Argument(help=translate("A module folder, such as 3-serving, or a notebook."))],
    file: Annotated[Path | None, typer.Argument(help=translate("Where to; in generated/slides by default."))] = None,
) -> None:
    """Write a module's slides as one page of HTML that works offline."""
    from workshop_lib.slides import write_slides

    target = file or settings.home / "slides" / f"{Path(module).stem}.{settings.lang}.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    count = write_slides(module, target)
    say(f"{count} slides in {_short(target)}")


@_command()
def doctor() -> None:
    """Check this machine and the environment: what works, what does not, what to do."""
    from workshop_lib import doctor as checks

    with out.status(translate("Looking at the machine")):
        found = checks.examine()
    shown = findings("Doctor")
    for finding in found:
        add_finding(shown, finding)
    out.print(shown)
    if any(finding.verdict == "problem" for finding in found):
        raise typer.Exit(1)


Names = Annotated[list[str] | None, typer.Argument(metavar="[SERVICE]…", show_default=False)]


@_command()
def up(names: Names = None) -> None:
    """Start the local services, or those that are named, and show where they are."""
    from workshop_lib import processes

    for service in _chosen(names):
        processes.start_with_progress(service)
    _show_services()


@_command()
def down(names: Names = None) -> None:
    """Stop the local services, or those that are named."""
    from workshop_lib import processes

    for service in _chosen(names):
        stopped = processes.stop(service)
        say(f"{service.name}: {translate('stopped' if stopped else 'was not running')}")
    if not names:
        from workshop_lib.mlops import deployments

        deployments.stop_all()  # the stages of module 6


@_command()
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

    address, log = Column("address", no_wrap=True), Column("log", overflow="fold")
    shown = table("", "service", "state", address, "started in", log)
    for service in services.services():
        found = processes.status(service)
        seconds = f"{found.start_seconds:.0f} s" if found.start_seconds else ""
        add_row(shown, found.name, found.state, found.url, seconds, _short(found.log))
    out.print(shown)


@_command()
def scorecard(
    as_json: Annotated[bool, typer.Option("--json", help=translate("Print a list of objects."))] = False,
) -> None:
    """Show every target of the course beside what was measured on this machine."""
    from workshop_lib.checkpoints import SCORECARD_KEYS, number, read_scorecard

    records = read_scorecard()
    if as_json:
        print(
            json.dumps(
                [{key: record[key] for key in SCORECARD_KEYS} for record in records], indent=2, ensure_ascii=False
            )
        )
        return
    if not records:
        say("Nothing was measured yet. ./workshop run executes the notebooks and fills the scorecard.")
        return
    shown = table("Scorecard", "condition", "target", "measured", "result", "when")
    previous = None
    for record in records:
        checkpoint: dict[str, str] = record["checkpoint"]  # type: ignore[assignment]
        heading = f"{checkpoint['number']} {translate(checkpoint['label'])}"
        if heading != previous:
            add_heading(shown, heading)
        measured = float("nan") if record["measured"] is None else float(record["measured"])  # type: ignore[arg-type]
        unit = str(record["unit"])
        when = datetime.fromisoformat(str(record["measured_at"])).astimezone()
        add_row(
            shown,
            str(record["label"]),
            f"{record['comparison']} {number(float(record['target']), unit)}",  # type: ignore[arg-type]
            number(measured, unit),
            "met" if record["met"] else "missed",
            f"{when:%d %b %H:%M}",
            state=3,
        )
        previous = heading
    out.print(shown)
    met = sum(bool(record["met"]) for record in records)
    say(f"{met} of {len(records)} targets met. Measured on {records[-1]['machine']}.")


@_command()
def progress() -> None:
    """Show which notebooks are done, and where to go on."""
    from workshop_lib import teaching

    stages = teaching.progress()
    shown = table("Progress", "notebook", "checkpoint", "conditions met", "state")
    for module in MODULES:
        add_heading(shown, module)
        for stage in stages:
            if stage.notebook.parts[0] == module:
                counts = f"{stage.met}/{stage.conditions}" if stage.conditions else ""
                add_row(shown, stage.notebook.stem, ", ".join(stage.checkpoints), counts, stage.state, state=3)
    out.print(shown)
    done = sum(stage.state != "open" for stage in stages)
    following = next((stage.notebook for stage in stages if stage.state == "open"), None)
    say(f"{done} of {len(stages)} notebooks done.")
    if following:
        say(f"Next: {following}")


@_command("catch-up")
def catch_up(
    module: Annotated[str, typer.Argument(help=translate("The module that the class begins, such as 4-langchain."))],
) -> None:
    """Build what the modules before one leave behind, for a learner who comes late."""
    from workshop_lib import teaching

    seconds = 0.0
    for built in teaching.catch_up(module):
        say(f"{built.seconds:6.1f} s  {translate(built.what)}")
        seconds += built.seconds
    say(f"Ready for {module} after {seconds:.0f} s.")


@_command()
def preflight() -> None:
    """Check the day before a class: the machine, every service, and that every notebook ran here."""
    from workshop_lib import teaching

    shown, problems = findings("Preflight"), 0
    with out.status(translate("Looking at the machine, the services and the last runs")):
        for finding in teaching.preflight():
            add_finding(shown, finding)
            problems += finding.verdict == "problem"
    out.print(shown)
    if problems:
        raise typer.Exit(1)


@_command()
def reset(
    module: Annotated[str | None, typer.Argument(help=translate("A module folder; everything when left out."))] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help=translate("Do not ask."))] = False,
) -> None:
    """Delete what the course generated; the installation and your notebooks stay."""
    from workshop_lib import processes, products, services
    from workshop_lib.checkpoints import forget
    from workshop_lib.mlops import deployments

    if module is not None and module not in MODULES:
        raise SettingsError(f"{module!r} is not a module. Modules: {', '.join(MODULES)}.")
    targets = [path for path in products.generated(module) if path.exists()]
    say(f"To be deleted: {', '.join(_short(path) for path in targets) or translate('nothing')}.")
    if targets and not yes and sys.stdin.isatty():
        typer.confirm(translate("Delete?"), abort=True)
    for service in services.services():
        processes.stop(service)
    deployments.stop_all()
    for path in targets:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if module is not None:
        forget(module)
    say("Clean.")


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
        from workshop_lib.catalogues import CatalogueError
        from workshop_lib.editions import EditionError
        from workshop_lib.notebooks import NotebookError

        if not isinstance(error, (NotebookError, EditionError, CatalogueError)):
            raise
        _fail(error)


def _fail(error: Exception) -> None:
    warn(str(error))
    sys.exit(1)


if __name__ == "__main__":
    main()
