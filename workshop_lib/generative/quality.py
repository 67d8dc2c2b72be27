"""The quality of a text about given facts, measured by rules that can be read and argued about.

No rule here understands the text. They count what can be counted: which facts are mentioned, which numbers and
claims nobody gave, length, repetition, sentences, difficulty. A text that passes may still be wrong or dull, so a
person reads it before it is published; a text that fails need not be read at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from workshop_lib.generative.claims import CLAIMS, FUNCTION_WORDS

FORM_WEIGHTS = {"prose": 0.4, "length": 0.2, "variety": 0.2, "readability": 0.2}
"""How much each part of the form counts; they add up to 1. The formula of the score is at :attr:`Quality.score`."""

LENGTH = (15, 60)
"""Fewest and most words of a product description that count as the right length."""

MENTIONED = 0.6
"""Share of a fact's words that a text needs for the fact to count as mentioned."""

INVENTION_COSTS = 2
"""A wrong statement weighs as much as so many right ones: a wrong price costs more than a missing one."""

ENOUGH_FUNCTION_WORDS = 0.2
"""English prose has 40% or more of words such as "the", "of", "is"; a list of keywords has hardly any."""

EASY_GRADE, HARD_GRADE = 10, 20
"""School years (automated readability index): full marks up to the first, none from the second on."""

Facts = Mapping[str, str] | Sequence[str]

# Each spelling of a unit, and the unit and factor it stands for. Mass and volume share "ounce" in the catalogue.
_UNITS = {
    spelling: (unit, factor)
    for unit, factor, spellings in (
        ("ounce", 1, "oz ounce ounces"), ("ounce", 16, "lb lbs pound pounds"), ("gram", 1, "g gram grams"),
        ("gram", 1000, "kg kilogram kilograms"), ("gallon", 1, "gal gallon gallons"), ("quart", 1, "qt quart quarts"),
        ("pint", 1, "pt pint pints"), ("liter", 1, "l liter liters litre litres"),
        ("liter", 0.001, "ml milliliter milliliters millilitre millilitres"),
        ("piece", 1, "ct count pc pcs piece pieces unit units"), ("piece", 12, "dozen dozens"),
        ("foot", 1, "ft foot feet"), ("square foot", 1, "sqfoot"), ("inch", 1, "inch inches"),
        ("yard", 1, "yd yard yards"), ("pack", 1, "pack packs pk packet packets"), ("load", 1, "load loads"),
        ("roll", 1, "roll rolls"), ("dollar", 1, "$ dollar dollars usd"), ("dollar", 0.01, "cent cents ¢"),
        ("percent", 1, "% percent"),
    )
    for spelling in spellings.split()
}  # fmt: skip
_NUMBER_WORDS = {
    "half": 0.5, "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12,
}  # fmt: skip
_NUMBER = re.compile(
    r"(?P<currency>\$)?\s?(?P<digits>\d[\d,]*(?:\.\d+)?|\.\d+)[\s-]*(?P<unit>[a-z]+|%|¢)?", re.IGNORECASE
)
# "A pound" and "one dozen" are amounts, "a choice" and "one of them" are not; "three meals" is one without a unit.
_WORDED = re.compile(
    rf"\b(?:(?P<word>{'|'.join(_NUMBER_WORDS)})[\s-]+(?:a[\s-]+)?(?P<unit>{'|'.join(u for u in _UNITS if u.isalpha())})"
    rf"|(?P<bare>{'|'.join(word for word, value in _NUMBER_WORDS.items() if value > 1)}))\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[a-z]+(?:['’][a-z]+)?", re.IGNORECASE)

Amount = tuple[float, str | None]
"""A value in its base unit, and that unit; ``None`` when no known unit follows."""


