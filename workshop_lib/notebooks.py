"""Run the course's notebooks with papermill: in order, with parameters, resumable.

Executed copies go to ``generated/runs/<time>/``; the notebooks of the checkout stay as they are,
unless their stored outputs are renewed on purpose (:func:`store_outputs`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from workshop_lib.checkpoints import read_scorecard
from workshop_lib.files import atomic_path, write_text
from workshop_lib.settings import MODULES, ROOT, settings

CELL_SECONDS = 600
"""A cell that takes longer is stopped: a notebook must never hang a class or CI."""
ROOM_GIB = 3.0
"""Memory that a notebook may want beside the largest service, the language model."""
_SHOWN_LINES = 12


class NotebookError(RuntimeError):
    """A notebook, or what was asked of it, does not work; the message says where and why."""


@dataclass
class Result:
    """One executed notebook."""

    notebook: str
    source: str
    """Fingerprint of the notebook and the library that ran."""
    seconds: float = 0.0
    met: int = 0
    conditions: int = 0
    error: str = ""


@dataclass
class Run:
    """A run of several notebooks; kept in ``run.json`` beside the executed copies."""

    folder: Path
    notebooks: list[str]
    parameters: dict[str, Any]
    results: list[Result] = field(default_factory=list)

    @property
    def failed(self) -> Result | None:
        """The notebook that ended the run, if one did."""
        return next((result for result in self.results if result.error), None)

    @property
    def finished(self) -> bool:
        """Whether every notebook ran without an error."""
        return not self.failed and len(self.results) == len(self.notebooks)

    def save(self) -> None:
        """Write ``run.json``."""
        content = asdict(self) | {"folder": self.folder.name}
        write_text(self.folder / "run.json", json.dumps(content, indent=1))


def find_notebooks(selection: Sequence[str] = ()) -> list[Path]:
    """The notebooks of the course, in its order.

    Args:
        selection: modules (``1-predictive`` or ``1``), notebook files or names (``03_train_forecaster``);
            everything when empty.

    Returns:
        Paths relative to the checkout.

    Raises:
        NotebookError: when a word of the selection names nothing.
    """
    course = [path.relative_to(ROOT) for module in MODULES for path in _in_reading_order(ROOT / module)]
    if not selection:
        return course
    chosen: set[Path] = set()
    for word in selection:
        given = Path(word).resolve()
        name = word.rstrip("/").removesuffix(".ipynb")
        found = {
            path
            for path in course
            if name in (path.parts[0], path.parts[0].split("-")[0], path.stem, str(path.with_suffix("")))
            or (ROOT / path) == given
            or (ROOT in given.parents and given in (ROOT / path).parents)
        }
        if not found:
            raise NotebookError(
                f"{word!r} names no notebook or module. Modules: {', '.join(MODULES)}."
                f" Notebooks: {', '.join(path.stem for path in course) or 'none yet'}."
            )
        chosen |= found
    return [path for path in course if path in chosen]


def _in_reading_order(module: Path) -> list[Path]:
    """A module's notebooks as its README lists them; those that it does not name follow by their paths."""
    readme = module / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    links = [(module / link).resolve() for link in re.findall(r"\]\(([^()\s]+\.ipynb)\)", text)]
    place = {path: number for number, path in reversed(list(enumerate(links)))}
    found = [
        path
        for path in sorted(module.rglob("*.ipynb"))
        if not any(part.startswith(".") for part in path.relative_to(module).parts)
    ]
    return sorted(found, key=lambda path: place.get(path.resolve(), len(place)))


def parameters_of(notebook: Path) -> set[str]:
    """Names that the cell tagged ``parameters`` of a notebook sets.

    Raises:
        NotebookError: when the file is not a notebook, as after an unfinished merge.
    """
    try:
        return set(papermill.inspect_notebook(str(ROOT / notebook)))
    except ValueError as error:
        raise NotebookError(f"{notebook} cannot be read as a notebook: {_first_lines(str(error))[0][:200]}") from None


