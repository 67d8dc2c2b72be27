"""Intervals hold what they promise, on days like those they were measured on, and say where they do not."""

import numpy as np
import pytest

from workshop_lib.predictive import intervals
from workshop_lib.predictive.forecaster import Dataset, gradient_boosting, make_dataset, predict_units, train

EXAMPLE = {"coverage": 0.9, "edges": [10.0], "lower": [[0.5, 0.8], [0.25, 0.5]], "upper": [[2.0, 1.5], [3.0, 2.0]]}


def test_bounds_are_ratios_by_size_and_horizon() -> None:
    lower, upper = intervals.bounds(EXAMPLE, np.array([1.0, 99.0]))
    assert lower.tolist() == [0, 79] and upper.tolist() == [3, 149]
    lower, upper = intervals.bounds(EXAMPLE, np.array([1.0, 99.0]), np.array([1, 2]))
    assert lower.tolist() == [0, 49] and upper.tolist() == [3, 199]


def test_bounds_never_fall_below_zero() -> None:
    assert intervals.bounds(EXAMPLE, np.array([0.0]), 2)[0].tolist() == [0]


@pytest.mark.parametrize("horizon", [0, 3])
def test_a_horizon_that_was_not_measured_is_refused(horizon: int) -> None:
    with pytest.raises(ValueError, match="1 to 2 days"):
        intervals.bounds(EXAMPLE, np.array([1.0]), horizon)


@pytest.mark.parametrize("coverage", [0, 1, 90])
def test_a_coverage_outside_zero_and_one_is_refused(dataset: Dataset, coverage: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        intervals.calibrate(gradient_boosting(), dataset, coverage)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_dataset(30)


def test_the_promised_share_of_ordinary_days_lies_within(dataset: Dataset) -> None:
    small = gradient_boosting(n_estimators=60)
    interval = intervals.calibrate(small, dataset, 0.8)
    assert len(interval["lower"]) == 7 and len(interval["edges"]) == 4
    trained = train(small, dataset)
    ordinary = dataset.split.test[:8]  # the test days begin twelve days before Thanksgiving
    features, units = dataset.rows(ordinary)
    lower, upper = intervals.bounds(interval, predict_units(trained.model, features).to_numpy())
    inside = ((lower <= units) & (units <= upper)).mean()
    assert 0.72 <= inside <= 0.9
    feast = dataset.rows(dataset.split.test[dataset.split.test == "2017-11-23"])
    lower, upper = intervals.bounds(interval, predict_units(trained.model, feast[0]).to_numpy())
    assert ((lower <= feast[1]) & (feast[1] <= upper)).mean() < 0.5  # Thanksgiving is not like the days before


def test_wider_promises_give_wider_intervals(dataset: Dataset) -> None:
    small = gradient_boosting(n_estimators=20)
    narrow, wide = (intervals.calibrate(small, dataset, coverage) for coverage in (0.5, 0.95))
    units = np.array([5.0, 50.0])
    assert (np.diff(intervals.bounds(wide, units), axis=0) > np.diff(intervals.bounds(narrow, units), axis=0)).all()
