"""The gate *performance*: are the forecasts good, on days that the model has not seen, and do they come in time?

"Accuracy above 85%" says nothing without its level. Accuracy here is 1 - WAPE, and errors cancel out when sales are
added up before they are compared (:mod:`workshop_lib.monitoring.forecast_quality`). The gate takes the level at which
the shop buys ahead, category and week, and asks for R² by category and day as well, where nothing cancels out.

A waiting time that is too long fails, unless other programs took most of the machine meanwhile: then nobody can tell,
and a person has to.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd

from workshop_lib.mlops.gate_config import Gates
from workshop_lib.mlops.gate_resources import serve
from workshop_lib.mlops.gate_result import Finding, GateResult, Measurement, judged
from workshop_lib.mlops.gates import Subject
from workshop_lib.monitoring.forecast_quality import LEVELS, accuracy
from workshop_lib.predictive import onnx_export
from workshop_lib.predictive.evaluation import measures
from workshop_lib.predictive.forecaster import Dataset, make_dataset, predict_units
from workshop_lib.serving.business_metrics import departments

LEVEL = "category and week"
"""At which the accuracy is judged."""
FILE = "forecaster.onnx"


class Packaged:
    """The forecaster of a package as the functions of module 1 take it; ONNX Runtime computes."""

    def __init__(self, subject: Subject) -> None:
        self._session = _session(subject.package / FILE)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Forecast per row, shape (n,)."""
        return onnx_export.predict(self._session, X.astype(np.float32))


@functools.lru_cache(maxsize=1)  # two gates ask the same model one after the other; the next one may be large
def _session(path: Path) -> onnxruntime.InferenceSession:
    return onnx_export.session(path, threads=1)


@functools.cache
def dataset() -> Dataset:
    """The shop's days with their features; computed once per process, for all gates that need them."""
    return make_dataset()


def unseen(subject: Subject) -> tuple[pd.DataFrame, pd.Series]:
    """Features and units of the days after those that the model of the package was trained on.

    What a model has seen it knows by heart, so no gate looks at it.
    """
    about = json.loads((subject.package / "forecaster.json").read_text(encoding="utf-8"))
    days = dataset().features.index.get_level_values("date").unique()
    return dataset().rows(days[days > pd.Timestamp(about["last_day"])])


def settled(subject: Subject) -> pd.DataFrame:
    """Forecasts of the unseen days beside what was sold, in the form of module 5's tables."""
    features, units = unseen(subject)
    frame = pd.DataFrame({"forecast": predict_units(Packaged(subject), features), "sold": units}).reset_index()
    week = frame["date"] - pd.to_timedelta(frame["date"].dt.dayofweek, unit="D")
    return frame.assign(week=week, department=frame["category"].map(departments()))


def judge(subject: Subject, limits: Gates) -> GateResult:
    """The gate: accuracy and R² on unseen days, waiting times at the load."""
    allowed, found, advice = limits.performance, settled(subject), []
    served = serve(subject.package, limits)
    findings, measurements = list(served.findings), []
    days = found["date"].nunique()
    if days < allowed.days:
        text = f"only {days} days came after the training, {allowed.days} are needed to judge"
        findings.append(Finding("unanswered", "forecasts", text))
        advice.append("Wait until enough days have arrived, or train on fewer.")
    else:
        measurements += [
            Measurement(f"accuracy, {LEVEL}", accuracy(found, LEVELS[LEVEL]), ">=", allowed.accuracy),
            Measurement("R², category and day", measures(found["sold"], found["forecast"])["R2"], ">=", allowed.r2),
        ]
    if not all(one.met for one in measurements):
        advice.append("Compare with the version in service on the same days; look at features, training days, drift.")
    if served.load is not None:
        waited = Measurement("P95", served.p95_seconds, "<=", allowed.p95_seconds, "s")
        if waited.met or not served.crowded:
            measurements.append(waited)
            advice += [] if waited.met else ["Find what takes the time (module 3, load test), or serve more replicas."]
        else:
            text = f"P95 was {waited.value:.2f} s, but other programs took {served.others:.1f} cores of the machine"
            findings.append(Finding("unanswered", "server", text))
            advice.append("Measure the waiting time again when the machine is quiet, or on the cluster.")
    return judged("performance", measurements, findings, advice or ["Read the server's log, then try again."])
