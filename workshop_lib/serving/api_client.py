"""How to reach the business API: the local service or the configured address, and the key.

    api = connect()
    httpx.post(f"{api.url}/forecast", json={…}, headers=api.headers)

Quick to import: nothing of the server itself is loaded.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from workshop_lib import processes
from workshop_lib.files import secret
from workshop_lib.ports import free_port
from workshop_lib.processes import Service
from workshop_lib.settings import settings


@dataclass(frozen=True)
class Api:
    """Where the business API answers, and what it asks for."""

    url: str
    headers: dict[str, str]
    """The header with the key."""


def api_key() -> str:
    """The key of the settings, or one made at random once, readable by its owner only."""
    if settings.api_key:
        return settings.api_key.get_secret_value()
    return secret(settings.home / "services" / "api-key.txt")


def api_service(name: str = "api", port: int | None = None, env: dict[str, str] | None = None) -> Service:
    """The business API as a local service.

    Args:
        name: of the service; two at once need two names.
        port: where it listens; ``settings.api_port`` by default.
        env: further variables, such as other settings for a second one.
    """
    port = port or settings.api_port
    return Service(
        name=name,
        port=port,
        command=(sys.executable, "-m", "workshop_lib.serving.api"),
        health="/health/live",
        env={"WORKSHOP_API_PORT": str(port), **(env or {})},
        prepare=_make_models,
        memory_gib=1.3,  # its start, which reads a year of sales lines; afterwards it takes two thirds of that
    )


def _make_models() -> dict[str, str]:
    """Train the champions where there are none: that takes longer than a start may."""
    from workshop_lib.predictive.champion import ensure_champion  # seconds of imports that only a start needs
    from workshop_lib.serving import households

    ensure_champion()
    households.ensure_champion()
    return {}


def connect() -> Api:
    """The configured business API, or the local one; it and the forecaster are started when they do not run.

    Raises:
        ServiceError: when a local server cannot be started.
    """
    headers = {"X-API-Key": api_key()}
    if settings.api_endpoint:
        return Api(settings.api_endpoint, headers)
    if not settings.forecaster_endpoint:
        from workshop_lib.serving.local import forecaster_service

        processes.start_with_progress(forecaster_service())
    service = api_service()
    processes.start_with_progress(service)
    return Api(service.url, headers)


def start_another(name: str, env: dict[str, str]) -> Service:
    """Start a second business API with other settings on a free port.

    Args:
        name: of the service; ``processes.stop`` ends it.
        env: its settings, such as ``{"WORKSHOP_API_CONCURRENCY": "8"}``.

    Raises:
        ServiceError: when it cannot be started.
    """
    service = api_service(name, free_port(), env)
    processes.stop(service)  # one of the same name, left over with other settings
    processes.start_with_progress(service)
    return service
