"""Whether every number of an answer's texts is one of the answer's own figures.

The language model's texts were checked before (:mod:`workshop_lib.orchestration.wording_check`). This looks again, in
another way and at fixed wordings too: at what reaches the reader, whoever wrote it. An answer has many figures, so a
small number is easily found among them: this catches large inventions, and is no proof of the small ones.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel

_NUMBER = re.compile(r"(?<![\w.,])\d(?:[\d.,]*\d)?")
_ENGLISH = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d+))?")
_SPANISH = re.compile(r"(?:\d{1,3}(?:\.\d{3})+|\d+)(?:,(\d+))?")
_TEXTS = ("text", "reason", "message")
"""Fields that are read as texts."""
_ABOUT = ("why", "rejected", "tokens", "age_seconds")
"""Fields that tell how an answer came about; a number there is no figure of the shop."""


def unstated_numbers(answer: Any, derived: Iterable[float] = ()) -> tuple[str, ...]:
    """Numbers of the texts that are none of the answer's figures, as they stand in the texts.

    A figure counts when it has the number's decimals after rounding, also as a percentage (0.12 for "12%").

    Args:
        answer: a result of a chain.
        derived: further figures, such as a change that follows from two others.
    """
    texts, figures = list[str](), [float(value) for value in derived]
    for field, value in _leaves(answer):
        if field in _ABOUT or value is None or isinstance(value, bool):
            continue
        if isinstance(value, str) and field in _TEXTS:
            texts.append(value)
        elif isinstance(value, str):
            figures += [read for number in _NUMBER.findall(value) for read, _ in _readings(number)]
        elif isinstance(value, dt.date):
            figures += [value.year, value.month, value.day]
        elif isinstance(value, int | float) and math.isfinite(value):
            figures.append(float(value))
    numbers = dict.fromkeys(number for text in texts for number in _NUMBER.findall(text))
    return tuple(number for number in numbers if not any(_states(number, figure) for figure in figures))


def _leaves(value: Any, field: str = "") -> Iterator[tuple[str, Any]]:
    """Names of fields and what stands in them; the length of a list is a figure as well."""
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, dict):
        for name, inner in value.items():
            yield "", name
            yield from _leaves(inner, str(name))
    elif isinstance(value, list | tuple | set | frozenset):
        yield "", len(value)
        for inner in value:
            yield from _leaves(inner, field)
    else:
        yield field, value


def _readings(number: str) -> Iterator[tuple[float, int]]:
    """Value and decimals: 20.844 is twenty and a bit in English, and twenty thousand in Spanish."""
    if read := _ENGLISH.fullmatch(number):
        yield float(number.replace(",", "")), len(read[1] or "")
    if read := _SPANISH.fullmatch(number):
        yield float(number.replace(".", "").replace(",", ".")), len(read[1] or "")


def _states(number: str, figure: float) -> bool:
    return any(
        abs(abs(shown) - value) <= 0.5001 * 10**-decimals  # a half may be rounded either way
        for value, decimals in _readings(number)
        for shown in (figure, 100 * figure)
    )
