"""Data quality in two figures, and the rows behind them.

*Completeness* is the share of required values that are present, *consistency* the share of rows that
satisfy every rule (the terms of ISO/IEC 25012). One table of rules serves report and cleaning.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import pandera.pandas as pa

from workshop_lib.data.schemas import REQUIRED_COLUMNS, RULES

RULE_NAMES = tuple(check.name or "" for column in RULES.columns.values() for check in column.checks)


@dataclass(frozen=True)
class QualityReport:
    """What is present and what is consistent in the sales lines and the catalogue."""

    values: pd.DataFrame
    """Per table and column: rows, missing, share present, whether the column is required."""
    rules: pd.DataFrame
    """Per rule: rows that break it, their share of all rows, and their share of all units."""
    broken: pd.DataFrame
    """Rule and row label of every broken rule."""
    lines: pd.DataFrame
    """The sales lines joined with their products, as they were checked."""

    @property
    def completeness(self) -> float:
        """Share of the required values that are present."""
        required = self.values[self.values["required"]]
        return 1 - float(required["missing"].sum() / required["rows"].sum())

    @property
    def consistency(self) -> float:
        """Share of sales lines that satisfy every rule."""
        return 1 - self.broken["row"].nunique() / len(self.lines)

    def offending(self, rule: str) -> pd.DataFrame:
        """The rows that break a rule.

        Raises:
            KeyError: when there is no rule of that name.
        """
        if rule not in RULE_NAMES:
            raise KeyError(f"There is no rule {rule!r}; the rules are {', '.join(RULE_NAMES)}.")
        return self.lines.loc[sorted(self.broken.loc[self.broken["rule"] == rule, "row"])]


def join_catalogue(transactions: pd.DataFrame, products: pd.DataFrame) -> pd.DataFrame:
    """Sales lines with department and category; both are missing where the product is unknown."""
    columns = ["product_id", "department", "product_category"]
    return transactions.merge(products[columns], on="product_id", how="left")


def measure(transactions: pd.DataFrame, products: pd.DataFrame) -> QualityReport:
    """Measure completeness and consistency of raw or cleaned tables.

    Args:
        transactions: sales lines with the columns of ``schemas.RAW["transactions"]``.
        products: the catalogue with the columns of ``schemas.RAW["products"]``.
    """
    tables = {"transactions": transactions, "products": products}
    values = pd.DataFrame(
        [
            {
                "table": name,
                "column": column,
                "rows": len(table),
                "missing": int(table[column].isna().sum()),
                "required": column in REQUIRED_COLUMNS[name],
            }
            for name, table in tables.items()
            for column in table.columns
        ]
    )
    values["present"] = 1 - values["missing"] / values["rows"]
    lines = join_catalogue(transactions, products)
    broken = _broken_rules(lines)
    units = lines["quantity"].reindex(broken["row"]).groupby(broken["rule"].to_numpy()).sum()
    rules = pd.DataFrame({"rows": broken["rule"].value_counts().reindex(RULE_NAMES, fill_value=0)})
    rules["share_of_rows"] = rules["rows"] / len(lines)
    rules["share_of_units"] = units.reindex(RULE_NAMES, fill_value=0) / lines["quantity"].sum()
    return QualityReport(values, rules.rename_axis("rule"), broken, lines)


def clean(transactions: pd.DataFrame, products: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Drop the sales lines that break a rule and the products without a category.

    Returns:
        Sales lines and products that satisfy every rule; nothing is filled in or changed.
    """
    lines = join_catalogue(transactions, products)
    kept = transactions.loc[~lines.index.isin(_broken_rules(lines)["row"])]
    return kept, products.dropna(subset=["department", "product_category"])


def _broken_rules(lines: pd.DataFrame) -> pd.DataFrame:
    """Rule and row label of every violation; pandera finds them all in one pass."""
    try:
        RULES.validate(lines, lazy=True)
    except pa.errors.SchemaErrors as errors:
        cases = errors.failure_cases
        return pd.DataFrame({"rule": cases["check"].astype(str), "row": cases["index"].astype(int)})
    return pd.DataFrame({"rule": pd.Series(dtype=str), "row": pd.Series(dtype=int)})
