"""Money: formulas on flows with known answers, and a business case in which every assumption counts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.mlops.test_inventory import worlds
from tests.mlops.test_retention import HAND
from workshop_lib.checkpoints import at_least, checkpoint
from workshop_lib.mlops import business_case, impact_plots, inventory, platform_costs, retention
from workshop_lib.mlops.assumptions import base, load_assumptions
from workshop_lib.mlops.business_case import Evidence, build
from workshop_lib.mlops.finance import appraise, payback

ASSUMPTIONS = load_assumptions()
VALUES = base(ASSUMPTIONS)
YEARS = 4


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    """A shop on paper: two categories that sell for a million dollars a year, and three households."""
    trial = worlds(60, 0.4)
    return Evidence(inventory.Trial(**{**vars(trial), "yearly_sales": 1e6}), HAND, {"forecaster": 24, "llm": 30})


# --- Flows ----------------------------------------------------------------------------------------


def test_an_investment_from_a_textbook() -> None:
    found = appraise([0, 110, 121], [100, 0, 0], rate=0.1)
    assert found.npv == pytest.approx(-100 + 100 + 100)
    assert found.roi == pytest.approx(1.31)
    assert found.payback == pytest.approx(100 / 110)
    assert appraise([0, 110], [100, 0], rate=0.1).npv == pytest.approx(0)
    assert appraise([0, 110], [100, 0], rate=0.0).irr == pytest.approx(0.1)


def test_at_the_internal_rate_of_return_nothing_is_left() -> None:
    gained, spent = [0, 50, 80, 90], [120, 10, 10, 10]
    assert appraise(gained, spent, appraise(gained, spent, 0.1).irr).npv == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("flows", "years"),
    [
        ([-100, 50, 100], 1.5),
        ([-100, 100], 1),
        ([-100, 50, 49], float("inf")),
        ([10, 10], 0),
        ([-100, 150, -100, 150], 2 + 50 / 150),  # back once, gone again: only the last time counts
    ],
)
def test_the_money_is_back(flows: list[float], years: float) -> None:
    assert payback(flows) == pytest.approx(years)


def test_a_loss_is_said_to_be_one() -> None:
    found = appraise([0, 10, 10], [100, 5, 5], 0.1)
    assert found.roi < 0 and found.npv < 0 and found.payback == float("inf")
    assert not found.irr > 0


@pytest.mark.parametrize(("gained", "spent"), [([1, 2], [1]), ([1, 2], [0, 0])])
def test_no_investment_is_refused(gained: list[float], spent: list[float]) -> None:
    with pytest.raises(ValueError, match="costs above zero"):
        appraise(gained, spent, 0.1)


# --- The platform ---------------------------------------------------------------------------------


def test_a_year_of_the_platform_adds_up() -> None:
    found = platform_costs.yearly(VALUES, {"forecaster": 24, "llm": 48})
    assert found.loc["forecaster", "dollars"] == pytest.approx(365 * 24 * VALUES["core_hour"])
    assert found.loc["language model", "dollars"] == pytest.approx(2 * 365 * 24 * VALUES["gpu_hour"])
    assert found.loc["engineers", "dollars"] == VALUES["engineers"] * VALUES["engineer_year"]
    assert (found["dollars"] == found["amount"] * found["price"]).all()
    assert platform_costs.running(VALUES, {"forecaster": 24, "llm": 48}) == pytest.approx(found["dollars"].sum())
    assert platform_costs.once(VALUES)["building"] == VALUES["build_months"] * VALUES["engineer_year"] / 12


def test_a_piece_of_work_is_priced_from_the_scorecard(home: object) -> None:
    assert platform_costs.unit_costs(VALUES).empty
    checkpoint("3.4", "x", [at_least("endpoint.requests_per_second", 1000, 1, "x"),
                            at_least("endpoint.cores", 0.5, 0, "y")])  # fmt: skip
    found = platform_costs.unit_costs(VALUES)
    assert found["measured by"].tolist() == ["3.4"]
    assert found["dollars"].tolist() == pytest.approx([500 / 3600 * VALUES["core_hour"]])


# --- The case -------------------------------------------------------------------------------------


def test_a_case_adds_up(evidence: Evidence) -> None:
    case, full = build(evidence, VALUES, YEARS), business_case.benefits(evidence, VALUES)
    assert len(case.flows) == YEARS + 1
    assert case.flows.drop(columns="net").sum(axis=1).tolist() == pytest.approx(case.flows["net"].tolist())
    assert case.flows.loc[1, "stock"] == pytest.approx(full["stock"] * VALUES["first_year"])
    assert case.flows.loc[YEARS, list(full)].tolist() == pytest.approx(list(full.values()))
    assert (case.flows[["building", "training", "running"]] <= 0).all(axis=None)
    assert case.flows.loc[0].sum() < 0
    discounted = (case.flows["net"] / (1 + VALUES["discount_rate"]) ** case.flows.index).sum()
    assert case.appraisal.npv == pytest.approx(discounted)


def test_the_savings_follow_from_the_simulation(evidence: Evidence) -> None:
    one = inventory.yearly_saving(evidence.trial, VALUES)
    found = business_case.benefits(evidence, VALUES)
    assert found["stock"] == pytest.approx(one * VALUES["shops"] * VALUES["realised"] * VALUES["rest_of_year"])
    assert found["retention"] == pytest.approx(retention.yearly_gain(HAND, VALUES) * VALUES["shops"])


def test_every_assumption_counts_and_the_widest_comes_first(evidence: Evidence) -> None:
    found = business_case.tornado(evidence, ASSUMPTIONS, YEARS)
    assert set(found.index) == set(ASSUMPTIONS)
    assert (found["swing"] > 0).all(), "an assumption in the file that nothing reads"
    assert found["swing"].is_monotonic_decreasing
    assert found.loc["discount_rate", "NPV at low"] != found.loc["discount_rate", "NPV at high"]
    assert found.loc["engineers", "NPV at low"] > found.loc["engineers", "NPV at high"]


def test_worlds_are_drawn_the_same_each_time_and_hold_the_case(evidence: Evidence) -> None:
    worlds_ = business_case.monte_carlo(evidence, ASSUMPTIONS, YEARS, draws=60)
    again = business_case.monte_carlo(evidence, ASSUMPTIONS, YEARS, draws=60)
    pd.testing.assert_frame_equal(worlds_, again)
    other = business_case.monte_carlo(evidence, ASSUMPTIONS, YEARS, draws=60, seed=1)
    assert not worlds_["npv"].equals(other["npv"])
    assert worlds_["npv"].min() < build(evidence, VALUES, YEARS).appraisal.npv < worlds_["npv"].max()
    assert (np.isinf(worlds_["payback"]) == (worlds_["roi"] < 0)).mean() > 0.9


def test_at_the_break_even_the_npv_is_zero(evidence: Evidence) -> None:
    shops = business_case.break_even(evidence, ASSUMPTIONS, "shops", YEARS)
    assert ASSUMPTIONS["shops"].low < shops < ASSUMPTIONS["shops"].high
    assert build(evidence, {**VALUES, "shops": shops}, YEARS).appraisal.npv == pytest.approx(0, abs=100)
    assert np.isnan(business_case.break_even(evidence, ASSUMPTIONS, "text_checked", YEARS))


def test_targets_tell_met_from_missed(evidence: Evidence) -> None:
    case = build(evidence, VALUES, YEARS)
    some = pd.DataFrame({"npv": [1.0, -1.0]})
    found = business_case.targets(evidence, VALUES, case, some)
    assert found.loc["probability of a loss", "achieved"] == 0.5 and not found.loc["probability of a loss", "met"]
    for _, row in found.iterrows():
        better = row["achieved"] <= row["target"] if row["better"] == "lower" else row["achieved"] >= row["target"]
        assert row["met"] == better
    assert set(found["from"]) == {"measured", "simulated", "assumed"}


def test_every_picture_is_drawn(evidence: Evidence) -> None:
    case = build(evidence, VALUES, YEARS)
    sums = business_case.tornado(evidence, ASSUMPTIONS, YEARS)
    for figure in (
        impact_plots.plot_departments(inventory.by_department(evidence.trial, VALUES)),
        impact_plots.plot_success(retention.by_success(HAND, VALUES, [0.1, 0.2]), 0.1),
        impact_plots.plot_flows(case.flows),
        impact_plots.plot_tornado(sums, case.appraisal.npv),
        impact_plots.plot_worlds(pd.DataFrame({"npv": [-1e6, 1e6, 2e6]})),
    ):
        figure.canvas.draw()
        assert figure.axes[0].get_title(loc="left") or figure.axes[0].get_title()
