"""The faults are real ones: a client must see exactly what it would see in an outage of that kind."""

import json
import math
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args

import httpx
import openai
import pytest

from workshop_lib.orchestration.faults import FileFault, Mode, Proxy, broken, broken_file
from workshop_lib.orchestration.wrong_answers import INVENTED

ANSWER = {"units": 12.5, "days": [{"lower": 1.5, "ahead": 1}], "name": "eggs"}


class _Server(BaseHTTPRequestHandler):
    """Answers with what was asked, and in chunks where the address says so."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        body = json.dumps(ANSWER | {"path": self.path}).encode()
        self.send_response(200)
        if self.path.endswith("/stream") and self.request_version == "HTTP/1.1":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in (body[:10], body[10:], b""):
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        else:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        sent = {"body": body.decode(), "key": self.headers["X-API-Key"], "host": self.headers["Host"]}
        answer = json.dumps(sent).encode()
        self.send_response(201)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def proxy(upstream: str) -> Iterator[Proxy]:
    with Proxy(f"{upstream}/v1") as door:
        yield door


@pytest.fixture
def client(proxy: Proxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.url, timeout=20) as http:
        yield http


def get(client: httpx.Client, path: str = "/x") -> Any:
    return client.get(path).raise_for_status().json()


def test_it_passes_everything_through(proxy: Proxy, client: httpx.Client) -> None:
    answer = client.post("/ask", content="ümlaut " * 20_000, headers={"X-API-Key": "k"})
    assert answer.status_code == 201
    assert answer.json()["body"] == "ümlaut " * 20_000
    assert answer.json()["key"] == "k"
    assert answer.json()["host"] == "127.0.0.1", "a cluster's router goes by the host's name"
    assert get(client)["path"] == "/v1/x"
    assert get(client, "/stream")["units"] == 12.5
    assert proxy.requests == 3


def test_slow_delays_and_counts_from_the_next_request_on(proxy: Proxy, client: httpx.Client) -> None:
    get(client)
    with broken(proxy, "slow", seconds=2):
        begun = time.monotonic()
        assert get(client)["units"] == 12.5
        assert time.monotonic() - begun >= 2
        with pytest.raises(httpx.ReadTimeout):
            client.get("/x", timeout=0.1)
    took = []
    for _ in range(5):
        begun = time.monotonic()
        get(client)
        took.append(time.monotonic() - begun)
    assert min(took) < 2


def test_only_slow_is_slow(proxy: Proxy, client: httpx.Client) -> None:
    for mode in get_args(Mode):
        if mode not in ("slow", "hang", "dead", "cut"):
            with broken(proxy, mode, seconds=30):
                client.get("/x", timeout=20)


def test_hang_accepts_and_never_answers(proxy: Proxy, client: httpx.Client) -> None:
    with broken(proxy, "hang"), pytest.raises(httpx.ReadTimeout):
        client.get("/x", timeout=0.3)
    assert proxy.requests == 1
    assert get(client)["units"] == 12.5


def test_dead_refuses_connections_and_comes_back_on_the_same_port(proxy: Proxy, client: httpx.Client) -> None:
    for _ in range(3):
        with broken(proxy, "dead"), pytest.raises(httpx.ConnectError):
            client.get("/x")
        assert get(client)["units"] == 12.5
    assert proxy.requests == 3


def test_death_breaks_off_what_is_under_way(proxy: Proxy, client: httpx.Client) -> None:
    proxy.become("hang")
    seen: list[type] = []

    def ask() -> None:
        with pytest.raises(httpx.TransportError) as caught:
            client.get("/x", timeout=30)
        seen.append(caught.type)

    asking = threading.Thread(target=ask)
    asking.start()
    while not proxy.requests:
        time.sleep(0.01)
    begun = time.monotonic()
    proxy.become("dead")
    asking.join()
    assert time.monotonic() - begun < 20
    assert seen and seen[0] is not httpx.ReadTimeout
    proxy.become("pass")
    assert get(client)["units"] == 12.5


@pytest.mark.parametrize("path", ["/x", "/stream"])
def test_cut_breaks_off_within_the_answer(proxy: Proxy, client: httpx.Client, path: str) -> None:
    with broken(proxy, "cut"), client.stream("GET", path) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()


def test_wrong_answers(proxy: Proxy, client: httpx.Client) -> None:
    with broken(proxy, "error 500"):
        assert client.get("/x").status_code == 500
    with broken(proxy, "no JSON"):
        assert client.get("/x").status_code == 200
        with pytest.raises(json.JSONDecodeError):
            client.get("/x").json()
    with broken(proxy, "other form"):
        assert "units" not in get(client)


@pytest.mark.parametrize("path", ["/x", "/stream"])
def test_implausible_numbers_in_an_answer_of_the_right_form(proxy: Proxy, client: httpx.Client, path: str) -> None:
    with broken(proxy, "negative"):
        answer = get(client, path)
        assert answer["units"] < 0 and answer["days"][0]["lower"] < 0
        assert answer["days"][0]["ahead"] == 1 and answer["name"] == "eggs"
    with broken(proxy, "not a number"):
        assert math.isnan(get(client, path)["units"])
    with broken(proxy, "thousandfold"):
        assert get(client, path)["units"] == 12500


@pytest.mark.parametrize("stream", [False, True])
def test_a_text_with_invented_numbers_reaches_a_client_of_the_protocol(proxy: Proxy, stream: bool) -> None:
    messages: Any = [{"role": "user", "content": "hello"}]
    with openai.OpenAI(base_url=proxy.url, api_key="none", max_retries=0) as client, broken(proxy, "invented"):
        answer: Any = client.chat.completions.create(model="any", messages=messages, stream=stream)
        said = (
            "".join(piece.choices[0].delta.content or "" for piece in answer)
            if stream
            else answer.choices[0].message.content
        )
    assert said == INVENTED


def test_a_server_that_is_really_away_is_no_answer(client: httpx.Client) -> None:
    with Proxy("http://127.0.0.1:9") as door, pytest.raises(httpx.RemoteProtocolError):
        httpx.get(door.url)


def test_requests_at_once_do_not_wait_for_each_other(proxy: Proxy, client: httpx.Client) -> None:
    with broken(proxy, "slow", seconds=4):
        begun = time.monotonic()
        threads = [threading.Thread(target=get, args=(client,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert time.monotonic() - begun < 31  # one after the other they would take 32 seconds
    assert proxy.requests == 8


def test_whoever_gives_up_is_not_served_further(upstream: str) -> None:
    with Proxy(upstream) as behind, Proxy(behind.url) as front:
        with broken(front, "slow", seconds=0.4), pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{front.url}/x", timeout=0.1)
        time.sleep(0.6)
        assert (front.requests, behind.requests) == (1, 0)


def test_a_fault_ends_with_its_block_whatever_happens(proxy: Proxy, client: httpx.Client) -> None:
    with pytest.raises(ZeroDivisionError), broken(proxy, "dead"):
        _ = 1 / 0
    assert get(client)["units"] == 12.5


def test_every_mode_is_known_and_others_are_refused(proxy: Proxy) -> None:
    for mode in get_args(Mode):
        proxy.become(mode)
    with pytest.raises(ValueError, match=r"sleepy.* is no mode"):
        proxy.become("sleepy")  # type: ignore[arg-type]


@pytest.fixture(params=["delete", "wal"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"pragma journal_mode = {request.param}")
        db.execute("create table notes (text)")
        db.execute("insert into notes values ('kept')")
    return path


def write(path: Path, text: str) -> None:
    with closing(sqlite3.connect(path, timeout=0.1)) as db, db:
        db.execute("insert into notes values (?)", (text,))


def read(path: Path) -> list[str]:
    with closing(sqlite3.connect(path, timeout=0.1)) as db:
        return [text for (text,) in db.execute("select text from notes")]


@pytest.mark.parametrize(
    ("fault", "says"),
    [("locked", "database is locked"), ("read-only", "readonly database"), ("corrupt", "not a database")],
)
def test_a_broken_file_fails_as_named_and_is_whole_again_afterwards(store: Path, fault: FileFault, says: str) -> None:
    with broken_file(store, fault):
        with pytest.raises(sqlite3.DatabaseError, match=says):
            write(store, "lost")
        if fault == "read-only":
            assert read(store) == ["kept"]
        if fault == "corrupt":
            with pytest.raises(sqlite3.DatabaseError, match=says):
                read(store)
    assert read(store) == ["kept"]
    write(store, "new")
    assert read(store) == ["kept", "new"]
