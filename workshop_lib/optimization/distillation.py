"""A small neural network that learns to answer like the champion forecaster, so that there is something to quantise.

Distillation (Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network"): the *teacher* is asked
for its forecasts, and the *student* learns these instead of the true sales. Here the teacher is made of trees and the
student of matrix products, which is what INT8 arithmetic speeds up.

    student = distil(champion.model, dataset)
    write_onnx(student, path)
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import torch
from onnx import helper, numpy_helper
from torch import nn

from workshop_lib.files import atomic_path
from workshop_lib.predictive.evaluation import measures, wape
from workshop_lib.predictive.features import FEATURES
from workshop_lib.predictive.forecaster import Dataset, Model, predict_units
from workshop_lib.predictive.onnx_export import INPUT, OPSET
from workshop_lib.progress import track
from workshop_lib.settings import settings

HIDDEN = (256, 256, 128)
"""Neurons of the hidden layers."""
OUTPUT = "units"
COUNTS = tuple(name.startswith(("lag_", "mean_", "std_", "weekday_mean", "smoothed")) for name in FEATURES)
"""Which features are in units sold. They are skewed (a few categories sell ten times the median): the network gets
their logarithm."""
_BATCH = 512


@dataclass(frozen=True)
class Student:
    """A network with what its inputs need before they go in."""

    network: nn.Sequential
    """From standardised inputs, shape (n, features), to log(1 + units), shape (n, 1)."""
    mean: np.ndarray
    """Of each input after the logarithm, over the training days; float32, shape (features,)."""
    spread: np.ndarray
    """Its standard deviation, 1 where it never changes."""
    history: pd.DataFrame
    """Per epoch: WAPE to the teacher on the training days (while learning) and on the days after them."""

    @property
    def epoch(self) -> int:
        """The epoch whose weights were kept."""
        return int(self.history["days after"].idxmin())

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Forecast units, shape (n,), for float rows of shape (n, features)."""
        with torch.inference_mode():
            logs = self.network(torch.from_numpy(self.standardised(X)))
        return torch.expm1(logs)[:, 0].numpy()

    def standardised(self, X: np.ndarray) -> np.ndarray:
        """What the network is given: logarithms of :data:`COUNTS`, mean 0 and spread 1; float32."""
        return (_logs(X) - self.mean) / self.spread


def distil(
    teacher: Model,
    dataset: Dataset,
    *,
    hidden: Sequence[int] = HIDDEN,
    epochs: int = 25,
    patience: int = 8,
    learning_rate: float = 2e-3,
    seed: int = settings.seed,
) -> Student:
    """Teach a network the teacher's forecasts of the training days.

    Early stopping: the weights of the epoch are kept that agreed best with the teacher on the validation days, which
    come after the training days. The held-out days are not touched. The loss of a batch is its WAPE to the teacher,
    since that is the measure in the end.

    Args:
        teacher: the forecaster to imitate.
        dataset: its features; the true sales are not used.
        hidden: neurons per hidden layer.
        epochs: most passes over the training days; the learning rate falls to zero over them.
        patience: epochs without a better one after which the training stops.
        learning_rate: the highest one, reached after a third of the epochs (Smith 2018, "one cycle").
        seed: of the first weights and of the order of the rows. The last digits still depend on the processor.

    Raises:
        ValueError: when there are fewer training rows than a batch has.
    """
    (inputs, targets), (later, expected) = (
        (features.to_numpy(), predict_units(teacher, features).to_numpy(np.float32))
        for features in (dataset.rows(days)[0] for days in (dataset.split.train, dataset.split.validation))
    )
    if len(inputs) < _BATCH:
        raise ValueError(f"The training days have {len(inputs)} rows; distillation needs {_BATCH} or more.")
    mean, spread = _location_and_spread(inputs)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = _network([inputs.shape[1], *hidden], first_guess=float(np.log1p(targets).mean()))
        student = Student(network, mean, spread, pd.DataFrame())
        history = _train(student, (inputs, targets), (later, expected), epochs, patience, learning_rate)
    return Student(network.eval(), mean, spread, history)


def _network(sizes: Sequence[int], first_guess: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    last = nn.Linear(sizes[-1], 1)
    nn.init.constant_(last.bias, first_guess)
    return nn.Sequential(*layers, last)


def _train(
    student: Student,
    train: tuple[np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray],
    epochs: int,
    patience: int,
    learning_rate: float,
) -> pd.DataFrame:
    """Train the student's network in place; its weights end up as those of the best epoch."""
    network = student.network
    rows, targets = torch.from_numpy(student.standardised(train[0])), torch.from_numpy(train[1])
    batches = len(rows) // _BATCH
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, epochs * batches)
    history: list[dict[str, float]] = []
    best, kept = float("inf"), copy.deepcopy(network.state_dict())
    since = 0
    for _ in track(range(epochs), "Distilling"):
        losses = []
        for batch in torch.randperm(len(rows))[: batches * _BATCH].split(_BATCH):
            units = torch.expm1(network(rows[batch])[:, 0])
            loss = (units - targets[batch]).abs().sum() / targets[batch].sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        later = wape(after[1], np.maximum(student.predict(after[0]), 0))
        history.append({"training days": float(np.mean(losses)), "days after": later})
        since += 1
        if later < best:
            best, kept, since = later, copy.deepcopy(network.state_dict()), 0
        if since >= patience:
            break
    network.load_state_dict(kept)
    return pd.DataFrame(history).rename_axis("epoch")


