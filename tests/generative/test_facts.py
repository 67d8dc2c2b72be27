"""Facts of products: readable, and nothing that the catalogue does not say."""

import math
import re

import pandas as pd
import pytest

from workshop_lib import data
from workshop_lib.generative import facts
from workshop_lib.generative.facts import choose_products, describe, readable, readable_size


@pytest.mark.parametrize(
    ("catalogue", "words"),
    [
        ("FRZN BREADED PREPARED CHICK", "frozen breaded prepared chicken"),
        ("PNT BTR/JELLY/JAMS", "peanut butter or jelly or jams"),
        ("EGGS - X-LARGE", "eggs, extra large"),
        ("PREPARED BEANS - BAKED W/PORK", "prepared beans, baked with pork"),
        ("MACARONI & CHEESE DNRS", "macaroni and cheese dinners"),
        ("CANNED CAT FOOD (9 LIVES/FRISK", "canned cat food"),
        ("CANDY BARS (MULTI PACK)", "candy bars"),
        ("BEANS GREEN: FS/WHL/CUT", "beans green, whole or cut"),
        ("PIZZA/ECONOMY", "pizza"),
        ("FRZN MULTI SERVE ENTREES ALL", "frozen multi serve entrees"),
        ("WATER - CARBONATED/FLVRD DRINK", "water, carbonated or flavored drink"),
        ("Aceite de oliva", "aceite de oliva"),
        ("", ""),
    ],
)
def test_catalogue_texts_become_words(catalogue: str, words: str) -> None:
    assert readable(catalogue) == words


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ("10.5 OZ", "10.5 ounces"),
        (".16 OZ", "0.16 ounces"),
        ("1 LB", "1 pound"),
        ("1 GA", "1 gallon"),
        ("1 DZ", "1 dozen"),
        ("57 SQ FT", "57 square feet"),
        ("1 SQ FT", "1 square foot"),
        ("160 CT", "160 pieces"),
        ("750 ml", "750 milliliters"),
        ("8 1/2 OZ", None),
        ("974246  PK", "974246 packs"),
        ("L     9 OZ", None),
        ("GAL", None),
        ("0 OZ", None),
        ("", None),
    ],
)
def test_package_sizes_become_words_or_are_not_used(size: str, words: str | None) -> None:
    assert readable_size(size) == words


def test_a_row_becomes_facts() -> None:
    row = {
        "category": "OLIVES",
        "product_type": "GREEN OLIVES",
        "brand": "Private",
        "package_size": "7 OZ",
        "price": 1.912,
    }
    assert describe(row) == {"product": "green olives", "brand": "store brand", "size": "7 ounces", "price": "$1.91"}


@pytest.mark.parametrize("empty", [None, math.nan, ""])
def test_what_a_row_does_not_know_is_no_fact(empty: object) -> None:
    row = {"category": "OLIVES", "product_type": empty, "brand": empty, "package_size": empty, "price": math.nan}
    assert describe(row) == {"product": "olives"}
    assert describe({"category": "OLIVES"}) == {"product": "olives"}


def test_another_brand_keeps_its_name() -> None:
    assert describe({"category": "OLIVES", "brand": "La Española"})["brand"] == "La Española"


def test_real_products_are_many_different_and_complete() -> None:
    chosen = choose_products(36)
    assert len({product.category for product in chosen}) == 36
    assert all(set(product.facts) == {"product", "brand", "size", "price"} for product in chosen)
    names = {product.facts["product"] for product in chosen}
    assert len(names) >= 34
    assert {"peanut butter", "tuna", "eggs, extra large"} <= names
    assert not [name for name in names if re.search(r"[A-Z()/&:]|\b(frzn|chick|misc|all)\b", name)]


def test_the_choice_is_the_same_each_time_and_shuffled_by_the_seed() -> None:
    def keys(**options: int) -> list[object]:
        return [product.product_id for product in choose_products(20, **options)]

    assert keys() == keys()
    assert keys(seed=1) != keys(seed=2) and set(keys(seed=1)) == set(keys(seed=2))


def test_facts_are_those_of_the_catalogue() -> None:
    catalogue = data.load("products").set_index("product_id")
    for product in choose_products(20):
        row = catalogue.loc[product.product_id]
        assert product.facts["price"] == f"${row['price']:.2f}"
        assert float(product.facts["size"].split()[0]) == float(re.findall(r"[\d.]+", row["package_size"])[0])
        assert not facts.NO_AUTOMATIC_TEXT.search(row["category"]) and row["department"] not in facts.CASE_SIZES


def catalogue(**columns: object) -> pd.DataFrame:
    rows = {
        "product_id": [1, 2, 3, 4, 5, 6],
        "department": ["GROCERY"] * 5 + ["PRODUCE"],
        "category": ["OLIVES", "OLIVES", "TEAS", "BEERS/ALES", "SOUP", "CITRUS"],
        "product_type": ["GREEN OLIVES", "BLACK OLIVES", "TEA BAGS", "BEER", "CHICKEN SOUP", "LIMES"],
        "brand": "National",
        "package_size": ["7 OZ", "6 OZ", "20 CT", "12 OZ", "1 LB", "36 CT"],
        "units": [10.0, 30, 20, 90, 5, 90],
        "revenue": 1.0,
        "price": [1.0, 2, 3, 4, 5, 6],
    }
    return pd.DataFrame(rows | columns)


def ids(count: int, products: pd.DataFrame) -> set[object]:
    return {product.product_id for product in choose_products(count, products)}


def test_best_sellers_of_the_largest_categories_come_first() -> None:
    assert ids(1, catalogue()) == {2}
    assert ids(3, catalogue()) == {2, 3, 5}
    assert ids(4, catalogue()) == {1, 2, 3, 5}, "few categories: their second best sellers follow"


def test_too_few_suitable_products_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match=r"4 suitable products; 5 were asked for"):
        choose_products(5, catalogue())


def test_own_data_without_optional_columns() -> None:
    bare = catalogue().drop(columns=["product_type", "brand", "package_size"])
    assert ids(3, bare) == {2, 3, 5}
    assert {product.facts["product"] for product in choose_products(3, bare)} == {"olives", "teas", "soup"}
    empty = catalogue(product_type=None, brand=None, package_size=None)
    assert set(choose_products(3, empty)[0].facts) == {"product", "price"}


def test_the_table_has_a_row_per_product_and_no_nan() -> None:
    table = facts.as_table(choose_products(3, catalogue(package_size=["7 OZ", "6 OZ", "20 CT", "", "1 LB", ""])))
    assert set(table.index) == {2, 3, 5} and list(table) == ["product", "brand", "size", "price"]
    bare = [
        facts.ProductFacts(1, "A", {"product": "a"}),
        facts.ProductFacts(2, "B", {"product": "b", "size": "1 pound"}),
    ]
    assert facts.as_table(bare)["size"].to_list() == ["", "1 pound"]
