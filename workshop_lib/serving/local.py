"""The local services of module 3, as :mod:`workshop_lib.processes` starts them. Quick to import."""

from __future__ import annotations

import sys

from workshop_lib.processes import Service
from workshop_lib.settings import settings


def forecaster_service(
    model: str | None = None, name: str = "forecaster", http_port: int | None = None, grpc_port: int | None = None
) -> Service:
    """The forecaster's server as a local service.

    Args:
        model: what to serve; the default follows the champion, any other address stays as it is.
        name: of the service; two servers at once need two names.
        http_port: where it listens; ``settings.forecaster_port`` by default.
        grpc_port: likewise.
    """
    port = http_port or settings.forecaster_port
    options = ["--http-port", str(port), "--grpc-port", str(grpc_port or settings.forecaster_grpc_port)]
    return Service(
        name=name,
        port=port,
        command=(
            sys.executable, "-m", "workshop_lib.serving.forecaster_server", *options,
            *(["--model", model, "--no-reload"] if model else []),
        ),
        health="/v2/health/ready",
        prepare=_make_champion,
        memory_gib=1,
    )  # fmt: skip


def _make_champion() -> dict[str, str]:
    """Train a champion where there is none: the server itself would be waited for in vain."""
    from workshop_lib.predictive.champion import ensure_champion  # seconds of imports that only a start needs

    ensure_champion()
    return {}
