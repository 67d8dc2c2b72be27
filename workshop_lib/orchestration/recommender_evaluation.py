"""Is the recommender worth having? Lists made from earlier baskets, judged by later ones.

Two tasks are judged, because a shop has two lists. *Anything*: what of the list did the household buy in the next four
weeks? *New*: only products count of whose kind it had never bought anything, and only those may be on the list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from workshop_lib.orchestration.recommender import Candidate, item_weights, top_items
from workshop_lib.orchestration.recommender_items import Purchases, collect
from workshop_lib.settings import settings

DAYS = 28
"""Length of the period that a list is judged by; the churn model looks as far."""
LENGTH = 10
"""Products on a list."""

CANDIDATES = tuple(
    Candidate(method, setting, season)  # type: ignore[arg-type]
    for method, setting in (("cosine", 0), ("factors", 16), ("ridge", 300), ("ridge", 1000))
    for season in (False, True)
)


@dataclass(frozen=True)
class Period:
    """Purchases before a day, and what the same households bought in the :data:`DAYS` days from it on."""

    before: Purchases
    after: np.ndarray
    """Whether a household bought an item, shape (households, items)."""

    @property
    def first_time(self) -> np.ndarray:
        """The part of ``after`` of whose kind the household had bought nothing."""
        return self.after & ~self.before.known[:, self.before.kinds]


def make_period(lines: pd.DataFrame, products: pd.DataFrame, start: pd.Timestamp) -> Period:
    """Split the sales at a day. What makes an item and its season are learned from before it only.

    Raises:
        ValueError: when there is too little before that day, or nothing from it on.
    """
    before = collect(lines, products, start)
    later = lines[(lines["date"] >= start) & (lines["date"] < start + pd.Timedelta(days=DAYS))]
    rows = pd.Index(before.households).get_indexer(later["household_id"])
    columns = pd.Index(before.items).get_indexer(later["product_id"])
    counts = (rows >= 0) & (columns >= 0)
    if not counts.any():
        raise ValueError(f"No known household bought a known product in the {DAYS} days from {start:%Y-%m-%d} on.")
    after = np.zeros(before.baskets.shape, dtype=bool)
    after[rows[counts], columns[counts]] = True
    return Period(before, after)


def last_periods(lines: pd.DataFrame, products: pd.DataFrame) -> tuple[Period, Period]:
    """The validation period, on which candidates are chosen, and the test period after it, the last in the data."""
    end = lines["date"].max() + pd.Timedelta(days=1)
    validation, test = (make_period(lines, products, end - pd.Timedelta(days=DAYS * back)) for back in (2, 1))
    return validation, test


def found(top: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Whether each place of a list holds something that was bought.

    Args:
        top: places of items, best first, -1 for none, shape (households, length).
        truth: shape (households, items).
    """
    return np.take_along_axis(truth, np.maximum(top, 0), axis=1) & (top >= 0)


def hit_rate(top: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Per household 1 when at least one product of the list was bought, else 0; the mean is the hit rate@length.

    Deshpande & Karypis 2004, "Item-based top-N recommendation algorithms", ACM TOIS 22(1). NaN for households that
    bought nothing that could have been on a list.
    """
    return np.where(truth.any(axis=1), found(top, truth).any(axis=1).astype(float), np.nan)


def ndcg(top: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Per household the normalised discounted cumulative gain of its list, from 0 to 1.

    A product that was bought counts 1 / log2(1 + its place on the list), and the sum is divided by that of the best
    possible list (Järvelin & Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20(4)).
    NaN as in :func:`hit_rate`.
    """
    discount = 1 / np.log2(np.arange(top.shape[1]) + 2)
    best = np.concatenate([[np.nan], np.cumsum(discount)])  # without a purchase there is no best list
    return (found(top, truth) * discount).sum(axis=1) / best[np.minimum(truth.sum(axis=1), top.shape[1])]


Scores = Callable[[Purchases], np.ndarray]
"""Gives each household's score of each item, shape (households, items), from purchases."""


def popular(purchases: Purchases) -> np.ndarray:
    """What most households bought lately: the same list for all."""
    return np.broadcast_to(purchases.popularity, purchases.baskets.shape)


def buy_again(purchases: Purchases) -> np.ndarray:
    """What each household bought most often; beyond that, what is popular."""
    return purchases.faded.toarray() + popular(purchases) * 1e-9


BASELINES: dict[str, Scores] = {"popular": popular, "buy again": buy_again}


def judge(period: Period, scores: np.ndarray, name: str) -> pd.DataFrame:
    """Judge lists made from scores.

    Returns:
        A row per household and task: ``list``, ``task`` ("anything" or "new"), ``household``, ``hit_rate``, ``ndcg``;
        households without a purchase in the task are left out.
    """
    parts = []
    for task, truth, blocked in (("anything", period.after, None), ("new", period.first_time, period.before.known)):
        top = top_items(scores, period.before.kinds, LENGTH, blocked)
        judged = {"hit_rate": hit_rate(top, truth), "ndcg": ndcg(top, truth)}
        parts.append(pd.DataFrame({"list": name, "task": task, "household": period.before.households, **judged}))
    return pd.concat(parts, ignore_index=True).dropna(ignore_index=True)


def compare(period: Period, candidates: Iterable[Candidate] = CANDIDATES) -> Iterator[pd.DataFrame]:
    """:func:`judge` for the baselines and then for each candidate; candidates that differ in season share a fit."""
    for name, baseline in BASELINES.items():
        yield judge(period, baseline(period.before), name)
    fitted: tuple[Candidate, np.ndarray] | None = None
    for candidate in candidates:
        plain = replace(candidate, season=False)
        if fitted is None or fitted[0] != plain:
            fitted = plain, period.before.input @ item_weights(period.before, plain)
        scores = fitted[1] * period.before.season if candidate.season else fitted[1]
        yield judge(period, scores, candidate.name)


def summary(judged: pd.DataFrame) -> pd.DataFrame:
    """Mean hit rate and NDCG per list, one column per task and metric, in the order in which lists were judged."""
    means = judged.groupby(["list", "task"], sort=False)[["hit_rate", "ndcg"]].mean().unstack("task")
    return means.swaplevel(axis=1).sort_index(axis=1)


@dataclass(frozen=True)
class Ratio:
    """How many times as good one list is as another, for the same households."""

    value: float
    low: float
    """Lower end of the 95% interval."""
    high: float


def paired_ratio(
    judged: pd.DataFrame,
    ours: str,
    other: str,
    task: str,
    metric: str = "ndcg",
    resamples: int = 2000,
    seed: int = settings.seed,
) -> Ratio:
    """The ratio of two lists' means with a bootstrap interval over households.

    Both lists are judged on the same resampled households (Efron & Tibshirani 1993, "An introduction to the bootstrap",
    chapter 13), so that what is hard or easy about a household counts for both.

    Raises:
        KeyError: when a list was not judged.
    """
    table = judged[judged["task"] == task].pivot(index="household", columns="list", values=metric)
    pair = table[[ours, other]].dropna().to_numpy()
    random = np.random.default_rng(seed)
    # How often each household is drawn, instead of which: one product of matrices gives all means.
    draws = random.multinomial(len(pair), np.full(len(pair), 1 / len(pair)), size=resamples) @ pair
    low, high = np.quantile(draws[:, 0] / draws[:, 1], [0.025, 0.975])
    means = pair.mean(axis=0)
    return Ratio(float(means[0] / means[1]), float(low), float(high))
