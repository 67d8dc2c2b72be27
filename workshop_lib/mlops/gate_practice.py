"""Versions made to fail, one for each gate: a gate that never failed has not been tested.

    models = make_models(packages.ensure())
    reports = ask_all(models)
    failures(reports)                           # a table of models by gates

Each differs from a good version in one thing. Its package is built and signed like any other, so that nothing but that
one thing gives it away.
"""

from __future__ import annotations

import json
import pickle
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper, numpy_helper

from workshop_lib.files import sha256, write_text
from workshop_lib.mlops import signing
from workshop_lib.mlops.gate_config import Gates, load_gates
from workshop_lib.mlops.gate_data import newest
from workshop_lib.mlops.gate_performance import FILE, dataset
from workshop_lib.mlops.gate_result import GateResult, Report
from workshop_lib.mlops.gates import GATES, Subject, run_gates
from workshop_lib.mlops.packages import PACKAGE_JSON, SIGNATURE, Package
from workshop_lib.ports import HOST, free_port
from workshop_lib.predictive import churn, onnx_export, openvino_trees
from workshop_lib.predictive.champion import IR_FILE, OUTPUT
from workshop_lib.predictive.features import FEATURES
from workshop_lib.predictive.forecaster import gradient_boosting
from workshop_lib.settings import settings

GOOD = "good"
TABLE_NUMBERS = 2**29
"""Numbers in the greedy version's table, four bytes each: two GiB."""
Graph = onnx.GraphProto


def practice_dir() -> Path:
    """Where the practice packages lie."""
    return settings.home / "mlops" / "gates"


@dataclass(frozen=True)
class Model:
    """A version for practice."""

    name: str
    gate: str
    """Which gate has to find it; empty for the good one."""
    story: str
    """What is wrong with it."""
    subject: Subject


def make_models(good: Package) -> list[Model]:
    """A good version and one for each gate that fails there; what an earlier call made is replaced.

    Nobody answers about known weaknesses (a port on which nobody listens): the outcome is the same on every machine.
    """
    shutil.rmtree(practice_dir(), ignore_errors=True)
    fine = Subject(good.folder, advisories=f"http://{HOST}:{free_port()}")

    def changed(name: str, change: Callable[[Path], None]) -> Subject:
        return replace(fine, package=copy(good.folder, name, change))

    return [
        Model(GOOD, "", "the champion's package", fine),
        Model("hasty", "performance", "its training was stopped after a few trees", changed("hasty", hurry)),
        Model("greedy", "resources", "a rare input makes it take gigabytes, which it keeps", changed("greedy", bloat)),
        Model("poisoned", "security", "a pickle that runs a command lies among its files", changed("poisoned", poison)),
        Model("biased", "fairness", "its churn model contacts everybody from 55 on", replace(fine, churn=Biased())),
        Model("starved", "data", "its newest sales lines have lost quantities", replace(fine, tables=starved)),
        Model("wild", "robustness", "beyond all records it follows a straight line", changed("wild", extrapolate)),
    ]


def copy(folder: Path, name: str, change: Callable[[Path], None], *, seal_again: bool = True) -> Path:
    """A changed copy of a package.

    Args:
        folder: of the package.
        name: of the copy.
        change: gets the copy's folder.
        seal_again: whether its checksums and its signature are made anew, as for an honest package.
    """
    target = practice_dir() / name
    shutil.copytree(folder, target)
    change(target)
    if seal_again:
        about = json.loads((target / PACKAGE_JSON).read_text(encoding="utf-8"))
        files = sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
        about["files"] = {file: sha256(target / file) for file in files if file not in (PACKAGE_JSON, SIGNATURE)}
        write_text(target / PACKAGE_JSON, json.dumps(about))
        signing.sign(target)
    return target


def hurry(folder: Path) -> None:
    """Exchange the forecaster for one of a few trees."""
    features, units = dataset().rows(dataset().split.fit)
    model = gradient_boosting(n_estimators=8).fit(features.to_numpy(), units.to_numpy())
    onnx_export.export(model, folder / FILE, FEATURES)
    graph = openvino_trees.read_model(folder / FILE)
    graph.output(0).set_names({OUTPUT})
    with tempfile.TemporaryDirectory() as scratch:
        made = openvino_trees.save_ir(graph, Path(scratch) / "ir")
        for file in (made, made.with_suffix(".bin")):
            shutil.copyfile(file, folder / file.name)


def bloat(folder: Path) -> None:
    """Let a row of zeros, such as the server's own test when it starts, fill a table of gigabytes.

    The forecast stays as it is, and the memory stays with the process: runtimes keep what they once needed.
    """

    def change(graph: Graph, forest: str, output: str) -> None:
        constants = {"zero": np.array(0, np.float32), "one": np.array([1]), "size": np.array([TABLE_NUMBERS])}
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
        _add(graph, "ReduceSumSquare", ["features"], "length", keepdims=0)
        _add(graph, "Equal", ["length", "zero"], "empty")
        _add(graph, "Cast", ["empty"], "asked", to=TensorProto.INT64)
        _add(graph, "Mul", ["asked", "size"], "more")
        _add(graph, "Add", ["more", "one"], "entries")
        _add(graph, "ConstantOfShape", ["entries"], "table")
        _add(graph, "ReduceMax", ["table"], "nothing", keepdims=0)
        _add(graph, "Add", [forest, "nothing"], output)

    _rewrite(folder / FILE, change)


