"""Run a Tekton pipeline on this machine: the file's own scripts, each as a process, in the file's own order.

    run = PipelineRun(documents, body, folder)
    run.advance()                                  # until the end, or until a person has to decide
    run.answer("carlos", approved=True)            # goes on to the end
    run.table()

What Tekton does with pods is done here with processes: variables, results, ``when``, timeouts, an ApprovalTask, and
``finally``. Tasks run one after the other, also where Tekton could run two at once. A run is in the state that its
object says, so several may wait for their approval at the same time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dotenv import dotenv_values
from tqdm.auto import tqdm

from workshop_lib.files import write_text
from workshop_lib.manifest_rules import Document
from workshop_lib.mlops import roles
from workshop_lib.mlops.tekton import APPROVAL, PipelineTask, TektonError, fill, holds, read_pipeline, run_params
from workshop_lib.settings import PREFIX, ROOT, settings

if TYPE_CHECKING:
    import pandas as pd

SUCCEEDED, FAILED, SKIPPED, NOT_RUN = "Succeeded", "Failed", "Skipped", "None"
"""Tekton's words; ``None`` is that of a task which was never reached."""
WHEN = "its when does not hold"
SHARED = "shared"
"""The workspace that all tasks of a run share."""
HOME = "home"
"""The volume that stays after a run: here it is the home of the course."""


@dataclass(frozen=True)
class TaskLog:
    """What came of a task."""

    name: str
    status: str
    began: float
    """Seconds since the run began."""
    seconds: float = 0.0
    said: str = ""
    """The last line of its output."""
    results: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """What a run waits for."""

    task: str
    description: str
    approvers: tuple[str, ...]
    """People, and groups as ``group:NAME``."""


