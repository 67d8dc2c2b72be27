"""The whole system once more, with a door before each dependency that can be told to misbehave.

    stand = Stand()
    with broken(stand.api, "dead"):
        stand.doors.product.invoke({"category": "EGGS", "language": "es"})
    stand.close()

    product, customer, market chain, assistant ──┬── proxy ── a second business API ── proxy ── forecaster
                                                 ├── proxy ── language model
                                                 └── files: last known answers, conversations, traces

The forecaster and the language model are the course's own, and so is the data. The second API, the proxies and the
files belong to the stand: what it breaks, nobody else uses.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import mlflow

from workshop_lib import processes
from workshop_lib.generative import client as llm_client
from workshop_lib.generative.client import LLM
from workshop_lib.orchestration import models, tracing
from workshop_lib.orchestration.faults import FileFault, Proxy, broken_file
from workshop_lib.orchestration.last_known import LastKnown
from workshop_lib.orchestration.memory import Memory
from workshop_lib.orchestration.scenarios import Doors
from workshop_lib.orchestration.shop import load_shop
from workshop_lib.ports import free_port
from workshop_lib.processes import Service
from workshop_lib.serving import api_client, forecaster_client
from workshop_lib.serving.routing import Backend, Routes, write_routes
from workshop_lib.settings import settings


class Stand:
    """A system whose parts can be broken. Time-outs are short: nobody wants to wait long for an experiment.

    Its API starts in the background; ``wait()`` and ``doors`` wait for it.

    Args:
        timeout: longest wait for a forecast or a score, seconds; the second API waits half of it for the forecaster.
        text_timeout: longest wait for a text, seconds.
        attempts: calls of a model at most.
        llm: the language model; the course's by default.

    Raises:
        ServiceError: when a local server cannot be started.
    """

    def __init__(
        self, timeout: float = 1.5, text_timeout: float = 4.0, attempts: int = 2, llm: LLM | None = None
    ) -> None:
        folder = settings.assistant_dir / "faults"
        shutil.rmtree(folder, ignore_errors=True)  # what an experiment before this one kept
        folder.mkdir(parents=True)
        endpoint, llm = forecaster_client.connect(), llm or llm_client.connect()
        self._stack = ExitStack()
        self.forecaster = self._stack.enter_context(Proxy(endpoint.url, settings.forecaster_ca_file))
        self.llm = self._stack.enter_context(Proxy(llm.url, settings.llm_ca_file))
        routes = folder / "routes.json"
        write_routes(Routes(backends=(Backend(name="proxy", url=self.forecaster.url),)), routes)
        env = {"WORKSHOP_FORECASTER_ROUTES": str(routes), "WORKSHOP_FORECASTER_TIMEOUT": str(timeout / 2)}
        self.service = api_client.api_service("api-fault-stand", free_port(), env)
        processes.stop(self.service)  # one that is left over
        self._stack.callback(processes.stop, self.service)
        # It takes seconds, in which the caller may do other things.
        self._started = self._stack.enter_context(ThreadPoolExecutor(1)).submit(processes.start, self.service)
        self.api = self._stack.enter_context(Proxy(self.service.url))
        self.store, self.memory = LastKnown(folder / "last_known.db"), Memory(folder / "conversations.db")
        self.traces = folder / "traces.db"
        self._doors = Doors(
            models.build(
                api_url=self.api.url,
                api_headers={"X-API-Key": api_client.api_key()},
                llm_url=self.llm.url,
                llm_model=llm.model,
                llm_key=str(llm.openai.api_key),
                store=self.store,
                timeout=timeout,
                text_timeout=text_timeout,
                attempts=attempts,
            ),
            load_shop(),
            self.memory,
        )

    @property
    def doors(self) -> Doors:
        """The ways into this system.

        Raises:
            ServiceError: when its API could not be started.
        """
        self.wait()
        return self._doors

    def wait(self) -> None:
        """Wait until its API has started.

        Raises:
            ServiceError: when it could not be started.
        """
        self._started.result()

    def close(self) -> None:
        """Stop what belongs to the stand."""
        self._stack.close()

    @contextmanager
    def broken_store(self, fault: FileFault) -> Iterator[None]:
        """Break the file of last known answers within the block."""
        with _quiet("workshop_lib.orchestration.last_known"), broken_file(self.store.path, fault):
            yield

    @contextmanager
    def broken_traces(self, fault: FileFault) -> Iterator[None]:
        """Keep traces in a store of the stand's own within the block, and break that store."""
        _copy_store(self.traces)
        try:
            mlflow.set_tracking_uri(f"sqlite:///{self.traces}")
            mlflow.set_experiment(tracing.EXPERIMENT)
            mlflow.langchain.autolog(silent=True)
            with _quiet("mlflow"):
                with broken_file(self.traces, fault):
                    yield
                mlflow.flush_trace_async_logging()  # what waits for the store gets through now, or is given up
        finally:
            mlflow.langchain.autolog(disable=True, silent=True)
            mlflow.set_tracking_uri(settings.tracking_uri)


@contextmanager
def killed(service: Service) -> Iterator[None]:
    """End a service's process without a warning, and start it again at the end of the block."""
    pid = processes.status(service).pid
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    try:
        yield
    finally:
        processes.start(service)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Log nothing of a part within the block: it would report, rightly, each thing that it cannot keep."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _copy_store(target: Path) -> None:
    """The local MLflow's database as it is now; a new one takes MLflow some seconds."""
    source = settings.tracking_uri.removeprefix("sqlite:///")
    if source != settings.tracking_uri and Path(source).exists():
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
            old.backup(new)
