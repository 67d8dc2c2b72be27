"""A made-up shop in which it is known what goes together: a method that does not find it there finds nothing anywhere.

It holds the traps of the real one: trips of very different size, households with tastes of their own, kinds for summer
and for winter, and kinds for different occasions, which are rarely together without replacing each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from workshop_lib.orchestration.market_pairs import Trips
from workshop_lib.settings import settings

HOUSEHOLDS, TRIPS = 500, 60
"""Households, and trips of each in a year."""
PAIRS = 5
"""Planted pairs of each relation."""
_PLAIN, _OCCASION, _SEASONAL = 14, 3, 2


@dataclass(frozen=True)
class Trial:
    """Trips, and which pairs were planted in them; of each pair the name that comes first in the alphabet is first."""

    trips: Trips
    substitutes: frozenset[tuple[str, str]]
    complements: frozenset[tuple[str, str]]
    """One brings the other along, or both are for the same need or occasion."""
    traps: frozenset[tuple[str, str]]
    """Rarely together, and no substitutes."""


def made_up_shop(seed: int = settings.seed, households: int = HOUSEHOLDS) -> Trial:
    """Draw the trips of a year.

    Args:
        seed: of the draw.
        households: how many shop there.
    """
    rng = np.random.default_rng(seed)
    n = households * TRIPS
    household = np.repeat(np.arange(households), TRIPS)
    quarter = np.tile(np.arange(TRIPS) * 4 // TRIPS, households)
    size = rng.lognormal(-0.2, 0.7, n)
    occasion = rng.integers(0, 3, n)
    columns: dict[str, np.ndarray] = {}

    def want(rate: float) -> np.ndarray:
        """Trips on which something is wanted: by the household's taste and the trip's size."""
        taste = rng.gamma(2, 0.5, households)
        return np.asarray(rng.random(n) < np.minimum(rate * taste[household] * size, 0.95))

    for one in range(PAIRS):
        need = want(0.25)
        usual = rng.beta(4, 4, households)[household] > rng.random(n)
        other_too = rng.random(n) < 0.05
        columns[f"same need {one} a"] = need & (usual | other_too)
        columns[f"same need {one} b"] = need & (~usual | other_too)
        columns[f"company of need {one}"] = want(0.08) | (need & (rng.random(n) < 0.6))
        base = want(0.12)
        columns[f"base {one}"] = base
        columns[f"topping {one}"] = want(0.08) | (base & (rng.random(n) < 0.4))
    for one in range(_OCCASION):
        columns[f"party {one}"] = want(0.25) & (occasion == 0)
        columns[f"breakfast {one}"] = want(0.25) & (occasion == 1)
    for one in range(_SEASONAL):
        columns[f"summer {one}"] = want(0.25) & np.isin(quarter, (1, 2))
        columns[f"winter {one}"] = want(0.25) & np.isin(quarter, (0, 3))
    for one in range(_PLAIN):
        columns[f"plain {one}"] = want(0.15)
    kinds = tuple(columns)
    bought = sparse.csr_matrix(np.column_stack(list(columns.values())).astype(float))
    trips = Trips(household, quarter, bought, kinds, kinds, ("FOOD",) * len(kinds))
    occasions = [(f"breakfast {a}", f"party {b}") for a in range(_OCCASION) for b in range(_OCCASION)]
    times = [(f"summer {a}", f"winter {b}") for a in range(_SEASONAL) for b in range(_SEASONAL)]
    brought = [(f"base {one}", f"topping {one}") for one in range(PAIRS)]
    company = [(f"company of need {one}", f"same need {one} {which}") for one in range(PAIRS) for which in "ab"]
    same = [
        (f"{name} {a}", f"{name} {b}") for name in ("breakfast", "party") for b in range(_OCCASION) for a in range(b)
    ]
    return Trial(
        trips=trips,
        substitutes=frozenset((f"same need {one} a", f"same need {one} b") for one in range(PAIRS)),
        complements=frozenset([*brought, *company, *same]),
        traps=frozenset([*occasions, *times]),
    )


def named(table: pd.DataFrame) -> set[tuple[str, str]]:
    """The pairs of a table, as :class:`Trial` names them."""
    return {(min(pair), max(pair)) for pair in zip(table["first"], table["second"], strict=True)}


def shuffled(series: np.ndarray, seed: int) -> np.ndarray:
    """The weeks of every series in one random order, so that no trend is left; shape stays (weeks, series)."""
    return series[np.random.default_rng(seed).permutation(len(series))]


def made_up_weeks(
    weeks: int, series: int, carried: float, growth: float = 0.0, seed: int = settings.seed
) -> np.ndarray:
    """Series whose weeks resemble the one before, with or without a trend.

    Args:
        weeks: length.
        series: number of series.
        carried: share of a week's deviation that the next week takes over, 0 to below 1.
        growth: of every series from the first to the last week, in standard deviations of a week.
        seed: of the draw.

    Returns:
        Shape (weeks, series).
    """
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(weeks + 50, series))
    for week in range(1, len(noise)):
        noise[week] += carried * noise[week - 1]
    level = noise[50:] * np.sqrt(1 - carried**2)
    return np.asarray(level + growth * np.linspace(0, 1, weeks)[:, None])
