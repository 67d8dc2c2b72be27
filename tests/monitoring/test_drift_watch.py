"""Weeks and quiet weeks, values per category, errors on unseen days, and the rules of the decision."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest

from workshop_lib import data
from workshop_lib.monitoring.config import ForecastDrift, load_config
from workshop_lib.monitoring.drift_data import (
    Weeks,
    load_weeks,
    relative,
    validation_start,
    watched,
    week_number,
    without_feasts,
)
from workshop_lib.monitoring.drift_distances import psi
from workshop_lib.monitoring.drift_result import Distance
from workshop_lib.monitoring.drift_study import APART, FORMS, weekly_distances
from workshop_lib.monitoring.drift_watch import Seen, Watch, decide, follow, highest_quiet_error, look, watch
from workshop_lib.monitoring.retraining import train_until
from workshop_lib.predictive.forecaster import predict_units, random_forest

LIMITS = load_config().forecaster.drift
QUICK = partial(random_forest, n_estimators=12, max_depth=10, n_jobs=2)


@pytest.fixture(scope="module")
def weeks() -> Weeks:
    """The course's data."""
    return load_weeks()


@pytest.fixture(scope="module")
def service(weeks: Weeks) -> Watch:
    """A small forest in service since the end of week 39."""
    return watch(train_until(weeks, 39, QUICK).model, weeks, (7, 39), LIMITS)


# ---- weeks


def test_weeks_are_those_of_the_sales_lines(weeks: Weeks) -> None:
    lines = data.load("transactions", ["date", "week"]).drop_duplicates("date")
    numbers = week_number(pd.DatetimeIndex(lines["date"]), weeks.dataset.panel.dates[0])
    assert numbers.tolist() == lines["week"].tolist()
    assert weeks.whole == tuple(range(7, 54))  # before come the days that features need
    assert weeks.week_of("2017-12-25") == 53  # closed, and in a week all the same
    assert len(weeks.days(53, 53)) == 6


def test_weeks_near_feasts_are_not_quiet(weeks: Weeks) -> None:
    loud = set(range(7, 54)) - set(without_feasts(weeks, 7, 53))
    # Easter Sunday closes week 16; Memorial and Labor Day are Mondays; the fourth of July, Thanksgiving, Christmas.
    assert loud == {16, 17, 22, 23, 27, 28, 36, 37, 48, 52, 53}


def test_weeks_that_are_not_there_are_named(weeks: Weeks) -> None:
    with pytest.raises(ValueError, match="weeks 60 to 61"):
        weeks.rows(60, 61)
    with pytest.raises(ValueError, match="three weeks"):
        weeks.training(7, 8)


def test_training_data_end_with_their_week(weeks: Weeks) -> None:
    split = weeks.training(7, 39).split
    assert weeks.number.loc[split.fit].agg(["min", "max"]).tolist() == [7, 39]
    assert weeks.number.loc[split.validation].min() == validation_start(7, 39) == 29
    assert split.train[-1] < split.validation[0] < split.validation[-1] < split.test[0]


# ---- per category


def test_values_are_measured_in_their_categorys_terms() -> None:
    index = pd.MultiIndex.from_product([pd.date_range("2017-01-01", periods=4), ["milk", "spice"]],
                                       names=["date", "category"])  # fmt: skip
    table = pd.DataFrame({"x": [100.0, 1, 110, 2, 120, 3, 130, 4], "flat": [5.0, 0, 5, 0, 5, 0, 5, 0]}, index=index)
    found = relative(table, table)
    milk, spice = (found.xs(name, level="category")["x"].to_numpy() for name in ("milk", "spice"))
    assert milk == pytest.approx(spice)  # the same rise in their own terms
    assert milk.mean() == pytest.approx(0) and milk.std(ddof=1) == pytest.approx(1)
    assert (found["flat"] == 0).all()
    moved = relative(table + 1, table)
    # What never changed in a category is measured by the whole column, not divided by nothing.
    assert moved["flat"].to_numpy() == pytest.approx(1 / table["flat"].std())


def test_a_feature_that_the_model_lacks_is_named(weeks: Weeks) -> None:
    with pytest.raises(ValueError, match="days_to_holiday"):
        watched(weeks.dataset.features, ["lag_1", "days_to_holiday"])


def test_a_quiet_week_is_not_compared_with_its_neighbours(weeks: Weeks) -> None:
    found = weekly_distances(weeks, (7, 39), [20], ["mean_28"], FORMS[0]).set_index("method")["value"]
    table = watched(weeks.dataset.features, ["mean_28"])
    of_row = weeks.of(table.index)
    far = (of_row >= 7) & (of_row <= 39) & (np.abs(of_row - 20) > APART)
    assert found["psi"] == pytest.approx(
        psi(table[far]["mean_28"].to_numpy(), table[of_row == 20]["mean_28"].to_numpy())
    )


# ---- the model in service


