"""Distances by hand and against Evidently's; what grows with the rows and what does not; false alarms counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workshop_lib.monitoring import drift_distances as distances
from workshop_lib.monitoring.drift_exercises import EXERCISES
from workshop_lib.monitoring.drift_report import tenths
from workshop_lib.monitoring.drift_study import false_alarms

RANDOM = np.random.default_rng(7)
BEFORE, NOW = RANDOM.normal(0, 1, 5000), RANDOM.normal(0.3, 1.4, 800)
COUNTS = np.repeat([0.0, 0.0, 1.0, 2.0, 5.0], 400), np.repeat([0.0, 2.0, 5.0, 9.0], 100)
"""Values of which many are equal, as shares of promotions are."""


def test_psi_by_hand() -> None:
    before = np.arange(100.0)
    now = np.concatenate([np.zeros(40), np.arange(10.0, 70.0)])  # 40% in the first tenth, none in the last three
    parts = [(0.4 - 0.1) * np.log(0.4 / 0.1), *[3 * (1e-4 - 0.1) * np.log(1e-4 / 0.1)]]
    assert distances.psi(before, now) == pytest.approx(sum(parts), abs=1e-9)
    assert distances.psi(before, before) == 0


def test_a_class_without_rows_gives_a_number() -> None:
    assert 0 < distances.psi(BEFORE, np.full(50, 99.0)) < np.inf


def test_distances_see_a_shift_in_either_direction_and_wasserstein_counts_in_deviations() -> None:
    for shift in (-0.5, 0.5):
        assert distances.wasserstein(BEFORE, BEFORE + shift) == pytest.approx(0.5 / BEFORE.std())
        assert distances.wasserstein(10 * BEFORE, 10 * (BEFORE + shift)) == pytest.approx(0.5 / BEFORE.std())
        assert distances.psi(BEFORE, BEFORE + shift) > 0.1


def test_evidently_gives_the_same_numbers() -> None:
    from evidently.legacy.calculations.stattests import ks_stat_test, psi_stat_test, wasserstein_stat_test
    from evidently.legacy.core import ColumnType

    for before, now in ((BEFORE, NOW), COUNTS):
        pair = pd.Series(before), pd.Series(now)
        for theirs, ours in ((ks_stat_test, distances.ks_p_value), (wasserstein_stat_test, distances.wasserstein)):
            found = theirs(*pair, ColumnType.Numerical, None).drift_score
            assert ours(before, now) == pytest.approx(found, rel=1e-9)
        classes = tenths(pair[0].to_frame("x"), pair[1].to_frame("x"))
        found = psi_stat_test(*(frame["x"] for frame in classes), ColumnType.Categorical, None).drift_score
        assert distances.psi(before, now) == pytest.approx(found, rel=1e-9)


def test_with_more_rows_the_p_value_falls_and_the_distances_stay() -> None:
    table = distances.growing_sample(BEFORE, [300, 3_000, 30_000], shift=0.05)
    assert table["ks_p_value"].is_monotonic_decreasing
    assert table["ks_p_value"].iloc[0] > 0.05 and table["ks_p_value"].iloc[-1] < 0.001
    assert table["wasserstein"].iloc[-1] == pytest.approx(0.05, abs=0.02)
    assert (table["psi"].iloc[1:] < 0.1).all()
    pd.testing.assert_frame_equal(table, distances.growing_sample(BEFORE, [300, 3_000, 30_000], shift=0.05))


def test_a_small_p_value_and_a_large_distance_mean_drift() -> None:
    assert distances.drifts("ks_p_value", 0.01, 0.05) and not distances.drifts("ks_p_value", 0.2, 0.05)
    assert distances.drifts("psi", 0.3, 0.2) and not distances.drifts("psi", 0.1, 0.2)


def test_false_alarms_are_counted_by_feature_and_by_week() -> None:
    values = {(1, "a"): 0.3, (1, "b"): 0.1, (2, "a"): 0.1, (2, "b"): 0.1, (3, "a"): 0.9, (3, "b"): 0.5}
    frame = pd.DataFrame([(week, name, "psi", value) for (week, name), value in values.items()],
                         columns=["week", "feature", "method", "value"])  # fmt: skip
    table = false_alarms({"form": frame}, {"psi": [0.2]}, quiet=[1, 2], later=[3], share=0.5)
    assert table.loc[("form", "psi", 0.2)].tolist() == [0.25, 0.5, 1]
    strict = false_alarms({"form": frame}, {"psi": [0.2]}, quiet=[1, 2], later=[3], share=0.6)
    assert strict.loc[("form", "psi", 0.2)].tolist() == [0.25, 0, 1]


def hint(exercise: str, answer: object) -> str:
    """What a wrong answer is told; empty for a right one."""
    found = EXERCISES[exercise]

    def holds(test: Callable[[Any], bool]) -> bool:
        try:
            return bool(test(answer))
        except (TypeError, ValueError, AttributeError, LookupError):
            return False

    if holds(found.right):
        return ""
    return next((text for mistaken, text in found.near_misses if holds(mistaken)), found.hint)


def test_exercise_a_tells_near_misses_apart() -> None:
    before, now = np.full(4, 0.25), np.array([0.1, 0.2, 0.3, 0.4])
    parts = (now - before) * np.log(now / before)
    assert hint("5.2.a", parts.sum()) == ""
    wrong = [parts.sum() / np.log(10), -parts.sum(), (now * np.log(now / before)).sum(), parts, 3.0]
    hints = [hint("5.2.a", answer) for answer in wrong]
    assert all(hints) and len(set(hints)) == 5
    assert hint("5.2.a", "x") == hint("5.2.a", [1, 2]) == EXERCISES["5.2.a"].hint


def test_exercise_b_explains_each_mistake() -> None:
    right = {
        "error 1.4 in one week, all else usual": "watch",
        "error 1.2 two weeks in a row": "retrain",
        "60% of the features three weeks in a row, error as usual": "retrain",
        "KS finds all features different (p < 0.001), PSI below 0.1": "nothing",
        "60% of the features this week, none the week before": "watch",
    }
    assert hint("5.2.b", right) == ""
    others = {"watch": "retrain", "retrain": "watch", "nothing": "watch"}
    hints = {hint("5.2.b", right | {situation: others[answer]}) for situation, answer in right.items()}
    assert "" not in hints and len(hints) == 5
    assert "five situations" in hint("5.2.b", {})
