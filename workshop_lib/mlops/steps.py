"""The commands behind the pipeline's tasks: the same here and in a pod.

    python -m workshop_lib.mlops.steps training --workspace DIR --rounds 120 --result rows=FILE

A task's options are the parameters of its function, so there is no second list of them. What a task hands on to others
goes into the workspace (files) or into ``--result NAME=FILE`` (one line of text, a *result* of Tekton).

Each task is a process of its own. So each function lives in a module that imports only what it needs, and this one
imports none of them: MLflow alone takes seconds.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

from workshop_lib.files import write_text

TASKS = {
    "checkout": "step_data",
    "data-validation": "step_data",
    "training": "step_model",
    "model-validation": "step_model",
    "onnx-export": "step_model",
    "security-scan": "step_release",
    "deploy-staging": "step_release",
    "integration-tests": "step_release",
    "deploy-production": "step_release",
    "rollback": "step_release",
    "notify": "step_notify",
}
"""Each task with the module that holds its function."""

Results = dict[str, str]


class StepFailed(RuntimeError):
    """A task has done its work and the answer is no; the message says why."""


def function_of(task: str) -> Callable[..., Results]:
    """The function behind a task."""
    module = import_module(f"workshop_lib.mlops.{TASKS[task]}")
    function: Callable[..., Results] = getattr(module, task.replace("-", "_"))
    return function


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    choice = argparse.ArgumentParser(prog="python -m workshop_lib.mlops.steps", add_help=False)
    choice.add_argument("task", choices=TASKS)
    task = choice.parse_args(arguments[:1]).task
    function = function_of(task)
    parser = argparse.ArgumentParser(prog=f"{choice.prog} {task}", description=inspect.getdoc(function))
    parser.add_argument("--result", action="append", default=[], metavar="NAME=FILE", help="where a result goes")
    kinds = get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        needed = parameter.default is inspect.Parameter.empty
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=kinds[name], required=needed, default=None if needed else parameter.default)
    given = vars(parser.parse_args(arguments[1:]))
    wanted = dict(pair.split("=", 1) for pair in given.pop("result"))
    try:
        results = function(**given)
    except StepFailed as error:
        print(f"{task}: {error}", file=sys.stderr)
        return 1
    for name, file in wanted.items():
        write_text(Path(file), results[name])
    print(", ".join(f"{name} {value}" for name, value in results.items()))
    return 0


if __name__ == "__main__":
    # Not this file's own main: the steps raise the StepFailed of the imported module, which is another class.
    from workshop_lib.mlops.steps import main as imported

    sys.exit(imported())
