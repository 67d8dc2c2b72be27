"""How often a drift detector is wrong: every method on weeks in which nothing happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from workshop_lib.monitoring.drift_data import Weeks, relative, watched
from workshop_lib.monitoring.drift_distances import MEASURES, drifts
from workshop_lib.progress import track
from workshop_lib.settings import settings

APART = 4
"""Weeks on both sides of a training week that may not serve as its reference: ``mean_28`` and ``std_28`` of
neighbouring weeks share days, and would make every week look like its neighbours."""
FORMS = ("as they are", "per category")


def weekly_distances(
    weeks: Weeks, training: tuple[int, int], compared: Sequence[int], features: Sequence[str], form: str = FORMS[1]
) -> pd.DataFrame:
    """Each week against the training weeks, by feature and measure.

    A week that is itself a training week is compared with those that are more than :data:`APART` weeks away.

    Args:
        weeks: the data.
        training: first and last training week.
        compared: the weeks to look at.
        features: the features to look at.
        form: one of :data:`FORMS`: the values themselves, or relative to what is usual in the category.

    Returns:
        Columns ``week``, ``feature``, ``method`` and ``value``.
    """
    table = watched(weeks.dataset.features, features)
    of_row = weeks.of(table.index)
    in_training = (of_row >= training[0]) & (of_row <= training[1])

    def measure_week(week: int) -> list[tuple[int, str, str, float]]:
        inside = training[0] <= week <= training[1]
        reference = in_training & (np.abs(of_row - week) > APART) if inside else in_training
        before, now = table[reference], table[of_row == week]
        if form == FORMS[1]:
            before, now = relative(before, before), relative(now, before)
        pairs = {feature: (before[feature].to_numpy(), now[feature].to_numpy()) for feature in table}
        return [(week, name, method, measure(*pairs[name])) for name in pairs for method, measure in MEASURES.items()]

    # Nearly all of the work is sorting in numpy, which other threads need not wait for.
    measured = Parallel(n_jobs=settings.jobs, backend="threading")(
        delayed(measure_week)(week) for week in track(compared, "weeks")
    )
    rows = [row for one in measured for row in one]
    return pd.DataFrame(rows, columns=["week", "feature", "method", "value"])


def false_alarms(
    distances: Mapping[str, pd.DataFrame],
    limits: Mapping[str, Sequence[float]],
    quiet: Sequence[int],
    later: Sequence[int],
    share: float,
) -> pd.DataFrame:
    """How often each method and limit calls drift in quiet weeks, and what it says of later ones.

    Args:
        distances: per form what :func:`weekly_distances` returned.
        limits: limits to try per method.
        quiet: weeks in which nothing happened: each alarm is a false one.
        later: the weeks after training.
        share: share of drifted features from which a week counts as drifted.

    Returns:
        A row per form, method and limit: the share of (feature, quiet week) pairs called drifted, the share of
        quiet weeks called drifted, and the number of later weeks called drifted.
    """
    rows = []
    for form, frame in distances.items():
        for method, tried in limits.items():
            values = frame[frame["method"] == method].pivot(index="week", columns="feature", values="value")
            for limit in tried:
                drifted = pd.DataFrame(drifts(method, values, limit))
                alarm = drifted.mean(axis=1) >= share
                rows.append(
                    (form, method, limit, drifted.loc[list(quiet)].to_numpy().mean(),
                     alarm.loc[list(quiet)].mean(), int(alarm.loc[list(later)].sum()))
                )  # fmt: skip
    columns = ["form", "method", "limit", "false: features", "false: weeks", "later weeks found"]
    return pd.DataFrame(rows, columns=columns).set_index(["form", "method", "limit"])
