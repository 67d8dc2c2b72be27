"""One model, several servers, one run: what each gets done with one row per request, and what it costs.

    with serving(rivals()) as servers:
        loads = side_by_side(servers, seconds=3)
    compare(loads)

The model is the course's random forest, fitted once and kept with a registry of its own below
``settings.home / "benchmarks"``: nothing of it appears in the learner's registry. All servers start at once, are
measured one at a time while the others idle, and are stopped at the end whatever happens.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import psutil

from workshop_lib import data, processes
from workshop_lib.files import locked
from workshop_lib.ports import HOST, free_port
from workshop_lib.predictive.champion import OUTPUT
from workshop_lib.predictive.onnx_export import INPUT
from workshop_lib.processes import Service
from workshop_lib.serving.forecaster_client import Endpoint
from workshop_lib.serving.load import Load, Target, measure
from workshop_lib.serving.local import forecaster_service
from workshop_lib.settings import settings

NAME = "sales-forecaster"
CONNECTIONS = 8
COURSE, MLFLOW, MLFLOW_ONNX = "course's endpoint", "MLflow, scikit-learn", "MLflow, ONNX"
TYPED, CEILING = "FastAPI, pydantic, ONNX Runtime", "KServe SDK, constant"
FEWEST = 5
"""Answers without which a rate says nothing."""
LONGER = 10
_V2_PATH = f"/v2/models/{NAME}/infer"
_READY = "columns.json"
_TOLERANCE = 1e-4
"""Relative difference of two servers' answers from which they do not serve the same model."""


class RivalError(RuntimeError):
    """A server for the comparison does not work; the message says which and why."""


