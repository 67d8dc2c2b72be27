"""A place for canaries: two real versions of the forecaster and more, callers, a till, and a real Prometheus.

    with open_stand() as stand:
        good, bad = stand.run("good"), stand.run("failing")
    bad.decision, bad.bad_requests

Steps, queries and conditions come from ``ab_testing.yaml``. What is different from a cluster, and by which rule:

* the label that tells the versions apart is the API's ``backend`` in place of Prometheus's ``job``, because one API
  with weighted routes stands in for two behind a Route;
* durations below a day shrink so that a minute lasts :data:`MINUTE`; the window of the queries with them;
* an answer counts as slow from :data:`SLOW` on, because callers, servers and Prometheus share one small machine;
* durations of a day and more shrink so that a day lasts as long as the callers need to ask for all categories once;
  they ask for every second one, largest first, and for two days of the shop at a time;
* where Argo Rollouts would stop and wait for a person, nobody is there: the step is measured again, and after
  :data:`TRIES` times without a result the canary goes back.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import httpx
import numpy as np
import pandas as pd
from prometheus_client import start_http_server

from workshop_lib import data
from workshop_lib.files import locked
from workshop_lib.mlops.canary import Analysis, Ask, Pace, analyse, read_plan
from workshop_lib.mlops.canary_run import CanaryRun, Shift, members
from workshop_lib.mlops.judge import Judge, registry
from workshop_lib.monitoring.forecast_quality import settled_forecasts
from workshop_lib.monitoring.prometheus import (
    JOBS,
    LocalPrometheus,
    PrometheusError,
    Target,
    need_tools,
    start_prometheus,
)
from workshop_lib.monitoring.replay_feedback import forecast_categories, tell_sales
from workshop_lib.orchestration.faults import Proxy
from workshop_lib.ports import HOST, free_port
from workshop_lib.predictive.champion import EXPERIMENT, find_version, load_package, register_forecaster
from workshop_lib.predictive.forecaster import Trained, gradient_boosting, make_dataset
from workshop_lib.predictive.tracking import FORECASTER, use_tracking
from workshop_lib.serving import history
from workshop_lib.serving.api_client import Api, api_key
from workshop_lib.serving.feedback import FORECASTS
from workshop_lib.serving.release import Server, Stage, challenger, champion, open_stage
from workshop_lib.settings import settings

Kind = Literal["good", "slower", "less accurate", "failing"]
KINDS: tuple[Kind, ...] = get_args(Kind)
RATE = 20
"""Requests per second of the callers."""
MINUTE = 2.0
"""Seconds that a minute of the file takes."""
SCRAPE_SECONDS = 0.5
LAG = 2.0
"""Seconds for what no duration names: scraping, asking, telling the sales, changing the weights."""
PATIENCE = 10.0
"""Seconds to wait for sales that are late, and for a machine that is busy."""
TRIES = 3
CALM = 0.95
"""Share of the answers of the version in service that are not slow, before a canary begins."""
JUDGE = "forecast-judge"
DAYS = 32
"""Days that are forecast, one pair after the other: the first ones that no version has seen in training."""
SLOW = "1.0"
"""Seconds, as the histogram's bucket is called."""
DELAY_SECONDS = 1.25
"""By which the slower version is slower; within what the API waits for a forecaster."""
_API = {"WORKSHOP_CACHE": "false", "WORKSHOP_FORECASTER_TIMEOUT": "5", "WORKSHOP_API_TIMEOUT": "8"}
"""A stall of a small machine makes answers slow here, not failed: how bad that is, the gates say."""
_BEFORE, _AFTER = 1.0, 0.5
_MISLED = f"models:/{FORECASTER}@misled"


def folder() -> Path:
    """What canaries leave behind: the forecasts of the last one, and the decisions. Emptied by :func:`open_stand`."""
    return settings.home / "mlops" / "canary"


def trail_file() -> Path:
    """Where the lesson keeps its decisions, apart from the course's own audit trail: nothing was really released."""
    return folder() / "audit.jsonl"


def misled() -> str:
    """Number of a version that learned nothing: its training targets were shuffled. Made once.

    It loads, answers quickly and in the right form, which is all that a technical check sees. Its intervals are those
    of the champion.
    """
    now = champion()
    with locked(settings.home / "services" / "misled"):
        use_tracking(EXPERIMENT)
        found = find_version(_MISLED)
        if found is None:
            dataset = make_dataset()
            features, units = dataset.rows(dataset.split.fit)
            model = gradient_boosting(n_estimators=30, num_parallel_tree=1, max_depth=4)
            begun = time.perf_counter()
            model.fit(features.to_numpy(), np.random.default_rng(settings.seed).permutation(units.to_numpy()))
            found = register_forecaster(
                Trained(model, dataset, time.perf_counter() - begun),
                metrics={},
                description="Trained on shuffled targets, to be found out by a canary. Never for use.",
                alias="misled",
                interval=load_package(f"models:/{FORECASTER}/{now}").about["interval"],
            )
    return str(found.version)


