"""Every notebook, at its defaults and in the order of the course, gives what is stored in it.

nbval compares all outputs but pictures. They run in a home of their own, as they do for a learner who starts. It takes
as long as all other tests, and these leave one of two cores idle. So where there is memory for it, the notebooks run in
the background from the beginning of the session, with a low priority, and the tests here wait for them.
"""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.notebooks.comparing import Compared, Comparing
from workshop_lib.checkpoints import Checkpoint, Condition, at_least, at_most
from workshop_lib.notebooks import find_notebooks

NOTEBOOKS = find_notebooks()


@pytest.fixture(scope="module")
def comparing(early: Comparing | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comparing]:
    """The comparison that began with the session, or one that begins now."""
    if early is not None:
        yield early
        return
    now = Comparing(tmp_path_factory.mktemp("home"))
    yield now
    now.close()


def test_there_is_something_to_compare() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=str)
@pytest.mark.timeout(3600)  # most of it is waiting for the notebooks before
def test_a_notebook_gives_what_is_stored_in_it(notebook: Path, comparing: Comparing) -> None:
    done = comparing.result(notebook)
    if first := comparing.repeated.get(notebook):
        warnings.warn(f"{notebook} was compared twice. At first: {differences(first)}", stacklevel=1)
    assert done.returncode == 0, differences(done)
    assert verdicts(done)[0] == "PASSED"


def differences(done: Compared) -> str:
    """The cells that differ, and how; all that was printed where it did not come to that."""
    _, found, failures = done.stdout.partition("= FAILURES =")
    return failures[:12_000] if found else (done.stdout + done.stderr)[-6000:]


def verdicts(done: Compared) -> dict[int, str]:
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


def test_the_comparison_sees_changed_figures_and_overlooks_speed(comparing: Comparing, tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook()
    for code, data, _ in CELLS:
        outputs = [nbformat.v4.new_output("execute_result", data, execution_count=1)] if data else []
        notebook.cells.append(nbformat.v4.new_code_cell(code, outputs=outputs, execution_count=1))
    nbformat.write(notebook, tmp_path / "scratch.ipynb")
    done = comparing.result(tmp_path / "scratch.ipynb")
    expected = {number: "FAILED" if differs else "PASSED" for number, (_, _, differs) in enumerate(CELLS)}
    assert verdicts(done) == expected, done.stdout
