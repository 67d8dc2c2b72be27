"""A canary as ``ab_testing.yaml`` describes it: its steps, its gates, and what follows from their measurements.

    plan = read_plan()
    plan.steps[0]                               # 20%, with the gates that have to be passed there
    analyse(plan.steps[0].gates, ask).phase     # ask: gives the values of a query now

The meaning of every field is that of Argo Rollouts (https://argo-rollouts.readthedocs.io/en/stable/features/analysis/):
each gate is measured ``count`` times, ``interval`` apart, after ``initialDelay``. A measurement is successful, failed,
or inconclusive when neither condition holds. More failed ones than ``failureLimit`` fail the analysis at once.

On a laptop the same queries run with other arguments, and time passes more quickly: see :class:`Pace`.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scipy import stats

from workshop_lib.manifest_files import ManifestError, load
from workshop_lib.monitoring.prometheus import PrometheusError
from workshop_lib.settings import ROOT

FILE = ROOT / "6-advanced-mlops" / "pipelines" / "ab_testing.yaml"
Phase = Literal["successful", "failed", "inconclusive"]
Ask = Callable[[str], list[float]]
"""Gives the values of a PromQL expression now."""
_WORST: tuple[Phase, ...] = ("failed", "inconclusive", "successful")
_WINDOWS = ("window", "history")
"""Arguments that are durations."""
_HOURS = {"s": 1 / 3600, "m": 1 / 60, "h": 1, "d": 24}


@dataclass(frozen=True)
class Pace:
    """How long the file's durations take here.

    A minute of requests and a day of sales shrink differently: what counts is how many requests come in the one, and
    that all categories are asked for in the other.
    """

    minute: float
    """Seconds for a minute; for durations below a day."""
    day: float
    """Seconds for a day; for durations of a day and more."""

    def seconds(self, duration: str) -> float:
        """A duration such as ``2m`` or ``48h``, as long as it is here; an empty one takes no time.

        Raises:
            ManifestError: for anything else.
        """
        if not duration:
            return 0.0
        parts = re.fullmatch(r"(\d+)([smhd])", duration)
        if not parts:
            raise ManifestError(f"{duration!r} is no duration such as 30s, 2m or 48h.")
        hours = int(parts[1]) * _HOURS[parts[2]]
        return hours / 24 * self.day if hours >= 24 else hours * 60 * self.minute


CLUSTER = Pace(minute=60, day=86_400)
"""As it stands in the file."""


# --- The conditions ---------------------------------------------------------------------------------

_FUNCTIONS: dict[str, Callable[[Any], Any]] = {"len": len, "isNaN": math.isnan}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip


def holds(condition: str, result: Sequence[float]) -> bool:
    """Whether a condition of the file holds for a query's values.

    Args:
        condition: such as ``len(result) > 0 && !isNaN(result[0]) && result[0] <= 0.02``; of Argo's language, what our
            file uses: ``&&``, ``||``, ``!``, comparisons, ``len``, ``isNaN``, ``result[…]`` and numbers.
        result: the values.

    Raises:
        ManifestError: for a condition that says more than that, or asks for a value that is not there.
    """
    text = re.sub(r"!(?!=)", " not ", condition.replace("&&", " and ").replace("||", " or "))
    try:
        return bool(_value(ast.parse(text.strip(), mode="eval").body, result))
    except (SyntaxError, KeyError, IndexError, TypeError) as error:
        raise ManifestError(f"The condition {condition!r} cannot be used: {type(error).__name__}, {error}.") from None


def _value(node: ast.expr, result: Sequence[float]) -> Any:
    """The value of a part of a condition."""
    match node:
        case ast.BoolOp(op=ast.And()):
            return all(_value(part, result) for part in node.values)
        case ast.BoolOp(op=ast.Or()):
            return any(_value(part, result) for part in node.values)
        case ast.UnaryOp(op=ast.Not()):
            return not _value(node.operand, result)
        case ast.Compare(ops=[compare], comparators=[other]):
            return _COMPARE[type(compare)](_value(node.left, result), _value(other, result))
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]):
            return _FUNCTIONS[name](_value(argument, result))
        case ast.Subscript(value=ast.Name(id="result"), slice=ast.Constant(value=int(place))):
            return result[place]
        case ast.Name(id="result"):
            return result
        case ast.Constant(value=int() | float()):
            return node.value
    raise TypeError(ast.unparse(node))


# --- The plan ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gate:
    """One metric of an AnalysisTemplate."""

    name: str
    query: str
    success: str
    failure: str
    delay: str = ""
    interval: str = ""
    count: int = 1
    failure_limit: int = 0
    inconclusive_limit: int = 0

    def judge(self, values: Sequence[float]) -> Phase:
        """What a measurement says."""
        if holds(self.failure, values):
            return "failed"
        return "successful" if holds(self.success, values) else "inconclusive"

    def phase(self, measured: Sequence[Phase]) -> Phase | None:
        """What all measurements so far say of the gate; None while there are more to come."""
        if measured.count("failed") > self.failure_limit:
            return "failed"
        if measured.count("inconclusive") > self.inconclusive_limit:
            return "inconclusive"
        return "successful" if len(measured) >= self.count else None


@dataclass(frozen=True)
class Step:
    """A share of the requests, and what has to be passed there."""

    weight: int
    """Percent."""
    gates: tuple[Gate, ...]


@dataclass(frozen=True)
class Plan:
    """What the file says."""

    steps: tuple[Step, ...]

    def most_bad(self, rate: float, pace: Pace, lag: float) -> int:
        """How many requests a bad version gets at most if the first step finds it out, with a certainty of 99.99%.

        Requests go to it by chance, so their number is about Poisson distributed around rate · share · seconds.

        Args:
            rate: requests per second.
            pace: how long the durations take.
            lag: seconds for what no duration names: starting to measure, asking, and changing the weights.
        """
        first = self.steps[0]
        longest = max(pace.seconds(gate.delay) + (gate.count - 1) * pace.seconds(gate.interval) for gate in first.gates)
        return int(stats.poisson.ppf(0.9999, rate * first.weight / 100 * (longest + lag)))


def read_plan(arguments: Mapping[str, str] | None = None, pace: Pace = CLUSTER) -> Plan:
    """Steps and gates of ``ab_testing.yaml``, with the arguments put into the queries.

    Args:
        arguments: values in place of those in the file, such as ``{"label": "backend"}``.
        pace: how long the windows of the queries are here; the durations of the gates stay as the file has them.

    Raises:
        ManifestError: when the file cannot be used.
    """
    documents = load(FILE)
    (rollout,) = (one for one in documents if one.kind == "Rollout")
    templates = {one.name: one.body["spec"] for one in documents if one.kind == "AnalysisTemplate"}
    steps, weight = [], 0
    for step in rollout.get("spec.strategy.canary.steps"):
        weight = step.get("setWeight", weight)
        if "analysis" in step:
            named = [templates[one["templateName"]] for one in step["analysis"]["templates"]]
            gates = [gate for template in named for gate in _gates(template, arguments or {}, pace)]
            steps.append(Step(weight, tuple(gates)))
    return Plan(tuple(steps))


def _gates(template: Mapping[str, Any], arguments: Mapping[str, str], pace: Pace) -> Iterable[Gate]:
    known = {one["name"]: one["value"] for one in template.get("args", ()) if "value" in one} | dict(arguments)
    known |= {name: f"{1000 * pace.seconds(known[name]):.0f}ms" for name in _WINDOWS if name in known}
    for metric in template["metrics"]:
        yield Gate(
            name=metric["name"],
            query=fill(metric["provider"]["prometheus"]["query"], known),
            success=metric["successCondition"],
            failure=metric["failureCondition"],
            delay=metric.get("initialDelay", ""),
            interval=metric.get("interval", ""),
            count=metric.get("count", 1),
            failure_limit=metric.get("failureLimit", 0),
            inconclusive_limit=metric.get("inconclusiveLimit", 0),
        )


def fill(query: str, arguments: Mapping[str, str]) -> str:
    """Put arguments in the places of ``{{args.NAME}}``; a place whose argument is not given stays.

    The versions are known only when a release begins, so a plan may be read without them.
    """
    return re.sub(r"\{\{args\.([\w-]+)\}\}", lambda place: str(arguments.get(place[1], place[0])), query)


# --- The analysis -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measurement:
    """One answer of Prometheus, and what it means."""

    at: float
    """Seconds since the analysis began."""
    gate: str
    value: float
    """NaN where there was none."""
    phase: Phase


@dataclass(frozen=True)
class Analysis:
    """What the measurements of one step say."""

    phase: Phase
    gate: str
    """Which gate decided, when it was not passed."""
    measurements: tuple[Measurement, ...]


def analyse(
    gates: Sequence[Gate],
    ask: Ask,
    pace: Pace = CLUSTER,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Analysis:
    """Measure all gates side by side until they are passed or one of them is not.

    A Prometheus that does not answer measures nothing: that is inconclusive, too.

    Args:
        gates: of one step.
        ask: asks Prometheus.
        pace: how long the durations take.
        clock: seconds; for tests.
        sleep: waits; for tests.
    """
    begun, done = clock(), list[Measurement]()
    phases: dict[str, list[Phase]] = {gate.name: [] for gate in gates}
    due = {gate.name: pace.seconds(gate.delay) for gate in gates}
    open_gates = list(gates)
    while open_gates:
        now = min(due[gate.name] for gate in open_gates)
        sleep(max(0.0, begun + now - clock()))
        ended: dict[str, Phase] = {}
        for gate in [gate for gate in open_gates if due[gate.name] == now]:
            try:
                values = ask(gate.query)
            except PrometheusError:
                values = []
            phases[gate.name].append(gate.judge(values))
            done.append(
                Measurement(clock() - begun, gate.name, values[0] if values else math.nan, phases[gate.name][-1])
            )
            due[gate.name] += pace.seconds(gate.interval)
            if (phase := gate.phase(phases[gate.name])) is not None:
                ended[gate.name] = phase
        for worst in _WORST[:2]:  # a failed gate counts more than one that says nothing
            bad = [name for name, phase in ended.items() if phase == worst]
            if bad:
                return Analysis(worst, bad[0], tuple(done))
        open_gates = [gate for gate in open_gates if gate.name not in ended]
    return Analysis("successful", "", tuple(done))
