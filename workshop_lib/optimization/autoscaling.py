"""How a cluster decides on the number of replicas: the policy of a YAML file, and the autoscaler's own arithmetic.

    policy = read_policy("sales-forecaster")
    autoscaler = Autoscaler(policy, replicas=1)
    autoscaler.sync(0, {"cpu": [Pod(91)], "memory": [Pod(40)], "requests": 912})     # replicas from now on

The rules are those of the Kubernetes documentation, "Horizontal Pod Autoscaling", sections "Algorithm details" and
"Configurable scaling behavior"; where it leaves something open, those of the controller's source
(`pkg/controller/podautoscaler`). A ScaledObject of KEDA becomes such an autoscaler (KEDA documentation, "Scaling
Deployments, StatefulSets & Custom Resources").
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from workshop_lib import manifests
from workshop_lib.manifests import Document
from workshop_lib.settings import ROOT

CONFIG = ROOT / "5-monitoring-optimization" / "optimization" / "autoscaling_config.yaml"
SYNC_SECONDS = 15
"""How often the controller looks (its default, --horizontal-pod-autoscaler-sync-period)."""
TOLERANCE = 0.1
"""A ratio this close to 1 changes nothing (its default, --horizontal-pod-autoscaler-tolerance)."""

Kind = Literal["Utilization", "AverageValue", "Value"]
Select = Literal["Max", "Min", "Disabled"]


class PolicyError(ValueError):
    """The YAML holds no autoscaler of that name, or one that cannot be understood; the message names the field."""


@dataclass(frozen=True)
class Metric:
    """One thing that an autoscaler looks at."""

    name: str
    kind: Kind
    """``Utilization``: percent of each pod's request. ``AverageValue``: a total, shared among the pods. ``Value``:
    one figure that more replicas bring down."""
    target: float
    query: str = ""
    """PromQL; empty for ``cpu`` and ``memory``."""


@dataclass(frozen=True)
class Limit:
    """At most so much change within a period."""

    type: Literal["Percent", "Pods"]
    value: int
    seconds: int


@dataclass(frozen=True)
class Direction:
    """How fast to go in one direction."""

    window: int
    """Stabilisation window, seconds: the most cautious wish in it counts."""
    limits: tuple[Limit, ...]
    select: Select = "Max"
    """Which of the limits holds: the one that allows most, the one that allows least, or no change at all."""


# "Default Behavior" of the documentation.
DEFAULT_UP = Direction(0, (Limit("Percent", 100, 15), Limit("Pods", 4, 15)))
DEFAULT_DOWN = Direction(300, (Limit("Percent", 100, 15),))


@dataclass(frozen=True)
class Policy:
    """What an autoscaler may do, and what it goes by."""

    name: str
    deployment: str
    least: int
    most: int
    metrics: tuple[Metric, ...]
    up: Direction = DEFAULT_UP
    down: Direction = DEFAULT_DOWN


def read_policy(name: str, path: Path | str = CONFIG) -> Policy:
    """The policy of a ScaledObject or a HorizontalPodAutoscaler.

    Args:
        name: its ``metadata.name``.
        path: a YAML file or a folder of them, absolute or relative to the checkout.

    Raises:
        PolicyError: when there is none of that name, or a metric or a number in it cannot be used.
        workshop_lib.manifests.ManifestError: when the file cannot be read.
    """
    found = {
        document.name: document
        for document in manifests.load(path)
        if document.kind in ("ScaledObject", "HorizontalPodAutoscaler")
    }
    if name not in found:
        raise PolicyError(f"{path}: no autoscaler {name!r}; there are {', '.join(sorted(found)) or 'none'}.")
    try:
        policy = _policy(found[name])
    except (KeyError, TypeError, AttributeError) as error:
        raise PolicyError(f"{name} is no autoscaler that a cluster would take ({error}).") from error
    if policy.most < policy.least:
        raise PolicyError(f"{name}: it may have {policy.most} replicas at most, and must have {policy.least} at least.")
    return policy


def _policy(document: Document) -> Policy:
    keda = document.kind == "ScaledObject"
    least, most = ("minReplicaCount", "maxReplicaCount") if keda else ("minReplicas", "maxReplicas")
    behavior = document.get("spec.advanced.horizontalPodAutoscalerConfig.behavior" if keda else "spec.behavior")
    return Policy(
        name=document.name,
        deployment=document.body["spec"]["scaleTargetRef"]["name"],
        # KEDA's default is 0, but its autoscaler never goes below 1: from 1 to 0 KEDA goes by itself.
        least=max(1, int(document.get(f"spec.{least}") or 1)),
        most=int(document.get(f"spec.{most}") or 100),
        metrics=tuple(_triggers(document) if keda else _metrics(document)),
        up=_direction(document, behavior, "scaleUp", DEFAULT_UP),
        down=_direction(document, behavior, "scaleDown", DEFAULT_DOWN),
    )


def _triggers(document: Document) -> Iterator[Metric]:
    for number, trigger in enumerate(document.get("spec.triggers") or []):
        where, about = f"spec.triggers.{number}", trigger.get("metadata") or {}
        if trigger.get("type") in ("cpu", "memory"):
            kind, given, query = trigger.get("metricType", "Utilization"), about.get("value"), ""
        elif trigger.get("type") == "prometheus":
            kind, given = trigger.get("metricType", "AverageValue"), about.get("threshold")
            query = str(about.get("query") or "")
        else:
            unknown = trigger.get("type")
            raise PolicyError(f"{document.name}: {where}.type is {unknown}; known: cpu, memory, prometheus.")
        yield Metric(trigger.get("name") or trigger["type"], kind, _number(document, where, given), query)


def _metrics(document: Document) -> Iterator[Metric]:
    for number, metric in enumerate(document.get("spec.metrics") or []):
        where, kind = f"spec.metrics.{number}", metric.get("type")
        if kind not in ("Resource", "External"):
            raise PolicyError(f"{document.name}: {where}.type is {kind}; known: Resource, External.")
        source = metric[kind.lower()]
        name = source["name"] if kind == "Resource" else source["metric"]["name"]
        target = source["target"]
        given = target.get("averageUtilization") or target.get("averageValue") or target.get("value")
        yield Metric(name, target["type"], _number(document, where, given), "" if kind == "Resource" else name)


def _number(document: Document, where: str, given: object) -> float:
    try:
        number = float(str(given))
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise PolicyError(f"{document.name}: the target of {where} is {given!r}, not a number above 0.")
    return number


def _direction(document: Document, behavior: Any, key: str, default: Direction) -> Direction:
    given = (behavior or {}).get(key)
    if not given:
        return default
    window = given.get("stabilizationWindowSeconds", default.window)
    if not 0 <= window <= 3600:
        raise PolicyError(f"{document.name}: {key}.stabilizationWindowSeconds is {window}, not between 0 and 3600.")
    limits = tuple(Limit(one["type"], one["value"], one["periodSeconds"]) for one in given.get("policies") or [])
    return Direction(window, limits or default.limits, given.get("selectPolicy", "Max"))


@dataclass(frozen=True)
class Pod:
    """What the autoscaler knows of a pod: percent of its request, ``None`` where no value came."""

    value: float | None
    ready: bool = True


Reading = Sequence[Pod] | float | None
"""Of each pod for ``Utilization``, one figure otherwise; ``None`` when the metric could not be fetched."""


def wanted(metric: Metric, reading: Reading, replicas: int, ready: int) -> int | None:
    """How many replicas one metric asks for: ceil(replicas · value / target), unless the ratio is close to 1.

    Args:
        metric: with its target.
        reading: its present value.
        replicas: of the Deployment.
        ready: how many of them answer.

    Returns:
        The number, not limited in any way; ``None`` when the metric has no value.
    """
    if reading is None:
        return None
    if not isinstance(reading, int | float):
        return _wanted_by_pods(reading, metric.target, replicas)
    if not math.isfinite(reading):
        return None
    if metric.kind == "AverageValue":
        return replicas if _close(reading / (metric.target * replicas)) else _ceil(reading / metric.target)
    ratio = reading / metric.target
    return replicas if _close(ratio) else _ceil(ratio * ready)


def _wanted_by_pods(pods: Sequence[Pod], target: float, replicas: int) -> int | None:
    """The same for percentages of each pod, with caution where some are not ready or have no value."""
    known = [pod.value for pod in pods if pod.ready and pod.value is not None]
    starting = sum(not pod.ready for pod in pods)
    missing = sum(pod.ready and pod.value is None for pod in pods)
    if not known:
        return None
    ratio = sum(known) / len(known) / target
    ignored = starting if ratio > 1 else 0
    if not ignored and not missing:
        return replicas if _close(ratio) else _ceil(ratio * len(known))
    # Pods without a value count as idle when more are wanted, and as busy when fewer are.
    assumed = 0.0 if ratio > 1 else max(100.0, target)
    values = [*known, *[assumed] * missing, *[0.0] * ignored]
    cautious = sum(values) / len(values) / target
    number = _ceil(cautious * len(values))
    turned = (cautious - 1) * (ratio - 1) < 0 or (number - replicas) * (ratio - 1) < 0
    return replicas if _close(cautious) or turned else number


def _close(ratio: float) -> bool:
    return abs(1 - ratio) <= TOLERANCE + 1e-9


def _ceil(number: float) -> int:
    return math.ceil(number - 1e-9)  # 0.7 · 10 is 7.000000000000001 to a computer


@dataclass
class Autoscaler:
    """A HorizontalPodAutoscaler at work: asked every :data:`SYNC_SECONDS`, it remembers what it needs."""

    policy: Policy
    replicas: int
    missing: list[str] = field(default_factory=list)
    """Names of metrics that had no value at the last look."""
    _wishes: list[tuple[float, int]] = field(default_factory=list)
    _changes: list[tuple[float, int]] = field(default_factory=list)

    def sync(self, now: float, readings: Mapping[str, Reading], ready: int | None = None) -> int:
        """Look at the metrics and decide.

        Args:
            now: seconds on any clock that does not go back.
            readings: the value of each metric by its name; one that is missing could not be fetched.
            ready: replicas that answer; all by default.

        Returns:
            The number of replicas from now on.
        """
        policy, current = self.policy, self.replicas
        if not policy.least <= current <= policy.most:
            return self._set(now, min(max(current, policy.least), policy.most))
        if not self._wishes:
            self._wishes.append((now, current))  # what runs when the autoscaler begins counts as a wish
        ready = current if ready is None else ready
        wishes = {one.name: wanted(one, readings.get(one.name), current, ready) for one in policy.metrics}
        self.missing = [name for name, wish in wishes.items() if wish is None]
        numbers = [wish for wish in wishes.values() if wish is not None]
        # With a metric missing nobody knows whether fewer would do.
        if not numbers or (self.missing and max(numbers) < current):
            return current
        return self._set(now, self._allowed(now, self._stabilised(now, max(numbers))))

    def _set(self, now: float, replicas: int) -> int:
        if replicas != self.replicas:
            self._changes.append((now, replicas - self.replicas))
            self.replicas = replicas
        return self.replicas

    def _stabilised(self, now: float, wish: int) -> int:
        """The most cautious wish of each window: on the way up the lowest one, on the way down the highest."""
        up, down = self.policy.up.window, self.policy.down.window
        self._wishes = [(when, number) for when, number in self._wishes if when > now - max(up, down)]
        lowest = min([wish, *(number for when, number in self._wishes if when > now - up)])
        highest = max([wish, *(number for when, number in self._wishes if when > now - down)])
        self._wishes.append((now, wish))
        return min(max(self.replicas, lowest), highest)

    def _allowed(self, now: float, number: int) -> int:
        """As far towards the number as the limits per period and the policy's bounds let it go."""
        current, policy = self.replicas, self.policy
        if number == current:
            return current
        rising = number > current
        direction = policy.up if rising else policy.down
        if direction.select == "Disabled":
            return current
        ends = [self._end(now, limit, rising) for limit in direction.limits]
        furthest = max if rising == (direction.select == "Max") else min
        if rising:
            return min(number, max(furthest(ends), current), policy.most)
        return max(number, min(furthest(ends), current), policy.least)

    def _end(self, now: float, limit: Limit, rising: bool) -> int:
        """Where a limit ends, counted from what ran when its period began."""
        sign = 1 if rising else -1
        changed = sum(change for when, change in self._changes if when > now - limit.seconds and change * sign > 0)
        start = self.replicas - changed
        if limit.type == "Pods":
            return start + sign * limit.value
        exact = start * (1 + sign * limit.value / 100)
        return _ceil(exact) if rising else math.floor(exact + 1e-9)
