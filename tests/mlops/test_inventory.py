"""The stock: orders by a rule from textbooks, units that add up, and money that follows from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from workshop_lib.mlops import inventory
from workshop_lib.mlops.assumptions import AssumptionError, base, draw, load_assumptions
from workshop_lib.mlops.inventory import MODEL, NAIVE, PERFECT, Plan, Trial, simulate
from workshop_lib.orchestration.advice import Costs
from workshop_lib.predictive import intervals

VALUES = {"margin": 0.4, "fresh_spoils": 0.5, "holding": 0.01}


def steady(units: float, shape: tuple[int, int], spread: float = 0.0) -> Plan:
    """The same forecast every day, ``spread`` wide at both sides."""
    made = np.full(shape, units)
    return Plan(made, made - spread, made + spread)


def small(demand: list[list[float]], **plans: Plan) -> Trial:
    """Two categories at a dollar and two dollars: fresh ones, and ones that keep."""
    sold = np.array(demand, dtype=float)
    return Trial(
        days=pd.date_range("2017-11-08", periods=len(sold)), feast=np.arange(len(sold)) < 1, demand=sold,
        price=np.array([1.0, 2.0]), category=np.array(["APPLES", "RICE"]),
        department=np.array(["PRODUCE", "GROCERY"]),
        plans={**plans, PERFECT: Plan(sold, sold, sold)}, yearly_sales=1000.0,
    )  # fmt: skip


def test_three_days_by_hand() -> None:
    trial = small([[10, 10], [4, 4], [12, 12]], **{MODEL: steady(8, (3, 2))})
    found = simulate(trial, MODEL, VALUES)
    assert found.missed.tolist() == [[2, 2], [0, 0], [4, 4]]
    assert found.left.tolist() == [[0, 0], [4, 4], [0, 0]]
    assert found.spoiled.tolist() == [[0, 0], [2, 0], [0, 0]]
    assert found.lost_margin.sum(axis=0) == pytest.approx([6 * 0.4, 6 * 0.8])
    assert found.waste.sum(axis=0) == pytest.approx([2 * 0.6, 0])
    assert found.holding.sum(axis=0) == pytest.approx([4 * 0.6 * 0.01, 4 * 1.2 * 0.01])
    assert found.cost.sum() == pytest.approx(2.4 + 4.8 + 1.2 + 0.024 + 0.048)


def test_what_is_left_and_sound_is_there_the_next_day() -> None:
    orders = np.array([[20.0, 20], [5, 5]])
    trial = small([[0, 0], [10, 10]], **{MODEL: Plan(orders, orders, orders)})
    assert simulate(trial, MODEL, VALUES).missed[1].tolist() == [0, 0]  # 10 sound ones of 20; the others all
    assert simulate(trial, MODEL, {**VALUES, "fresh_spoils": 0.8}).missed[1].tolist() == [5, 0]


def test_a_perfect_forecast_costs_nothing() -> None:
    trial = small([[3, 7], [9, 1]])
    assert simulate(trial, PERFECT, VALUES).cost.sum() == 0


def test_the_target_is_the_newsvendor_quantile() -> None:
    trial = small([[10, 10]], **{MODEL: steady(100, (1, 2), spread=norm.ppf(0.95))})  # a normal spread of 1
    level = inventory.levels(trial, VALUES)
    assert level == pytest.approx([0.4 / (0.4 + 0.6 * 0.51), 0.4 / (0.4 + 0.6 * 0.01)])
    targets = trial.plans[MODEL].order_up_to(level)
    assert targets.tolist() == [np.ceil(100 + norm.ppf(level)).tolist()]


@pytest.mark.parametrize("margin", [0.2, 0.6])
def test_the_rule_is_cheaper_than_ordering_more_or_less(margin: float) -> None:
    """On demand as the forecast says, no other level is cheaper by more than chance and rounding."""
    demand = np.maximum(np.rint(np.random.default_rng(5).normal(200, 30, (600, 2))), 0)
    values = {**VALUES, "margin": margin}
    plan = steady(200, (600, 2), spread=30 * norm.ppf(0.95))
    trial = small(demand.tolist(), **{MODEL: plan})
    ours = simulate(trial, MODEL, values).cost.sum(axis=0)
    for shift in (-30, -15, 15, 30):
        moved = Plan(plan.units + shift, plan.lower + shift, plan.upper + shift)
        other = simulate(replace(trial, plans={MODEL: moved}), MODEL, values).cost.sum(axis=0)
        assert (ours <= other * 1.001).all(), shift


@given(
    demand=st.lists(st.lists(st.integers(0, 50), min_size=2, max_size=2), min_size=1, max_size=8),
    units=st.integers(0, 50),
    spread=st.integers(0, 20),
)
def test_units_add_up(demand: list[list[float]], units: float, spread: float) -> None:
    trial = small(demand, **{MODEL: steady(units, (len(demand), 2), spread)})
    found = simulate(trial, MODEL, VALUES)
    assert (found.missed * found.left == 0).all()  # never both on one day
    assert (found.missed <= trial.demand).all() and (found.spoiled <= found.left).all()
    assert (found.spoiled[:, 1] == 0).all() and (found.cost >= 0).all()


def test_a_wider_interval_orders_more_of_what_keeps() -> None:
    trial = small([[10, 10]], narrow=steady(10, (1, 2), 2), wide=steady(10, (1, 2), 8))
    level = inventory.levels(trial, VALUES)
    narrow, wide = (trial.plans[name].order_up_to(level)[0, 1] for name in ("narrow", "wide"))
    assert wide > narrow > 10


def worlds(days: int, gain: float) -> Trial:
    """A model whose errors are smaller than the baseline's by a factor."""
    random = np.random.default_rng(5)
    demand = np.rint(random.uniform(50, 150, (days, 2)))
    errors = random.normal(0, 20, (2, days, 2))
    made = {NAIVE: np.maximum(demand + errors[0], 0), MODEL: np.maximum(demand + gain * errors[1], 0)}
    return small(demand.tolist(), **{name: Plan(units, units, units) for name, units in made.items()})


