"""A network that learns from a teacher: from its answers only, stopped in time, written as it computes."""

from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
import torch

from tests.optimization.students import QUICK, Rule, small_dataset, small_student
from workshop_lib.optimization import distillation
from workshop_lib.optimization.distillation import Student
from workshop_lib.predictive import onnx_export, openvino_trees
from workshop_lib.predictive.evaluation import wape
from workshop_lib.predictive.features import FEATURES
from workshop_lib.predictive.forecaster import Dataset, predict_units


@pytest.fixture
def dataset() -> Dataset:
    return small_dataset()


@pytest.fixture
def student() -> Student:
    return small_student()


def test_it_answers_like_its_teacher_on_days_that_neither_has_seen(dataset: Dataset, student: Student) -> None:
    table = distillation.compare_on_held_out_days(Rule(), student, dataset)
    assert table.loc["student against teacher", "WAPE"] < 0.1
    assert table.loc["student", "WAPE"] < 1.2 * table.loc["teacher", "WAPE"]
    untaught = distillation.distil(Rule(), dataset, **{**QUICK, "epochs": 1, "learning_rate": 1e-9})
    features, _ = dataset.rows(dataset.split.test)
    assert wape(predict_units(Rule(), features), predict_units(untaught, features)) > 0.4


def assert_same_answers(one: Student, other: Student, dataset: Dataset) -> None:
    """The same up to what the last digits of a processor's sums grow to in a training."""
    rows = dataset.features.to_numpy()
    np.testing.assert_allclose(one.predict(rows), other.predict(rows), rtol=0.1, atol=1)


def test_it_learns_from_the_teacher_and_not_from_the_sales(dataset: Dataset, student: Student) -> None:
    blind = Dataset(dataset.panel, dataset.split, dataset.features, dataset.units * np.nan)
    again = distillation.distil(Rule(), blind, **QUICK)
    assert_same_answers(again, student, dataset)


def test_the_held_out_days_have_no_part_in_it(dataset: Dataset, student: Student) -> None:
    changed = dataset.features.copy()
    changed.loc[dataset.split.test] = 1e6
    again = distillation.distil(Rule(), Dataset(dataset.panel, dataset.split, changed, dataset.units), **QUICK)
    assert_same_answers(again, student, dataset)


def test_the_weights_of_the_best_epoch_are_kept(dataset: Dataset) -> None:
    wild = distillation.distil(Rule(), dataset, hidden=(32, 16), epochs=30, patience=3, learning_rate=0.2)
    later, _ = dataset.rows(dataset.split.validation)
    expected = predict_units(Rule(), later).to_numpy(np.float32)
    assert wild.epoch < len(wild.history) - 1 and len(wild.history) < 30  # it got worse, and stopped
    assert len(wild.history) - 1 - wild.epoch == 3
    best = wild.history["days after"].min()
    assert wape(expected, np.maximum(wild.predict(later.to_numpy()), 0)) == pytest.approx(best, rel=1e-5)


def test_the_seed_decides_and_leaves_others_alone(dataset: Dataset, student: Student) -> None:
    torch.manual_seed(1)
    first = torch.rand(1)
    torch.manual_seed(1)
    other = distillation.distil(Rule(), dataset, **{**QUICK, "epochs": 2}, seed=7)
    assert torch.equal(torch.rand(1), first)
    rows = dataset.features.to_numpy()[:50]
    assert not np.array_equal(other.predict(rows), student.predict(rows))


def test_too_few_days_are_refused(dataset: Dataset) -> None:
    few = Dataset(dataset.panel, dataset.split, dataset.features.groupby("date").head(2), dataset.units)
    with pytest.raises(ValueError, match=r"have \d+ rows; distillation needs 512"):
        distillation.distil(Rule(), few, **QUICK)


def test_inputs_of_all_sizes_become_alike(dataset: Dataset, student: Student) -> None:
    features, _ = dataset.rows(dataset.split.train)
    ready = student.standardised(features.to_numpy())
    changing = features.to_numpy().std(axis=0) > 1e-6
    np.testing.assert_allclose(ready[:, changing].std(axis=0), 1, rtol=1e-3)
    np.testing.assert_allclose(ready.mean(axis=0), 0, atol=1e-3)
    assert np.isfinite(ready).all()  # a feature that never changes, too
    counts = {name for name, is_count in zip(FEATURES, distillation.COUNTS, strict=True) if is_count}
    assert {"lag_1", "mean_28", "std_7", "smoothed", "weekday_mean"} <= counts
    assert counts & {"price_7", "mailer_share", "weekday", "department", "trend"} == set()


@pytest.mark.parametrize("form", ["as trained", "folded"])
def test_the_file_computes_what_the_student_does(form: str, dataset: Dataset, student: Student, tmp_path: Path) -> None:
    written = distillation.folded(student) if form == "folded" else student
    path = tmp_path / "student.onnx"
    proto = distillation.write_onnx(written, path)
    rows = dataset.features.to_numpy()
    expected = np.maximum(student.predict(rows), 0)
    by_onnx = onnx_export.predict(onnx_export.session(path), rows)
    by_openvino = openvino_trees.compile_model(path)(rows)[0][:, 0]
    for found in (by_onnx, by_openvino):
        assert onnx_export.relative_difference(found, expected).max() < 1e-3
    assert {node.op_type for node in proto.graph.node} >= {"MatMul", "Log", "Exp"}
    assert onnx_export.schema(onnx.load(str(path)))["shape"].tolist() == [f"(n, {len(FEATURES)})", "(n, 1)"]
    assert openvino.Core().read_model(str(path)).output(0).get_any_name() == distillation.OUTPUT


def test_a_forecast_is_never_negative(dataset: Dataset, student: Student, tmp_path: Path) -> None:
    gloomy = Student(student.network, student.mean + 50, student.spread, student.history)
    distillation.write_onnx(gloomy, tmp_path / "student.onnx")
    rows = dataset.features.to_numpy()
    assert gloomy.predict(rows).min() < 0
    assert onnx_export.predict(onnx_export.session(tmp_path / "student.onnx"), rows).min() == 0
