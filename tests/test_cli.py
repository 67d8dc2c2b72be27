"""The command line: what each subcommand prints, deletes and returns, and how it fails."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from workshop_lib import cli, notebooks, processes, services
from workshop_lib.checkpoints import SCORECARD_KEYS, at_least, at_most, checkpoint, read_scorecard
from workshop_lib.notebooks import NotebookError, Result, Run
from workshop_lib.settings import MODULES, ROOT


@dataclass
class Answer:
    """What a call printed and returned."""

    code: int
    out: str
    err: str


Call = Callable[..., Answer]


@pytest.fixture
def call(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call `./workshop` with arguments, in this process and in a home of its own."""
    monkeypatch.setattr(cli, "out", Console(width=160, highlight=False))

    def with_arguments(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["workshop", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Answer(code or 0, *capsys.readouterr())

    return with_arguments


def in_a_process(*arguments: str, **variables: str) -> Answer:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "workshop_lib.cli", *arguments],
        cwd="/", env=os.environ | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return Answer(done.returncode, done.stdout, done.stderr)


# --- Messages instead of tracebacks ---------------------------------------------------------------


@pytest.mark.parametrize("command", ["doctor", "--help"])
def test_a_bad_setting_is_one_readable_line(command: str) -> None:
    answer = in_a_process(command, WORKSHOP_JOBS="zero")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("WORKSHOP_JOBS=zero is not usable (parallel workers")
    assert len(answer.err.splitlines()) == 1


def test_help_lists_the_subcommands_without_loading_what_they_need() -> None:
    answer = in_a_process("--help", PYTHONPROFILEIMPORTTIME="1")
    assert answer.code == 0
    for command in ("run", "test", "lab", "doctor", "up", "down", "status", "scorecard", "reset"):
        assert f" {command} " in answer.out
    assert re.search(r"\| +typer$", answer.err, re.M)
    assert not re.search(r"\| +(papermill|pandas)$", answer.err, re.M)


def test_an_unknown_module_is_one_message_with_the_known_ones(call: Call) -> None:
    for arguments in (("run", "9-nothing"), ("reset", "9-nothing")):
        answer = call(*arguments)
        assert answer.code == 1
        assert "'9-nothing'" in answer.err and "1-predictive" in answer.err
        assert len(answer.err.splitlines()) == 1


def test_an_unknown_parameter_is_one_message(call: Call, course: Path) -> None:
    answer = call("run", "-p", "nonsense=1")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == "No chosen notebook has the parameter 'nonsense'. They have: categories.\n"


def test_a_broken_scorecard_is_one_message(call: Call, home: Path) -> None:
    home.mkdir()
    (home / "scorecard.json").write_text("{")
    answer = call("scorecard")
    assert (answer.code, answer.out) == (1, "")
    assert "scorecard.json is not a scorecard" in answer.err and "Delete it" in answer.err
    assert len(answer.err.splitlines()) == 1


def test_a_folder_that_cannot_be_written_is_one_message(
    call: Call, use_settings: Callable[..., object], course: Path
) -> None:
    use_settings(home=Path("/dev/null/home"))
    answer = call("run")
    assert answer.code == 1
    assert "/dev/null/home" in answer.err and "Traceback" not in answer.err


def test_an_error_that_nobody_foresaw_keeps_its_traceback(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(selection: list[str]) -> list[Path]:
        raise RuntimeError("a bug")

    monkeypatch.setattr(notebooks, "find_notebooks", broken)
    monkeypatch.setattr(sys, "argv", ["workshop", "run"])
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main()


# --- run ------------------------------------------------------------------------------------------


@pytest.fixture
def course(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two notebooks that exist by name; the second fails when it is executed for the first time."""
    names = [Path("1-predictive/notebooks/01_a.ipynb"), Path("1-predictive/notebooks/02_b.ipynb")]
    tries: list[Path] = []

    def execute_one(notebook: Path, run: Run) -> Result:
        tries.append(notebook)
        error = "cell [3] failed:\n    1 / 0 [bold]" if notebook == names[1] and tries.count(notebook) == 1 else ""
        return Result(str(notebook), "source", 1.5, met=2, conditions=3, error=error)

    monkeypatch.setattr(notebooks, "find_notebooks", lambda selection: names)
    monkeypatch.setattr(notebooks, "parameters_of", lambda notebook: {"categories"})
    monkeypatch.setattr(notebooks, "_fingerprint", lambda notebook: "source")
    monkeypatch.setattr(notebooks, "_execute_one", execute_one)
    return names[1]


def test_run_shows_a_line_per_notebook_and_goes_on_after_a_failure(call: Call, course: Path, home: Path) -> None:
    failed = call("run", "-p", "categories=40")
    assert failed.code == 1
    assert failed.out.splitlines()[0].split() == [
        "[1/2]", "done", "1.5", "s", "1-predictive/notebooks/01_a.ipynb", "checkpoints", "2/3",
    ]  # fmt: skip
    assert "[2/2] error" in failed.out and "1 of 2 notebooks in 3 s, 4 of 6 conditions met" in failed.out
    assert "    1 / 0 [bold]" in failed.err and "Run the same command again" in failed.err
    folder = next((home / "runs").iterdir())
    assert f"The executed copy is {folder / course}." in failed.err

    again = call("run", "-p", "categories=40")
    assert again.code == 0
    assert "1 of 2 notebooks are done" in again.out and "[2/2] done" in again.out and "[1/2]" not in again.out
    assert "2 of 2 notebooks" in again.out


def test_run_without_notebooks_says_so(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebooks, "find_notebooks", lambda selection: [])
    answer = call("run", "6")
    assert (answer.code, answer.err) == (1, "There is no notebook to run.\n")


def test_run_can_renew_the_stored_outputs(call: Call, course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[Path] = []

    def store(path: Path) -> None:
        if path == course:
            raise NotebookError(f"{path}, cell 2 writes to the error stream: noise")
        stored.append(path)

    monkeypatch.setattr(notebooks, "store_outputs", store)
    answer = call("run", "--store")
    assert answer.code == 1 and len(stored) == 1
    assert answer.out == f"stored {stored[0]}\n" and "writes to the error stream" in answer.err


# --- scorecard ------------------------------------------------------------------------------------


@pytest.fixture
def measured(home: Path) -> None:
    limits = [
        at_least("a.r2", 0.8612, 0.85, "R² [held-out]"),
        at_most("a.seconds", 75, 60, "training", "s", speed=True),
    ]
    checkpoint("1.3", "Trained", limits)
    checkpoint("2.1", "Served", [at_least("b.rate", float("nan"), 20, "rate", required=False)])


@pytest.mark.usefixtures("measured")
def test_scorecard_lists_targets_beside_measured_values(call: Call) -> None:
    answer = call("scorecard")
    assert answer.code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in answer.out.splitlines() if "│" in line]
    lines = {condition: rest for condition, *rest in rows}
    assert [row[0] for row in rows] == ["1.3 Trained", "R² [held-out]", "training", "2.1 Served", "rate"]
    assert lines["R² [held-out]"][:3] == [">= 0.85", "0.8612", "met"]
    assert lines["training"][1:3] == ["75 s", "missed"]
    assert "no value" in lines["rate"]
    assert "1 of 3 targets met. Measured on" in answer.out and "cores" in answer.out


@pytest.mark.usefixtures("measured")
def test_scorecard_as_json_has_exactly_the_documented_keys(call: Call) -> None:
    keys = ["id", "module", "label", "comparison", "target", "measured", "unit", "met", "required", "measured_at"]
    records = json.loads(call("scorecard", "--json").out)
    assert [list(record) for record in records] == [keys] * 3
    assert list(SCORECARD_KEYS) == keys
    assert [record["id"] for record in records] == ["a.r2", "a.seconds", "b.rate"]
    assert records[2]["measured"] is None


def test_an_empty_scorecard_says_how_to_fill_it(call: Call) -> None:
    assert "./workshop run" in call("scorecard").out
    assert json.loads(call("scorecard", "--json").out) == []


# --- reset ----------------------------------------------------------------------------------------

PRODUCTS = ("data/x", "data-own/x", "mlflow/mlflow.db", "models/x", "predictions/x",
            "llm/x", "runs/x/run.json", "services/x", ".data.abc/x")  # fmt: skip
KEPT = ("logs/install.log", "thesis.docx", ".bashrc", "database/x")


@pytest.fixture
def used(home: Path, measured: None) -> None:
    """A home after some work, in a folder that holds other files of its owner too."""
    for name in (*PRODUCTS, *KEPT):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("content")


@pytest.mark.usefixtures("used")
def test_reset_removes_the_course_products_and_nothing_else(call: Call, home: Path) -> None:
    assert call("reset", "--yes").code == 0
    left = sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
    assert left == sorted(KEPT)
    assert "nothing" in call("reset", "--yes").out


@pytest.mark.usefixtures("used")
def test_reset_of_a_module_leaves_the_others(call: Call, home: Path) -> None:
    assert call("reset", "1-predictive", "--yes").code == 0
    assert [record["id"] for record in read_scorecard()] == ["b.rate"]
    assert not (home / "data").exists() and not (home / "models").exists()
    assert (home / "runs" / "x").exists() and (home / "logs" / "install.log").exists()
    assert call("reset", "6-advanced-mlops", "--yes").code == 0
    assert [record["id"] for record in read_scorecard()] == ["b.rate"]


@pytest.mark.usefixtures("used")
def test_reset_asks_on_a_terminal(call: Call, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(cli.typer, "confirm", lambda question, abort: (_ for _ in ()).throw(cli.typer.Abort()))
    answer = call("reset")
    assert answer.code == 1 and "data" in answer.out
    assert (home / "data" / "x").exists()


def test_reset_knows_every_module(call: Call) -> None:
    assert [call("reset", module, "--yes").code for module in MODULES] == [0] * len(MODULES)


# --- services and the rest ------------------------------------------------------------------------


def test_status_and_down_without_services_running(call: Call, home: Path) -> None:
    shown = call("status")
    assert shown.code == 0
    assert "mlflow" in shown.out and "stopped" in shown.out and "http://127.0.0.1:" in shown.out
    names = ("mlflow", "llm", "forecaster", "cache", "api", "dashboard", "monitor")
    assert call("down").out == "".join(f"{name}: was not running\n" for name in names)
    assert call("down", "llm").out == "llm: was not running\n"
    refused = call("up", "vllm")
    assert (
        refused.code == 1
        and "no local service vllm. Known: mlflow, llm, forecaster, cache, api, dashboard, monitor" in refused.err
    )
    assert not (home / "mlflow").exists()  # looking leaves no traces


def test_up_reports_why_a_service_does_not_start(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    port = services.mlflow_server().port
    ends = processes.Service("mlflow", port, (sys.executable, "-c", "print('no such table'); raise SystemExit(3)"), "/")
    monkeypatch.setattr(services, "services", lambda: [ends])
    answer = call("up")
    assert answer.code == 1
    assert "mlflow ended while it started" in answer.err and "no such table" in answer.err


def test_test_and_lab_hand_their_arguments_on(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        ran.append(command[1:])
        return subprocess.CompletedProcess(command, 5)

    def execv(program: str, command: list[str]) -> None:
        ran.append(command[1:])

    monkeypatch.setattr(cli.subprocess, "run", run)
    monkeypatch.setattr(cli.os, "execv", execv)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/etc/jupyter")
    assert call("test").code == 5
    assert call("test", "-k", "notebooks", "-x").code == 5
    assert call("lab", "--no-browser").code == 0
    assert ran[0] == ["-m", "pytest", "tests"]
    assert ran[1] == ["-m", "pytest", "-k", "notebooks", "-x"]
    assert ran[2][:3] == ["-m", "jupyter", "lab"] and ran[2][-1] == "--no-browser"
    assert "--ServerApp.ip=127.0.0.1" in ran[2]
    defaults = Path(os.environ["JUPYTER_CONFIG_PATH"].split(os.pathsep)[0]) / "labconfig"
    (settings_of_lab,) = (json.loads(path.read_text()) for path in defaults.glob("default_setting_overrides.json"))
    assert settings_of_lab["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"
