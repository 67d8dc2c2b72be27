"""How good the forecasts were that the business API made, by the table in which it keeps them.

    settled = settled_forecasts()
    by_level(settled)

Counters of Prometheus hold sums, which is enough for the accuracy. R² and RMSE need the single days; these are in the
API's database.

*Accuracy* is 1 - WAPE: one minus the sum of absolute errors over the units sold (Kolassa & Schütz 2007, "Advantages of
the MAD/Mean ratio over the MAPE", Foresight 6). How high it is depends on the level at which errors are added up before
their sign is dropped: too much of one category and too little of another cancel out within a department.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sqlalchemy import select

from workshop_lib.serving import history
from workshop_lib.serving.business_metrics import departments
from workshop_lib.serving.feedback import FORECASTS

LEVELS: dict[str, tuple[str, ...]] = {
    "category and day": ("category", "date"),
    "department and day": ("department", "date"),
    "shop and day": ("date",),
    "category and week": ("category", "week"),
    "department and week": ("department", "week"),
}
"""What is decided there: what to order of a category; who works in a department; how many tills to open; how much to
buy ahead."""


def settled_forecasts(url: str | None = None) -> pd.DataFrame:
    """Forecasts whose sales are known.

    Args:
        url: of the database; ``settings.history_database`` by default.

    Returns:
        ``department``, ``category``, ``date``, ``week`` (its Monday), ``forecast``, ``lower``, ``upper``, ``sold``,
        ``version``; sorted by date and category.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: when the database is away.
    """
    engine = history.connect(url)
    columns = [FORECASTS.c[name] for name in ("category", "date", "units", "lower", "upper", "sold", "version")]
    try:
        history.make_tables(engine, FORECASTS)
        with engine.connect() as connection:
            found = pd.read_sql(select(*columns).where(FORECASTS.c.sold.is_not(None)), connection)
    finally:
        engine.dispose()
    dates = pd.to_datetime(found["date"])
    found = found.rename(columns={"units": "forecast"}).assign(
        date=dates,
        week=dates - pd.to_timedelta(dates.dt.dayofweek, unit="D"),
        department=found["category"].map(departments()),
    )
    order = ["department", "category", "date", "week", "forecast", "lower", "upper", "sold", "version"]
    return found[order].sort_values(["date", "category"], ignore_index=True)


def accuracy(settled: pd.DataFrame, level: Sequence[str] = LEVELS["department and day"]) -> float:
    """1 - WAPE with errors added up by some columns first; NaN when nothing was sold.

    Args:
        settled: of :func:`settled_forecasts`.
        level: the columns, such as ``("department", "date")``.
    """
    summed = settled.groupby(list(level))[["forecast", "sold"]].sum()
    total = summed["sold"].sum()
    return float(1 - (summed["forecast"] - summed["sold"]).abs().sum() / total) if total else float("nan")


def by_level(settled: pd.DataFrame) -> pd.DataFrame:
    """The accuracy at each of :data:`LEVELS`: ``level``, ``accuracy``."""
    rows = [(name, accuracy(settled, level)) for name, level in LEVELS.items()]
    return pd.DataFrame(rows, columns=["level", "accuracy"])


def by_group(settled: pd.DataFrame, group: str) -> pd.DataFrame:
    """Quality per department or week, largest sales first for departments.

    Returns:
        Indexed by the group: ``units``, ``accuracy`` (by department and day), ``accuracy_category_day``, ``r2``,
        ``mae``, ``rmse``, ``coverage``; all but the first two by category and day.
    """
    rows = {name: summary(rows) for name, rows in settled.groupby(group)}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(group)
    return table.sort_values("units", ascending=False) if group == "department" else table.sort_index()


def summary(settled: pd.DataFrame) -> dict[str, float]:
    """All figures of some forecasts, as :func:`by_group` has them."""
    truth, forecast = settled["sold"], settled["forecast"]
    return {
        "units": float(truth.sum()),
        "accuracy": accuracy(settled),
        "accuracy_category_day": accuracy(settled, LEVELS["category and day"]),
        "r2": float(r2_score(truth, forecast)),
        "mae": float(mean_absolute_error(truth, forecast)),
        "rmse": float(root_mean_squared_error(truth, forecast)),
        "coverage": float(np.mean((settled["lower"] <= truth) & (truth <= settled["upper"]))),
    }
