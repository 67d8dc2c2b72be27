"""The load generator against servers that are well, slow, stalled, failing and away."""

import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil
import pytest

from workshop_lib.serving import load as load_module
from workshop_lib.serving.load import LoadError, Target, background_load, closed_loop, measure, open_loop, table, watch
from workshop_lib.serving.load_worker import read_tag, schedule

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


class Server:
    """Answers in JSON; a test makes it stall, fail or hang up."""

    def __init__(self) -> None:
        self.flowing = threading.Event()
        self.flowing.set()
        self.delay = 0.0
        self.status: Callable[[int], int] = lambda number: 200
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.seen.append((self.command, dict(self.headers), body))
                status = outer.status(len(outer.seen))
                time.sleep(outer.delay)
                outer.flowing.wait()
                if status == 0:
                    self.close_connection = True
                    return
                answer = b'{"model": {"version": 7}, "units": [1.5]}'
                head = f"HTTP/1.1 {status} x\r\nContent-Length: {len(answer)}\r\n\r\n"
                self.wfile.write(head.encode() + answer)

            do_GET = do_POST

            def log_message(self, *about: Any) -> None:
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.socket.listen(512)  # its own queue of 5 would drop whom a stall makes knock at once
        self.url = f"http://127.0.0.1:{self._http.server_port}/ask"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def stall_for(self, after: float, seconds: float) -> None:
        """Leave all requests without an answer for a while, soon."""

        def hold() -> None:
            time.sleep(after)
            self.flowing.clear()
            time.sleep(seconds)
            self.flowing.set()

        threading.Thread(target=hold, daemon=True).start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.stop()


def test_poisson_arrivals_have_the_rate_and_exponential_gaps() -> None:
    times = schedule(50, "poisson", seed=1)
    due = [next(times) for _ in range(5000)]
    gaps = np.diff(due)
    assert due[0] == 0
    assert np.mean(gaps) == pytest.approx(1 / 50, rel=0.05)
    assert np.std(gaps) == pytest.approx(1 / 50, rel=0.1)  # of an exponential distribution both are equal
    again = schedule(50, "poisson", seed=1)
    assert due[:10] == [next(again) for _ in range(10)]
    other = schedule(50, "poisson", seed=2)
    assert due[:10] != [next(other) for _ in range(10)]


def test_constant_arrivals_do_not_drift() -> None:
    times = schedule(30, "constant", seed=1)
    assert [next(times) for _ in range(3001)][-1] == 100


def test_an_open_loop_has_a_row_per_request(server: Server) -> None:
    frame = open_loop(Target(server.url, bodies=["{}"], tag="model.version"), rate=100, seconds=1, arrivals="constant")
    assert list(frame.columns) == ["due", "sent", "ms", "status", "error", "tag"]
    assert len(frame) == len(server.seen) == 100
    assert frame["due"].to_list() == pytest.approx(np.arange(100) / 100)
    assert (frame["sent"] >= frame["due"]).all()
    assert (frame["status"] == 200).all() and (frame["error"] == "").all() and (frame["tag"] == "7").all()
    assert frame["ms"].between(0, 500).all()


def test_a_stall_is_felt_by_all_who_came_meanwhile_in_an_open_loop(server: Server) -> None:
    with background_load(Target(server.url), rate=100, seconds=3, arrivals="constant") as load:
        server.stall_for(after=1 - load.now(), seconds=1)
        load.wait()
    frame = load.frame()
    assert len(frame) == 300
    slow = frame[frame["ms"] > 100]
    longest = frame["ms"].max() / 1000  # a second, or more on a busy machine
    assert longest > 0.95
    assert len(slow) >= 0.85 * 100 * (longest - 0.1)  # at least those who came until 0.1 s before its end
    # Who came in the first half of it waited from when it was due to the end.
    early = slow[slow["due"] < 1.5]
    ends = early["due"] + early["ms"] / 1000
    assert ends.quantile(0.9) - ends.quantile(0.1) < 0.5
    assert np.percentile(frame["ms"], 90) > 400


def test_a_closed_loop_hides_the_same_stall(server: Server) -> None:
    with background_load(Target(server.url), workers=2, seconds=3) as load:
        server.stall_for(after=1 - load.now(), seconds=1)
        load.wait()
    frame = load.frame()
    assert (frame["ms"] > 500).sum() == 2  # one request of each worker
    assert np.percentile(frame["ms"], 99) < 300


