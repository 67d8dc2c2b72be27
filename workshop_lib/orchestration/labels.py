"""The words of the dashboard, in English and Spanish, from one catalogue.

    say = Labels("es")
    say("forecast.title"), say.number(1234.5, 1), say.day(date)

``labels.yaml`` holds both languages of a label beside each other, so that nobody changes one and forgets the other.
The texts of the chains write their figures with it too, so that a page has one form of a number.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import string
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

Language = Literal["en", "es"]
LANGUAGES: tuple[Language, ...] = ("en", "es")
CATALOGUE = Path(__file__).with_name("labels.yaml")
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_SWAPPED = str.maketrans(",.", ".,")
"""The signs for thousands and decimals of one language as those of the other."""
_ENGLISH_FIGURE = re.compile(r"(?P<sign>\$)?(?<![\w.,])(?P<number>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d{1,2})?)(?![.,]?\d)")


class LabelError(ValueError):
    """The catalogue cannot be used; the message names the label."""


class Labels:
    """All labels in one language.

    Args:
        language: one of :data:`LANGUAGES`.
    """

    def __init__(self, language: Language) -> None:
        if language not in LANGUAGES:
            raise LabelError(f"There are no labels in {language!r}, only in {', '.join(LANGUAGES)}.")
        self.language = language
        self._texts = {key: both[language] for key, both in catalogue().items()}

    def __call__(self, key: str, **values: object) -> str:
        """A label as plain text, its gaps filled. Whoever puts it into HTML escapes it there.

        Raises:
            LabelError: for an unknown label, or a gap that no value is given for.
        """
        if key not in self._texts:
            raise LabelError(f"The catalogue has no label {key!r}.")
        try:
            return self._texts[key].format(**values)
        except KeyError as error:
            raise LabelError(f"The label {key!r} has a gap {error} that was not filled.") from None

    def __contains__(self, key: str) -> bool:
        return key in self._texts

    def number(self, value: float, digits: int = 0) -> str:
        """A number with the language's signs for thousands and decimals."""
        if not math.isfinite(value):
            return self("unit.none")
        text = f"{value:,.{digits}f}"
        text = text.removeprefix("-") if float(text.replace(",", "")) == 0 else text
        return text.translate(_SWAPPED) if self.language == "es" else text

    def percent(self, share: float, digits: int = 0) -> str:
        """A share, where 1 is the whole, as a percentage."""
        return f"{self.number(100 * share, digits)}{' %' if self.language == 'es' else '%'}"

    def signed(self, value: float, digits: int = 0) -> str:
        """A difference with its sign."""
        text = self.number(value, digits)
        return text if text.startswith("-") or not text.strip("0.,") else f"+{text}"

    def change(self, share: float) -> str:
        """A relative change with its sign, as a percentage."""
        return f"{self.signed(100 * share)}{' %' if self.language == 'es' else '%'}"

    def dollars(self, value: float) -> str:
        """An amount of money."""
        if self.language == "es":
            return f"{self.number(value, 2)} $"
        return f"-${self.number(-value, 2)}" if round(value, 2) < 0 else f"${self.number(value, 2)}"

    def rewritten(self, fact: str) -> str:
        """A fact whose figures are written in English, such as ``$1.99``, with the language's signs.

        What may be a figure in Spanish already, such as ``1,99`` or ``1.000``, stays as it is.
        """

        def swapped(figure: re.Match[str]) -> str:
            return figure["number"].translate(_SWAPPED) + (" $" if figure["sign"] else "")

        return _ENGLISH_FIGURE.sub(swapped, fact) if self.language == "es" else fact

    def day(self, day: dt.date, weekday: bool = True) -> str:
        """A day such as ``Mon 1 Jan``."""
        month = self("calendar.months").split()[day.month - 1]
        name = self("calendar.weekdays").split()[day.weekday()]
        return f"{name} {day.day} {month}" if weekday else f"{day.day} {month}"

    def date(self, day: dt.date) -> str:
        """A day with its year."""
        return f"{self.day(day, weekday=False)} {day.year}"

    def age(self, seconds: float) -> str:
        """A span of time in its largest whole unit."""
        for unit, size in (("days", _DAY), ("hours", _HOUR), ("minutes", _MINUTE)):
            if seconds >= size:
                count = int(seconds // size)
                return self(f"unit.{unit}" if count > 1 else f"unit.{unit.removesuffix('s')}", count=count)
        whole = round(seconds)
        return self("unit.second" if whole == 1 else "unit.seconds", count=whole)


@cache
def catalogue() -> dict[str, dict[str, str]]:
    """Every label: key and its text per language.

    Raises:
        LabelError: for a label that lacks a language, is empty, or has other gaps in one language than in another.
    """
    found: dict[str, dict[str, str]] = {}
    _collect("", yaml.safe_load(CATALOGUE.read_text(encoding="utf-8")), found)
    return found


def gaps(text: str) -> set[str]:
    """Names of the values that a label wants."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def _collect(prefix: str, branch: dict[str, Any], found: dict[str, dict[str, str]]) -> None:
    for name, value in branch.items():
        key = f"{prefix}{name}"
        if not isinstance(value, dict):
            raise LabelError(f"{CATALOGUE.name}: {key} is a text without a language.")
        if not set(value) & set(LANGUAGES):
            _collect(f"{key}.", value, found)
            continue
        if set(value) != set(LANGUAGES) or not all(isinstance(text, str) and text.strip() for text in value.values()):
            raise LabelError(f"{CATALOGUE.name}: {key} needs a text in each of {', '.join(LANGUAGES)}.")
        if len({frozenset(gaps(text)) for text in value.values()}) > 1:
            raise LabelError(f"{CATALOGUE.name}: {key} has other gaps in one language than in the other.")
        found[key] = value
