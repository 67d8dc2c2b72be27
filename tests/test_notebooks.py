"""Running notebooks: what is chosen, passed in, reported, resumed and stored. The notebooks are tiny ones."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest

from workshop_lib import notebooks, processes, services
from workshop_lib.notebooks import NotebookError, Result, Run
from workshop_lib.settings import ROOT


def write_notebook(path: Path, *cells: str) -> None:
    """A notebook of code cells; the one that sets `alpha` is its parameter cell."""
    content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    content.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    for cell in content.cells:
        if cell.source.startswith("alpha ="):
            cell.metadata["tags"] = ["parameters"]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(content, path)


@pytest.fixture
def course(tmp_path: Path, use_settings: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with four notebooks in two modules."""
    root = tmp_path / "the course"
    write_notebook(root / "1-predictive/notebooks/01_first.ipynb", "alpha = 1\nbeta = 'x'", "alpha, beta")
    write_notebook(root / "1-predictive/notebooks/02_second.ipynb", "alpha = 1", "1 / 0")
    write_notebook(root / "2-generative/notebooks/01_third.ipynb", "gamma = 3")
    write_notebook(root / "2-generative/optional/01_fourth.ipynb", "delta = 4")
    write_notebook(root / "1-predictive/notebooks/.ipynb_checkpoints/01_first-checkpoint.ipynb", "1")
    write_notebook(root / "scratch/05_own.ipynb", "1")
    (root / "workshop_lib").mkdir()
    (root / "workshop_lib" / "code.py").write_text("x = 1\n")
    monkeypatch.setattr(notebooks, "ROOT", root)
    use_settings(home=tmp_path / "home")
    monkeypatch.setenv("WORKSHOP_HOME", str(tmp_path / "home"))
    return root


FIRST, SECOND = Path("1-predictive/notebooks/01_first.ipynb"), Path("1-predictive/notebooks/02_second.ipynb")
THIRD, FOURTH = Path("2-generative/notebooks/01_third.ipynb"), Path("2-generative/optional/01_fourth.ipynb")


# --- Selection and parameters ---------------------------------------------------------------------


def test_the_readme_of_a_module_gives_the_order(course: Path) -> None:
    readme = course / "1-predictive" / "README.md"
    readme.write_text(
        "[Two](notebooks/02_second.ipynb), [one](notebooks/01_first.ipynb), [two](notebooks/02_second.ipynb)."
    )
    assert notebooks.find_notebooks(["1"]) == [SECOND, FIRST]
    readme.write_text("Only [two](notebooks/02_second.ipynb) and [what is not there](notebooks/03_third.ipynb).")
    assert notebooks.find_notebooks(["1"]) == [SECOND, FIRST]
    readme.unlink()
    assert notebooks.find_notebooks(["1"]) == [FIRST, SECOND]


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        ([], [FIRST, SECOND, THIRD, FOURTH]),
        (["1-predictive"], [FIRST, SECOND]),
        (["1-predictive/"], [FIRST, SECOND]),
        (["2"], [THIRD, FOURTH]),
        (["2-generative", "02_second"], [SECOND, THIRD, FOURTH]),  # the course's order, not the caller's
        (["02_second.ipynb", "02_second"], [SECOND]),
        (["1-predictive/notebooks/01_first.ipynb"], [FIRST]),
    ],
)
def test_notebooks_are_chosen_by_module_name_or_file(course: Path, selection: list[str], found: list[Path]) -> None:
    assert notebooks.find_notebooks(selection) == found


