"""Read a Tekton pipeline: its tasks, their order, and its variables, by Tekton's own rules.

    pipeline = read_pipeline(manifests.load("6-advanced-mlops/pipelines/gitops_pipeline.yaml"), "train-and-release")
    pipeline.order                                             # from runAfter and from who needs whose results
    fill("$(params.depth) deep", {"params.depth": "6"})        # "6 deep"

Source of the rules: Tekton's documentation, "Pipelines" and "Variable Substitutions Supported by Tasks and Pipelines".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from workshop_lib.manifest_rules import Document, walk

APPROVAL = "ApprovalTask"
_VARIABLE = re.compile(r"\$\(((?:params|tasks|results|workspaces|context|body|header|tt)\.[\w.\-\[\]*]+)\)")
_RESULT = re.compile(r"\$\(tasks\.([\w-]+)\.results\.([\w-]+)\)")
_UNITS = {"h": 3600, "m": 60, "s": 1}

Variables = Mapping[str, str | Sequence[str]]


class TektonError(ValueError):
    """A pipeline cannot run as it is written; the message names the place."""


@dataclass(frozen=True)
class PipelineTask:
    """A task at its place in a pipeline."""

    name: str
    kind: str
    """``Task``, or ``ApprovalTask`` where a person is asked."""
    spec: dict[str, Any]
    """What the Task that it names says; empty for an approval."""
    params: dict[str, Any]
    """With variables in them."""
    when: tuple[dict[str, Any], ...]
    after: frozenset[str]
    """Tasks that come before: those of ``runAfter``, and those whose results it uses."""
    needs: frozenset[tuple[str, str]]
    """Results that it uses, as (task, result)."""
    seconds: float | None
    """Its timeout; None without one."""


@dataclass(frozen=True)
class Pipeline:
    """A pipeline with all that it names."""

    name: str
    params: dict[str, Any]
    """Defaults; None where a run has to give a value."""
    tasks: dict[str, PipelineTask]
    finals: dict[str, PipelineTask]
    """Those of ``finally``, which run at the end in any case."""

    @property
    def order(self) -> list[str]:
        """The tasks, each after all that it waits for; those that could run at once stay as in the file."""
        try:
            graph = {name: [one for one in self.tasks if one in task.after] for name, task in self.tasks.items()}
            return list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            raise TektonError(f"{self.name}: the tasks {', '.join(error.args[1])} wait for each other.") from None


def read_pipeline(documents: Iterable[Document], name: str) -> Pipeline:
    """Find a pipeline and its tasks, and check that everything that it names is there.

    Raises:
        TektonError: for a missing task, parameter or result, an unknown one, or tasks that wait for each other.
    """
    documents = list(documents)
    body = _find(documents, "Pipeline", name)["spec"]
    specs = {one.name: one.body["spec"] for one in documents if one.kind == "Task"}
    tasks = {one["name"]: _task(one, specs) for one in body["tasks"]}
    finals = {one["name"]: _task(one, specs) for one in body.get("finally", [])}
    pipeline = Pipeline(name, _defaults(body), tasks, finals)
    known = {f"params.{param}" for param in pipeline.params} | {"context.pipelineRun.name", "tasks.status"}
    known |= {f"tasks.{task}.status" for task in tasks}
    known |= {
        f"tasks.{task.name}.results.{one['name']}" for task in tasks.values() for one in task.spec.get("results", [])
    }
    for task in [*tasks.values(), *finals.values()]:
        unknown = [*(task.after - tasks.keys()), *(_variables([task.params, list(task.when)]) - known)]
        if unknown:
            raise TektonError(f"{name}, task {task.name}: there is no {', '.join(sorted(unknown))}.")
    assert pipeline.order
    return pipeline


def run_params(pipeline: Pipeline, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a run, with the pipeline's defaults where it gives none.

    Raises:
        TektonError: for an unknown parameter, or one without a value.
    """
    if unknown := given.keys() - pipeline.params.keys():
        raise TektonError(f"{pipeline.name} has no parameter {', '.join(sorted(unknown))}.")
    values = pipeline.params | dict(given)
    if missing := [name for name, value in values.items() if value is None]:
        raise TektonError(f"{pipeline.name} needs a value for {', '.join(missing)}.")
    return values


