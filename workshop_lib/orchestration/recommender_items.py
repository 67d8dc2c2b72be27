"""Who bought what, and which products a message may name.

An *item* is a product that at least :data:`MIN_SHARE` of the households bought. Below that, the few who bought two
products together did so by chance; and what a handful of people buys would tell about them when it is suggested to
others. A *name* is what customers read, such as "eggs, large"; items of several brands and sizes share one. A *kind* is
the name up to its first comma, "eggs".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from workshop_lib.generative import facts
from workshop_lib.orchestration.wording_check import looks_like_an_instruction

MIN_SHARE = 0.02
"""Share of the households that must have bought a product."""
RECENT_DAYS = 28
HALF_LIFE_DAYS = 60
"""For the list of what is bought again: a basket counts half as much as one so many days later."""
_IMAGINARY = 5  # buyers added on both sides, so that a handful of real ones makes no season

PERSONAL = re.compile(r"INCONTINENCE|FAMILY PLANNING|FEMININE|HOME HEALTH|DIAPER|INFANT|BABY")
"""Categories that tell about somebody's body or family what no message should spell out, neither as a
recommendation nor as its reason."""
_NO_GOODS = re.compile(r"COUPON|DEPOSIT|TICKETS|CALLING CARDS|PREPAID|CONTINUITIES|(?:DELI|MEAT|PROD) SUPPLIES")

# Types of one word that make sense only below their category: "lean" of BEEF, "blends" of SALAD MIX.
_SAYS_LITTLE = frozenset(
    {
        "abrasives", "angus", "blends", "butts", "cocktails", "dry", "enhanced", "flavored", "fresh", "hispanic",
        "kits", "lean", "loave", "microwave", "pails", "patties", "pre-cooked", "processed", "seasonal", "treats",
        "value",
    }
)  # fmt: skip
# Codes of the shelves and words without vowels are not for customers: "seafood-fre-raw", "sw gds", "ctlrytbl".
_SHELF_CODE = re.compile(r"-fr[ez]|^sw gds|[^aeiouy\W\d]{6,}")


@dataclass(frozen=True)
class Purchases:
    """Who bought what before a day; the arrays follow the order of ``households`` and ``items``."""

    until: pd.Timestamp
    """The first day that is not in it."""
    households: np.ndarray
    items: np.ndarray
    """Product numbers, ordered so that those of one kind lie together."""
    names: np.ndarray
    """Per item what customers read."""
    kinds: np.ndarray
    """Per item the number of its kind, from 0, rising."""
    categories: np.ndarray
    """Per item its category in the catalogue."""
    baskets: sparse.csr_matrix
    """In how many baskets a household had an item, shape (households, items)."""
    faded: sparse.csr_matrix
    """The same with old baskets counting less, see :data:`HALF_LIFE_DAYS`."""
    recent: np.ndarray
    """Households that bought an item in the last :data:`RECENT_DAYS` days."""

    @property
    def buyers(self) -> np.ndarray:
        """Households that ever bought an item."""
        return np.bincount(self.baskets.indices, minlength=len(self.items))

    @property
    def input(self) -> sparse.csr_matrix:
        """What the models read: the logarithm of the baskets, so that the hundredth litre of milk counts little."""
        return self.baskets.log1p().astype(np.float32)

    @property
    def known(self) -> np.ndarray:
        """Whether a household bought anything of a kind, shape (households, kinds)."""
        to_kind = sparse.csr_matrix((np.ones(len(self.items)), (np.arange(len(self.items)), self.kinds)))
        return (self.baskets @ to_kind).toarray() > 0

    @property
    def popularity(self) -> np.ndarray:
        """Score of each item for anybody: its buyers in the last weeks; ties go by the year."""
        return (self.recent + self.buyers / (self.buyers.sum() + 1)).astype(np.float32)

    @property
    def season(self) -> np.ndarray:
        """How much more an item is bought now than over the whole time; 1 for as always."""
        now, ever = self.recent + _IMAGINARY, self.buyers + _IMAGINARY
        return ((now / now.sum()) / (ever / ever.sum())).astype(np.float32)


def product_name(row: Mapping[str, object]) -> str:
    """A product as a customer reads it: its type, or its category where the type is cut off or says too little."""
    name = facts.readable(str(row["product_type"]))
    if not facts.says_enough(row, {"product_type"}) or name in _SAYS_LITTLE or _SHELF_CODE.search(name):
        return facts.readable(str(row["category"]))
    return name


def nameable(categories: pd.Series) -> pd.Series:
    """Whether a message may name a category and its goods; see :func:`advertisable`."""
    barred = (facts.NO_AUTOMATIC_TEXT, PERSONAL, _NO_GOODS)

    def allowed(name: str) -> bool:
        return not looks_like_an_instruction(name) and not any(one.search(name.upper()) for one in barred)

    return categories.map({name: allowed(str(name)) for name in categories.unique()}).astype(bool)


def advertisable(products: pd.DataFrame) -> pd.DataFrame:
    """The products that a message may name.

    Left out are categories for which the law limits advertising
    (:data:`~workshop_lib.generative.facts.NO_AUTOMATIC_TEXT`), personal ones (:data:`PERSONAL`), what is no goods, and
    what reads like an instruction to a language model. Fresh food stays in although the catalogue's package is
    the shop's case (:data:`~workshop_lib.generative.facts.CASE_SIZES`): a name tells no size, and fresh food is what
    most households buy.

    Returns:
        ``product_id``, ``name`` and ``category``.
    """
    kept = products[nameable(products["category"])]
    # Thousands of products share a few types: each is put into words once.
    types = kept[["category", "product_type"]].drop_duplicates()
    types = types.assign(name=[product_name(row) for row in types.to_dict("records")])
    types = types[(types["name"] != "") & ~types["name"].map(looks_like_an_instruction)]
    return kept.merge(types, on=["category", "product_type"])[["product_id", "name", "category"]]


def collect(lines: pd.DataFrame, products: pd.DataFrame, until: pd.Timestamp) -> Purchases:
    """The purchases before a day.

    Args:
        lines: the table ``transactions``.
        products: the table ``products``; only what does not change with sales is read of it.
        until: the first day that does not count.

    Raises:
        ValueError: when no product has enough buyers.
    """
    wanted = ["household_id", "basket_id", "product_id", "date"]
    sold = lines.loc[lines["date"] < until, wanted].drop_duplicates(wanted[:3])
    households = np.unique(_plain(sold["household_id"]))
    sold = sold.merge(advertisable(products), on="product_id")
    buyers = sold.drop_duplicates(["household_id", "product_id"])["product_id"].value_counts()
    enough = buyers.index[buyers >= max(2, MIN_SHARE * len(households))]
    sold = sold[sold["product_id"].isin(enough)]
    if sold.empty:
        raise ValueError(f"No product was bought by {MIN_SHARE:.0%} of the households before {until:%Y-%m-%d}.")
    items = sold.drop_duplicates("product_id")
    items = items.assign(kind=items["name"].str.split(",").str[0]).sort_values(["kind", "name", "product_id"])
    rows = pd.Index(households).get_indexer(sold["household_id"])
    columns = pd.Index(items["product_id"]).get_indexer(sold["product_id"])
    age = (until - sold["date"]).dt.days.to_numpy()

    def matrix(values: np.ndarray, chosen: np.ndarray | slice = slice(None)) -> sparse.csr_matrix:
        places = (rows[chosen], columns[chosen])
        return sparse.csr_matrix((values[chosen], places), shape=(len(households), len(items)))

    ones = np.ones(len(sold))
    return Purchases(
        until=until,
        households=households,
        items=_plain(items["product_id"]),
        names=_plain(items["name"]),
        kinds=np.unique(_plain(items["kind"]), return_inverse=True)[1],
        categories=items["category"].to_numpy(dtype=str),
        baskets=matrix(ones),
        faded=matrix(0.5 ** (age / HALF_LIFE_DAYS)),
        recent=np.bincount(matrix(ones, age <= RECENT_DAYS).indices, minlength=len(items)),
    )


def _plain(column: pd.Series) -> np.ndarray:
    """Numbers or texts as an array of that type rather than of objects."""
    return np.array(column.tolist())
