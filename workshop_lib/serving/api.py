"""The business API: questions of the shop in, answers with units, intervals and versions out.

    python -m workshop_lib.serving.api

Behind it stand the forecaster (over the network), the churn model (in process) and the language model (over the
network, and the only one that may be missing). Around every request lie the middlewares of
:mod:`workshop_lib.serving.api_middleware`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from workshop_lib.data import DataError
from workshop_lib.predictive.champion import EXPERIMENT
from workshop_lib.predictive.tracking import CHURN, FORECASTER, TrackingError, use_tracking
from workshop_lib.serving import api_middleware as around
from workshop_lib.serving import business_metrics
from workshop_lib.serving.api_client import api_key
from workshop_lib.serving.api_errors import NOT_FOUND, PROBLEMS, Problem, add_handlers
from workshop_lib.serving.api_schemas import (
    ChurnRequest,
    ChurnResponse,
    Dependency,
    DescribeRequest,
    DescribeResponse,
    ForecastRequest,
    ForecastResponse,
    ProblemDetails,
    ReadyResponse,
)
from workshop_lib.serving.cache import Cache, open_cache
from workshop_lib.serving.cache_answers import Answers, Wish, add_history, plan_of
from workshop_lib.serving.cache_prefetch import prefetch
from workshop_lib.serving.demand import Plan
from workshop_lib.serving.envelope import log_line
from workshop_lib.serving.feedback import ForecastBook, add_feedback, observe
from workshop_lib.serving.following import Followed, follow
from workshop_lib.serving.forecasts import Forecasts
from workshop_lib.serving.households import Households
from workshop_lib.serving.kinds import replay
from workshop_lib.serving.prediction_log import PredictionLog
from workshop_lib.serving.routing import Router, RoutesError
from workshop_lib.serving.texts import Texts
from workshop_lib.settings import settings

OPEN = ("/health/live", "/health/ready", "/metrics", "/docs", "/openapi.json", "/docs/ui.js", "/docs/ui.css")
"""Paths without a key: whoever watches over the service, and its documentation."""
STREAMS = 4
"""Streams at once: each holds a place for as long as it lasts."""
GRACE_SECONDS = 10
"""How long a stop waits for requests in flight."""
_READY_SECONDS = 1
"""For how long an answer about readiness holds; many may ask, and each asking costs calls to others."""


CacheControl = Annotated[
    str | None, Header(max_length=200, description="no-cache: made anew; no-store: and not kept either")
]


@dataclass(frozen=True)
class Parts:
    """What the API answers with."""

    forecasts: Forecasts
    households: Households
    texts: Texts
    book: ForecastBook = field(default_factory=ForecastBook)


def load_parts() -> Parts:
    """Load data and models.

    Raises:
        TrackingError: when the registry cannot be used or a champion is not usable.
        DataError, ValueError: when the data cannot be used or does not fit the champion.
        RoutesError: when the file with the routes is not usable.
    """
    use_tracking(EXPERIMENT)
    return Parts(Forecasts(Router()), Households(), Texts())


def create_app(parts: Parts | None = None) -> FastAPI:
    """The application with its middlewares.

    Args:
        parts: what it answers with; loaded by default.
    """
    parts = parts or load_parts()
    cache = open_cache()
    answers = Answers(parts.forecasts, parts.households, parts.texts, cache)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        business_metrics.prepare(parts.forecasts.demand.categories)
        followed: dict[str, Followed] = {FORECASTER: parts.forecasts, CHURN: parts.households}
        following = [
            asyncio.create_task(follow(part, name, "api", settings.reload_seconds)) for name, part in followed.items()
        ]
        following.append(asyncio.create_task(parts.book.keep()))
        if cache is not None:
            following += [asyncio.create_task(cache.watch()), asyncio.create_task(prefetch(answers))]
        yield
        for task in following:
            task.cancel()
        if cache is not None:
            await cache.close()
        await parts.forecasts.close()
        parts.texts.close()
        await asyncio.to_thread(parts.book.close)

    app = FastAPI(
        title="Shop intelligence",
        description="Forecasts of sales, households about to leave, product texts. Every path but health, metrics and"
        " this page wants the header `X-API-Key`.",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=False,  # the key keeps other sites' pages out, so a missing header is taken as JSON
    )
    add_handlers(app)
    _add_business(app, parts, answers)
    add_history(app, answers)
    add_feedback(app, parts.book)
    _add_operations(app, parts, cache)
    _add_documentation(app)
    _wrap(app)
    return app


def _wrap(app: FastAPI) -> None:
    """Put the middlewares around an application; what is added last lies outermost."""
    llm = settings.api_llm_concurrency
    lanes = {
        "*": around.Lane(settings.api_concurrency, settings.api_queue, settings.api_timeout),
        "/describe": around.Lane(llm, llm, settings.api_llm_timeout),
        "/forecast/stream": around.Lane(STREAMS, 0, None),
    }
    paths = [path for route in app.routes if (path := getattr(route, "path", None))]
    app.add_middleware(around.Lanes, lanes=lanes, unbounded=OPEN)
    app.add_middleware(around.Body, largest=settings.max_body_bytes, seconds=settings.api_timeout)
    if settings.api_keys_file is None:
        app.add_middleware(around.ApiKey, key=api_key(), open_paths=OPEN)
    else:
        from workshop_lib.serving import api_access, api_keys  # brings a metric that nobody else has

        app.add_middleware(api_access.Access, ring=api_keys.KeyRing(settings.api_keys_file), open_paths=OPEN)
    app.add_middleware(around.Trace, paths=paths, quiet=OPEN)


def _add_business(app: FastAPI, parts: Parts, answers: Answers) -> None:
    forecasts = parts.forecasts
    folder = settings.prediction_log
    log = None if folder is None else PredictionLog(folder, settings.prediction_log_days)
    guard = None
    if settings.input_guard:
        from workshop_lib.serving import input_guard  # brings a metric that nobody else has

        guard = input_guard.Guard(forecasts, parts.households)

    @app.post("/forecast", responses=PROBLEMS, tags=["business"])
    async def forecast(
        body: ForecastRequest,
        request: Request,
        response: Response,
        x_route_key: Annotated[str | None, Header(max_length=128, description="same key, same version")] = None,
        cache_control: CacheControl = None,
    ) -> ForecastResponse:
        """Units of a category on some days, with intervals."""
        trace = request.scope["trace"]
        around.charge(request.scope, len(body.dates))
        found = await answers.forecast(body, trace["request_id"], x_route_key, Wish.read(cache_control))
        answer = found.answer
        trace |= {"backend": answer.backend, "version": answer.model.version, "cache": found.state}
        response.headers.update(found.headers)
        if guard is not None:
            response.headers.update(guard.forecast(body))
        if log is not None:
            planned = plan_of(body) != Plan()
            log.forecast(trace, answer.category, answer.forecasts, answer.model.version, planned)
        observe(parts.book, answer, what_if=plan_of(body) != Plan())
        return answer

    @app.get("/forecast/stream", responses=PROBLEMS, tags=["business"], response_class=StreamingResponse)
    async def stream(
        request: Request,
        category: Annotated[str, Query(min_length=1, max_length=200)],
        start: Annotated[dt.date, Query(description="the first evening; a day of the past")],
        days: Annotated[int, Query(ge=1, le=366)] = 7,
        pause: Annotated[float, Query(ge=0, le=10, description="seconds between two days")] = 1,
    ) -> StreamingResponse:
        """Server-sent events: each evening what was sold, and the forecast for the next day."""
        evenings = [start + dt.timedelta(days=number) for number in range(days)]
        forecasts.demand.check_evenings(category, evenings[0], evenings[-1])
        trace = request.scope["trace"]
        around.charge(request.scope, days)

        async def events() -> AsyncIterator[str]:
            try:
                async for day in replay(forecasts, category, start, days, pause, trace["request_id"]):
                    if log is not None:
                        log.forecast(trace, category, [day.forecast], day.model.version)
                    yield f"event: day\ndata: {day.model_dump_json()}\n\n"
            except Problem as problem:  # the answer has begun, so its status cannot tell any more
                yield f"event: problem\ndata: {problem.detail}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    @app.post("/churn", responses=PROBLEMS | NOT_FOUND, tags=["business"])
    async def churn(
        body: ChurnRequest, request: Request, response: Response, cache_control: CacheControl = None
    ) -> ChurnResponse:
        """How likely a household is to stay away for four weeks."""
        trace = request.scope["trace"]
        around.charge(request.scope, 1)
        found = await answers.churn(body, Wish.read(cache_control))
        trace |= {"version": found.answer.model.version, "cache": found.state}
        response.headers.update(found.headers)
        if guard is not None:
            response.headers.update(guard.churn(body))
        if log is not None:
            log.churn(trace, found.answer)
        return found.answer

    @app.post("/describe", responses=PROBLEMS | NOT_FOUND, tags=["business"])
    async def describe(
        body: DescribeRequest, request: Request, response: Response, cache_control: CacheControl = None
    ) -> DescribeResponse:
        """A short product text by the language model, and what in it can be trusted."""
        around.charge(request.scope, 1)
        found = await answers.describe(body, Wish.read(cache_control))
        answer = found.answer
        request.scope["trace"] |= {"backend": answer.model, "version": answer.prompt, "cache": found.state}
        response.headers.update(found.headers)
        return answer


def _add_operations(app: FastAPI, parts: Parts, cache: Cache | None) -> None:
    last: tuple[float, ReadyResponse] | None = None
    asking = asyncio.Lock()

    @app.get("/health/live", tags=["operations"])
    async def live() -> dict[str, str]:
        """Whether the process answers; if not, restart it."""
        return {"status": "ok"}

    @app.get("/health/ready", tags=["operations"], responses={503: {"model": ReadyResponse}})
    async def ready(response: Response) -> ReadyResponse:
        """Whether everything that it needs is there; if not, send no requests."""
        nonlocal last
        async with asking:
            if last is None or time.monotonic() - last[0] > _READY_SECONDS:
                found = await _dependencies(parts, cache)
                last = time.monotonic(), found
        response.status_code = 503 if last[1].status == "failed" else 200
        return last[1]

    @app.get("/metrics", tags=["operations"], response_class=Response)
    async def metrics() -> Response:
        """What Prometheus collects."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _dependencies(parts: Parts, cache: Cache | None) -> ReadyResponse:
    """Ask everything that the API needs whether it is there."""
    router, client = parts.forecasts.router, parts.forecasts.client
    used = [backend for backend in router.routes.backends if backend.weight > 0]
    readiness = asyncio.gather(*(client.is_ready(backend.url) for backend in used))
    llm_problem, ready, book_problem = await asyncio.gather(parts.texts.problem(), readiness, parts.book.problem())
    away = [f"{one.name} at {one.url} is not ready" for one, ok in zip(used, ready, strict=True) if not ok]
    found = {
        # The first two are loaded at the start, or there would be no start.
        "history": Dependency(status="ok", required=True),
        "churn model": Dependency(status="ok", required=True),
        "forecaster": Dependency(
            status="ok" if not away else "degraded" if any(ready) else "failed",
            required=True,
            reason="; ".join(away) or None,
        ),
        "routes": Dependency(
            status="degraded" if router.problem else "ok", required=True, reason=router.problem or None
        ),
        "language model": Dependency(status="failed" if llm_problem else "ok", required=False, reason=llm_problem),
        "database": Dependency(status="failed" if book_problem else "ok", required=False, reason=book_problem),
    }
    if cache is not None:
        reason = "; ".join(f"{tier}: {reason}" for tier, reason in cache.problems.items())
        found["cache"] = Dependency(status="degraded" if reason else "ok", required=False, reason=reason or None)
    bad = [dependency for dependency in found.values() if dependency.status != "ok"]
    failed = any(dependency.required and dependency.status == "failed" for dependency in bad)
    return ReadyResponse(status="failed" if failed else "degraded" if bad else "ok", dependencies=found)


