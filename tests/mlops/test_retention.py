"""What a campaign brings: counted by hand on a few households, and for the champion on real ones."""

from __future__ import annotations

import numpy as np
import pytest

from workshop_lib.mlops import retention
from workshop_lib.mlops.assumptions import base, load_assumptions
from workshop_lib.mlops.retention import EVERYBODY, MODEL, ROUNDS_PER_YEAR, RULE, Scored
from workshop_lib.orchestration.customer import CAMPAIGN

VALUES = {"contact_cost": 2.0, "saved_value": 100.0, "success_rate": 0.1}  # break-even at 0.2
HAND = Scored(
    household=np.array([1, 2, 3, 1, 2, 3]),
    lapsed=np.array([1, 0, 0, 1, 1, 0]),
    probability={
        MODEL: np.array([0.9, 0.1, 0.1, 0.8, 0.7, 0.1]),
        RULE: np.array([0.9, 0.3, 0.1, 0.1, 0.7, 0.3]),
        EVERYBODY: np.ones(6),
    },
    cutoffs=2,
)


def test_gains_by_hand() -> None:
    campaign = retention.campaign_of(VALUES)
    assert HAND.gains(MODEL, campaign).tolist() == [8, 0, 0, 8, 8, 0]
    assert HAND.gains(RULE, campaign).tolist() == [8, -2, 0, 0, 8, -2]
    assert HAND.gains(EVERYBODY, campaign).sum() == 3 * 10 - 6 * 2
    for policy, probability in HAND.probability.items():  # module 1 counts the same
        theirs = campaign.gain(HAND.lapsed, probability, campaign.break_even)
        assert HAND.gains(policy, campaign).sum() == pytest.approx(theirs)
    assert retention.yearly_gain(HAND, VALUES) == pytest.approx((24 - 12) / 2 * ROUNDS_PER_YEAR)


def test_a_table_of_policies() -> None:
    found = retention.compare(HAND, VALUES)
    assert list(found.index) == [MODEL, RULE, EVERYBODY, f"{MODEL} minus {RULE}"]
    assert found.loc[MODEL, ["contacted", "leavers reached"]].tolist() == [1.5, 1]
    assert found.loc[RULE, "leavers reached"] == pytest.approx(2 / 3)
    lead = found.iloc[-1]
    assert lead["dollars per year"] == pytest.approx(retention.yearly_gain(HAND, VALUES))
    assert lead["low"] <= lead["dollars per year"] <= lead["high"]


def test_whole_households_are_drawn() -> None:
    """Ten rows of one household are one piece of evidence, not ten."""
    count = 40
    lapsed = np.tile([1, 0], count // 2)
    sure = {MODEL: lapsed * 0.9, RULE: np.full(count, 0.9), EVERYBODY: np.ones(count)}

    def width(household: np.ndarray) -> float:
        found = retention.compare(Scored(household, lapsed, sure, 2), VALUES).loc[MODEL]
        return float(found["high"] - found["low"])

    # Households that lapse at each of ten cutoffs, and others that never do.
    assert width(np.arange(count) % 2 + 2 * (np.arange(count) // 20)) > 2 * width(np.arange(count))


def test_without_success_no_model_contacts_anybody() -> None:
    found = retention.by_success(HAND, VALUES, [0.01, 0.1, 1.0])
    assert found.loc[0.01].tolist()[:2] == [0, 0]
    assert found[MODEL].is_monotonic_increasing
    assert found.loc[0.01, EVERYBODY] == pytest.approx((3 - 12) / 2 * ROUNDS_PER_YEAR)


def test_the_champion_on_held_out_households() -> None:
    scored, values = retention.score(), base(load_assumptions())
    assert scored.cutoffs == 2 and len(scored.lapsed) == len(scored.probability[MODEL])
    rank = retention.ranking(scored)
    assert rank[EVERYBODY] == pytest.approx(scored.lapsed.mean())
    assert rank[MODEL] > 2.5 * rank[EVERYBODY]
    found = retention.compare(scored, values)
    assert found.loc[MODEL, "low"] > 0 > found.loc[EVERYBODY, "dollars per year"]
    random = np.random.default_rng(3)
    drawn = [retention.yearly_gain(scored, values, random) for _ in range(40)]
    assert min(drawn) < retention.yearly_gain(scored, values) < max(drawn)


def test_the_assumptions_are_those_of_earlier_modules() -> None:
    assert retention.campaign_of(base(load_assumptions())) == CAMPAIGN
