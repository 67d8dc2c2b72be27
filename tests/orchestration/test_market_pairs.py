"""Substitutes and complements: found where they were planted, not where other things keep two kinds apart."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from tests.orchestration.market_shops import small_shop
from workshop_lib.orchestration import market_pairs
from workshop_lib.orchestration.market_pairs import (
    Company,
    TooLittleData,
    Trips,
    company,
    pair_table,
    pairs,
    shop_trips,
)
from workshop_lib.orchestration.market_trial import made_up_shop, named
from workshop_lib.orchestration.shop import load_shop


def chosen(table: pd.DataFrame, relation: str) -> set[tuple[str, str]]:
    return named(table[table["relation"] == relation])


@pytest.mark.parametrize("seed", [42, 1, 2])
def test_planted_pairs_are_found_and_no_others(seed: int) -> None:
    trial = made_up_shop(seed)
    table = pair_table(trial.trips)
    assert chosen(table, "substitutes") == trial.substitutes
    assert chosen(table, "complements") == trial.complements


def test_without_a_look_at_their_company_occasions_would_pass_for_substitutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(market_pairs, "SIMILAR", -1.0)
    trial = made_up_shop()
    assert len(chosen(pair_table(trial.trips), "substitutes") & trial.traps) > 5


def test_all_trips_alike_in_one_pot_would_show_chance_as_complements() -> None:
    trial = made_up_shop()
    table = pair_table(trial.trips)
    planted = trial.substitutes | trial.complements | trial.traps
    pair = [(min(two), max(two)) for two in zip(table["first"], table["second"], strict=True)]
    unrelated = table[[two not in planted for two in pair]]
    assert unrelated["plain_lift"].median() > 1.3
    assert unrelated["lift"].median() == pytest.approx(1, abs=0.05)


def no_relations(seed: int) -> Trips:
    """Trips of given sizes that draw their kinds by the household's taste alone."""
    rng = np.random.default_rng(seed)
    households, trips, kinds = 300, 50, 40
    household = np.repeat(np.arange(households), trips)
    taste = rng.gamma(0.7, 1, (households, kinds)) + 1e-9
    size = np.minimum(1 + rng.poisson(rng.lognormal(1.2, 1.2, len(household))), kinds - 1)
    order = np.argsort(-(np.log(taste[household]) + rng.gumbel(size=(len(household), kinds))), axis=1)
    bought = np.zeros((len(household), kinds))
    np.put_along_axis(bought, order, (np.arange(kinds) < size[:, None]).astype(float), axis=1)
    names = tuple(f"kind {one}" for one in range(kinds))
    return Trips(household, np.zeros(len(household), int), sparse.csr_matrix(bought), names, names, ("FOOD",) * kinds)


def test_where_nothing_is_related_chance_is_what_was_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(market_pairs, "NOTABLE", 1.0)
    monkeypatch.setattr(market_pairs, "SIMILAR", -1.0)
    trips = no_relations(5)
    found = company(trips)
    first, second = np.triu_indices(len(trips.kinds), 1)
    z = ((found.together - found.expected) / found.spread)[first, second]
    assert abs(z.mean()) < 0.2
    assert 0.85 < z.std() < 1.15
    table = pair_table(trips)
    assert (table["relation"] != "none").mean() < 0.01


def test_counts_are_those_of_baskets_in_groups_of_two_or_more() -> None:
    bought = sparse.csr_matrix(np.array([[1, 1, 0], [1, 1, 0], [1, 0, 1], [1, 1, 0], [1, 0, 0]], float))
    household = np.array([0, 0, 0, 1, 0])
    found = company(Trips(household, np.zeros(5, int), bought, tuple("abc"), tuple("abc"), ("FOOD",) * 3))
    # The fourth trip is alone in its group, the fifth has one kind only.
    assert found.together.tolist() == [[3, 2, 1], [2, 2, 0], [1, 0, 1]]
    assert found.expected[1, 2] < 2 / 3  # three trips of two kinds: who has the one has less room for the other


def test_similarity_is_the_correlation_over_all_other_kinds() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(5, 50, (8, 8)).astype(float)
    counts += counts.T
    found = Company(counts, np.full((8, 8), 40.0), np.ones((8, 8)))
    lifts = np.log((counts + 5) / 45)
    first, second = np.array([0, 2]), np.array([1, 7])
    for value, one, other in zip(market_pairs._similarity(found, first, second), first, second, strict=True):
        others = [place for place in range(8) if place not in (one, other)]
        assert value == pytest.approx(np.corrcoef(lifts[one, others], lifts[other, others])[0, 1])


def test_receipts_become_trips() -> None:
    shop = small_shop()
    trips = shop_trips(shop, kinds=10)
    assert trips.bought.shape == (600, 10)
    assert set(np.unique(trips.bought.toarray())) == {0.0, 1.0}
    lines = shop.transactions.merge(shop.products, on="product_id")
    baskets = lines.groupby("category")["basket_id"].nunique().sort_values(ascending=False)
    assert trips.bought.sum() == baskets.head(10).sum()
    for column, name in enumerate(trips.categories):
        assert trips.kinds[column] == f"{name}: PLAIN"
        assert trips.bought[:, [column]].sum() == baskets[name]
    assert pairs(shop) == ()


def test_a_shop_with_one_kind_has_no_pairs() -> None:
    shop = small_shop()
    vars(shop)["products"] = shop.products.head(1)
    vars(shop)["transactions"] = shop.transactions[shop.transactions["product_id"] == 1]
    with pytest.raises(TooLittleData, match="fewer than two kinds"):
        pairs(shop)


def test_a_product_that_the_catalogue_lacks_is_left_out() -> None:
    shop = small_shop()
    before = shop_trips(shop).bought.sum()
    gone = shop.products["product_id"].iloc[-1]
    vars(shop)["products"] = shop.products.iloc[:-1]
    lost = shop.transactions[shop.transactions["product_id"] == gone]["basket_id"].nunique()
    assert shop_trips(shop).bought.sum() == before - lost


def test_the_courses_shop() -> None:
    shop = load_shop()
    found = pairs(shop)
    text = {(f"{one.first} / {one.second}", one.relation) for one in found}
    assert any("SHAMPOO" in pair and "CONDITIONER" in pair and kind == "complements" for pair, kind in text)
    assert any("FROSTING" in pair and "CAKE MIX" in pair and kind == "complements" for pair, kind in text)
    assert any("EGGS - LARGE" in pair and "EGGS - MEDIUM" in pair and kind == "substitutes" for pair, kind in text)
    assert all(one.lower <= one.lift <= one.upper for one in found)
    departments = dict(zip(shop.products["category"], shop.products["department"], strict=True))
    assert all(set(one.categories) <= set(departments) for one in found)


def test_pairs_of_one_half_of_the_year_hold_in_the_other() -> None:
    trips = shop_trips(load_shop())
    tables = []
    for later in (False, True):
        part = (trips.period % 4 >= 3) | (trips.period % 4 == 0) if later else np.isin(trips.period % 4, (1, 2))
        tables.append(pair_table(trips.part(part)).set_index(["first", "second"]))
    both = tables[0].join(tables[1]["lift"], rsuffix="_later", how="inner")
    for relation, direction in (("substitutes", -1), ("complements", 1)):
        kept = both[both["relation"] == relation]
        assert len(kept) >= 5
        assert (direction * np.log(kept["lift_later"]) > 0).mean() > 0.9