def test_latency_counts_from_when_a_request_was_due_also_if_the_generator_was_late(server: Server) -> None:
    with background_load(Target(server.url), rate=50, seconds=1.5, arrivals="constant") as load:
        time.sleep(0.4)
        worker = psutil.Process(load._process.pid)
        worker.suspend()
        time.sleep(0.6)
        worker.resume()
        load.wait()
    frame = load.frame()
    late = frame[frame["sent"] - frame["due"] > 0.3]
    assert len(late) >= 10
    assert (late["ms"] >= 1000 * (late["sent"] - late["due"])).all()


def test_errors_are_told_apart(server: Server, free_port: Callable[[], int]) -> None:
    server.status = lambda number: {0: 503, 1: 429}.get(number % 4, 200)
    assert set(closed_loop(Target(server.url), 1, 0.4)["error"]) == {"", "status 503", "status 429"}
    server.status = lambda number: 0
    frame = closed_loop(Target(server.url), 1, 0.2)
    assert set(frame["error"]) == {"disconnected"} and set(frame["status"]) == {0}
    away = closed_loop(Target(f"http://127.0.0.1:{free_port()}/"), 1, 0.2)
    assert set(away["error"]) == {"no connection"}
    server.status, server.delay = (lambda number: 200), 1.0
    slow = open_loop(Target(server.url, timeout=0.3), rate=20, seconds=0.5, arrivals="constant")
    assert set(slow["error"]) == {"timeout"} and slow["ms"].between(290, 600).all()


def test_bodies_are_sent_in_turn_and_requests_numbered(server: Server) -> None:
    headers = {"X-Request-ID": "load-{number}", "X-Key": "secret"}
    closed_loop(Target(server.url, bodies=['{"a": 1}', '{"ñ": "é"}'], headers=headers), 1, 0.3)
    methods, sent, bodies = zip(*server.seen, strict=True)
    assert set(methods) == {"POST"}
    assert [body.decode() for body in bodies[:3]] == ['{"a": 1}', '{"ñ": "é"}', '{"a": 1}']
    assert [one["X-Request-ID"] for one in sent[:3]] == ["load-0", "load-1", "load-2"]
    assert {one["X-Key"] for one in sent} == {"secret"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.version", "7"),
        ("units.0", "1.5"),
        ("units.3", ""),
        ("none", ""),
        ("model.version.x", ""),
        ("units.x", ""),
    ],
)
def test_a_tag_is_a_place_in_the_answer(path: str, value: str) -> None:
    assert read_tag(b'{"model": {"version": 7}, "units": [1.5]}', path) == value
    assert read_tag(b"<html>", path) == ""


def test_a_background_load_can_be_watched_and_ends_with_its_block(server: Server) -> None:
    server.delay = 0.3
    with background_load(Target(server.url), rate=100) as load:
        time.sleep(1.2)
        seen, now = load.frame(), load.now()
        assert np.isnan(load.seconds) and np.isnan(load.cpu_seconds)
    frame = load.frame()
    assert 20 < len(seen) < len(frame)
    assert seen["due"].max() < now
    assert len(frame) == len(server.seen)  # all that were sent have a row
    assert (frame["error"] == "").all()  # and an answer, the last ones too
    assert load.seconds >= now and 0 < load.cpu_seconds < load.seconds
    assert load._process.poll() == 0


def test_a_load_ends_with_whoever_started_it(server: Server) -> None:
    code = (
        "import sys, time\nfrom workshop_lib.serving.load import *\n"
        f"with background_load(Target({server.url!r}), rate=20) as load:\n"
        "    print(load._process.pid, flush=True)\n    time.sleep(60)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    worker = psutil.Process(int(starter.stdout.readline()))
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    worker.wait(timeout=10)


def test_an_interrupted_block_stops_the_load(server: Server) -> None:
    with pytest.raises(KeyboardInterrupt), background_load(Target(server.url), rate=20) as load:
        raise KeyboardInterrupt
    assert load._process.poll() is not None


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({}, "either rate"), ({"rate": 1, "workers": 1}, "either rate"), ({"rate": 0}, "above 0"),
     ({"workers": -1}, "above 0"), ({"rate": 1, "arrivals": "often"}, "often")],
)  # fmt: skip
def test_a_wrong_load_is_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named), background_load(Target("http://127.0.0.1:1"), **wrong):
        pass


