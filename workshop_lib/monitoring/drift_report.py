"""Evidently's report of one week: the same distances with pictures, as one HTML file that needs no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from workshop_lib.files import atomic_path
from workshop_lib.monitoring.config import ForecastDrift
from workshop_lib.monitoring.drift_data import Weeks
from workshop_lib.monitoring.drift_distances import class_limits
from workshop_lib.monitoring.drift_result import PREDICTION, drift_file
from workshop_lib.monitoring.drift_watch import Watch


def report_file(week: int) -> Path:
    """Where the report of a week lies."""
    return drift_file().with_name(f"drift-week-{week}.html")


def tenths(reference: pd.DataFrame, current: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Replace numbers by the tenth of the reference that they fall into, as text ``01`` to ``10``.

    Left to itself Evidently cuts the range from the smallest to the largest value into equal widths. One extreme
    value then makes all others fall into the same class. Tenths of the reference hold equally many rows.
    """
    limits = {name: class_limits(reference[name].to_numpy()) for name in reference}

    def cut(frame: pd.DataFrame) -> pd.DataFrame:
        # np.histogram, which counts the classes elsewhere, closes them on the left as well.
        classes = {
            name: pd.cut(frame[name], limits[name], right=False, labels=_names(len(limits[name]) - 1)).astype(str)
            for name in frame
        }
        return pd.DataFrame(classes).reset_index(drop=True)

    return cut(reference), cut(current)


def _names(classes: int) -> list[str]:
    return [f"{number:02}" for number in range(1, classes + 1)]


def make_report(service: Watch, weeks: Weeks, week: int, limits: ForecastDrift) -> Any:
    """Run Evidently on one week of arrivals against the training weeks.

    Returns:
        Evidently's snapshot: :func:`drift_values` reads its numbers, ``save_html`` writes it.
    """
    # Seconds to import, and of use here only.
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift
    from evidently.presets import DataDriftPreset
    from evidently.tests import lte

    before = service.usual_inputs, service.usual_forecasts
    now = service.arrivals(weeks, week, limits.features)
    reference, current = tenths(
        *(pd.concat(tables, axis=1).rename(columns={"forecast": PREDICTION}) for tables in (before, now))
    )
    definition = DataDefinition(categorical_columns=list(reference))
    report = Report(
        [
            DataDriftPreset(
                columns=list(limits.features), cat_method="psi", cat_threshold=limits.psi,
                drift_share=limits.retrain_share,
            ),
            ValueDrift(column=PREDICTION, method="psi", threshold=limits.prediction, tests=[lte(limits.prediction)]),
        ],
        include_tests=True,
    )  # fmt: skip
    return report.run(
        Dataset.from_pandas(current, data_definition=definition),
        Dataset.from_pandas(reference, data_definition=definition),
    )


def drift_values(snapshot: Any) -> dict[str, float]:
    """Evidently's distance per column of a report."""
    metrics = json.loads(snapshot.json())["metrics"]
    return {
        metric["config"]["column"]: float(metric["value"])
        for metric in metrics
        if metric["config"]["type"].endswith("ValueDrift")
    }


def save_report(snapshot: Any, week: int) -> Path:
    """Write the report beside the result of the job; an older one of the same week is replaced as a whole."""
    target = report_file(week)
    with atomic_path(target) as draft:
        snapshot.save_html(str(draft))
    return target
