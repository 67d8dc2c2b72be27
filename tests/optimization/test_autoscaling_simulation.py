"""Queue, traffic and simulation: against formulas, against each other, and within what must always hold."""

from __future__ import annotations

import json
import math
from collections import deque
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workshop_lib import exercises
from workshop_lib.monitoring.config import load_config
from workshop_lib.optimization import autoscaling_measured
from workshop_lib.optimization import autoscaling_plots as plots
from workshop_lib.optimization.autoscaling import Metric, read_policy
from workshop_lib.optimization.autoscaling_exercises import EXERCISES
from workshop_lib.optimization.autoscaling_measured import measured_forecaster, measured_llm
from workshop_lib.optimization.autoscaling_simulation import (
    Service,
    compare,
    erlang_c,
    fewest,
    forecaster,
    llm,
    queue,
    readings,
    simulate,
    summary,
)
from workshop_lib.optimization.autoscaling_traffic import daily, resampled, traffic

SERVICE = Service(per_second=10, allowed_wait=1, patience=5, start_seconds=30)


def steady(rate: float, minutes: int = 60) -> pd.Series:
    return pd.Series(rate, pd.date_range("2017-05-01", periods=minutes, freq="min"), dtype=float)


# ---- the queue


def test_erlang_c_is_that_of_the_textbooks() -> None:
    assert erlang_c(1, 0.7) == pytest.approx(0.7)  # M/M/1: the probability of waiting is the utilisation
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)  # M/M/2: 2ρ² / (1 + ρ)
    direct = 8**10 / math.factorial(10) * 10 / (10 - 8)
    direct /= sum(8**k / math.factorial(k) for k in range(10)) + direct
    assert erlang_c(10, 8) == pytest.approx(direct)


def test_with_room_the_wait_is_exponential() -> None:
    step = queue(7, 1, SERVICE, 0)
    assert step.late == pytest.approx(0.7 * math.exp(-3))
    assert step.wait_p95 == pytest.approx(math.log(0.7 / 0.05) / 3)
    assert step.waiting == pytest.approx(0.7 * 7 / 3)  # M/M/1: ρ² / (1 - ρ)
    assert (step.busy, step.served, step.backlog) == (0.7, 7, 0)


def test_the_surplus_piles_up_and_is_worked_off() -> None:
    over = queue(12, 1, SERVICE, 0, seconds=10)
    assert (over.backlog, over.served, over.busy) == (20, 10, 1)
    assert over.late == pytest.approx(0.5)  # late from the moment when 10 requests, a second of work, wait
    after = queue(8, 1, SERVICE, 20, seconds=15)
    assert after.backlog == 0
    assert after.late == pytest.approx(5 / 15)
    assert after.served == pytest.approx(8 + 20 / 15)


def test_who_waits_too_long_leaves() -> None:
    assert queue(100, 1, SERVICE, 0, seconds=60).backlog == 50  # five seconds of work
    nobody = queue(10, 0, SERVICE, 0)
    assert (nobody.late, nobody.served, nobody.backlog) == (1, 0, 50)


@settings(deadline=None)
@given(st.floats(0, 100), st.integers(0, 6), st.floats(0, 300))
def test_a_step_stays_within_what_is_possible(rate: float, replicas: int, backlog: float) -> None:
    step = queue(rate, replicas, SERVICE, backlog)
    assert 0 <= step.late <= 1 and 0 <= step.busy <= 1 + 1e-9
    assert 0 <= step.served <= replicas * 10 + 1e-9 and step.backlog >= 0 and step.waiting >= 0


@settings(deadline=None)
@given(st.floats(0.1, 60), st.integers(1, 5), st.floats(0, 50))
def test_one_replica_more_makes_nobody_later(rate: float, replicas: int, backlog: float) -> None:
    fewer, more = (queue(rate, count, SERVICE, backlog) for count in (replicas, replicas + 1))
    if backlog == 0 and replicas * 10 <= rate < (replicas + 1) * 10:
        return  # where the two formulas meet, they differ: Erlang's takes the jam to have had time to form
    assert more.late <= fewer.late + 1e-9


# ---- what the autoscaler sees


def test_every_metric_of_the_yaml_has_a_reading() -> None:
    seen = deque([queue(5, 1, SERVICE, 0)])
    for name in ("sales-forecaster", "llm"):
        assert {metric.name for metric in read_policy(name).metrics} <= readings(seen, SERVICE, 2, 1).keys()


