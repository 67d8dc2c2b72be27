"""What a question names: households, products, categories, departments. No model takes part in this.

    read("How many eggs will we sell next week?", shop)

Whatever a typed question holds later was found here, in the shop's own tables. A text can ask for anything; it
cannot put a household into a typed question that it does not name by number, and never a second one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import pandas as pd

from workshop_lib.orchestration.router_plans import days, price, promotion
from workshop_lib.orchestration.router_words import (
    Language,
    Words,
    clean,
    language_of,
    plain,
    split,
    spots,
    stem,
    vocabulary,
    words,
)
from workshop_lib.orchestration.shop import Shop, UnknownThing
from workshop_lib.serving.api_schemas import Promotion
from workshop_lib.settings import settings

Chain = Literal["product", "customer", "market", "none"]

SHORT = 3
"""A text of no more words is a question about what it names, even when it says nothing else."""
_SLIP = 0.85
"""How alike a misspelt word must be."""
_LONG = 5
"""Letters from which on a word may be misspelt: short words are too like each other."""


@dataclass(frozen=True)
class Reading:
    """What a question names. Everything in it exists in the shop, except what stands in ``unknown``."""

    text: str
    """The question as it was read: cleaned, and cut where it speaks to the assistant about itself."""
    cut: bool
    """Whether something was cut off there."""
    language: Language
    words: Words
    cues: frozenset[str]
    """Kinds of words in it, by the names in ``vocabulary.yaml``."""
    households: tuple[int | str, ...] = ()
    products: tuple[int | str, ...] = ()
    categories: tuple[str, ...] = ()
    departments: tuple[str, ...] = ()
    unknown: UnknownThing | None = None
    """A household or a product that it names and that the shop does not have."""
    days: int | None = None
    beyond: bool = False
    """Whether it asks about days further ahead than the forecaster looks."""
    price: float | None = None
    """Planned price, dollars."""
    discount: float | None = None
    """Planned share of the price that is taken off, from 0 to 1."""
    promotion: Promotion | None = None
    numbers: tuple[str, ...] = ()
    """Bare numbers, which only mean something after another question."""

    @property
    def plans(self) -> bool:
        """Whether it names days, a price or a promotion."""
        return bool(self.days or self.beyond or self.price or self.discount or self.promotion)


@dataclass(frozen=True)
class Verdict:
    """Where the rules send a question."""

    chain: Chain
    because: str
    """What decided: a key of the sentences in ``replies``."""
    doubt: Chain | None = None
    """The other chain that it may be meant for; None when the rules are sure."""


def read(text: str, shop: Shop) -> Reading:
    """Find what a question names.

    Args:
        text: any text.
        shop: what there is.
    """
    whole = clean(text)
    asked, rest = split(whole)
    said = words(asked)
    cues = vocabulary()["cues"]
    households, no_household = _numbered(asked, "customer", "household_id", shop.find_household)
    products, no_product = _numbered(asked, "product_number", "product_id", shop.find_product)
    categories, departments = _things(said, shop)
    ahead, beyond = days(asked, shop.last_day.date())
    planned, off = price(asked)
    return Reading(
        text=asked,
        cut=bool(rest),
        language=language_of(asked or whole, default=settings.lang),
        words=said,
        cues=frozenset(kind for kind, phrases in cues.items() if spots(said, phrases)),
        households=households,
        products=products,
        categories=categories,
        departments=departments,
        unknown=no_household or no_product,
        days=ahead,
        beyond=beyond,
        price=planned,
        discount=off,
        promotion=promotion(asked),
        numbers=tuple(re.findall(r"(?<![\w.,])\d+(?![\w.,%]*\w| ?%)", asked)),
    )


def decide(reading: Reading) -> Verdict:
    """Where a question belongs as far as words tell."""
    cues = reading.cues
    if reading.households:
        return Verdict("customer", "household")
    if reading.unknown:
        return Verdict("none", "unknown")
    if "elsewhere" in cues:
        return Verdict("none", "elsewhere")
    short = len(reading.words) <= SHORT
    if reading.categories or reading.products:
        if "substitute" in cues and "same" not in cues:
            return Verdict("market", "substitute")
        if cues & {"market", "comparing"}:
            return Verdict("product", "category", doubt="market")
        if cues & {"product", "business"} or reading.plans or short:
            return Verdict("product", "category")
        return Verdict("none", "which question", doubt="product")
    trade = cues & {"business", "market"} or reading.departments
    if reading.departments or "market" in cues or (trade and "comparing" in cues):
        if cues & {"market", "comparing", "business"} or short:
            return Verdict("market", "department" if reading.departments else "shop")
        return Verdict("none", "which question", doubt="market")
    if "customer" in cues:
        return Verdict("none", "which household")
    if "product" in cues:
        return Verdict("none", "which category")
    if "business" in cues:
        # One word of trade is in many a sentence; two make it one about the shop.
        if len(spots(reading.words, vocabulary()["cues"]["business"])) > 1:
            return Verdict("market", "shop", doubt="none")
        return Verdict("none", "elsewhere", doubt="market")
    return Verdict("none", "greeting" if "greeting" in cues else "elsewhere")


def possible(reading: Reading) -> frozenset[Chain]:
    """The chains that a question gives what they need, whatever anybody takes it for."""
    cues = reading.cues
    if "elsewhere" in cues or reading.unknown:
        return frozenset({"none"})
    if reading.households:
        return frozenset({"customer", "none"})
    found: set[Chain] = {"none"}
    if reading.categories or reading.products:
        found.add("product")
    if reading.departments or cues & {"market", "comparing", "business", "substitute"}:
        found.add("market")
    return frozenset(found)


def near_categories(reading: Reading, shop: Shop, most: int = 3) -> list[str]:
    """Categories whose names come near a word of the question."""
    names = {" ".join(name): category for name, category in _names(tuple(shop.categories)).items()}
    asked = [word for word in reading.words if len(word) >= _LONG and (word,) not in _cues()]
    near = [names[one] for word in asked for one in difflib.get_close_matches(word, names, most, cutoff=0.75)]
    return list(dict.fromkeys(near))[:most]


@cache
def _cues() -> frozenset[Words]:
    return frozenset(phrase for phrases in vocabulary()["cues"].values() for phrase in phrases)


@cache
def _names(categories: tuple[str, ...]) -> dict[Words, str]:
    """What may stand for a category: its name, what people call it, and the parts of its name."""
    called, cues = vocabulary()["categories"], _cues()
    names: dict[Words, str] = {}
    for category in categories:
        for phrase in (words(category), *called.get(category, ())):
            names.setdefault(phrase, category)
    for category in categories:  # not before all whole names: ROLLS is a category, and a part of another one's name
        for part in re.split(r"[/&,:-]", category):
            phrase = words(part)
            if len(" ".join(phrase)) >= _LONG and phrase not in cues:
                names.setdefault(phrase, category)
    return names


def _things(said: Words, shop: Shop) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Categories and departments in the order in which a text names them; of two overlapping names the longer one."""
    called = vocabulary()["departments"]
    departments = {phrase: name for name in shop.departments for phrase in (words(name), *called.get(name, ()))}
    names = _names(tuple(shop.categories)) | departments
    taken: set[int] = set()
    hits: list[tuple[int, str, bool]] = []
    for start, end in sorted(spots(said, names), key=lambda spot: (spot[0] - spot[1], spot[0])):
        if taken.isdisjoint(range(start, end)):
            taken.update(range(start, end))
            phrase = said[start:end]
            hits.append((start, names[phrase], phrase in departments))
    hits.sort()
    categories = [name for _, name, is_department in hits if not is_department]
    return _once(categories), _once([name for _, name, is_department in hits if is_department])


