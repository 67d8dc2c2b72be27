"""Exercises of notebook 05."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workshop_lib.exercises import Exercise
from workshop_lib.serving.release import Seen


def _says(expected: dict[Seen, bool]) -> Callable[[Any], bool]:
    return lambda accepts: all(bool(accepts(seen)) is wanted for seen, wanted in expected.items())


_GOOD, _WORST = Seen(requests=1000, failed=0, slow=0), Seen(requests=1000, failed=1000, slow=0)
_AT_LIMIT, _OVER = Seen(requests=1000, failed=20, slow=0), Seen(requests=1000, failed=21, slow=0)
_FEW, _NONE = Seen(requests=49, failed=0, slow=0), Seen(requests=0, failed=0, slow=0)
_ENOUGH = Seen(requests=50, failed=0, slow=0)


class _Notes:
    """A stage on which nothing happens but notes."""

    def __init__(self) -> None:
        self.done: list[tuple[str, Any]] = []

    def start(self, *servers: Any) -> None:
        """Note it."""
        self.done.append(("start", servers))

    def route(self, weights: dict[Any, float], **more: Any) -> None:
        """Note who gets requests."""
        self.done.append(("route", {server for server, weight in weights.items() if weight}))

    def drain(self, server: Any) -> None:
        """Note it."""
        self.done.append(("drain", server))

    def stop(self, *servers: Any) -> None:
        """Note it."""
        self.done.append(("stop", servers))

    def watch(self, *_: Any, **__: Any) -> None:
        """Nothing to see."""


def _order(retire: Any) -> list[str]:
    """The verbs that a function uses to take ``old`` away while ``new`` runs, in their order."""
    stage = _Notes()
    retire(stage, "old", "new")
    right = {"route": {"new"}, "drain": "old", "stop": ("old",)}
    return [verb if right.get(verb) == what else f"wrong {verb}" for verb, what in stage.done]


EXERCISES = {
    "3.5.a": Exercise(
        right=lambda answer: str(answer).lower().strip() == "shadow",
        hint="In which strategy do callers never see an answer of the new version?",
        near_misses=[
            (lambda answer: "canary" in str(answer).lower(), "A tenth of the callers would get its forecasts."),
            (lambda answer: "flag" in str(answer).lower(), "The callers of these categories would get its forecasts."),
            (lambda answer: "blue" in str(answer).lower(), "All callers would get its forecasts at once."),
        ],
    ),
    "3.5.b": Exercise(
        right=_says({
            _GOOD: True, _AT_LIMIT: True, _ENOUGH: True, _OVER: False, _WORST: False, _FEW: False, _NONE: False,
        }),
        hint="Two conditions: at least 50 requests, and failed requests at most 2% of them.",
        near_misses=[
            (_says({_GOOD: False, _WORST: True}), "It is the wrong way round: True means that it may go on."),
            (_says({_FEW: True}), "Fewer than 50 requests prove nothing, even when none failed."),
            (_says({_NONE: True}), "No requests at all prove nothing."),
            (_says({_AT_LIMIT: False, _GOOD: True}), "Exactly 2% failed requests are still good enough."),
            (_says({_ENOUGH: False, _GOOD: True}), "Exactly 50 requests are enough."),
            (_says({_OVER: True}), "It accepts a version with more than 2% failed requests."),
        ],
    ),
    "3.5.c": Exercise(
        right=lambda retire: _order(retire) == ["route", "drain", "stop"],
        hint="Three verbs of the stage: give it no new requests, let it finish, end it.",
        near_misses=[
            (lambda retire: _order(retire) == ["route", "stop"], "Requests under way are cut off: let it finish."),
            (lambda retire: _order(retire)[:1] == ["stop"], "It is stopped while the routes still name it."),
            (lambda retire: _order(retire)[:1] == ["drain"], "It never runs dry as long as it gets new requests."),
            (lambda retire: "wrong route" in _order(retire), "After it, only the new server gets requests."),
        ],
    ),
}  # fmt: skip