@dataclass(frozen=True)
class Quality:
    """What was measured on one text; every part lies between 0 (bad) and 1 (good)."""

    facts: float
    """Share of the given facts that are mentioned."""
    truth: float
    """Mentioned facts over mentioned facts and inventions, an invention weighing :data:`INVENTION_COSTS`."""
    prose: float
    """Whether it consists of sentences: enough function words, and the last sentence has an end."""
    length: float
    """1 within the wanted number of words, less in proportion outside."""
    variety: float
    """1 minus the share of three-word sequences that occurred before."""
    readability: float
    """1 for a text that ten school years suffice for, 0 from twenty on."""
    missing: tuple[str, ...]
    """The facts that are not mentioned."""
    invented_numbers: tuple[str, ...]
    invented_claims: tuple[str, ...]
    words: int
    """Words and numbers."""

    @property
    def content(self) -> float:
        """What it says: the harmonic mean of ``facts`` and ``truth``, as F1 is that of recall and precision."""
        both = self.facts + self.truth
        return 2 * self.facts * self.truth / both if both else 0.0

    @property
    def form(self) -> float:
        """How it says it: prose, length, variety and readability times :data:`FORM_WEIGHTS`, added up."""
        return sum(weight * getattr(self, part) for part, weight in FORM_WEIGHTS.items())

    @property
    def score(self) -> float:
        """Content times form: a fine text that says nothing is worth nothing, nor are facts without a sentence."""
        return self.content * self.form

    @property
    def inventions(self) -> int:
        """Numbers and claims that nobody gave."""
        return len(self.invented_numbers) + len(self.invented_claims)

    def summary(self) -> dict[str, float]:
        """Score, parts, inventions and words, as a row for a table."""
        parts = {part: getattr(self, part) for part in ("facts", "truth", *FORM_WEIGHTS)}
        return {"score": self.score, **parts, "inventions": self.inventions, "words": self.words}


def measure(text: str, facts: Facts, length: tuple[int, int] = LENGTH) -> Quality:
    """Measure a text against the facts that its writer was given.

    Args:
        text: plain text in English.
        facts: values of a mapping of labels, or a list of them: ``{"size": "7 ounces"}`` or ``["7 ounces"]``.
        length: fewest and most words that count as the right length.

    Raises:
        ValueError: without facts, or with a range of lengths that is none.
    """
    values = list(facts.values()) if isinstance(facts, Mapping) else [facts] if isinstance(facts, str) else list(facts)
    if not values:
        raise ValueError("A text is measured against facts: give at least one.")
    if not 0 < length[0] <= length[1]:
        raise ValueError(f"The shortest length comes first, from one word up: {length} is not usable.")
    text = _without_list_numbers(text)
    words = _WORD.findall(text.lower())
    count = len(re.findall(r"\S*\w\S*", text))
    missing = tuple(value for value in values if not mentions(text, value))
    numbers, claims = invented_numbers(text, values), invented_claims(text, values)
    supported, inventions = len(values) - len(missing), len(numbers) + len(claims)
    stated = supported + INVENTION_COSTS * inventions
    return Quality(
        facts=supported / len(values),
        truth=supported / stated if stated else 0.0,
        prose=_prose(text, words),
        length=_fit(count, *length),
        variety=1 - repeated_share(text) if words else 0.0,
        readability=_readability(text),
        missing=missing,
        invented_numbers=numbers,
        invented_claims=claims,
        words=count,
    )


def mentions(text: str, fact: str) -> bool:
    """Whether a text mentions a fact.

    Every number of the fact must occur with its unit ("10.5 oz" for "10.5 ounces", "one pound" for "16 ounces"),
    and :data:`MENTIONED` of its other words must, by their stems ("olive" for "olives"). Facts without either
    must occur as they are.
    """
    amounts, wanted = _amounts(fact), _stems(_without_amounts(fact))
    if not amounts and not wanted:
        return fact.strip().lower() in text.lower()
    said = _amounts(text)
    if not all(any(_same(amount, other) for _, other in said) for _, amount in amounts):
        return False
    return not wanted or len(wanted & _stems(text)) >= MENTIONED * len(wanted)


def invented_numbers(text: str, facts: Sequence[str]) -> tuple[str, ...]:
    """Different numbers of the text, with their units, that no fact contains.

    Numbers of a numbered list do not count, nor do single things ("a pack"). Units are converted between ounces
    and pounds, pieces and dozens, cents and dollars, not between ounces and grams.
    """
    given = [amount for fact in facts for _, amount in _amounts(fact)]
    invented = {
        (value, unit): written
        for written, (value, unit) in _amounts(_without_list_numbers(text))
        if not re.match(r"(?:a|an|one)\b", written, re.IGNORECASE)
        and not any(_close(value, other) and (unit is None or unit == known) for other, known in given)
    }
    return tuple(invented.values())


