"""Uptime, error budget and burn rates, against cases computed by hand."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from workshop_lib.monitoring.config import BurnRate, load_config
from workshop_lib.monitoring.slo import (
    DAY,
    HOUR,
    MINUTE,
    Timeline,
    Uptime,
    allowed_seconds,
    budget_spent,
    burn_rate,
    burn_rates,
    fires,
    seconds_to_alert,
    seconds_to_reset,
)
from workshop_lib.monitoring.slo_record import Record

FAST = BurnRate(factor=14.4, long="1h", short="5m", severity="critical")
SLOW = BurnRate(factor=1, long="3d", short="6h", severity="warning")


def timeline(*checks: tuple[float, bool | None], holds: float = 25) -> Timeline:
    made = Timeline()
    made.extend((at, up, holds) for at, up in checks)
    return made


@pytest.mark.parametrize(
    ("objective", "window", "minutes"),
    [
        (0.999, 30 * DAY, 43.2),
        (0.999, DAY, 1.44),
        (0.999, 7 * DAY, 10.08),
        (0.99, 30 * DAY, 432),
        (0.9999, 30 * DAY, 4.32),
    ],
)
def test_what_an_objective_allows(objective: float, window: float, minutes: float) -> None:
    assert allowed_seconds(objective, window) / MINUTE == pytest.approx(minutes)


def test_the_books_table_of_burn_rates() -> None:
    """Table 5-8 of the workbook: 2% in an hour, 5% in six hours, 10% in three days."""
    assert budget_spent(14.4, HOUR, 30 * DAY) == pytest.approx(0.02)
    assert budget_spent(6, 6 * HOUR, 30 * DAY) == pytest.approx(0.05)
    assert budget_spent(1, 3 * DAY, 30 * DAY) == pytest.approx(0.10)


def test_the_rules_of_the_configuration_are_the_books() -> None:
    rules = load_config().objectives.burn_rates
    assert [(rule.factor, rule.long, rule.short) for rule in rules] == [
        (14.4, "1h", "5m"), (6, "6h", "30m"), (1, "3d", "6h"),
    ]  # fmt: skip


def test_burn_rates_of_the_book() -> None:
    """Table 5-4: at 99.9%, error ratios of 0.1%, 0.2%, 1% and 100% burn 1, 2, 10 and 1000 times too fast."""
    assert burn_rate(np.array([0.001, 0.002, 0.01, 1]), 0.999) == pytest.approx([1, 2, 10, 1000])
    assert math.isnan(burn_rate(math.nan, 0.999))


def test_stretches_between_checks() -> None:
    # up 0-10, down 10-30, up 30-40; the last check holds for 25 s
    watched = timeline((0, True), (10, False), (20, False), (30, True), (40, True))
    assert (watched.begins, watched.ends, watched.ups) == ([0, 10, 30], [10, 30, 65], [True, False, True])
    whole = watched.between(0, 50)
    assert (whole.up, whole.down, whole.unknown) == (30, 20, 0)
    assert whole.availability == pytest.approx(0.6) and whole.error_ratio == pytest.approx(0.4)
    part = watched.between(5, 15)
    assert (part.up, part.down) == (5, 5), "windows cut stretches anywhere"


def test_a_watcher_that_was_away_is_no_uptime() -> None:
    watched = timeline((0, True), (10, True), (100, True))
    gap = watched.between(0, 110)
    assert (gap.up, gap.down, gap.unknown) == (45, 0, 65), "known from 0 to 35 and from 100 on"
    assert gap.availability == 1, "nothing bad is known"
    alone = watched.between(50, 90)
    assert math.isnan(alone.availability) and alone.unknown == 40


def test_a_check_that_could_not_be_made_ends_what_was_known() -> None:
    watched = timeline((0, True), (10, None), (20, False), (30, True))
    whole = watched.between(0, 40)
    assert (whole.up, whole.down, whole.unknown) == (20, 10, 10)


def test_nothing_known_at_all() -> None:
    nothing = Timeline().between(0, 100)
    assert (nothing.up, nothing.down, nothing.unknown) == (0, 0, 100)
    assert math.isnan(nothing.availability)
    assert not fires(Timeline(), FAST, 0.999, 100.0)


def test_a_clock_that_was_set_back_does_no_harm() -> None:
    watched = timeline((100, True), (40, False), (110, True))
    whole = watched.between(90, 120)
    assert (whole.up, whole.down, whole.unknown) == (10, 10, 10)


def test_many_moments_at_once() -> None:
    watched = timeline((0, True), (10, False), (20, True))
    ends = np.array([10.0, 20.0, 30.0])
    assert watched.between(ends - 10, ends).down == pytest.approx([0, 10, 0])
    assert watched.between(ends - 10, ends).availability == pytest.approx([1, 0, 1])


def test_a_month_of_checks_takes_few_lines() -> None:
    watched = timeline(*((15.0 * number, number not in (100, 101)) for number in range(2000)))
    assert len(watched.begins) == 3
    assert watched.between(0, 30000).down == 30


def test_what_is_over_can_be_forgotten() -> None:
    watched = timeline((0, True), (10, False), (20, True))
    watched.forget(15)
    assert watched.begins == [10, 20]
    assert watched.between(0, 30).unknown == 10


def test_budget_left() -> None:
    """Of 43.2 minutes in 30 days: 10.8 down leave three quarters, 86.4 leave minus one."""
    left = Uptime(np.zeros(2), np.array([10.8, 86.4]) * MINUTE, 30 * DAY - np.array([10.8, 86.4]) * MINUTE)
    assert left.budget_remaining(0.999) == pytest.approx([0.75, -1])


@pytest.mark.parametrize(("ratio", "found"), [(1, 51.84), (0.5, 103.68), (0.02, 2592), (0.01, math.inf)])
def test_how_soon_the_fast_rule_sees_a_fault(ratio: float, found: float) -> None:
    """14.4 * 0.001 / ratio of an hour."""
    assert seconds_to_alert(FAST, 0.999, ratio) == pytest.approx(found)


def test_the_formula_and_a_simulation_agree() -> None:
    """A day that is well, an outage, a day that is well: checks every 5 s."""
    outage, until = DAY, DAY + 10 * MINUTE
    every = np.arange(0, 2 * DAY, 5.0)
    watched = timeline(*((at, not outage <= at < until) for at in every.tolist()))
    moments = np.arange(outage - 600, until + 900, 1.0)
    alert = moments[fires(watched, FAST, 0.999, moments)]
    assert alert[0] - outage == pytest.approx(seconds_to_alert(FAST, 0.999, 1), abs=1)
    assert alert[-1] - until == pytest.approx(seconds_to_reset(FAST, 0.999, 1), abs=1)
    assert len(alert) == pytest.approx(alert[-1] - alert[0] + 1), "without a gap"


def test_a_blip_wakes_nobody_and_a_slow_leak_is_seen_in_time() -> None:
    every = np.arange(0, 8 * DAY, 30.0)
    blip = timeline(*((at, not 4 * DAY <= at < 4 * DAY + 30) for at in every.tolist()), holds=60)
    assert not fires(blip, FAST, 0.999, every).any()
    # From day 4 on one check in 500 fails: an error ratio of 0.2%, twice too fast.
    leak = timeline(*((at, at < 4 * DAY or number % 500 > 0) for number, at in enumerate(every.tolist())), holds=60)
    assert not fires(leak, FAST, 0.999, every).any()
    seen = every[fires(leak, SLOW, 0.999, every)]
    assert (seen[0] - 4 * DAY) / HOUR == pytest.approx(seconds_to_alert(SLOW, 0.999, 0.002) / HOUR, abs=5)


def test_both_windows_are_needed() -> None:
    watched = timeline((0, True), (HOUR, False), (HOUR + 600, True), (HOUR + 601, True), holds=2 * HOUR)
    at = HOUR + 600 + 400.0
    long, short = burn_rates(watched, FAST, 0.999, at)
    assert long == pytest.approx(1000 * 600 / 3600) and short == 0
    assert not fires(watched, FAST, 0.999, at), "the fault is over"


# ---- the record


def test_checks_come_back_as_they_were(tmp_path: Path) -> None:
    record = Record(tmp_path / "uptime.db")
    for at, up in ((0, True), (10, False), (20, True), (30, None)):
        record.add("forecaster", at, up, holds=25, cause="" if up else "wrong", reason="A thousand times too much.")
    record.add("api", 5, True, holds=25)
    found = Record(tmp_path / "uptime.db").timelines()
    assert set(found) == {"forecaster", "api"}
    whole = found["forecaster"].between(0, 40)
    assert (whole.up, whole.down, whole.unknown) == (20, 10, 10)
    failures = record.failures()
    assert list(failures["at"]) == [10, 30] and set(failures["reason"]) == {"A thousand times too much."}


def test_the_record_is_bounded(tmp_path: Path) -> None:
    record = Record(tmp_path / "uptime.db")
    for at in range(10):
        record.add("api", at, True, holds=25)
    assert record.forget(before=7) == 7
    assert record.timelines()["api"].begins == [7]
    assert record.timelines(since=8)["api"].begins == [8]


def test_two_writers_share_a_record(tmp_path: Path) -> None:
    one, other = Record(tmp_path / "uptime.db"), Record(tmp_path / "uptime.db")
    one.add("api", 0, True, holds=25)
    other.add("api", 10, False, holds=25)
    assert one.timelines()["api"].ups == [True, False]


def test_a_file_that_is_no_record_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "uptime.db").write_text("no database " * 500, encoding="utf-8")
    with pytest.raises(sqlite3.DatabaseError):
        Record(tmp_path / "uptime.db").add("api", 0, True, holds=25)
