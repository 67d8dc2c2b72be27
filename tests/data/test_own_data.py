"""A learner's own files: the happy path, and a clear message for each kind of wrong file."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.data import shop
from workshop_lib import data
from workshop_lib.data import DataError, prepare

Use = Callable[..., object]


@pytest.fixture
def own(tmp_path: Path, use_settings: Use) -> Callable[..., Path]:
    """Write a shop's files and point the settings at them."""

    def bring(tables: dict[str, pd.DataFrame], kind: str = "csv") -> Path:
        folder = shop.write(tmp_path / "shop", tables, kind)
        use_settings(data=folder)
        return folder

    return bring


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_two_files_are_enough(own: Callable[..., Path], kind: str) -> None:
    tables = shop.tables()
    own(tables, kind)
    sales = data.load("daily_sales")
    assert len(sales) == 60 * 2
    milk = sales[sales["category"] == "MILK"].set_index("date")["units"]
    day = tables["transactions"]["transaction_timestamp"].dt.normalize() == "2024-01-05"
    expected = tables["transactions"][day & tables["transactions"]["product_id"].isin(["p1", "p2"])]["quantity"].sum()
    assert milk["2024-01-05"] == expected
    assert (sales[["display_share", "mailer_share", "front_page_share"]] == 0).all().all()
    households = data.load("households").set_index("household_id")
    assert sorted(households.index) == ["h0", "h1", "h2", "h3"]
    assert households.loc["h3", "recency_days"] == 0
    assert households["age"].isna().all()


def test_own_timestamps_are_local_times(own: Callable[..., Path]) -> None:
    tables = shop.tables()
    tables["transactions"]["transaction_timestamp"] = pd.to_datetime("2024-03-09 23:30")
    own(tables)
    assert data.prepared().first_day == data.prepared().last_day == "2024-03-09"


def test_promotions_weigh_products_by_what_they_usually_sell(own: Callable[..., Path]) -> None:
    tables = shop.tables()
    tables["transactions"]["quantity"] = tables["transactions"]["product_id"].map({"p1": 3, "p2": 1, "p3": 2})
    # Week 5 (29 January to 4 February): the mailer of one of two stores shows p1, three quarters of the milk sold.
    tables["promotions"] = pd.DataFrame(
        {
            "product_id": ["p1", "p3"],
            "store_id": ["s1", "s2"],
            "week": [5, 9],
            "display_location": ["0", "3"],
            "mailer_location": ["A", "0"],
        }
    )
    own(tables)
    sales = data.load("daily_sales").set_index(["category", "date"])
    assert sales.loc[("MILK", "2024-01-31"), "mailer_share"] == pytest.approx(0.75 / 2)
    assert sales.loc[("MILK", "2024-02-05"), "mailer_share"] == 0
    assert sales.loc[("RICE", "2024-02-26"), "display_share"] == pytest.approx(0.5)


WRONG = {
    "a missing column": (
        lambda t: t["transactions"].drop(columns="quantity", inplace=True),
        ["transactions.csv: column quantity is missing", "household_id"],
    ),
    "text in a number column": (
        lambda t: t.update(transactions=t["transactions"].astype({"sales_value": str}).replace("2.5", "cheap")),
        ["transactions.csv: column sales_value: needs numbers; 180 rows", "'cheap'"],
    ),
    "a negative amount": (
        lambda t: t["transactions"].__setitem__("sales_value", [-1.0] * 2 + [2.5] * 178),
        ["transactions.csv: column sales_value: needs 0 or more; 2 rows", "-1.0"],
    ),
    "a date that is none": (
        lambda t: t.update(
            transactions=t["transactions"].astype({"transaction_timestamp": str}).replace("2024-01-02 10:00:00", "soon")
        ),
        ["transactions.csv: column transaction_timestamp: needs dates", "'soon'"],
    ),
    "a missing identifier": (
        lambda t: t["transactions"].__setitem__("household_id", [None] + ["h1"] * 179),
        ["transactions.csv: column household_id: needs no missing values; 1 rows"],
    ),
    "a product twice": (
        lambda t: t.update(products=pd.concat([t["products"], t["products"].head(1)])),
        ["products.csv: column product_id: needs no value twice", "'p1'"],
    ),
    "no rows": (lambda t: t.update(products=t["products"].head(0)), ["products.csv: it holds no rows"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_named_with_column_rule_and_values(
    own: Callable[..., Path], case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, expected = WRONG[case]
    tables = shop.tables()
    spoil(tables)
    own(tables)
    with pytest.raises(DataError) as failure:
        data.prepared()
    for part in expected:
        assert part in str(failure.value)
    assert not list((tmp_path / "home").rglob("*.parquet"))


def test_a_missing_and_a_double_file_are_named(own: Callable[..., Path]) -> None:
    tables = shop.tables()
    folder = own({"transactions": tables["transactions"]})
    with pytest.raises(DataError, match=r"holds neither products\.parquet nor products\.csv"):
        data.prepared()
    shop.write(folder, tables, "csv")
    shop.write(folder, tables, "parquet")
    with pytest.raises(DataError, match=r"holds transactions\.parquet and transactions\.csv"):
        data.prepared()


def test_a_file_that_is_no_table_is_named(own: Callable[..., Path]) -> None:
    folder = own(shop.tables(), "parquet")
    (folder / "products.parquet").write_text("not parquet")
    with pytest.raises(DataError, match=r"products\.parquet: it cannot be read as parquet"):
        data.prepared()


def test_a_changed_file_is_prepared_again_and_a_broken_one_leaves_the_last_good_tables(
    own: Callable[..., Path], tmp_path: Path
) -> None:
    tables = shop.tables()
    folder = own(tables)
    first = data.prepared()
    assert data.prepared() == first
    shop.write(folder, shop.tables(days=70))
    assert data.prepared().rows["daily_sales"] == 140
    (folder / "products.csv").write_text("product_id\n1\n")
    with pytest.raises(DataError):
        data.prepared()
    kept = pd.read_parquet(tmp_path / "home" / "data-own" / "daily_sales.parquet")
    assert len(kept) == 140


def test_a_new_recipe_makes_the_tables_anew(own: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    own(shop.tables())
    data.prepared()
    monkeypatch.setattr(prepare, "RECIPE", prepare.RECIPE + 1)
    assert data.prepared().recipe == prepare.RECIPE


def test_data_without_a_good_row_says_so(own: Callable[..., Path]) -> None:
    tables = shop.tables()
    tables["transactions"]["quantity"] = 0
    own(tables)
    with pytest.raises(DataError, match="No sales line is left after cleaning"):
        data.prepared()


def test_an_unknown_table_is_named() -> None:
    with pytest.raises(KeyError, match="no table 'sales'"):
        data.load("sales")
