"""Strategies to replace a running version of the forecaster by another one, under the eyes of its callers.

    with open_stage() as stage:
        blue, green = stage.server("blue", champion()), stage.server("green", challenger())
        stage.reset([blue])
        release = stage.perform("blue-green", lambda: blue_green(stage, blue, green))
    release.frame                                  # a row per request that came meanwhile

A strategy is a short function over four verbs: ``start`` a server, ``route`` requests to it, ``stop`` it, and
``watch`` what happens. :class:`workshop_lib.serving.release_stage.Stage` carries them out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mlflow.tracking import MlflowClient

from workshop_lib.files import locked
from workshop_lib.predictive.champion import EXPERIMENT, ensure_champion, find_version, register_forecaster
from workshop_lib.predictive.forecaster import gradient_boosting, make_dataset, train
from workshop_lib.predictive.tracking import FORECASTER, use_tracking
from workshop_lib.serving.release_report import Release
from workshop_lib.serving.release_stage import SLOW_SECONDS, Seen, Server, Stage, open_stage
from workshop_lib.serving.routing import Rule
from workshop_lib.settings import settings

CHALLENGER = f"models:/{FORECASTER}@challenger"

__all__ = [
    "Guard", "Release", "Seen", "Server", "Stage", "blue_green", "canary", "challenger", "champion", "feature_flag",
    "open_stage", "recreate", "rolling", "shadow",
]  # fmt: skip


def champion() -> str:
    """Number of the version in use."""
    return str(ensure_champion().version)


def challenger() -> str:
    """Number of the version that wants to take over: whoever has the alias ``challenger``.

    Where nobody has it, a smaller and faster boosting model is trained and registered once, and found again by
    every later call. The alias ``champion`` stays where it is.
    """
    now = champion()
    with locked(settings.home / "services" / "challenger"):  # two notebooks at once register one
        use_tracking(EXPERIMENT)
        found = find_version(CHALLENGER)
        if found is None or str(found.version) == now:
            smaller = train(gradient_boosting(n_estimators=150, num_parallel_tree=1, max_depth=5), make_dataset())
            found = register_forecaster(
                smaller,
                metrics={},
                description="XGBoost with fewer and smaller trees, to be released against the champion.",
                alias=None,
            )
            client = MlflowClient()
            client.set_model_version_tag(FORECASTER, found.version, "made_for", "release strategies")
            client.set_registered_model_alias(FORECASTER, "challenger", found.version)
    return str(found.version)


@dataclass(frozen=True)
class Guard:
    """When a new version is good enough for more requests."""

    failed: float = 0.01
    """Largest share of requests without a good answer."""
    slow: float = 0.05
    """Largest share of slow answers: 0.05 bounds the 95th percentile."""
    slow_seconds: float = SLOW_SECONDS
    """What is slow; a bucket of the API's histogram."""
    requests: int = 5
    """Fewer prove nothing."""

    def accepts(self, seen: Seen) -> bool:
        """Whether what was seen is good enough; too few requests are not."""
        if seen.requests < self.requests:
            return False
        return seen.failed <= self.failed * seen.requests and seen.slow <= self.slow * seen.requests


def recreate(stage: Stage, old: Sequence[Server], new: Sequence[Server]) -> None:
    """Stop all replicas of the old version, then start those of the new one; between the two nobody answers."""
    stage.stop(*old)
    stage.start(*new)
    stage.route(dict.fromkeys(new, 100))


def rolling(stage: Stage, old: Sequence[Server], new: Sequence[Server]) -> None:
    """Replace one replica after the other: at any time at most one more than before runs, and never one less.

    Args:
        stage: where it happens.
        old: the replicas that run.
        new: one for each of them.
    """
    serving = list(old)
    for leaving, coming in zip(old, new, strict=True):
        stage.start(coming)
        serving[serving.index(leaving)] = coming
        stage.route(dict.fromkeys(serving, 100))
        stage.drain(leaving)
        stage.stop(leaving)


def blue_green(stage: Stage, old: Server, new: Server) -> None:
    """Start the new version beside the old one and switch all requests at once; the old one stays, to go back to."""
    stage.start(new)
    stage.route({old: 0, new: 100})


def canary(
    stage: Stage,
    old: Server,
    new: Server,
    weights: Sequence[float] = (10, 50, 100),
    seconds: float = 2,
    guard: Guard | None = None,
) -> bool:
    """Give the new version more and more requests, as long as it does well; otherwise go back at once.

    Args:
        stage: where it happens.
        old: the version that runs.
        new: the one that has to prove itself.
        weights: its shares in percent, one after the other.
        seconds: to watch at each of them.
        guard: what doing well means.

    Returns:
        Whether the new version has all requests now.
    """
    guard = guard or Guard()
    stage.start(new)
    for weight in weights:
        stage.route({old: 100 - weight, new: weight}, step=f"{weight:g}% {new.name}")
        if not guard.accepts(stage.watch(seconds, new, guard.requests, guard.slow_seconds)):
            with stage.going_back():
                stage.route({old: 100, new: 0})
            return False
    return True


def shadow(stage: Stage, old: Server, new: Server, seconds: float = 4) -> None:
    """Let the new version answer copies of the requests for a while; its answers are logged and thrown away."""
    stage.start(new)
    stage.route({old: 100}, shadow=new, step="copies on")
    stage.watch(seconds)
    stage.route({old: 100}, step="copies off")


def feature_flag(stage: Stage, old: Server, new: Server, categories: Collection[str]) -> None:
    """Switch the new version on for some categories only."""
    stage.start(new)
    rule = Rule(backend=new.name, categories=frozenset(categories))
    stage.route({old: 100, new: 0}, rules=[rule], step=f"flag for {len(categories)} categories")