def test_a_gpu_counts_only_while_somebody_waits() -> None:
    calm, full = (readings(deque([queue(rate, 1, llm(), 0)]), llm(), 1, 1) for rate in (1, 2.9))
    assert calm["gpu"] == 0 and calm["gpu-alone"] == pytest.approx(100, abs=1)
    assert full["gpu"] == full["gpu-alone"]
    assert calm["queue"] == pytest.approx(16 / 3, abs=0.01)  # texts at work: rate · seconds per text


def test_rates_are_those_of_the_last_minute_and_starting_pods_are_not_ready() -> None:
    seen = deque([queue(rate, 2, SERVICE, 0) for rate in (4, 8, 12, 16)])
    found = readings(seen, SERVICE, 3, 2)
    assert found["requests"] == 10
    cpu = found["cpu"]
    assert isinstance(cpu, list) and [pod.ready for pod in cpu] == [True, True, False]
    assert cpu[0].value == pytest.approx(50)


# ---- simulation


def test_a_fixed_number_stays_and_a_policy_finds_its_number() -> None:
    fixed = simulate(steady(2500), forecaster(), replicas=4)
    assert (fixed["replicas"] == 4).all() and len(fixed) == 240
    scaled = simulate(steady(2500), forecaster(), read_policy("sales-forecaster"))
    assert scaled["replicas"].iloc[0] == 1 and scaled["replicas"].iloc[-1] == 4  # 2500 / 700 is 3.6


def test_a_new_replica_answers_after_its_start() -> None:
    slow = replace(forecaster(), start_seconds=600)
    frame = simulate(steady(900), slow, read_policy("sales-forecaster"))
    grown = frame.index[frame["replicas"] > 1][0]
    ready = frame.index[frame["ready"] > 1][0]
    assert ready - grown == pd.Timedelta(585, "s")  # a row says what was there before the decision at its end


def test_the_summary_adds_up() -> None:
    found = summary(simulate(steady(2500), forecaster(), replicas=2), price=0.5)
    assert found["replica-hours"] == pytest.approx(2) and found["cost"] == pytest.approx(1)
    assert found["late, %"] > 99 and found["bad minutes"] == 60 and found["changes"] == 0
    calm = summary(simulate(steady(500), forecaster(), replicas=2), price=0.5)
    assert calm["late, %"] < 0.001 and calm["busy, %"] == pytest.approx(25)


def test_a_bad_minute_is_what_the_monitoring_says(tmp_path: Path, use_settings) -> None:  # type: ignore[no-untyped-def]
    config = load_config().model_copy(deep=True)
    frame = simulate(steady(9.6), replace(SERVICE, allowed_wait=5), replicas=1)
    assert 0.05 < frame["late"].iloc[-1] < 0.5
    assert summary(frame, 1)["bad minutes"] == 60
    source = Path(use_settings().monitoring_config).read_text(encoding="utf-8")
    changed = tmp_path / "limits.yaml"
    changed.write_text(source.replace(f"latency: {config.objectives.latency}", "latency: 0.5"))
    use_settings(monitoring_config=changed)
    assert summary(frame, 1)["bad minutes"] == 0


def test_fewest_is_the_first_that_is_enough() -> None:
    number = fewest(steady(2500), forecaster())
    assert number == 3
    with pytest.raises(ValueError, match="Even with 2 replicas"):
        fewest(steady(2500), forecaster(), most=2)


# ---- the lessons of the notebook, on its own traffic


@pytest.fixture(scope="module")
def holiday() -> pd.Series:
    return traffic("2017-11-20", days=3)


def test_traffic_is_the_datas_own(holiday: pd.Series) -> None:
    assert len(holiday) == 3 * 24 * 60 and holiday.min() >= 0
    days = daily(traffic("2017-11-20", days=7))
    assert days["requests, millions"].idxmax().isoformat() == "2017-11-22"  # the day before Thanksgiving
    assert days["requests, millions"].iloc[3] < 0.6 * days["requests, millions"].iloc[2]
    year = traffic("2017-01-01", days=365)
    assert year.sum() * 60 / 365 == pytest.approx(5000 * 2000 * 10.2, rel=0.01)
    assert np.allclose(traffic("2017-11-20", shops=50), holiday.iloc[:1440] / 100)


def test_a_day_without_data_is_refused() -> None:
    with pytest.raises(ValueError, match="from 2017-01-01 to"):
        traffic("2019-01-01")


def test_steps_follow_the_minutes() -> None:
    values = resampled(pd.Series([0.0, 60.0], pd.date_range("2017-01-01", periods=2, freq="min")), 15)
    assert values.tolist() == [0, 0, 0, 15, 30, 45, 60, 60]


