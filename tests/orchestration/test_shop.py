"""The shop as the chains know it."""

import pytest

from workshop_lib.orchestration.shop import Shop, UnknownThing, load_shop


@pytest.fixture(scope="module")
def shop() -> Shop:
    return load_shop()


def test_there_is_one_shop_per_process(shop: Shop) -> None:
    assert load_shop() is shop
    assert shop.products is shop.products


def test_categories_come_by_size_and_can_be_forecast(shop: Shop) -> None:
    units = shop.daily_sales.groupby("category")["units"].sum()
    assert len(shop.categories) >= 40
    assert units[shop.categories].is_monotonic_decreasing
    assert len(set(shop.departments)) == len(shop.departments) > 3


@pytest.mark.parametrize("name", ["SOFT DRINKS", "soft drinks", "  Soft Drinks "])
def test_capitals_and_blanks_do_not_matter(shop: Shop, name: str) -> None:
    assert shop.find_category(name) == "SOFT DRINKS"


def test_a_misspelt_category_is_answered_with_near_ones(shop: Shop) -> None:
    with pytest.raises(UnknownThing, match=r"no category SOFT DRINX\. Did you mean SOFT DRINKS") as caught:
        shop.find_category("SOFT DRINX")
    assert caught.value.suggestions[0] == "SOFT DRINKS"


def test_nonsense_is_answered_with_the_largest(shop: Shop) -> None:
    with pytest.raises(UnknownThing) as caught:
        shop.find_category("§§§")
    assert list(caught.value.suggestions) == shop.categories[:3]


def test_a_long_name_does_not_fill_the_message(shop: Shop) -> None:
    with pytest.raises(UnknownThing) as caught:
        shop.find_category("x" * 10_000)
    assert len(str(caught.value)) < 300


def test_products_and_households_are_found_by_number_or_text(shop: Shop) -> None:
    product, household = shop.products["product_id"].iloc[5], shop.households["household_id"].iloc[5]
    assert shop.find_product(int(product))["product_id"] == shop.find_product(f" {product} ")["product_id"] == product
    assert shop.find_household(str(household))["household_id"] == household
    with pytest.raises(UnknownThing, match="no product 0"):
        shop.find_product(0)
    with pytest.raises(UnknownThing, match="no household"):
        shop.find_household("7; drop table households")
