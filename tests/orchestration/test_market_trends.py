"""Trends and seasons: found where they were planted, and nowhere else."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.orchestration.market_shops import DAYS, small_shop
from workshop_lib.orchestration import market_trends
from workshop_lib.orchestration.market_results import Season, Trend
from workshop_lib.orchestration.market_trends import (
    TooLittleData,
    feast_name,
    feasts_in,
    find_slopes,
    next_feast,
    ordinary_weeks,
    seasons,
    trends,
)
from workshop_lib.orchestration.market_trial import made_up_weeks, shuffled
from workshop_lib.orchestration.shop import load_shop

WEEKS = 43
NUMBER = np.arange(WEEKS)
YEAR = np.linspace(0, 1, len(DAYS))


def by_name(found: tuple[Trend, ...]) -> dict[str, Trend]:
    return {one.category: one for one in found}


def test_slopes_are_those_of_theil_and_sen() -> None:
    number = np.delete(np.arange(50), [7, 8, 20, 33])
    series = made_up_weeks(len(number), 5, carried=0.0, growth=1.0)
    found = find_slopes(series, number)
    for place in range(5):
        assert found.slope[place] == pytest.approx(stats.theilslopes(series[:, place], number).slope)


def test_independent_weeks_give_the_interval_and_the_test_of_the_textbook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(market_trends, "_inflation", lambda rest: np.ones(rest.shape[1]))
    series = made_up_weeks(WEEKS, 4, carried=0.0, growth=0.5)
    found = find_slopes(series, NUMBER)
    for place in range(4):
        book = stats.theilslopes(series[:, place], NUMBER, alpha=0.95)
        assert found.lower[place] == pytest.approx(book.low_slope, abs=2e-3)
        assert found.upper[place] == pytest.approx(book.high_slope, abs=2e-3)
        kendall = stats.kendalltau(NUMBER, series[:, place], method="asymptotic")
        assert found.p_value[place] == pytest.approx(kendall.pvalue, abs=0.02)


@pytest.mark.parametrize("carried", [0.0, 0.3, 0.5])
def test_weeks_that_resemble_their_neighbours_are_not_taken_for_trends(carried: float) -> None:
    found = find_slopes(made_up_weeks(WEEKS, 3000, carried), NUMBER)
    assert np.mean(found.p_value <= 0.05) < 0.085
    assert np.mean((found.lower > 0) | (found.upper < 0)) < 0.1


def test_without_the_correction_they_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(market_trends, "_inflation", lambda rest: np.ones(rest.shape[1]))
    assert np.mean(find_slopes(made_up_weeks(WEEKS, 3000, 0.5), NUMBER).p_value <= 0.05) > 0.15


def test_a_trend_is_found() -> None:
    found = find_slopes(made_up_weeks(WEEKS, 500, carried=0.2, growth=3.0), NUMBER)
    assert np.mean(found.p_value <= 0.05) > 0.9
    assert np.mean((found.lower <= 3 / (WEEKS - 1)) & (found.upper >= 3 / (WEEKS - 1))) > 0.88


def test_among_many_flat_series_and_some_that_grow_few_finds_are_false() -> None:
    false_shares = []
    for seed in range(30):
        flat = made_up_weeks(WEEKS, 100, carried=0.2, seed=seed)
        growing = made_up_weeks(WEEKS, 20, carried=0.2, growth=4.0, seed=1000 + seed)
        found = find_slopes(np.hstack([flat, growing]), NUMBER).q_value <= market_trends.FALSE_SHARE
        assert found[100:].mean() > 0.7
        false_shares.append(found[:100].sum() / max(found.sum(), 1))
    assert np.mean(false_shares) <= 0.15


def test_a_series_that_never_changes_has_no_trend() -> None:
    found = find_slopes(np.zeros((WEEKS, 3)), NUMBER)
    assert np.all(found.p_value == 1)
    assert np.all(found.slope == 0)


def test_ordinary_weeks_are_complete_and_without_feasts() -> None:
    weeks = ordinary_weeks(small_shop())
    assert set(weeks.monday.dayofweek) == {0}
    missing = set(range(53)) - set(weeks.number)
    assert weeks.monday[0] == pd.Timestamp("2017-01-02")
    # Easter, Memorial Day, Independence Day, Labor Day, Thanksgiving, Christmas, New Year
    assert {14, 20, 21, 26, 34, 35, 46, 50, 51} <= missing
    assert len(weeks.number) == 43


def test_the_rest_of_the_shop_does_not_make_a_trend() -> None:
    # Everything doubles: no category's share changes.
    names = [f"CATEGORY {place:02}" for place in range(30)]
    found = trends(small_shop(dict.fromkeys(names, 1 + YEAR)))
    assert sum(one.evidence == "clear" for one in found) <= 2
    assert max(abs(one.growth) for one in found) < 0.1


def test_planted_growth_and_fall_are_found_with_their_size() -> None:
    found = by_name(trends(small_shop({"CATEGORY 04": 1 + 0.5 * YEAR, "CATEGORY 09": 1 - 0.4 * YEAR})))
    up, down = found["CATEGORY 04"], found["CATEGORY 09"]
    assert (up.evidence, down.evidence) == ("clear", "clear")
    assert up.steady and down.steady
    assert up.lower < 0.48 < up.upper and 0.4 < up.growth < 0.6
    assert down.lower < -0.38 < down.upper and -0.5 < down.growth < -0.3
    others = [one for name, one in found.items() if name not in ("CATEGORY 04", "CATEGORY 09")]
    assert sum(one.evidence == "clear" for one in others) <= 2


def test_growth_that_rests_on_one_season_is_not_steady() -> None:
    december = 1 + 2.0 * (DAYS.month.to_numpy() >= 10)
    assert not by_name(trends(small_shop({"CATEGORY 04": december})))["CATEGORY 04"].steady


def test_too_few_weeks_are_said_to_be_too_few() -> None:
    with pytest.raises(TooLittleData, match="ordinary weeks; trends need"):
        trends(small_shop(days=DAYS[:90]))


def one(found: tuple[Season, ...], category: str, part: str) -> Season:
    return next(row for row in found if (row.category, row.part) == (category, part))


def test_a_planted_feast_is_found_and_no_other() -> None:
    thanksgiving = pd.Timestamp("2017-11-23")
    window = DAYS.isin(pd.date_range(end=thanksgiving, periods=7))
    found = seasons(small_shop({"CATEGORY 02": np.where(window, 3.0, 1.0)}))
    row = one(found, "CATEGORY 02", "Thanksgiving Day")
    assert row.ratio == pytest.approx(3, rel=0.1)
    assert row.lower < 3 < row.upper
    assert row.extra_units == pytest.approx(2 * 60 * (5 + 2 * 1.3), rel=0.15)
    feasts = [row for row in found if row.kind == "feast" and row.q_value <= 0.05]
    assert len(feasts) <= 2


def test_a_planted_summer_is_found() -> None:
    summer = np.where(np.isin(DAYS.month, (7, 8)), 2.0, 1.0)
    found = seasons(small_shop({"CATEGORY 02": summer}))
    july, march = one(found, "CATEGORY 02", "July"), one(found, "CATEGORY 02", "March")
    assert july.q_value < 0.01 and 1.6 < july.ratio < 1.9
    assert march.ratio < 1
    assert one(found, "CATEGORY 05", "July").q_value > 0.01


def test_feasts_of_the_data_have_names() -> None:
    names = [feast_name(feast) for feast in feasts_in(DAYS)]
    assert names[:3] == ["New Year's Day", "Easter", "Memorial Day"]
    assert next_feast(pd.Timestamp("2017-12-31")) == pd.Timestamp("2018-04-01")
    assert next_feast(pd.Timestamp("2017-12-18")) == pd.Timestamp("2017-12-25")
    assert next_feast(pd.Timestamp("2017-12-19")) == pd.Timestamp("2018-01-01")


def test_the_courses_shop() -> None:
    shop = load_shop()
    found = by_name(trends(shop))
    assert len(found) == len(shop.categories)
    assert found["SALAD MIX"].evidence == "clear" and found["SALAD MIX"].growth < -0.2
    around = seasons(shop)
    assert one(around, "FROZEN PIE/DESSERTS", "Thanksgiving Day").ratio > 3
    assert one(around, "CANDY - PACKAGED", "Easter").ratio > 2
    assert all(row.lower < row.ratio < row.upper for row in around)


def test_weeks_in_random_order_hold_no_trend() -> None:
    weeks = ordinary_weeks(load_shop())
    finds = [
        (find_slopes(shuffled(weeks.log_share, seed), weeks.number).q_value <= market_trends.FALSE_SHARE).sum()
        for seed in range(20)
    ]
    assert np.mean(np.array(finds) > 0) <= 0.25
