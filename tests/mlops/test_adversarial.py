"""The probe finds the worst case where it is known, and never more than there is."""

from __future__ import annotations

import numpy as np
import pytest

from workshop_lib.mlops.adversarial import GROUPS, forecaster_of, probe
from workshop_lib.predictive import champion
from workshop_lib.predictive.features import FEATURES

NAMES = ("a", "b", "c")
ROWS = np.random.default_rng(1).uniform(10, 20, (40, 3))


def test_of_a_sum_the_worst_case_is_known() -> None:
    found = probe(lambda rows: rows.sum(axis=1), ROWS, [0.01, 0.05], {"all": NAMES, "none": ()}, NAMES)
    assert found.loc[("all", 0.01)][["median", "p95", "largest"]].tolist() == pytest.approx([0.01] * 3)
    assert found.loc[("all", 0.05), "largest"] == pytest.approx(0.05)
    assert 0 < found.loc[("all", 0.05), "random"] < 0.05
    assert (found.loc["none"] == 0).all(axis=None)


def test_signs_are_found_per_feature() -> None:
    weights = np.array([1.0, -1.0, 0.5])
    found = probe(lambda rows: 100 + rows @ weights, ROWS, [0.02], {"all": NAMES}, NAMES)
    worst = 0.02 * (ROWS @ np.abs(weights)) / (100 + ROWS @ weights)
    assert found.loc[("all", 0.02), "largest"] == pytest.approx(worst.max())


def test_a_step_that_lies_near_is_found() -> None:
    rows = np.full((5, 3), 10.0)
    found = probe(lambda rows: np.where(rows[:, 1] > 10.05, 9.0, 3.0), rows, [0.001, 0.01], {"all": NAMES}, NAMES)
    assert found["largest"].tolist() == [0, 2]


def test_rows_stay_as_they_were_and_results_repeat() -> None:
    rows = ROWS.copy()
    tables = [probe(lambda rows: rows.prod(axis=1), rows, [0.01], {"all": NAMES}, NAMES) for _ in range(2)]
    assert (rows == ROWS).all() and tables[0].equals(tables[1])


def test_the_forecaster_itself_can_be_probed() -> None:
    champion.ensure_champion()
    predict = forecaster_of(champion.load_package().onnx_file)
    rows = np.random.default_rng(5).gamma(2, 20, (8, len(FEATURES)))
    found = probe(predict, rows, [0.01])
    assert list(found.index.unique("group")) == list(GROUPS)
    assert (found["largest"] >= found["p95"]).all() and (found["p95"] >= found["median"]).all()
    assert {name for group in GROUPS.values() for name in group} <= set(FEATURES)
