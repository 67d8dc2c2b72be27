"""Tree ensembles as arrays, and as OpenVINO's standard operations.

A tree needs no tree at run time. All nodes of all trees lie in a few flat arrays (which feature a node asks
about, its threshold, where its children are), and every (row, tree) pair holds the number of the node it has
reached. One round of *gather, compare, gather* moves all pairs down by one level; after as many rounds as the
deepest tree has levels, all have arrived at leaves. Leaves point to themselves, so that early arrivals wait.
The idea is the "tree traversal" strategy of Nakandala et al., "A Tensor Compiler for Unified Machine Learning
Prediction Serving" (OSDI 2020).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from openvino import Model, Node, Output, Type
from openvino import opset15 as ops

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
LEAF = "LEAF"
AGGREGATES = ("SUM", "AVERAGE", "MIN", "MAX")
POST_TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")
_FAR = np.float32(np.finfo(np.float32).max)
_BLOCK = 2**17
"""Pairs of row and tree that are worked on at once: what is computed in between then stays in the cache."""
_HALF = 0.5
"""Share of inner nodes from which a level is stored as that of a complete tree."""

Value: TypeAlias = Node | Output


class UnsupportedEnsemble(ValueError):
    """A tree ensemble that cannot be read, with the name of what is wrong with it."""


@dataclass(frozen=True)
class Ensemble:
    """All trees of an ensemble in flat arrays; N nodes, T trees, K targets or classes."""

    mode: np.ndarray
    """Names from :data:`MODES` or ``LEAF``, shape (N,)."""
    feature: np.ndarray
    """The column that a node asks about, shape (N,)."""
    threshold: np.ndarray
    """What it compares with, float32, shape (N,)."""
    true: np.ndarray
    """The node that follows when the comparison holds, shape (N,)."""
    false: np.ndarray
    """The node that follows otherwise, shape (N,)."""
    missing_is_true: np.ndarray
    """Whether NaN goes where a comparison that holds would go, shape (N,)."""
    roots: np.ndarray
    """First node of each tree, shape (T,)."""
    weights: np.ndarray
    """What a leaf adds to each target, float32, shape (N, K); zero where it has no say."""
    votes: np.ndarray
    """Whether a leaf has a say about a target, shape (N, K)."""
    aggregate: str = "SUM"
    """One of :data:`AGGREGATES`."""

    @property
    def leaf(self) -> np.ndarray:
        """Whether a node is a leaf, shape (N,)."""
        return self.mode == LEAF


def ensemble_scores(trees: Ensemble, rows: Value) -> Value:
    """Build the operations that evaluate an ensemble, before base values and post-transform.

    Args:
        trees: the ensemble; every node has one parent, but for the roots, which have none.
        rows: float32, shape (n, features); n may be zero.

    Returns:
        Aggregated leaf values, float32, shape (n, K).
    """
    questions = _ask(trees, rows)
    plan = _lay_out(trees, questions)
    block = ops.parameter([1, -1, questions.width], Type.f32)
    place = _descend(plan, replace(questions, columns=ops.squeeze(block, _constant(0))))
    body = Model([ops.unsqueeze(_aggregate(trees, plan, place), _constant(0))], [block])
    return _in_blocks(questions, body, max(64, _BLOCK // len(trees.roots)), trees.weights.shape[1])


def _in_blocks(questions: _Questions, body: Model, most: int, targets: int) -> Value:
    """Run a graph on equal blocks of rows, of at most so many rows each."""
    zero, one = _long(0), _long(1)
    size = ops.gather(ops.shape_of(questions.columns), _long([0]), zero)
    blocks = ops.maximum(ops.divide(ops.add(size, _long(most - 1)), _long(most)), one)
    each = ops.divide(ops.subtract(ops.add(size, blocks), one), blocks)
    missing = ops.concat([ops.subtract(ops.multiply(blocks, each), size), _long([0])], 0)
    padded = ops.pad(questions.columns, _long([0, 0]), missing, "constant", _constant(np.float32(0)))
    cut = ops.reshape(padded, ops.concat([blocks, each, _long([questions.width])], 0), False)
    loop = ops.tensor_iterator()
    loop.set_body(body)
    loop.set_sliced_input(body.get_parameters()[0], cut.output(0), 0, 1, 1, -1, 0)
    scores = loop.get_concatenated_slices(body.get_results()[0].output(0), 0, 1, 1, -1, 0)
    return ops.slice(ops.reshape(scores, _long([-1, targets]), False), _long([0]), size, _long([1]), _long([0]))


@dataclass(frozen=True)
class _Questions:
    """Every node's question in one form: *is the value of this column greater (or equal)?*"""

    columns: Value
    """The rows without NaN and infinity, and what else nodes ask about, float32, shape (n, C)."""
    width: int
    """C."""
    or_equal: bool
    """Whether the comparison is >= instead of >."""
    column: np.ndarray
    """Which column a node looks at, int32, shape (N,)."""
    threshold: np.ndarray
    """What it compares with; infinity, which nothing reaches, for leaves. Shape (N,)."""
    low: np.ndarray
    """The node that follows "no"; of leaves, themselves. Shape (N,)."""
    high: np.ndarray
    """The node that follows "yes", shape (N,)."""


