"""The monitor: what it concludes from checks, what it tells, what it remembers, and how it starts and stops."""

from __future__ import annotations

import json
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from tests.orchestration.dashboard_fakes import Services, services
from workshop_lib import processes
from workshop_lib.monitoring import drift_result
from workshop_lib.monitoring.config import MonitoringConfig, load_config
from workshop_lib.monitoring.drift_result import Distance, DriftResult, write_result
from workshop_lib.monitoring.health_checks import Check, Checked
from workshop_lib.monitoring.local import monitor_service
from workshop_lib.monitoring.monitor import STUCK_SECONDS, Monitor, State, create_app
from workshop_lib.monitoring.slo_record import Record
from workshop_lib.settings import PREFIX

WELL = Checked("api", True, reason="It is ready.", seconds=0.01)
BAD = Checked("api", False, "refused", "Nobody answers.", 0.02)
UNKNOWN = Checked("api", None, reason="Nobody knows.")


def config_with(**limits: object) -> MonitoringConfig:
    config = load_config()
    return config.model_copy(update={"health": config.health.model_copy(update=limits)})


class Watched:
    """A service whose next results a test decides; the last one goes on for ever."""

    def __init__(self, service: str, *found: Checked, needed: bool = True, interval: float = 15) -> None:
        self.found = [Checked(service, one.ok, one.cause, one.reason, one.seconds, one.poorer) for one in found]
        self.asked = 0
        self.check = Check(service, self.ask, interval, longest=4, needed=needed)

    def ask(self) -> Checked:
        self.asked += 1
        return self.found.pop(0) if len(self.found) > 1 else self.found[0]


def monitor_of(record: Path, *watched: Watched, **limits: object) -> Monitor:
    return Monitor([one.check for one in watched], config_with(**limits), Record(record / "uptime.db"))


