"""The dashboard: what the shop's people see of forecasts, texts, customers and the market.

    python -m workshop_lib.orchestration.dashboard

One page per language, ``/en/`` and ``/es/``; the address alone leads to the one of the settings, or to
``/?lang=es``. Probes ask ``/health/live`` and ``/health/ready``. Nothing on the page comes from another host.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import gradio as gr
import uvicorn
from fastapi import FastAPI, Query, Response
from fastapi.responses import FileResponse, RedirectResponse
from markupsafe import Markup
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from workshop_lib.data import DataError
from workshop_lib.orchestration import dashboard_assistant as assistant
from workshop_lib.orchestration import dashboard_content as content
from workshop_lib.orchestration import dashboard_customers as customers
from workshop_lib.orchestration import dashboard_forecast as forecast
from workshop_lib.orchestration import dashboard_market as market
from workshop_lib.orchestration import dashboard_page as page
from workshop_lib.orchestration import dashboard_system as system
from workshop_lib.orchestration.dashboard_login import STYLE, Door, LoginError, login_of
from workshop_lib.orchestration.dashboard_parts import Parts, load_parts
from workshop_lib.orchestration.labels import LANGUAGES, Labels
from workshop_lib.settings import Settings, settings

WAITING = 64
"""Events that may wait in the queue; more are turned away with a sentence."""
GRACE_SECONDS = 5
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#0b5cad"/>'
    '<path d="M3 11l3-4 3 2 4-5" fill="none" stroke="#fff" stroke-width="2"/></svg>'
)


def build(parts: Parts, say: Labels, watch: system.Watch | None = None, login: bool = False) -> gr.Blocks:
    """The page in one language.

    Args:
        parts: data, models and chains.
        say: labels.
        watch: asks the services for several pages; one of its own by default.
        login: whether to offer a way out.
    """
    watch = watch or system.Watch(parts.targets)
    with gr.Blocks(title=say("page.title"), analytics_enabled=False, fill_width=True) as blocks:
        page.html("top", _top(say, login))
        state = page.html("state", classes=["live"])
        session = assistant.browser_session()
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap"):
            with gr.Tab(say("forecast.tab"), id="forecast"):
                forecast.add(blocks, parts, say)
            with gr.Tab(say("content.tab"), id="content"):
                content.add(parts, say)
            with gr.Tab(say("customers.tab"), id="customers") as tab:
                customers.add(tab, parts, say)
            with gr.Tab(say("market.tab"), id="market") as tab:
                market.add(tab, parts, say)
            with gr.Tab(say("assistant.tab"), id="assistant"):
                assistant.add(blocks, session, parts, say)
            with gr.Tab(say("system.tab"), id="system") as tab:
                system.add(tab, blocks, parts, say, watch, state)
    return blocks.queue(max_size=WAITING, api_open=False)


def _top(say: Labels, login: bool) -> Markup:
    other = next(language for language in LANGUAGES if language != say.language)
    leave = Markup('<form method="post" action="/logout"><button>{}</button></form>').format(say("login.leave"))
    return Markup(
        '<header class="top"><h1>{title}</h1><p>{lead}</p>'
        '<nav aria-label="{nav}"><a href="/{other}/" hreflang="{other}" lang="{other}">{name}</a>{leave}</nav></header>'
    ).format(
        title=say("page.title"), lead=say("page.lead"), nav=say("page.nav"), other=other,
        name=say("page.other_language"), leave=leave if login else "",
    )  # fmt: skip


def create_app(parts: Parts | None = None, given: Settings = settings) -> FastAPI:
    """The application: the pages, the door before them, and addresses for probes.

    Args:
        parts: data, models and chains; loaded by default.
        given: settings of login, language and address.

    Raises:
        LoginError: when the settings for the login do not fit together.
        DataError: when the data cannot be used.
    """
    login = login_of(given)
    parts = parts or load_parts()
    watch = system.Watch(parts.targets)
    app = FastAPI(title="Dashboard", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """Whether the process answers; if not, restart it."""
        return {"status": "ok"}

    @app.get("/health/ready")
    async def ready() -> dict[str, str]:
        """Whether it can show pages. It can as soon as it answers: a model that is away is shown as such."""
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics() -> Response:
        """What Prometheus collects: memory, processor time and open files of the process."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/style.css")
    async def style() -> FileResponse:
        return FileResponse(STYLE, media_type="text/css")

    @app.get("/favicon.ico")
    async def icon() -> Response:
        return Response(ICON, media_type="image/svg+xml")

    @app.get("/")
    async def start(lang: Annotated[str, Query(max_length=10)] = given.lang) -> RedirectResponse:
        return RedirectResponse(f"/{lang if lang in LANGUAGES else given.lang}/", 303)

    for language in LANGUAGES:
        say = Labels(language)
        gr.mount_gradio_app(
            app,
            build(parts, say, watch, login=login is not None),
            path=f"/{language}",
            server_name=given.bind_host,
            server_port=given.dashboard_port,
            theme=page.theme(),
            css_paths=[page.CSS],
            head=page.head(say),
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            mcp_server=False,
            ssr_mode=False,
            pwa=False,
            show_error=False,
            max_file_size="1kb",
        )
    app.add_middleware(Door, login=login, language=given.lang)
    return app


def main() -> None:
    """Load everything and serve it."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line per probe says nothing
    try:
        app = create_app()
    except (LoginError, DataError) as error:
        sys.exit(f"The dashboard cannot start: {error}")
    uvicorn.run(
        app,
        host=settings.bind_host,
        port=settings.dashboard_port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


if __name__ == "__main__":
    main()