class PipelineRun:
    """One run.

    Args:
        documents: the pipeline and its tasks.
        body: a PipelineRun, as in the file or from a trigger.
        folder: for everything of this run; its name is the run's.
        params: values that stand above those of ``body``.
        secrets: content of the Secrets that steps refer to, by name and key.
        env: variables for all steps, which the image would carry in a cluster.

    Raises:
        TektonError: when the pipeline cannot run as it is written.
    """

    def __init__(
        self,
        documents: Iterable[Document],
        body: Mapping[str, Any],
        folder: Path,
        params: Mapping[str, Any] | None = None,
        secrets: Mapping[str, Mapping[str, str]] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.pipeline = read_pipeline(documents, body["spec"]["pipelineRef"]["name"])
        self.name, self.folder = folder.name, folder
        self.workspace = folder / SHARED
        self.workspace.mkdir(parents=True)
        self.logs: dict[str, TaskLog] = {}
        self.question: Question | None = None
        """What it waits for; None while it does not wait."""
        self._secrets, self._env = secrets or {}, dict(env or {})
        given = {one["name"]: one["value"] for one in body["spec"].get("params", [])} | dict(params or {})
        values = run_params(self.pipeline, given)
        self._variables: dict[str, Any] = {f"params.{name}": value for name, value in values.items()}
        self._variables["context.pipelineRun.name"] = self.name
        self._begun = time.monotonic()

    @property
    def status(self) -> str:
        """``Running`` while it waits, then ``Succeeded``, ``Completed`` (some tasks were skipped) or ``Failed``."""
        if self.question is not None:
            return "Running"
        return self._together()

    def result(self, task: str, name: str) -> str:
        """What a task has handed on.

        Raises:
            KeyError: when it has not.
        """
        return self.logs[task].results[name]

    def table(self) -> pd.DataFrame:
        """A row per task in the order of the pipeline: status, began and seconds (s), and what it said last."""
        import pandas as pd

        columns = ["status", "began", "seconds", "said"]
        names = [*self.pipeline.order, *(name for name in self.pipeline.finals if self.question is None)]
        logs = [self.logs.get(name, TaskLog(name, NOT_RUN, float("nan"), float("nan"))) for name in names]
        rows = [[getattr(log, column) for column in columns] for log in logs]
        return pd.DataFrame(rows, columns=columns, index=pd.Index(names, name="task"))

    def advance(self) -> PipelineRun:
        """Run tasks until a person is asked or nothing is left to do; then the tasks of ``finally``."""
        with tqdm(bar_format="{desc}", leave=False, disable=not settings.progress, file=sys.stderr) as bar:
            for name in self.pipeline.order:
                task = self.pipeline.tasks[name]
                if name in self.logs:
                    continue
                if FAILED in self._states().values():
                    break
                bar.set_description_str(f"{self.name}: {name}")
                if task.kind == APPROVAL and not self._reason_to_skip(task):
                    self.question = self._ask(task)
                    return self
                self._run(task)
            for name, task in self.pipeline.finals.items():
                bar.set_description_str(f"{self.name}: {name}")
                self._run(task)
        return self

    def answer(self, person: str, *, approved: bool = True, message: str = "") -> PipelineRun:
        """Answer the question that the run waits for, and go on.

        Raises:
            TektonError: when nothing was asked, or the person is none of the approvers.
        """
        if self.question is None:
            raise TektonError(f"{self.name} waits for nobody.")
        groups = {f"group:{roles.PEOPLE[person]}s"} if person in roles.PEOPLE else set()
        if not {person, *groups} & set(self.question.approvers):
            raise TektonError(f"{person} is none of the approvers: {', '.join(self.question.approvers)}.")
        said = f"{person} says {'yes' if approved else 'no'}{': ' if message else ''}{message}"
        return self._answered(SUCCEEDED if approved else FAILED, said)

    def expire(self) -> PipelineRun:
        """Let the time for an answer run out, and go on."""
        if self.question is None:
            raise TektonError(f"{self.name} waits for nobody.")
        return self._answered(FAILED, "nobody answered in time")

    def _ask(self, task: PipelineTask) -> Question:
        params = fill(task.params, self._variables)
        return Question(task.name, params["description"], tuple(params["approvers"]))

    def _answered(self, status: str, said: str) -> PipelineRun:
        assert self.question is not None
        self.logs[self.question.task] = TaskLog(self.question.task, status, self._now(), said=said)
        self.question = None
        return self.advance()

    def _run(self, task: PipelineTask) -> None:
        began = self._now()
        status, said, results = self._attempt(task)
        self.logs[task.name] = TaskLog(task.name, status, began, self._now() - began, said, results)
        if task.name in self.pipeline.tasks:
            self._variables |= {f"tasks.{task.name}.results.{name}": text for name, text in results.items()}

    def _attempt(self, task: PipelineTask) -> tuple[str, str, dict[str, str]]:
        """Run a task unless it is to be skipped: status, last words, results."""
        if reason := self._reason_to_skip(task):
            return SKIPPED, reason, {}
        known = self._known()
        params = {one["name"]: one.get("default") for one in task.spec.get("params", [])} | fill(task.params, known)
        folder = self.folder / task.name
        folder.mkdir()
        own = {f"params.{name}": value for name, value in params.items()}
        own |= {f"workspaces.{one['name']}.path": str(self.workspace) for one in task.spec.get("workspaces", [])}
        files = {one["name"]: folder / f"result-{one['name']}" for one in task.spec.get("results", [])}
        own |= {f"results.{name}.path": str(path) for name, path in files.items()}
        end = None if task.seconds is None else time.monotonic() + task.seconds
        said = ""
        for step in task.spec["steps"]:
            code, said = self._step(fill(step, own), folder, end)
            if code:
                return FAILED, said, {}
        results = {name: path.read_text(encoding="utf-8").strip() for name, path in files.items() if path.exists()}
        if missing := files.keys() - results.keys():
            return FAILED, f"it wrote no result {', '.join(sorted(missing))}", results
        return SUCCEEDED, said, results

    def _reason_to_skip(self, task: PipelineTask) -> str:
        """Why a task is skipped, or nothing. Tasks after one that its ``when`` has skipped go on all the same."""
        known = self._known()
        lacking = [f"{one}.{result}" for one, result in task.needs if f"tasks.{one}.results.{result}" not in known]
        if lacking:
            return f"there is no {', '.join(sorted(lacking))}"
        left_out = [one for one in task.after if self.logs[one].status == SKIPPED and self.logs[one].said != WHEN]
        if left_out:
            return f"{', '.join(sorted(left_out))} was skipped"
        return "" if all(holds(when, known) for when in task.when) else WHEN

    def _known(self) -> dict[str, Any]:
        """The variables of the pipeline now."""
        states = {f"tasks.{name}.status": status for name, status in self._states().items()}
        return self._variables | states | {"tasks.status": self._together()}

    def _step(self, step: Mapping[str, Any], folder: Path, end: float | None) -> tuple[int, str]:
        """Run one step's script: its exit code and the last line that it wrote."""
        script, log = folder / f"{step['name']}.sh", folder / f"{step['name']}.log"
        write_text(script, step["script"])
        script.chmod(0o700)
        place = Path(step.get("workingDir", self.workspace))
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                [str(script)],
                cwd=place if place.is_dir() else self.workspace,
                env=_environment() | self._env | self._variables_of(step),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that all of it can be ended at once
            )
            try:
                code = process.wait(None if end is None else max(end - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return 1, "it took longer than its timeout"
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return code, lines[-1] if lines else ""

    def _variables_of(self, step: Mapping[str, Any]) -> dict[str, str]:
        """The environment that a step asks for, with Secrets looked up and mounted volumes found."""
        mounts = {one["mountPath"]: settings.home for one in step.get("volumeMounts", []) if one["name"] == HOME}
        found = {}
        for one in step.get("env", []):
            if "value" in one:
                found[one["name"]] = str(mounts.get(one["value"], one["value"]))
                continue
            secret = one["valueFrom"]["secretKeyRef"]
            text = self._secrets.get(secret["name"], {}).get(secret["key"])
            if text is None and not secret.get("optional"):
                raise TektonError(f"There is no Secret {secret['name']} with the key {secret['key']}.")
            found |= {} if text is None else {one["name"]: text}
        return found

    def _states(self) -> dict[str, str]:
        """The state of each task that is not of ``finally``."""
        return {name: self.logs[name].status if name in self.logs else NOT_RUN for name in self.pipeline.tasks}

    def _together(self) -> str:
        states = set(self._states().values())
        if FAILED in states:
            return FAILED
        if NOT_RUN in states:
            return NOT_RUN
        return "Completed" if SKIPPED in states else SUCCEEDED

    def _now(self) -> float:
        return time.monotonic() - self._begun


def _environment() -> dict[str, str]:
    """What a step finds beside its own variables: the tools of this environment and the settings."""
    own = {name: value for name, value in dotenv_values(ROOT / ".env").items() if name.startswith(PREFIX) and value}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # In a pod the image carries the library; here the checkout does, for steps that run before there is other code.
    set_here = {
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "WORKSHOP_HOME": str(settings.home),
        "WORKSHOP_PROGRESS": "false",
    }
    return own | dict(os.environ) | set_here
