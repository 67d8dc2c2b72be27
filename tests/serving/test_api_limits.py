"""What the business API does when too much, too large or too slow requests come."""

import asyncio
import json
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from workshop_lib import processes
from workshop_lib.serving.api_client import Api, api_key, api_service
from workshop_lib.serving.api_middleware import Body, Lane, Lanes, Trace
from workshop_lib.serving.envelope import App, Message, Receive, Scope, Send
from workshop_lib.serving.forecaster_client import Endpoint
from workshop_lib.settings import settings

SLOTS = 8


@pytest.fixture(scope="module")
def narrow(forecaster: Endpoint, free_port: Callable[[], int]) -> Iterator[Api]:
    """The real API as a process that works on few requests at once and accepts small bodies only."""
    env = {"WORKSHOP_API_CONCURRENCY": str(SLOTS), "WORKSHOP_API_QUEUE": "8", "WORKSHOP_MAX_BODY_BYTES": "4096"}
    service = api_service("api-narrow", free_port(), env)
    processes.start(service)
    yield Api(service.url, {"X-API-Key": api_key()})
    processes.stop(service)


def test_a_burst_is_answered_or_turned_away_at_once(narrow: Api) -> None:
    async def burst(requests: int) -> Counter[int]:
        async with httpx.AsyncClient(headers=narrow.headers, limits=httpx.Limits(max_connections=requests)) as client:

            async def one() -> int:
                body = {"category": "SOFT DRINKS", "dates": ["2018-01-01", "2018-01-02", "2018-01-03"]}
                answer = await client.post(f"{narrow.url}/forecast", json=body, timeout=60)
                assert answer.headers.get("retry-after") == (None if answer.status_code == 200 else "1")
                return answer.status_code

            return Counter(await asyncio.gather(*(one() for _ in range(requests))))

    for _ in range(2):  # the second time shows that the first one left nothing behind
        statuses = asyncio.run(burst(200))
        assert statuses.keys() == {200, 503} and statuses[200] >= SLOTS
    # By the server's own clock: this client on the same cores is slower than the server.
    log = (settings.logs_dir / "api-narrow.log").read_text(encoding="utf-8")
    lines = [line for line in map(json.loads, log.splitlines()) if line.get("path") == "/forecast"]
    times = {status: [line["ms"] for line in lines if line["status"] == status] for status in (200, 503)}
    assert np.percentile(times[200], 95) < 1000 * settings.api_timeout / 2  # nobody waits long in a short queue
    assert np.median(times[503]) < np.median(times[200]) / 2  # the burst itself is work: reading comes before refusing
    metrics = httpx.get(f"{narrow.url}/metrics").text
    assert 'api_rejected_total{reason="full"}' in metrics and "api_requests_in_flight 1.0" in metrics


def test_a_large_body_is_refused_whether_it_says_so_or_not(narrow: Api) -> None:
    def unannounced() -> Iterator[bytes]:
        yield from (b" " * 1000 for _ in range(10))

    for content in (b" " * 5000, unannounced()):
        answer = httpx.post(f"{narrow.url}/forecast", content=content, headers=narrow.headers)
        assert answer.status_code == 413 and "4096" in answer.json()["detail"]
    assert httpx.post(f"{narrow.url}/forecast", content=b"{}", headers=narrow.headers).status_code == 422
    address = httpx.URL(narrow.url)
    with socket.create_connection((address.host, address.port or 80), timeout=10) as connection:
        head = f"POST /forecast HTTP/1.1\r\nHost: x\r\nX-API-Key: {api_key()}\r\nContent-Length: 9999999\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")  # on the announcement alone


