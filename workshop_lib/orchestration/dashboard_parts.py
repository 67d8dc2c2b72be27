"""What the dashboard's tabs are made from: data, models and chains, loaded once for all readers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.runnables import Runnable

from workshop_lib.orchestration import health
from workshop_lib.orchestration.assistant import Assistant
from workshop_lib.orchestration.customer import CustomerInsight, customer_chain
from workshop_lib.orchestration.customer_history import Customers
from workshop_lib.orchestration.market import market_chain
from workshop_lib.orchestration.market_results import MarketAnalysis
from workshop_lib.orchestration.memory import Memory
from workshop_lib.orchestration.models import Models, reach
from workshop_lib.orchestration.shop import Shop, load_shop


@dataclass(frozen=True)
class Parts:
    """Everything that a tab may ask."""

    shop: Shop
    models: Models
    customers: Customers
    customer: Runnable[Any, CustomerInsight]
    market: Runnable[Any, MarketAnalysis]
    assistant: Assistant
    calls: health.Calls = field(default_factory=health.Calls)
    targets: Callable[[], Sequence[health.Target]] = health.targets


def load_parts(models: Models | None = None) -> Parts:
    """Load the data and build the chains. No service is started: one that is away is shown as such.

    Args:
        models: whom to ask; those of the settings by default.

    Raises:
        DataError: when the data cannot be used.
    """
    calls, shop = health.Calls(), load_shop()
    for table in (shop.products, shop.daily_sales, shop.transactions, shop.households, shop.categories):
        assert len(table), "read now, so that the first reader need not wait"
    models = watched(models or reach(), calls)
    customers = Customers(shop)
    return Parts(
        shop=shop,
        models=models,
        customers=customers,
        customer=customer_chain(models, shop, customers=customers),
        market=market_chain(models, shop),
        assistant=Assistant(models, shop, Memory()),
        calls=calls,
    )


def watched(models: Models, calls: health.Calls) -> Models:
    """The same models; each call is noted."""
    return replace(
        models,
        forecast=models.forecast.with_config(callbacks=[calls]),
        churn=models.churn.with_config(callbacks=[calls]),
        chat=models.chat.model_copy(update={"callbacks": [calls]}),
    )
