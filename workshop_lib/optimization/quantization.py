"""INT8 for the distilled forecaster, by two tools in five ways, and what it does to trees (nothing).

INT8 stores a number as one of 256 steps. For weights that is a quarter of float32's memory, and processors have
instructions that multiply and add many such numbers at once (AVX-512 VNNI, AMX). What has no matrix product has
nothing to gain. Sources: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference"; the documentation of ONNX Runtime and of NNCF.

    variants = build_variants(student_onnx, folder, calibration, validation)
    accuracy(variants, features, units)
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pandas as pd
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from workshop_lib.files import atomic_path
from workshop_lib.predictive import onnx_export, openvino_trees
from workshop_lib.predictive.evaluation import measures, wape
from workshop_lib.predictive.onnx_export import INPUT, OPSET
from workshop_lib.progress import steps

Predictor = Callable[[np.ndarray], np.ndarray]
"""From float32 rows, shape (n, features), to units, shape (n,)."""
ONNX_RUNTIME, OPENVINO = "ONNX Runtime", "OpenVINO"
FLOAT = {ONNX_RUNTIME: "ONNX Runtime float32", OPENVINO: "OpenVINO float32"}
"""What each runtime's other variants are compared with."""
_INT8_OPERATIONS = ("MatMulInteger", "DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear", "FakeQuantize")
_CALIBRATION_ROWS = 256
"""Rows per item of calibration data."""


@dataclass(frozen=True)
class Variant:
    """One way to run the student: a file, a runtime, and how precisely it computes."""

    name: str
    runtime: str
    file: Path
    """``.onnx``, or ``.xml`` with its ``.bin`` beside it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Properties of OpenVINO."""

    @property
    def bytes(self) -> int:
        """Size of its files."""
        return file_bytes(self.file)

    def open(self, threads: int = 1) -> Predictor:
        """Load it for any number of rows per call; not to be called from two threads at once."""
        if self.runtime == ONNX_RUNTIME:
            session = onnx_export.session(self.file, threads)
            return lambda rows: onnx_export.predict(session, rows)
        request = openvino_trees.compile_model(self.file, threads, **self.options).create_infer_request()

        def predict(rows: np.ndarray) -> np.ndarray:
            request.infer(np.ascontiguousarray(rows), share_inputs=True, share_outputs=True)
            return request.get_output_tensor(0).data[:, -1].copy()

        return predict


def file_bytes(file: Path) -> int:
    """Size of a model: its file, and for OpenVINO's ``.xml`` the ``.bin`` beside it."""
    files = (file, file.with_suffix(".bin")) if file.suffix == ".xml" else (file,)
    return sum(path.stat().st_size for path in files)