def invented_claims(text: str, facts: Sequence[str]) -> tuple[str, ...]:
    """Claims of the lexicon, and placeholders such as ``[Brand]``, that stand in the text and in no fact.

    The lexicon (:data:`~workshop_lib.generative.claims.CLAIMS`) knows common claims about diet, kind, origin, awards,
    ingredients and offers. It misses every other one ("made by monks") and also counts harmless uses ("serve with
    cheese"), so it is a lower bound on the one hand and a strict reader on the other.
    """
    given = " ".join(facts).lower()
    found = dict.fromkeys(match[0].lower() for match in _claims().finditer(text))
    unsupported = [claim for claim in found if claim not in given and not (set() < _stems(claim) <= _stems(given))]
    return tuple(unsupported + re.findall(r"\[[^\]\n]*\]|\{[^}\n]*\}", text))


def repeated_share(text: str) -> float:
    """Share of the text's three-word sequences that occurred before in it; 0 for fewer than four words."""
    words = re.findall(r"[\w.$%'’]+", text.lower())
    grams = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(grams)) / len(grams) if len(grams) > 1 else 0.0


@cache
def _claims() -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(CLAIMS)})\b", re.IGNORECASE)


def _amounts(text: str) -> list[tuple[str, Amount]]:
    """Every number of a text as written, and as a value in a base unit."""
    text = re.sub(r"\b(?:fluid|fl\.?)[\s-]+(?=oz|ounce)", "", _with_short_units(text), flags=re.IGNORECASE)
    found = []
    for match in _NUMBER.finditer(text):
        unit = "$" if match["currency"] else (match["unit"] or "")
        written = match[0] if _is_unit(match["unit"]) else f"{match['currency'] or ''}{match['digits']}"
        found.append((match.start(), written, float(match["digits"].replace(",", "")), unit))
    for match in _WORDED.finditer(text):
        word, unit = match["word"] or match["bare"], match["unit"] or ""
        found.append((match.start(), match[0], _NUMBER_WORDS[word.lower()], unit))
    amounts = []
    for _, written, value, spelling in sorted(found):
        unit, factor = _UNITS.get(spelling.lower(), (None, 1))
        amounts.append((written.replace("sqfoot", "square feet").strip(" ,"), (value * factor, unit)))
    return amounts


def _with_short_units(text: str) -> str:
    """Units of two words as one."""
    return re.sub(r"\b(?:square|sq\.?)[\s-]+(?:feet|foot|ft)\b", "sqfoot", text, flags=re.IGNORECASE)


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-6 * max(1.0, abs(one))


def _same(fact: Amount, said: Amount) -> bool:
    """Whether a number of the text says what a fact's number says; pieces need no word for their unit."""
    return _close(fact[0], said[0]) and (fact[1] == said[1] or (said[1] is None and fact[1] in (None, "piece")))


@cache
def _stemmer() -> Any:
    from nltk.stem import SnowballStemmer  # SciPy and scikit-learn come with it: seconds at the start of a server

    return SnowballStemmer("english")


@cache
def _stem(word: str) -> str:
    return str(_stemmer().stem(word))


def _stems(text: str) -> set[str]:
    words = {word.removesuffix("'s").removesuffix("’s") for word in _WORD.findall(text.lower())}
    return {_stem(word) for word in words - FUNCTION_WORDS}


def _without_amounts(text: str) -> str:
    worded = _WORDED.sub(" ", _with_short_units(text))
    return _NUMBER.sub(lambda match: " " if _is_unit(match["unit"]) else f" {match['unit'] or ''} ", worded)


def _is_unit(word: str | None) -> bool:
    return word is not None and word.lower() in _UNITS


def _without_list_numbers(text: str) -> str:
    return re.sub(r"^\s*\d{1,2}[.)]\s+", "", text, flags=re.MULTILINE)


def _prose(text: str, words: list[str]) -> float:
    if not words:
        return 0.0
    share = sum(word in FUNCTION_WORDS for word in words) / len(words)
    ended = re.search(r"[.!?][\"'”’)]*\s*$", text) is not None
    return min(1.0, share / ENOUGH_FUNCTION_WORDS) * (1.0 if ended else 0.5)


def _fit(words: int, shortest: int, longest: int) -> float:
    if words < shortest:
        return words / shortest
    return 1.0 if words <= longest else longest / words


def _readability(text: str) -> float:
    """From the automated readability index, which needs letters, words and sentences but no dictionary."""
    if not _WORD.search(text):
        return 0.0
    from textstat import textstat  # as with the stemmer, NLTK comes with it

    grade = float(textstat.automated_readability_index(text))
    return min(1.0, max(0.0, (HARD_GRADE - grade) / (HARD_GRADE - EASY_GRADE)))
