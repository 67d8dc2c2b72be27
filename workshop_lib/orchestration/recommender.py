"""What else a household may like, and what it will soon need again, learned from all baskets.

    recommender = load_recommender()
    recommender.recommend(household_id=1, count=5)

What items, names and kinds are says :mod:`~workshop_lib.orchestration.recommender_items`. A list holds one item of a
kind, and "new to a household" means that it never bought anything of that kind: another size of its milk is no
discovery.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import scipy.linalg
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.metrics.pairwise import cosine_similarity

from workshop_lib import data
from workshop_lib.files import atomic_path, locked
from workshop_lib.orchestration.recommender_items import HALF_LIFE_DAYS, MIN_SHARE, Purchases, collect
from workshop_lib.orchestration.results import Frozen
from workshop_lib.settings import settings

RECIPE = 4
"""Raised whenever the fitting changes, so that older files are not used."""
_PLAIN, _MATRICES = ("households", "items", "names", "kinds", "categories", "recent"), ("baskets", "faded")

Id = int | str


class Suggestion(Frozen):
    """A product for a household, and why."""

    product_id: Id
    name: str
    category: str
    score: float
    basis: Literal["bought", "again", "popular"]
    """From what the household bought; bought before; or merely bought by many."""
    because_id: Id | None = None
    because: str | None = None
    """The name of the household's own product that contributed most."""


@dataclass(frozen=True)
class Candidate:
    """A way to compute how much one bought product speaks for another."""

    method: Literal["cosine", "factors", "ridge"]
    setting: float = 0
    """Number of factors, or the penalty of the ridge regression."""
    season: bool = False
    """Whether it counts that a product is bought more, or less, now than over the whole time."""

    @property
    def name(self) -> str:
        """For tables."""
        setting = f" {self.setting:g}" if self.setting else ""
        return f"{self.method}{setting}{' + season' if self.season else ''}"


CHOSEN = Candidate("ridge", 1000, season=True)
"""The best of :data:`~workshop_lib.orchestration.recommender_evaluation.CANDIDATES` in the validation weeks."""


def item_weights(purchases: Purchases, candidate: Candidate) -> np.ndarray:
    """How much each bought item speaks for each other one.

    *cosine* compares items by who bought them, rare ones counting more (scikit-learn's TF-IDF and cosine similarity).
    *factors* describes households and items by a few numbers each and multiplies them (a truncated singular value
    decomposition). *ridge* predicts each item from all others by one penalised linear regression, whose solution is
    known in closed form (Steck 2019, "Embarrassingly shallow autoencoders for sparse data", WWW, equation 8).

    Returns:
        Shape (items, items), float32: row bought, column suggested.
    """
    methods: dict[str, Callable[[sparse.csr_matrix, float], np.ndarray]] = {
        "cosine": _cosine,
        "factors": _factors,
        "ridge": _ridge,
    }
    return methods[candidate.method](purchases.input, candidate.setting).astype(np.float32)


def _cosine(given: sparse.csr_matrix, _: float) -> np.ndarray:
    rare = TfidfTransformer()
    similar = cosine_similarity(rare.fit_transform(given).T, dense_output=False).toarray()
    np.fill_diagonal(similar, 0)
    return rare.idf_[:, None] * similar


def _factors(given: sparse.csr_matrix, count: float) -> np.ndarray:
    parts = TruncatedSVD(int(min(count, min(given.shape) - 1)), random_state=settings.seed).fit(given).components_
    return parts.T @ parts


def _ridge(given: sparse.csr_matrix, penalty: float) -> np.ndarray:
    gram = (given.T @ given).toarray().astype(np.float64)
    gram.flat[:: len(gram) + 1] += penalty
    inverse = scipy.linalg.inv(gram, overwrite_a=True)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)  # an item must not predict itself
    return weights