def test_a_generator_that_cannot_work_says_why() -> None:
    nowhere = Target(None)  # type: ignore[arg-type]
    with pytest.raises(LoadError, match="TypeError"), background_load(nowhere, rate=1, seconds=1) as load:
        load.wait()


def test_the_figures_of_an_open_loop(server: Server) -> None:
    server.status = lambda number: 500 if number % 10 == 0 else 200
    found = measure(Target(server.url), rate=100, seconds=1, warm_up=0.5, pid=os.getpid(), arrivals="constant")
    assert (found.engine, found.label, found.asked) == ("own", "100 per second", 100)
    assert 90 <= found.requests <= 110 and len(server.seen) > found.requests + 40  # the warm-up is not counted
    assert set(found.errors) == {"status 500"} and found.failed == found.errors["status 500"] > 5
    assert found.per_second == pytest.approx(90, rel=0.4)
    assert found.ms["P50"] <= found.ms["P95"] <= found.ms["P99"] <= found.ms["max"]
    assert 0 < found.server.cpu_seconds < 4 and found.server.memory_mib > 10
    assert 0 < found.sender_cores < 1 and found.late_ms < 1000
    shown = table([found])
    assert list(shown.index) == ["100 per second"] and shown["errors"].item() == found.failed
    assert shown["server CPU ms/request"].item() == pytest.approx(1000 * found.server.cpu_seconds / found.requests)


@pytest.mark.parametrize("engine", [pytest.param("wrk", marks=needs_wrk), "own"])
def test_both_engines_count_a_closed_loop_alike(server: Server, engine: str) -> None:
    server.delay = 0.02
    server.status = lambda number: 503 if number % 5 == 0 else 200
    found = measure(Target(server.url, bodies=["{}"]), workers=4, seconds=1, warm_up=0, engine=engine)
    assert found.engine == engine
    assert 60 < found.requests <= 4 / 0.02 * found.seconds  # 4 workers, at least 20 ms each
    assert found.failed == pytest.approx(found.requests / 5, abs=3)
    assert found.per_second == pytest.approx(0.8 * found.requests, rel=0.1)
    assert 20 <= found.ms["P50"] < 80
    assert np.isnan(found.server.cpu_seconds)


@needs_wrk
def test_wrk_sends_bodies_and_headers_as_they_are(server: Server) -> None:
    bodies = ['{"a": "\\"quoted\\" \\\\ \\n"}', '{"ñ": "12\\u00e9é"}\n']
    measure(Target(server.url, bodies=bodies, headers={"X-Key": 'a"b'}), workers=1, seconds=1, warm_up=0, engine="wrk")
    assert {body.decode() for _, _, body in server.seen} == set(bodies)
    assert {headers["X-Key"] for _, headers, _ in server.seen} == {'a"b'}


@needs_wrk
def test_wrk_without_a_server_is_an_error(free_port: Callable[[], int]) -> None:
    with pytest.raises(LoadError, match="unable to connect"):
        measure(Target(f"http://127.0.0.1:{free_port()}/"), workers=1, seconds=1, engine="wrk")


def test_without_wrk_the_own_generator_takes_over(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module.shutil, "which", lambda name: None)
    assert measure(Target(server.url), workers=2, seconds=0.3, warm_up=0).engine == "own"
    with pytest.raises(ValueError, match="closed loops only"):
        measure(Target(server.url), rate=2, engine="wrk")


def test_the_processor_time_of_children_counts() -> None:
    busy = "import time, subprocess, sys\nsubprocess.run([sys.executable, '-c', 'while True: pass'])"
    parent = subprocess.Popen([sys.executable, "-c", busy])
    try:
        until = time.monotonic() + 10
        while not psutil.Process(parent.pid).children() and time.monotonic() < until:
            time.sleep(0.05)
        begun = time.monotonic()
        with watch(parent.pid) as usage:
            time.sleep(1)
        assert 0.1 < usage.cpu_seconds < time.monotonic() - begun + 0.3
        assert usage.memory_mib > 5
    finally:
        for process in [*psutil.Process(parent.pid).children(), psutil.Process(parent.pid)]:
            process.kill()
        parent.wait()
    with pytest.raises(LoadError, match=str(parent.pid)), watch(parent.pid):
        pass
