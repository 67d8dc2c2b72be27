"""Inputs unlike any that the models know: marked and counted, never refused.

A model answers whatever it is asked. Far from its data it answers as well, and nothing in the answer shows it. So the
guard compares every input with the range of what was there: the prices and promotions of a category, the features of
today's households. What lies outside is named in the answer's header ``X-Unusual-Input`` and counted in the metric
``api_unusual_inputs_total``. A few such inputs are somebody's plan for something new. Many are a broken client, or
somebody who explores the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from prometheus_client import Counter

from workshop_lib.predictive.features import PLANS, price_features
from workshop_lib.serving.api_schemas import ChurnRequest, ForecastRequest
from workshop_lib.serving.demand import Demand
from workshop_lib.serving.forecasts import Forecasts
from workshop_lib.serving.households import Households

HEADER = "X-Unusual-Input"
UNUSUAL = Counter("api_unusual_inputs_total", "Inputs outside of everything that was seen", ["path", "field"])


@dataclass(frozen=True)
class _Seen:
    """What a category has been through."""

    prices: pd.DataFrame
    """Columns ``min`` and ``max``, index category: dollars per unit, mean of a week."""
    shares: pd.DataFrame
    """Columns of :data:`PLANS`, index category: the largest share of a day."""

    @classmethod
    def of(cls, demand: Demand) -> _Seen:
        panel = demand.panel
        prices = price_features(panel.units, panel.revenue, panel.discount)["price_7"].agg(["min", "max"]).T
        return cls(prices, pd.DataFrame({name: panel.plans[name].max() for name in PLANS}))


class Guard:
    """Looks at inputs.

    Args:
        forecasts: whose history counts.
        households: likewise.
    """

    def __init__(self, forecasts: Forecasts, households: Households) -> None:
        self._forecasts, self._households = forecasts, households
        self._demand, self._seen = forecasts.demand, _Seen.of(forecasts.demand)

    def forecast(self, body: ForecastRequest) -> dict[str, str]:
        """The header for a question about a category; none when everything was there before."""
        demand = self._forecasts.demand
        if demand is not self._demand:  # another champion, which knows other categories
            self._demand, self._seen = demand, _Seen.of(demand)
        category = demand.known_name(body.category)
        lowest, highest = self._seen.prices.loc[category]
        unusual = ["price"] if body.price is not None and not lowest <= body.price <= highest else []
        planned = body.promotion.model_dump(exclude_none=True) if body.promotion else {}
        largest = self._seen.shares.loc[category]
        unusual += [f"promotion.{name}" for name, share in planned.items() if share > largest[name]]
        return _mark("/forecast", unusual)

    def churn(self, body: ChurnRequest) -> dict[str, str]:
        """The header for a household given by its features."""
        given: Mapping[str, float] = body.features.model_dump() if body.features is not None else {}
        seen = self._households.seen
        return _mark("/churn", [name for name, value in given.items() if not seen[name][0] <= value <= seen[name][1]])


def _mark(path: str, fields: list[str]) -> dict[str, str]:
    for field in fields:
        UNUSUAL.labels(path, field).inc()
    return {HEADER: ", ".join(fields)} if fields else {}
