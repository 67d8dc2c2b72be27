"""A test for leakage: cut the future away and see whether a feature notices."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from workshop_lib.predictive.features import Panel, Wide


def leaking_features(
    compute: Callable[[Panel], Wide], panel: Panel, days: Iterable[pd.Timestamp]
) -> dict[str, list[pd.Timestamp]]:
    """Features that change when the sales from a day on are not there yet.

    For each day the sales from that day on are blanked, the features are computed again, and those of
    the day itself and of all days before are compared with the ones computed from everything.

    Args:
        compute: gives feature tables (days by categories) for a panel.
        panel: the panel with all sales.
        days: days to forecast; each has to be in the panel.

    Returns:
        Per leaking feature the days on which it was caught; empty when none leaks.
    """
    complete = compute(panel)
    caught: dict[str, list[pd.Timestamp]] = {}
    for day in days:
        the_evening_before = compute(panel.until(day - pd.Timedelta(days=1)))
        for name, table in complete.items():
            seen, known = (
                table.loc[:day].to_numpy(dtype=float),
                the_evening_before[name].loc[:day].to_numpy(dtype=float),
            )
            if not np.array_equal(seen, known, equal_nan=True):
                caught.setdefault(name, []).append(day)
    return caught
