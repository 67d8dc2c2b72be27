"""What the shop's data says about one household: its purchases, its habits, and what has changed about it.

Everything here is read from the household's own lines. Of other households only the distribution of a few figures is
used, to say what is usual; no result holds a line or a number of another household.
"""

from __future__ import annotations

import datetime as dt
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field
from sklearn.metrics import roc_auc_score

from workshop_lib.generative.facts import readable
from workshop_lib.orchestration.recommender import Id
from workshop_lib.orchestration.recommender_items import RECENT_DAYS, nameable
from workshop_lib.orchestration.results import Frozen
from workshop_lib.orchestration.shop import Shop
from workshop_lib.predictive import churn

FAVOURITES = 5
SIGNS = 3
"""Figures at most that are shown as standing out."""
STANDS_OUT = 0.8
"""Share of the staying households that a figure must lie beyond, on the side where leaving is more common."""
TELLING = 0.1
"""How far a figure's ROC AUC must lie from 0.5 for one of its sides to count as that side."""

SIGN_LABELS = {
    "recency_days": ("days since the last visit", "días desde la última visita"),
    "recency_vs_gap": (
        "days since the last visit over usual days between", "días sin venir ÷ intervalo habitual entre visitas",
    ),
    "gap_mean": ("days between visits", "días entre visitas"),
    "visits_28": ("visits in 28 days", "visitas en 28 días"),
    "visit_trend": (
        "visits in 28 days over those of a usual month", "visitas en 28 días ÷ visitas de un mes habitual",
    ),
    "spend_28": ("dollars spent in 28 days", "dólares gastados en 28 días"),
    "categories_28": ("categories bought in 28 days", "categorías compradas en 28 días"),
    "basket_value": ("dollars per basket", "dólares por cesta"),
}  # fmt: skip
"""Features of the churn model that a person understands without an explanation, in English and Spanish."""


class History(Frozen):
    """A household's purchases over the whole of the data."""

    first_visit: dt.date
    last_visit: dt.date
    days_since: int = Field(description="days from the last visit to the end of the data")
    baskets: int
    spend: float = Field(description="dollars")
    usual_basket: float = Field(description="median dollars of a basket")
    usual_units: float = Field(description="median units of a basket")
    usual_gap: float | None = Field(description="median days between visits; none after a single one")
    spend_recent: float = Field(description="dollars in the last 84 days")


class Favourite(Frozen):
    """A category that a household buys often."""

    category: str
    name: str
    baskets: int
    share: float = Field(description="of the household's spending")


class Preferences(Frozen):
    """A household's habits."""

    favourites: tuple[Favourite, ...] = Field(description="most baskets first; only what a message may name")
    discounted_share: float = Field(description="of the spending, on lines with a discount")
    store_brand_share: float = Field(description="of the spending")
    weekday: int = Field(description="with the most baskets, 0 is Monday")
    weekday_share: float = Field(description="of the baskets, on that day")


class Sign(Frozen):
    """A figure by which a household differs from those that stayed, on the side where leaving is more common."""

    feature: str
    label: str
    value: float
    usual: float = Field(description="median of the households that stayed")
    beyond: float = Field(description="share of the households that stayed whose figure is less extreme")