def _ask(trees: Ensemble, rows: Value) -> _Questions:
    """Bring all nodes' questions into one form.

    x <= t is "no" to x > t, and x < t is "no" to x >= t. Whether vector instructions answer "no" to a comparison
    with NaN is not something to rely on: where NaN has to be "no" a node looks at a copy of the column in which it
    is the lowest number, where it has to be "yes" at one in which it is the highest. Questions that do not fit
    (equality, infinite thresholds, the rarer of the two comparisons) are answered beforehand in columns of their
    own, which hold 0 or 1.
    """
    inner = ~trees.leaf
    greater = inner & np.isin(trees.mode, ("BRANCH_LEQ", "BRANCH_GT"))
    greater_equal = inner & np.isin(trees.mode, ("BRANCH_LT", "BRANCH_GTE"))
    or_equal = bool(greater_equal.sum() > greater.sum())
    direct = (greater_equal if or_equal else greater) & (np.abs(trees.threshold) < _FAR)
    others = inner & ~direct
    yes_is_true = others | np.isin(trees.mode, ("BRANCH_GT", "BRANCH_GTE"))
    nan_is_yes = trees.missing_is_true == yes_is_true

    column = np.zeros(len(inner), np.int32)
    threshold = np.full(len(inner), np.inf, np.float32)
    threshold[direct], threshold[others] = trees.threshold[direct], 0.5
    parts, width = [], 0
    is_nan = ops.is_nan(rows)
    for yes, instead in ((False, -_FAR), (True, _FAR)):
        some = direct & (nan_is_yes == yes)
        if some.any():
            used, column[some] = np.unique(trees.feature[some], return_inverse=True)
            column[some] += width
            width += len(used)
            # Without infinity nothing is greater than or equal to it: what leaves ask for.
            filled = ops.minimum(ops.select(is_nan, _constant(instead), rows), _constant(_FAR))
            parts.append(_columns(filled, used))
    if others.any() or not parts:
        answers, position, count = _answers(trees, np.flatnonzero(others), rows, is_nan)
        parts.append(answers)
        column[others] = width + position
        width += count
    here = np.arange(len(inner))
    no, yes_side = np.where(yes_is_true, (trees.false, trees.true), (trees.true, trees.false))
    return _Questions(
        parts[0] if len(parts) == 1 else ops.concat(parts, axis=1),
        width,
        or_equal,
        column,
        threshold,
        np.where(inner, no, here),
        np.where(inner, yes_side, here),
    )


def _columns(rows: Value, used: np.ndarray) -> Value:
    return ops.gather(rows, _constant(used.astype(np.int32)), _constant(1))


_COMPARE = {
    "BRANCH_LEQ": ops.less_equal,
    "BRANCH_LT": ops.less,
    "BRANCH_GTE": ops.greater_equal,
    "BRANCH_GT": ops.greater,
    "BRANCH_EQ": ops.equal,
    "BRANCH_NEQ": ops.not_equal,
}


