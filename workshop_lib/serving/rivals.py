"""Other ways to serve the same model, each a process of its own, for :mod:`workshop_lib.serving.side_by_side`.

    python -m workshop_lib.serving.rivals typed --onnx model.onnx --port 9001
    python -m workshop_lib.serving.rivals sdk --onnx model.onnx --answer onnxruntime --quiet --port 9002
    python -m workshop_lib.serving.rivals bare --port 9003

They are written as a documentation's first page would have it, and are not tuned.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from workshop_lib.ports import HOST

NAME = "sales-forecaster"
Predict = Callable[[np.ndarray], np.ndarray]


def open_predictor(kind: str, path: Path, threads: int = 0) -> Predict:
    """A function from float32 rows of shape (n, features) to units of shape (n,).

    Args:
        kind: ``onnxruntime``, ``openvino`` or ``constant``.
        path: the ONNX file, which both runtimes read.
        threads: per request; 0 leaves it to OpenVINO, and means one in ONNX Runtime.

    Raises:
        ValueError: for another kind.
    """
    if kind == "constant":
        return lambda rows: np.ones(len(rows), np.float32)
    if kind == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda rows: session.run(None, {"features": rows})[0][:, -1]
    if kind == "openvino":
        from workshop_lib.predictive import openvino_trees

        compiled = openvino_trees.compile_model(openvino_trees.read_model(path), threads)
        return lambda rows: compiled(rows)[0][:, -1]
    raise ValueError(f"{kind!r} is none of onnxruntime, openvino, constant.")


def serve_typed(path: Path, port: int) -> None:
    """FastAPI with typed request and answer (pydantic), calling ONNX Runtime; not the protocol, and no checks."""
    import fastapi
    import uvicorn
    from pydantic import BaseModel

    class Forecast(BaseModel):
        units: list[float]

    class Rows(BaseModel):
        rows: list[list[float]]

    predict, app = open_predictor("onnxruntime", path), fastapi.FastAPI()

    # FastAPI looks annotations up in the module, where classes of a function are not found: they are given here.
    async def forecast(body: Any) -> Any:
        return Forecast(units=predict(np.array(body.rows, np.float32)).tolist())

    forecast.__annotations__ = {"body": Rows, "return": Forecast}
    app.post("/forecast")(forecast)
    uvicorn.run(app, host=HOST, port=port, access_log=False, log_level="warning")


def serve_bare(port: int) -> None:
    """A constant without any framework: what uvicorn can do when nobody else works."""
    import uvicorn

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", b"application/json"), (b"content-length", b"11")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"units":1}'})

    uvicorn.run(app, host=HOST, port=port, access_log=False, log_level="warning", lifespan="off")


def serve_sdk(answer: str, path: Path, port: int, *, threads: int, quiet: bool, timing: bool) -> None:
    """The KServe SDK's server as it comes.

    Args:
        answer: what computes; see :func:`open_predictor`.
        path: the ONNX file.
        port: of REST; there is no gRPC.
        threads: see :func:`open_predictor`.
        quiet: without access, trace and latency logs.
        timing: with the SDK's timing middleware, which its own server always has.
    """
    # Where vLLM is installed the SDK imports all of it for addresses that nobody uses here.
    sys.modules["vllm"] = None  # type: ignore[assignment]
    sys.argv = sys.argv[:1]  # the SDK reads the command line when it is imported
    if quiet:
        os.environ["KSERVE_LOGLEVEL"] = "WARNING"
    import kserve
    import kserve.model_server
    from kserve.protocol.rest.server import RESTServer

    class Rest(RESTServer):
        def __init__(self, *parts: Any, **options: Any) -> None:
            super().__init__(*parts, **options)
            self.config.host = HOST  # the SDK itself listens on every interface

        def _add_middlewares(self, app: Any) -> None:
            if timing:
                super()._add_middlewares(app)

    class Model(kserve.Model):
        def __init__(self) -> None:
            super().__init__(NAME)
            self._predict = open_predictor(answer, path, threads)
            self.ready = True

        async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
            units = self._predict(payload.inputs[0].as_numpy())
            output = kserve.InferOutput("units", [len(units), 1], "FP32", units.tolist())
            return kserve.InferResponse(payload.id or "", self.name, [output])

    kserve.model_server.RESTServer = Rest
    server = kserve.ModelServer(http_port=port, enable_grpc=False, enable_latency_logging=not quiet)
    logging.getLogger("uvicorn.access").disabled = quiet
    server.start([Model()])


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="Serve one model in another way, to compare.")
    parser.add_argument("kind", choices=["typed", "sdk", "bare"])
    parser.add_argument("--onnx", type=Path, default=Path())
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--answer", choices=["onnxruntime", "openvino", "constant"], default="onnxruntime")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--no-timing", action="store_true")
    given = parser.parse_args()
    if given.kind == "typed":
        serve_typed(given.onnx, given.port)
    elif given.kind == "bare":
        serve_bare(given.port)
    else:
        timing = not given.no_timing
        serve_sdk(given.answer, given.onnx, given.port, threads=given.threads, quiet=given.quiet, timing=timing)


if __name__ == "__main__":
    main()
