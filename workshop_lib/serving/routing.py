"""Which version of the forecaster answers: weighted backends, rules and a shadow, in one file.

The file is the local counterpart of a Route with weighted backends on a cluster. Whoever releases writes
it; servers in front of the forecaster read it again as soon as it changes, without a restart:

    write_routes(Routes(backends=[Backend(name="blue", url="http://127.0.0.1:8200")]))
    router = Router()
    router.choose("request-1").url
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from workshop_lib.files import write_text
from workshop_lib.ports import HOST
from workshop_lib.settings import settings


class RoutesError(ValueError):
    """The file with the routes cannot be used; the message names the field and what it accepts."""


class Backend(BaseModel):
    """One running version of the forecaster."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, description="how logs and metrics call it")
    url: str = Field(pattern=r"^https?://[^/\s]+", description="base address, without /v2")
    weight: float = Field(
        100, ge=0, allow_inf_nan=False, description="its share of the traffic, relative to the other weights"
    )


class Rule(BaseModel):
    """A feature flag: requests about certain categories go to one backend, whatever the weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: str = Field(description="name of the backend")
    categories: frozenset[str] = Field(description="product categories that it applies to")


class Routes(BaseModel):
    """All versions in use. ``shadow`` names a backend that gets copies of requests, whose answers nobody sees."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backends: tuple[Backend, ...] = Field(min_length=1)
    rules: tuple[Rule, ...] = ()
    shadow: Backend | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Routes:
        names = [backend.name for backend in self.backends]
        if len(set(names)) < len(names):
            raise ValueError(f"backends: names must differ, got {', '.join(names)}")
        unknown = {rule.backend for rule in self.rules} - set(names)
        if unknown:
            raise ValueError(f"rules: no backend is called {', '.join(sorted(unknown))}")
        if not any(backend.weight > 0 for backend in self.backends):
            raise ValueError("backends: at least one weight must be above 0")
        return self

    def choose(self, key: str, category: str | None = None) -> Backend:
        """The backend for a request.

        The same key always gets the same backend as long as the weights stay: a share of the *keys* is moved,
        not a share of coin tosses, so a customer does not flip between versions.

        Args:
            key: what identifies the caller or the request.
            category: product category, for the rules.
        """
        for rule in self.rules:
            if category in rule.categories:
                return next(backend for backend in self.backends if backend.name == rule.backend)
        point = _point(key) * sum(backend.weight for backend in self.backends)
        for backend in self.backends:
            point -= backend.weight
            if point < 0:
                return backend
        return next(backend for backend in reversed(self.backends) if backend.weight > 0)


def _point(key: str) -> float:
    """A number in [0, 1) that looks random and depends on the key alone."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) / 2**64


def default_routes() -> Routes:
    """All traffic to the configured endpoint, or to the local server."""
    url = settings.forecaster_endpoint or f"http://{HOST}:{settings.forecaster_port}"
    return Routes(backends=(Backend(name="champion", url=url),))


def read_routes(path: Path | None = None) -> Routes:
    """The routes in use; the default ones when there is no file.

    Raises:
        RoutesError: when the file is not usable.
    """
    path = path or settings.routes_file
    try:
        return Routes.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return default_routes()
    except (OSError, ValidationError) as error:
        problems = (
            [f"{'.'.join(map(str, problem['loc'])) or 'file'}: {problem['msg']}" for problem in error.errors()]
            if isinstance(error, ValidationError)
            else [str(error)]
        )
        raise RoutesError(f"{path} is not usable: {'; '.join(problems)}") from error


def write_routes(routes: Routes, path: Path | None = None) -> None:
    """Put routes into force: readers see the old file or the new one, never half of it."""
    write_text(path or settings.routes_file, routes.model_dump_json(indent=1))


def set_weights(weights: Mapping[str, float], path: Path | None = None) -> Routes:
    """Change the shares of the backends in force and return the new routes.

    Raises:
        RoutesError: for a name that is no backend, or weights that sum to zero.
    """
    now = read_routes(path)
    unknown = set(weights) - {backend.name for backend in now.backends}
    if unknown:
        raise RoutesError(f"No backend is called {', '.join(sorted(unknown))}.")
    backends = [
        {**backend.model_dump(), "weight": weights.get(backend.name, backend.weight)} for backend in now.backends
    ]
    try:
        routes = Routes.model_validate({**now.model_dump(), "backends": backends})
    except ValidationError as error:
        raise RoutesError(error.errors()[0]["msg"]) from error
    write_routes(routes, path)
    return routes


class Router:
    """The routes in force, read again when their file changes.

    A file that becomes unusable leaves the last good routes in force; ``problem`` says what is wrong with it.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or settings.routes_file
        self.problem = ""
        self._seen = self._stamp()  # before reading: a change in between is then noticed at the next request
        self._routes = read_routes(self._path)

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino  # a file renamed into place has a number of its own

    @property
    def routes(self) -> Routes:
        """The routes now."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            try:
                self._routes, self.problem = read_routes(self._path), ""
            except RoutesError as error:
                self.problem = str(error)
        return self._routes

    def choose(self, key: str, category: str | None = None) -> Backend:
        """The backend for a request; see :meth:`Routes.choose`."""
        return self.routes.choose(key, category)