def _answers(trees: Ensemble, nodes: np.ndarray, rows: Value, is_nan: Value) -> tuple[Value, np.ndarray, int]:
    """Answer some nodes' questions once for each different one.

    Returns:
        1 where the true branch follows, else 0, shape (n, Q); for each node which of the Q is its own; and Q.
    """
    if not len(nodes):
        # Nobody asks anything: single leaves. One column keeps the number of rows.
        return _columns(ops.convert(is_nan, Type.f32), np.zeros(1)), np.zeros(0, np.int64), 1
    keys = list(
        zip(
            trees.mode[nodes].tolist(),
            trees.feature[nodes].tolist(),
            trees.threshold[nodes].view(np.int32).tolist(),  # bits: NaN equals itself here
            trees.missing_is_true[nodes].tolist(),
            strict=True,
        )
    )
    order = {key: number for number, key in enumerate(sorted(set(keys)))}
    parts = []
    for mode in sorted({key[0] for key in order}):
        mine = [key for key in order if key[0] == mode]
        features = np.array([key[1] for key in mine])
        values = np.array([key[2] for key in mine], np.int32).view(np.float32)
        tracks = np.array([key[3] for key in mine])
        known = _columns(ops.select(is_nan, _constant(np.float32(0)), rows), features)
        missing = _columns(ops.convert(is_nan, Type.f32), features)
        holds = ops.convert(_COMPARE[mode](known, _constant(values[None])), Type.f32)
        # A comparison with NaN never holds, except "differs".
        never = np.isnan(values)
        if never.any():
            holds = ops.select(_constant(never[None]), _constant(np.float32(mode == "BRANCH_NEQ")), holds)
        for_missing = (tracks | (mode == "BRANCH_NEQ")).astype(np.float32)
        parts.append(ops.select(ops.greater(missing, _constant(np.float32(0))), _constant(for_missing[None]), holds))
    joined = parts[0] if len(parts) == 1 else ops.concat(parts, axis=1)
    return joined, np.array([order[key] for key in keys]), len(order)


@dataclass(frozen=True)
class _Plan:
    """Where the nodes are stored. The child for "yes" always follows the one for "no"."""

    upper: list[np.ndarray]
    """The upper levels, with a place for every node that complete trees would have: shape (T, 2**level), and the
    children of place p at 2p and 2p + 1 of the next level."""
    lower: np.ndarray
    """Which nodes lie below, tree after tree, shape (P,)."""
    first: np.ndarray
    """Where each tree begins there, shape (T, 1)."""
    child: np.ndarray
    """Place of the child for "no" there; a leaf's own place. Shape (P,)."""
    rounds: int
    """Levels there, less one: rounds after which all rows have arrived."""


def _lay_out(trees: Ensemble, questions: _Questions) -> _Plan:
    """Complete levels at the top, where places can be computed; below them only the nodes that exist."""
    leaf = trees.leaf
    upper: list[np.ndarray] = []
    level = trees.roots[:, None]
    while not leaf[level].all() and (not upper or (~leaf[level]).mean() > _HALF):
        upper.append(level)
        level = np.stack([questions.low[level], questions.high[level]], axis=2).reshape(len(level), -1)
    here, tree = level.ravel(), np.repeat(np.arange(len(level)), level.shape[1])
    nodes, owners, children = [here], [tree], []
    stored = len(here)
    while True:
        inner = ~leaf[here]
        child = np.arange(stored - len(here), stored)
        child[inner] = stored + 2 * np.arange(inner.sum())
        children.append(child)
        if not inner.any():
            break
        here = np.stack([questions.low[here[inner]], questions.high[here[inner]]], axis=1).ravel()
        tree = np.repeat(tree[inner], 2)
        nodes.append(here)
        owners.append(tree)
        stored += len(here)
    # The nodes of a tree side by side: rows are led through one tree at a time, and its part fits the cache.
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    place = np.empty(stored, np.int32)
    place[order] = np.arange(stored, dtype=np.int32)
    return _Plan(
        upper,
        np.concatenate(nodes)[order],
        np.searchsorted(owner[order], np.arange(len(level))).astype(np.int32)[:, None],
        place[np.concatenate(children)[order]],
        len(nodes) - 1,
    )


