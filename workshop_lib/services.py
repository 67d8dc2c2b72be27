"""The course's local services, in the order in which ``./workshop up`` starts them."""

from __future__ import annotations

import sys

from workshop_lib.generative.server import llm_server
from workshop_lib.monitoring.local import monitor_service
from workshop_lib.orchestration.local import dashboard_service
from workshop_lib.ports import HOST
from workshop_lib.processes import Service
from workshop_lib.serving.api_client import api_service
from workshop_lib.serving.local import cache_service, forecaster_service
from workshop_lib.settings import settings


def services() -> list[Service]:
    """The services that ``./workshop up`` starts; one whose endpoint is set is not among them."""
    tracking_elsewhere = settings.mlflow_uri and settings.mlflow_uri.startswith("http")
    return [
        *([] if tracking_elsewhere else [mlflow_server()]),
        *([] if settings.llm_endpoint else [llm_server()]),
        *([] if settings.forecaster_endpoint else [forecaster_service()]),
        *([] if settings.cache_url else [cache_service()]),
        *([] if settings.api_endpoint else [api_service()]),
        dashboard_service(),
        monitor_service(),
    ]


def mlflow_server() -> Service:
    """The MLflow server with its web pages, on the course's local store."""
    return Service(
        name="mlflow",
        port=settings.mlflow_port,
        command=(
            sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(settings.mlflow_port),
            "--workers", "1", "--backend-store-uri", settings.tracking_uri,
            "--default-artifact-root", str(settings.mlflow_dir / "artifacts"),
        ),
        health="/health",
        prepare=_make_mlflow_folder,
    )  # fmt: skip


def _make_mlflow_folder() -> dict[str, str]:
    settings.mlflow_dir.mkdir(parents=True, exist_ok=True)
    return {}
