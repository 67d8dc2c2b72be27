"""The local service of module 5, as :mod:`workshop_lib.processes` starts it. Quick to import."""

from __future__ import annotations

import sys
from pathlib import Path

from workshop_lib.processes import Service
from workshop_lib.settings import settings


def monitor_service(
    name: str = "monitor", port: int | None = None, env: dict[str, str] | None = None, record: Path | None = None
) -> Service:
    """The monitor as a local service.

    Args:
        name: of the service; two at once need two names.
        port: where it listens; ``settings.monitor_port`` by default.
        env: further variables, such as other endpoints to watch.
        record: where it keeps its checks; two at once need two files.
    """
    port = port or settings.monitor_port
    return Service(
        name=name,
        port=port,
        command=(
            sys.executable, "-m", "workshop_lib.monitoring.monitor",
            *(["--record", str(record)] if record else []),
        ),
        health="/health/live",
        env={"WORKSHOP_MONITOR_PORT": str(port), **(env or {})},
        memory_gib=0.6,
    )  # fmt: skip
