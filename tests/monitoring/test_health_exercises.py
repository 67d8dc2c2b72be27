"""The exercises about health and objectives, and the month on paper that the notebook looks at."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from workshop_lib.monitoring.config import load_config
from workshop_lib.monitoring.health_exercises import EXERCISES
from workshop_lib.monitoring.slo import HOUR
from workshop_lib.monitoring.slo_month import INCIDENTS, Incident, simulate

WHO = {
    "the process hangs and shall be started anew": "live",
    "the server still loads its model": "ready",
    "forecasts are a thousand times too high": "known answer",
    "one answer in 250 fails, since yesterday": "burn rate",
}
RIGHT = {"5.4.a": {"allowed": 21.6, "alert": 0.432}, "5.4.b": WHO}


@pytest.mark.parametrize("name", EXERCISES)
def test_the_right_answer_is_right(name: str) -> None:
    assert EXERCISES[name].right(RIGHT[name])


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [
        ("5.4.a", {"allowed": 1296, "alert": 25.92}, "seconds"),
        ("5.4.a", {"allowed": 43.2, "alert": 0.864}, "99.9%"),
        ("5.4.a", {"allowed": 2160, "alert": 43.2}, "0.0005"),
        ("5.4.a", {"allowed": 21.6, "alert": 0.864}, "half as large"),
        ("5.4.a", {"allowed": 21.6, "alert": 0.036}, "long one"),
        ("5.4.a", {"allowed": 21.6, "alert": 3}, "The first is right"),
        ("5.4.b", {}, "as keys"),
        ("5.4.b", WHO | {"the server still loads its model": "live"}, "never comes up"),
        ("5.4.b", WHO | {"the process hangs and shall be started anew": "ready"}, "left alone"),
        ("5.4.b", WHO | {"forecasts are a thousand times too high": "ready"}, "what the answer should be"),
        ("5.4.b", WHO | {"one answer in 250 fails, since yesterday": "known answer"}, "sum of the failures"),
    ],
)
def test_a_near_miss_gets_its_hint(name: str, answer: object, hint: str) -> None:
    exercise = EXERCISES[name]
    assert not exercise.right(answer)
    assert hint in next(text for mistaken, text in exercise.near_misses if mistaken(answer))


def test_incidents_do_not_overlap() -> None:
    stretches = sorted(stretch for one in INCIDENTS for stretch in one.stretches())
    assert all(end <= begin for (_, end), (begin, _) in pairwise(stretches))


def test_a_month_without_incidents_is_well() -> None:
    month = simulate([])
    assert month.failed == 0 and month.alerts(load_config().objectives).empty
    assert (month.remaining(0.999) == 1).all()


def test_what_incidents_cost() -> None:
    """Of 43.2 minutes: 12 are 27.8%; one of 250 checks of 30 s over 3 days are 17.5, 40.5%; seven half ones 8.1%."""
    costs = simulate().costs(0.999)
    assert costs["minutes down"].tolist() == pytest.approx([0.5, 12, 17.5, 3.5, 0])
    assert costs["budget used, %"].round(1).tolist() == [1.2, 27.8, 40.5, 8.1, 0]
    assert costs["minutes unknown"].tolist() == pytest.approx([0, 0, 0, 0, 8 * 60], abs=1.5)
    assert simulate().remaining(0.999)[-1] == pytest.approx(1 - (0.5 + 12 + 17.5 + 3.5) / 43.2)


def test_which_alerts_fire() -> None:
    alerts = simulate().alerts(load_config().objectives)
    fired = set(zip(alerts["incident"], alerts["window"], strict=True))
    assert fired == {
        ("server down", "1h"),
        ("server down", "6h"),
        ("server down", "3d"),
        ("one answer in 250 fails", "3d"),
    }
    assert (alerts.loc[alerts["incident"] == "server down", "after, hours"] < 0.1).all()


def test_each_failed_check_would_be_a_call() -> None:
    month = simulate([Incident("an hour", begins=1, minutes=60), Incident("half of them", 3, 60, one_in=2)], every=60)
    assert month.failed == 60 + 30


def test_an_unwatched_outage_uses_no_budget_and_is_told() -> None:
    month = simulate([Incident("away", begins=1, minutes=60, watched=False)])
    assert month.costs(0.999)["minutes unknown"].tolist() == pytest.approx([60], abs=1.5)
    assert np.asarray(month.timeline.between(0, 48 * HOUR).unknown) == pytest.approx(HOUR, abs=90)