def test_it_stops_only_after_what_is_in_flight(narrow: Api, forecaster: Endpoint, free_port: Callable[[], int]) -> None:
    service = api_service("api-leaving", free_port())
    processes.start(service)
    query: Any = {"category": "EGGS", "start": "2017-12-01", "days": 3, "pause": 0.5}
    with httpx.stream("GET", f"{service.url}/forecast/stream", params=query, headers=narrow.headers) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        next(lines)
        leaving = threading.Thread(target=processes.stop, args=(service,))
        leaving.start()
        assert sum(line.startswith("data: ") for line in lines) == 3
        leaving.join()
    assert processes.status(service).state == "stopped"


# ---------------------------------------------------------------- the middlewares alone


def transport(app: App) -> httpx.AsyncClient:
    traced = Trace(app, paths=["/quick", "/slow"], quiet=[])
    return httpx.AsyncClient(transport=httpx.ASGITransport(traced), base_url="http://test")


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the number of bytes that came, slowly for /slow."""
    message = await receive()
    if scope["path"] == "/slow":
        await asyncio.sleep(0.3)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(len(message["body"])).encode()})


def test_slow_requests_do_not_take_the_place_of_quick_ones() -> None:
    async def run() -> list[int]:
        lanes = {"/slow": Lane(1, 1, None), "*": Lane(1, 0, 1)}
        async with transport(Lanes(echo, lanes, unbounded=[])) as client:
            slow = [asyncio.create_task(client.get("/slow")) for _ in range(3)]
            await asyncio.sleep(0.05)
            quick = await client.get("/quick")
            return [quick.status_code, *sorted([(await task).status_code for task in slow])]

    assert asyncio.run(run()) == [200, 200, 200, 503]


def test_too_slow_is_504_and_frees_its_place() -> None:
    async def run() -> list[int]:
        async with transport(Lanes(echo, {"*": Lane(1, 0, 0.1)}, unbounded=["/free"])) as client:
            first = await client.get("/slow")
            assert first.json()["detail"] == "No answer within 0.1 s." and first.headers["retry-after"] == "1"
            return [
                first.status_code,
                (await client.get("/quick")).status_code,
                (await client.get("/free")).status_code,
            ]

    assert asyncio.run(run()) == [504, 200, 200]


def test_waiting_counts_as_time() -> None:
    async def run() -> list[int]:
        async with transport(Lanes(echo, {"*": Lane(1, 9, 0.55)}, unbounded=[])) as client:
            answers = await asyncio.gather(*(client.get("/slow") for _ in range(3)))
            return [answer.status_code for answer in answers]

    assert asyncio.run(run()) == [200, 504, 504]


def test_a_body_arrives_whole_and_in_time_or_not_at_all() -> None:
    async def pieces(pause: float) -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"1234"
            await asyncio.sleep(pause)

    async def run() -> list[tuple[int, Any]]:
        async with transport(Body(echo, largest=12, seconds=0.2)) as client:
            answers = [
                await client.post("/quick", content=pieces(0.01)),
                await client.post("/quick", content=b"1" * 13),
                await client.post("/quick", content=b""),
            ]
            return [(answer.status_code, answer.text if answer.is_success else None) for answer in answers]

    assert asyncio.run(run()) == [(200, "12"), (413, None), (200, "0")]

    async def drip() -> list[Message]:
        sent: list[Message] = []

        async def receive() -> Message:
            await asyncio.sleep(0.15)
            return {"type": "http.request", "body": b"1", "more_body": True}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "path": "/quick", "method": "POST", "headers": []}
        await Trace(Body(echo, largest=12, seconds=0.2), paths=[], quiet=[])(scope, receive, send)
        return sent

    sent = asyncio.run(drip())
    assert sent[0]["status"] == 408 and json.loads(sent[1]["body"])["status"] == 408


def test_who_leaves_while_sending_costs_nothing() -> None:
    async def run() -> list[Message]:
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "path": "/quick", "method": "POST", "headers": []}
        await Trace(Body(echo, largest=12, seconds=0.2), paths=[], quiet=[])(scope, receive, send)
        return sent

    assert asyncio.run(run()) == []