def fill(value: Any, variables: Variables) -> Any:
    """Put values in the place of variables, in text, lists and mappings.

    A list parameter fills a list: ``["$(params.names[*])"]``. What a shell writes as ``$(command)`` stays as it is.

    Raises:
        TektonError: for a variable of Tekton's without a value.
    """
    if isinstance(value, Mapping):
        return {key: fill(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        filled = [fill(item, variables) for item in value]
        return [part for item in filled for part in (item if isinstance(item, list) else [item])]
    if not isinstance(value, str):
        return value
    whole = _VARIABLE.fullmatch(value)
    if whole and whole[1].endswith("[*]"):
        return list(_value(whole[1].removesuffix("[*]"), variables))
    return _VARIABLE.sub(lambda found: str(_value(found[1], variables)), value)


def holds(when: Mapping[str, Any], variables: Variables) -> bool:
    """Whether a ``when`` expression allows its task."""
    inside = fill(when["input"], variables) in fill(list(when["values"]), variables)
    return bool(inside == (when["operator"] == "in"))


def _value(name: str, variables: Variables) -> str | Sequence[str]:
    if name not in variables:
        raise TektonError(f"$({name}) has no value here.")
    return variables[name]


def _find(documents: Sequence[Document], kind: str, name: str) -> dict[str, Any]:
    for document in documents:
        if (document.kind, document.name) == (kind, name):
            return document.body
    raise TektonError(f"There is no {kind} {name}.")


def _task(body: Mapping[str, Any], specs: Mapping[str, dict[str, Any]]) -> PipelineTask:
    name, ref = body["name"], body["taskRef"]
    params = {one["name"]: one["value"] for one in body.get("params", [])}
    when = tuple(body.get("when", []))
    needs = frozenset(found for text in _texts([params, list(when)]) for found in _RESULT.findall(text))
    spec: dict[str, Any] = {}
    if ref["kind"] == "Task":
        if ref["name"] not in specs:
            raise TektonError(f"Task {name}: there is no Task {ref['name']}.")
        spec = specs[ref["name"]]
        wanted = _defaults(spec)
        missing = [one for one, default in wanted.items() if default is None and one not in params]
        if missing or params.keys() - wanted.keys():
            wrong = ", ".join([*missing, *(params.keys() - wanted.keys())])
            raise TektonError(f"Task {name}: {wrong} is missing, or no parameter of Task {ref['name']}.")
    elif ref["kind"] != APPROVAL:
        raise TektonError(f"Task {name}: tasks of kind {ref['kind']} are not known here.")
    after = frozenset(body.get("runAfter", [])) | {task for task, _ in needs}
    return PipelineTask(name, ref["kind"], spec, params, when, after, needs, _seconds(body.get("timeout")))


def _defaults(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("default") for one in spec.get("params", [])}


def _seconds(duration: str | None) -> float | None:
    """A duration as Go writes it, such as ``1h30m``, in seconds."""
    if duration is None:
        return None
    parts = re.findall(r"(\d+)([hms])", duration)
    if "".join(number + unit for number, unit in parts) != duration:
        raise TektonError(f"{duration!r} is no duration such as 1h30m.")
    return float(sum(int(number) * _UNITS[unit] for number, unit in parts))


def _texts(value: Any) -> list[str]:
    return [text for _, text in walk(value) if isinstance(text, str)]


def _variables(value: Any) -> set[str]:
    return {name.removesuffix("[*]") for text in _texts(value) for name in _VARIABLE.findall(text)}
