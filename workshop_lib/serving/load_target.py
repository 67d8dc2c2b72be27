"""What a load asks, of whom, and how it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class LoadError(RuntimeError):
    """A load could not be carried out; the message says why."""


@dataclass(frozen=True)
class Target:
    """What is asked, of whom."""

    url: str
    bodies: Sequence[str] = ()
    """Sent in turn."""
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    """``{number}`` in a value becomes the request's number, as in ``{"X-Request-ID": "load-{number}"}``; not by wrk."""
    tag: str = ""
    """Place in a JSON answer, such as ``model_version`` or ``outputs.0.name``, whose value is kept per request."""
    ca_file: str = ""
    """Certificate authority of an https address, a PEM file; wrk checks no certificates."""
    timeout: float = 10
    """Longest wait for an answer after it was sent, seconds."""