def build_variants(onnx_file: Path, folder: Path, calibration: np.ndarray, validation: pd.DataFrame) -> list[Variant]:
    """Make every file that is compared.

    Args:
        onnx_file: the student at float32.
        folder: where the files go.
        calibration: rows of training days, from which the range of each activation is learnt; float32.
        validation: rows of later days, on which the accuracy-controlled run looks at the error.

    Returns:
        Both runtimes' float32 first; OpenVINO's float32 file a second time, computed in bfloat16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ir_file = folder / "float32.xml"
    _save_ir(openvino.Core().read_model(str(onnx_file)), ir_file)
    rows = np.ascontiguousarray(validation.to_numpy(np.float32))
    paths = {name: folder / name for name in ("dynamic.onnx", "static.onnx", "nncf.xml", "controlled.xml")}
    tasks = [
        ("ONNX Runtime, dynamic", lambda: quantise_dynamic(onnx_file, paths["dynamic.onnx"])),
        ("ONNX Runtime, static", lambda: quantise_static(onnx_file, paths["static.onnx"], calibration)),
        ("NNCF", lambda: quantise_nncf(ir_file, paths["nncf.xml"], calibration)),
        ("NNCF, controlled", lambda: quantise_controlled(ir_file, paths["controlled.xml"], calibration, rows)),
    ]
    for task in steps("Quantising", tasks):
        task()
    full, half = {"INFERENCE_PRECISION_HINT": "f32"}, {"INFERENCE_PRECISION_HINT": "bf16"}
    return [
        Variant(FLOAT[ONNX_RUNTIME], ONNX_RUNTIME, onnx_file),
        Variant("ONNX Runtime INT8, dynamic", ONNX_RUNTIME, paths["dynamic.onnx"]),
        Variant("ONNX Runtime INT8, static", ONNX_RUNTIME, paths["static.onnx"]),
        Variant(FLOAT[OPENVINO], OPENVINO, ir_file, full),
        Variant("OpenVINO bfloat16", OPENVINO, ir_file, half),
        Variant("OpenVINO INT8", OPENVINO, paths["nncf.xml"], full),
        Variant("OpenVINO INT8, controlled", OPENVINO, paths["controlled.xml"], full),
    ]


def quantise_dynamic(source: Path, target: Path) -> None:
    """ONNX Runtime, dynamic: weights become INT8 in the file, activations while it runs, with ranges of the moment.

    Needs no data. Also for files whose converter lists an operator set twice, which the quantiser refuses.
    """
    with _without_advice(), atomic_path(target) as draft:
        quantize_dynamic(
            _with_single_opsets(onnx.load(str(source))), draft, weight_type=QuantType.QInt8, per_channel=True
        )


def quantise_static(source: Path, target: Path, calibration: np.ndarray) -> None:
    """ONNX Runtime, static: the ranges of activations are learnt from ``calibration`` and written into the file.

    The matrix products alone are quantised, not the logarithm and the exponential around them: the format QDQ puts
    a pair of QuantizeLinear and DequantizeLinear around each, and the runtime joins them when it loads the file.
    """
    with _without_advice(), atomic_path(target) as draft:
        quantize_static(
            _with_single_opsets(onnx.load(str(source))),
            draft,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def quantise_nncf(source: Path, target: Path, calibration: np.ndarray) -> None:
    """NNCF, plain: all that OpenVINO can compute in INT8 becomes INT8, whatever it does to the error."""
    import nncf

    with _quiet_nncf():
        _save_ir(nncf.quantize(openvino.Core().read_model(str(source)), nncf.Dataset(_items(calibration))), target)


def quantise_controlled(
    source: Path, target: Path, calibration: np.ndarray, validation: np.ndarray, max_drop: float = 0.01
) -> None:
    """NNCF, accuracy-controlled: operations go back to floating point until the error is small enough.

    Args:
        source: ``.xml`` at float32.
        target: ``.xml`` to write.
        calibration: rows of training days, float32.
        validation: rows of later days, float32; the error is the WAPE against the answers of ``source``.
        max_drop: highest error that is accepted.
    """
    import nncf

    expected = _run(openvino_trees.compile_model(source), validation)

    def agreement(model: openvino.CompiledModel, data: Iterable[Any]) -> tuple[float, None]:
        return 1 - wape(expected, np.concatenate([_run(model, rows) for rows in data])), None

    with _quiet_nncf():
        model = nncf.quantize_with_accuracy_control(
            openvino.Core().read_model(str(source)),
            calibration_dataset=nncf.Dataset(_items(calibration)),
            validation_dataset=nncf.Dataset(_items(validation)),
            validation_fn=agreement,
            max_drop=max_drop,
        )
        _save_ir(model, target)


def try_on_trees(onnx_file: Path, ir_file: Path, folder: Path, rows: np.ndarray) -> pd.DataFrame:
    """Quantise a model of trees all the same, with both tools, and look at what they did.

    Args:
        onnx_file: the champion's ONNX file.
        ir_file: the same as OpenVINO's graph.
        folder: where the results go.
        rows: float32, shape (n, features); also what NNCF calibrates on.

    Returns:
        Rows for each file before and after: ``tree operations`` (ensembles in ONNX, the rounds of gathering they
        were lowered to in OpenVINO), ``matrix products``, ``INT8 operations``, ``bytes``, and ``largest difference``
        of an answer to the file before, in units.
    """
    folder.mkdir(parents=True, exist_ok=True)
    targets = {ONNX_RUNTIME: folder / "trees.onnx", OPENVINO: folder / "trees.xml"}
    quantise_dynamic(onnx_file, targets[ONNX_RUNTIME])
    quantise_nncf(ir_file, targets[OPENVINO], rows)
    table = {}
    for runtime, before in ((ONNX_RUNTIME, onnx_file), (OPENVINO, ir_file)):
        pair = {"as it is": before, "after INT8": targets[runtime]}
        answers = {name: Variant(name, runtime, file).open()(rows) for name, file in pair.items()}
        for name, file in pair.items():
            table[runtime, name] = operations(file) | {
                "bytes": file_bytes(file),
                "largest difference": float(np.abs(answers[name] - answers["as it is"]).max()),
            }
    return pd.DataFrame(table).T.rename_axis(["tool of", "file"])


def accuracy(variants: Sequence[Variant], features: pd.DataFrame, units: pd.Series) -> pd.DataFrame:
    """Every variant against the true sales and against the student at float32.

    Returns:
        Indexed by variant: ``WAPE`` and ``R2`` against what was sold, ``to float32`` (WAPE against the same
        runtime's float32) and ``largest`` (the largest difference to it, units).
    """
    rows = np.ascontiguousarray(features.to_numpy(np.float32))
    answers = {variant.name: variant.open()(rows) for variant in variants}
    table = {}
    for variant in variants:
        answer, exact = answers[variant.name], answers[FLOAT[variant.runtime]]
        found = measures(units, answer)
        table[variant.name] = {
            "WAPE": found["WAPE"],
            "R2": found["R2"],
            "to float32": wape(exact, answer),
            "largest": float(np.abs(answer - exact).max()),
        }
    return pd.DataFrame(table).T.rename_axis("variant")


def operations(file: Path) -> dict[str, int]:
    """How many operations of trees, matrix products and INT8 arithmetic a model's graph has, in either format."""
    if file.suffix == ".onnx":
        kinds = Counter(node.op_type for node in onnx.load(str(file)).graph.node)
    else:
        kinds = Counter(node.get_type_name() for node in openvino.Core().read_model(str(file)).get_ops())
    return {
        "tree operations": sum(count for kind, count in kinds.items() if kind.startswith(("TreeEnsemble", "Gather"))),
        "matrix products": kinds["MatMul"] + kinds["Gemm"],
        "INT8 operations": sum(kinds[kind] for kind in _INT8_OPERATIONS),
    }


def _with_single_opsets(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The quantiser wants the default operator set once: skl2onnx may list it twice, XGBoost's converter not at all."""
    versions = {"": OPSET[""]} | {entry.domain: entry.version for entry in proto.opset_import}
    del proto.opset_import[:]
    proto.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in versions.items())
    return proto


def _save_ir(model: openvino.Model, target: Path) -> None:
    """Write ``target`` and its ``.bin``; each file is replaced as a whole."""
    with atomic_path(target.with_suffix(".bin")) as numbers, atomic_path(target) as draft:
        openvino.save_model(model, draft, compress_to_fp16=False)
        draft.with_suffix(".bin").replace(numbers)


def _items(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + _CALIBRATION_ROWS] for start in range(0, len(rows), _CALIBRATION_ROWS)]


def _run(model: openvino.CompiledModel, rows: np.ndarray) -> np.ndarray:
    answer: np.ndarray = model(rows)[0][:, -1]
    return answer


class _Reader(CalibrationDataReader):
    """Hands calibration rows to ONNX Runtime."""

    def __init__(self, rows: np.ndarray) -> None:
        self._items: Iterator[np.ndarray] = iter(_items(rows))

    def get_next(self) -> dict[str, np.ndarray] | None:
        rows = next(self._items, None)
        return None if rows is None else {INPUT: rows}


@contextmanager
def _without_advice() -> Iterator[None]:
    """ONNX Runtime's quantiser without its advice to prepare the graph first, which this one does not need."""
    log = logging.getLogger()
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


@contextmanager
def _quiet_nncf() -> Iterator[None]:
    """NNCF without its log and progress bars, which it draws on rich's shared console."""
    import nncf
    import rich

    nncf.set_log_level(logging.ERROR)
    rich.reconfigure(quiet=True, force_jupyter=False)
    try:
        yield
    finally:
        rich.reconfigure()
