"""Exercises of notebook 01."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workshop_lib.exercises import Exercise

_PER_TOKEN = 2 * 30 * 3 * 64 * 2
"""Bytes of SmolLM2-135M: key and value, 30 layers, 3 KV heads, 64 values, 2 bytes."""


def _near(expected: float) -> Callable[[Any], bool]:
    return lambda answer: bool(abs(answer / expected - 1) < 0.01)


EXERCISES = {
    "2.1.a": Exercise(
        right=_near(1000 * _PER_TOKEN / 2**20),
        hint="planning.kv_bytes_per_token(small) tells the bytes of one token.",
        near_misses=[
            (_near(1000 * _PER_TOKEN), "These are bytes; a MiB has 2**20 of them."),
            (_near(1000 * _PER_TOKEN / 1e6), "These are megabytes of 10**6 bytes; a MiB has 2**20."),
            (_near(1000 * _PER_TOKEN / 2**21), "That is half of it: the cache keeps a key and a value."),
            (_near(1000 * 163_840 / 2**20), "That is Granite; the question is about the small model."),
            (_near(3000 * _PER_TOKEN / 2**20), "The cache is kept per KV head, of which there are 3, not 9."),
        ],
    ),
    "2.1.b": Exercise(
        right=lambda answer: answer == 14,
        hint='planning.plan(granite, cards["A100 40GB"], "FP16", 1, 8192) finds a plan; look at its fields.',
        near_misses=[
            (lambda answer: answer == 28, "That is for 4,096 tokens each; sales want twice as many."),
            (lambda answer: hasattr(answer, "sequences"), "This is the whole plan; which of its fields is asked for?"),
            (lambda answer: answer in (19, 22), "That is for quantised weights; the question is about FP16."),
            (
                lambda answer: answer in (15, 16, 17),
                "Too many: the server takes only part of the card's memory, and some of that is overhead.",
            ),
        ],
    ),
}
