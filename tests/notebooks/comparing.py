"""Whole notebooks in the background where that is possible: see test_stored_outputs.py and test_run.py."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from workshop_lib.notebooks import CELL_SECONDS
from workshop_lib.ports import free_port
from workshop_lib.settings import ROOT

HERE = Path(__file__).parent
PORTS = ("MLFLOW", "LLM", "FORECASTER", "FORECASTER_GRPC", "CACHE", "API", "DASHBOARD", "MONITOR")
NICENESS = 10
"""In the background: other tests come first, and some of them measure time."""
MEMORY_GIB = 16
"""For a second set of servers beside that of the other tests."""
EARLY = pytest.StashKey["Comparing | None"]()
"""Where a session keeps what it has begun."""
Compared = subprocess.CompletedProcess[str]
_TESTS = {
    "test_stored_outputs.py": "test_a_notebook_gives_what_is_stored_in_it",
    "test_run.py": "test_a_notebook_runs_with_other_parameters",
}
"""Those whose notebooks may run in the background."""


class Comparing:
    """nbval over notebooks, one after the other, in a new home with servers of its own.

    Args:
        home: an empty folder.
        notebooks: what to begin with at once, in the background; the others run when somebody asks for them.
        others: to be run with other parameters after that, the last one first, as far as nobody else does it.
    """

    def __init__(self, home: Path, notebooks: Sequence[Path] = (), others: Sequence[Path] = ()) -> None:
        self.home = home
        ports = {f"WORKSHOP_{name}_PORT": str(free_port()) for name in PORTS}
        self._env = os.environ | ports | {"WORKSHOP_HOME": str(home), "PYTHONPATH": str(HERE)}
        self._before = ["nice", "-n", str(NICENESS)] if notebooks and shutil.which("nice") else []
        self.repeated: dict[Path, Compared] = {}
        """What failed in the background and was run again."""
        self._running: subprocess.Popen[str] | None = None
        self._pool = ThreadPoolExecutor(1)
        self._pool.submit(self._build)
        self._done = {notebook: self._pool.submit(self._compare, notebook) for notebook in notebooks}
        self._others = {notebook: self._pool.submit(self._run_other, notebook) for notebook in reversed(others)}
        if notebooks:
            self._pool.submit(self._down)  # the other tests may need the memory

    def result(self, notebook: Path) -> Compared:
        """What nbval says of a notebook; waits until it has run."""
        if notebook not in self._done:
            self._done[notebook] = self._pool.submit(self._compare, notebook)
        return self._done[notebook].result()

    def other(self, notebook: Path) -> Compared | None:
        """How a run with other parameters ended; None where it has not begun, and then it will not."""
        begun = self._others.get(notebook)
        return None if begun is None or begun.cancel() else begun.result()

    def close(self) -> None:
        """Stop what still runs, servers included."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._running is not None and self._running.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._running.pid, signal.SIGKILL)
        self._pool.shutdown()
        self._down()

    def _build(self) -> None:
        """Build the language model: in a notebook that would show bars of other libraries, once and never again."""
        build = "from workshop_lib.generative.weights import build_checkpoint; build_checkpoint()"
        subprocess.run([*self._before, sys.executable, "-c", build], env=self._env, capture_output=True, check=True)

    def _down(self) -> None:
        """Stop the servers of this home."""
        command = [sys.executable, "-m", "workshop_lib.cli", "down"]
        subprocess.run(command, env=self._env, capture_output=True, check=True)

    def _compare(self, notebook: Path) -> Compared:
        # What runs here is not this session: its options, which keep nbval out, are put aside.
        options = ["-o", "addopts=", "-p", "no:cacheprovider", "-vv", "-rN", "--tb=short", "--color=no"]
        nbval = ["-p", "keep_history", "--nbval", "--nbval-current-env", "--nbval-cell-timeout", str(CELL_SECONDS)]
        nbval += ["--nbval-sanitize-with", str(HERE / "sanitize.cfg"), str(ROOT / notebook)]
        return self._run(notebook, [sys.executable, "-m", "pytest", *options, *nbval])

    def _run_other(self, notebook: Path) -> Compared:
        folder = self.home.with_name("other parameters")
        module = "tests.notebooks.other_parameters"
        return self._run(notebook, [sys.executable, "-m", module, str(notebook), str(folder)])

    def _run(self, notebook: Path, command: list[str]) -> Compared:
        done = self._ended([*self._before, *command])
        if done.returncode > 0 and self._before:
            # Notebooks measure servers under load, and here a notebook only has what the other tests leave of the
            # cores. No learner works so: what fails runs a second time, as their equal, and that time counts.
            self.repeated[notebook] = done
            done = self._ended(command)
        return done

    def _ended(self, command: list[str]) -> Compared:
        """A process that can be stopped from outside, after its end."""
        self._running = subprocess.Popen(
            command, cwd=ROOT, env=self._env | {"PYTEST_ADDOPTS": ""}, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, err = self._running.communicate()
        return subprocess.CompletedProcess(command, self._running.returncode, out, err)


def begin_early(items: list[pytest.Item], home: Path) -> Comparing | None:
    """Begin with the notebooks of some tests at once, if there is other work meanwhile and memory for both."""
    tests = [item for item in items if isinstance(item, pytest.Function) and not item.get_closest_marker("skip")]
    compared, others = (
        [
            Path(str(test.callspec.params["notebook"]))
            for test in tests
            if test.path == HERE / file and test.originalname == name
        ]
        for file, name in _TESTS.items()
    )
    enough = psutil.virtual_memory().available >= MEMORY_GIB * 2**30 and (os.cpu_count() or 1) > 1
    return Comparing(home, compared, others) if compared and len(items) > 2 * len(compared) and enough else None