def parse_parameters(pairs: Sequence[str], notebooks: Sequence[Path]) -> dict[str, Any]:
    """Turn ``["categories=40"]`` into ``{"categories": 40}``.

    Raises:
        NotebookError: for a pair without ``=`` and for a name that no chosen notebook has.
    """
    known = {path: parameters_of(path) for path in notebooks} if pairs else {}
    names = set().union(*known.values()) if known else set()
    result = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise NotebookError(f"{pair!r} is not of the form name=value, such as categories=40.")
        if name not in names:
            raise NotebookError(
                f"No chosen notebook has the parameter {name!r}. They have: {', '.join(sorted(names))}."
            )
        try:
            result[name] = json.loads(text)
        except ValueError:
            result[name] = text  # a word without quotes
    return result


def start_or_resume(notebooks: Sequence[Path], parameters: Mapping[str, Any], *, fresh: bool = False) -> Run:
    """A new run, or the latest one when it stopped early and asked for the same.

    Args:
        notebooks: what to run, in order.
        parameters: values for the notebooks' parameter cells.
        fresh: start anew even if there is something to resume.
    """
    names = [str(path) for path in notebooks]
    previous = None if fresh else _latest_run()
    if previous and not previous.finished and (previous.notebooks, previous.parameters) == (names, dict(parameters)):
        previous.results = _still_valid(previous.results)
        return previous
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return Run(settings.runs_dir / now, names, dict(parameters))


def execute(run: Run) -> Iterator[Result]:
    """Run what is left of a run, one notebook after the other; stops after the first failure.

    Yields:
        Each notebook's result when it is done. ``run.json`` is up to date at every step.
    """
    for name in run.notebooks[len(run.results) :]:
        _make_room()
        result = _execute_one(Path(name), run)
        run.results.append(result)
        run.save()
        yield result
        if result.error:
            return


def _make_room() -> None:
    """Where little memory is left, as on a laptop with 8 GB, stop what earlier notebooks started.

    A notebook starts what it needs; elsewhere services go on running, which saves their start.
    """
    if psutil.virtual_memory().available / 2**30 < ROOM_GIB:
        from workshop_lib import processes, services

        for service in services.services():
            processes.stop(service)