def extrapolate(folder: Path) -> None:
    """Let the forecast follow yesterday's sales in a straight line from twice the highest that were ever seen."""
    place, knee = FEATURES.index("lag_1"), 2 * float(dataset().features["lag_1"].max())

    def change(graph: Graph, forest: str, output: str) -> None:
        constants = {"place": np.array([place]), "knee": np.array(knee, np.float32)}
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
        _add(graph, "Gather", ["features", "place"], "yesterday", axis=1)
        _add(graph, "Sub", ["yesterday", "knee"], "beyond")
        _add(graph, "Relu", ["beyond"], "line")
        _add(graph, "Add", [forest, "line"], output)

    _rewrite(folder / FILE, change)


def _add(graph: Graph, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
    graph.node.append(helper.make_node(kind, inputs, [output], **attributes))


def _rewrite(path: Path, change: Callable[[Graph, str, str], None]) -> None:
    """Put further operations behind the forest of an ONNX file; OpenVINO's files stay as they are."""
    model = onnx.load(path)
    output = model.graph.output[0].name
    forest = next(node for node in model.graph.node if output in node.output)
    forest.output[list(forest.output).index(output)] = "forest"
    change(model.graph, "forest", output)
    if "" not in {one.domain for one in model.opset_import}:
        model.opset_import.append(helper.make_opsetid("", onnx_export.OPSET[""]))
    onnx.checker.check_model(model)
    onnx.save(model, path)


class _Command:
    """Unpickled, it runs a command; pickled, it does nothing."""

    def __init__(self, function: Callable[..., Any], argument: str) -> None:
        self._call = (function, (argument,))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return self._call


def poison(folder: Path) -> None:
    """Add a pickle that would run a command for whoever loads it."""
    import os

    (folder / "model" / "scaler.pkl").write_bytes(pickle.dumps(_Command(os.system, "true")))


def hide(folder: Path) -> None:
    """The same by a way that modelscan does not know: it imports a module, whose code would run."""
    import importlib

    (folder / "model" / "scaler.pkl").write_bytes(pickle.dumps(_Command(importlib.import_module, "this")))


def leak(folder: Path) -> None:
    """Leave a key for the object storage in a file of settings. (It is the example of AWS's own documentation.)"""
    key = "AKIA" + "IOSFODNN7" + "EXAMPLE"
    write_text(folder / "model" / "storage.env", f"AWS_ACCESS_KEY_ID={key}\n")


def tamper(folder: Path) -> None:
    """Change one byte of the model's numbers."""
    path = folder / "model.bin"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


class Biased:
    """The churn champion, overruled for everybody from 55 on."""

    def predict_proba(self, table: pd.DataFrame) -> np.ndarray:
        """Probabilities of staying and leaving, shape (n, 2)."""
        leaving = np.where(table["age"] >= 55, 1.0, churn.load_champion().predict_proba(table)[:, 1])
        return np.column_stack([1 - leaving, leaving])


def starved() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The newest raw data in which every twentieth line has lost its quantity."""
    lines, products = newest(load_gates().data.weeks)
    return lines.assign(quantity=lines["quantity"].where(lines.index % 20 != 0, 0)), products


def ask_all(models: list[Model], limits: Gates | None = None) -> dict[str, Report]:
    """The reports of all models. A gate whose question is the same as for the good one is not asked again."""
    good, *others = models
    limits = limits or load_gates()
    reports = {good.name: run_gates(good.subject, limits=limits)}
    for model in others:
        known = {gate.name: gate for gate in reports[good.name].gates}
        new = [name for name in GATES if _looks_at(name, model.subject) != _looks_at(name, good.subject)]
        asked = run_gates(model.subject, new, limits)
        answers: dict[str, GateResult] = known | {gate.name: gate for gate in asked.gates}
        reports[model.name] = replace(asked, gates=tuple(answers[name] for name in GATES))
    return reports


def _looks_at(gate: str, subject: Subject) -> object:
    """What the answer of a gate depends on."""
    if gate == "security":
        return sha256(subject.package / PACKAGE_JSON)
    if gate == "fairness":
        return subject.churn
    if gate == "data":
        return subject.tables
    return [sha256(subject.package / name) for name in (FILE, IR_FILE)]


def failures(reports: Mapping[str, Report]) -> pd.DataFrame:
    """A row per model, a column per gate: whether it failed there."""
    rows = {name: {gate.name: gate.status == "failed" for gate in one.gates} for name, one in reports.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(index="model", columns="gate")


@contextmanager
def advisory_source(weak: Mapping[str, str]) -> Iterator[str]:
    """A source of advisories for as long as the block lasts, in OSV's protocol (https://google.github.io/osv.dev).

    Args:
        weak: the name of an advisory for each package that has a known weakness.

    Yields:
        Its address.
    """

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Answer for one package."""
            package = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]
            name = weak.get(package["name"])
            found = [{"id": name, "affected": [{"package": package}]}] if name else []
            body = json.dumps({"vulns": found} if found else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((HOST, 0), Answer) as source:
        thread = threading.Thread(target=source.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{HOST}:{source.server_address[1]}"
        finally:
            source.shutdown()
            thread.join()