def test_a_saving_is_told_from_chance_by_department() -> None:
    better = inventory.by_department(worlds(60, 0.4), VALUES)
    assert list(better.index) == ["GROCERY", "PRODUCE", "all"] and better["fresh"].tolist() == [False, True, False]
    assert (better["low"] > 0).all() and (better["low"] < better["saving"]).all()
    assert (better["saving"] < better["baseline cost"]).all()
    same = inventory.by_department(worlds(60, 1.0), VALUES)
    assert same.loc["all", "low"] < 0 < same.loc["all", "high"]
    worse = inventory.by_department(worlds(60, 2.0), VALUES)
    assert (worse.loc[["PRODUCE", "all"], "high"] < 0).all()


def test_the_yearly_saving_is_the_share_of_a_years_sales() -> None:
    trial = worlds(60, 0.4)
    found = inventory.yearly_saving(trial, VALUES)
    assert found == pytest.approx(inventory.by_department(trial, VALUES).loc["all", "saving"] / 100 * 1000)
    drawn = [inventory.yearly_saving(trial, VALUES, np.random.default_rng(seed)) for seed in range(30)]
    assert min(drawn) < found < max(drawn)


def test_the_champion_on_the_held_out_days() -> None:
    trial = inventory.load_trial()
    assert trial.demand.shape == (len(trial.days), 120) == trial.plans[MODEL].units.shape
    assert trial.feast.any() and not trial.feast.all() and trial.fresh.any()
    assert (trial.price > 0).all() and trial.yearly_sales > trial.sales.sum()
    for name in (NAIVE, MODEL):  # both get intervals in the same way, and so the same promise
        plan = trial.plans[name]
        inside = ((plan.lower <= trial.demand) & (trial.demand <= plan.upper)).mean()
        assert 0.78 <= inside <= 0.95
    values = base(load_assumptions())
    found = inventory.compare(trial, values)
    assert found.loc[PERFECT].eq(0).all()
    assert found.loc[MODEL, "cost, % of sales"] < found.loc[NAIVE, "cost, % of sales"]


def test_a_champion_that_has_seen_the_days_is_no_witness(monkeypatch: pytest.MonkeyPatch) -> None:
    retrained = SimpleNamespace(package={"categories": ["x"] * 5, "last_day": "2017-12-31"})
    monkeypatch.setattr(inventory, "load_champion", lambda: retrained)
    with pytest.raises(ValueError, match="until 2017-12-31"):
        inventory.load_trial()


def test_intervals_of_any_forecast() -> None:
    made = pd.DataFrame({1: np.linspace(0, 100, 500)})
    found = intervals.measure(made, 2 * made[1].to_numpy() + 1)
    assert len(found["lower"]) == 1
    lower, upper = intervals.bounds(found, np.array([50.0]))
    assert lower == pytest.approx([101], abs=1) and upper == pytest.approx([101], abs=1)


def test_the_assumptions_agree_with_earlier_modules() -> None:
    values, earlier = base(load_assumptions()), Costs()
    assert (values["margin"], values["fresh_spoils"]) == (earlier.margin, earlier.fresh_loss)


def test_drawn_assumptions_stay_within_their_bounds() -> None:
    assumptions, random = load_assumptions(), np.random.default_rng(1)
    for _ in range(50):
        drawn = draw(assumptions, random)
        assert all(assumptions[name].low <= value <= assumptions[name].high for name, value in drawn.items())


GOOD = "{value: 2, low: 1, high: 3, unit: x, reason: because}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: {b: {value: 4, low: 1, high: 3, unit: x, reason: y}}", "a.b: .*low <= value"),
        ("a: {b: {value: 1, low: 1, high: 1, unit: x, reason: y}}", "a.b: .*low <= value"),
        ("a: {b: {value: 2, low: 1, high: 3, unit: x, reason: ''}}", "a.b: .*a reason"),
        ("a: {b: {value: two, low: 1, high: 3, unit: x, reason: y}}", r"a\.b\.value"),
        ("a: {b: {value: 2, low: 1, high: 3, unit: x}}", r"a\.b\.reason"),
        ("a: {b: {value: 2, low: 1, high: .inf, unit: x, reason: y}}", r"a\.b\.high"),
        ("a: {b: 3}", r"a\.b"),
        ("a: 3", "a: not a group"),
        (f"a: {{b: {GOOD}}}\nc: {{b: {GOOD}}}", "b stands twice, in a and in c"),
    ],
)
def test_assumptions_that_cannot_be_used_are_named(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "assumptions.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(AssumptionError, match=says):
        load_assumptions(path)
