"""A/B tests keep what they promise: known cases, and simulations in which the truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from workshop_lib.mlops import campaigns, experiments, sequential
from workshop_lib.mlops.experiments import ALPHA, Comparison

# --- Before the test


def test_a_sample_size_as_in_the_textbook() -> None:
    """Cohen 1988, section 6.4: shares of 0.5 and 0.6 need about 388 each for a power of 0.8."""
    assert abs(experiments.sample_size(0.5, 0.1) - 388) <= 2
    assert abs(experiments.sample_size(0.5, -0.1) - 388) <= 2


def test_size_power_and_smallest_lift_agree_with_each_other() -> None:
    per_arm = experiments.sample_size(0.06, 0.02)
    assert experiments.power_of(0.06, 0.02, per_arm) == pytest.approx(experiments.POWER, abs=0.001)
    assert experiments.power_of(0.06, 0.02, per_arm - 50) < experiments.POWER
    assert experiments.smallest_lift(0.06, per_arm) == pytest.approx(0.02, abs=1e-4)


def test_an_unequal_split_costs_members() -> None:
    equal, fifth = experiments.sample_size(0.06, 0.02), experiments.sample_size(0.06, 0.02, ratio=0.25)
    assert fifth * 1.25 > 2 * equal * 1.5


def test_too_few_for_any_lift_is_an_error() -> None:
    with pytest.raises(ValueError, match="sign"):
        experiments.smallest_lift(0.5, 2)


# --- After it


def test_shares_against_known_values() -> None:
    found = experiments.shares((60, 1000), (85, 1000))
    assert (found.control, found.treated, found.difference) == pytest.approx((0.06, 0.085, 0.025))
    pooled = 145 / 2000
    z = 0.025 / np.sqrt(pooled * (1 - pooled) * 2 / 1000)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(z))
    assert found.low < 0.025 < found.high and (found.p_value < ALPHA) is (found.low > 0)


@pytest.mark.parametrize(("control", "treated"), [((0, 50), (0, 80)), ((50, 50), (80, 80))])
def test_where_all_are_alike_there_is_no_difference(control: experiments.Counts, treated: experiments.Counts) -> None:
    found = experiments.shares(control, treated)
    assert found.p_value == 1 and found.low < 0 < found.high


def test_a_share_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="need members"):
        experiments.shares((0, 0), (1, 2))


def test_means_are_welch_s_and_the_bootstrap_agrees() -> None:
    random = np.random.default_rng(1)
    control, treated = random.normal(10, 1, 300), random.normal(11, 5, 60)
    found, drawn = experiments.means(control, treated), experiments.resampled(control, treated)
    assert found.p_value == pytest.approx(stats.ttest_ind(treated, control, equal_var=False).pvalue)
    assert found.difference == pytest.approx(treated.mean() - control.mean())
    assert (drawn.low, drawn.high) == pytest.approx((found.low, found.high), abs=0.25)
    assert np.isnan(drawn.p_value)
    middle = experiments.resampled(control, treated, np.median)
    assert middle.difference == pytest.approx(np.median(treated) - np.median(control))


def test_one_giant_turns_means_over_and_not_ranks() -> None:
    control = np.arange(1.0, 101)
    treated = control + 20
    with_giant = np.append(control, 1e6)
    assert experiments.means(with_giant, treated).difference < 0
    assert experiments.ranks(with_giant, treated).difference > 0.1
    assert experiments.ranks(control, control).difference == 0


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(-0.01, 0.01, "kept"), (0.03, 0.05, "broken"), (-0.01, 0.05, "not shown")]
)
def test_a_guardrail_needs_the_whole_interval(low: float, high: float, verdict: str) -> None:
    found = Comparison("", 0, 0, (low + high) / 2, low, high, 1.0)
    assert experiments.guardrail(found, 0.02) == verdict


def test_a_split_that_is_not_the_planned_one_is_noticed() -> None:
    assert experiments.sample_ratio([8010, 1990], [80, 20]) > 0.5
    assert experiments.sample_ratio([8300, 1700], [80, 20]) < 0.001


# --- The tests, tested


def test_an_a_a_test_finds_something_one_time_in_twenty() -> None:
    found = experiments.simulate_shares(0.06, 0, 2500, 1000)
    assert abs(found.share - ALPHA) < 3 * found.error


def test_power_is_as_computed() -> None:
    found = experiments.simulate_shares(0.06, 0.02, experiments.sample_size(0.06, 0.02), 1000)
    assert abs(found.share - experiments.POWER) < 3 * found.error


def test_looking_often_makes_false_alarms_and_the_always_valid_test_does_not() -> None:
    same = sequential.look_often(0.06, 0, 300, 10, 600, expected=0.02).found()
    last = same.iloc[-1]
    assert last["stop when significant"] > 0.13
    assert last["always valid"] <= ALPHA and abs(last["look once"] - ALPHA) < 0.03
    assert same.iloc[0]["stop when significant"] == same.iloc[0]["look once"]


def test_the_always_valid_test_finds_a_true_difference_and_may_stop_early() -> None:
    looked = sequential.look_often(0.06, 0.02, 600, 12, 200, expected=0.02)
    assert looked.found()["always valid"].iloc[-1] > 0.85
    assert looked.members_until_found() < 0.7 * looked.members[-1]


def test_always_valid_p_values_by_hand() -> None:
    """Wide and narrow mixtures by the formula; and a p-value once small stays so."""
    (p,) = sequential.always_valid(np.array([60]), np.array([110]), np.array([1000]), expected=0.03)
    shares = np.array([60.5, 110.5]) / 1001
    variance, t2 = float((shares * (1 - shares)).sum() / 1000), 0.03**2
    ratio = np.sqrt(variance / (variance + t2)) * np.exp(t2 * 0.05**2 / (2 * variance * (variance + t2)))
    assert p == pytest.approx(1 / ratio)
    falling = sequential.always_valid(np.array([60, 200]), np.array([110, 200]), np.array([1000, 2000]), 0.03)
    assert falling[1] == falling[0] == pytest.approx(p)
    assert sequential.always_valid(np.array([0]), np.array([0]), np.array([100]), 0.02)[0] == 1


# --- The shop's campaigns


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return campaigns.households(8)


def test_types_of_campaigns_are_counted_by_household_and_campaign() -> None:
    found = campaigns.overview()
    assert list(found.index) == ["A", "B", "C"]
    assert found["campaigns"].sum() == 27 and found["sent"].sum() == 6589
    assert (found["share"] == found["redeemed"] / found["sent"]).all()
    assert found.loc["A", "share"] > 2 * found.loc["B", "share"]


def test_the_shop_chose_whom_to_send_it(table: pd.DataFrame) -> None:
    found = campaigns.compare(table)
    assert found.loc["before", "p_value"] < 1e-6, "before the campaign there must be no effect of it"
    assert found.loc["during", "difference"] > 10 * found.loc["change", "difference"]
    assert not table.loc[~table["sent"], "redeemed"].any()
    assert (table["change"] == table["during"] - table["before"]).all()


def test_what_was_spent_before_makes_a_random_split_sharper(table: pd.DataFrame) -> None:
    found = {
        (lift, use): experiments.simulate(campaigns.coin(table, lift, use_before=use), 120)
        for lift in (0, 0.2)
        for use in (False, True)
    }
    assert found[0.2, True].share > found[0.2, False].share + 0.1
    assert max(found[0, use].share for use in (False, True)) < 0.12


def test_adjusting_keeps_the_mean_and_takes_the_noise(table: pd.DataFrame) -> None:
    before, during = table["before"].to_numpy(), table["during"].to_numpy()
    values = campaigns.adjusted(during, before)
    assert values.mean() == pytest.approx(during.mean())
    assert values.std() < 0.8 * during.std()
    assert np.corrcoef(values, before)[0, 1] == pytest.approx(0, abs=1e-9)


def test_campaigns_that_cannot_be_looked_at_are_named() -> None:
    for number in (24, 23):
        with pytest.raises(ValueError, match=r"choose one of 1, 2, .* 20, 27\."):
            campaigns.households(number)