def _location_and_spread(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logs = _logs(inputs).astype(float)
    mean, spread = logs.mean(axis=0), logs.std(axis=0)
    # What hardly differs from a constant is one: divided by its tiny spread, it would drown everything else.
    spread[spread < 1e-6 * np.maximum(np.abs(mean), 1)] = 1
    return mean.astype(np.float32), spread.astype(np.float32)


def _logs(X: np.ndarray) -> np.ndarray:
    """Rows with log(1 + x) in place of :data:`COUNTS`; float32."""
    X = np.asarray(X, np.float32)
    return np.where(COUNTS, np.log1p(np.maximum(X, 0)), X).astype(np.float32)


def folded(student: Student) -> Student:
    """The same function with the standardisation folded into the first layer's weights and biases.

    For weights W and biases b, W(x - m)/s + b = (W/s)x + (b - Wm/s): two operations less, equal answers in floating
    point, and a first product whose inputs are of very different sizes.
    """
    network = copy.deepcopy(student.network)
    first = next(layer for layer in network if isinstance(layer, nn.Linear))
    with torch.no_grad():
        first.bias.sub_(first.weight @ torch.from_numpy(student.mean / student.spread))
        first.weight.div_(torch.from_numpy(student.spread))
    neutral = np.zeros_like(student.mean), np.ones_like(student.spread)
    return Student(network, *neutral, student.history)


def compare_on_held_out_days(teacher: Model, student: Model, dataset: Dataset) -> pd.DataFrame:
    """Teacher and student against the true sales of the held-out days, and the student against the teacher.

    Returns:
        Rows ``teacher``, ``student`` and ``student against teacher``; columns R2, MAE, RMSE, WAPE and MAPE.
    """
    features, units = dataset.rows(dataset.split.test)
    forecasts = {name: predict_units(model, features) for name, model in (("teacher", teacher), ("student", student))}
    rows = {name: measures(units, forecast) for name, forecast in forecasts.items()}
    rows["student against teacher"] = measures(forecasts["teacher"], forecasts["student"])
    return pd.DataFrame(rows).T


def write_onnx(student: Student, path: Path) -> onnx.ModelProto:
    """Write a student as ONNX: from the raw features to units, like the champion's own file.

    The logarithm and the standardisation are operations of the graph, before the first matrix product, so that
    a quantiser finds inputs of equal size: one step of INT8 is as wide for all of them.

    Args:
        student: what :func:`distil` returned.
        path: the file; an existing one is replaced.

    Returns:
        The checked model. Its input is float32 (n, features), its output float32 (n, 1), never below zero.
    """
    constants: dict[str, np.ndarray] = {
        "counts": np.array(COUNTS),
        "zero": np.zeros(1, np.float32),
        "one": np.ones(1, np.float32),
        "mean": student.mean,
        "scale": (1 / student.spread).astype(np.float32),
    }
    nodes = [
        helper.make_node("Max", [INPUT, "zero"], ["not_negative"]),
        helper.make_node("Add", ["not_negative", "one"], ["plus_one"]),
        helper.make_node("Log", ["plus_one"], ["logs"]),
        helper.make_node("Where", ["counts", "logs", INPUT], ["mixed"]),
        helper.make_node("Sub", ["mixed", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "scale"], ["standardised"]),
    ]
    before = "standardised"
    linear = [layer for layer in student.network if isinstance(layer, nn.Linear)]
    for number, layer in enumerate(linear):
        constants[f"weight_{number}"] = np.ascontiguousarray(layer.weight.detach().numpy().T)
        constants[f"bias_{number}"] = layer.bias.detach().numpy()
        nodes.append(helper.make_node("MatMul", [before, f"weight_{number}"], [f"product_{number}"]))
        nodes.append(helper.make_node("Add", [f"product_{number}", f"bias_{number}"], [f"sum_{number}"]))
        before = f"sum_{number}"
        if number < len(linear) - 1:
            nodes.append(helper.make_node("Relu", [before], [f"active_{number}"]))
            before = f"active_{number}"
    nodes += [
        helper.make_node("Exp", [before], ["exponential"]),
        helper.make_node("Sub", ["exponential", "one"], ["forecast"]),
        helper.make_node("Max", ["forecast", "zero"], [OUTPUT]),
    ]
    for node in nodes:
        node.name = node.output[0]  # what a quantiser is told to leave alone, it is told by name
    graph = helper.make_graph(
        nodes,
        "student",
        [helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, ["n", len(FEATURES)])],
        [helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET[""])], ir_version=8)
    onnx.checker.check_model(proto, full_check=True)
    with atomic_path(path) as draft:
        onnx.save(proto, draft)
    return proto