def figures(monitor: Monitor) -> dict[str, float]:
    """Name with the values of its labels (by their names), and value of everything that the monitor tells by itself."""
    text = generate_latest(monitor.metrics.registry).decode()
    return {
        f"{sample.name}{'|'.join(['', *sample.labels.values()])}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# ---- what it concludes


def test_one_failure_changes_nothing_and_two_do() -> None:
    state, seen = State(), []
    for found in (WELL, BAD, WELL, BAD, BAD, BAD, WELL):
        state = state.after(found, at=100, failures=2)
        seen.append((state.up, state.failures))
    assert seen == [(True, 0), (True, 1), (True, 0), (True, 1), (False, 2), (False, 3), (True, 0)]


def test_nobody_knows_until_somebody_looked() -> None:
    assert State().up is None
    assert State().after(BAD, 100, failures=2).up is None, "a first failure proves nothing yet"
    assert State().after(WELL, 100, failures=2).after(UNKNOWN, 110, failures=2).up is None


def test_since_when_it_is_so() -> None:
    state = State()
    for at, found in ((10, WELL), (20, WELL), (30, BAD), (40, BAD), (50, BAD)):
        state = state.after(found, at, failures=2)
    assert (state.since, state.checked_at) == (40, 50)


def test_checks_become_metrics(tmp_path: Path) -> None:
    monitor = monitor_of(tmp_path, Watched("api", WELL, BAD, BAD, UNKNOWN))
    assert figures(monitor)["service_check_failures_total|refused|api"] == 0, "there before the first failure"
    assert "service_up|api" not in figures(monitor)
    told = []
    for _ in range(4):
        monitor.look("api")
        told.append(figures(monitor).get("service_up|api"))
    assert told == [1, 1, 0, None], "no sample while nobody knows"
    assert figures(monitor)["service_check_failures_total|refused|api"] == 2
    assert 0 < figures(monitor)["host_memory_used_ratio"] < 1


def test_texts_become_metrics(tmp_path: Path) -> None:
    text = {"relevance": 0.8, "coherence": 0.9, "invented_numbers": 2.0}
    llm = Check("llm", lambda: Checked("llm", True, figures=text), 60, 15, needed=False)
    monitor = Monitor([llm], load_config(), Record(tmp_path / "uptime.db"))
    monitor.look("llm")
    monitor.look("llm")
    told = figures(monitor)
    assert (told["text_relevance_score"], told["text_coherence_score"]) == (0.8, 0.9)
    assert told["text_invented_numbers_total"] == 4


def test_budgets_count_every_failure(tmp_path: Path) -> None:
    """A service that was down for 1,296 s of 30 days has used half of its 2,592 s."""
    record = Record(tmp_path / "uptime.db")
    now = time.time()
    for begin, up in ((now - 10_000, True), (now - 9000, False), (now - 9000 + 1296, True)):
        record.add("api", begin, up, holds=20_000)
    monitor = monitor_of(tmp_path, Watched("api", WELL), Watched("llm", WELL))
    assert monitor.budgets() == {}
    monitor._remember()
    assert monitor.budgets() == {"api": pytest.approx(0.5)}
    assert figures(monitor)["slo_error_budget_remaining_ratio|api"] == pytest.approx(0.5)


def test_a_single_failure_costs_budget_though_nobody_is_woken(tmp_path: Path) -> None:
    monitor = monitor_of(tmp_path, Watched("api", WELL, BAD, WELL))
    for _ in range(3):
        monitor.look("api")
        time.sleep(0.05)
    assert figures(monitor)["service_up|api"] == 1
    assert monitor.budgets()["api"] < 1


# ---- what it tells


def test_live_ready_and_all_there_is_to_tell(tmp_path: Path) -> None:
    api, llm = Watched("api", WELL, BAD, interval=0.02), Watched("llm", BAD, needed=False, interval=0.02)
    monitor = monitor_of(tmp_path, api, llm, interval_seconds=0.02)
    with TestClient(create_app(monitor)) as client:
        wait_for(lambda: monitor.states()["api"].up is False and monitor.states()["llm"].up is False)
        live, ready, told = (client.get(f"/health/{name}") for name in ("live", "ready", "services"))
        metrics = client.get("/metrics")
    assert live.status_code == 200, "others' faults are no reason to restart the monitor"
    assert ready.status_code == 503
    assert ready.headers["content-type"] == "application/problem+json"
    assert ready.json()["errors"] == [{"service": "api", "reason": "Nobody answers."}]
    assert ready.json()["detail"] == "api: Nobody answers."
    assert told.json()["status"] == "failed"
    about = told.json()["services"]["api"]
    assert (about["state"], about["cause"], about["needed"]) == ("down", "refused", True)
    assert about["milliseconds"] == 20 and about["failures"] >= 2
    assert 'service_up{service="api"} 0.0' in metrics.text and "process_resident_memory_bytes" in metrics.text


def test_what_is_not_needed_makes_the_system_poorer_not_unready(tmp_path: Path) -> None:
    api, llm = Watched("api", WELL), Watched("llm", BAD, needed=False, interval=0.02)
    monitor = monitor_of(tmp_path, api, llm)
    with TestClient(create_app(monitor)) as client:
        wait_for(lambda: monitor.states()["llm"].up is False and bool(monitor.states()["api"].up))
        ready = client.get("/health/ready")
    assert ready.status_code == 200 and ready.json()["status"] == "degraded"
    assert ready.json()["services"]["llm"]["state"] == "down"


def test_not_ready_before_the_first_look(tmp_path: Path) -> None:
    monitor = monitor_of(tmp_path, Watched("api", WELL))
    assert monitor.problems() == {"api": "It was not asked yet."}
    monitor.look("api")
    assert monitor.problems() == {}


def test_unknown_is_not_ready_either(tmp_path: Path) -> None:
    monitor = monitor_of(tmp_path, Watched("api", WELL, UNKNOWN))
    monitor.look("api")
    monitor.look("api")
    assert monitor.problems() == {"api": "Nobody knows."}


def test_a_check_that_hangs_keeps_no_other_from_being_made(tmp_path: Path) -> None:
    release = threading.Event()
    hanging = Check("llm", lambda: (release.wait(30), Checked("llm", True))[1], 0.02, 4, needed=False)
    api = Watched("api", WELL, interval=0.02)
    monitor = Monitor([hanging, api.check], config_with(interval_seconds=0.02), Record(tmp_path / "uptime.db"))
    with TestClient(create_app(monitor)) as client:
        wait_for(lambda: api.asked > 3)
        assert client.get("/health/live").status_code == 200
        monitor._alive["llm"] -= STUCK_SECONDS + 10
        stuck = client.get("/health/live")
        release.set()
        wait_for(lambda: client.get("/health/live").status_code == 200)
    assert stuck.status_code == 503 and "hang: llm" in stuck.json()["detail"]


def test_after_a_failure_the_next_look_comes_soon(tmp_path: Path) -> None:
    llm = Watched("llm", BAD, BAD, WELL, interval=3600)
    monitor = monitor_of(tmp_path, llm, interval_seconds=0.02)
    monitor.start()
    wait_for(lambda: bool(monitor.states()["llm"].up))
    time.sleep(0.2)
    monitor.close()
    assert llm.asked == 3, "and when it is well, the usual pause begins"


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with TestClient(create_app(monitor_of(tmp_path, Watched("api", WELL)))) as client:
        assert client.get("/health").status_code == 404
        assert client.post("/metrics").headers["content-type"] == "application/problem+json"


# ---- what it remembers


def test_a_monitor_that_was_away_is_unknown_time(tmp_path: Path) -> None:
    first = monitor_of(tmp_path, Watched("api", WELL))
    first.look("api")
    stopped = time.time()
    first.close()
    time.sleep(0.3)
    second = monitor_of(tmp_path, Watched("api", WELL))
    second._remember()
    second.look("api")
    back = time.time()
    found = Record(tmp_path / "uptime.db").timelines()["api"].between(stopped - 0.01, back)
    assert found.unknown >= 0.25 and found.down == 0
    assert second._timelines["api"].between(stopped, back).unknown >= 0.25


@pytest.mark.parametrize("problem", ["corrupt", "no folder"])
def test_a_record_that_cannot_be_used_stops_no_check(tmp_path: Path, problem: str) -> None:
    path = tmp_path / "uptime.db"
    if problem == "corrupt":
        path.write_text("no database " * 500, encoding="utf-8")
    else:
        (tmp_path / "file").write_text("", encoding="utf-8")
        path = tmp_path / "file" / "uptime.db"
    api = Watched("api", WELL, interval=0.02)
    monitor = Monitor([api.check], config_with(interval_seconds=0.02), Record(path))
    with TestClient(create_app(monitor)) as client:
        wait_for(lambda: api.asked > 2)
        told = client.get("/health/services").json()
    assert told["status"] == "degraded" and "cannot be kept" in told["record"]
    assert told["services"]["api"]["state"] == "ok"


def test_old_checks_are_deleted(tmp_path: Path) -> None:
    monitor = monitor_of(tmp_path, Watched("api", WELL))
    monitor.record.add("api", time.time() - 32 * 86400, True, holds=25)
    monitor.look("api")
    monitor._tidy()
    with closing(sqlite3.connect(tmp_path / "uptime.db")) as db:
        assert db.execute("select count(*) from checks").fetchone() == (1,)


# ---- drift


def drift() -> DriftResult:
    distances = (
        Distance(kind="data", feature="lag_1", method="psi", value=0.31, threshold=0.2),
        Distance(kind="data", feature="a stranger", method="psi", value=0.1, threshold=0.2),
        Distance(kind="prediction", feature="prediction", method="wasserstein", value=0.05, threshold=0.1),
    )
    return DriftResult(
        model_version="1", week=52, first_day=date(2017, 12, 25), last_day=date(2017, 12, 31),
        reference_first_day=date(2017, 2, 1), reference_last_day=date(2017, 9, 30),
        made_at=datetime(2026, 1, 1, tzinfo=UTC), rows=100, distances=distances, wape=0.3, reference_wape=0.25,
        decision="watch", reasons=("one feature",),
    )  # fmt: skip


def test_the_drift_jobs_file_is_told(
    tmp_path: Path, home: Path, use_settings: Callable[..., object]
) -> None:  # fmt: skip
    monitor = monitor_of(tmp_path, Watched("api", WELL))
    never = {"drift_report_timestamp_seconds|forecaster": 0.0}
    assert {name: one for name, one in figures(monitor).items() if "drift" in name} == never, "no job has run"
    write_result(drift())
    told = figures(monitor)
    assert told["drift_distance|lag_1|data|forecaster"] == 0.31
    assert told["drift_distance|prediction|prediction|forecaster"] == 0.05
    assert not any("stranger" in name for name in told), "only features of the configuration"
    assert told["drifted_features_ratio|forecaster"] == 0.5
    assert [told[f"drift_decision|{name}|forecaster"] for name in ("nothing", "watch", "retrain")] == [0, 1, 0]
    assert told["drift_report_timestamp_seconds|forecaster"] == datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    drift_result.drift_file().write_text("{", encoding="utf-8")
    assert {name: one for name, one in figures(monitor).items() if "drift" in name} == never, "half a file is none"


# ---- the process


@pytest.fixture
def running(free_port: Callable[[], int], tmp_path: Path) -> Iterator[tuple[processes.Service, Services]]:
    """A real monitor of an API and a language model that do as the test says; nothing else is there."""
    limits = tmp_path / "monitoring.yaml"
    text = json.dumps(config_with(interval_seconds=0.2, generation_interval_seconds=0.2).model_dump(by_alias=True))
    limits.write_text(text, encoding="utf-8")
    with services() as behaviour:
        settings_of_it = {
            "MONITORING_CONFIG": str(limits), "API_ENDPOINT": behaviour.url, "LLM_ENDPOINT": f"{behaviour.url}/v1",
            "LLM_MODEL": "small-llm", "DASHBOARD_PORT": str(free_port()),
            "FORECASTER_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        }  # fmt: skip
        service = monitor_service(
            "monitor-under-test", free_port(), {PREFIX + name: value for name, value in settings_of_it.items()},
            record=tmp_path / "uptime.db",
        )  # fmt: skip
        try:
            processes.start(service)
            yield service, behaviour
        finally:
            processes.stop(service)


def test_a_real_monitor_sees_faults_come_and_go(running: tuple[processes.Service, Services], tmp_path: Path) -> None:
    service, behaviour = running

    def state(name: str) -> str:
        return str(httpx.get(f"{service.url}/health/services", timeout=30).json()["services"][name]["state"])

    wait_for(lambda: state("llm") == "ok")
    wait_for(lambda: state("dashboard") == state("forecaster") == "down")
    behaviour.text = "Sold 4,321 times since 1893!"
    wait_for(lambda: state("llm") == "down")
    ready = httpx.get(f"{service.url}/health/ready", timeout=30)
    assert ready.status_code == 503 and "forecaster" in ready.json()["detail"]
    assert httpx.get(f"{service.url}/health/live", timeout=30).status_code == 200
    behaviour.text = "{product} from a {brand}, for a good day at home. A package of {size} costs {price}."
    wait_for(lambda: state("llm") == "ok")
    pid = processes.status(service).pid
    assert pid is not None
    process = psutil.Process(pid)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)
    lines = [json.loads(line) for line in service.log.read_text(encoding="utf-8").splitlines()]
    assert {line["service"] for line in lines if line.get("state") == "down"} >= {"forecaster", "dashboard", "llm"}
    assert "Traceback" not in service.log.read_text(encoding="utf-8")
    ended = Record(tmp_path / "uptime.db").failures().groupby("service")["cause"].last()
    assert ended["llm"] == "stopped", "the record says from when on nobody looked"


def test_a_configuration_that_is_wrong_is_told(tmp_path: Path, free_port: Callable[[], int]) -> None:
    limits = tmp_path / "monitoring.yaml"
    limits.write_text("health: {}", encoding="utf-8")
    service = monitor_service("monitor-wrong", free_port(), {PREFIX + "MONITORING_CONFIG": str(limits)})
    with pytest.raises(processes.ServiceError, match=r"health\.generation_quality: it is missing"):
        processes.start(service)


def wait_for(holds: Callable[[], bool], seconds: float = 90) -> None:
    """Wait until something holds; long enough for a busy machine."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
