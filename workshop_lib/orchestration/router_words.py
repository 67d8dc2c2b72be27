"""Texts of people, cleaned, cut and compared: what the router does before it looks for anything in a question."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

Language = Literal["en", "es"]
Words = tuple[str, ...]

LONGEST = 500
"""Characters of a question that are read."""
_FILE = Path(__file__).with_name("vocabulary.yaml")
_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:-[^\W\d_]+)*|[%$€#]")

# From here on a text speaks to the assistant about itself instead of asking about the shop. The rest is not read.
# This spares people odd answers; it is not what protects the data (see router_rules).
_TURNS_ON_US = re.compile(
    r"<\|"
    r"|\[/?(?:inst|sys|system)\]|<</?sys>>|</?(?:system|assistant|user)>"
    r"|^\W*(?:system|assistant|sistema|asistente|user|usuario)\s*:"
    r"|\{\s*[\"'\w]+\s*:|```|https?://|!?\[[^\]]*\]\("
    r"|\b(?:ignore[ns]?|ignora|disregard|forget|override|bypass|olvid[ae]|desobedece|omite)\b[^.?!]{0,40}"
    r"\b(?:rule|instruction|prompt|above|previous|before|guard|polic|everything|regla|instruccion|anterior|previa|todo)"
    r"|\b(?:system|hidden|developer) (?:prompt|message|mode)|\b(?:mensaje|prompt|indicaciones) (?:de|del) sistema"
    r"|\byou (?:are|'re) (?:now|no longer)\b|\bahora (?:eres|obedeces)\b|\bpretend (?:to|you)|\bact as\b|\bactua como\b"
    r"|\bi am (?:the|your|an?) (?:manager|admin|developer|owner|boss|director|auditor)"
    r"|\bsoy (?:el|la|tu|una?) (?:director|gerente|jef[ae]|admin|duen[ao]|auditor|desarrollador)"
    r"|\b(?:answer|reply|respond) (?:only )?with\b|\b(?:responde|contesta) (?:solo|unicamente) con\b"
    r"|\b(?:dump|vuelca|exfiltrate|decode|base64|d?escodifica|decodifica)\b"
    r"|\b(?:drop table|union select|select \* from)\b"
    r"|[a-z0-9+/]{40,}={0,2}",
    re.IGNORECASE | re.MULTILINE,
)


def clean(text: str) -> str:
    """A text without invisible characters, in one form of each letter, at most :data:`LONGEST` characters."""
    text = unicodedata.normalize("NFKC", text[: 4 * LONGEST])
    text = "".join(one for one in text if one in "\n\r\t" or unicodedata.category(one)[0] != "C")
    return re.sub(r"[^\S\n]+", " ", text).strip()[:LONGEST]


def plain(text: str) -> str:
    """A text without capitals and accents; each letter stays one letter."""
    return "".join((unicodedata.normalize("NFD", one.casefold()) or one)[0] for one in text)


def words(text: str) -> Words:
    """The words and numbers of a text as they are compared: plain, without a final s."""
    return tuple(stem(word) for word in _WORD.findall(plain(text)))


def stem(word: str) -> str:
    """A word without a final s."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def split(text: str) -> tuple[str, str]:
    """What a text asks, and from where on it speaks to the assistant about itself or leaves the Latin letters."""
    foreign = (
        place for place, one in enumerate(text) if one.isalpha() and not unicodedata.name(one, "").startswith("LATIN")
    )
    turn = _TURNS_ON_US.search(plain(text))
    end = min([*([turn.start()] if turn else ()), next(foreign, len(text))])
    return text[:end].strip(), text[end:]


def language_of(text: str, default: Language = "en") -> Language:
    """English or Spanish, by letters and small words; ``default`` where nothing tells."""
    said = words(text)
    small = vocabulary()["languages"]
    spanish = 2 * len(re.findall("[ñ¿¡áéíóú]", text.casefold())) + sum((word,) in small["es"] for word in said)
    english = sum((word,) in small["en"] for word in said)
    return default if spanish == english else "es" if spanish > english else "en"


@cache
def vocabulary() -> dict[str, dict[str, tuple[Words, ...]]]:
    """What ``vocabulary.yaml`` holds: group, name, phrases as words."""
    raw: dict[str, dict[str, list[Any]]] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return {
        group: {name: tuple(words(str(phrase)) for phrase in phrases) for name, phrases in entries.items()}
        for group, entries in raw.items()
    }


def spots(said: Sequence[str], phrases: Iterable[Words]) -> list[tuple[int, int]]:
    """Where phrases stand in a text: the place of the first word and the one after the last."""
    wanted = set(phrases)
    longest = max(map(len, wanted), default=0)
    return [
        (start, start + length)
        for start in range(len(said))
        for length in range(1, longest + 1)
        if tuple(said[start : start + length]) in wanted
    ]
