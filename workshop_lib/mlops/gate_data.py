"""The gate *data*: are the newest raw data as the models expect them?

A model that was good on good data forecasts nonsense from bad data, and its own gate would not notice. Measured is
what module 1 measured (:mod:`workshop_lib.data.quality`), on the weeks that the next forecasts are made from.
"""

from __future__ import annotations

import functools

import pandas as pd

from workshop_lib import data
from workshop_lib.data.schemas import NON_MERCHANDISE
from workshop_lib.mlops.gate_config import Gates
from workshop_lib.mlops.gate_result import Finding, GateResult, Measurement, judged
from workshop_lib.mlops.gates import Subject

WORST = 3
"""Rules and columns that a report names."""


@functools.cache
def newest(weeks: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The raw sales lines of the last weeks, and the catalogue."""
    source = data.find_source()
    lines = source.read("transactions")
    begun = lines["transaction_timestamp"].max() - pd.Timedelta(weeks=weeks)
    return lines[lines["transaction_timestamp"] > begun].reset_index(drop=True), source.read("products")


def judge(subject: Subject, limits: Gates) -> GateResult:
    """The gate: completeness and consistency of the newest weeks.

    Coupons, fuel and bookings of the till are no faults: the preparation sets them aside, and so does the gate.
    """
    allowed = limits.data
    report = data.measure(*(subject.tables() if subject.tables else newest(allowed.weeks)))
    goods = ~report.lines["product_category"].isin(NON_MERCHANDISE)
    broken = report.broken[goods[report.broken["row"]].to_numpy()]
    consistency = 1 - broken["row"].nunique() / int(goods.sum())
    measurements = [
        Measurement("completeness", report.completeness, ">=", allowed.completeness),
        Measurement("consistency", consistency, ">=", allowed.consistency),
    ]
    advice = [
        "Ask who delivers the data what changed. Until it is mended, forecast from the last good delivery."
        " Do not fill gaps by hand."
    ]
    holes = report.values[report.values["required"] & (report.values["missing"] > 0)].sort_values("present")
    findings = [
        Finding("low", "values", f"{row.table}.{row.column}: {1 - row.present:.1%} missing")
        for row in holes.head(WORST).itertuples()
    ]
    for rule, rows in broken["rule"].value_counts().head(WORST).items():
        findings.append(Finding("low", "rules", f"{rule}: {rows} lines break it"))
    return judged("data", measurements, findings, advice)
