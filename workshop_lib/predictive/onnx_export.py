"""Export to ONNX: one file that holds the model, its inputs and where it came from.

export(model, path, feature_names=FEATURES, metadata={"data_fingerprint": "…"})
session(path).run(None, {"features": rows})
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd

from workshop_lib.files import atomic_path

if TYPE_CHECKING:  # imported where a model is exported: a server only runs what was exported
    from sklearn.base import BaseEstimator
    from xgboost import XGBModel

INPUT = "features"
"""Name of the models' input: float32, shape (rows, features)."""
OPSET = {"": 17, "ai.onnx.ml": 3}
"""Operator sets that OpenVINO, ONNX Runtime and Triton all read."""


def export(
    model: BaseEstimator, path: Path, feature_names: Sequence[str], metadata: Mapping[str, str] | None = None
) -> onnx.ModelProto:
    """Write a fitted scikit-learn or XGBoost model as ONNX and check it.

    Args:
        model: a regressor, or a binary classifier (whose outputs are ``label`` and ``probabilities``).
        path: the file to write; an existing one is replaced only when the export succeeds.
        feature_names: names of the inputs in their order, kept in the file's metadata.
        metadata: further text entries for the file's metadata.

    Returns:
        The checked model.

    Raises:
        onnx.checker.ValidationError: when the written graph breaks the ONNX specification.
    """
    from onnxmltools.convert import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType as XgboostFloat
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.base import is_classifier
    from xgboost import XGBModel

    width = len(feature_names)
    name = type(model).__name__  # a converter left to itself draws a random one: no two files would be equal
    if isinstance(model, XGBModel):
        # XGBoost has a converter of its own, which compares with "less than" as XGBoost does.
        inputs = [(INPUT, XgboostFloat([None, width]))]
        proto = convert_xgboost(_without_names(model), name, initial_types=inputs, target_opset=15)
    else:
        options = {id(model): {"zipmap": False}} if is_classifier(model) else None
        inputs = [(INPUT, FloatTensorType([None, width]))]
        proto = to_onnx(model, initial_types=inputs, name=name, options=options, target_opset=OPSET)
    # skl2onnx may list an operator set twice, which stricter readers refuse.
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    del proto.opset_import[:]
    proto.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in versions.items())
    onnx.helper.set_model_props(proto, {"feature_names": json.dumps(list(feature_names)), **(metadata or {})})
    onnx.checker.check_model(proto, full_check=True)
    with atomic_path(path) as draft:
        onnx.save(proto, draft)
    return proto


def _without_names(model: XGBModel) -> XGBModel:
    """A copy that forgets its column names: the converter knows columns by number only."""
    nameless = copy.deepcopy(model)
    nameless.get_booster().feature_names = None
    return nameless


def session(path: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """Open a file in ONNX Runtime on the CPU.

    Args:
        path: the ``.onnx`` file.
        threads: threads per prediction; 0 lets the runtime choose.

    Raises:
        FileNotFoundError: when there is no such file, saying which notebook writes it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. Notebook 05_export_onnx writes it.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def predict(runtime: onnxruntime.InferenceSession, rows: np.ndarray) -> np.ndarray:
    """Run a session: forecasts of a regressor, probabilities of the second class of a classifier.

    Args:
        runtime: an open session.
        rows: float32, shape (n, features).

    Returns:
        Shape (n,).
    """
    output = runtime.run(None, {INPUT: rows})[-1]
    return output[:, -1]


def schema(proto: onnx.ModelProto) -> pd.DataFrame:
    """Names, shapes and types of a model's inputs and outputs, one row each."""
    rows = []
    for role, values in (("input", proto.graph.input), ("output", proto.graph.output)):
        for value in values:
            tensor = value.type.tensor_type
            sizes = [str(size.dim_value or "n") for size in tensor.shape.dim]
            kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
            rows.append({"role": role, "name": value.name, "type": kind, "shape": f"({', '.join(sizes)})"})
    return pd.DataFrame(rows).set_index("name")


def relative_difference(exported: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Absolute difference over the size of the original value, which counts as one at least.

    Forecasts are units and probabilities: below one, a relative figure would magnify what no one sees.
    """
    return np.abs(exported - original) / np.maximum(np.abs(original), 1)


def time_predictions(
    predictors: Mapping[str, Callable[[np.ndarray], Any]],
    rows: np.ndarray,
    batches: Sequence[int],
    seconds: float = 0.4,
) -> pd.DataFrame:
    """Median time per call of each predictor at each batch size.

    Args:
        predictors: functions that take float32 rows.
        rows: inputs to take the batches from, shape (n, features), n at least the largest batch.
        batches: rows per call.
        seconds: time to spend on each combination, in which as many calls as fit are timed.

    Returns:
        Milliseconds, a row per batch size and a column per predictor.
    """
    table = {}
    for name, predictor in predictors.items():
        table[name] = {batch: _median_milliseconds(predictor, rows[:batch], seconds) for batch in batches}
    return pd.DataFrame(table).rename_axis("batch")


def _median_milliseconds(predictor: Callable[[np.ndarray], Any], batch: np.ndarray, seconds: float) -> float:
    predictor(batch)  # the first call loads and allocates
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or (time.perf_counter() < end and len(times) < 2000):
        start = time.perf_counter()
        predictor(batch)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1000
