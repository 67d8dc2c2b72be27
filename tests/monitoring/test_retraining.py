"""A challenger takes over when it is better beyond chance, and only then."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest

from workshop_lib.monitoring import retraining
from workshop_lib.monitoring.drift_data import Weeks, load_weeks
from workshop_lib.monitoring.retraining import paired_test
from workshop_lib.predictive.forecaster import random_forest

QUICK = partial(random_forest, n_estimators=4, max_depth=6, n_jobs=2)
INDEX = pd.MultiIndex.from_product([pd.date_range("2017-01-01", periods=28), list("abcd")], names=["date", "category"])
TRUTH = pd.Series(np.random.default_rng(1).poisson(50, len(INDEX)).astype(float), index=INDEX)


@pytest.fixture(scope="module")
def weeks() -> Weeks:
    """The course's data."""
    return load_weeks()


def test_the_test_by_hand() -> None:
    found = paired_test(TRUTH, TRUTH + 10, TRUTH - 5)  # over or under, the size of the error counts
    assert found.champion_wape == pytest.approx(10 * len(TRUTH) / TRUTH.sum())
    assert found.improvement == pytest.approx(found.champion_wape / 2)
    assert found.days == 28
    assert found.better and found.p_value == pytest.approx(1 / 5001)
    back = paired_test(TRUTH, TRUTH - 5, TRUTH + 10)
    assert not back.better and back.p_value > 0.99
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low), rel=0.05)


def test_models_that_are_alike_are_no_better() -> None:
    assert not paired_test(TRUTH, TRUTH + 3, TRUTH + 3).better


def test_chance_alone_rarely_promotes() -> None:
    random = np.random.default_rng(3)
    promoted = 0
    for _ in range(100):
        # The categories of a day err together: single rows would make chance look like proof.
        ours, theirs = (np.repeat(random.normal(0, 5, 28), 4) + random.normal(0, 1, len(INDEX)) for _ in range(2))
        promoted += paired_test(TRUTH, TRUTH + ours, TRUTH + theirs, resamples=400).better
    assert promoted <= 12


def test_days_are_drawn_and_not_rows() -> None:
    """The same rows in four times as many days are four times as much evidence, in one day none."""
    gain = np.tile([2.0, -1.0, 2.0, -1.0], 28)
    one = paired_test(TRUTH, TRUTH + 10 + gain, TRUTH + 10)  # every day the same mean: no doubt
    assert one.better and one.low == pytest.approx(one.high, rel=0.2)
    by_day = pd.Series(np.repeat(np.tile([8.0, -7.0], 14), 4), index=INDEX)
    two = paired_test(TRUTH, TRUTH + 10 + by_day, TRUTH + 10)  # the same mean gain, from day to day up and down
    assert two.improvement == pytest.approx(one.improvement) and not two.better


def test_other_rows_and_single_days_are_refused() -> None:
    with pytest.raises(ValueError, match="same rows"):
        paired_test(TRUTH, TRUTH.iloc[::-1], TRUTH)
    day = TRUTH.head(4)
    with pytest.raises(ValueError, match="two or more days"):
        paired_test(day, day, day)


def test_the_challenger_has_not_seen_the_weeks_of_the_test(weeks: Weeks) -> None:
    champion = retraining.train_until(weeks, 12, QUICK)
    found = retraining.retrain(weeks, champion.model, trigger=30, shadow_weeks=4, make=QUICK)
    assert found.shadow == (31, 34)
    trained = weeks.number.loc[found.challenger.dataset.split.fit]
    assert (trained.min(), trained.max()) == (7, 30)
    assert found.comparison.days == 28
    assert found.summary()["promoted"] is found.comparison.better
    with pytest.raises(ValueError, match="have not arrived"):
        retraining.retrain(weeks, champion.model, trigger=50, shadow_weeks=4)
