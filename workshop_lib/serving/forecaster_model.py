"""The forecaster behind the Open Inference Protocol: what it takes, what it answers, which runtime computes.

One registered version is loaded at a time. ONNX Runtime answers small requests, OpenVINO large ones, from
``settings.forecaster_openvino_rows`` rows on; notebook 04 measures where that pays.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import kserve
import numpy as np
from kserve import InferOutput, InferRequest, InferResponse
from kserve.errors import InvalidInput, ModelNotReady
from prometheus_client import Counter, Gauge

from workshop_lib.predictive import onnx_export, openvino_trees
from workshop_lib.predictive.champion import OUTPUT, Package, find_version, load_package
from workshop_lib.predictive.onnx_export import INPUT
from workshop_lib.serving.forecaster_client import DATATYPE, NAME
from workshop_lib.settings import settings

_INLINE_ROWS = 64
"""Up to so many rows are computed at once; more go to a thread, so that small requests need not wait for them."""

ROWS = Counter("forecaster_rows_total", "Rows that were forecast", ["runtime"])
VERSION = Gauge("forecaster_model_version", "Version in the registry that answers now", ["model"])
RELOADS = Counter("forecaster_reloads_total", "Attempts to load another version", ["result"])

Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Loaded:
    """A version that is ready to answer."""

    version: str
    features: tuple[str, ...]
    small: Predict
    """ONNX Runtime: float32 rows of shape (n, features) to units of shape (n,)."""
    large: Predict
    """OpenVINO, the same."""

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Units per row, shape (n,), never below zero; the runtime is chosen by the number of rows."""
        if len(rows) < settings.forecaster_openvino_rows:
            ROWS.labels("onnxruntime").inc(len(rows))
            return self.small(rows)
        ROWS.labels("openvino").inc(len(rows))
        return self.large(rows)


def open_package(package: Package) -> Loaded:
    """Load a version's files into both runtimes and let each answer once.

    Raises:
        OSError, RuntimeError: when a runtime cannot read its file.
    """
    # One thread: at one row a second one costs more than it brings, and requests run side by side anyway.
    session = onnx_export.session(package.onnx_file, threads=1)
    compiled = openvino_trees.compile_model(package.ir_file)
    requests = threading.local()  # an infer request computes one thing at a time, so each thread has its own

    def small(rows: np.ndarray) -> np.ndarray:
        return np.maximum(onnx_export.predict(session, rows), 0)

    def large(rows: np.ndarray) -> np.ndarray:
        if not hasattr(requests, "own"):
            requests.own = compiled.create_infer_request()
        return np.maximum(requests.own.infer(rows)[0][:, -1], 0)

    loaded = Loaded(package.version, tuple(package.about["features"]), small, large)
    for predict in (small, large):
        predict(np.zeros((1, len(loaded.features)), np.float32))
    return loaded


