"""Tree ensembles that converters write answer on OpenVINO as on ONNX Runtime; others are refused by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
import openvino
import pytest
import xgboost
from onnx import TensorProto
from onnxmltools.convert import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn import ensemble

from tests.predictive.tree_graphs import FEATURES, STUMP, assert_equal, leaves, model, nodes, regressor, votes
from workshop_lib.predictive import onnx_export, openvino_trees
from workshop_lib.predictive.openvino_trees import UnsupportedEnsemble

# ---- What converters write --------------------------------------------------------------------------------------

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(600, FEATURES)).astype(np.float32)
ROWS[:, 3] = np.round(ROWS[:, 3] * 2) + 10
UNITS = 20 * ROWS[:, 0] + 5 * ROWS[:, 1] ** 2 + np.where(ROWS[:, 3] % 2, 10, -10)
LAPSED = np.greater(UNITS, np.median(UNITS)).astype(int)
THREE = np.digitize(UNITS, np.quantile(UNITS, [0.3, 0.6]))
GAPS = np.where(RANDOM.random(ROWS.shape) < 0.1, np.float32(np.nan), ROWS)


def by_course(estimator: Any, folder: Path) -> onnx.ModelProto:
    """Converted by the course's own export (skl2onnx, and onnxmltools for XGBoost)."""
    return onnx_export.export(estimator, folder / "export.onnx", [f"f{i}" for i in range(FEATURES)])


def by_lightgbm(estimator: Any, folder: Path) -> onnx.ModelProto:
    """Converted by onnxmltools."""
    kinds = [("features", FloatTensorType([None, FEATURES]))]
    return convert_lightgbm(estimator, initial_types=kinds, target_opset=15, zipmap=False)


