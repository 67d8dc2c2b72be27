"""What a product page may say: facts of real products, in words that a person reads.

The catalogue writes ``FRZN BREADED PREPARED CHICK`` and ``1.25 LB``. The rules here turn that into "frozen breaded
prepared chicken" and "1.25 pounds": they write out abbreviations and add nothing. What the catalogue does not say,
such as a taste or an ingredient, is not a fact.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from workshop_lib import data
from workshop_lib.settings import settings

# Written out by hand after reading the catalogue; a word that is not here stays as it is.
ABBREVIATIONS = {
    "bg": "bags", "bkd": "baked", "bn": "beans", "brd": "breaded", "brkfst": "breakfast", "btr": "butter",
    "chick": "chicken", "choc": "chocolate", "cig": "cigarette", "ckys": "cookies", "cleang": "cleaning",
    "cnc": "concentrated", "cndy": "candy", "cntrl": "control", "conc": "concentrate", "crkr": "crackers",
    "crystl": "crystal", "deod": "deodorant", "dnr": "dinner", "dnrs": "dinners", "drnk": "drink",
    "drnking": "drinking", "drnks": "drinks", "drsng": "dressing", "dsh": "dish", "fd": "food", "fem": "feminine",
    "flvr": "flavor", "flvrd": "flavored", "frz": "frozen", "frzn": "frozen", "hygn": "hygiene", "jce": "juice",
    "misc": "miscellaneous", "mlk": "milk", "mneral": "mineral", "mx": "mix", "mxs": "mixes",
    "non-cbrntd": "non-carbonated", "non-crbnted": "non-carbonated", "oj": "orange juice", "pickld": "pickled",
    "pkgd": "packaged", "pkld": "pickled", "pnt": "peanut", "pwdr": "powder", "refrgratd": "refrigerated",
    "sald": "salad", "sherbts": "sherbets", "sndwch": "sandwich", "snks": "snacks", "sprd": "spread",
    "sweetners": "sweeteners", "tiss": "tissues", "tort": "tortilla", "trsh": "trash", "veg": "vegetable",
    "whl": "whole", "whlsm": "wholesome", "wtr": "water", "x-large": "extra large",
}  # fmt: skip

UNITS = {
    "oz": "ounces", "lb": "pounds", "ct": "pieces", "ga": "gallons", "gal": "gallons", "qt": "quarts",
    "pt": "pints", "ml": "milliliters", "ltr": "liters", "l": "liters", "g": "grams", "kg": "kilograms",
    "dz": "dozen", "sq ft": "square feet", "ft": "feet", "in": "inches", "yd": "yards", "pk": "packs",
    "pc": "pieces", "load": "loads", "roll": "rolls",
}  # fmt: skip
_ONE = {"square feet": "square foot", "feet": "foot", "inches": "inch", "dozen": "dozen"}

BRANDS = {"private": "store brand", "national": "national brand"}

CASE_SIZES = ("PRODUCE", "FLORAL", "PASTRY", "DELI", "SALAD BAR", "MEAT", "SEAFOOD")
"""Departments whose package size is the case that the shop receives (40 pounds of bananas), not what is sold."""

NO_AUTOMATIC_TEXT = re.compile(
    r"CIG|TOBACCO|SMOKING|BEER|WINE|LIQUOR|SPIRITS|INFANT FORMULA|BABY ?FOOD|VITAMIN|ANALGESIC|ANTACID|LAXATIVE"
    r"|COLD AND FLU|SINUS|FIRST AID|EYE AND EAR|DIET|MEDIC|PHARMACY|FIREWORKS|PROPANE|INSECTICIDE|BLEACH"
)
"""Categories for which the law limits what an advertisement may say, or a wrong word does harm."""

# Words that sort the shelves and say nothing about the product.
_SORTING = re.compile(r"\b(?:all|economy|fs|mainstream|misc|miscellaneous|not multi-packs|only|other)\b")
# A type of these words alone ("PREMIUM - MEAT", "STICKS/ENROBED") does not say what the product is.
_VAGUE = frozenset(
    {
        "and", "basic", "bits", "boneless", "breast", "cooked", "enrobed", "entrees", "heat", "internal",
        "links", "meat", "morsels", "multi", "or", "pack", "plain", "pork", "premium", "primal", "products",
        "raw", "red", "regular", "rolls", "serve", "smoked", "sticks", "traditional", "white",
    }
)  # fmt: skip
_CUT_OFF = 28  # the catalogue cuts product types at about 30 characters: "FACIAL TISSUE & PAPER HANDKE"


@dataclass(frozen=True)
class ProductFacts:
    """One product and what is known about it."""

    product_id: object
    category: str
    """As the catalogue names it."""
    facts: Mapping[str, str]
    """Label and value, such as ``{"product": "green olives", "size": "7 ounces"}``."""


def readable(text: str) -> str:
    """A catalogue text with its abbreviations written out, in lower case.

    ``A/B`` becomes "A or B", ``A - B`` and ``A:B`` become "A, B", ``&`` becomes "and", ``W/`` becomes "with".
    A bracket, what a cut-off left of one, and words that only sort the shelves ("all", "misc") are dropped.
    """
    text = _SORTING.sub(" ", re.sub(r"\([^)]*\)?", " ", text.lower()))
    text = re.sub(r"\bw/\s*", " with ", text).replace("&", " and ")
    text = re.sub(r"\s*/\s*", " or ", text)
    text = re.sub(r"\s+-\s+|\s*:\s*", ", ", text)
    words = [re.sub(r"^[\w-]+", lambda match: ABBREVIATIONS.get(match[0], match[0]), word) for word in text.split()]
    text = re.sub(r"\s+,", ",", " ".join(words)).strip(" ,.")
    return re.sub(r"^(?:or|and) | (?:or|and)$|(?<=, )(?:or|and) ", "", text)


def readable_size(text: str) -> str | None:
    """A package size such as ``.5 OZ`` as "0.5 ounces"; ``None`` for one that is not a number and a known unit."""
    found = re.fullmatch(r"\s*(\d*\.?\d+)\s*([A-Za-z ]+?)\s*", text)
    unit = UNITS.get(found[2].lower()) if found else None
    if not found or not unit or float(found[1]) <= 0:
        return None
    amount = float(found[1])
    if amount == 1:
        unit = _ONE.get(unit, unit.removesuffix("s"))
    return f"{amount:g} {unit}"


def describe(row: Mapping[str, object]) -> dict[str, str]:
    """The facts of one row of the products table.

    Args:
        row: its columns; ``product_type``, ``brand``, ``package_size`` and ``price`` may be missing or empty.

    Returns:
        ``product`` always; ``brand``, ``size`` and ``price`` where the row has them. The price is what customers
        paid per unit on average over the year, in dollars.
    """
    type_ = _text(row, "product_type")
    facts = {"product": readable(type_ or str(row["category"]))}
    if brand := _text(row, "brand"):
        facts["brand"] = BRANDS.get(brand.lower(), brand)
    if size := readable_size(_text(row, "package_size")):
        facts["size"] = size
    price = row.get("price")
    if isinstance(price, (int, float)) and price > 0:  # NaN is not above 0
        facts["price"] = f"${price:,.2f}"
    return facts


def choose_products(count: int, products: pd.DataFrame | None = None, seed: int | None = None) -> list[ProductFacts]:
    """Real products to write about: the best seller of each of the largest categories, in a shuffled order.

    Left out are categories that want a lawyer (:data:`NO_AUTOMATIC_TEXT`), package sizes that are not the
    customer's (:data:`CASE_SIZES`), types and sizes that are cut off or say nothing, and prices under ten cents. A
    column without a single value is not asked for. A catalogue with few categories gives its second best sellers
    too, and so on. The shuffle makes the first part of the list comparable with the rest.

    Args:
        count: how many.
        products: the products table; the default is the prepared one.
        seed: of the shuffle; the default is the course's.

    Raises:
        ValueError: when the catalogue has fewer suitable products.
    """
    products = data.load("products") if products is None else products
    suited = products[
        ~products["department"].isin(CASE_SIZES)
        & ~products["category"].str.upper().str.contains(NO_AUTOMATIC_TEXT)
        & (products["price"] >= 0.1)
    ]
    known = {column for column in ("product_type", "package_size") if column in suited and suited[column].notna().any()}
    suited = suited[[says_enough(row, known) for row in suited.to_dict("records")]]
    if len(suited) < count:
        raise ValueError(f"The catalogue has {len(suited)} suitable products; {count} were asked for.")
    suited = suited.sort_values(["units", "product_id"], ascending=[False, True])
    groups = suited.groupby("category")["units"]
    place, size = groups.cumcount().to_numpy(), groups.transform("sum").to_numpy()
    rows = suited.iloc[np.lexsort((suited["category"], -size, place))[:count]].to_dict("records")
    order = np.random.default_rng(settings.seed if seed is None else seed).permutation(count)
    return [ProductFacts(rows[i]["product_id"], rows[i]["category"], describe(rows[i])) for i in order]


def as_table(products: list[ProductFacts]) -> pd.DataFrame:
    """One row per product, one column per fact; a fact that is not known is an empty text."""
    table = pd.DataFrame([product.facts for product in products]).fillna("")
    return table.set_index(pd.Index([product.product_id for product in products], name="product_id"))


def says_enough(row: Mapping[str, object], known: set[str]) -> bool:
    """Whether a row has a type and a package size that can be read, as far as the catalogue knows any.

    Args:
        row: of the products table.
        known: those of ``product_type`` and ``package_size`` that must say something.
    """
    type_, size = _text(row, "product_type"), _text(row, "package_size")
    if "product_type" in known and (not type_ or len(type_) >= _CUT_OFF):
        return False
    if "package_size" in known and readable_size(size) is None:
        return False
    return not set(re.findall(r"[a-z]+", readable(type_ or str(row["category"])))) <= _VAGUE


def _text(row: Mapping[str, object], column: str) -> str:
    value = row.get(column)
    return value.strip() if isinstance(value, str) else ""
