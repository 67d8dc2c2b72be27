"""The local service of module 4, as :mod:`workshop_lib.processes` starts it. Quick to import."""

from __future__ import annotations

import sys

from workshop_lib.processes import Service
from workshop_lib.settings import settings


def dashboard_service(name: str = "dashboard", port: int | None = None, env: dict[str, str] | None = None) -> Service:
    """The dashboard as a local service.

    Args:
        name: of the service; two at once need two names.
        port: where it listens; ``settings.dashboard_port`` by default.
        env: further variables, such as other settings for a second one.
    """
    port = port or settings.dashboard_port
    return Service(
        name=name,
        port=port,
        command=(sys.executable, "-m", "workshop_lib.orchestration.dashboard"),
        health="/health/live",
        env={"WORKSHOP_DASHBOARD_PORT": str(port), **(env or {})},
        memory_gib=1.5,  # after its first questions; half of it at the start
    )