def _add_documentation(app: FastAPI) -> None:
    """A page that also works without internet, where a package that is installed anyway brings its files along."""
    package = find_spec("vllm")
    places = list(package.submodule_search_locations or []) if package else []
    static = Path(places[0], "entrypoints/serve/instrumentator/static") if places else Path("nowhere")
    script, style = static / "swagger-ui-bundle.js", static / "swagger-ui.css"
    local: dict[str, Any] = (
        {"swagger_js_url": "docs/ui.js", "swagger_css_url": "docs/ui.css"} if script.is_file() else {}
    )

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return get_swagger_ui_html(openapi_url="openapi.json", title=app.title, swagger_favicon_url="data:,", **local)

    if local:

        @app.get("/docs/ui.js", include_in_schema=False)
        async def ui_script() -> Response:
            return FileResponse(script)

        @app.get("/docs/ui.css", include_in_schema=False)
        async def ui_style() -> Response:
            return FileResponse(style)

    schema = app.openapi()  # made once; the application hands out this very object
    schema["components"]["schemas"]["ProblemDetails"] = ProblemDetails.model_json_schema(
        ref_template="#/components/schemas/{model}"
    )
    schema["components"]["securitySchemes"] = {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            operation["security"] = [] if path in OPEN else [{"key": []}]


def main() -> None:
    """Load everything and serve it."""
    begun = time.perf_counter()
    try:
        app = create_app()
    except (TrackingError, DataError, RoutesError, ValueError, OSError) as error:
        sys.exit(f"The business API cannot start: {error}")
    log_line(server="api", event="loaded", seconds=round(time.perf_counter() - begun, 2))
    uvicorn.run(
        app,
        host=settings.bind_host,
        port=settings.api_port,
        log_level="warning",
        access_log=False,  # there is one line per request already
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


if __name__ == "__main__":
    main()
