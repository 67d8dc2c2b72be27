"""Servers follow the registry: a new champion answers soon after its alias moved, without a restart."""

from __future__ import annotations

import asyncio
from typing import Protocol

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from workshop_lib.serving.envelope import log_line


class Followed(Protocol):
    """A part of a server that has one registered version loaded at a time."""

    @property
    def version(self) -> str:
        """Number in the registry of the version that is loaded."""

    def is_outdated(self) -> bool:
        """Whether the registry names another version."""

    def load(self) -> object:
        """Load the version that the registry names now; the one in use answers until the new one is ready."""


async def follow(part: Followed, name: str, server: str, seconds: float) -> None:
    """Load each new version, for ever; one that fails leaves the last one.

    Args:
        part: what follows.
        name: of its model, for the log.
        server: for the log.
        seconds: between two looks at the registry.
    """
    while True:
        await asyncio.sleep(seconds)
        try:
            if await asyncio.to_thread(part.is_outdated):
                before = part.version
                await asyncio.to_thread(part.load)
                log_line(server=server, event="reloaded", model=name, version=part.version, before=before)
        # A registry that is away or a version that cannot be used: the one that is loaded goes on answering.
        except (MlflowException, SQLAlchemyError, OSError, RuntimeError, ValueError) as error:
            log_line(server=server, event="reload failed", model=name, reason=f"{type(error).__name__}: {error}")
