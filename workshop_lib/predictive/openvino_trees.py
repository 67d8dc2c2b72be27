"""Forests and boosted trees on OpenVINO.

OpenVINO has no rule for the tree ensembles of ONNX. The extensions here give it one, which writes them as
standard operations; what is saved afterwards is an ordinary model that any OpenVINO loads.

model = read_model(Path("forecaster.onnx"))
compiled = compile_model(save_ir(model, Path("forecaster/1")))
compiled(rows)[0]

Read are ``TreeEnsembleRegressor`` and ``TreeEnsembleClassifier`` of ai.onnx.ml 1 and 3 with single precision,
which is what skl2onnx and onnxmltools write. Answers follow ONNX Runtime where the specification
(https://onnx.ai/onnx/operators/) and it differ:

* A regressor with one target and the post-transform LOGISTIC, SOFTMAX or SOFTMAX_ZERO: ONNX Runtime leaves the
  value as it is; the specification knows no such exception.
* A classifier of two classes whose leaves vote for one: ONNX Runtime derives both scores from the one. With votes
  that are all positive these are 1 - s and s, and the label is the second from 0.5 on; otherwise -s and s, and the
  label is the second above zero. LOGISTIC applies to -s and s in both cases. Other transforms do nothing. The
  specification does not say any of this.
* A classifier of two classes whose leaves vote for both: ONNX Runtime labels the rows 0 and 1, whatever the labels
  are. This is refused here.
* A target without a vote from any leaf that a row reaches: ONNX Runtime leaves out its base value, and its class
  cannot win. With several targets and base values, and with more than two classes, every one has to have a tree
  that always votes for it; others are refused here.
* NaN differs from every threshold (BRANCH_NEQ), even where missing values follow the false branch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
from openvino import Type
from openvino import opset15 as ops
from openvino.frontend.onnx import ConversionExtension

from workshop_lib.files import atomic_path
from workshop_lib.predictive.openvino_tree_ops import (
    AGGREGATES,
    LEAF,
    MODES,
    POST_TRANSFORMS,
    Ensemble,
    UnsupportedEnsemble,
    Value,
    ensemble_scores,
    post_transformed,
)

DOMAIN = "ai.onnx.ml"
IR_FILE = "model.xml"
_NODES = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
_SHARED = {*(f"nodes_{name}" for name in _NODES), "nodes_hitrates", "nodes_missing_value_tracks_true"} | {
    "base_values",
    "post_transform",
}
_VOTES = ("treeids", "nodeids", "ids", "weights")
_KNOWN = {
    "TreeEnsembleRegressor": _SHARED | {f"target_{name}" for name in _VOTES} | {"n_targets", "aggregate_function"},
    "TreeEnsembleClassifier": _SHARED | {f"class_{name}" for name in _VOTES} | {"classlabels_int64s"},
}
"""Attributes that the rules here read (or may ignore: hit rates say how often a node was visited in training)."""


def extensions() -> list[ConversionExtension]:
    """Rules for the tree ensembles of ONNX, for :meth:`openvino.Core.add_extension`."""
    return [
        ConversionExtension("TreeEnsembleRegressor", DOMAIN, _regressor),
        ConversionExtension("TreeEnsembleClassifier", DOMAIN, _classifier),
    ]


def read_model(path: Path | str) -> openvino.Model:
    """Read an ONNX file with tree ensembles.

    Raises:
        FileNotFoundError: when there is no such file.
        UnsupportedEnsemble: when the file holds an operation, an attribute or a value that the rules do not know.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    _check(onnx.load(str(path), load_external_data=False))
    core = openvino.Core()
    for extension in extensions():
        core.add_extension(extension)
    try:
        return core.read_model(str(path))
    except RuntimeError as error:
        # OpenVINO wraps what a rule raises in a report of its own.
        reason = re.search(rf"{UnsupportedEnsemble.__name__}: (.+)", str(error))
        if reason is None:
            raise
        raise UnsupportedEnsemble(reason[1]) from None


def _check(proto: onnx.ModelProto) -> None:
    """Refuse what a rule cannot see: it can ask for an attribute by name, but not which others there are."""
    for node in proto.graph.node:
        if node.domain != DOMAIN:
            continue
        if node.op_type not in _KNOWN:
            hint = " Export with the option zipmap=False." if node.op_type == "ZipMap" else ""
            raise UnsupportedEnsemble(f"{DOMAIN}.{node.op_type}: there is no rule for this operation.{hint}")
        for attribute in node.attribute:
            if attribute.name not in _KNOWN[node.op_type]:
                raise UnsupportedEnsemble(f"{attribute.name}: {node.op_type} has an attribute that is not supported.")