class ForecasterModel(kserve.Model):
    """The forecaster as the KServe SDK serves it.

    Args:
        uri: ``models:/NAME@ALIAS`` (followed when the alias moves) or ``models:/NAME/VERSION``.
        name: its name in addresses.
    """

    def __init__(self, uri: str, name: str = NAME) -> None:
        super().__init__(name)
        self.uri = uri
        self._loaded: Loaded | None = None
        self._loading = threading.Lock()

    def fetch(self) -> Package:
        """The checked files of the version that the address names now.

        Raises:
            TrackingError: when the registry does not have it or a checksum differs.
        """
        return load_package(self.uri)

    def load(self) -> bool:
        """Load the version that the address names now; the one in use answers until the new one is ready.

        Raises:
            TrackingError: when the registry does not have it or a checksum differs; the version in use stays.
        """
        result = "failed"
        try:
            with self._loading:
                loaded = open_package(self.fetch())
                self._loaded = loaded  # one assignment: a request sees the old version or the new one
                self.ready = True
            result = "loaded"
        finally:
            RELOADS.labels(result).inc()
        VERSION.labels(self.name).set(float(loaded.version))
        return True

    def is_outdated(self) -> bool:
        """Whether the address names another version than the one in use."""
        version = find_version(self.uri)
        return version is not None and str(version.version) != self.version

    @property
    def version(self) -> str:
        """Number in the registry of the version that answers."""
        return self.current.version

    @property
    def current(self) -> Loaded:
        """The version that answers.

        Raises:
            kserve.errors.ModelNotReady: before the first one is loaded.
        """
        if self._loaded is None:
            raise ModelNotReady(self.name)
        return self._loaded

    def get_input_types(self) -> list[dict[str, Any]]:
        """The protocol's model metadata: one tensor of rows by features."""
        return [{"name": INPUT, "datatype": DATATYPE, "shape": [-1, len(self.current.features)]}]

    def get_output_types(self) -> list[dict[str, Any]]:
        """The protocol's model metadata: units per row."""
        return [{"name": OUTPUT, "datatype": DATATYPE, "shape": [-1, 1]}]

    async def predict(
        self,
        payload: InferRequest | dict[str, Any],
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> InferResponse | dict[str, Any]:
        """Answer a request of protocol V2 (:class:`kserve.InferRequest`) or V1 (``{"instances": [...]}``).

        Raises:
            kserve.errors.InvalidInput: naming the field and what was expected.
        """
        loaded = self.current
        if isinstance(payload, InferRequest):
            rows = read_v2(payload, loaded.features)
            units = await _compute(loaded, rows)
            return _answer_v2(payload, units, self.name, loaded.version)
        rows = read_v1(payload, loaded.features)
        return {"predictions": (await _compute(loaded, rows)).tolist()}


async def _compute(loaded: Loaded, rows: np.ndarray) -> np.ndarray:
    if len(rows) <= _INLINE_ROWS:
        return loaded.predict(rows)
    return await asyncio.to_thread(loaded.predict, rows)


def read_v2(request: InferRequest, features: Sequence[str]) -> np.ndarray:
    """The rows of a V2 request: float32, shape (n, features).

    Raises:
        kserve.errors.InvalidInput: naming the field and what was expected.
    """
    names = [tensor.name for tensor in request.inputs]
    if names != [INPUT]:
        raise InvalidInput(f"inputs: expected one tensor named {INPUT!r}, got {names}.")
    for output in request.request_outputs or []:
        if output.name != OUTPUT:
            raise InvalidInput(f"outputs: the model has {OUTPUT!r} only, got {output.name!r}.")
    tensor = request.inputs[0]
    if tensor.datatype != DATATYPE:
        raise InvalidInput(f"inputs[0].datatype: expected {DATATYPE}, got {tensor.datatype}.")
    shape = list(tensor.shape)
    if len(shape) != 2 or shape[1] != len(features) or shape[0] < 1:
        raise InvalidInput(f"inputs[0].shape: expected [rows, {len(features)}] with at least one row, got {shape}.")
    _check_rows("inputs[0].shape", shape[0])
    try:
        values = tensor.as_numpy()
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInput(
            f"inputs[0].data: expected {shape[0] * shape[1]} numbers for shape {shape} ({error})."
        ) from None
    return _finite("inputs[0].data", values, features)


def read_v1(body: Any, features: Sequence[str]) -> np.ndarray:
    """The rows of a V1 request, ``{"instances": [[…], …]}``: float32, shape (n, features).

    Raises:
        kserve.errors.InvalidInput: naming the field and what was expected.
    """
    instances = body.get("instances") if isinstance(body, dict) else None
    if not isinstance(instances, list) or not instances:
        raise InvalidInput(f"instances: expected a list of rows of {len(features)} numbers.")
    _check_rows("instances", len(instances))
    try:
        values = np.array(instances, dtype=np.float32)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInput(f"instances: expected rows of {len(features)} numbers ({error}).") from None
    if values.ndim != 2 or values.shape[1] != len(features):
        raise InvalidInput(f"instances: expected rows of {len(features)} numbers, got shape {list(values.shape)}.")
    return _finite("instances", values, features)


def _check_rows(field: str, rows: int) -> None:
    if rows > settings.forecaster_max_rows:
        raise InvalidInput(f"{field}: at most {settings.forecaster_max_rows} rows in one request, got {rows}.")


def _finite(field: str, values: np.ndarray, features: Sequence[str]) -> np.ndarray:
    finite = np.isfinite(values)
    if not finite.all():
        row, column = (int(place) for place in np.argwhere(~finite)[0])
        raise InvalidInput(
            f"{field}: expected finite numbers, got {values[row, column]} in row {row}, feature {features[column]!r}."
        )
    return values


def _answer_v2(request: InferRequest, units: np.ndarray, name: str, version: str) -> InferResponse:
    output = InferOutput(OUTPUT, [len(units), 1], DATATYPE)
    wanted = request.request_outputs[0].binary_data if request.request_outputs else None
    binary = request.use_binary_outputs if wanted is None else wanted
    if binary:
        output.set_data_from_numpy(units.astype(np.float32).reshape(-1, 1), binary_data=True)
    else:
        output.data = units.tolist()  # the SDK's own conversion takes a Python call per number
    return InferResponse(
        response_id=request.id or str(uuid.uuid4()),
        model_name=name,
        model_version=version,
        infer_outputs=[output],
        from_grpc=request.from_grpc,
        use_binary_outputs=request.use_binary_outputs,
    )
