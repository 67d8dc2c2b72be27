"""Differences between groups: too large beyond doubt, perhaps by chance, or too few households to tell."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from workshop_lib.mlops.gate_config import load_gates
from workshop_lib.mlops.gate_fairness import SHARES, by_group, difference, grouped, held_out

LIMITS = load_gates().fairness


def households(rows: int, contacted: dict[float, float]) -> tuple[pd.DataFrame, np.ndarray]:
    """As many households of each age, of which a share is contacted; nobody leaves."""
    table = pd.DataFrame({"age": np.repeat(list(contacted), rows), "lapsed": 0})
    return table, np.concatenate([np.arange(rows) < round(rows * share) for share in contacted.values()])


def test_groups_are_named_by_where_they_begin_and_end() -> None:
    ages = pd.Series([19.0, 34.0, 35.0, 54.0, 55.0, 99.0])
    assert list(grouped(ages, (19, 35, 55))) == ["19 to 34"] * 2 + ["35 to 54"] * 2 + ["55 and more"] * 2


@pytest.mark.parametrize(
    ("rows", "shares", "status"),
    [
        (400, (0.10, 0.12, 0.15), "passed"),
        (400, (0.10, 0.30, 0.60), "failed"),
        (40, (0.10, 0.15, 0.25), "review"),
        (40, (0.10, 0.15, 0.95), "failed"),
    ],
)
def test_a_difference_counts_when_it_is_no_chance(rows: int, shares: tuple[float, ...], status: str) -> None:
    table, decided = households(rows, dict(zip((20.0, 40.0, 60.0), shares, strict=True)))
    one = difference(by_group(table, decided, LIMITS, "age"), LIMITS, "age", "contacted")
    assert one is not None and one.status(LIMITS.difference) == status
    assert (one.smallest, one.largest) == ("19 to 34", "55 and more")
    assert one.low < one.value == pytest.approx(shares[-1] - shares[0], abs=0.02)


def test_the_interval_is_the_one_of_the_paper() -> None:
    """Newcombe 1998, table II, method 10: 56/70 against 48/80 gives 0.0524 to 0.3339."""
    table = pd.DataFrame({"age": [20.0] * 70 + [60.0] * 80, "lapsed": 0})
    decided = np.concatenate([np.arange(70) < 56, np.arange(80) < 48])
    one = difference(by_group(table, decided, LIMITS, "age"), LIMITS, "age", "contacted")
    assert one is not None and (round(one.low, 4), round(one.high, 4)) == (0.0524, 0.3339)


def test_groups_that_are_too_small_are_not_compared() -> None:
    table, decided = households(LIMITS.minimum_rows - 1, {20.0: 0, 60.0: 1})
    shares = by_group(table, decided, LIMITS, "age")
    assert len(shares.loc["contacted"]) == 2
    assert difference(shares, LIMITS, "age", "contacted") is None


def test_each_share_has_its_own_base() -> None:
    table = pd.DataFrame({"age": [20.0] * 10, "lapsed": [1] * 4 + [0] * 6})
    decided = np.array([True, True, True, False, True, False, False, False, False, False])
    shares = by_group(table, decided, LIMITS, "age").xs("19 to 34", level="group")
    assert list(shares.index) == list(SHARES)
    assert list(shares["rows"]) == [10, 6, 4] and list(shares["hits"]) == [4, 1, 3]
    assert (shares["low"] < shares["value"]).all() and (shares["value"] < shares["high"]).all()


def test_every_household_counts_once() -> None:
    table = held_out()
    assert table["household_id"].is_unique and (table[["age", "income"]] >= 0).all(axis=None)