def save_ir(model: openvino.Model, folder: Path) -> Path:
    """Save a model as OpenVINO's files ``model.xml`` and ``model.bin``, at full precision.

    OpenVINO halves the precision of constants unless told not to, and a threshold that is rounded sends rows the
    wrong way. An existing folder is replaced as a whole when the new files are complete.

    Returns:
        The path of ``model.xml``.
    """
    with atomic_path(folder) as draft:
        draft.mkdir()
        openvino.save_model(model, draft / IR_FILE, compress_to_fp16=False)
    return folder / IR_FILE


def compile_model(
    model: openvino.Model | Path | str, threads: int = 0, rows: int | None = None, **options: Any
) -> openvino.CompiledModel:
    """Compile for the CPU, for the shortest time per request and at single precision.

    Args:
        model: a model, or the path of a saved one.
        threads: per request; 0 lets OpenVINO choose.
        rows: rows of every request, for requests of always the same size: with shapes that are known beforehand
            nothing has to be worked out per request, which is most of the time that a single row takes.
        options: further properties of OpenVINO.
    """
    config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    if threads:
        config["INFERENCE_NUM_THREADS"] = threads
    core = openvino.Core()
    if rows is not None:
        model = model.clone() if isinstance(model, openvino.Model) else core.read_model(str(model))
        model.reshape([rows, model.input(0).get_partial_shape()[1]])
    return core.compile_model(model, "CPU", {**config, **options})


def predictor(ir_file: Path) -> Callable[[np.ndarray], np.ndarray]:
    """A function from float32 rows, shape (n, features), to the last column of the last output, shape (n,).

    A single row gets a model compiled for one row and one thread, all else one for any number of rows. The function
    must not be called from two threads at once.
    """
    single = compile_model(ir_file, rows=1, threads=1).create_infer_request()
    many = compile_model(ir_file).create_infer_request()
    last = len(many.output_tensors) - 1

    def predict(rows: np.ndarray) -> np.ndarray:
        request = single if len(rows) == 1 else many
        request.infer(np.ascontiguousarray(rows), share_inputs=True, share_outputs=True)
        # The tensor belongs to the request, and the next call overwrites it.
        return request.get_output_tensor(last).data[:, -1].copy()

    return predict


def hard_rows(proto: onnx.ModelProto, count: int, seed: int = 0) -> np.ndarray:
    """Rows on which a runtime that is nearly right goes wrong.

    Their numbers are the model's own thresholds, the neighbours of these, NaN, infinity, huge numbers and zero.

    Args:
        proto: a model with one tree ensemble.
        count: number of rows.
        seed: of the random choice.

    Returns:
        float32, shape (count, features).
    """
    (thresholds,) = (a.floats for node in proto.graph.node for a in node.attribute if a.name == "nodes_values")
    own = np.unique(np.array(thresholds, np.float32))
    far = np.float32(np.inf)
    special = np.array([np.nan, far, -far, np.finfo(np.float32).max, np.finfo(np.float32).min, 0, -0.0], np.float32)
    pool = np.concatenate([own, np.nextafter(own, far), np.nextafter(own, -far)])
    random = np.random.default_rng(seed)
    rows = random.choice(pool, (count, proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value))
    return np.where(random.random(rows.shape) < 0.15, random.choice(special, rows.shape), rows)


def _regressor(node: Any) -> list[Any]:
    """Rule for TreeEnsembleRegressor: one output of shape (n, targets)."""
    targets = int(node.get_attribute("n_targets", 1))
    trees = _read(node, "target", targets)
    base = _floats(node, "base_values")
    if len(base) not in (0, targets):
        raise UnsupportedEnsemble(f"base_values: {len(base)} values for {targets} targets.")
    transform = _choice(node, "post_transform", POST_TRANSFORMS, "NONE")
    if targets > 1 and len(base):
        _need_sure_votes(node, trees, "target_ids")
    score = ensemble_scores(trees, _rows(node, trees))
    if len(base):
        score = ops.add(score, _constant(base[None]))
    if targets > 1 or transform == "PROBIT":
        score = post_transformed(score, transform)
    return score.outputs()


