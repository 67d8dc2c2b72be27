"""Every notebook, at its defaults and in the order of the course, gives what is stored in it.

nbval compares all outputs but pictures. They run in a home of their own, as they do for a learner who starts.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest

from workshop_lib import processes, services
from workshop_lib.checkpoints import Checkpoint, Condition, at_least, at_most
from workshop_lib.generative.server import llm_server
from workshop_lib.notebooks import CELL_SECONDS, find_notebooks
from workshop_lib.settings import ROOT, settings

HERE = Path(__file__).parent
NOTEBOOKS = find_notebooks()
OWN_SERVICES = ("mlflow", "forecaster", "api", "dashboard")
"""Services that know the home they were started in."""
Compare = Callable[[Path], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def compare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compare]:
    """Run a notebook under nbval; all of this module's notebooks share one new home."""
    home = tmp_path_factory.mktemp("home")
    processes.start(llm_server())
    # The language model is the same in every home: its weights and its running server are shared.
    (home / "services").mkdir()
    for name in ("llm", "services/llm.json", "services/llm-key.txt"):
        (home / name).symlink_to(settings.home / name)

    def with_nbval(notebook: Path) -> subprocess.CompletedProcess[str]:
        # What runs here is not this session: its options, which keep nbval out, are put aside.
        options = ["-o", "addopts=", "-p", "no:cacheprovider", "-vv", "-rN", "--tb=short", "--color=no"]
        nbval = ["-p", "keep_history", "--nbval", "--nbval-current-env", "--nbval-cell-timeout", str(CELL_SECONDS)]
        nbval += ["--nbval-sanitize-with", str(HERE / "sanitize.cfg")]
        return subprocess.run(
            [sys.executable, "-m", "pytest", *options, *nbval, notebook],
            cwd=ROOT, env=os.environ | {"WORKSHOP_HOME": str(home), "PYTHONPATH": str(HERE)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    yield with_nbval
    down = [sys.executable, "-m", "workshop_lib.cli", "down", *OWN_SERVICES]
    subprocess.run(down, env=os.environ | {"WORKSHOP_HOME": str(home)}, capture_output=True, check=True)


@pytest.fixture(scope="module", autouse=True)
def _no_service_of_another_home() -> None:
    """The ports are this home's now: a server that an earlier test left on one of them knows another home."""
    for service in services.services():
        if service.name in OWN_SERVICES:
            processes.stop(service)


def test_there_is_something_to_compare() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=str)
def test_a_notebook_gives_what_is_stored_in_it(notebook: Path, compare: Compare) -> None:
    done = compare(ROOT / notebook)
    assert done.returncode == 0, differences(done)
    assert verdicts(done)[0] == "PASSED"


def differences(done: subprocess.CompletedProcess[str]) -> str:
    """The cells that differ, and how; all that was printed where it did not come to that."""
    _, found, failures = done.stdout.partition("= FAILURES =")
    return failures[:12_000] if found else (done.stdout + done.stderr)[-6000:]


def verdicts(done: subprocess.CompletedProcess[str]) -> dict[int, str]:
    return {int(cell): verdict for cell, verdict in re.findall(r"::Cell (\d+).* (PASSED|FAILED)", done.stdout)}


# --- The comparison itself: what it must see, and the little that it may overlook -----------------

IMPORTS = "from workshop_lib.checkpoints import at_least, at_most, checkpoint"


def outputs_of(shown: Checkpoint) -> dict[str, str]:
    return {"text/plain": repr(shown), "text/html": shown._repr_html_()}


def stored(*conditions: Condition) -> dict[str, str]:
    return outputs_of(Checkpoint("1.1", "Done", conditions, "then"))


def text(shown: str) -> dict[str, str]:
    return {"text/plain": shown}


# Code, the output stored with it, and whether nbval has to call the two different.
CELLS = [
    (IMPORTS, None, False),
    ("1 + 1", text("2"), False),
    ("1 + 1;", None, False),
    ("1 + 1", text("3"), True),
    ("{'r2': 0.85, 'met': 1}", text("{'r2': 0.86, 'met': 1}"), True),
    ("'{0.85, met}'", text("'{0.86, met}'"), True),
    ("object()", text("<object at 0x7f0000000000>"), False),
    (
        "checkpoint('1.1', 'Done', [at_most('s', 9.5, 60, 'training', 's', speed=True)])",
        stored(at_most("s", 75, 60, "training", "s", speed=True)),
        False,
    ),
    (
        "checkpoint('1.1', 'Done', [at_most('s', 9.5, 60, 'training', 's', speed=True)])",
        stored(at_most("s", 9.5, 61, "training", "s", speed=True)),  # the promise itself was changed
        True,
    ),
    (
        "checkpoint('1.1', 'Done', [at_least('r2', 0.87, 0.85, 'R²')])",
        stored(at_least("r2", 0.86, 0.85, "R²")),
        True,
    ),
    ("import sys\nprint('noise', file=sys.stderr)", None, True),
    ("print('table')", None, True),
]


def test_the_comparison_sees_changed_figures_and_overlooks_speed(compare: Compare, tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook()
    for code, data, _ in CELLS:
        outputs = [nbformat.v4.new_output("execute_result", data, execution_count=1)] if data else []
        notebook.cells.append(nbformat.v4.new_code_cell(code, outputs=outputs, execution_count=1))
    nbformat.write(notebook, tmp_path / "scratch.ipynb")
    done = compare(tmp_path / "scratch.ipynb")
    expected = {number: "FAILED" if differs else "PASSED" for number, (_, _, differs) in enumerate(CELLS)}
    assert verdicts(done) == expected, done.stdout