_SERVERS = {"good": "challenger", "slower": "challenger", "less accurate": "misled", "failing": "challenger"}
_MAKERS = {"challenger": challenger, "misled": misled}


@dataclass(frozen=True)
class _Shop:
    """Which days the callers ask for, and when these are over."""

    days: tuple[tuple[dt.date, dt.date], ...]
    """Pairs, one after the other."""
    seconds: float
    """A pair lasts."""
    bodies: tuple[str, ...]
    """Questions: the categories for the first pair, then for the next."""


def _shop(rate: float) -> _Shop:
    sales = data.load("daily_sales", columns=["category", "date", "open", "units"])
    sizes = sales[sales["category"].isin(forecast_categories())].groupby("category")["units"].sum()
    categories = sizes.sort_values(ascending=False).index[::2]
    unseen = sales["open"] & (sales["date"] > pd.Timestamp(load_package().about["last_day"]))
    dates = [day.date() for day in sorted(sales.loc[unseen, "date"].unique())[:DAYS]]
    pairs = tuple(zip(dates[::2], dates[1::2], strict=False))
    bodies = tuple(
        json.dumps({"category": name, "dates": [day.isoformat() for day in pair]})
        for pair in pairs
        for name in categories
    )
    return _Shop(pairs, len(categories) / rate, bodies)


def _empty(database: str) -> None:
    """Take the forecasts of earlier canaries out of the database: each one asks for the same days."""
    engine = history.connect(database)
    history.make_tables(engine, FORECASTS)
    with engine.begin() as connection:
        connection.execute(FORECASTS.delete())
    engine.dispose()