def _classifier(node: Any) -> list[Any]:
    """Rule for TreeEnsembleClassifier: labels of shape (n,) and scores of shape (n, classes)."""
    if node.has_attribute("classlabels_strings"):
        raise UnsupportedEnsemble("classlabels_strings: labels have to be integers.")
    labels = _integers(node, "classlabels_int64s")
    if len(labels) and not -(2**31) <= labels.min() <= labels.max() < 2**31:
        raise UnsupportedEnsemble("classlabels_int64s: OpenVINO keeps 32 bits of a label.")
    trees = _read(node, "class", len(labels))
    base = _floats(node, "base_values")
    transform = _choice(node, "post_transform", POST_TRANSFORMS, "NONE")
    if len(labels) == 2:
        return _two_classes(node, trees, labels, base, transform)
    if len(labels) < 2 or len(base) not in (0, len(labels)):
        raise UnsupportedEnsemble(f"base_values: {len(base)} values for {len(labels)} classes.")
    if not len(base):
        _need_sure_votes(node, trees, "class_ids")
    scores = ensemble_scores(trees, _rows(node, trees))
    if len(base):
        scores = ops.add(scores, _constant(base[None]))
    # The first of the highest wins.
    is_best = ops.equal(scores, ops.reduce_max(scores, _constant(1), keep_dims=True))
    numbers = _constant(np.arange(len(labels), dtype=np.int32)[None])
    best = ops.reduce_min(ops.select(is_best, numbers, _constant(len(labels))), _constant(1), keep_dims=False)
    label = ops.gather(_constant(labels), best, _constant(0))
    return [label.output(0), post_transformed(scores, transform).output(0)]


def _two_classes(node: Any, trees: Ensemble, labels: np.ndarray, base: np.ndarray, transform: str) -> list[Any]:
    """Two classes whose leaves vote for one of them: both scores follow from one."""
    if trees.votes[:, 1].any() or not trees.votes[trees.leaf, 0].all():
        raise UnsupportedEnsemble("class_ids: of two classes all leaves have to vote for the first one and no other.")
    if len(base) > 1:
        raise UnsupportedEnsemble("base_values: two values for two classes of which one has votes.")
    if transform == "PROBIT":
        raise UnsupportedEnsemble("post_transform: PROBIT with two classes of which one has votes.")
    one = Ensemble(**{**vars(trees), "weights": trees.weights[:, :1], "votes": trees.votes[:, :1]})
    score = ensemble_scores(one, _rows(node, trees))
    if len(base):
        score = ops.add(score, _constant(base[None]))
    positive = bool((_floats(node, "class_weights") >= 0).all())
    is_second = ops.greater(ops.squeeze(score, _constant(1)), _constant(np.float32(0.5 if positive else 0)))
    label = ops.select(is_second, _constant(labels[1]), _constant(labels[0]))
    if positive and transform != "LOGISTIC":
        scores = ops.concat([ops.subtract(_constant(np.float32(1)), score), score], 1)
    else:
        scores = ops.concat([ops.negative(score), score], 1)
        scores = ops.sigmoid(scores) if transform == "LOGISTIC" else scores
    return [label.output(0), scores.output(0)]


def _need_sure_votes(node: Any, trees: Ensemble, name: str) -> None:
    """Refuse what depends on whether a target or class had a vote at all: each needs a tree that always votes."""
    tree = _integers(node, "nodes_treeids")
    for number, votes in enumerate(trees.votes.T):
        if np.isin(tree[trees.leaf], tree[trees.leaf & ~votes]).all():
            raise UnsupportedEnsemble(f"{name}: {number} has no tree all of whose leaves vote for it.")


def _rows(node: Any, trees: Ensemble) -> Value:
    """The operation's input as float32.

    Raises:
        UnsupportedEnsemble: when it is of a type or shape that cannot be right.
    """
    rows: Value = node.get_input(0)
    kind, shape = rows.get_element_type(), rows.get_partial_shape()
    if kind not in (Type.f32, Type.i32, Type.i64):
        raise UnsupportedEnsemble(f"X: expected float32 (or integers), got {kind.get_type_name()}.")
    if shape.rank.is_static and len(shape) != 2:
        raise UnsupportedEnsemble(f"X: expected shape (rows, features), got {shape}.")
    asked = int(trees.feature[~trees.leaf].max(initial=-1))
    if shape.rank.is_static and shape[1].is_static and asked >= shape[1].get_length():
        raise UnsupportedEnsemble(f"nodes_featureids: feature {asked} of {shape[1].get_length()}.")
    return rows if kind == Type.f32 else ops.convert(rows, Type.f32)


