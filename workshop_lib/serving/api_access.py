"""Who may ask the business API what, and how much of it: keys with roles, rates and budgets.

It takes the place of :class:`workshop_lib.serving.api_middleware.ApiKey` where ``settings.api_keys_file`` is set. The
order of the checks is the order of the answers: 401 for an unknown or ended key, 403 for a path that the role does not
have, 429 for too many requests. The budget of answers is charged later, when it is known how many are asked for.

Each process counts for itself: with several replicas an owner gets the limits several times.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from prometheus_client import Counter

from workshop_lib.serving.api_errors import Problem
from workshop_lib.serving.api_keys import KeyRing, Role
from workshop_lib.serving.api_middleware import KEY_HEADER, REJECTED, send_problem
from workshop_lib.serving.envelope import App, Receive, Scope, Send

DAY = 86_400
KEY_REQUESTS = Counter("api_key_requests_total", "Requests that were let in by each key", ["key"])


@dataclass
class Bucket:
    """A token bucket: it fills at a steady rate up to its size, and each thing taken costs a token."""

    taken: float = 0
    """Tokens that are missing now."""
    at: float = field(default_factory=time.monotonic)

    def take(self, tokens: float, size: float, per_second: float, now: float) -> float:
        """Take tokens, or none when there are too few.

        Returns:
            Seconds until there will be enough; 0 when they were taken.
        """
        self.taken, self.at = max(0.0, self.taken - (now - self.at) * per_second), now
        short = self.taken + tokens - size
        if short > 0:
            return short / per_second
        self.taken += tokens
        return 0.0


class Budget:
    """What is left for the owner of a key today.

    Args:
        bucket: of the owner.
        role: with the limit.
    """

    def __init__(self, bucket: Bucket, role: Role) -> None:
        self._bucket, self._role = bucket, role

    def charge(self, answers: int) -> None:
        """Take some answers out of the budget.

        Raises:
            Problem: 429 when there are not so many left.
        """
        limit = self._role.answers_per_day
        if limit is None:
            return
        wait = self._bucket.take(answers, limit, limit / DAY, time.monotonic())
        if wait:
            REJECTED.labels("budget").inc()
            raise Problem(429, f"This key's owner gets {limit} answers a day; so many are not left.", math.ceil(wait))


class Access:
    """Let in who shows a key of the file, to the paths and at the rate of its role.

    Args:
        app: what is inside; finds a :class:`Budget` in ``scope["budget"]``.
        ring: the keys.
        open_paths: paths that need no key.
    """

    def __init__(self, app: App, ring: KeyRing, open_paths: Collection[str]) -> None:
        self._app, self._ring, self._open = app, ring, frozenset(open_paths)
        self._rates: dict[str, Bucket] = {}
        self._budgets: dict[str, Bucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] in self._open:
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == KEY_HEADER), b"")
        found = self._ring.find(given)
        if found is None:
            REJECTED.labels("key").inc()
            detail = "The header X-API-Key is missing." if not given else "The header X-API-Key has a wrong key."
            await send_problem(scope, send, 401, detail, headers={"WWW-Authenticate": "ApiKey"})
            return
        key, role = found
        scope["trace"]["key"] = key.id
        if not role.allows(scope["path"]):
            REJECTED.labels("role").inc()
            await send_problem(scope, send, 403, f"The role {key.role} may not call this path.")
            return
        wait = self._wait(key.owner, role)
        if wait:
            REJECTED.labels("rate").inc()
            detail = f"This key's owner may send {role.per_minute} requests a minute."
            await send_problem(scope, send, 429, detail, retry=math.ceil(wait))
            return
        KEY_REQUESTS.labels(key.id).inc()
        scope["budget"] = Budget(self._budgets.setdefault(key.owner, Bucket()), role)
        await self._app(scope, receive, send)

    def _wait(self, owner: str, role: Role) -> float:
        """Seconds until an owner may send the next request; 0 for now."""
        if role.per_minute is None:
            return 0.0
        bucket = self._rates.setdefault(owner, Bucket())
        return bucket.take(1, role.burst, role.per_minute / 60, time.monotonic())
