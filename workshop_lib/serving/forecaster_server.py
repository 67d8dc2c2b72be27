"""The forecaster as a process: the KServe SDK's model server, on loopback, following the champion.

    python -m workshop_lib.serving.forecaster_server
    python -m workshop_lib.serving.forecaster_server --model models:/sales-forecaster/3 --http-port 8210

REST and gRPC speak the Open Inference Protocol V2 (and V1's ``:predict``), as OpenVINO Model Server does on a
cluster. What is changed of the SDK, and why:

* it listens on ``settings.bind_host``; by itself the SDK binds every interface;
* a body has a largest size, and whatever cannot be read as a request is answered with 400, not 500;
* nobody can unload the model from outside; ``load`` looks for a new champion at once;
* on SIGTERM what is in flight is finished before the model goes;
* logs are one JSON line for each request that carries an ``X-Request-ID`` and for each one that is refused.
  The SDK's access and trace logs and its timing middleware cost more than the model's own work.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import fastapi
import kserve
import pydantic
from fastapi.exceptions import RequestValidationError
from grpc import ServicerContext, StatusCode, aio
from kserve.constants.constants import INFERENCE_CONTENT_LENGTH_HEADER
from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady
from kserve.model_repository import ModelRepository
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer, metrics_handler
from kserve.protocol.rest.v1_endpoints import register_v1_endpoints
from kserve.protocol.rest.v2_datamodels import InferenceRequest
from kserve.protocol.rest.v2_endpoints import register_v2_endpoints

from workshop_lib.predictive.champion import EXPERIMENT
from workshop_lib.predictive.tracking import FORECASTER, TrackingError, use_tracking
from workshop_lib.serving.envelope import Envelope, log_line
from workshop_lib.serving.following import follow
from workshop_lib.serving.forecaster_model import ForecasterModel
from workshop_lib.settings import settings

GRACE_SECONDS = 10
"""How long a stop waits for requests in flight."""
_REFUSALS = {InvalidInput: 400, ModelNotFound: 404, ModelNotReady: 503, NotImplementedError: 404}


class Repository(ModelRepository):
    """One model: ``load`` looks for a newer version, ``unload`` is refused."""

    def load(self, name: str) -> bool:
        """Look for a new version now."""
        model = self.get_model(name)
        if not isinstance(model, ForecasterModel):
            raise ModelNotFound(name)
        return not model.is_outdated() or model.load()

    def unload(self, name: str) -> None:
        """Refuse: an open address that takes the only model away is a switch for everybody."""
        raise InvalidInput(f"{name} cannot be unloaded from outside; stop the server instead.")


class Plane(DataPlane):
    """The SDK's reading of requests, which answers 400 to whatever it cannot read."""

    def decode(self, body: Any, headers: Any, *args: Any, **options: Any) -> Any:
        """The request in the SDK's own form."""
        try:
            if isinstance(body, bytes) and INFERENCE_CONTENT_LENGTH_HEADER not in headers and "v2" in options.values():
                # Plain JSON whose sender named no content type, as Triton's client does; the SDK expects binary then.
                body = InferenceRequest.model_validate_json(body)
            return super().decode(body, headers, *args, **options)
        except pydantic.ValidationError as error:
            raise InvalidInput(_fields(error.errors())) from None
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
            raise InvalidInput(f"body: not a request of the protocol ({type(error).__name__}: {error}).") from None


class Rest(RESTServer):
    """The SDK's HTTP server with the course's envelope around it."""

    def _add_middlewares(self, app: fastapi.FastAPI) -> None:
        app.add_middleware(Envelope, server="forecaster", max_body_bytes=settings.max_body_bytes)

    def _register_endpoints(self, app: fastapi.FastAPI) -> None:
        # The SDK would also look for its OpenAI endpoints, which takes the import of all of vLLM.
        app.add_api_route("/metrics", metrics_handler, methods=["GET"])
        register_v1_endpoints(app, self.dataplane, self.model_repository_extension)
        register_v2_endpoints(app, self.dataplane, self.model_repository_extension)

    def _add_exception_handlers(self, app: fastapi.FastAPI) -> None:
        super()._add_exception_handlers(app)
        for kind in _REFUSALS:
            app.add_exception_handler(kind, _refuse)  # without the stack trace that the SDK logs each time
        app.add_exception_handler(RequestValidationError, _refuse)


async def _refuse(request: fastapi.Request, error: Exception) -> fastapi.responses.JSONResponse:
    text = str(error)
    if isinstance(error, NotImplementedError):
        text = "versions: one version is served, the one that model_version names; leave /versions/… out."
    if isinstance(error, RequestValidationError):
        text = _fields(error.errors())
    return fastapi.responses.JSONResponse({"error": text}, _REFUSALS.get(type(error), 400))


def _fields(problems: Sequence[Any]) -> str:
    """Pydantic's findings as ``inputs.0.shape: what was expected``."""
    lines = []
    for problem in problems:
        # FastAPI tries the body as JSON and as binary data; only the first is of interest to who sent JSON.
        places = [str(place) for place in problem["loc"] if place not in ("body", "InferenceRequest")]
        if places != ["bytes"]:
            expected = "expected an object with inputs" if not places else problem["msg"]
            lines.append(f"{'.'.join(places) or 'body'}: {expected}.")
    return " ".join(lines)


