"""Tree ensembles as ONNX graphs, and the comparison of their answers with ONNX Runtime's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from workshop_lib.predictive import openvino_trees
from workshop_lib.predictive.onnx_export import relative_difference

TOLERANCE = 1e-5
FEATURES = 5
FAR = float(np.finfo(np.float32).max)
VALUES = [0.0, -0.0, 0.5, -0.5, 1.0, 1.0000001, -3.0, 2.0**24, 1e30, -1e30, FAR, -FAR, float("inf"), float("-inf")]
"""Thresholds and features: exactly the same numbers, neighbours, huge ones, infinity."""
BRANCHES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


def model(attributes: dict[str, Any], operation: str = "TreeEnsembleRegressor", version: int = 3) -> onnx.ModelProto:
    """A graph of one tree ensemble with the input ``features``."""
    classifier = operation.endswith("Classifier")
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, None])]
    if classifier:
        outputs.insert(0, helper.make_tensor_value_info("label", TensorProto.INT64, [None]))
    node = helper.make_node(operation, ["features"], [o.name for o in outputs], domain="ai.onnx.ml", **attributes)
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, FEATURES])]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(helper.make_graph([node], "trees", inputs, outputs), opset_imports=opsets, ir_version=8)


FIELDS: tuple[str, ...] = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
FIELDS += ("missing_value_tracks_true",)


def nodes(trees: list[Any]) -> dict[str, Any]:
    """The nodes' attributes of nested trees: (mode, feature, threshold, missing, true, false), or None for a leaf."""
    fields: dict[str, list[Any]] = {name: [] for name in FIELDS}

    def add(tree: Any, number: int, free: list[int]) -> int:
        mine = free[0]
        free[0] += 1
        at = len(fields["modes"])
        inner = isinstance(tree, tuple)
        mode, feature, threshold, missing = tree[:4] if inner else ("LEAF", 0, 0.0, 0)
        row = (number, mine, feature, threshold, mode, 0, 0, missing)
        for name, value in zip(fields, row, strict=True):
            fields[name].append(value)
        if inner:
            fields["truenodeids"][at] = add(tree[4], number, free)
            fields["falsenodeids"][at] = add(tree[5], number, free)
        return mine

    for number, tree in enumerate(trees):
        add(tree, number, [0])
    return {f"nodes_{name}": values for name, values in fields.items()}


def leaves(attributes: dict[str, Any]) -> list[tuple[int, int]]:
    """(tree, node) of every leaf."""
    rows = zip(*(attributes[f"nodes_{name}"] for name in ("treeids", "nodeids", "modes")), strict=True)
    return [(tree, node) for tree, node, mode in rows if mode == "LEAF"]


def votes(kind: str, given_votes: list[tuple[tuple[int, int], int, float]]) -> dict[str, Any]:
    """The attributes of leaves' votes: ((tree, node), target, weight)."""
    return {
        f"{kind}_treeids": [leaf[0] for leaf, _, _ in given_votes],
        f"{kind}_nodeids": [leaf[1] for leaf, _, _ in given_votes],
        f"{kind}_ids": [target for _, target, _ in given_votes],
        f"{kind}_weights": [weight for _, _, weight in given_votes],
    }


STUMP = ("BRANCH_LEQ", 0, 0.0, 0, None, None)


def regressor(trees: list[Any], **others: Any) -> dict[str, Any]:
    """Attributes of a regressor whose leaves hold 1, 2, 3 …"""
    attributes = nodes(trees)
    said = votes("target", [(leaf, 0, 1.0 + i) for i, leaf in enumerate(leaves(attributes))])
    return {**attributes, **said, "n_targets": 1, "post_transform": "NONE", **others}


def on_onnxruntime(proto: onnx.ModelProto, rows: np.ndarray) -> list[np.ndarray]:
    """The reference's outputs, in order."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # the generated graphs do not declare the size of their output
    return onnxruntime.InferenceSession(proto.SerializeToString(), options).run(None, {"features": rows})


def on_openvino(proto: onnx.ModelProto, rows: np.ndarray, folder: Path) -> list[np.ndarray]:
    """The outputs after reading, saving and loading again."""
    path = folder / "model.onnx"
    onnx.save(proto, path)
    saved = openvino_trees.save_ir(openvino_trees.read_model(path), folder / "ir")
    return [np.array(value) for value in openvino_trees.compile_model(saved)(rows).values()]


def assert_equal(proto: onnx.ModelProto, rows: np.ndarray, folder: Path) -> None:
    """Same shapes, types and, within the tolerance, values."""
    expected, answers = on_onnxruntime(proto, rows), on_openvino(proto, rows, folder)
    assert [(a.shape, a.dtype) for a in answers] == [(e.shape, e.dtype) for e in expected]
    for answer, reference in zip(answers, expected, strict=True):
        assert np.array_equal(np.isnan(answer), np.isnan(reference))
        finite = np.isfinite(reference)
        assert np.array_equal(answer[~finite], reference[~finite], equal_nan=True)
        assert relative_difference(answer[finite], reference[finite]).max(initial=0) <= TOLERANCE
