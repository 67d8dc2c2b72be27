"""The features that the API builds are those of training, whatever is asked."""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace

import mlflow
import numpy as np
import pandas as pd
import pytest

from workshop_lib.predictive.champion import URI, Package
from workshop_lib.predictive.features import FEATURES, PLANS, WARM_UP, Panel
from workshop_lib.predictive.forecaster import HORIZONS, Dataset, forecast_horizons, make_dataset
from workshop_lib.serving.api_errors import InvalidInput
from workshop_lib.serving.demand import Demand, Plan, load_demand, run

PLACE = {name: place for place, name in enumerate(FEATURES)}


@pytest.fixture(scope="module")
def dataset(package: Package) -> Dataset:
    return make_dataset(len(package.about["categories"]))


@pytest.fixture(scope="module")
def demand(package: Package) -> Demand:
    return load_demand(package.about["categories"])


def asked(demand: Demand, *question: object, **more: object) -> list[np.ndarray]:
    """Every batch of features that a walk hands out; each forecast is 100 units."""
    batches: list[np.ndarray] = []

    def predict(rows: np.ndarray) -> np.ndarray:
        batches.append(rows)
        return np.full(len(rows), 100.0)

    run(demand.walk(demand.ask(*question, **more)), predict)  # type: ignore[arg-type]
    return batches


def cut(panel: Panel, days: int) -> Panel:
    """The panel as if the data had ended earlier."""
    tables = {name: getattr(panel, name).iloc[:days] for name in ("units", "revenue", "discount", "open")}
    return replace(panel, **tables, plans={name: table.iloc[:days] for name, table in panel.plans.items()})


def test_features_of_a_past_day_are_those_of_training(dataset: Dataset, demand: Demand) -> None:
    days = dataset.features.index.unique("date")
    for category in demand.categories:
        trained = dataset.features.xs(category, level="category").to_numpy()
        assert np.array_equal(demand.rows(category, [day.date() for day in days]), trained)
        [served] = asked(demand, category, [day.date() for day in days[::40]])
        assert np.array_equal(served, trained[::40])


def test_features_of_tomorrow_are_those_that_training_will_see(demand: Demand, dataset: Dataset) -> None:
    tomorrow = dataset.split.test[-20]
    row = dataset.panel.dates.get_loc(tomorrow)
    past = Demand(cut(dataset.panel, row))
    assert past.last_day < tomorrow.date()
    for category in ("SOFT DRINKS", "EGGS"):
        plan = Plan(promotion={name: float(dataset.panel.plans[name].loc[tomorrow, category]) for name in PLANS})
        [served] = asked(past, category, [tomorrow.date()], plan)
        assert np.array_equal(served[0], dataset.features.loc[(tomorrow, category)].to_numpy(np.float32))


def test_days_ahead_are_forecast_as_in_evaluation(demand: Demand, dataset: Dataset) -> None:
    model = mlflow.sklearn.load_model(URI)
    days = dataset.split.test[10:14].append(dataset.split.test[-9:-2])  # the second part spans the closed Christmas
    wanted = forecast_horizons(model, dataset.panel, days)
    for category in ("SOFT DRINKS", "BEEF"):
        for horizon in range(1, HORIZONS + 1):
            for day in days:
                origin = day.date() - dt.timedelta(days=horizon)
                question = demand.ask(category, [day.date()], known_until=origin)
                [found] = run(demand.walk(question), lambda rows: np.maximum(model.predict(rows), 0))
                assert found.horizon == horizon
                assert found.units == pytest.approx(wanted.loc[(day, category), horizon], rel=1e-3)


def test_forecasts_take_the_place_of_sales(demand: Demand) -> None:
    dates = [demand.last_day + dt.timedelta(days=ahead) for ahead in range(1, HORIZONS + 1)]
    batches = asked(demand, "SOFT DRINKS", dates)
    assert [batch.shape for batch in batches] == [(1, len(FEATURES))] * HORIZONS
    assert [batch[0, PLACE["lag_1"]] for batch in batches[1:]] == [100] * (HORIZONS - 1)
    assert batches[3][0, PLACE["mean_3"]] == 100
    assert batches[6][0, PLACE["lag_7"]] == demand.units("SOFT DRINKS", demand.last_day)
    assert [batch[0, PLACE["weekday"]] for batch in batches] == [date.weekday() for date in dates]