class Refusals(ExceptionToStatusInterceptor):
    """The SDK's mapping of errors to gRPC statuses, without a stack trace for each bad request."""

    async def handle_exception(
        self, ex: Exception, request_or_iterator: Any, context: ServicerContext, method_name: str
    ) -> None:
        """End the call with a status."""
        statuses = {InvalidInput: StatusCode.INVALID_ARGUMENT, ModelNotFound: StatusCode.NOT_FOUND}
        status = statuses.get(type(ex))
        if status is None:
            await super().handle_exception(ex, request_or_iterator, context, method_name)
            return
        log_line(server="forecaster", method=method_name, status=status.name, reason=str(ex))
        await context.abort(status, str(ex))


class Servicer(InferenceServicer):
    """The SDK's gRPC calls; what cannot be read is an invalid argument."""

    async def ModelInfer(self, request: Any, context: ServicerContext) -> Any:
        """Answer one request."""
        try:
            return await super().ModelInfer(request, context)
        except (ValueError, TypeError, KeyError) as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(f"request: not of the protocol ({type(error).__name__}: {error}).") from None


class Grpc(GRPCServer):
    """The SDK's gRPC server, on one address."""

    async def start(self, max_workers: int) -> None:
        """Serve until stopped."""
        largest = [(f"grpc.max_{way}_message_length", settings.max_body_bytes) for way in ("send", "receive")]
        self._server = aio.server(interceptors=[Refusals()], options=largest)
        servicer = Servicer(self._data_plane, self._model_repository_extension)
        grpc_predict_v2_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, self._server)
        self._server.add_insecure_port(f"{settings.bind_host}:{self._port}")
        await self._server.start()
        await self._server.wait_for_termination()


class Server(kserve.ModelServer):
    """The SDK's model server with the parts above.

    Args:
        http_port: of REST.
        grpc_port: of gRPC.
        reload_seconds: how often to look for another version; None for never.
    """

    def __init__(self, http_port: int, grpc_port: int, reload_seconds: float | None) -> None:
        super().__init__(
            http_port=http_port,
            grpc_port=grpc_port,
            registered_models=Repository(),
            enable_latency_logging=False,
            grace_period=GRACE_SECONDS,
        )
        # The SDK has just configured its loggers; its own variable still turns them up.
        logging.getLogger("kserve").setLevel(os.environ.get("KSERVE_LOGLEVEL", "WARNING"))
        logging.getLogger("uvicorn.access").disabled = True
        self.dataplane = Plane(model_registry=self.registered_models)
        self.model_repository_extension = ModelRepositoryExtension(model_registry=self.registered_models)
        self._reload_seconds = reload_seconds

    def serve(self, model: ForecasterModel) -> None:
        """Answer until SIGTERM or SIGINT comes."""
        self.register_model(model)
        parts = (self.dataplane, self.model_repository_extension)
        rest = Rest("kserve.model_server:app", *parts, self.http_port, grace_period=self.grace_period)
        rest.config.host = settings.bind_host
        grpc = Grpc(self.grpc_port, *parts, kwargs={}, grace_period=self.grace_period)
        asyncio.run(self._until_stopped(rest, grpc, model))

    async def _until_stopped(self, rest: Rest, grpc: Grpc, model: ForecasterModel) -> None:
        side = [asyncio.create_task(grpc.start(self.max_threads))]
        if self._reload_seconds is not None:
            side.append(asyncio.create_task(follow(model, FORECASTER, "forecaster", self._reload_seconds)))
        # uvicorn raises the signal again when it has finished; by then everything is done and nothing should happen.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        # Ends after a signal, when what was in flight is answered; a failure of the others ends everything as well.
        serving = asyncio.create_task(rest.start())
        done, _ = await asyncio.wait([serving, *side], return_when=asyncio.FIRST_COMPLETED)
        await grpc.stop()
        for task in (serving, *side):
            if task not in done:
                task.cancel()
        await asyncio.gather(*done)


def main() -> None:
    """Read the command line, load the model and serve it."""
    # The SDK reads the same command line when it is imported, and knows options of its own.
    parser = argparse.ArgumentParser(description="Serve a registered forecaster over the Open Inference Protocol.")
    parser.add_argument("--model", default=settings.forecaster_model, help="models:/NAME@ALIAS or models:/NAME/VERSION")
    parser.add_argument("--http-port", type=int, default=settings.forecaster_port)
    parser.add_argument("--grpc-port", type=int, default=settings.forecaster_grpc_port)
    parser.add_argument("--no-reload", action="store_true", help="stay with the version that is loaded first")
    given = parser.parse_args()
    use_tracking(EXPERIMENT)
    model = ForecasterModel(given.model)
    try:
        model.load()
    except TrackingError as error:
        sys.exit(str(error))
    log_line(server="forecaster", event="loaded", version=model.version, model=given.model)
    Server(given.http_port, given.grpc_port, None if given.no_reload else settings.reload_seconds).serve(model)


if __name__ == "__main__":
    main()
