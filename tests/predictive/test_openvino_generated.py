"""Generated tree ensembles answer on OpenVINO as on ONNX Runtime, on rows made to find mistakes."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.predictive.tree_graphs import (
    BRANCHES,
    FEATURES,
    STUMP,
    VALUES,
    assert_equal,
    leaves,
    model,
    nodes,
    on_openvino,
    regressor,
    votes,
)  # fmt: skip


def generated_trees(modes: list[str], depth: int) -> st.SearchStrategy[Any]:
    """A nested tree of at most so many levels."""
    if depth == 0:
        return st.none()
    below = generated_trees(modes, depth - 1)
    inner = st.tuples(
        st.sampled_from(modes),
        st.integers(0, FEATURES - 1),
        st.sampled_from(VALUES),
        st.integers(0, 1),
        below,
        below,
    )
    return st.one_of(inner, inner, st.none())


@st.composite
def rows_of_features(draw: st.DrawFn) -> np.ndarray:
    """Rows of the numbers that thresholds have, and NaN."""
    count = draw(st.integers(1, 40))
    seed = draw(st.integers(0, 2**32 - 1))
    pool = np.array([*VALUES, np.nan, np.nan, 0.25, -7.0], np.float32)
    return np.random.default_rng(seed).choice(pool, (count, FEATURES))


@st.composite
def regressors(draw: st.DrawFn) -> onnx.ModelProto:
    """Regressors with every mode, aggregate function and post-transform, of one to three targets."""
    modes = draw(st.sampled_from([*([mode] for mode in BRANCHES), ["BRANCH_LT", "BRANCH_GTE"], BRANCHES]))
    trees = draw(st.lists(generated_trees(modes, draw(st.integers(0, 5))), min_size=1, max_size=5))
    attributes = nodes(trees)
    targets = draw(st.integers(1, 3))
    transform = draw(st.sampled_from(["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"]))
    # The inverse of the normal distribution takes numbers between 0 and 1 and is steep near both.
    share = draw(st.floats(0.1, 0.4)) if transform == "PROBIT" else None
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    with_base, silent = draw(st.booleans()), draw(st.sampled_from([0.0, 0.3]))
    said = []
    for leaf in leaves(attributes):
        for target in range(targets):
            # A target that has a base value needs a tree that always votes for it.
            if transform == "PROBIT" or random.random() >= silent or (with_base and leaf[0] == 0):
                weight = share / len(trees) if share else random.uniform(-3, 3)
                said.append((leaf, target, round(float(weight), 3)))
    said = said or [(leaves(attributes)[0], 0, 1.0)]  # an empty list has no type in ONNX
    attributes |= votes("target", said) | {"n_targets": targets, "post_transform": transform}
    if with_base:
        attributes["base_values"] = [0.2] * targets
    attributes["aggregate_function"] = draw(st.sampled_from(["SUM", "AVERAGE", "MIN", "MAX"]))
    if not draw(st.booleans()):
        del attributes["nodes_missing_value_tracks_true"]
    return model(attributes, version=draw(st.sampled_from([1, 3])))


@st.composite
def classifiers(draw: st.DrawFn) -> onnx.ModelProto:
    """Classifiers of two classes (with votes for one, as converters write) to four."""
    modes = draw(st.sampled_from([["BRANCH_LEQ"], ["BRANCH_LT"], BRANCHES]))
    attributes = nodes(draw(st.lists(generated_trees(modes, 4), min_size=1, max_size=5)))
    classes = draw(st.integers(2, 4))
    low = draw(st.sampled_from([0.0, -1.0]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    said = [
        (leaf, target, round(float(random.uniform(low, 1)), 3))
        for leaf in leaves(attributes)
        for target in range(1 if classes == 2 else classes)
    ]
    attributes |= votes("class", said) | {"classlabels_int64s": [3, -1, 8, 2**31 - 1][:classes]}
    attributes["post_transform"] = draw(st.sampled_from(["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"]))
    if draw(st.booleans()):
        attributes["base_values"] = [0.125] if classes == 2 else [0.125 * k for k in range(classes)]
    return model(attributes, "TreeEnsembleClassifier", version=draw(st.sampled_from([1, 3])))


generated = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@generated
@given(proto=regressors(), rows=rows_of_features())
def test_generated_regressors_answer_as_onnxruntime(proto: onnx.ModelProto, rows: np.ndarray, tmp_path: Path) -> None:
    assert_equal(proto, rows, tmp_path)


@generated
@given(proto=classifiers(), rows=rows_of_features())
def test_generated_classifiers_answer_as_onnxruntime(proto: onnx.ModelProto, rows: np.ndarray, tmp_path: Path) -> None:
    assert_equal(proto, rows, tmp_path)


@pytest.mark.parametrize("base", [0.0, 0.25])
@pytest.mark.parametrize(
    ("aggregate", "expected"), [("SUM", (11, 13)), ("AVERAGE", (11 / 3, 13 / 3)), ("MIN", (1, 2)), ("MAX", (6, 7))]
)
def test_trees_are_joined_by_every_function(
    aggregate: str, expected: tuple[float, float], base: float, tmp_path: Path
) -> None:
    # Leaves hold 1 to 7: the first row reaches 1, 4 and 6, the second 2, 4 and 7.
    trees = [STUMP, ("BRANCH_LEQ", 1, 5.0, 0, ("BRANCH_LEQ", 1, -5.0, 0, None, None), None), STUMP]
    rows = np.zeros((2, FEATURES), np.float32)
    rows[1, 0] = 1
    proto = model(regressor(trees, aggregate_function=aggregate, **({"base_values": [base]} if base else {})))
    assert on_openvino(proto, rows, tmp_path)[0][:, 0] == pytest.approx(np.add(expected, base))
    assert_equal(proto, rows, tmp_path)


def test_features_too_small_to_be_normal_are_compared_exactly(tmp_path: Path) -> None:
    tiny = float(np.finfo(np.float32).smallest_subnormal)
    rows = np.zeros((4, FEATURES), np.float32)
    rows[:, 0] = [-tiny, 0, tiny, 2 * tiny]
    for mode in BRANCHES:
        assert_equal(model(regressor([(mode, 0, 0.0, 0, None, None)])), rows, tmp_path)


@pytest.mark.parametrize("mode", BRANCHES)
def test_missing_values_follow_the_branch_that_the_node_says(mode: str, tmp_path: Path) -> None:
    said = list(product(VALUES, (0, 1)))
    attributes = nodes([(mode, 0, threshold, tracks, None, None) for threshold, tracks in said])
    # Each tree answers for a target of its own: 1 where a comparison that holds leads, else 2.
    leaf_votes = [((tree, node), tree, float(node)) for tree, node in leaves(attributes)]
    proto = model({**attributes, **votes("target", leaf_votes), "n_targets": len(said), "post_transform": "NONE"})
    answers = on_openvino(proto, np.full((1, FEATURES), np.nan, np.float32), tmp_path)[0][0]
    # NaN differs from everything.
    expected = [1 if mode == "BRANCH_NEQ" or tracks else 2 for _, tracks in said]
    assert list(zip(said, answers, strict=True)) == list(zip(said, expected, strict=True))


@pytest.mark.parametrize("count", [0, 1, 2, 100_000])
def test_any_number_of_rows(count: int, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(count, FEATURES)).astype(np.float32)
    attributes = regressor([STUMP, ("BRANCH_LEQ", 1, 0.5, 0, STUMP, None)], n_targets=1)
    if count:
        assert_equal(model(attributes), rows, tmp_path)
    else:
        assert on_openvino(model(attributes), rows, tmp_path)[0].shape == (0, 1)


def test_one_deep_tree_among_many_small_ones(tmp_path: Path) -> None:
    deep: Any = None
    for level in range(40):
        deep = ("BRANCH_LEQ", level % FEATURES, level / 20 - 1, level % 2, deep, None)
    rows = np.random.default_rng(0).normal(size=(500, FEATURES)).astype(np.float32)
    assert_equal(model(regressor([STUMP] * 30 + [deep] + [None] * 5)), rows, tmp_path)