def test_a_closed_day_sells_nothing_and_is_remembered_as_its_weekday(demand: Demand, dataset: Dataset) -> None:
    [closed] = dataset.panel.open.index[~dataset.panel.open]
    evening, after = closed.date() - dt.timedelta(days=1), closed.date() + dt.timedelta(days=1)
    question = demand.ask("BEEF", [closed.date(), after], known_until=evening)
    first, second = run(demand.walk(question), lambda rows: np.full(len(rows), 77.0))
    assert (first.units, first.open, second.units, second.open) == (0, False, 77, True)
    batches = asked(demand, "BEEF", [closed.date(), after], known_until=evening)
    assert batches[1][0, PLACE["lag_1"]] == dataset.panel.units.loc[closed - pd.Timedelta(days=7), "BEEF"]


def test_a_plan_changes_what_it_names_and_only_on_the_days_asked_for(demand: Demand) -> None:
    first, third = (demand.last_day + dt.timedelta(days=ahead) for ahead in (1, 3))
    usual = asked(demand, "SOFT DRINKS", [first, third])
    promoted = asked(demand, "SOFT DRINKS", [first, third], Plan(promotion={"mailer_share": 0.9}))
    changed = [{FEATURES[i] for i in np.flatnonzero(a[0] != b[0])} for a, b in zip(usual, promoted, strict=True)]
    assert changed[0] == {"mailer_share", "mailer_change"} and changed[1] == set()
    assert {"mailer_share", "mailer_change"} <= changed[2] <= {"mailer_share", "mailer_change", "mailer_weekend"}
    # The first planned day is part of the four weeks that the third one is compared with.
    again = asked(demand, "SOFT DRINKS", [third], Plan(promotion={"mailer_share": 0.9}))
    assert again[2][0, PLACE["mailer_change"]] > promoted[2][0, PLACE["mailer_change"]]


def test_a_planned_price_stands_in_for_last_weeks(demand: Demand) -> None:
    tomorrow = demand.last_day + dt.timedelta(days=1)
    [[usual]] = asked(demand, "SOFT DRINKS", [tomorrow])
    price, ratio, discount = (float(usual[PLACE[name]]) for name in ("price_7", "price_ratio", "discount_7"))
    [[half]] = asked(demand, "SOFT DRINKS", [tomorrow], Plan(price=price / 2))
    assert half[PLACE["price_7"]] == pytest.approx(price / 2)
    assert half[PLACE["price_ratio"]] == pytest.approx(ratio / 2)
    assert half[PLACE["discount_7"]] == pytest.approx(1 - (1 - discount) / 2)
    [[same]] = asked(demand, "SOFT DRINKS", [tomorrow], Plan(price=price))
    assert same == pytest.approx(usual, rel=1e-5)
    [[dear]] = asked(demand, "SOFT DRINKS", [tomorrow], Plan(price=100))
    assert dear[PLACE["discount_7"]] == 0


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"category": "SOFT DRINK"}, "category", "SOFT DRINKS"),
        ({"category": "§§§"}, "category", "such as"),
        ({"dates": [dt.date(2016, 1, 1)]}, "dates.0", "2017-"),
        ({"dates": [dt.date(2017, 6, 1), dt.date(9999, 12, 31)]}, "dates.1", "to 2018-01-07"),
        ({"known_until": dt.date(2018, 1, 1)}, "known_until", "2017-12-31"),
        ({"known_until": dt.date(2017, 6, 1), "dates": [dt.date(2017, 6, 9)]}, "dates.0", "2017-06-02 to 2017-06-08"),
        ({"known_until": dt.date(2017, 6, 1), "dates": [dt.date(2017, 6, 1)]}, "dates.0", "2017-06-02"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_can(
    demand: Demand, change: dict[str, object], field: str, says: str
) -> None:
    ask: Callable[..., object] = demand.ask
    with pytest.raises(InvalidInput) as refused:
        ask(**{"category": "SOFT DRINKS", "dates": [dt.date(2017, 6, 2)], **change})
    assert refused.value.field == field and says in refused.value.expected


def test_the_first_and_the_last_day_that_can_be_asked_work(demand: Demand) -> None:
    first = (demand.panel.dates[0] + pd.Timedelta(days=WARM_UP)).date()
    last = demand.last_day + dt.timedelta(days=HORIZONS)
    batches = asked(demand, "soft drinks ", [last, first])
    assert all(np.isfinite(batch).all() for batch in batches)
    with pytest.raises(InvalidInput):
        demand.ask("SOFT DRINKS", [first - dt.timedelta(days=1)])
