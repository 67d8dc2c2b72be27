"""Which kinds of products take each other's place, and which go together, from who had what in the same basket.

Plain lift (together over what the two shares multiply to) is misleading in a shop: a large basket holds a bit of
everything, and a household with a cat buys cat food and litter on any day. Both push nearly every lift above 1, those
of substitutes too. So trips are compared with like trips only: of the same household, in the same quarter, of about
the same size. Within such a group the purchases of two kinds that have nothing to do with each other fall together by
chance, and how often can be computed.

* *Complements* are together more often than that.
* *Substitutes* are together less often, and serve the same purpose: what else is bought with the one is also bought
  with the other. Without the second condition beer and cereals would pass, which belong to different kinds of trips.

Sources: groups of like cases as in Mantel and Haenszel (*J. Natl. Cancer Inst.* 22, 1959); company as the mark of
substitutes in Tian, Lautz, Wallis and Lambiotte (*EPJ Data Science* 10:45, 2021) and Ruiz, Athey and Blei (*Annals of
Applied Statistics* 14, 2020); false discovery rate by Benjamini and Hochberg (*JRSS B* 57, 1995).

Limits: a trip says what was bought together, not what somebody would have taken instead; one who never buys a kind
tells nothing about it; a kind that replaced another in the shop within a quarter looks like its substitute.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import sparse, stats

from workshop_lib.orchestration.market_results import Pair
from workshop_lib.orchestration.market_trends import TooLittleData
from workshop_lib.orchestration.shop import Shop

KINDS = 300
"""Most bought kinds of products that are looked at."""
SIZES = (2, 4, 7, 12, 20)
"""Lower ends of the groups of trips by their number of different kinds."""
FEWEST_EXPECTED = 30
"""Expected baskets with both below which nothing is said about a pair."""
FALSE_SHARE = 0.05
"""At most this share of the pairs found may be chance."""
NOTABLE = 1.2
"""Lift from which a difference matters, and its inverse for less; with many trips smaller ones are sure, and idle."""
SIMILAR = 0.3
"""Correlation of the company from which two kinds serve the same purpose."""
_PRIOR = 5
"""Baskets added to both counts before their ratio is taken: rare company says little."""
_Z = float(stats.norm.ppf(0.975))


@dataclass(frozen=True)
class Trips:
    """Trips to the shop and the kinds of products that each brought home.

    ``household``, ``period``: whole numbers, shape (trips,). ``bought``: 0 or 1, sparse, shape (trips, kinds).
    ``kinds``, ``categories`` and ``departments``: names, one per column.
    """

    household: np.ndarray
    period: np.ndarray
    bought: sparse.csr_matrix
    kinds: tuple[str, ...]
    categories: tuple[str, ...]
    departments: tuple[str, ...]

    def part(self, chosen: np.ndarray) -> Trips:
        """Some of the trips; ``chosen`` is true for those, shape (trips,)."""
        return replace(self, household=self.household[chosen], period=self.period[chosen], bought=self.bought[chosen])


def shop_trips(shop: Shop, kinds: int = KINDS) -> Trips:
    """The shop's trips. A kind is a product type within a category, such as large eggs.

    Args:
        shop: its receipts and catalogue.
        kinds: how many to keep, those in the most baskets.

    Raises:
        TooLittleData: when there are fewer than two kinds.
    """
    products = shop.products
    names = products["category"].str.cat(products["product_type"].fillna("OTHER"), sep=": ")
    codes, known = pd.factorize(names)
    found = pd.Index(products["product_id"]).get_indexer(shop.transactions["product_id"])
    lines = shop.transactions[["household_id", "basket_id", "date"]][found >= 0]
    kind = codes[found[found >= 0]]
    basket, _ = pd.factorize(lines["basket_id"])
    household, _ = pd.factorize(lines["household_id"])
    cells = np.unique(basket.astype(np.int64) * len(known) + kind)
    rows, columns = np.divmod(cells, len(known))
    chosen = np.argsort(-np.bincount(columns, minlength=len(known)), kind="stable")[:kinds]
    if len(chosen) < 2:
        raise TooLittleData("The receipts hold fewer than two kinds of products.")
    place = np.full(len(known), -1)
    place[chosen] = np.arange(len(chosen))
    kept = place[columns] >= 0
    dates, first_line = pd.DatetimeIndex(lines["date"]), np.unique(basket, return_index=True)[1]
    about = products.assign(kind=names).drop_duplicates("kind").set_index("kind").loc[known[chosen]]
    return Trips(
        household=household[first_line],
        period=(dates.year * 4 + dates.quarter).to_numpy()[first_line],
        bought=_matrix(rows[kept], place[columns[kept]], (len(first_line), len(chosen))),
        kinds=tuple(known[chosen]),
        categories=tuple(about["category"]),
        departments=tuple(about["department"]),
    )


def _matrix(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)


@dataclass(frozen=True)
class Company:
    """How often two kinds are in one basket; each array has shape (kinds, kinds)."""

    together: np.ndarray
    expected: np.ndarray
    spread: np.ndarray
    """Standard deviation of ``together`` by chance."""


def company(trips: Trips) -> Company:
    """Count baskets with both of two kinds, and what chance would bring within groups of like trips.

    In a group of n trips in which a share p of them brought the one kind and a share q the other, chance brings n p q
    baskets with both, and a little less or more: trips of a given size that already hold one kind have less room for
    another, and where sizes differ the larger trips hold more of both. That correction is p(1-p) q(1-q) times a
    factor, chosen so that the kinds add up to trips that vary in size as they really do.
    """
    size = np.asarray(trips.bought.sum(axis=1)).ravel()
    band = np.searchsorted(SIZES, size, side="right")
    keys = np.stack([trips.household, trips.period, band])[:, size >= SIZES[0]]
    bought = trips.bought[size >= SIZES[0]]
    groups, member, count = np.unique(keys, axis=1, return_inverse=True, return_counts=True)
    member = member.ravel()
    alone = count[member] < 2
    together = (bought[~alone].T @ bought[~alone]).toarray()
    kept = count >= 2
    n = count[kept].astype(float)
    belongs = _matrix(member, np.arange(len(member)), (len(count), len(member)))
    sums = np.asarray((belongs @ bought)[kept].todense())
    own_size = size[size >= SIZES[0]]
    total, squares = (np.asarray(belongs @ own_size**power)[kept] for power in (1, 2))
    size_variance = (squares - total**2 / n) / (n - 1)
    variance = sums * (n[:, None] - sums) / (n * (n - 1))[:, None]
    expected = (sums / n[:, None]).T @ sums
    whole = variance.sum(axis=1)
    for one in np.unique(groups[2][kept]):
        same = groups[2][kept] == one
        weight = n[same] - 1
        own = variance[same]
        # The correction's factor, from all groups of this size together: single groups are too small for one.
        room = weight @ (whole[same] ** 2 - (own**2).sum(axis=1))
        if room > 0:
            factor = weight @ (size_variance[same] - whole[same]) / room
            expected += factor * (own * weight[:, None]).T @ own
    spread = np.sqrt((variance * (n - 1)[:, None]).T @ variance)
    return Company(together, expected, spread)


def pair_table(trips: Trips) -> pd.DataFrame:
    """Every pair of kinds of one department with enough baskets to say something.

    Returns:
        Columns ``department``, ``first``, ``second``, ``categories``, ``together``, ``expected``, ``lift``, ``lower``,
        ``upper`` (95% interval of the lift), ``plain_lift`` (over all trips, for comparison), ``similarity``,
        ``q_value`` and ``relation``: substitutes, complements or none.
    """
    found = company(trips)
    department, category = np.array(trips.departments), np.array(trips.categories)
    first, second = np.nonzero(np.triu(department[:, None] == department[None, :], 1))
    enough = found.expected[first, second] >= FEWEST_EXPECTED
    first, second = first[enough], second[enough]
    together, expected, spread = (
        part[first, second] for part in (found.together, found.expected, found.spread)
    )  # fmt: skip
    z = (together - expected) / np.maximum(spread, 1e-12)
    p_value = 2 * stats.norm.sf(np.abs(z))
    q_value = stats.false_discovery_control(p_value) if len(p_value) else p_value
    similarity = _similarity(found, first, second)
    table = pd.DataFrame(
        {
            "department": department[first],
            "first": np.array(trips.kinds)[first],
            "second": np.array(trips.kinds)[second],
            "categories": list(zip(category[first], category[second], strict=True)),
            "together": together.astype(int),
            "expected": expected,
            "lift": together / expected,
            "lower": np.maximum(together - _Z * spread, 0) / expected,
            "upper": (together + _Z * spread) / expected,
            "plain_lift": _plain_lift(trips, first, second),
            "similarity": similarity,
            "q_value": q_value,
        }
    )
    sure = table["q_value"] <= FALSE_SHARE
    table["relation"] = np.select(
        [
            sure & (table["lift"] >= NOTABLE),
            sure & (table["lift"] <= 1 / NOTABLE) & (table["similarity"] >= SIMILAR),
        ],
        ["complements", "substitutes"],
        "none",
    )
    return table


def _plain_lift(trips: Trips, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    share = np.asarray(trips.bought.mean(axis=0)).ravel()
    both = (trips.bought.T @ trips.bought).toarray() / trips.bought.shape[0]
    return np.asarray(both[first, second] / (share[first] * share[second]))


def _similarity(found: Company, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlation of the log lifts of two kinds with all kinds but themselves, shape (pairs,)."""
    lifts = np.log((found.together + _PRIOR) / (np.maximum(found.expected, 0) + _PRIOR))
    np.fill_diagonal(lifts, 0)
    n = len(lifts) - 2
    own = lifts[first, second]
    if n < 2:
        return np.zeros(len(own))
    # Sums over all kinds, less the two themselves: on the diagonal stands 0, on the other's place their own lift.
    sums, squares, products = lifts.sum(axis=1), (lifts**2).sum(axis=1), (lifts @ lifts.T)[first, second]
    one, other = sums[first] - own, sums[second] - own
    top = products - one * other / n
    below = (squares[first] - own**2 - one**2 / n) * (squares[second] - own**2 - other**2 / n)
    return np.asarray(top / np.sqrt(np.maximum(below, 1e-12)))


def pairs(shop: Shop) -> tuple[Pair, ...]:
    """The shop's substitutes and complements: per relation those first that are farthest from chance.

    Raises:
        TooLittleData: when there are fewer than two kinds of products.
    """
    table = pair_table(shop_trips(shop))
    table = table[table["relation"] != "none"]
    # By the end of the interval that is nearer to 1, so that rare pairs do not come first by luck.
    sureness = np.where(table["lift"] > 1, -np.log(table["lower"].clip(0.01)), np.log(table["upper"].clip(0.01)))
    table = table.iloc[np.argsort(sureness, kind="stable")].drop(columns="plain_lift")
    return tuple(Pair.model_validate(row) for row in table.to_dict("records"))
