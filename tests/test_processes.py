"""Local services: started once, shared, told apart from other programs, stopped with their children."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from workshop_lib import processes
from workshop_lib.processes import Service, ServiceError

# Answers on /healthy with its greeting once it has a child of its own; anything else is not found.
SERVER = """
import http.server, os, subprocess, sys
child = subprocess.Popen(["sleep", "600"])
print("child", child.pid, flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/healthy" else 404)
        self.end_headers()
        self.wfile.write(os.environ.get("GREETING", "").encode())
    def log_message(self, *args):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def service(home: Path, free_port: Callable[[], int]) -> Iterator[Service]:
    port = free_port()
    command = (sys.executable, "-c", SERVER, str(port))
    service = Service("tiny", port, command, "/healthy", seconds=20, prepare=lambda: {"GREETING": "hola"})
    yield service
    processes.stop(service)


def spoiled(service: Service, code: str, seconds: float = 20) -> Service:
    return Service(service.name, service.port, (sys.executable, "-c", code), service.health, seconds)


def test_a_service_starts_is_shared_and_stops_with_its_children(service: Service) -> None:
    assert processes.status(service).state == "stopped"
    waited: list[float] = []
    first = processes.start(service, waited.append)
    assert (first.state, first.url) == ("healthy", f"http://127.0.0.1:{service.port}")
    assert httpx.get(f"{service.url}/healthy").text == "hola"
    assert waited == sorted(waited)
    assert first.start_seconds and max(waited, default=0) <= first.start_seconds < 20
    assert processes.status(service).start_seconds == first.start_seconds

    again = processes.start(service, waited.append)
    assert again.pid == first.pid and processes.status(service).pid == first.pid

    child = psutil.Process(int(service.log.read_text().split()[1]))
    assert child.is_running()
    assert processes.stop(service)
    assert not child.is_running() and not psutil.pid_exists(first.pid or 0)
    assert processes.status(service).state == "stopped"
    assert not processes.stop(service)


def test_two_that_need_it_at_once_get_the_same_one(service: Service) -> None:
    found: list[int | None] = []
    threads = [threading.Thread(target=lambda: found.append(processes.start(service).pid)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1


def test_it_outlives_who_started_it(service: Service) -> None:
    processes.start(service)
    process = psutil.Process(processes.status(service).pid)
    assert os.getsid(process.pid) == process.pid  # Ctrl-C in the terminal of a notebook does not reach it


def test_a_service_that_runs_but_does_not_answer_is_starting(service: Service) -> None:
    silent = spoiled(service, "import time; time.sleep(600)", seconds=0.6)
    states: list[str] = []
    with pytest.raises(ServiceError, match=r"tiny was not ready after 1 s\..*ends with: nothing"):
        processes.start(silent, lambda seconds: states.append(processes.status(silent).state))
    assert set(states) == {"starting"}
    assert processes.status(silent).state == "stopped"  # it was not left behind


def test_a_service_that_ends_while_it_starts_shows_its_last_words(service: Service) -> None:
    fails = spoiled(service, "print('one\\ntwo\\nthree\\nno such database'); raise SystemExit(1)")
    with pytest.raises(ServiceError, match="tiny ended while it started") as caught:
        processes.start(fails)
    message = str(caught.value)
    assert "two | three | no such database" in message and "one" not in message
    assert str(service.log) in message
    assert processes.start(service).state == "healthy"  # the next attempt is not held up by the failed one


def test_a_taken_port_is_reported_with_the_setting_that_moves_it(service: Service) -> None:
    other = subprocess.Popen(service.command, stdout=subprocess.PIPE)
    try:
        assert other.stdout and other.stdout.readline()
        for _ in range(100):
            if processes.port_in_use(service.port):
                break
            threading.Event().wait(0.05)
        assert processes.status(service).state == "port taken"
        with pytest.raises(ServiceError, match=f"port {service.port} is in use.*WORKSHOP_TINY_PORT"):
            processes.start(service)
        assert not processes.stop(service)
        assert other.poll() is None  # another program's process is nobody's to stop
    finally:
        for child in psutil.Process(other.pid).children():
            child.kill()
        other.kill()
        other.communicate()


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"pid": os.getpid(), "started": psutil.Process().create_time() - 1000}),  # the number was reused
        json.dumps({"pid": 2**22 + 1, "started": 0}),
        json.dumps({"pid": os.getpid()}),
        json.dumps([1]),
        "{",
    ],
    ids=["reused", "gone", "incomplete", "list", "broken"],
)
def test_a_stale_process_file_leads_to_nobody(content: str, service: Service) -> None:
    service.pid_file.parent.mkdir(parents=True)
    service.pid_file.write_text(content)
    assert processes.status(service).state == "stopped"
    assert not processes.stop(service)  # pytest would not be here to tell
    assert not service.pid_file.exists()


@pytest.mark.parametrize("next_step", [processes.stop, processes.start])
def test_children_of_a_killed_service_do_not_stay(service: Service, next_step: Callable[[Service], object]) -> None:
    processes.start(service)
    leader = psutil.Process(processes.status(service).pid)
    (orphan,) = leader.children()
    leader.kill()
    leader.wait()
    assert processes.status(service).state == "stopped" and orphan.is_running()
    assert next_step(service)
    gone, _ = psutil.wait_procs([orphan], timeout=5)
    assert gone


def test_a_service_that_is_just_ending_is_started_again(service: Service) -> None:
    ending = processes._spawn(spoiled(service, "import time; time.sleep(1)"))
    assert processes.status(service).state == "starting"
    started = processes.start(service)
    assert started.state == "healthy" and started.pid != ending.pid


def test_a_service_is_not_started_where_memory_is_short(service: Service) -> None:
    with pytest.raises(ServiceError, match=r"tiny needs 100000.0 GiB of memory, .* are free"):
        processes.start(replace(service, memory_gib=1e5))
    assert processes.status(service).state == "stopped"


def test_what_a_start_prepares_may_fail_and_be_tried_again(service: Service) -> None:
    def fails() -> dict[str, str]:
        raise ServiceError("no weights")

    with pytest.raises(ServiceError, match="no weights"):
        processes.start(replace(service, prepare=fails))
    assert processes.start_with_progress(service).state == "healthy"


def test_lines_that_are_written_after_the_answer_are_waited_for(service: Service) -> None:
    other = replace(service, name="other")
    service.log.parent.mkdir(parents=True, exist_ok=True)
    service.log.write_text('{"id": "a", "n": 1}\nnot JSON\n{"id": "b", "n": 2}\n', encoding="utf-8")
    assert processes.log_lines("b", [service, other], seconds=0.1) == [{"id": "b", "n": 2}]
    other.log.write_text('{"id": "b"', encoding="utf-8")

    def go_on() -> None:
        with other.log.open("a", encoding="utf-8") as log:
            log.write(', "n": 3}\n')

    later = threading.Timer(0.5, go_on)
    later.start()
    assert [line["n"] for line in processes.log_lines("b", [other, service])] == [3, 2]
    later.join()