SIZE: dict[str, Any] = {"n_estimators": 12, "random_state": 0}
QUIET: dict[str, Any] = {"verbose": -1, "min_child_samples": 5}
FITTED: dict[str, tuple[Any, np.ndarray, np.ndarray, Callable[[Any, Path], onnx.ModelProto]]] = {
    "random forest": (ensemble.RandomForestRegressor(**SIZE), ROWS, UNITS, by_course),
    "random forest of two targets": (
        ensemble.RandomForestRegressor(**SIZE), ROWS, np.stack([UNITS, -UNITS], 1), by_course,
    ),
    "random forest of two classes": (ensemble.RandomForestClassifier(**SIZE), ROWS, LAPSED, by_course),
    "random forest of three classes": (ensemble.RandomForestClassifier(**SIZE), ROWS, THREE, by_course),
    "extra trees": (ensemble.ExtraTreesRegressor(**SIZE), ROWS, UNITS, by_course),
    "extra trees of two classes": (ensemble.ExtraTreesClassifier(**SIZE), ROWS, LAPSED, by_course),
    "gradient boosting": (ensemble.GradientBoostingRegressor(**SIZE), ROWS, UNITS, by_course),
    "gradient boosting of two classes": (ensemble.GradientBoostingClassifier(**SIZE), ROWS, LAPSED, by_course),
    "histograms": (ensemble.HistGradientBoostingRegressor(max_iter=12), GAPS, UNITS, by_course),
    "histograms of two classes": (ensemble.HistGradientBoostingClassifier(max_iter=12), GAPS, LAPSED, by_course),
    "xgboost": (xgboost.XGBRegressor(**SIZE), GAPS, UNITS, by_course),
    "xgboost with forests": (xgboost.XGBRegressor(**SIZE, num_parallel_tree=3), GAPS, UNITS, by_course),
    "xgboost of counts": (
        xgboost.XGBRegressor(**SIZE, objective="count:poisson"), GAPS, np.abs(UNITS).round(), by_course,
    ),
    "xgboost of two classes": (xgboost.XGBClassifier(**SIZE), GAPS, LAPSED, by_course),
    "xgboost of three classes": (xgboost.XGBClassifier(**SIZE), GAPS, THREE, by_course),
    "lightgbm": (lightgbm.LGBMRegressor(**SIZE, **QUIET), GAPS, UNITS, by_lightgbm),
    "lightgbm of two classes": (lightgbm.LGBMClassifier(**SIZE, **QUIET), GAPS, LAPSED, by_lightgbm),
    "lightgbm of counts": (
        lightgbm.LGBMRegressor(**SIZE, **QUIET, objective="tweedie"), GAPS, np.abs(UNITS), by_lightgbm,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FITTED)
def test_fitted_models_answer_as_onnxruntime(name: str, tmp_path: Path) -> None:
    estimator, rows, wanted, convert = FITTED[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own, about one another
        proto = convert(estimator.fit(rows, wanted), tmp_path)
    assert_equal(proto, np.concatenate([ROWS, GAPS]), tmp_path)
    assert_equal(proto, openvino_trees.hard_rows(proto, 2000), tmp_path)


# ---- Files ------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[Path]:
    """The saved files of a small regressor."""
    onnx.save(model(regressor([STUMP, STUMP])), tmp_path / "model.onnx")
    yield openvino_trees.save_ir(openvino_trees.read_model(tmp_path / "model.onnx"), tmp_path / "model" / "1")


def test_what_is_saved_needs_no_extension_and_keeps_names_and_precision(saved: Path) -> None:
    assert sorted(path.name for path in saved.parent.iterdir()) == ["model.bin", "model.xml"]
    loaded = openvino.Core().read_model(saved)
    (rows,), (scores,) = loaded.inputs, loaded.outputs
    assert (rows.any_name, scores.any_name) == ("features", "scores")
    assert str(rows.partial_shape) == f"[?,{FEATURES}]"
    assert str(scores.partial_shape) == "[?,1]"
    assert 'version="extension"' not in saved.read_text(encoding="utf-8")
    assert 'type="Convert"' not in saved.read_text(encoding="utf-8") or "f16" not in saved.read_text(encoding="utf-8")


def test_a_failed_save_leaves_the_last_good_files(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def fails(model: object, path: Path, **options: object) -> None:
        path.write_text("half")
        raise RuntimeError("disk full")

    monkeypatch.setattr(openvino, "save_model", fails)
    with pytest.raises(RuntimeError, match="disk full"):
        openvino_trees.save_ir(openvino.Core().read_model(saved), saved.parent)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.parent.iterdir()] == ["1"]


def test_models_are_compiled_at_single_precision_with_the_threads_asked_for(saved: Path) -> None:
    compiled = openvino_trees.compile_model(saved, threads=1)
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_a_predictor_keeps_its_answers_for_one_row_and_for_many(saved: Path) -> None:
    predict = openvino_trees.predictor(saved)
    rows = np.array([[-1.0] * FEATURES, [1.0] * FEATURES], np.float32)
    first, second, both = predict(rows[:1]), predict(rows[1:]), predict(np.asfortranarray(rows))
    # Two stumps, whose leaves hold 1, 2 and 3, 4.
    assert (first.tolist(), second.tolist(), both.tolist()) == ([4], [6], [4, 6])


def test_a_model_compiled_for_so_many_rows_takes_no_other_number(saved: Path) -> None:
    compiled = openvino_trees.compile_model(openvino.Core().read_model(saved), rows=2)
    assert compiled(np.ones((2, FEATURES), np.float32))[0].ravel().tolist() == [6, 6]
    with pytest.raises(RuntimeError):
        compiled(np.ones((3, FEATURES), np.float32))


def test_the_extensions_work_in_any_core(tmp_path: Path) -> None:
    onnx.save(model(regressor([STUMP])), tmp_path / "model.onnx")
    core = openvino.Core()
    with pytest.raises(RuntimeError, match="TreeEnsembleRegressor"):
        core.read_model(tmp_path / "model.onnx")
    core.add_extension(openvino_trees.extensions())
    rows = np.zeros((1, FEATURES), np.float32)
    assert core.compile_model(core.read_model(tmp_path / "model.onnx"), "CPU")(rows)[0].item() == 1


# ---- Refusals ---------------------------------------------------------------------------------------------------

TWO_TARGETS = {"n_targets": 2, "base_values": [0.5, 0.5]}
REFUSED: dict[str, dict[str, Any]] = {
    "nodes_surprise": regressor([STUMP], nodes_surprise=[1]),
    "nodes_values_as_tensor": regressor([STUMP], nodes_values_as_tensor=onnx.numpy_helper.from_array(np.zeros(3))),
    "nodes_modes: BRANCH_MAYBE": regressor([("BRANCH_MAYBE", 0, 0.0, 0, None, None)]),
    "post_transform: CUBE": regressor([STUMP], post_transform="CUBE"),
    "aggregate_function: MEDIAN": regressor([STUMP], aggregate_function="MEDIAN"),
    "base_values: 2 values for 1": regressor([STUMP], base_values=[1.0, 2.0]),
    "nodes_values: a subnormal": regressor([("BRANCH_LEQ", 0, 1e-45, 0, None, None)]),
    "nodes_featureids: feature 9 of 5": regressor([("BRANCH_LEQ", 9, 0.0, 0, None, None)]),
    "nodes_featureids: a negative": regressor([("BRANCH_LEQ", -1, 0.0, 0, None, None)]),
    "nodes_truenodeids: a node that does not exist": regressor([STUMP], nodes_truenodeids=[7, 0, 0]),
    "a node has two parents": regressor([STUMP], nodes_falsenodeids=[1, 0, 0]),
    "nodes_treeids: a tree needs one root": regressor([STUMP], nodes_modes=["LEAF", "LEAF", "LEAF"]),
    "nodes form a circle": regressor([STUMP], nodes_truenodeids=[0, 0, 0]),
    "nodes_nodeids": regressor([STUMP], nodes_nodeids=[0, 1, 1]),
    "nodes_values: 2 values where 3": regressor([STUMP], nodes_values=[0.0, 0.0]),
    "target_weights|target_ids: 2 values where 1": regressor([STUMP], target_weights=[1.0]),
    "target_ids: numbers beyond 0": regressor([STUMP], target_ids=[0, 1]),
    "target_nodeids: a leaf votes twice": regressor([STUMP], target_nodeids=[1, 1]),
    "target_ids: 1 has no tree": regressor([STUMP], **TWO_TARGETS),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_unknown_or_wrong_is_refused_by_name(message: str, tmp_path: Path) -> None:
    onnx.save(model(REFUSED[message]), tmp_path / "model.onnx")
    with pytest.raises(UnsupportedEnsemble, match=message):
        openvino_trees.read_model(tmp_path / "model.onnx")


def classifier(targets: list[int], **others: Any) -> dict[str, Any]:
    """Attributes of a classifier of one stump, whose leaves vote for the given classes."""
    attributes = nodes([STUMP])
    said = votes("class", [(leaf, target, 0.5) for leaf in leaves(attributes) for target in targets])
    return {**attributes, **said, "classlabels_int64s": [0, 1], "post_transform": "NONE", **others}


REFUSED_CLASSIFIERS = {
    "classlabels_strings": {**classifier([0]), "classlabels_strings": ["a", "b"]},
    "classlabels_int64s: OpenVINO keeps 32 bits": classifier([0], classlabels_int64s=[0, 2**40]),
    "class_ids: of two classes": classifier([0, 1]),
    "class_ids: of two classes all": classifier([1]),
    "base_values: two values": classifier([0], base_values=[1.0, 2.0]),
    "post_transform: PROBIT": classifier([0], post_transform="PROBIT"),
    "class_ids: 2 has no tree": classifier([0, 1], classlabels_int64s=[0, 1, 2]),
    "base_values: 2 values for 3": classifier([0, 1, 2], classlabels_int64s=[0, 1, 2], base_values=[1.0, 2.0]),
}


@pytest.mark.parametrize("message", REFUSED_CLASSIFIERS)
def test_classifiers_that_cannot_be_read_are_refused_by_name(message: str, tmp_path: Path) -> None:
    attributes = dict(REFUSED_CLASSIFIERS[message])
    if "classlabels_strings" in attributes:
        del attributes["classlabels_int64s"]
    onnx.save(model(attributes, "TreeEnsembleClassifier"), tmp_path / "model.onnx")
    with pytest.raises(UnsupportedEnsemble, match=message):
        openvino_trees.read_model(tmp_path / "model.onnx")


def test_other_operations_are_refused_by_name(tmp_path: Path) -> None:
    onnx.save(model({}, "Scaler"), tmp_path / "model.onnx")
    with pytest.raises(UnsupportedEnsemble, match=r"ai\.onnx\.ml\.Scaler"):
        openvino_trees.read_model(tmp_path / "model.onnx")
    onnx.save(model({}, "ZipMap"), tmp_path / "model.onnx")
    with pytest.raises(UnsupportedEnsemble, match="zipmap=False"):
        openvino_trees.read_model(tmp_path / "model.onnx")


def test_double_precision_input_is_refused_by_name(tmp_path: Path) -> None:
    proto = model(regressor([STUMP]))
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    onnx.save(proto, tmp_path / "model.onnx")
    with pytest.raises(UnsupportedEnsemble, match="X: expected float32"):
        openvino_trees.read_model(tmp_path / "model.onnx")


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.onnx"):
        openvino_trees.read_model(tmp_path / "nothing.onnx")