class Stand:
    """What :func:`open_stand` opens."""

    def __init__(self, stage: Stage, prometheus: LocalPrometheus, servers: dict[str, Server], shop: _Shop) -> None:
        self._stage, self._prometheus, self._servers, self._shop = stage, prometheus, servers, shop
        self._api = Api(stage.api.url, {"X-API-Key": api_key()})
        self.pace = Pace(MINUTE, shop.seconds + SCRAPE_SECONDS)

    def run(self, kind: Kind) -> CanaryRun:
        """Let a version prove itself, under load, by the rules of the file.

        Args:
            kind: ``good`` is the challenger as it is. ``slower`` and ``failing`` are the challenger behind a proxy that
                delays every answer, or answers with an error. ``less accurate`` is :func:`misled`.

        Raises:
            ValueError: for another kind.
            ManifestError, ServiceError: when the file or a server cannot be used.
        """
        if kind not in KINDS:
            raise ValueError(f"kind: one of {', '.join(KINDS)}, got {kind!r}.")
        _empty(self._database)
        with self._canary(kind) as canary:
            return self._run(kind, canary)

    def _run(self, kind: Kind, canary: Server) -> CanaryRun:
        stable, stage = self._servers["stable"], self._stage
        versions = {"stable-version": stable.version, "canary-version": canary.version}
        names = {"label": "backend", "stable": stable.name, "canary": canary.name, "slow": SLOW}
        plan = read_plan(names | versions, self.pace)
        analyses: list[tuple[int, Analysis]] = []
        shifts: list[Shift] = []

        def shift(weight: int, begun: float) -> None:
            stage.route({stable: 100 - weight, canary: weight}, step=f"{weight}%")
            shifts.append(Shift(time.monotonic() - begun, weight))

        def release() -> float:
            begun = time.monotonic()
            with self._till(begun - _BEFORE) as ask:
                self._wait_until_calm()
                for step in plan.steps:
                    for _ in range(TRIES):
                        shift(step.weight, begun)
                        analyses.append((step.weight, analyse(step.gates, ask, self.pace)))
                        if analyses[-1][1].phase != "inconclusive":
                            break
                    if analyses[-1][1].phase != "successful":
                        with stage.going_back():
                            shift(0, begun)
                        return begun
            shifts.append(Shift(time.monotonic() - begun, 100))
            return begun

        stage.route({stable: 100})
        done = stage.perform(f"canary, {kind}", release, before=_BEFORE, after=_AFTER)
        stage.route({stable: 100})
        moved = [replace(one, at=one.at + done.begun) for one in shifts]
        return CanaryRun(
            kind=kind,
            stable=stable.version,
            canary=canary.version,
            release=done,
            analyses=tuple(analyses),
            steps_at=tuple(one.at for one in moved[:-1]),
            rows=members(done, moved, stage.requests_of, stable.version, canary.version),
            settled=settled_forecasts(self._database),
            most_bad=plan.most_bad(stage.rate, self.pace, LAG),
        )

    def _wait_until_calm(self) -> None:
        """Wait until the version in service is well: what is released into a storm is judged by the storm."""
        window = f"{1000 * self.pace.seconds('2m'):.0f}ms"
        quick, all_of_them = (
            f'sum(rate(api_backend_seconds_{what}{{backend="stable"{bucket}}}[{window}]))'
            for what, bucket in (("bucket", f', le="{SLOW}"'), ("count", ""))
        )
        with contextlib.suppress(PrometheusError):  # after a while it begins all the same; the gates will say so
            self._prometheus.wait_for(f"{quick} / {all_of_them} > {CALM}", PATIENCE)

    def _values(self, query: str) -> list[float]:
        """What Argo Rollouts calls ``result``: the values of a query's series."""
        return [float(value) for value in self._prometheus.query(query)["value"]]

    @contextlib.contextmanager
    def _canary(self, kind: Kind) -> Iterator[Server]:
        """The server that is tried, under a name of its own, so that counters of other canaries are not its."""
        server = self._servers[_SERVERS[kind]]
        name = f"canary-{kind.replace(' ', '-')}"
        if kind in ("good", "less accurate"):
            yield replace(server, name=name)
            return
        with Proxy(server.service.url) as proxy:
            proxy.become("slow" if kind == "slower" else "error 500", DELAY_SECONDS)
            yield replace(server, name=name, service=replace(server.service, port=proxy.port))

    @contextlib.contextmanager
    def _till(self, begun: float) -> Iterator[Ask]:
        """Tell the API each day's sales when the day is over, as the shop's tills do.

        Yields:
            What asks Prometheus. Questions about sales wait until those of all days that are over have arrived
            there: on a busy machine that takes longer than planned.
        """
        closing, told = threading.Event(), [threading.Event() for _ in self._shop.days]

        def tell() -> None:
            for number, (first, last) in enumerate(self._shop.days, start=1):
                # A little later than planned, since the callers come by chance.
                if closing.wait(max(0.0, begun + number * self._shop.seconds + SCRAPE_SECONDS - time.monotonic())):
                    return
                tell_sales(self._api, first, last)
                told[number - 1].set()

        def ask(query: str) -> list[float]:
            over = int((time.monotonic() - begun) / self._shop.seconds)
            if "settled_" in query and 0 < over <= len(told):
                told[over - 1].wait(PATIENCE)
                self._prometheus.wait_for(f'timestamp(up{{job="{JUDGE}"}}) > {time.time()}', PATIENCE)
            return self._values(query)

        till = threading.Thread(target=tell, name="till", daemon=True)
        till.start()
        try:
            yield ask
        finally:
            closing.set()
            till.join()

    @property
    def _database(self) -> str:
        return str(self._stage.api.env["WORKSHOP_HISTORY_URL"])

    def introduce(self) -> None:
        """Let the API ask each server once: what it reads about a version that it meets first takes a while."""
        stable = self._servers["stable"]
        for server in self._servers.values():
            self._stage.route({server: 100})
            body = self._shop.bodies[0]
            headers = self._api.headers | {"Content-Type": "application/json"}
            httpx.post(f"{self._api.url}/forecast", content=body, headers=headers, timeout=30).raise_for_status()
        self._stage.route({stable: 100})


@contextlib.contextmanager
def open_stand(kinds: Sequence[Kind] = KINDS, rate: float = RATE) -> Iterator[Stand]:
    """Start everything once, for as many canaries as are wanted; all of it ends with the block.

    Args:
        kinds: of the canaries that will be tried: each needs its server.
        rate: requests per second of the callers.

    Raises:
        PrometheusError: when Prometheus is not installed; the message says how to get it.
        ServiceError: when a server does not start.
    """
    need_tools("prometheus")
    shutil.rmtree(folder(), ignore_errors=True)
    makers = {"stable": champion} | {_SERVERS[kind]: _MAKERS[_SERVERS[kind]] for kind in kinds}
    versions = {name: make() for name, make in makers.items()}
    with contextlib.ExitStack() as stack:
        stage = stack.enter_context(open_stage(rate))
        database = f"sqlite:///{folder()}/forecasts.db"
        _empty(database)  # makes it, before several processes want to
        stage.api = replace(stage.api, env=stage.api.env | _API | {"WORKSHOP_HISTORY_URL": database})
        shop = _shop(rate)
        stage.bodies = shop.bodies
        servers = {name: stage.server(name, version) for name, version in versions.items()}
        stage.reset(list(servers.values()))
        judge = Judge(database, hours=1)
        stack.callback(judge.close)
        port = free_port()
        server, thread = start_http_server(port, HOST, registry(judge))
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        targets = [Target(JOBS["api"], f"{HOST}:{stage.api.port}"), Target(JUDGE, f"{HOST}:{port}")]
        prometheus = stack.enter_context(start_prometheus("canary", targets, every=SCRAPE_SECONDS))
        stand = Stand(stage, prometheus, servers, shop)
        stand.introduce()
        yield stand
