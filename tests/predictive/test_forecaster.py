"""Measures by hand, honest splits, recursion, and the registered forecaster."""

import numpy as np
import pandas as pd
import pytest

from tests.predictive.test_features import panel
from workshop_lib.predictive import evaluation, forecaster
from workshop_lib.predictive.features import FEATURES, build_features, stack


def test_measures_by_hand() -> None:
    truth, forecast = np.array([0.0, 2.0, 4.0]), np.array([1.0, 2.0, 2.0])
    found = evaluation.measures(truth, forecast, scale=np.array([1.0, 0.0, 2.0]))
    assert found["MAE"] == 1
    assert found["RMSE"] == pytest.approx(np.sqrt(5 / 3))
    assert found["WAPE"] == 0.5
    assert found["MAPE"] == 0.25  # the day without sales does not count
    assert found["MASE"] == 1  # nor does the series that never changed
    assert found["R2"] == pytest.approx(1 - 5 / 8)


def test_wape_of_nothing_sold_is_refused_and_mape_is_missing() -> None:
    with pytest.raises(ValueError, match="sum to zero"):
        evaluation.wape(np.zeros(3), np.ones(3))
    assert np.isnan(evaluation.mape(np.zeros(3), np.ones(3)))


def test_groups_are_measured_apart() -> None:
    table = evaluation.by_group(pd.Series([1.0, 3.0, 2.0, 6.0]), np.array([2.0, 4.0, 2.0, 6.0]), np.array(list("aabb")))
    assert table["WAPE"].tolist() == [0.5, 0]
    assert table["bias"].tolist() == [1, 0]
    assert table["rows"].tolist() == [2, 2]


def test_the_split_follows_time_and_leaves_closed_days_out() -> None:
    opening = pd.Series(True, index=pd.date_range("2017-01-01", periods=135))
    opening.iloc[50] = False
    split = forecaster.split_days(opening)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [69, 15, 15]
    assert split.train[-1] < split.validation[0] < split.validation[-1] < split.test[0]
    assert opening.index[50] not in split.train
    with pytest.raises(ValueError, match="too few"):
        forecaster.split_days(opening.iloc[:37])


def test_folds_never_split_a_day_and_never_look_back() -> None:
    days = pd.date_range("2017-01-01", periods=12)
    index = pd.MultiIndex.from_product([days, ["a", "b"]], names=["date", "category"])
    folds = list(forecaster.day_folds(index, 3))
    assert len(folds) == 3
    for before, after in folds:
        assert index[before].get_level_values(0).max() < index[after].get_level_values(0).min()
        assert len(after) % 2 == 0


def test_the_naive_rule_is_the_same_weekday_and_skips_closed_days() -> None:
    given = panel()
    naive = forecaster.seasonal_naive(given, given.dates[[47, 50]])
    assert naive[given.dates[50]].tolist() == given.units.iloc[43].tolist()
    assert naive[given.dates[47]].tolist() == given.units.iloc[33].tolist()


class Yesterday:
    """Forecasts what was sold the day before."""

    def predict(self, X: np.ndarray) -> np.ndarray:
        return X[:, FEATURES.index("lag_1")]


class Level:
    """Forecasts a mix of yesterday, the week's mean and tomorrow's weekday."""

    def predict(self, X: np.ndarray) -> np.ndarray:
        named = {name: X[:, position] for position, name in enumerate(FEATURES)}
        return 0.5 * named["lag_1"] + 0.4 * named["mean_7"] + named["weekday"]


def test_further_ahead_only_what_was_known_then_is_used() -> None:
    given = panel()
    days = given.dates[50:55]
    ahead = forecaster.forecast_horizons(Yesterday(), given, days)
    for day in days:
        for horizon in range(1, forecaster.HORIZONS + 1):
            origin = day - pd.Timedelta(days=horizon)
            if origin == given.dates[40]:
                continue
            assert ahead.loc[day, horizon].tolist() == pytest.approx(given.units.loc[origin].tolist(), rel=1e-6)


def test_recursion_equals_feeding_forecasts_back_by_hand() -> None:
    given = panel()
    target = given.dates[52]
    origin = target - pd.Timedelta(days=3)
    known = given.until(origin)
    known.units.loc[origin + pd.Timedelta(days=1) :] = np.nan
    for step in range(1, 4):
        day = origin + pd.Timedelta(days=step)
        wide = build_features(known)
        # prices stay as they were last seen
        for name in ("price_7", "price_ratio", "price_band", "discount_7"):
            wide[name].loc[day] = build_features(given)[name].loc[origin + pd.Timedelta(days=1)]
        made = Level().predict(stack(wide, pd.DatetimeIndex([day])).to_numpy())
        known.units.loc[day] = made
    ahead = forecaster.forecast_horizons(Level(), given, given.dates[50:55])
    assert ahead.loc[target, 3].tolist() == pytest.approx(made.tolist(), rel=1e-5)


def test_one_day_ahead_equals_the_plain_forecast() -> None:
    given = panel()
    days = given.dates[48:58]
    plain = forecaster.predict_units(Level(), stack(build_features(given), days))
    ahead = forecaster.forecast_horizons(Level(), given, days)
    pd.testing.assert_series_equal(ahead[1], plain, check_names=False, rtol=1e-5)


def test_forecasts_are_never_negative() -> None:
    class Negative:
        def predict(self, X: np.ndarray) -> np.ndarray:
            return np.full(len(X), -3.0)

    rows = stack(build_features(panel()), panel().dates[50:51])
    assert (forecaster.predict_units(Negative(), rows) == 0).all()