def best_of_each_kind(scores: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """The highest score among the items of each kind, shape (households, kinds)."""
    starts = np.flatnonzero(np.diff(kinds, prepend=-1))
    return np.maximum.reduceat(scores, starts, axis=1)


def top_items(scores: np.ndarray, kinds: np.ndarray, count: int, blocked: np.ndarray | None = None) -> np.ndarray:
    """For each household the items of the highest scores, at most one of a kind.

    Args:
        scores: shape (households, items).
        kinds: per item the number of its kind, from 0, rising.
        count: length of the lists.
        blocked: kinds that a household's list must not hold, shape (households, kinds).

    Returns:
        Places of items, best first, shape (households, count); -1 where nothing is left. Ties go by place, so that
        the same scores always make the same list.
    """
    best = best_of_each_kind(scores, kinds)
    if blocked is not None:
        best = np.where(blocked, -np.inf, best)
    count = min(count, best.shape[1])
    chosen = np.argsort(-best, axis=1, kind="stable")[:, :count]
    edges = np.searchsorted(kinds, np.arange(best.shape[1] + 1))
    top = np.full(chosen.shape, -1)
    for row, column in np.ndindex(*chosen.shape):
        kind = chosen[row, column]
        if np.isfinite(best[row, kind]):
            first, end = edges[kind], edges[kind + 1]
            top[row, column] = first + int(scores[row, first:end].argmax())
    return top


class Recommender:
    """Lists for households, from the purchases of all.

    Args:
        purchases: who bought what.
        weights: of :func:`item_weights`.
        season: whether the season counts.
    """

    def __init__(self, purchases: Purchases, weights: np.ndarray, season: bool) -> None:
        self.purchases, self.weights = purchases, weights
        self._input = purchases.input
        self._season, self._factor = season, purchases.season if season else np.float32(1)
        self._known = purchases.known
        self._popularity = purchases.popularity
        self._household = {str(one): place for place, one in enumerate(purchases.households.tolist())}
        self._item = {str(one): place for place, one in enumerate(purchases.items.tolist())}

    @classmethod
    def fit(
        cls, lines: pd.DataFrame, products: pd.DataFrame, until: pd.Timestamp, candidate: Candidate = CHOSEN
    ) -> Recommender:
        """A recommender that knows the baskets before a day; see :func:`collect`."""
        purchases = collect(lines, products, until)
        return cls(purchases, item_weights(purchases, candidate), candidate.season)

    def similar(self, product_id: Id, count: int = 10) -> list[Suggestion]:
        """What a purchase of this product speaks for most; empty for a product that is no item."""
        place = self._item.get(str(product_id))
        if place is None:
            return []
        own = np.arange(self._known.shape[1]) == self.purchases.kinds[place]
        scores = self.weights[[place]]
        return self._suggestions(scores, count, own[None], "bought", lambda _: place)

    def recommend(self, household_id: Id, count: int = 10, new_only: bool = True) -> list[Suggestion]:
        """What this household may like.

        Args:
            household_id: one that never bought an item gets what is popular now, and the suggestions say so.
            count: at most so many.
            new_only: only kinds of which it bought nothing so far.
        """
        place = self._household.get(str(household_id))
        if place is None or self._input[place].nnz == 0:
            return self._suggestions(self._popularity[None], count, None, "popular")
        bought = self._input[place]
        scores = (bought @ self.weights) * self._factor
        blocked = self._known[[place]] if new_only else None

        def reason(item: int) -> int | None:
            part = bought.data * self.weights[bought.indices, item]
            return int(bought.indices[part.argmax()]) if part.max() > 0 else None

        return self._suggestions(scores, count, blocked, "bought", reason)

    def buy_again(self, household_id: Id, count: int = 10) -> list[Suggestion]:
        """What this household buys most often, recent baskets counting more; empty without purchases."""
        place = self._household.get(str(household_id))
        if place is None:
            return []
        scores = self.purchases.faded[[place]].toarray()
        return self._suggestions(scores, count, ~self._known[[place]], "again")

    def _suggestions(
        self,
        scores: np.ndarray,
        count: int,
        blocked: np.ndarray | None,
        basis: Literal["bought", "again", "popular"],
        reason: Callable[[int], int | None] = lambda _: None,
    ) -> list[Suggestion]:
        places = [int(one) for one in top_items(scores, self.purchases.kinds, count, blocked)[0] if one >= 0]
        return [self._suggestion(place, float(scores[0, place]), basis, reason(place)) for place in places]

    def _suggestion(
        self, place: int, score: float, basis: Literal["bought", "again", "popular"], because: int | None
    ) -> Suggestion:
        about = self.purchases
        return Suggestion(
            product_id=about.items[place].item(),
            name=str(about.names[place]),
            category=str(about.categories[place]),
            score=score,
            basis="popular" if basis == "bought" and because is None else basis,
            because_id=about.items[because].item() if because is not None else None,
            because=str(about.names[because]) if because is not None else None,
        )

    def save(self, path: Path) -> None:
        """Write everything into one file of plain arrays; nothing in it can run."""
        p = self.purchases
        arrays = {name: getattr(p, name) for name in _PLAIN}
        for name in _MATRICES:
            matrix = getattr(p, name)
            arrays |= {f"{name}_{part}": getattr(matrix, part) for part in ("data", "indices", "indptr")}
        with atomic_path(path) as draft:
            np.savez(
                draft, weights=self.weights, season=self._season, until=np.datetime64(p.until.to_datetime64()), **arrays
            )

    @classmethod
    def read(cls, path: Path) -> Recommender:
        """Read what :meth:`save` wrote.

        Raises:
            OSError, ValueError, KeyError: when the file is not there or not whole.
        """
        with np.load(path, allow_pickle=False) as file:
            shape = (len(file["households"]), len(file["items"]))
            matrices = {
                name: sparse.csr_matrix(tuple(file[f"{name}_{part}"] for part in ("data", "indices", "indptr")), shape)
                for name in _MATRICES
            }
            purchases = Purchases(
                until=pd.Timestamp(file["until"][()]), **{name: file[name] for name in _PLAIN}, **matrices
            )
            return cls(purchases, file["weights"], bool(file["season"]))


@cache
def load_recommender() -> Recommender:
    """The recommender on all of the shop's baskets; fitted once, then read from ``settings.models_dir``.

    Raises:
        DataError: when the data cannot be used.
        ValueError: when it has too few baskets.
    """
    manifest = data.prepared()
    parts = [
        RECIPE,
        asdict(CHOSEN),
        MIN_SHARE,
        HALF_LIFE_DAYS,
        manifest.recipe,
        manifest.fingerprint,
        manifest.timezone,
    ]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
    path = settings.models_dir / f"recommender-{key}.npz"
    with locked(path):  # several processes may want it first
        try:
            return Recommender.read(path)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            lines = data.load("transactions", ["household_id", "basket_id", "product_id", "date"])
            recommender = Recommender.fit(lines, data.load("products"), lines["date"].max() + pd.Timedelta(days=1))
            recommender.save(path)
            return recommender