def _numbered(
    text: str, cue: str, column: str, find: Callable[[str], pd.Series]
) -> tuple[tuple[Any, ...], UnknownThing | None]:
    """What a text names by a word such as "household" and a number, and the first that the shop does not have."""
    cues = vocabulary()["cues"]
    names = [" ".join(phrase) for phrase in cues[cue]]
    # The pieces keep their form: a shop's own numbers may look like H-0012.
    pieces = re.findall(r"[^\W_]+(?:[-_][^\W_]+)*", text)
    known, missing = [], None
    for place, piece in enumerate(pieces):
        before = [stem(plain(word)) for word in pieces[max(0, place - 2) : place]]
        if before and (before[-1],) in cues["number_sign"]:
            before.pop()
        if any(map(str.isdigit, piece)) and before and _is(before[-1], names):
            try:
                found = find(piece)[column]
                known.append(found.item() if hasattr(found, "item") else found)
            except UnknownThing as error:
                missing = missing or error
    return _once(known), missing


def _is(word: str, names: Sequence[str]) -> bool:
    """Whether a word is one of these, or one of the longer ones with a slip of the finger."""
    longer = [name for name in names if len(name) >= _LONG]
    return word in names or bool(difflib.get_close_matches(word, longer, 1, _SLIP))


def _once(found: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(found))
