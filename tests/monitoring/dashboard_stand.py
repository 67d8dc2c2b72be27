"""The course's services at work, watched by a real Prometheus, so that dashboards have something to show.

Forecaster, business API, monitor and Prometheus are real. What a language model says of itself was recorded from a
real one (see ``recorded/README.md``) and is replayed here; texts for the monitor's check come from a small server that
fills in a template.
"""

from __future__ import annotations

import datetime as dt
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.orchestration.dashboard_fakes import listening, services
from workshop_lib import processes
from workshop_lib.monitoring.alerts import rules
from workshop_lib.monitoring.config import load_config
from workshop_lib.monitoring.drift_result import Distance, DriftResult, drift_file, now, write_result
from workshop_lib.monitoring.health_checks import checks
from workshop_lib.monitoring.monitor import Monitor, create_app
from workshop_lib.monitoring.prometheus import JOBS, LocalPrometheus, Target, start_prometheus
from workshop_lib.monitoring.slo_record import Record
from workshop_lib.ports import free_port
from workshop_lib.serving import api_client, forecaster_client

RECORDED = Path(__file__).with_name("recorded") / "vllm_metrics.txt"
_CUT = "# ---- snapshot\n"
_CATEGORIES = ("SOFT DRINKS", "BEEF", "CHEESE", "FLUID MILK PRODUCTS")
_FIRST = dt.date(2018, 1, 2)


@contextmanager
def recorded_llm() -> Iterator[str]:
    """Replays the recorded pages of metrics, one after the other with each look, and then from the first one on.

    A rate takes the new beginning for a restart of the server. Gives host and port.
    """
    pages = RECORDED.read_text(encoding="utf-8").split(_CUT)[1:]
    looks = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.end_headers()
            self.wfile.write(pages[next(looks) % len(pages)].encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def watched(folder: Path) -> Iterator[LocalPrometheus]:
    """A Prometheus that has seen every metric of the dashboards.

    Args:
        folder: for what the services keep.
    """
    with ExitStack() as stack:
        forecaster = forecaster_client.connect()
        fakes = stack.enter_context(services())
        history = f"sqlite:///{folder / 'history.db'}"
        nobody = str(free_port())  # no Valkey: the first tier answers, the second one is missed
        api = api_client.start_another(
            "api-dashboards",
            {"WORKSHOP_CACHE": "true", "WORKSHOP_CACHE_PORT": nobody, "WORKSHOP_HISTORY_URL": history},
        )
        stack.callback(processes.stop, api)
        before = drift_file().read_bytes() if drift_file().exists() else None
        write_result(drift())
        stack.callback(_restore, before)
        addresses = {"api": api.url, "llm": f"{fakes.url}/v1", "database": history}
        watching = Monitor(checks(at=addresses), load_config(), Record(folder / "checks.db"))
        monitor = stack.enter_context(listening(create_app(watching)))
        llm = stack.enter_context(recorded_llm())
        targets = {"forecaster": forecaster.url, "api": api.url, "monitor": monitor, "llm": f"http://{llm}"}
        prometheus = stack.enter_context(
            start_prometheus(
                "dashboards",
                [Target(JOBS[name], urlsplit(url).netloc) for name, url in targets.items()],
                rules(load_config()),
            )
        )
        for name in targets:
            prometheus.wait_for(f'up{{job="{JOBS[name]}"}} == 1')
        for wave in range(3):  # an increase needs a sample before, and rates need several
            work(api.url, wave)
            time.sleep(1.5)
        stack.enter_context(asking(api.url))
        prometheus.wait_for("slo_error_budget_remaining_ratio", 60)
        prometheus.wait_for("text_relevance_score", 60)
        prometheus.wait_for("workshop:forecast_accuracy:ratio", 60)
        prometheus.wait_for("workshop:text_seconds:p95 > 0", 60)
        yield prometheus


@contextmanager
def asking(url: str) -> Iterator[None]:
    """Two forecasts a second, as long as the block lasts; every second one must not come from the cache."""
    stop = threading.Event()
    question = {"category": _CATEGORIES[0], "dates": [str(_FIRST)]}

    def ask() -> None:
        with httpx.Client(headers={"X-API-Key": api_client.api_key()}, timeout=20) as http:
            while not stop.wait(0.5):
                http.post(f"{url}/forecast", json=question, headers={"Cache-Control": "no-cache"})
                http.post(f"{url}/forecast", json=question)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def work(url: str, wave: int) -> None:
    """What callers do: ask, ask wrongly, and tell what came of the answers."""
    with httpx.Client(base_url=url, headers={"X-API-Key": api_client.api_key()}, timeout=20) as http:
        day = _FIRST + dt.timedelta(days=wave)
        sales, events = [], [f"{wave}-{number}" for number in range(20)]
        for category in _CATEGORIES:
            for _ in range(2):  # the second time from memory
                answer = _ok(http.post("/forecast", json={"category": category, "dates": [str(day)]}))
            (one,) = answer["forecasts"]
            units = one["units"] * (1.1, 0.8, 1.5)[wave]
            sales.append({"event_id": f"{category[:4]}-{wave}", "category": category, "date": str(day), "units": units})
        assert _ok(http.post("/feedback/sales", json={"events": sales}))["counted"] == len(_CATEGORIES)
        _ok(http.post("/feedback/sales", json={"events": sales}))  # told twice
        assert http.post("/forecast", json={"category": "NO SUCH THING", "dates": [str(day)]}).status_code == 422
        shown, again = {"list": "new", "event": "shown"}, {"list": "again", "event": "shown"}
        followed = [shown | {"event": "clicked"}, shown | {"event": "bought"}, again | {"event": "bought"}]
        _tell(http, "recommendations", events, [shown] * 8 + [again] * 4 + followed)
        rated = [{"event": "rated", "rating": stars, "source": who} for stars, who in ((4, "person"), (3, "machine"))]
        _tell(http, "ratings", events, [{"event": "viewed"}] * 6 + [{"event": "engaged"}] * 2 + rated)
        sent = [{"campaign_type": kind, "event": "contacted"} for kind in "AABBC"]
        _tell(http, "campaigns", events, [*sent, {"campaign_type": "A", "event": "redeemed"}])


def _tell(http: httpx.Client, what: str, ids: list[str], events: list[dict[str, Any]]) -> None:
    told = [{"event_id": f"{what}-{name}"} | event for name, event in zip(ids, events, strict=False)]
    assert _ok(http.post(f"/feedback/{what}", json={"events": told}))["counted"] == len(events)


def _ok(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def drift() -> DriftResult:
    """A result of the drift job with every kind of distance."""
    limits = load_config().forecaster.drift
    features = [
        Distance(kind="data", feature=name, method="psi", value=0.05 + 0.04 * number, threshold=limits.psi)
        for number, name in enumerate(limits.features)
    ]
    return DriftResult(
        model_version="1", week=47, first_day=dt.date(2017, 11, 13), last_day=dt.date(2017, 11, 19),
        reference_first_day=dt.date(2017, 2, 1), reference_last_day=dt.date(2017, 10, 15), made_at=now(), rows=700,
        distances=(
            *features,
            Distance(kind="prediction", feature="prediction", method="psi", value=0.08, threshold=limits.prediction),
            Distance(kind="concept", feature="error", method="wape_ratio", value=1.1, threshold=limits.concept),
        ),
        wape=0.3, reference_wape=0.27, decision="watch", reasons=("A test.",),
    )  # fmt: skip


def _restore(before: bytes | None) -> None:
    if before is None:
        drift_file().unlink(missing_ok=True)
    else:
        drift_file().write_bytes(before)
