"""Benefits against costs over some years, and how sure that is.

evidence = gather(shops=20, day="2017-11-22")          # measured and simulated
case = build(evidence, base(load_assumptions()), years=4)
case.appraisal.npv
tornado(evidence, assumptions, 4)                       # one assumption at a time
monte_carlo(evidence, assumptions, 4, draws=1000)       # all at once
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from workshop_lib.mlops import inventory, platform_costs, retention
from workshop_lib.mlops.assumptions import Assumption, Values, base, draw
from workshop_lib.mlops.finance import Appraisal, appraise
from workshop_lib.predictive.evaluation import wape
from workshop_lib.settings import settings

WEEKS, MONTHS, MINUTES = 365 / 7, 12, 60


@dataclass(frozen=True)
class Evidence:
    """All that was measured or simulated; what is assumed is not in here."""

    trial: inventory.Trial
    scored: retention.Scored
    replica_hours: Mapping[str, float]
    """Of a day, by service."""


@dataclass(frozen=True)
class Case:
    """An investment, year by year."""

    benefits: Mapping[str, np.ndarray]
    """Dollars per year, from year 0 on."""
    costs: Mapping[str, np.ndarray]
    """Dollars per year, above zero for money spent."""
    appraisal: Appraisal

    @property
    def flows(self) -> pd.DataFrame:
        """A row per year, a column per benefit and cost (below zero), and ``net``."""
        spent = {name: -amounts for name, amounts in self.costs.items()}
        flows = pd.DataFrame({**self.benefits, **spent}).rename_axis("year")
        return flows.assign(net=flows.sum(axis=1))


def gather(shops: float, day: str) -> Evidence:
    """Run the trial of the stock, score the households and simulate the replicas of a day.

    Args:
        shops: for the traffic of the day.
        day: such as the busiest one of the year.
    """
    return Evidence(inventory.load_trial(), retention.score(), platform_costs.replica_hours(shops, day))


def benefits(evidence: Evidence, values: Values, random: np.random.Generator | None = None) -> dict[str, float]:
    """Dollars of a full year in all shops.

    Args:
        evidence: what was measured.
        values: the assumptions.
        random: draws days and households anew: what the measurement itself leaves open.
    """
    deductions = values["realised"] * values["rest_of_year"]
    ordering = values["ordering_hours"] * values["shops"] * WEEKS
    texts = values["texts"] * MONTHS * (values["text_by_hand"] - values["text_checked"]) / MINUTES
    return {
        "stock": inventory.yearly_saving(evidence.trial, values, random) * values["shops"] * deductions,
        "retention": retention.yearly_gain(evidence.scored, values, random) * values["shops"],
        "buyers' time": ordering * values["wage"] * values["freed"],
        "editors' time": texts * values["wage"] * values["freed"],
    }


def build(evidence: Evidence, values: Values, years: int, random: np.random.Generator | None = None) -> Case:
    """The business case.

    Args:
        evidence: what was measured.
        values: the assumptions.
        years: of use, 1 or more.
        random: see :func:`benefits`.
    """
    use = np.array([0.0, values["first_year"], *[1.0] * (years - 1)])
    gained = {name: use * amount for name, amount in benefits(evidence, values, random).items()}
    begin, each_year = np.eye(1, years + 1)[0], np.array([0.0, *[1.0] * years])
    spent = {name: begin * amount for name, amount in platform_costs.once(values).items()}
    spent["running"] = each_year * platform_costs.running(values, evidence.replica_hours)
    appraisal = appraise(
        np.sum(list(gained.values()), axis=0), np.sum(list(spent.values()), axis=0), values["discount_rate"]
    )
    return Case(gained, spent, appraisal)


def tornado(evidence: Evidence, assumptions: Mapping[str, Assumption], years: int) -> pd.DataFrame:
    """The NPV with one assumption at its low or high value and all others as they are.

    Returns:
        ``low``, ``high`` (the values), ``NPV at low``, ``NPV at high`` and ``swing`` (their distance), the widest
        first.
    """
    values = base(assumptions)
    rows = {
        name: {
            "low": one.low,
            "high": one.high,
            "NPV at low": build(evidence, {**values, name: one.low}, years).appraisal.npv,
            "NPV at high": build(evidence, {**values, name: one.high}, years).appraisal.npv,
        }
        for name, one in assumptions.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table["swing"] = (table["NPV at high"] - table["NPV at low"]).abs()
    return table.sort_values("swing", ascending=False, kind="stable")


def monte_carlo(
    evidence: Evidence, assumptions: Mapping[str, Assumption], years: int, draws: int, seed: int = settings.seed
) -> pd.DataFrame:
    """Possible worlds: all assumptions drawn at once, and days and households drawn anew.

    The assumptions are drawn independently of each other. Where they hang together, the truth is wider.

    Returns:
        A row per draw: ``npv``, ``roi`` and ``payback`` (infinite when the money does not come back).
    """
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(draws):
        found = build(evidence, draw(assumptions, random), years, random).appraisal
        rows.append((found.npv, found.roi, found.payback))
    return pd.DataFrame(rows, columns=["npv", "roi", "payback"])


def break_even(evidence: Evidence, assumptions: Mapping[str, Assumption], name: str, years: int) -> float:
    """The value of one assumption at which the NPV is zero, all others as they are; NaN without one in its bounds."""
    values, one = base(assumptions), assumptions[name]

    def npv(value: float) -> float:
        return build(evidence, {**values, name: value}, years).appraisal.npv

    if npv(one.low) * npv(one.high) > 0:
        return float("nan")
    return float(brentq(npv, one.low, one.high, rtol=1e-6))


def targets(evidence: Evidence, values: Values, case: Case, worlds: pd.DataFrame) -> pd.DataFrame:
    """The course's business targets beside what was found.

    Returns:
        ``baseline``, ``target``, ``achieved``, ``better`` (``lower`` or ``higher``), ``met`` and ``from``:
        *measured* on data that no model has seen, *simulated* on such data with assumed prices, or *assumed* where
        the result depends on assumptions most of all.
    """
    promised, trial = settings.thresholds, evidence.trial
    stock, rank = inventory.compare(trial, values), retention.ranking(evidence.scored)
    error = {plan: wape(trial.demand, trial.plans[plan].units) for plan in (inventory.NAIVE, inventory.MODEL)}

    def saved(column: str, share: float) -> tuple[float, float, float]:
        before = float(stock.loc[inventory.NAIVE, column])
        return before, before * (1 - share), float(stock.loc[inventory.MODEL, column])

    usual = error[inventory.NAIVE]
    guess = rank[retention.EVERYBODY]
    loss = float((worlds["npv"] < 0).mean())
    none = float("nan")
    rows = {
        "WAPE of the daily forecasts": (
            usual, usual * promised.wape_ratio, error[inventory.MODEL], "lower", "measured",
        ),
        "average precision of the churn model": (
            guess, guess * promised.churn_lift, rank[retention.MODEL], "higher", "measured",
        ),
        "units missed, %": (*saved("units missed, %", promised.shortages_saved), "lower", "simulated"),
        "fresh units spoiled, %": (*saved("fresh units spoiled, %", promised.waste_saved), "lower", "simulated"),
        "cost of stock, % of sales": (*saved("cost, % of sales", promised.stock_cost_saved), "lower", "simulated"),
        "payback, years": (none, promised.payback_years, case.appraisal.payback, "lower", "assumed"),
        "NPV, dollars": (0.0, 0.0, case.appraisal.npv, "higher", "assumed"),
        "probability of a loss": (none, promised.loss_probability, loss, "lower", "assumed"),
    }  # fmt: skip
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["baseline", "target", "achieved", "better", "from"])
    lower = table["better"] == "lower"
    met = (table["achieved"] <= table["target"]).where(lower, table["achieved"] >= table["target"])
    table.insert(4, "met", met)
    return table
