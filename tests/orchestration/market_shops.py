"""Small shops with a known truth for the tests of the market analysis."""

import numpy as np
import pandas as pd

from workshop_lib.orchestration.shop import Shop

DAYS = pd.date_range("2017-01-01", "2017-12-31")
CATEGORIES = 30


def small_shop(
    factors: dict[str, np.ndarray] | None = None, days: pd.DatetimeIndex = DAYS, seed: int = 3, mean: float = 60
) -> Shop:
    """A shop of 30 categories in two departments, without trend or season but for what the factors bring.

    Args:
        factors: category and what its units are multiplied by, shape (days,).
        days: that the sales cover.
        seed: of the draw.
        mean: units of a category and day.
    """
    rng = np.random.default_rng(seed)
    weekday = 1 + 0.3 * (days.dayofweek.to_numpy() >= 5)
    tables = []
    for place in range(CATEGORIES):
        name = f"CATEGORY {place:02}"
        units = rng.poisson(mean * weekday * (factors or {}).get(name, np.ones(len(days)))).astype(float)
        units[days == pd.Timestamp("2017-12-25")] = 0
        tables.append(
            pd.DataFrame({
                "date": days, "category": name, "department": "FOOD" if place % 2 else "HOME", "units": units,
                "revenue": 2 * units, "discount": 0.0, "baskets": units.astype(int), "price": 2.0,
                "display_share": 0.05, "mailer_share": 0.01 * place, "front_page_share": 0.0,
                "open": days != pd.Timestamp("2017-12-25"),
            })
        )  # fmt: skip
    return shop_of(pd.concat(tables, ignore_index=True))


def shop_of(daily_sales: pd.DataFrame) -> Shop:
    """A shop whose receipts name a few kinds of products of its categories."""
    names = sorted(daily_sales["category"].unique())
    departments = daily_sales.drop_duplicates("category").set_index("category")["department"]
    products = pd.DataFrame({
        "product_id": range(1, len(names) + 1), "category": names, "department": departments[names].to_numpy(),
        "product_type": "PLAIN",
    })  # fmt: skip
    rng = np.random.default_rng(8)
    basket = np.repeat(np.arange(600), 4)
    transactions = pd.DataFrame({
        "household_id": basket // 20, "basket_id": basket, "product_id": rng.integers(1, len(names) + 1, len(basket)),
        "date": pd.Timestamp("2017-02-01"),
    })  # fmt: skip
    shop = Shop()
    vars(shop).update(
        daily_sales=daily_sales, categories=names, departments=sorted(set(departments)), products=products,
        transactions=transactions,
    )  # fmt: skip
    return shop
