"""A business API with everything of this module switched on, to attack without disturbing anybody.

with Stand() as stand:
    stand.ask("dashboard", "/churn", {"household_id": 1})
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from types import TracebackType

import httpx

from workshop_lib import processes
from workshop_lib.serving import api_client, forecaster_client
from workshop_lib.serving.api_client import Api
from workshop_lib.serving.api_keys import KeysFile, Role, add_key, write_keys
from workshop_lib.settings import settings

ROLES = {
    "app": Role(paths=("*",)),
    "forecasts": Role(paths=("/forecast",), per_minute=30, burst=5),
    "partner": Role(paths=("/churn",), answers_per_day=200),
}
"""``app``: our own programs. ``forecasts``: somebody who needs one thing, now and then. ``partner``: a company that may
score its customers, so many a day."""
OWNERS = {"dashboard": "app", "supplier": "forecasts", "partner": "partner", "second-partner": "partner"}
"""Who has a key, and of which role."""


class Stand:
    """The forecaster and a business API with keys, guard and log. Log and keys begin anew.

    Raises:
        ServiceError: when a server cannot be started.
    """

    def __init__(self) -> None:
        forecaster_client.connect()
        folder = settings.home / "mlops" / "security"
        shutil.rmtree(folder, ignore_errors=True)
        self.keys_file, self.log = folder / "api-keys.json", folder / "predictions"
        write_keys(self.keys_file, KeysFile(roles=ROLES))
        self.keys = {owner: add_key(self.keys_file, f"{owner}-1", owner, role) for owner, role in OWNERS.items()}
        env = {
            "WORKSHOP_API_KEYS_FILE": str(self.keys_file),
            "WORKSHOP_PREDICTION_LOG": str(self.log),
            "WORKSHOP_INPUT_GUARD": "on",
        }
        self._service = api_client.start_another("api-security", env)

    def __enter__(self) -> Stand:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def api(self, owner: str) -> Api:
        """How one of :data:`OWNERS` reaches the API; whoever is none has a key that somebody made up."""
        return Api(self._service.url, {"X-API-Key": self.keys.get(owner, "made-up")})

    def ask(self, owner: str, path: str, body: Mapping[str, object]) -> httpx.Response:
        """One question."""
        api = self.api(owner)
        return httpx.post(f"{api.url}{path}", json=dict(body), headers=api.headers, timeout=30)

    def close(self) -> None:
        """Stop the API; the forecaster is shared and stays."""
        processes.stop(self._service)
