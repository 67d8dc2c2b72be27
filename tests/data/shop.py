"""A tiny shop of one's own, as the files a learner would bring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd


def tables(days: int = 60) -> dict[str, pd.DataFrame]:
    """Sixty days of sales of three products in two categories, with text identifiers."""
    rng = np.random.default_rng(0)
    dates = pd.date_range("2024-01-01 10:00", periods=days, freq="D")
    products = pd.DataFrame(
        {
            "product_id": ["p1", "p2", "p3"],
            "department": ["FRESH", "FRESH", "DRY"],
            "product_category": ["MILK", "MILK", "RICE"],
        }
    )
    transactions = pd.DataFrame(
        [
            (f"h{number % 4}", "s1", f"b{number}-{product}", product, int(rng.integers(1, 6)), 2.5, date)
            for number, date in enumerate(dates)
            for product in products["product_id"]
        ],
        columns=[
            "household_id",
            "store_id",
            "basket_id",
            "product_id",
            "quantity",
            "sales_value",
            "transaction_timestamp",
        ],
    )
    return {"transactions": transactions, "products": products}


def write(folder: Path, shop: dict[str, pd.DataFrame], kind: str = "csv") -> Path:
    """Write the tables as CSV or parquet files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in shop.items():
        if kind == "csv":
            table.to_csv(folder / f"{name}.csv", index=False)
        else:
            table.to_parquet(folder / f"{name}.parquet", index=False)
    return folder