def test_paths_are_understood_from_the_folder_one_is_in(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(course / "2-generative")
    assert notebooks.find_notebooks(["optional"]) == [FOURTH]
    assert notebooks.find_notebooks(["../1-predictive/notebooks/02_second.ipynb"]) == [SECOND]
    assert notebooks.find_notebooks([str(course / THIRD)]) == [THIRD]


@pytest.mark.parametrize("word", ["7-none", "05_own", "scratch", "01", "/tmp"])
def test_a_word_that_names_nothing_lists_what_there_is(course: Path, word: str) -> None:
    with pytest.raises(NotebookError, match=f"'{word}' names no notebook or module.*1-predictive.*02_second"):
        notebooks.find_notebooks(["01_first", word])


def test_parameters_take_the_type_they_are_written_in(course: Path) -> None:
    pairs = ["alpha=40", "beta=a word", 'beta="=quoted="']
    assert notebooks.parse_parameters(pairs[:2], [FIRST]) == {"alpha": 40, "beta": "a word"}
    assert notebooks.parse_parameters(pairs[2:], [FIRST, SECOND]) == {"beta": "=quoted="}
    assert notebooks.parse_parameters(["alpha=true"], [SECOND]) == {"alpha": True}
    assert notebooks.parse_parameters([], [FIRST]) == {}


def test_a_parameter_that_no_chosen_notebook_has_is_refused(course: Path) -> None:
    with pytest.raises(NotebookError, match=r"the parameter 'gama'. They have: alpha, beta\."):
        notebooks.parse_parameters(["gama=1"], [FIRST, SECOND])
    with pytest.raises(NotebookError, match="'alpha' is not of the form name=value"):
        notebooks.parse_parameters(["alpha"], [FIRST])


def test_a_file_that_is_no_notebook_is_named(course: Path) -> None:
    (course / SECOND).write_text('<<<<<<< HEAD\n{"cells": []')
    with pytest.raises(NotebookError, match=r"02_second\.ipynb cannot be read as a notebook: ") as caught:
        notebooks.parse_parameters(["alpha=1"], [FIRST, SECOND])
    assert len(str(caught.value).splitlines()) == 1


# --- Resuming: which results still stand (no kernel needed) ---------------------------------------


def stopped_run(names: list[Path], parameters: dict[str, object] | None = None) -> Run:
    """A run of which all notebooks but the last are done, and that one failed."""
    run = notebooks.start_or_resume(names, parameters or {}, fresh=True)
    run.results = [Result(str(name), notebooks._fingerprint(name)) for name in names]
    run.results[-1].error = "failed"
    run.save()
    return run


def done(run: Run) -> list[str]:
    return [result.notebook for result in run.results]


def test_a_stopped_run_goes_on_after_what_is_done(course: Path) -> None:
    stopped = stopped_run([FIRST, SECOND, THIRD])
    resumed = notebooks.start_or_resume([FIRST, SECOND, THIRD], {})
    assert resumed.folder == stopped.folder
    assert done(resumed) == [str(FIRST), str(SECOND)]


def test_what_changed_since_is_done_again_with_all_that_follows(course: Path) -> None:
    stopped_run([FIRST, SECOND, THIRD])
    write_notebook(course / SECOND, "alpha = 2")
    assert done(notebooks.start_or_resume([FIRST, SECOND, THIRD], {})) == [str(FIRST)]
    (course / "workshop_lib" / "code.py").write_text("x = 2\n")
    assert done(notebooks.start_or_resume([FIRST, SECOND, THIRD], {})) == []


def test_another_request_or_a_fresh_one_starts_anew(course: Path) -> None:
    stopped_run([FIRST, SECOND], {"alpha": 2})
    assert done(notebooks.start_or_resume([FIRST, SECOND], {"alpha": 2})) == [str(FIRST)]
    assert done(notebooks.start_or_resume([FIRST, SECOND], {"alpha": 3})) == []
    assert done(notebooks.start_or_resume([FIRST], {"alpha": 2})) == []
    assert done(notebooks.start_or_resume([FIRST, SECOND], {"alpha": 2}, fresh=True)) == []


def test_a_finished_or_unreadable_run_is_not_resumed(course: Path) -> None:
    run = stopped_run([FIRST, SECOND])
    run.results[-1].error = ""
    run.save()
    assert done(notebooks.start_or_resume([FIRST, SECOND], {})) == []
    (run.folder / "run.json").write_text('{"notebooks": [')
    assert done(notebooks.start_or_resume([FIRST, SECOND], {})) == []


# --- Executing (each of these starts kernels) -----------------------------------------------------


@pytest.mark.parametrize(("free", "stops"), [(notebooks.ROOM_GIB - 0.1, True), (notebooks.ROOM_GIB + 0.1, False)])
def test_services_of_earlier_notebooks_go_where_memory_is_short(
    course: Path, monkeypatch: pytest.MonkeyPatch, free: float, stops: bool
) -> None:
    stopped: list[str] = []
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free * 2**30))
    monkeypatch.setattr(processes, "stop", lambda service: stopped.append(service.name))
    [result] = notebooks.execute(notebooks.start_or_resume([FIRST], {}))
    assert result.error == ""
    assert stopped == ([service.name for service in services.services()] if stops else [])


