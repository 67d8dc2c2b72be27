"""Exercises of notebook 02."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workshop_lib.exercises import Exercise

_WIDTH = 32


def _tensor(body: dict[str, Any]) -> dict[str, Any]:
    return body["inputs"][0]


def _is_request(body: dict[str, Any]) -> bool:
    tensor = _tensor(body)
    return (
        len(body["inputs"]) == 1
        and (tensor["name"], tensor["datatype"], list(tensor["shape"])) == ("features", "FP32", [2, _WIDTH])
        and _numbers(tensor["data"]) == 2 * _WIDTH
    )


def _numbers(data: Any) -> int:
    """How many numbers a list holds, flat or nested."""
    return sum(_numbers(part) if isinstance(part, list) else 1 for part in data)


def _puts_in_order(to_row: Callable[[dict[str, float], list[str]], list[float]]) -> bool:
    return list(to_row({"b": 2.0, "a": 1.0, "c": 3.0}, ["c", "a", "b"])) == [3.0, 1.0, 2.0]


def _notices_a_gap(to_row: Callable[[dict[str, float], list[str]], list[float]]) -> bool:
    try:
        to_row({"a": 1.0}, ["a", "b"])
    except (KeyError, ValueError):
        return True
    return False


EXERCISES = {
    "3.2.a": Exercise(
        right=_is_request,
        hint="One tensor with four entries: its name, its datatype, its shape and its numbers, row after row.",
        near_misses=[
            (lambda body: "inputs" not in body, "The protocol wants the tensors in a list under the key inputs."),
            (lambda body: list(_tensor(body)["shape"]) == [_WIDTH, 2], "Rows come first in the shape, then features."),
            (lambda body: _tensor(body)["datatype"] != "FP32", "The metadata names the datatype, in capital letters."),
        ],
    ),
    "3.2.b": Exercise(
        right=lambda size: size == 1000 * _WIDTH * 4,
        hint="Rows times features times the bytes of one number. FP32 tells how many bits a number has.",
        near_misses=[
            (lambda size: size == 1000 * _WIDTH * 8, "These would be numbers of 64 bits, FP64."),
            (lambda size: size == 1000 * _WIDTH * 32, "32 bits are four bytes."),
            (lambda size: size == 1000 * 4, "A row has as many numbers as the model has features."),
        ],
    ),
    "3.2.c": Exercise(
        right=lambda to_row: _puts_in_order(to_row) and _notices_a_gap(to_row),
        hint="Walk through the feature names in the model's order and look each one up.",
        near_misses=[
            (
                lambda to_row: _puts_in_order(to_row) and not _notices_a_gap(to_row),
                "The order is right. Now a feature that is missing has to be an error, not a guess.",
            ),
            (
                lambda to_row: list(to_row({"b": 2.0, "a": 1.0}, ["a", "b"])) == [2.0, 1.0],
                "This keeps the order in which the values came; the model wants its own.",
            ),
        ],
    ),
}