class Customers:
    """The households of a shop, ready to be looked at one by one.

    Args:
        shop: its tables.
    """

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    def lines(self, household_id: Id) -> pd.DataFrame:
        """The lines of one household's receipts, oldest first."""
        order, edges, place = self._by_household
        at = place[str(household_id)]
        return self.shop.transactions.iloc[order[edges[at] : edges[at + 1]]].sort_values("local_time")

    def history(self, household_id: Id) -> History:
        """What the household bought in all."""
        lines = self.lines(household_id)
        baskets = lines.groupby("basket_id")[["revenue", "units"]].sum()
        days = lines["date"].drop_duplicates().sort_values()
        last = self.shop.transactions["date"].max()
        recent = lines["date"] > last - pd.Timedelta(days=churn.WINDOW_DAYS)
        return History(
            first_visit=days.iloc[0].date(),
            last_visit=days.iloc[-1].date(),
            days_since=(last - days.iloc[-1]).days,
            baskets=len(baskets),
            spend=float(lines["revenue"].sum()),
            usual_basket=float(baskets["revenue"].median()),
            usual_units=float(baskets["units"].median()),
            usual_gap=float(days.diff().dt.days.median()) if len(days) > 1 else None,
            spend_recent=float(lines.loc[recent, "revenue"].sum()),
        )

    def preferences(self, household_id: Id) -> Preferences:
        """What the household likes, as far as its receipts show."""
        lines = self.lines(household_id)
        spend = max(float(lines["revenue"].sum()), 0.01)
        by_category = lines.groupby("category").agg(baskets=("basket_id", "nunique"), revenue=("revenue", "sum"))
        by_category = by_category[nameable(by_category.index.to_series())]
        liked = by_category.sort_values(["baskets", "revenue"], ascending=False).head(FAVOURITES)
        weekdays = lines.drop_duplicates("basket_id")["date"].dt.weekday.value_counts(normalize=True).sort_index()
        return Preferences(
            favourites=tuple(
                Favourite(
                    category=str(row.Index), name=readable(str(row.Index)), baskets=row.baskets,
                    share=float(row.revenue) / spend,
                )
                for row in liked.itertuples()
            ),
            discounted_share=float(lines.loc[lines["discount"] > 0, "revenue"].sum()) / spend,
            store_brand_share=float(lines.loc[lines["product_id"].isin(self._store_brand), "revenue"].sum()) / spend,
            weekday=int(weekdays.idxmax()),
            weekday_share=float(weekdays.max()),
        )  # fmt: skip

    def signs(self, household_id: Id, language: Literal["en", "es"] = "en") -> tuple[Sign, ...]:
        """Figures of the household that stand out beside the households that stayed, the most extreme first.

        They describe and do not explain: a household that comes less often is about to leave more often, but nobody
        knows from this what made it come less often.

        Raises:
            ValueError: when the data is too short to know who stayed.
        """
        features = self.features
        if str(household_id) not in features.index:
            return ()
        own = features.loc[str(household_id)]
        signs = []
        for name, side in self._sides.items():
            usual = self._stayed[name].to_numpy()
            value = float(own[name])
            beyond = float(np.mean(usual < value if side > 0 else usual > value))
            if beyond >= STANDS_OUT:
                label = SIGN_LABELS[name][language == "es"]
                signs.append(Sign(feature=name, label=label, value=value, usual=float(np.median(usual)), beyond=beyond))
        return tuple(sorted(signs, key=lambda sign: -sign.beyond)[:SIGNS])

    @cached_property
    def features(self) -> pd.DataFrame:
        """Features of the households that are active now, as the churn model takes them, by household as text."""
        now = self._tables[self._tables["cutoff"] == self._tables["cutoff"].max()]
        return now.set_index(now["household_id"].astype(str))

    @cached_property
    def usual_spend(self) -> float:
        """Mean dollars of the active households in the last 84 days."""
        return float(self.features["spend"].mean())

    @cached_property
    def at_risk(self) -> pd.DataFrame:
        """All active households with the registered churn model's probability, the most likely to leave first.

        Returns:
            ``household_id``, ``probability`` and ``spend`` (dollars in the last 84 days).

        Raises:
            TrackingError: when the registry cannot be used.
        """
        model = churn.load_champion()
        now = self.features
        scored = now[["household_id", "spend"]].assign(probability=model.predict_proba(now[list(churn.FEATURES)])[:, 1])
        columns = ["household_id", "probability", "spend"]
        return scored.sort_values("probability", ascending=False, kind="stable")[columns].reset_index(drop=True)

    @cached_property
    def recent_prices(self) -> dict[Id, float]:
        """What customers paid per unit in the last 28 days, dollars; the catalogue's price is that of a whole year."""
        lines = self.shop.transactions
        recent = lines[lines["date"] > lines["date"].max() - pd.Timedelta(days=RECENT_DAYS)]
        sold = recent.groupby("product_id")[["revenue", "units"]].sum()
        sold = sold[(sold["units"] > 0) & (sold["revenue"] > 0)]
        return (sold["revenue"] / sold["units"]).to_dict()

    @cached_property
    def _tables(self) -> pd.DataFrame:
        """Churn features at the last cutoff whose outcome is known, and now."""
        dates = self.shop.transactions["date"]
        known = churn.choose_cutoffs(dates.min(), dates.max(), 4)[-1]
        days = [known, dates.max() + pd.Timedelta(days=1)]
        return churn.build_table(self.shop.transactions, self.shop.households, days)

    @cached_property
    def _past(self) -> pd.DataFrame:
        return self._tables[self._tables["cutoff"] == self._tables["cutoff"].min()]

    @cached_property
    def _stayed(self) -> pd.DataFrame:
        return self._past[self._past["lapsed"] == 0]

    @cached_property
    def _sides(self) -> dict[str, int]:
        """Per telling figure 1 when leaving is more common above, -1 when it is more common below."""
        if self._past["lapsed"].nunique() < 2:
            return {}
        areas = {name: roc_auc_score(self._past["lapsed"], self._past[name]) for name in SIGN_LABELS}
        return {name: 1 if area > 0.5 else -1 for name, area in areas.items() if abs(area - 0.5) >= TELLING}

    @cached_property
    def _by_household(self) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
        """An order of all lines by household, where each household begins in it, and each household's place."""
        codes, names = pd.factorize(self.shop.transactions["household_id"], sort=True)
        order = np.argsort(codes, kind="stable")
        edges = np.searchsorted(codes[order], np.arange(len(names) + 1))
        return order, edges, {str(name): place for place, name in enumerate(names)}

    @cached_property
    def _store_brand(self) -> set[Id]:
        products = self.shop.products
        return set(products.loc[products["brand"].astype(str).str.lower() == "private", "product_id"])
