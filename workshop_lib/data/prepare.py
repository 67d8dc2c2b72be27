"""Raw files to the course's tables, once, cached as parquet.

DuckDB reads the large files in place: the 21 million promotion rows never become a DataFrame.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import pandas as pd
from pyarrow import parquet

from workshop_lib.data import quality, schemas
from workshop_lib.data.schemas import DataError
from workshop_lib.data.sources import Source, find_source
from workshop_lib.files import atomic_path
from workshop_lib.progress import steps
from workshop_lib.settings import settings

TABLES = ("transactions", "daily_sales", "products", "households")
RECIPE = 1
"""Raised whenever the preparation changes, so that older caches are rebuilt."""
POPULARITY_WEEKS = 13
"""Weeks of sales that say how much of a category a promoted product stands for."""


@dataclass(frozen=True)
class Manifest:
    """What a set of prepared tables was made from."""

    recipe: int
    fingerprint: str
    stamp: dict[str, list[float]]
    timezone: str
    rows: dict[str, int]
    first_day: str
    last_day: str


def prepared(*, rebuild: bool = False) -> Manifest:
    """Prepare the tables unless the cache is current.

    Args:
        rebuild: prepare even when the cache is current.

    Returns:
        The manifest of the tables in ``settings.data_dir``.

    Raises:
        DataError: when the raw files cannot be used; the last good tables stay in place.
    """
    source = find_source()
    manifest = None if rebuild else _read_manifest(settings.data_dir)
    if manifest and (manifest.recipe, manifest.stamp, manifest.timezone) == (
        RECIPE,
        source.stamp(),
        settings.timezone,
    ):
        return manifest
    with atomic_path(settings.data_dir) as draft:
        draft.mkdir()
        return _prepare(source, draft)


def load(table: str, columns: list[str] | None = None) -> pd.DataFrame:
    """Load a prepared table, preparing it first if need be.

    Args:
        table: one of :data:`TABLES`; their columns are documented in ``workshop_lib.data.schemas``.
        columns: the columns to read; all by default.

    Raises:
        DataError: when the raw files cannot be used.
        KeyError: when there is no such table.
    """
    if table not in TABLES:
        raise KeyError(f"There is no table {table!r}; the tables are {', '.join(TABLES)}.")
    prepared()
    return pd.read_parquet(settings.data_dir / f"{table}.parquet", columns=columns)


def _read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a finished preparation; ``None`` when there is none that can be used."""
    try:
        manifest = Manifest(**json.loads((folder / "manifest.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return manifest if all((folder / f"{table}.parquet").is_file() for table in TABLES) else None


def _prepare(source: Source, folder: Path) -> Manifest:
    """Write all tables and the manifest into ``folder``."""
    # In memory, two threads: the raw files are read in place, only results are kept.
    with duckdb.connect(config={"memory_limit": "3GB"}) as db:
        db.execute("SET enable_progress_bar = false")  # steps() shows one of its own
        tasks: list[tuple[str, Callable[[], object]]] = [
            ("check and clean the sales lines", lambda: _sales_lines(db, source)),
            ("aggregate the promotions", lambda: _promotion_shares(db, source)),
            ("sales per category and day", lambda: _write(folder, "daily_sales", _daily_sales(db))),
            ("products", lambda: _write(folder, "products", _products(db))),
            ("households", lambda: _write(folder, "households", _households(db, source))),
            ("sales lines", lambda: _write(folder, "transactions", db.sql("FROM lines ORDER BY ALL").df())),
            ("fingerprint", source.fingerprint),
        ]
        results = [task() for task in steps("Preparing the data", tasks)]
        first, last = _one_row(db.sql("SELECT min(date), max(date) FROM lines"))
    manifest = Manifest(
        recipe=RECIPE,
        fingerprint=str(results[-1]),
        stamp=source.stamp(),
        timezone=settings.timezone,
        rows={table: parquet.read_metadata(folder / f"{table}.parquet").num_rows for table in TABLES},
        first_day=str(first),
        last_day=str(last),
    )
    (folder / "manifest.json").write_text(json.dumps(manifest.__dict__, indent=1), encoding="utf-8")
    return manifest


def _one_row(result: duckdb.DuckDBPyRelation) -> tuple[date, date]:
    row = result.fetchone()
    if row is None or row[0] is None:
        raise DataError("No sales line is left after cleaning. Look at the quality report: measure(…).rules.")
    return row[0], row[1]


def _write(folder: Path, table: str, frame: pd.DataFrame) -> None:
    frame.to_parquet(folder / f"{table}.parquet", index=False)


def _sales_lines(db: duckdb.DuckDBPyConnection, source: Source) -> None:
    """Create ``lines``: clean sales lines with category, local date and week since the first Monday."""
    transactions, catalogue = source.read("transactions"), source.read("products")
    kept, products = quality.clean(transactions, catalogue)
    # Optional columns that a learner's file lacks are there all the same: no discount, no value.
    discounts = ("retail_disc", "coupon_disc", "coupon_match_disc")
    details = ("product_type", "brand", "package_size")
    kept = kept.assign(**{name: kept[name].fillna(0) if name in kept else 0.0 for name in discounts})
    products = products.assign(**{name: products.get(name) for name in details})
    local = kept["transaction_timestamp"]
    if source.utc:
        local = local.dt.tz_localize("UTC").dt.tz_convert(settings.timezone).dt.tz_localize(None)
    kept = kept.assign(local_time=local)
    db.register("kept", kept)
    db.register("raw_products", products)
    # Without the casts an absent column, empty throughout, would become one of numbers.
    db.sql(
        """
        CREATE TABLE catalogue AS
        SELECT product_id, department, product_category, CAST(product_type AS VARCHAR) AS product_type,
               CAST(brand AS VARCHAR) AS brand, CAST(package_size AS VARCHAR) AS package_size
        FROM raw_products
        """
    )
    db.sql(
        """
        CREATE TABLE lines AS
        WITH first AS (SELECT date_trunc('week', min(local_time)) AS monday FROM kept)
        SELECT household_id, store_id, basket_id, product_id,
               product_category AS category, department,
               local_time, CAST(local_time AS DATE) AS date,
               CAST(date_diff('week', monday, local_time) + 1 AS INTEGER) AS week,
               quantity AS units, sales_value AS revenue,
               retail_disc + coupon_disc + coupon_match_disc AS discount
        FROM kept JOIN catalogue USING (product_id), first
        """
    )


def _promotion_shares(db: duckdb.DuckDBPyConnection, source: Source) -> None:
    """Create ``promotion_shares``: the part of a category's sales that is promoted in a week.

    A product counts by its share of the category's units in the 13 weeks that end two weeks before
    (what is surely known seven days ahead), times the share of stores that promote it.
    """
    if "promotions" not in source.files:
        db.sql(
            "CREATE TABLE promotion_shares (category VARCHAR, week INTEGER, display_share DOUBLE,"
            " mailer_share DOUBLE, front_page_share DOUBLE)"
        )
        return
    file = source.files["promotions"]
    reader = "read_parquet" if file.suffix == ".parquet" else "read_csv"
    if not source.utc:
        source.read("promotions")  # a learner's file is checked; the course's is known and large
    # D, H and Z are the codes of the mailer's front: front page, wrap front, free on front page.
    db.sql(
        f"""
        CREATE TABLE promotion_shares AS
        WITH promoted AS (
            SELECT product_id, week,
                   count(*) FILTER (CAST(display_location AS VARCHAR) <> '0') AS displays,
                   count(*) FILTER (CAST(mailer_location AS VARCHAR) <> '0') AS mailers,
                   count(*) FILTER (CAST(mailer_location AS VARCHAR) IN ('D', 'H', 'Z')) AS front_pages
            FROM {reader}(?) GROUP BY ALL
        ),
        stores AS (SELECT count(DISTINCT store_id) AS n FROM {reader}(?)),
        sold AS (SELECT category, product_id, week, sum(units) AS units FROM lines GROUP BY ALL),
        weeks AS (SELECT DISTINCT week FROM lines),
        popular AS (
            SELECT category, product_id, weeks.week, sum(units) AS units
            FROM sold JOIN weeks ON sold.week BETWEEN weeks.week - 1 - {POPULARITY_WEEKS} AND weeks.week - 2
            GROUP BY ALL
        ),
        weighted AS (
            SELECT *, units / sum(units) OVER (PARTITION BY category, week) AS weight FROM popular
        )
        SELECT category, week,
               sum(weight * least(displays / n, 1)) AS display_share,
               sum(weight * least(mailers / n, 1)) AS mailer_share,
               sum(weight * least(front_pages / n, 1)) AS front_page_share
        FROM weighted JOIN promoted USING (product_id, week), stores
        GROUP BY ALL
        """,
        params=[str(file), str(file)],
    )


def _daily_sales(db: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """Every category on every day, zeros included; promotions joined by week."""
    frame = db.sql(
        """
        WITH days AS (
            SELECT CAST(unnest(generate_series(min(date), max(date), INTERVAL 1 DAY)) AS DATE) AS date FROM lines
        ),
        calendar AS (
            SELECT date, CAST(date_diff('week', (SELECT date_trunc('week', min(date)) FROM lines), date) + 1
                         AS INTEGER) AS week,
                   date IN (SELECT date FROM lines) AS open
            FROM days
        ),
        -- a category name that two departments use belongs to the one that sells more of it
        owners AS (
            SELECT category, arg_max(department, units) AS department FROM (
                SELECT category, department, sum(units) AS units FROM lines GROUP BY ALL
            ) GROUP BY ALL
        ),
        sold AS (
            SELECT category, date, sum(units) AS units, sum(revenue) AS revenue, sum(discount) AS discount,
                   count(DISTINCT basket_id) AS baskets
            FROM lines GROUP BY ALL
        )
        SELECT CAST(calendar.date AS TIMESTAMP) AS date, category, owners.department,
               coalesce(units, 0) AS units, coalesce(revenue, 0) AS revenue, coalesce(discount, 0) AS discount,
               coalesce(baskets, 0) AS baskets,
               CASE WHEN units > 0 THEN revenue / units END AS price,
               coalesce(display_share, 0) AS display_share, coalesce(mailer_share, 0) AS mailer_share,
               coalesce(front_page_share, 0) AS front_page_share, open
        FROM calendar CROSS JOIN owners
        LEFT JOIN sold USING (category, date)
        LEFT JOIN promotion_shares USING (category, week)
        ORDER BY category, date
        """
    ).df()
    frame["date"] = frame["date"].astype("datetime64[ns]")
    # On a day without sales the last price charged stands; before the first sale, the first one.
    frame["price"] = frame.groupby("category")["price"].transform(lambda price: price.ffill().bfill())
    shares = ["display_share", "mailer_share", "front_page_share"]
    frame[shares] = frame[shares].clip(0, 1)  # sums of weights may exceed 1 in the last digit
    return schemas.DAILY_SALES.validate(frame)


def _products(db: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """The catalogue's merchandise with units, revenue and average price."""
    frame = db.sql(
        """
        SELECT product_id, department, product_category AS category, product_type, brand, package_size,
               coalesce(sold.units, 0) AS units, coalesce(sold.revenue, 0) AS revenue,
               CASE WHEN sold.revenue > 0 THEN sold.revenue / sold.units END AS price
        FROM catalogue
        LEFT JOIN (
            SELECT product_id, sum(units) AS units, sum(revenue) AS revenue FROM lines GROUP BY ALL
        ) sold USING (product_id)
        WHERE NOT list_contains(?, product_category)
        ORDER BY product_id
        """,
        params=[list(schemas.NON_MERCHANDISE)],
    ).df()
    return schemas.PRODUCTS.validate(frame)


def _households(db: duckdb.DuckDBPyConnection, source: Source) -> pd.DataFrame:
    """Recency, frequency, money; demographics and campaign contact where there are any."""
    frame = db.sql(
        """
        SELECT household_id,
               CAST(min(date) AS TIMESTAMP) AS first_purchase, CAST(max(date) AS TIMESTAMP) AS last_purchase,
               date_diff('day', max(date), (SELECT max(date) FROM lines)) AS recency_days,
               count(DISTINCT basket_id) AS baskets, sum(revenue) AS spend
        FROM lines GROUP BY ALL ORDER BY household_id
        """
    ).df()
    frame = frame.astype({"first_purchase": "datetime64[ns]", "last_purchase": "datetime64[ns]"})
    people = ["age", "income", "household_size"]
    if "households" in source.files:
        frame = frame.merge(source.read("households"), on="household_id", how="left")
    frame = frame.reindex(columns=[*frame.columns, *(name for name in people if name not in frame)])
    frame[people] = frame[people].astype(object)
    for table, column in (("campaigns", "campaigns"), ("coupon_redemptions", "coupons_redeemed")):
        counts = pd.Series(dtype=int)
        if table in source.files:
            counts = pd.read_parquet(source.files[table], columns=["household_id"])["household_id"].value_counts()
        frame[column] = frame["household_id"].map(counts).fillna(0).astype(int)
    return schemas.HOUSEHOLDS.validate(frame)