def _read(node: Any, votes: str, targets: int) -> Ensemble:
    """The trees in an operation's attributes.

    Args:
        node: the operation.
        votes: how the names of the leaves' attributes begin, ``target`` or ``class``.
        targets: number of targets or classes.

    Raises:
        UnsupportedEnsemble: when they do not describe trees, naming the attribute.
    """
    mode = np.array(node.get_attribute("nodes_modes"), dtype=str)
    tree, number, feature, true, false = (
        _integers(node, f"nodes_{name}", len(mode))
        for name in ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids")
    )
    threshold = _floats(node, "nodes_values", len(mode))
    unknown = set(mode) - {*MODES, LEAF}
    if unknown:
        raise UnsupportedEnsemble(f"nodes_modes: {', '.join(sorted(unknown))} is none of {', '.join(MODES)}, {LEAF}.")
    missing = np.zeros(len(mode), np.int64)
    if node.has_attribute("nodes_missing_value_tracks_true"):
        missing = _integers(node, "nodes_missing_value_tracks_true", len(mode))
    inner = mode != LEAF
    if (inner & (threshold != 0) & (np.abs(threshold) < np.finfo(np.float32).tiny)).any():
        raise UnsupportedEnsemble("nodes_values: a subnormal threshold, which OpenVINO rounds to zero.")
    if (feature[inner] < 0).any():
        raise UnsupportedEnsemble("nodes_featureids: a negative number.")
    find = _finder(tree, number)
    children = np.tile(np.arange(len(mode)), (2, 1))
    children[0, inner] = find("nodes_truenodeids", tree[inner], true[inner])
    children[1, inner] = find("nodes_falsenodeids", tree[inner], false[inner])
    parents = np.bincount(children[:, inner].ravel(), minlength=len(mode))
    if (parents > 1).any():
        raise UnsupportedEnsemble("nodes_truenodeids, nodes_falsenodeids: a node has two parents.")
    roots = np.flatnonzero(parents == 0)
    if not np.array_equal(np.sort(tree[roots]), np.unique(tree)):
        raise UnsupportedEnsemble("nodes_treeids: a tree needs one root.")
    reached, level = 0, roots
    while len(level):
        reached += len(level)
        level = children[:, level[inner[level]]].ravel()
    if reached < len(mode):
        raise UnsupportedEnsemble("nodes_truenodeids, nodes_falsenodeids: nodes form a circle.")
    weights, has = np.zeros((len(mode), targets), np.float32), np.zeros((len(mode), targets), bool)
    values = _floats(node, f"{votes}_weights")
    target, at_tree, at_node = (
        _integers(node, f"{votes}_{name}", len(values)) for name in ("ids", "treeids", "nodeids")
    )
    if len(target) and not 0 <= target.min() <= target.max() < targets:
        raise UnsupportedEnsemble(f"{votes}_ids: numbers beyond {targets - 1}.")
    place = find(f"{votes}_nodeids", at_tree, at_node)
    has[place, target] = True
    if has.sum() < len(target):
        raise UnsupportedEnsemble(f"{votes}_nodeids: a leaf votes twice for the same.")
    weights[place, target] = values
    if targets == 1:
        has[~inner] = True  # of one target, a leaf without a vote says zero
    aggregate = _choice(node, "aggregate_function", AGGREGATES, "SUM")
    return Ensemble(mode, feature, threshold, children[0], children[1], missing == 1, roots, weights, has, aggregate)


def _finder(tree: np.ndarray, number: np.ndarray) -> Any:
    """A function that finds the positions of nodes by tree and number."""
    stride = int(number.max(initial=0)) + 1
    keys = tree * stride + number
    order = np.argsort(keys, kind="stable")
    known = keys[order]
    if (number < 0).any() or (np.diff(known) == 0).any():
        raise UnsupportedEnsemble("nodes_nodeids: a number is negative or used twice in a tree.")

    def find(name: str, trees: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        wanted = trees * stride + numbers
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        if (known[at] != wanted).any() or (numbers >= stride).any() or (numbers < 0).any():
            raise UnsupportedEnsemble(f"{name}: a node that does not exist.")
        return order[at]

    return find


def _floats(node: Any, name: str, count: int | None = None) -> np.ndarray:
    return _array(node, name, np.float32, count)


def _integers(node: Any, name: str, count: int | None = None) -> np.ndarray:
    return _array(node, name, np.int64, count)


def _array(node: Any, name: str, kind: type, count: int | None) -> np.ndarray:
    if node.has_attribute(f"{name}_as_tensor"):
        raise UnsupportedEnsemble(f"{name}_as_tensor: double precision is not supported.")
    values: np.ndarray = np.array(node.get_attribute(name) if node.has_attribute(name) else [], kind)
    if count is not None and len(values) != count:
        raise UnsupportedEnsemble(f"{name}: {len(values)} values where {count} are needed.")
    return values


def _choice(node: Any, name: str, allowed: Sequence[str], default: str) -> str:
    value = str(node.get_attribute(name, default))
    if value not in allowed:
        raise UnsupportedEnsemble(f"{name}: {value} is none of {', '.join(allowed)}.")
    return value


def _constant(value: np.ndarray | np.generic | int) -> openvino.Node:
    return ops.constant(np.array(value, np.int32 if isinstance(value, int) else None))