def _descend(plan: _Plan, questions: _Questions) -> Value:
    """The place of the leaf that each row reaches in each tree, int32, shape (T, n)."""
    compare = ops.greater_equal if questions.or_equal else ops.greater
    zero, one = _constant(0), _constant(1)
    flat = ops.reshape(questions.columns, _long([-1]), False)
    upright = ops.transpose(questions.columns, _long([1, 0]))
    count = ops.gather(ops.shape_of(questions.columns, Type.i32), zero, zero)
    starts = ops.unsqueeze(ops.multiply(ops.range(zero, count, one, Type.i32), _constant(questions.width)), zero)

    def answer(columns: Value, thresholds: Value) -> Value:
        """Each pair's own question."""
        return ops.convert(compare(ops.gather(flat, ops.add(columns, starts), zero), thresholds), Type.i32)

    def answer_of(nodes: np.ndarray) -> Value:
        """One question per tree, the same for all rows: whole columns are compared."""
        values = ops.gather(upright, _constant(questions.column[nodes]), zero)
        return ops.convert(compare(values, _constant(questions.threshold[nodes][:, None])), Type.i32)

    place: Value = ops.multiply(starts, zero)
    for depth, level in enumerate(plan.upper):
        if depth == 0:
            place = answer_of(level[:, 0])
            continue
        if depth == 1:
            at_second = ops.greater(place, zero)
            yes = ops.select(at_second, answer_of(level[:, 1]), answer_of(level[:, 0]))
        else:
            columns = ops.gather(_constant(questions.column[level]), place, one, batch_dims=1)
            thresholds = ops.gather(_constant(questions.threshold[level]), place, one, batch_dims=1)
            yes = answer(columns, thresholds)
        place = ops.add(ops.add(place, place), yes)
    place = ops.add(place, _constant(plan.first))
    column, threshold = _constant(questions.column[plan.lower]), _constant(questions.threshold[plan.lower])
    child = _constant(plan.child)
    for _ in range(plan.rounds):
        yes = answer(ops.gather(column, place, zero), ops.gather(threshold, place, zero))
        place = ops.add(ops.gather(child, place, zero), yes)
    return place


def _aggregate(trees: Ensemble, plan: _Plan, place: Value) -> Value:
    """Collect the leaves' values and join those of the trees, shape (n, K)."""
    over_trees = _constant(0)
    weights, votes = trees.weights[plan.lower], trees.votes[plan.lower]
    silent = np.float32({"MIN": np.inf, "MAX": -np.inf}.get(trees.aggregate, 0))
    values = np.where(votes, weights, silent)
    # With one target a leaf is one number, and the axis of targets comes back at the end.
    single = values.shape[1] == 1
    reached = ops.gather(_constant(values[:, 0] if single else values), place, _constant(0))
    if trees.aggregate in ("MIN", "MAX"):
        join = ops.reduce_min if trees.aggregate == "MIN" else ops.reduce_max
        score = join(reached, over_trees, keep_dims=False)
        score = ops.select(ops.equal(score, _constant(silent)), _constant(np.float32(0)), score)
    else:
        score = ops.reduce_sum(reached, over_trees, keep_dims=False)
        if trees.aggregate == "AVERAGE":
            score = ops.divide(score, _constant(np.float32(len(trees.roots))))
    return ops.unsqueeze(score, _constant(1)) if single else score


def post_transformed(scores: Value, name: str) -> Value:
    """Apply one of :data:`POST_TRANSFORMS` to scores of shape (n, K), with ONNX Runtime's formulas."""
    last = _constant(1)
    if name == "LOGISTIC":
        return ops.sigmoid(scores)
    if name == "SOFTMAX":
        return ops.softmax(scores, 1)
    if name == "SOFTMAX_ZERO":
        # Values near zero stay out of the sum.
        highest = ops.reduce_max(scores, last, keep_dims=True)
        counts = ops.greater(ops.abs(scores), _constant(np.float32(1e-7)))
        powers = ops.exp(ops.subtract(scores, highest))
        total = ops.reduce_sum(ops.select(counts, powers, _constant(np.float32(0))), last, keep_dims=True)
        return ops.divide(ops.select(counts, powers, ops.multiply(scores, ops.exp(ops.negative(highest)))), total)
    if name == "PROBIT":
        # Winitzki's approximation of the inverse error function.
        x = ops.subtract(ops.multiply(scores, _constant(np.float32(2))), _constant(np.float32(1)))
        log = ops.log(ops.multiply(ops.subtract(_constant(np.float32(1)), x), ops.add(_constant(np.float32(1)), x)))
        a, b = np.float32(2 / (3.14159 * 0.147)), np.float32(1 / 0.147)
        v = ops.add(_constant(a), ops.multiply(log, _constant(np.float32(0.5))))
        root = ops.sqrt(ops.subtract(ops.multiply(v, v), ops.multiply(log, _constant(b))))
        size = ops.sqrt(ops.subtract(root, v))
        signed = ops.select(ops.less(x, _constant(np.float32(0))), ops.negative(size), size)
        return ops.multiply(signed, _constant(np.float32(2**0.5)))
    return scores


def _constant(value: np.ndarray | np.generic | int) -> Node:
    """A constant; Python's integers as int32."""
    return ops.constant(np.array(value, np.int32 if isinstance(value, int) else None, order="C"))


def _long(value: int | list[int]) -> Node:
    """A constant of int64, as shapes are."""
    return ops.constant(np.array(value, np.int64))