def execute_notebook(notebook: Path, output: Path, parameters: Mapping[str, Any] | None = None) -> None:
    """Execute one notebook into ``output``, with a progress bar on a terminal.

    Args:
        notebook: path relative to the checkout.
        output: file for the executed copy; written as far as it came when a cell fails.
        parameters: values for its parameter cell; names it does not have are left out.

    Raises:
        NotebookError: with the failing cell and its error.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    known = parameters_of(notebook)
    try:
        with _headless():
            papermill.execute_notebook(
                str(ROOT / notebook),
                str(output),
                parameters={name: value for name, value in (parameters or {}).items() if name in known},
                cwd=str((ROOT / notebook).parent),
                kernel_name="python3",
                progress_bar={"desc": notebook.stem, "leave": False, "disable": None},  # None: only on a terminal
                execution_timeout=CELL_SECONDS,
                # After each cell it would take a second in all; a failure and the end write the copy anyway.
                request_save_on_cell_execute=False,
                # The kernel would warn on the terminal that it talks unencrypted, which it does on loopback only, and
                # call it an error when the interrupt that ends it reaches it at work. A failing cell is no log.
                extra_arguments=["--log-level=CRITICAL"],
                # Else each kernel warns that what passes between it and us could be overheard.
                config=Config({"KernelManager": {"transport_encryption": "auto"}}),
            )
    except PapermillExecutionError as error:
        raise NotebookError(_describe_failure(notebook, error)) from None
    except CellTimeoutError:
        raise NotebookError(f"{notebook}: a cell took longer than {CELL_SECONDS} s and was stopped.") from None
    except DeadKernelError:
        raise NotebookError(
            f"{notebook}: the kernel died, usually for want of memory. Close other programs; ./workshop doctor"
            " shows how much is free."
        ) from None


def store_outputs(notebook: Path) -> None:
    """Execute a notebook of the checkout at its defaults and keep the outputs in it.

    They are the reference that the test suite compares with, and what a reader sees before running
    anything. Logs and progress on the error stream are not results and are refused.

    Raises:
        NotebookError: when a cell fails or writes to the error stream, or when the language is not English; the
            notebook stays as it was.
    """
    if settings.lang != "en":
        raise NotebookError("Stored outputs are in English, as their notebooks are. Set WORKSHOP_LANG=en.")
    with atomic_path(ROOT / notebook) as draft:
        execute_notebook(notebook, draft)
        content = nbformat.read(draft, as_version=4)
        for number, cell in enumerate(content.cells, start=1):
            cell.metadata.pop("papermill", None)
            cell.metadata.pop("execution", None)
            cell.metadata.setdefault("tags", [])
            noise = [output["text"] for output in cell.get("outputs", []) if output.get("name") == "stderr"]
            if noise:
                raise NotebookError(f"{notebook}, cell {number} writes to the error stream: {noise[0][:400]}")
            if not cell.metadata["tags"]:
                del cell.metadata["tags"]
        content.metadata = {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
        nbformat.write(content, draft)


def _execute_one(notebook: Path, run: Run) -> Result:
    result = Result(str(notebook), _fingerprint(notebook))
    before, start = read_scorecard(), time.perf_counter()
    try:
        execute_notebook(notebook, run.folder / notebook, run.parameters)
    except NotebookError as error:
        result.error = str(error)
    result.seconds = time.perf_counter() - start
    measured = [record for record in read_scorecard() if record not in before]
    result.conditions, result.met = len(measured), sum(bool(record["met"]) for record in measured)
    return result


def _describe_failure(notebook: Path, error: PapermillExecutionError) -> str:
    cell = [f"    {line}" for line in _first_lines(error.source)]
    message = _first_lines(f"{error.ename}: {_without_colours(error.evalue)}")
    return "\n".join([f"{notebook}, code cell [{error.exec_count}] failed:", *cell, *message])


def _first_lines(text: str) -> list[str]:
    lines = text.rstrip().splitlines()
    return lines[:_SHOWN_LINES] + ["…"] * (len(lines) > _SHOWN_LINES)


def _without_colours(text: str) -> str:
    """Drop terminal colour codes that IPython puts into error texts."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@contextmanager
def _headless() -> Iterator[None]:
    """Tell the kernels that nobody watches: no progress bars in stored outputs."""
    before = os.environ.get("WORKSHOP_PROGRESS")
    os.environ["WORKSHOP_PROGRESS"] = "false"
    # Kernels start without the frozen-modules check of the debugger, which warns on the error stream.
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    try:
        yield
    finally:
        if before is None:
            del os.environ["WORKSHOP_PROGRESS"]
        else:
            os.environ["WORKSHOP_PROGRESS"] = before


def _latest_run() -> Run | None:
    """The newest run with a readable ``run.json``."""
    for file in sorted(settings.runs_dir.glob("*/run.json"), reverse=True):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            results = [Result(**result) for result in content["results"]]
            return Run(file.parent, content["notebooks"], content["parameters"], results)
        except (ValueError, TypeError, KeyError):
            continue  # cut off while it was written by an older version: not resumable
    return None


def _still_valid(results: list[Result]) -> list[Result]:
    """The results up to the first that failed or whose notebook or library has changed since."""
    valid = []
    for result in results:
        if result.error or result.source != _fingerprint(Path(result.notebook)):
            break
        valid.append(result)
    return valid


def _fingerprint(notebook: Path) -> str:
    digest = hashlib.sha256((ROOT / notebook).read_bytes())
    for file in sorted((ROOT / "workshop_lib").rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
