"""Exercises of notebook 7."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from workshop_lib.exercises import Exercise
from workshop_lib.optimization.autoscaling import Autoscaler, Direction, Limit, Metric, Policy

_CASES = {(4, 105, 70): 6, (4, 73, 70): 4, (4, 35, 70): 2, (10, 20, 70): 3, (1, 700, 70): 10}
"""Replicas and utilisation against a target of 70%, and what the autoscaler of the exercise wants."""


def _computes(cases: dict[tuple[int, int, int], int]) -> Callable[[Any], bool]:
    """Whether a function gives these numbers."""
    return lambda answer: all(answer(*given) == number for given, number in cases.items())


_NO_TOLERANCE = _CASES | {(4, 73, 70): 5}
_NO_CEILING = _CASES | {(10, 20, 70): 2}


def _replicas(policy: Policy, loads: Sequence[float]) -> list[int]:
    autoscaler = Autoscaler(policy, 1)
    return [autoscaler.sync(15.0 * step, {"load": 100 * load}) for step, load in enumerate(loads)]


def _steady_policy(answer: Any) -> bool:
    """Windows with which a spike of 90 seconds every ten minutes neither adds a replica nor a later peak loses one."""
    up, down = answer["up"], answer["down"]
    rule = (Limit("Percent", 400, 15),)
    policy = Policy("x", "x", 1, 10, (Metric("load", "AverageValue", 100),), Direction(up, rule), Direction(down, rule))
    spikes = [5.0 if step % 40 >= 34 else 1.0 for step in range(120)]
    waves = [4.0 if step % 32 < 20 else 1.0 for step in range(160)]
    return set(_replicas(policy, spikes)) == {1} and set(_replicas(policy, waves)[20:]) == {4}


EXERCISES = {
    "5.7.a": Exercise(
        right=_computes(_CASES),
        hint="ceil(replicas * utilisation / target), but the same number as before while utilisation / target lies "
        "between 0.9 and 1.1.",
        near_misses=[
            (_computes(_NO_TOLERANCE), "73% against 70% is within a tenth: the autoscaler leaves the number alone."),
            (_computes(_NO_CEILING), "2.86 replicas do not exist, and two would be too few: always round up."),
            (
                _computes({(4, 105, 70): 2, (4, 35, 70): 1}),
                "The ratio alone is the factor; multiply it by the replicas that there are.",
            ),
            (
                _computes({(4, 105, 70): 3, (4, 35, 70): 8}),
                "The other way round: more than the target means more replicas.",
            ),
        ],
    ),
    "5.7.b": Exercise(
        right=_steady_policy,
        hint='Hand over {"up": seconds, "down": seconds}. A window must be longer than what it shall bridge.',
        near_misses=[
            (
                lambda answer: answer["up"] > answer["down"],
                "Look at which window does what: `up` bridges the spikes, `down` the gaps between the waves.",
            ),
            (lambda answer: answer["up"] <= 90, "The spikes last 90 seconds: a shorter window sees nothing else."),
            (lambda answer: answer["down"] <= 180, "The gaps last 180 seconds; the last high wish must outlive them."),
            (
                lambda answer: answer["up"] > 240,
                "With so long a window the waves, which are real load, come too late as well.",
            ),
        ],
    ),
}  # fmt: skip
