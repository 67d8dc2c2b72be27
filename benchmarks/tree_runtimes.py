"""Milliseconds per call of the course's tree models on four runtimes, side by side in one run.

Usage: .venv/bin/python benchmarks/tree_runtimes.py

Every figure is the median of the calls that fit into ``SECONDS``. ONNX Runtime and XGBoost use their default number
of threads, scikit-learn what each column says, OpenVINO one thread for one row and its default otherwise.
"""

from __future__ import annotations

import copy
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workshop_lib.predictive import onnx_export, openvino_trees
from workshop_lib.predictive.champion import load_champion
from workshop_lib.predictive.features import FEATURES
from workshop_lib.predictive.forecaster import make_dataset, random_forest, train

BATCHES = (1, 64, 1024, 8192)
SECONDS = 1.0


def measure(model: Any, originals: dict[str, Any], rows: np.ndarray, folder: Path) -> pd.DataFrame:
    """The table of one model, with how many times as fast as the others OpenVINO is."""
    onnx_export.export(model, folder / "model.onnx", FEATURES)
    ir_file = openvino_trees.save_ir(openvino_trees.read_model(folder / "model.onnx"), folder / "1")
    runtimes = {name: original.predict for name, original in originals.items()} | {
        "ONNX Runtime": partial(onnx_export.predict, onnx_export.session(folder / "model.onnx")),
        "OpenVINO": openvino_trees.predictor(ir_file),
    }
    table = onnx_export.time_predictions(runtimes, rows, BATCHES, SECONDS)
    for name in table.columns[:-1]:
        table[f"{name} / OpenVINO"] = table[name] / table["OpenVINO"]
    return table


def main() -> None:
    """Train the forest, load the champion, measure both."""
    dataset = make_dataset()
    forest = train(random_forest(), dataset).model
    on_all_cores = copy.deepcopy(forest).set_params(n_jobs=-1)
    rows = dataset.features.to_numpy(np.float32)[: max(BATCHES)]
    champion = load_champion().model
    models: list[tuple[Any, dict[str, Any]]] = [
        (forest, {"scikit-learn, 1 thread": forest, "scikit-learn, all cores": on_all_cores}),
        (champion, {type(champion).__name__: champion}),
    ]
    print(f"load average before: {os.getloadavg()[0]:.2f}, cores: {os.cpu_count()}")
    for model, originals in models:
        with tempfile.TemporaryDirectory() as folder:
            table = measure(model, originals, rows, Path(folder))
        print(f"\n{type(model).__name__}, milliseconds per call\n{table.round(3).to_string()}")
    print(f"\nload average after: {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()
