"""A model can be stolen by asking, and a budget per owner keeps what is stolen small."""

from __future__ import annotations

import numpy as np
import pytest

from workshop_lib.mlops import extraction
from workshop_lib.mlops.security_stand import OWNERS, ROLES, Stand
from workshop_lib.predictive import churn


@pytest.fixture(scope="module")
def budget() -> int:
    limit = ROLES["partner"].answers_per_day
    assert limit is not None
    return limit


def test_the_guesses_cover_every_feature() -> None:
    assert tuple(extraction.GUESSES) == churn.FEATURES
    rows = extraction.guesses(50)
    low, high = np.array(list(extraction.GUESSES.values())).T
    assert rows.shape == (50, len(churn.FEATURES)) and ((low <= rows) & (rows <= high)).all()
    assert (rows == extraction.guesses(50)).all()


def test_real_households_are_split_without_overlap() -> None:
    insider, judges = extraction.households()
    assert abs(len(insider) - len(judges)) <= 1
    assert len(np.unique(np.concatenate([insider, judges]), axis=0)) > 0.99 * (len(insider) + len(judges))


def test_a_copy_of_a_known_model_gets_better_with_answers() -> None:
    rng = np.random.default_rng(2)
    questions, judges = (rng.normal(size=(n, len(churn.FEATURES))) for n in (600, 300))

    def model(rows: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-(rows[:, 0] - 2 * rows[:, 3]))))

    loot = extraction.Loot(questions, model(questions), 0, 0.0)
    found = extraction.copies(loot, [30, 600, 5000], judges, model(judges))
    assert found["answers"].tolist() == [30, 600, 600]
    assert found["order"].iloc[1] > 0.95 > found["order"].iloc[0]


def test_a_model_that_is_entirely_sure_is_copied_too() -> None:
    """A forest answers 0 and 1, a linear model does when it is asked far from what it has seen."""
    rng = np.random.default_rng(3)
    questions, judges = (rng.normal(size=(n, len(churn.FEATURES))) for n in (600, 300))
    answers, truth = ((rows[:, 0] > 0).astype(float) for rows in (questions, judges))
    found = extraction.copies(extraction.Loot(questions, answers, 0, 0.0), [600], judges, truth)
    assert found["agreement"].item() > 0.95


@pytest.mark.long
def test_the_throttle_ends_an_attack_and_the_guard_sees_it(stand: Stand, budget: int) -> None:
    """With a budget of its own: the owner's other tests would share it."""
    assert OWNERS["second-partner"] == "partner"
    questions = extraction.guesses(budget + 30)
    stolen = extraction.steal(stand.api("second-partner"), questions)
    assert len(stolen.answers) == budget and stolen.refused == extraction.GIVE_UP
    assert stolen.marked > 0.5
    free = extraction.steal(stand.api("dashboard"), questions)
    assert len(free.answers) == len(questions) and free.refused == 0
    assert free.answers[:budget] == pytest.approx(stolen.answers, abs=1e-9), "the answers themselves are not altered"


@pytest.mark.long
def test_usual_questions_are_not_marked(stand: Stand) -> None:
    _, judges = extraction.households()
    asked = extraction.steal(stand.api("dashboard"), judges[:40])
    assert asked.marked == 0 and ((asked.answers > 0) & (asked.answers < 1)).all()