def test_a_run_stops_at_a_failure_and_resumes_there(course: Path) -> None:
    measures = (
        "from workshop_lib.checkpoints import at_least, checkpoint\n"
        "checkpoint('1.2', 'C', [at_least('a', 1, 0, 'a'), at_least('b', 0, 1, 'b', required=False)])"
    )
    first_try = notebooks.start_or_resume([FIRST, SECOND], {"alpha": 7})
    first, second = notebooks.execute(first_try)
    assert (first.error, first.conditions) == ("", 0)
    executed = nbformat.read(first_try.folder / FIRST, as_version=4)
    assert executed.cells[-1].outputs[0].data["text/plain"] == "(7, 'x')"
    assert second.error.splitlines() == [
        f"{SECOND}, code cell [3] failed:",
        "    1 / 0",
        "ZeroDivisionError: division by zero",
    ]
    assert first_try.failed is second and not first_try.finished

    write_notebook(course / SECOND, "alpha = 1", measures)
    again = notebooks.start_or_resume([FIRST, SECOND], {"alpha": 7})
    assert [result.notebook for result in notebooks.execute(again)] == [str(SECOND)]
    assert again.finished and again.folder == first_try.folder
    assert (again.results[1].met, again.results[1].conditions) == (1, 2)
    assert nbformat.read(course / FIRST, as_version=4).cells[-1].outputs == []  # the course's own stays as it is
    assert "WORKSHOP_PROGRESS" in os.environ


def test_a_long_failure_is_cut_to_what_one_can_read(course: Path, tmp_path: Path) -> None:
    statements = [f"x{n} = {n}" for n in range(40)]
    write_notebook(course / FIRST, "\n".join([*statements, r"raise ValueError('\n'.join('line' for n in range(99)))"]))
    with pytest.raises(NotebookError) as caught:
        notebooks.execute_notebook(FIRST, tmp_path / "out.ipynb")
    lines = str(caught.value).splitlines()
    assert len(lines) < 30
    assert lines[0] == f"{FIRST}, code cell [1] failed:" and "ValueError: line" in lines
    assert "\x1b" not in str(caught.value)


def test_a_kernel_that_dies_is_reported(course: Path, tmp_path: Path) -> None:
    write_notebook(course / FIRST, "import os\nos._exit(1)")
    with pytest.raises(NotebookError, match=r"01_first\.ipynb: the kernel died.*memory"):
        notebooks.execute_notebook(FIRST, tmp_path / "out.ipynb")


def test_a_cell_that_hangs_is_stopped(course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebooks, "CELL_SECONDS", 1)
    write_notebook(course / FIRST, "import time\ntime.sleep(60)")
    with pytest.raises(NotebookError, match=r"01_first\.ipynb: a cell took longer than 1 s and was stopped"):
        notebooks.execute_notebook(FIRST, tmp_path / "out.ipynb")


def test_stored_outputs_are_those_of_the_defaults_and_nothing_else(
    course: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    notebooks.store_outputs(FIRST)
    assert capfd.readouterr() == ("", "")  # no log, no progress bar where there is no terminal
    stored = nbformat.read(course / FIRST, as_version=4)
    nbformat.validate(stored)
    assert stored.cells[-1].outputs[0].data["text/plain"] == "(1, 'x')"
    assert [dict(cell.metadata) for cell in stored.cells] == [{"tags": ["parameters"]}, {}]
    assert [cell.execution_count for cell in stored.cells] == [1, 2]
    assert set(stored.metadata) == {"kernelspec", "language_info"}
    assert not list((course / FIRST).parent.glob(".01_first*"))


def test_a_notebook_that_writes_to_the_error_stream_is_not_stored(course: Path) -> None:
    write_notebook(course / FIRST, "alpha = 1", "import sys\nprint('a log line', file=sys.stderr)")
    before = (course / FIRST).read_bytes()
    with pytest.raises(NotebookError, match="cell 2 writes to the error stream: a log line"):
        notebooks.store_outputs(FIRST)
    assert (course / FIRST).read_bytes() == before


def test_outputs_are_stored_in_english_only(course: Path, use_settings: Callable[..., object], tmp_path: Path) -> None:
    use_settings(home=tmp_path / "home", lang="es")
    before = (course / FIRST).read_bytes()
    with pytest.raises(NotebookError, match="Set WORKSHOP_LANG=en"):
        notebooks.store_outputs(FIRST)
    assert (course / FIRST).read_bytes() == before


def test_the_checkout_is_the_one_that_holds_the_library() -> None:
    assert (ROOT / "workshop_lib" / "notebooks.py").samefile(notebooks.__file__)