def test_the_usual_error_is_that_of_unseen_days(weeks: Weeks, service: Watch) -> None:
    features, units = weeks.rows(29, 39)
    known = float((units - predict_units(service.model, features)).abs().sum() / units.sum())
    assert service.unseen.index.tolist() == list(range(29, 40))
    assert service.quiet == (29, 30, 31, 32, 33, 34, 35, 38, 39)
    assert service.reference_wape > 1.1 * known
    assert service.reference_wape == pytest.approx(service.unseen.drop([36, 37]).mean())


def test_thanksgiving_is_found_and_the_weeks_before_are_quiet(weeks: Weeks, service: Watch) -> None:
    table = follow(service, weeks, 40, 50, LIMITS)
    assert table.loc[40:45, "decision"].eq("nothing").all()
    assert table.loc[48, "error"] > LIMITS.concept and table.loc[48, "features"] >= LIMITS.retrain_share
    assert table.loc[48, "decision"] == "watch" and table.loc[49, "decision"] == "retrain"
    # The features remember the feast when the error is back to usual.
    assert table.loc[49, "features"] >= LIMITS.retrain_share
    assert table.loc[49, "error"] < 0.75 * table.loc[48, "error"]


def test_limits_come_from_the_configuration(weeks: Weeks, service: Watch) -> None:
    blind = LIMITS.model_copy(update={"psi": 5.0, "concept": 3.0})
    assert follow(service, weeks, 48, 49, blind)["decision"].tolist() == ["nothing", "nothing"]
    seen = look(service, weeks, 48, blind)
    assert {one.threshold for one in seen.distances if one.kind == "data"} == {5.0}
    assert [one.feature for one in seen.distances if one.kind == "data"] == list(LIMITS.features)


def test_a_model_without_a_quiet_validation_week_is_refused(weeks: Weeks, service: Watch) -> None:
    with pytest.raises(ValueError, match="near a feast"):
        watch(service.model, weeks, (14, 17), LIMITS)


def test_the_highest_quiet_error_by_hand() -> None:
    errors = pd.Series([0.2, 0.22, 0.24])
    assert highest_quiet_error(errors, 0.95) == pytest.approx(0.22 + 2.919986 * 0.02 * np.sqrt(4 / 3), rel=1e-6)
    with pytest.raises(ValueError, match="too few"):
        highest_quiet_error(errors.head(2))


# ---- the decision


def seen(week: int, share: float = 0.0, error: float = 1.0, prediction: float = 0.0) -> Seen:
    """A week with a share of drifted features."""
    features = [
        Distance(kind="data", feature=f"f{n}", method="psi", value=float(n < 10 * share), threshold=0.2)
        for n in range(10)
    ]
    others = [
        Distance(kind="prediction", feature="prediction", method="psi", value=prediction, threshold=0.3),
        Distance(kind="concept", feature="error", method="wape_ratio", value=error, threshold=1.15),
    ]
    return Seen(week, 840, 0.23 * error, (*features, *others))


@pytest.mark.parametrize(
    ("before", "last", "decision", "reason"),
    [
        ({}, {}, "nothing", "within"),
        ({}, {"error": 1.5}, "watch", "1.50 times"),
        ({}, {"prediction": 0.4}, "watch", "forecasts"),
        ({}, {"share": 0.4}, "watch", "40% of the features"),
        ({}, {"share": 0.3}, "nothing", "within"),
        ({}, {"share": 0.9}, "watch", "90%"),
        ({"error": 1.5}, {"error": 1.2}, "retrain", "2 weeks in a row"),
        ({"error": 1.5}, {"error": 1.15}, "nothing", "within"),  # at its limit, not beyond
        ({"share": 0.5}, {"share": 0.5}, "retrain", "50%"),
        ({"share": 0.9}, {"share": 0.4}, "watch", "40%"),
        ({"share": 0.9}, {"error": 1.5}, "watch", "1.50"),  # two weeks, but not of the same kind
        ({"error": 1.5, "share": 1.0}, {}, "nothing", "within"),
    ],
)
def test_rules(before: dict[str, float], last: dict[str, float], decision: str, reason: str) -> None:
    found, reasons = decide([seen(47, **before), seen(48, **last)], LIMITS)
    assert found == decision
    assert any(reason in text for text in reasons)


def test_one_week_alone_never_retrains() -> None:
    assert decide([seen(48, share=1, error=9)], LIMITS)[0] == "watch"
    once = LIMITS.model_copy(update={"weeks": 1})
    assert decide([seen(48, error=9)], once)[0] == "retrain"


def test_weeks_must_follow_each_other() -> None:
    with pytest.raises(ValueError, match="in a row"):
        decide([seen(46), seen(48)], LIMITS)
    with pytest.raises(ValueError, match="in a row"):
        decide([], LIMITS)


def test_configuration_refuses_limits_in_the_wrong_order() -> None:
    values = LIMITS.model_dump() | {"watch_share": 0.6}
    with pytest.raises(ValueError, match="watch_share"):
        ForecastDrift(**values)
