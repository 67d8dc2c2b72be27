"""Features: known answers, and the property that none of them sees the future."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workshop_lib.predictive import features
from workshop_lib.predictive.calendar import FEAST_HORIZON, calendar_features, feasts
from workshop_lib.predictive.features import FEATURES, WARM_UP, Panel, build_features, make_panel, stack
from workshop_lib.predictive.leakage import leaking_features

DAYS = 60


def panel(seed: int = 0, days: int = DAYS) -> Panel:
    """Three categories with random sales, prices and plans; one day is closed."""
    rng = np.random.default_rng(seed)
    dates = pd.date_range("2017-03-01", periods=days)

    def table(high: float) -> pd.DataFrame:
        return pd.DataFrame(rng.uniform(0, high, (days, 3)), index=dates, columns=["a", "b", "c"])

    units = table(50).round()
    opening = pd.Series(True, index=dates)
    opening.iloc[40] = False
    units.iloc[40] = 0
    plans = {plan: table(1) for plan in features.PLANS}
    return Panel(units, table(100), table(10), plans, pd.Series([0, 1, 1], index=units.columns), opening)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), day=st.integers(WARM_UP, DAYS - 1), change=st.floats(0, 1e6))
def test_no_feature_sees_the_day_itself_or_later(seed: int, day: int, change: float) -> None:
    before = panel(seed)
    after = panel(seed)
    for table in (after.units, after.revenue, after.discount):
        table.iloc[day:] = change
    first, second = build_features(before), build_features(after)
    for name in FEATURES:
        np.testing.assert_array_equal(first[name].iloc[: day + 1], second[name].iloc[: day + 1], err_msg=name)


def test_the_leak_test_finds_a_leak_and_passes_an_honest_feature() -> None:
    def compute(given: Panel) -> features.Wide:
        return {"honest": given.units.shift(1), "leak": given.units.rolling(3, center=True).mean()}

    days = panel().dates[[40, 50]]
    assert leaking_features(compute, panel(), days) == {"leak": list(days)}
    assert leaking_features(build_features, panel(), days) == {}


def test_lags_and_rolling_means_by_hand() -> None:
    units = pd.DataFrame({"a": np.arange(40.0)})
    made = features.history_features(units)
    assert made["lag_1"].loc[39, "a"] == 38
    assert made["lag_28"].loc[39, "a"] == 11
    assert made["mean_3"].loc[39, "a"] == 37
    assert made["mean_28"].loc[39, "a"] == np.mean(np.arange(11, 39))
    assert made["std_7"].loc[39, "a"] == pytest.approx(np.std(np.arange(7), ddof=1))
    assert made["weekday_mean"].loc[39, "a"] == np.mean([32, 25, 18, 11])
    assert made["trend"].loc[39, "a"] == pytest.approx(35 / (24.5 + 1))
    weights = 0.5 ** (np.arange(28) / 7)
    assert made["smoothed"].loc[39, "a"] == pytest.approx(np.average(38 - np.arange(28), weights=weights))


def test_prices_come_from_the_week_before() -> None:
    units = pd.DataFrame({"a": [1.0] * 40})
    revenue, discount = units * 3, units * 1
    revenue.iloc[30:37] = 6
    made = features.price_features(units, revenue, discount)
    assert made["price_7"].loc[30, "a"] == 3
    assert made["price_7"].loc[37, "a"] == 6
    assert made["price_ratio"].loc[37, "a"] == pytest.approx(6 / 3.75)
    assert made["price_band"].loc[[30, 37], "a"].tolist() == [1, 2]
    assert made["discount_7"].loc[30, "a"] == 0.25


def test_a_closed_day_counts_as_the_same_weekday_before() -> None:
    given = panel()
    made = build_features(given)
    assert made["lag_1"].iloc[41].tolist() == given.units.iloc[33].tolist()


def test_feasts_and_the_distance_to_them() -> None:
    assert pd.Timestamp("2017-04-16") in feasts(2017)  # Easter
    assert pd.Timestamp("2017-11-23") in feasts(2017)  # Thanksgiving
    assert pd.Timestamp("2017-10-09") not in feasts(2017)  # Columbus Day
    days = calendar_features(pd.date_range("2017-11-20", "2017-12-31"))
    assert days.loc["2017-11-22", ["days_to_feast", "days_since_feast"]].tolist() == [1, FEAST_HORIZON]
    assert days.loc["2017-11-23", "days_to_feast"] == days.loc["2017-11-23", "days_since_feast"] == 0
    assert days.loc["2017-12-31", ["weekday", "weekend", "days_to_feast", "days_since_feast"]].tolist() == [6, 1, 1, 6]


def test_the_largest_categories_are_those_of_the_training_days() -> None:
    dates = pd.date_range("2017-01-01", periods=40)
    early = {"early": [9] * 20 + [0] * 20, "late": [0] * 20 + [99] * 20, "steady": [5] * 40}
    rows = [
        {"date": date, "category": name, "department": "D", "units": float(units), "revenue": 1.0, "discount": 0.0}
        | dict.fromkeys(features.PLANS, 0.0)
        | {"open": True}
        for name, series in early.items()
        for date, units in zip(dates, series, strict=True)
    ]
    sales = pd.DataFrame(rows)
    assert set(make_panel(sales, 2, until=dates[19]).units) == {"early", "steady"}
    assert set(make_panel(sales, 2).units) == {"late", "steady"}
    with pytest.raises(ValueError, match="categories=4: the data has only 3"):
        make_panel(sales, 4)


def test_stacking_keeps_order_and_refuses_missing_history() -> None:
    given = panel()
    made = build_features(given)
    days = given.dates[WARM_UP : WARM_UP + 2]
    table = stack(made, days)
    assert table.index.tolist() == [(day, name) for day in days for name in "abc"]
    assert table.columns.tolist() == list(FEATURES)
    assert (table.dtypes == np.float32).all()
    assert table.loc[(days[1], "b"), "lag_7"] == np.float32(given.units.loc[days[1] - pd.Timedelta(days=7), "b"])
    with pytest.raises(ValueError, match="the history before is too short"):
        stack(made, given.dates[:3])


def test_a_price_at_the_limit_of_a_band_stays_where_it_is() -> None:
    """Sums of money end differently from run to run: 2.0000000000000004 dollars are 2 dollars."""
    days = pd.date_range("2024-01-01", periods=60)
    units = pd.DataFrame({"a": 3.0, "b": 3.0, "c": 3.0}, index=days)
    limit = features.PRICE_BANDS[0]
    revenue = units * pd.Series({"a": limit - 1e-13, "b": limit + 1e-13, "c": limit + 0.01})
    band = features.price_features(units, revenue, 0 * units)["price_band"].iloc[-1]
    assert band.tolist() == [0, 0, 1]


def test_the_quick_way_to_features_of_history_is_the_way_of_training() -> None:
    history = np.random.default_rng(3).gamma(2, 40, (28, 50))
    history[:, 0], history[::2, 1] = 0, 0
    wanted = features.history_features(pd.DataFrame(np.vstack([history, np.full(50, np.nan)])))
    for shown in (history, history[:, 2], history.reshape(28, 5, 10)):  # many series, one, or in two dimensions
        quick = features.history_features_after(shown)
        assert quick.keys() == wanted.keys()
        for name, value in quick.items():
            last = wanted[name].iloc[-1].to_numpy()
            right = last[2] if shown.ndim == 1 else last.reshape(shown.shape[1:])
            assert value == pytest.approx(right, rel=1e-9, abs=1e-6), name
