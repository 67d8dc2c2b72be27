"""What the platform costs: replica-hours from the simulation of module 5, times prices; and people, who cost more.

hours = replica_hours(shops=20, day="2017-11-22")
yearly(values, hours)
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from joblib import cpu_count

from workshop_lib.checkpoints import read_scorecard
from workshop_lib.mlops.assumptions import Values
from workshop_lib.optimization.autoscaling import read_policy
from workshop_lib.optimization.autoscaling_measured import TOKENS_PER_TEXT
from workshop_lib.optimization.autoscaling_simulation import forecaster, llm, simulate, summary
from workshop_lib.optimization.autoscaling_traffic import traffic

DAYS, HOURS = 365, 365 * 24
"""Of a year."""


def replica_hours(shops: float, day: str, baskets_per_text: float = 100) -> dict[str, float]:
    """Replica-hours of a day with the policies of the autoscalers' file: ``forecaster`` and ``llm``.

    Args:
        shops: each with the traffic of a supermarket of medium size, which is several times that of the data.
        day: such as the busiest one of the year.
        baskets_per_text: one text is asked for in so many baskets.
    """
    services = {"forecaster": ("sales-forecaster", forecaster(), None), "llm": ("llm", llm(), 1 / baskets_per_text)}
    found = {}
    for name, (autoscaler, service, requests) in services.items():
        policy = read_policy(autoscaler)
        busy = traffic(day, 1, round(shops), requests_per_basket=requests)
        frame = simulate(busy, service, policy, replicas=policy.least)
        found[name] = float(summary(frame, price=0)["replica-hours"])
    return found


def _parts(values: Values, hours: Mapping[str, float]) -> dict[str, tuple[float, str, float]]:
    """Amount, unit and price of everything that a year needs."""
    return {
        "forecaster": (hours["forecaster"] * DAYS, "core-hours", values["core_hour"]),
        "language model": (hours["llm"] * DAYS, "GPU-hours", values["gpu_hour"]),
        "everything else": (values["always_on_cores"] * HOURS, "core-hours", values["core_hour"]),
        "subscriptions": (1, "years", values["subscriptions"]),
        "engineers": (values["engineers"], "posts", values["engineer_year"]),
    }


def yearly(values: Values, hours: Mapping[str, float]) -> pd.DataFrame:
    """What a year costs, a row per part: ``amount``, ``unit``, ``price`` and ``dollars``.

    Args:
        values: the assumptions.
        hours: of :func:`replica_hours`; every day is taken to need as many.
    """
    table = pd.DataFrame.from_dict(_parts(values, hours), orient="index", columns=["amount", "unit", "price"])
    return table.assign(dollars=table["amount"] * table["price"])


def running(values: Values, hours: Mapping[str, float]) -> float:
    """The sum of :func:`yearly`, dollars."""
    return sum(amount * price for amount, _, price in _parts(values, hours).values())


def once(values: Values) -> dict[str, float]:
    """What the beginning costs, dollars: ``building`` and ``training``."""
    return {
        "building": values["build_months"] / 12 * values["engineer_year"],
        "training": values["training_per_shop"] * values["shops"],
    }


def unit_costs(values: Values) -> pd.DataFrame:
    """Dollars for the machine's part of a piece of work, from what the checkpoints measured here.

    Returns:
        ``dollars`` and ``measured by`` (the checkpoint); only what was measured.
    """
    known = {str(one["id"]): one for one in read_scorecard() if isinstance(one["measured"], int | float)}
    core = values["core_hour"] / 3600

    def value(key: str) -> float:
        return float(known[key]["measured"])  # type: ignore[arg-type]

    recipes = {
        "a million forecasts, one by one": (
            ("endpoint.requests_per_second", "endpoint.cores"),
            lambda: 1e6 * core * value("endpoint.cores") / value("endpoint.requests_per_second"),
        ),
        "a thousand texts, on all cores of this machine": (
            ("llm.tokens_per_second",),
            lambda: 1e3 * core * cpu_count() * TOKENS_PER_TEXT / value("llm.tokens_per_second"),
        ),
        "training the forecaster once": (
            ("forecaster.train_seconds",),
            lambda: core * value("forecaster.train_seconds"),
        ),
    }
    rows = {
        name: {"dollars": price(), "measured by": known[keys[0]]["checkpoint"]["number"]}  # type: ignore[index]
        for name, (keys, price) in recipes.items()
        if all(key in known for key in keys)
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["dollars", "measured by"])
