"""The shop as the chains know it: its tables, and what of it a question may name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cache, cached_property

import pandas as pd
from mlflow.exceptions import MlflowException

from workshop_lib import data
from workshop_lib.predictive.champion import EXPERIMENT, load_package
from workshop_lib.predictive.forecaster import CATEGORIES
from workshop_lib.predictive.tracking import TrackingError, use_tracking
from workshop_lib.serving.api_errors import echo
from workshop_lib.settings import settings

NEAR = 3
"""Suggestions for a name that is not there."""


class UnknownThing(ValueError):
    """A question names something that the shop does not have.

    Args:
        kind: what it was taken for, such as ``category``.
        value: what was asked for.
        suggestions: what the shop has instead.
    """

    def __init__(self, kind: str, value: object, suggestions: Sequence[str]) -> None:
        near = f" Did you mean {', '.join(suggestions)}?" if suggestions else ""
        super().__init__(f"The shop has no {kind} {echo(value)}.{near}")
        self.kind, self.value, self.suggestions = kind, echo(value), tuple(suggestions)


class Shop:
    """Tables of the shop, each read when it is first needed and then kept in memory. They are not to be changed."""

    @cached_property
    def products(self) -> pd.DataFrame:
        """The catalogue, one row per product."""
        return data.load("products")

    @cached_property
    def households(self) -> pd.DataFrame:
        """One row per household."""
        return data.load("households")

    @cached_property
    def daily_sales(self) -> pd.DataFrame:
        """One row per category and day."""
        return data.load("daily_sales")

    @cached_property
    def transactions(self) -> pd.DataFrame:
        """One row per line of a receipt."""
        return data.load("transactions")

    @cached_property
    def last_day(self) -> pd.Timestamp:
        """The last day whose sales are known."""
        return self.daily_sales["date"].max()

    @cached_property
    def categories(self) -> list[str]:
        """The categories that the forecaster knows, those with the most units first.

        Where the registry does not tell, the largest ones, which is how training chooses them.
        """
        units = self.daily_sales.groupby("category")["units"].sum().sort_values(ascending=False)
        known = _known_to_the_forecaster()
        return [name for name in units.index if name in known] if known else list(units.index[:CATEGORIES])

    @cached_property
    def departments(self) -> list[str]:
        """The departments of these categories, largest first."""
        sold = self.daily_sales[self.daily_sales["category"].isin(self.categories)]
        return list(sold.groupby("department")["units"].sum().sort_values(ascending=False).index)

    def units_when_open(self, category: str) -> pd.Series:
        """Units of a category on each day on which the shop opened, oldest first.

        Past and future are compared on such days: a closed door says nothing about demand.
        """
        own = self.daily_sales[self.daily_sales["category"] == category]
        return own[own["open"]].sort_values("date")["units"]

    def find_category(self, name: str) -> str:
        """The category of this name, whatever its capitals.

        Raises:
            UnknownThing: with near names.
        """
        return _find("category", name, self.categories)

    def find_department(self, name: str) -> str:
        """The department of this name, whatever its capitals.

        Raises:
            UnknownThing: with near names.
        """
        return _find("department", name, self.departments)

    def find_product(self, product_id: int | str) -> pd.Series:
        """A product's row of the catalogue.

        Raises:
            UnknownThing: when the catalogue does not have it.
        """
        return _row(self.products, "product", product_id, self._places_of_products)

    def find_household(self, household_id: int | str) -> pd.Series:
        """A household's row.

        Raises:
            UnknownThing: when the shop does not know it.
        """
        return _row(self.households, "household", household_id, self._places_of_households)

    @cached_property
    def _places_of_products(self) -> dict[str, int]:
        return {str(name): place for place, name in enumerate(self.products["product_id"])}

    @cached_property
    def _places_of_households(self) -> dict[str, int]:
        return {str(name): place for place, name in enumerate(self.households["household_id"])}


@cache
def load_shop() -> Shop:
    """The shop; one per process."""
    return Shop()


def _known_to_the_forecaster() -> set[str]:
    try:
        use_tracking(EXPERIMENT)
        return set(load_package(settings.forecaster_model).about["categories"])
    except (TrackingError, MlflowException, OSError):
        return set()


def _find(kind: str, name: str, names: Sequence[str]) -> str:
    by_name = {known.casefold(): known for known in names}
    wanted = name.strip().casefold()
    if wanted not in by_name:
        near = difflib.get_close_matches(wanted, by_name, n=NEAR, cutoff=0.4)
        raise UnknownThing(kind, name, [by_name[one] for one in near] or list(names[:NEAR]))
    return by_name[wanted]


def _row(table: pd.DataFrame, kind: str, wanted: int | str, places: dict[str, int]) -> pd.Series:
    place = places.get(str(wanted).strip())
    if place is None:
        raise UnknownThing(kind, wanted, [])
    return table.iloc[place]
