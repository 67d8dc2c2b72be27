"""What the tables must look like: the files that come in, the rules for good rows, the tables that go out.

Two kinds of expectation are kept apart. A *structure* that does not hold (a column is missing, a
price is text) stops the course with a :class:`DataError`: nothing sensible can be computed. A *rule*
that single rows break (nothing was sold, the product is unknown) is counted in the quality report,
and the cleaning drops those rows.
"""

from __future__ import annotations

import pandas as pd
import pandera.pandas as pa

# A household basket line of more pieces than this is a measuring unit (fuel is counted in
# thousandths of a gallon), not a purchase.
MAX_UNITS_PER_LINE = 100

# Categories of the catalogue that are no merchandise: coupons, fuel and the till's own bookings.
NON_MERCHANDISE = ("COUPON/MISC ITEMS", "COUPON", "FUEL", "MISCELLANEOUS", "MISCELLANEOUS(CORP USE ONLY)")


class DataError(ValueError):
    """A data file cannot be used; the message names file, column, rule, rows and offending values."""


def _amount(*checks: pa.Check, required: bool = True) -> pa.Column:
    return pa.Column(float, [pa.Check.ge(0, error="0 or more"), *checks], coerce=True, required=required)


def _count() -> pa.Column:
    return pa.Column(float, pa.Check.ge(0, error="0 or more"), coerce=True)


def _text(required: bool = True, nullable: bool = True) -> pa.Column:
    return pa.Column(object, nullable=nullable, required=required)


def _identifier(unique: bool = False) -> pa.Column:
    # Numbers or text: a shop's own keys come in both kinds, and only their equality matters.
    return pa.Column(None, nullable=False, unique=unique)


RAW = {
    "transactions": pa.DataFrameSchema(
        {
            "household_id": _identifier(),
            "store_id": _identifier(),
            "basket_id": _identifier(),
            "product_id": _identifier(),
            "quantity": _count(),
            "sales_value": _amount(),
            "retail_disc": _amount(required=False),
            "coupon_disc": _amount(required=False),
            "coupon_match_disc": _amount(required=False),
            "transaction_timestamp": pa.Column("datetime64[ns]", coerce=True),
        },
    ),
    "products": pa.DataFrameSchema(
        {
            "product_id": _identifier(unique=True),
            "department": _text(),
            "product_category": _text(),
            "product_type": _text(required=False),
            "brand": _text(required=False),
            "package_size": _text(required=False),
        },
    ),
    "promotions": pa.DataFrameSchema(
        {
            "product_id": _identifier(),
            "store_id": _identifier(),
            "week": pa.Column(int, pa.Check.ge(1, error="1 or more"), coerce=True),
            "display_location": _text(nullable=False),
            "mailer_location": _text(nullable=False),
        },
    ),
    "households": pa.DataFrameSchema(
        {
            "household_id": _identifier(unique=True),
            "age": _text(required=False),
            "income": _text(required=False),
            "household_size": _text(required=False),
        },
    ),
}
"""Structure of each file a learner may bring; columns beyond these are ignored."""

REQUIRED_COLUMNS = {
    "transactions": ("household_id", "basket_id", "product_id", "quantity", "sales_value", "transaction_timestamp"),
    "products": ("product_id", "department", "product_category"),
}
"""Columns whose values the course cannot do without; completeness counts these."""

RULES = pa.DataFrameSchema(
    {
        "quantity": pa.Column(
            float,
            [
                pa.Check(lambda quantity: quantity > 0, name="quantity_positive"),
                pa.Check(lambda quantity: quantity <= MAX_UNITS_PER_LINE, name="quantity_plausible"),
            ],
            coerce=True,
        ),
        "department": pa.Column(
            object, pa.Check(lambda name: name.notna(), name="product_in_catalogue", ignore_na=False), nullable=True
        ),
        "product_category": pa.Column(
            object,
            [
                pa.Check(lambda name: name.notna(), name="category_present", ignore_na=False),
                pa.Check(lambda name: ~name.isin(NON_MERCHANDISE), name="is_merchandise", ignore_na=False),
            ],
            nullable=True,
        ),
    }
)
"""Rules for one sales line joined with its product; each check is a rule of the quality report."""

