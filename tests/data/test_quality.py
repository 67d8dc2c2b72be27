"""Completeness and consistency on tables small enough to count by hand."""

import pandas as pd
import pytest

from tests.data import shop
from workshop_lib import data


def spoiled() -> tuple[pd.DataFrame, pd.DataFrame]:
    """180 good sales lines of which five are spoiled, each in its own way."""
    tables = shop.tables()
    lines, products = tables["transactions"], tables["products"]
    products.loc[3] = ["p4", "FRESH", None]
    products.loc[4] = ["p5", "FUEL", "FUEL"]
    lines["quantity"] = 2.0
    lines.loc[0, "quantity"] = 0
    lines.loc[1, "quantity"] = 5000
    lines.loc[2, "product_id"] = "unknown"
    lines.loc[3, "product_id"] = "p4"
    lines.loc[4, "product_id"] = "p5"
    return lines, products


def test_each_rule_finds_its_rows() -> None:
    report = data.measure(*spoiled())
    assert report.rules["rows"].to_dict() == {
        "quantity_positive": 1,
        "quantity_plausible": 1,
        "product_in_catalogue": 1,
        "category_present": 2,  # an unknown product has no category either
        "is_merchandise": 1,
    }
    assert report.offending("quantity_positive").index.tolist() == [0]
    assert report.offending("category_present").index.tolist() == [2, 3]
    assert report.consistency == pytest.approx(1 - 5 / 180)
    units = 180 * 2 - 2 * 2 + 5000
    assert report.rules.loc["quantity_plausible", "share_of_units"] == pytest.approx(5000 / units)


def test_completeness_counts_required_values_only() -> None:
    lines, products = spoiled()
    report = data.measure(lines, products.assign(brand=None))
    values = 6 * len(lines) + 3 * len(products)
    assert report.completeness == pytest.approx(1 - 1 / values)


def test_cleaning_drops_the_spoiled_rows_and_nothing_else() -> None:
    lines, products = spoiled()
    kept, catalogue = data.clean(lines, products)
    assert kept.index.tolist() == list(range(5, 180))
    assert catalogue["product_id"].tolist() == ["p1", "p2", "p3", "p5"]
    pd.testing.assert_frame_equal(kept, lines.loc[5:])
    assert data.measure(kept, catalogue).consistency == 1


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(KeyError, match="no rule 'nonsense'"):
        data.measure(*spoiled()).offending("nonsense")