@dataclass(frozen=True)
class Scratch:
    """The forest that all rivals serve, with a registry of its own."""

    folder: Path

    @property
    def onnx_file(self) -> Path:
        """The forest as ONNX."""
        return self.folder / "forest.onnx"

    @property
    def onnx_flavour(self) -> Path:
        """The same as a model of MLflow's ONNX flavour."""
        return self.folder / "onnx-flavour"

    @property
    def rows(self) -> np.ndarray:
        """Features of real days, float32, shape (n, features)."""
        return np.load(self.folder / "rows.npy")

    @property
    def columns(self) -> list[str]:
        """Names of the features in their order."""
        return list(json.loads((self.folder / _READY).read_text(encoding="utf-8")))

    @property
    def variables(self) -> dict[str, str]:
        """Environment of a process that uses this registry and not the learner's."""
        uri = f"sqlite:///{self.folder / 'mlflow.db'}"
        return {
            "WORKSHOP_MLFLOW_URI": uri,
            "MLFLOW_TRACKING_URI": uri,
            "WORKSHOP_MLFLOW_ARTIFACTS": (self.folder / "artifacts").as_uri(),
            # `mlflow models serve` starts what it finds first under the names python and uvicorn.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        }


def scratch(trees: int = 100) -> Scratch:
    """The forest for the comparison; fitted and registered at the first call, which takes a moment.

    Args:
        trees: how many; the course's forest has a hundred.

    Raises:
        RivalError: when that fails.
    """
    found = Scratch(settings.home / "benchmarks" / f"forest-{trees}-{data.prepared().fingerprint[:12]}")
    with locked(found.folder):
        if not (found.folder / _READY).exists():  # written last; the registry's addresses forbid a rename
            shutil.rmtree(found.folder, ignore_errors=True)
            found.folder.mkdir(parents=True)
            # A process of its own: MLflow's place is one for a whole process, and this one's is the learner's.
            command = [sys.executable, "-m", "workshop_lib.serving.side_by_side", str(found.folder), str(trees)]
            done = subprocess.run(command, env=os.environ | found.variables, capture_output=True, text=True)
            if done.returncode != 0:
                raise RivalError(f"The forest for the comparison could not be made: {done.stderr.strip()[-500:]}")
    return found


def _build(found: Scratch, trees: int) -> None:
    import mlflow.onnx
    import onnx

    from workshop_lib.predictive import forecaster, intervals, onnx_export
    from workshop_lib.predictive.champion import load_package, register_forecaster
    from workshop_lib.predictive.features import FEATURES

    dataset = forecaster.make_dataset()
    trained = forecaster.train(forecaster.random_forest(n_estimators=trees, n_jobs=-1), dataset)
    # A package needs intervals, and nobody reads these: honest ones would cost a second fit.
    seen = forecaster.forecast_horizons(trained.model, dataset.panel, dataset.split.validation)
    interval = intervals.measure(seen, dataset.units.reindex(seen.index).to_numpy())
    # It is served with one worker: for a single row, handing trees to several takes longer than the trees.
    trained.model.set_params(n_jobs=1)
    register_forecaster(trained, metrics={}, description="For the comparison of servers.", interval=interval)
    shutil.copyfile(load_package().onnx_file, found.onnx_file)
    rows = dataset.rows(dataset.split.test)[0].to_numpy(np.float32)[:4096]
    example = {INPUT: rows[:1]}
    answer = onnx_export.predict(onnx_export.session(found.onnx_file), rows[:1])
    signature = mlflow.models.infer_signature(example, answer)
    proto = onnx.load(found.onnx_file)
    mlflow.onnx.save_model(proto, str(found.onnx_flavour), signature=signature, pip_requirements=["onnxruntime"])
    np.save(found.folder / "rows.npy", rows)
    (found.folder / _READY).write_text(json.dumps(list(FEATURES)), encoding="utf-8")


@dataclass(frozen=True)
class Rival:
    """A way to serve the forest."""

    label: str
    service: Service
    path: str
    """Where it takes requests."""
    body: Callable[[np.ndarray], Any]
    """A request for these rows, ready for JSON."""
    read: Callable[[Any], Any] | None
    """The units in its answer; None when it does not answer with the model."""

    @property
    def pid(self) -> int | None:
        """Its process; None when it does not run."""
        return processes.status(self.service).pid

    def target(self, rows: np.ndarray) -> Target:
        """What a load asks of it: the rows in one request."""
        return Target(self.service.url + self.path, bodies=[json.dumps(self.body(rows))])


def _v2(rows: np.ndarray) -> dict[str, Any]:
    tensor = {"name": INPUT, "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
    return {"inputs": [tensor]}


def _read_v2(answer: Any) -> Any:
    return next(output["data"] for output in answer["outputs"] if output["name"] == OUTPUT)


def course(forest: Scratch | None, label: str, *options: str, variables: Mapping[str, str] | None = None) -> Rival:
    """The course's endpoint.

    Args:
        forest: what it serves; None for the learner's champion.
        label: its name in tables.
        options: further ones of its command line.
        variables: further ones of its environment.
    """
    champion = f"models:/{NAME}@champion"
    service = forecaster_service(champion, _name(label), free_port(), free_port())
    if forest is not None:
        service = replace(service, env=forest.variables | dict(variables or {}), prepare=None)
    service = replace(service, command=(*service.command, *options))
    return Rival(label, service, _V2_PATH, _v2, _read_v2)


def mlflow_sklearn(forest: Scratch, label: str = MLFLOW) -> Rival:
    """``mlflow models serve`` of the registered forest."""
    columns = forest.columns
    return Rival(
        label,
        _mlflow(forest, label, f"models:/{NAME}@champion"),
        "/invocations",
        lambda rows: {"dataframe_split": {"columns": columns, "data": rows.astype(float).tolist()}},
        lambda answer: answer["predictions"],
    )


def mlflow_onnx(forest: Scratch, label: str = MLFLOW_ONNX) -> Rival:
    """``mlflow models serve`` of the forest's ONNX flavour."""
    return Rival(
        label,
        _mlflow(forest, label, str(forest.onnx_flavour)),
        "/invocations",
        lambda rows: {"inputs": {INPUT: rows.tolist()}},
        lambda answer: next(iter(answer["predictions"].values())),
    )


def _mlflow(forest: Scratch, label: str, uri: str) -> Service:
    port = free_port()
    command = ("-m", "mlflow", "models", "serve", "--model-uri", uri, "--env-manager", "local", "--host", HOST)
    return Service(
        _name(label), port, (sys.executable, *command, "--port", str(port)), health="/ping", env=forest.variables
    )


def sdk(forest: Scratch, label: str, *options: str) -> Rival:
    """The KServe SDK's own server; options are those of :mod:`workshop_lib.serving.rivals`."""
    port = free_port()
    service = Service(_name(label), port, _rival("sdk", forest, port, *options), health="/v2/health/ready")
    return Rival(label, service, _V2_PATH, _v2, None if "constant" in options else _read_v2)


def typed(forest: Scratch, label: str = TYPED) -> Rival:
    """A FastAPI endpoint with typed request and answer."""
    port = free_port()
    service = Service(_name(label), port, _rival("typed", forest, port), health="/openapi.json")
    return Rival(label, service, "/forecast", lambda rows: {"rows": rows.tolist()}, lambda answer: answer["units"])


def rivals(forest: Scratch) -> list[Rival]:
    """The comparison: the course's endpoint and what learners know or could write themselves."""
    return [
        course(forest, COURSE),
        mlflow_sklearn(forest),
        mlflow_onnx(forest),
        sdk(forest, CEILING, "--answer", "constant", "--quiet"),
        typed(forest),
    ]


def variants(forest: Scratch) -> list[Rival]:
    """The KServe SDK's server as it comes, then changed in one thing at a time."""
    return [
        sdk(forest, "SDK as it comes, OpenVINO", "--answer", "openvino"),
        sdk(forest, "... without its logs", "--answer", "openvino", "--quiet"),
        sdk(forest, "... with one thread", "--answer", "openvino", "--quiet", "--threads", "1"),
        sdk(forest, "... with ONNX Runtime", "--answer", "onnxruntime", "--quiet"),
        sdk(forest, "... without its timing middleware", "--answer", "onnxruntime", "--quiet", "--no-timing"),
        sdk(forest, "... without a model", "--answer", "constant", "--quiet", "--no-timing"),
    ]


def _rival(kind: str, forest: Scratch, port: int, *options: str) -> tuple[str, ...]:
    module = (sys.executable, "-m", "workshop_lib.serving.rivals", kind)
    return (*module, "--onnx", str(forest.onnx_file), "--port", str(port), *options)


def _name(label: str) -> str:
    return "rival-" + "-".join("".join(sign if sign.isalnum() else " " for sign in label.lower()).split())


@contextlib.contextmanager
def serving(chosen: Sequence[Rival]) -> Iterator[Sequence[Rival]]:
    """Run all servers while the block runs; one comparison at a time in a workshop's folder.

    Raises:
        ServiceError: when one does not start; the others are stopped.
    """
    services = [rival.service for rival in chosen]
    with locked(settings.home / "benchmarks" / "serving"):
        atexit.register(_stop, services)  # a notebook's kernel may be shut down before its last cell
        try:
            for service in services:
                processes.stop(service)  # what a killed notebook has left
            with ThreadPoolExecutor(len(services)) as pool:
                starts = [pool.submit(processes.start, service) for service in services]
                try:
                    for start in starts:
                        start.result()
                except BaseException:
                    _stop(services)  # or the pool would wait for the others to become healthy
                    raise
            yield chosen
        finally:
            atexit.unregister(_stop)
            _stop(services)


def _stop(services: Sequence[Service]) -> None:
    with ThreadPoolExecutor(len(services)) as pool:
        list(pool.map(processes.stop, services))


def check_answers(chosen: Sequence[Rival], rows: np.ndarray) -> pd.DataFrame:
    """Whether all serve the same model: the largest relative difference of each one's answers to the first one's.

    Raises:
        RivalError: when one refuses the rows, or answers something else.
    """
    expected = None
    differences = {}
    for rival in chosen:
        if rival.read is None:
            continue
        reply = httpx.post(rival.service.url + rival.path, json=rival.body(rows), timeout=60)
        if reply.status_code != 200:
            raise RivalError(f"{rival.label} answered {reply.status_code}: {reply.text[:300]}")
        units = np.asarray(rival.read(reply.json()), float).ravel()
        expected = units if expected is None else expected
        gap = float((np.abs(units - expected) / np.maximum(np.abs(expected), 1)).max())
        if gap > _TOLERANCE:
            raise RivalError(f"{rival.label} serves another model: its answers differ by up to {gap:.1%}.")
        differences[rival.label] = gap
    return pd.DataFrame({"largest difference": differences})


def side_by_side(
    chosen: Sequence[Rival], rows: np.ndarray, seconds: float = 3, connections: int = CONNECTIONS
) -> list[Load]:
    """A closed loop on one server after the other.

    Args:
        chosen: servers that run.
        rows: what each request holds, shape (n, features).
        seconds: per server, after a second of warm-up; :data:`LONGER` times that where too little was answered.
        connections: requests under way.

    Raises:
        RivalError: when one answers nothing in that time either.
    """
    return [_measure(rival, rows, seconds, connections) for rival in chosen]


def _measure(rival: Rival, rows: np.ndarray, seconds: float, connections: int) -> Load:
    for lasts in (seconds, LONGER * seconds):  # on a busy machine a slow server has hardly begun by then
        load = measure(rival.target(rows), connections, seconds=lasts, pid=rival.pid, label=rival.label)
        if load.requests - load.failed >= FEWEST:
            return load
    if load.requests <= load.failed:
        raise RivalError(f"{rival.label} answered nothing in {lasts:g} s. Its log is {rival.service.log}.")
    return load


def together(chosen: Sequence[Rival], rows: np.ndarray, connections: int, seconds: float = 2) -> list[Load]:
    """A closed loop on all servers at the same time, with ``connections`` on each."""
    with ThreadPoolExecutor(len(chosen)) as pool:
        return list(pool.map(lambda rival: side_by_side([rival], rows, seconds, connections)[0], chosen))


def freeze(rival: Rival, after: float, seconds: float) -> None:
    """Let a server's process stand still for a while, soon; this call returns at once."""
    process = psutil.Process(rival.pid)

    def stand_still() -> None:
        time.sleep(max(after, 0))
        process.suspend()
        try:
            time.sleep(seconds)
        finally:
            process.resume()

    threading.Thread(target=stand_still).start()


def endpoint_target(endpoint: Endpoint, rows: np.ndarray) -> Target:
    """What a load asks of the configured forecaster: the rows in one request."""
    headers = {"Content-Type": "application/json", **endpoint.options["headers"]}
    ca_file = str(settings.forecaster_ca_file or "")
    return Target(f"{endpoint.url}{_V2_PATH}", bodies=[json.dumps(_v2(rows))], headers=headers, ca_file=ca_file)


def main() -> None:
    """Make the forest for the comparison; its process has the variables of :attr:`Scratch.variables`."""
    _build(Scratch(Path(sys.argv[1])), trees=int(sys.argv[2]))


if __name__ == "__main__":
    main()
