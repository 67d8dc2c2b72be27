"""Progress, catching up, and the day before a class."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from workshop_lib import cli, doctor, processes, services, teaching
from workshop_lib.checkpoints import at_least, checkpoint
from workshop_lib.notebooks import find_notebooks
from workshop_lib.ports import free_port
from workshop_lib.processes import Service, ServiceError, Status
from workshop_lib.settings import MODULES, SettingsError

run = CliRunner().invoke


def test_every_notebook_has_a_checkpoint_of_its_module() -> None:
    for notebook in find_notebooks():
        numbers = teaching.checkpoints_of(notebook)
        assert numbers and {number.split(".")[0] for number in numbers} == {notebook.parts[0].split("-")[0]}, notebook


def test_progress_follows_the_scorecard(home: Path) -> None:
    assert {stage.state for stage in teaching.progress()} == {"open"}
    checkpoint("1.3", "x", [at_least("a", 1, 0, "a"), at_least("b", 0, 1, "b", required=False)])
    checkpoint("1.5", "x", [at_least("c", 1, 0, "c")])
    states = {stage.notebook.stem: stage.state for stage in teaching.progress() if stage.state != "open"}
    assert states == {"03_train_forecaster": "done, 1 missed", "05_export_onnx": "done"}
    shown = run(cli.app, ["progress"]).stdout
    assert "1/2" in shown and f"2 of {len(find_notebooks())} notebooks done." in shown
    assert "Next: 1-predictive/notebooks/" in shown.replace("\n", "")


def test_catching_up_builds_what_lies_before(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def made(what: str) -> Callable[[], None]:
        return lambda: built.append(what)

    parts = tuple((module, what, made(what)) for module, what, _ in teaching.LEFT_BEHIND)
    monkeypatch.setattr(teaching, "LEFT_BEHIND", parts)
    assert [one.what for one in teaching.catch_up("1")] == [] == built
    list(teaching.catch_up("2-generative/"))
    assert built == ["data", "sales forecaster", "churn model"]
    done = run(cli.app, ["catch-up", "6-advanced-mlops"])
    assert done.exit_code == 0 and built[3:] == [what for _, what, _ in parts]
    assert "language model" in done.stdout and "Ready for 6-advanced-mlops" in done.stdout
    with pytest.raises(SettingsError, match="'7' is not a module"):
        list(teaching.catch_up("7"))


@pytest.fixture
def quiet(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Preflight without a look at this machine, and with two services, of which one does not start."""
    stopped: list[str] = []

    def start(service: Service) -> Status:
        if service.name == "bad":
            raise ServiceError("its port is taken")
        return processes.status(service)

    two = [Service(name=name, port=free_port(), command=("true",), health="/") for name in ("good", "bad")]
    monkeypatch.setattr(doctor, "examine", lambda: [])
    monkeypatch.setattr(services, "services", lambda: two)
    monkeypatch.setattr(processes, "start_with_progress", start)
    monkeypatch.setattr(processes, "stop", lambda service: stopped.append(service.name))
    return stopped


def test_preflight_tries_services_and_reads_the_last_runs(quiet: list[str], home: Path) -> None:
    names = [str(path) for path in find_notebooks(["1"])]
    for number, results in enumerate([[(names[0], "an error"), (names[1], "")], [(names[0], "")]]):
        file = home / "runs" / f"2018-01-0{number + 1}" / "run.json"
        file.parent.mkdir(parents=True)
        rows = [{"notebook": name, "source": "x", "seconds": 10.0, "error": error} for name, error in results]
        file.write_text(json.dumps({"notebooks": [], "parameters": {}, "results": rows}))
    (home / "runs" / "2018-01-03").mkdir()
    (home / "runs" / "2018-01-03" / "run.json").write_text("{")
    found = {finding.check: finding for finding in teaching.preflight()}
    assert (found["service good"].verdict, found["service bad"].verdict) == ("ok", "problem")
    assert quiet == ["good"], "what did not run before is stopped again"
    module = found[MODULES[0]]
    assert module.found.startswith(f"2 of {len(names)} notebooks ran, 20 s") and module.verdict == "note"
    assert "never ran" in module.advice and "with an error" not in module.advice
    first = home / "runs" / "2018-01-01" / "run.json"
    os.utime(first, (time.time() - 20 * 86_400,) * 2)
    again = {finding.check: finding for finding in teaching.preflight()}[MODULES[0]]
    assert f"long ago: {Path(names[1]).stem}" in again.advice
    done = run(cli.app, ["preflight"])
    assert done.exit_code == 1 and "its port is taken" in done.stdout.replace("\n", " ")