def test_autoscaling_costs_less_than_what_the_peak_needs(holiday: pd.Series) -> None:
    number = fewest(holiday, forecaster())
    scaled = simulate(holiday, forecaster(), read_policy("sales-forecaster"))
    table = compare({"scaled": scaled, "fixed": simulate(holiday, forecaster(), replicas=number)}, price=1)
    assert table.loc["scaled", "cost"] < 0.7 * table.loc["fixed", "cost"]
    assert table.loc["scaled", "late, %"] < 0.1


def test_the_waiting_requests_alone_make_an_llm_swing_and_the_gpu_alone_keeps_all(holiday: pd.Series) -> None:
    texts, given_policy = holiday * 0.001, read_policy("llm")
    runs = {
        name: simulate(texts, llm(), replace(given_policy, metrics=metrics))
        for name, metrics in {
            "policy": given_policy.metrics,
            "waiting": (Metric("waiting", "AverageValue", 4),),
            "gpu": (Metric("gpu-alone", "Value", 80),),
        }.items()
    }
    table = compare(runs, price=1)
    assert table.loc["waiting", "changes"] > 5 * table.loc["policy", "changes"]
    assert table.loc["waiting", "late, %"] > 5 < table.loc["gpu", "cost"]
    assert table.loc["gpu", "cost"] > 1.5 * table.loc["policy", "cost"]
    assert table.loc["policy", "late, %"] < 1


# ---- what was measured


def test_the_scorecard_comes_first(home: Path) -> None:
    about = {"module": "3-serving", "label": "", "comparison": "<=", "target": 1, "unit": "", "met": True, "order": 0}
    records = [
        {"id": key, "measured": value, "checkpoint": {"number": "3.4", "label": ""}} | about
        for key, value in {"endpoint.requests_per_second": 150, "endpoint.cores": 0.2}.items()
    ]
    home.mkdir()
    (home / "scorecard.json").write_text(json.dumps(records))
    assert measured_forecaster().per_second == pytest.approx(750)
    assert measured_forecaster().source == "scorecard, checkpoint 3.4"
    assert measured_llm() is None


def test_without_a_scorecard_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoscaling_measured, "read_scorecard", list)
    found = measured_forecaster()
    assert found.source == "measured now, for 2 s" and 20 < found.per_second < 100_000


# ---- exercises


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda count, used, target: count if abs(used / target - 1) <= 0.1 else math.ceil(count * used / target), ""),
        (lambda count, used, target: math.ceil(count * used / target), "leaves the number alone"),
        (lambda count, used, target: count if abs(used / target - 1) <= 0.1 else count * used // target, "round up"),
        (lambda count, used, target: math.ceil(used / target), "multiply it by"),
        (lambda count, used, target: math.ceil(count * target / used), "other way round"),
        (17, "ceil("),
    ],
)
def test_exercise_a(answer: object, says: str) -> None:
    judged("5.7.a", answer, says)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"up": 120, "down": 300}, ""),
        ({"up": 105, "down": 195}, ""),
        ({"up": 300, "down": 120}, "which window does what"),
        ({"up": 60, "down": 300}, "spikes last 90"),
        ({"up": 120, "down": 150}, "gaps last 180"),
        ({"up": 300, "down": 600}, "come too late"),
        ({}, "Hand over"),
    ],
)
def test_exercise_b(answer: object, says: str) -> None:
    judged("5.7.b", answer, says)


def judged(number: str, answer: object, says: str) -> None:
    """Whether an answer is right (an empty hint), or gets this hint."""
    exercise = EXERCISES[number]
    right = exercises._holds(exercise.right, answer)
    hints = [hint for test, hint in exercise.near_misses if exercises._holds(test, answer)]
    assert right == (not says) and (right or says in [*hints, exercise.hint][0])


# ---- pictures


def test_pictures_are_drawn(holiday: pd.Series) -> None:
    frame = simulate(holiday.iloc[:600], forecaster(), read_policy("sales-forecaster"))
    plt.close("all")  # what other tests have left open
    plots.plot_weeks({"one": holiday, "other": holiday * 2}, 1000)
    plots.plot_run(frame, 1000, "A day")
    plots.plot_run(frame, 1000, "A day", waits="wait")
    plots.plot_runs({"one": frame, "other": frame}, 1000)
    plots.plot_tradeoff(compare({"scaled": frame, "always 1": frame}, 1))
    assert len(plt.get_fignums()) == 5
    plt.close("all")
