"""A folder to practise a request on: copies of the prepared tables, and stores that the product itself has filled.

    home, found = set_up([1, 7])
    ask(home, "erase", 1, "--actor", "olga", "--reason", "exercise")

What is erased there is gone from the copy only; the learner's own data stays as it is.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from workshop_lib import data
from workshop_lib.mlops import privacy
from workshop_lib.orchestration.last_known import LastKnown
from workshop_lib.orchestration.memory import Memory, new_session
from workshop_lib.serving import history, prediction_log
from workshop_lib.serving.api_schemas import ChurnResponse
from workshop_lib.serving.cache import Asked, Cache
from workshop_lib.serving.cache_seal import seal_key
from workshop_lib.serving.cache_tiers import MemoryTier, SqlTier
from workshop_lib.serving.feedback import EVENTS, FORECASTS
from workshop_lib.settings import ROOT, settings

WAIT_SECONDS = 2.0
"""Longest wait for the practice folder's database."""


def practice_home() -> Path:
    """Where the lesson practises."""
    return settings.home / "mlops" / "governance" / "practice"


def set_up(households: Sequence[int | str]) -> tuple[Path, dict[str, Any]]:
    """Make the practice folder anew and let the product answer questions about some households there.

    Args:
        households: numbers of households that shopped lately; the first one is searched for.

    Returns:
        The folder, laid out like the course's own, and what :func:`workshop_lib.mlops.privacy.told` says.
    """
    from workshop_lib.serving.households import Households  # the process that fills the stores needs no model

    home = practice_home()
    shutil.rmtree(home, ignore_errors=True)
    data.prepared()
    shutil.copytree(settings.data_dir, home / settings.data_dir.name)
    model = Households()
    scored = [model.by_id(household).model_dump(mode="json") for household in households]
    told = _run(home, "workshop_lib.mlops.privacy_practice", text=json.dumps(scored))
    return home, json.loads(told)


def ask(home: Path, what: str, household: int | str, *options: str) -> Any:
    """Call the command of :mod:`workshop_lib.mlops.privacy` on a home folder, and return what it printed.

    Raises:
        subprocess.CalledProcessError: when it fails; its words stand in the exception's ``stderr``.
    """
    return json.loads(_run(home, "workshop_lib.mlops.privacy", what, str(household), *options))


def _run(home: Path, module: str, *arguments: str, text: str | None = None) -> str:
    """A process that takes another folder for the course's home; a shared database stays out of its reach."""
    services = home / "services"
    environment = os.environ | {
        "WORKSHOP_HOME": str(home), "WORKSHOP_HISTORY_URL": f"sqlite:///{services / 'history.db'}",
        "WORKSHOP_PREDICTION_LOG": str(services / "predictions"), "WORKSHOP_PROGRESS": "false", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True, env=environment, cwd=ROOT)
    return done.stdout


def fill(scored: Sequence[ChurnResponse]) -> None:
    """Let everything that keeps scores keep some: the API's history and log, the assistant's memory."""
    asyncio.run(_keep(scored))
    assert settings.prediction_log is not None  # _run has set it
    log = prediction_log.PredictionLog(settings.prediction_log, settings.prediction_log_days)
    for churn in scored:
        log.churn({"request_id": new_session(), "key": "practice"}, churn)
        LastKnown().save("churn", json.dumps({"household_id": churn.household_id}), churn.model_dump_json())
        route = {"chain": "customer", "question": {"household_id": churn.household_id, "language": "en"}}
        asked = f"Is household {churn.household_id} about to leave?"
        said = f"Household {churn.household_id} leaves with a probability of {churn.probability:.0%}."
        Memory().add(new_session(), asked, said, route)


async def _keep(scored: Iterable[ChurnResponse]) -> None:
    """Answers go through the cache of the business API, which keeps them in its history."""
    engine = history.connect()
    # All at once and before: writing an answer has a time limit.
    history.make_tables(engine, EVENTS, FORECASTS, history.METADATA.tables["answers"])
    cache = Cache(MemoryTier(settings.cache_entries), None, SqlTier(engine, WAIT_SECONDS), seal_key("practice"))
    for churn in scored:

        async def make(answer: ChurnResponse = churn) -> tuple[ChurnResponse, float]:
            return answer, settings.cache_shortest

        number, version = str(churn.household_id), str(churn.model.version)
        key = Asked("churn", number, {"household": number, "version": version}, version, quick=True)
        await cache.answer(key, ChurnResponse, make)
    await cache.close()


if __name__ == "__main__":
    given = [ChurnResponse.model_validate(one) for one in json.load(sys.stdin)]
    fill(given)
    sys.stdout.write(privacy.told(str(given[0].household_id)))