DAILY_SALES = pa.DataFrameSchema(
    {
        "date": pa.Column("datetime64[ns]"),
        "category": pa.Column(str),
        "department": pa.Column(str),
        "units": pa.Column(float, pa.Check.ge(0)),
        "revenue": pa.Column(float, pa.Check.ge(0)),
        "discount": pa.Column(float, pa.Check.ge(0)),
        "baskets": pa.Column(int, pa.Check.ge(0)),
        "price": pa.Column(float, pa.Check.ge(0)),
        "display_share": pa.Column(float, pa.Check.in_range(0, 1)),
        "mailer_share": pa.Column(float, pa.Check.in_range(0, 1)),
        "front_page_share": pa.Column(float, pa.Check.in_range(0, 1)),
        "open": pa.Column(bool),
    },
    strict=True,
    unique=["date", "category"],
)
"""Units and money per product category and day; one row for every category on every day."""

PRODUCTS = pa.DataFrameSchema(
    {
        "product_id": pa.Column(None, unique=True),
        "department": pa.Column(str),
        "category": pa.Column(str),
        "product_type": pa.Column(object, nullable=True),
        "brand": pa.Column(object, nullable=True),
        "package_size": pa.Column(object, nullable=True),
        "units": pa.Column(float, pa.Check.ge(0)),
        "revenue": pa.Column(float, pa.Check.ge(0)),
        "price": pa.Column(float, pa.Check.gt(0), nullable=True),
    },
    strict=True,
)
"""The catalogue's merchandise with what was sold of it; price is revenue per unit, null if never sold."""

HOUSEHOLDS = pa.DataFrameSchema(
    {
        "household_id": pa.Column(None, unique=True),
        "first_purchase": pa.Column("datetime64[ns]"),
        "last_purchase": pa.Column("datetime64[ns]"),
        "recency_days": pa.Column(int, pa.Check.ge(0)),
        "baskets": pa.Column(int, pa.Check.ge(1)),
        "spend": pa.Column(float, pa.Check.ge(0)),
        "age": pa.Column(object, nullable=True),
        "income": pa.Column(object, nullable=True),
        "household_size": pa.Column(object, nullable=True),
        "campaigns": pa.Column(int, pa.Check.ge(0)),
        "coupons_redeemed": pa.Column(int, pa.Check.ge(0)),
    },
    strict=True,
)
"""Recency, frequency and money of each household on the last day, who they are, how they were contacted."""


def text_columns(table: str) -> dict[str, type]:
    """The columns of a raw table that hold text, as the ``dtype`` that ``pandas.read_csv`` takes."""
    columns = RAW[table].columns.items()
    return {name: str for name, column in columns if column.dtype is not None and str(column.dtype) == "object"}


def check_structure(table: str, frame: pd.DataFrame, file: str) -> pd.DataFrame:
    """Check a raw table's structure and bring its columns to their types.

    Args:
        table: a key of :data:`RAW`.
        frame: the table as read.
        file: the file it came from, for the message.

    Returns:
        The table with the known columns only, in their types.

    Raises:
        DataError: naming every column that breaks a rule, how many rows do, and their first values.
    """
    schema = RAW[table]
    missing = [name for name, column in schema.columns.items() if column.required and name not in frame]
    if missing:
        raise DataError(
            f"{file}: column {', '.join(missing)} is missing. It has: {', '.join(map(str, frame.columns))}."
            " README.md ('Your own data') lists the columns."
        )
    if frame.empty:
        raise DataError(f"{file}: it holds no rows.")
    known = frame[[name for name in schema.columns if name in frame]]
    try:
        numbers = [name for name in text_columns(table) if name in known and known[name].dtype != object]
        # A text column whose values all look like numbers, such as mailer codes 0 and 1, is still text.
        known = known.assign(**{name: known[name].map(str, na_action="ignore").astype(object) for name in numbers})
        return schema.validate(known, lazy=True)
    except pa.errors.SchemaErrors as errors:
        raise DataError("\n".join(_problems(errors.failure_cases, file))) from None


def _problems(cases: pd.DataFrame, file: str) -> list[str]:
    """One line per column and rule that the rows of a file break."""
    # A column that cannot be read as its type fails its further checks too: the first cause is enough.
    coercion = cases["check"].astype(str).str.startswith("coerce_dtype")
    lines = []
    for column, group in cases.groupby("column", sort=False):
        causes = group[coercion[group.index]] if coercion[group.index].any() else group
        for rule, broken in causes.groupby("check", sort=False):
            values = ", ".join(repr(value) for value in broken["failure_case"].head(3))
            rule = {"not_nullable": "no missing values", "field_uniqueness": "no value twice"}.get(str(rule), str(rule))
            rule = rule.replace("coerce_dtype('float64')", "numbers").replace("coerce_dtype('int64')", "whole numbers")
            rule = rule.replace("coerce_dtype('datetime64[ns]')", "dates such as 2017-01-31 18:05:00")
            lines.append(f"{file}: column {column}: needs {rule}; {len(broken):,} rows have other values: {values}.")
    return lines
