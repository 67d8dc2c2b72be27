"""The cache before a real Valkey server and a real database, which are slow, wrong or dead in every way."""

import asyncio
import json
import multiprocessing
import os
import socket
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from pydantic import BaseModel

from workshop_lib import processes
from workshop_lib.ports import free_port
from workshop_lib.processes import Service
from workshop_lib.serving import history
from workshop_lib.serving.cache import Asked, Cache, Found
from workshop_lib.serving.cache_seal import Opened, SealError, seal, seal_key, unseal
from workshop_lib.serving.cache_tiers import Breaker, Entry, MemoryTier, SqlTier, ValkeyTier
from workshop_lib.serving.local import cache_service

PATIENT = 5.0
"""Time limit of the outer tiers where a test wants them to answer, however busy the machine is."""
SECRET = seal_key("a secret of the tests")


class Number(BaseModel):
    value: int
    padding: str = ""


class Maker:
    """Works on questions, and counts how often."""

    def __init__(self, seconds: float = 0, keep: float = 60, error: Exception | None = None) -> None:
        self.calls, self.seconds, self.keep, self.error = 0, seconds, keep, error

    async def __call__(self) -> tuple[Number, float]:
        self.calls += 1
        mine = self.calls
        await asyncio.sleep(self.seconds)
        if self.error:
            raise self.error
        return Number(value=mine, padding="p" * 2000), self.keep


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def valkey() -> Iterator[Service]:
    service = cache_service("cache-of-tests", free_port())
    processes.start(service)
    yield service
    processes.stop(service)


@pytest.fixture
def server(valkey: Service) -> Iterator[redis.Redis]:
    """An empty Valkey."""
    client = redis.Redis(port=valkey.port)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'history.db'}"


def url(service: Service) -> str:
    return f"redis://127.0.0.1:{service.port}/0"


def cache(shared: str | None = None, database: str | None = None, timeout: float = PATIENT, **more: Any) -> Cache:
    breaker = more.pop("breaker", None)
    return Cache(
        MemoryTier(100, **more),
        ValkeyTier(shared, timeout, breaker) if shared else None,
        SqlTier(history.connect(database), timeout, breaker) if database else None,
        SECRET,
        **more,
    )


def asked(number: int = 1, **more: Any) -> Asked:
    return Asked("churn", str(number), {"household": number}, **more)


def play(work: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(work())  # type: ignore[arg-type]


def lookups(tier: str, result: str) -> float:
    return REGISTRY.get_sample_value("cache_requests_total", {"tier": tier, "result": result}) or 0


# ---- memory


def test_a_burst_of_equal_questions_costs_one_call() -> None:
    async def burst() -> tuple[list[Found[Number]], Maker]:
        mine, make = cache(), Maker(0.05)
        before = REGISTRY.get_sample_value("cache_shared_total")
        found = await asyncio.gather(*(mine.answer(asked(), Number, make) for _ in range(50)))
        assert before is not None and REGISTRY.get_sample_value("cache_shared_total") == before + 49
        return [*found, await mine.answer(asked(), Number, make)], make

    found, make = play(burst)
    assert make.calls == 1 and {one.answer.value for one in found} == {1}
    assert [one.state for one in found] == ["miss"] * 50 + ["hit"]
    assert found[0].headers == {"X-Cache": "miss"} and found[-1].headers == {"X-Cache": "hit", "Age": "0"}


def test_an_error_reaches_all_who_wait_and_the_next_one_tries_again() -> None:
    async def burst() -> None:
        mine, bad, good = cache(), Maker(0.05, error=ValueError("broken")), Maker()
        found = await asyncio.gather(*(mine.answer(asked(), Number, bad) for _ in range(5)), return_exceptions=True)
        assert bad.calls == 1 and [str(one) for one in found] == ["broken"] * 5
        assert (await mine.answer(asked(), Number, good)).state == "miss" and good.calls == 1

    play(burst)


def test_the_others_get_their_answer_when_the_first_one_leaves() -> None:
    async def leave() -> None:
        mine, make = cache(), Maker(0.1)
        first = asyncio.create_task(mine.answer(asked(), Number, make))
        await asyncio.sleep(0.02)
        second = asyncio.create_task(mine.answer(asked(), Number, make))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).answer.value == 1 and make.calls == 1

    play(leave)


def test_an_answer_is_given_until_it_is_too_old() -> None:
    async def wait() -> None:
        clock, make = Clock(), Maker(keep=60)
        mine = cache(clock=clock)
        await mine.answer(asked(), Number, make)
        clock.now += 59
        found = await mine.answer(asked(), Number, make)
        assert (found.state, found.headers["Age"]) == ("hit", "59")
        clock.now += 1
        assert (await mine.answer(asked(), Number, make)).state == "miss"

    play(wait)


def test_what_may_not_be_kept_is_not() -> None:
    async def twice() -> None:
        mine, make = cache(), Maker(keep=0)
        assert [(await mine.answer(asked(), Number, make)).state for _ in range(2)] == ["miss", "miss"]

    play(twice)


def test_a_fresh_answer_replaces_the_one_that_is_there() -> None:
    async def ask() -> None:
        mine, make = cache(), Maker()
        await mine.answer(asked(), Number, make)
        fresh = await mine.answer(asked(), Number, make, fresh=True)
        assert (fresh.state, fresh.answer.value) == ("miss", 2)
        assert (await mine.answer(asked(), Number, make)).answer.value == 2

    play(ask)


def test_memory_is_bounded_and_forgets_what_nobody_asks_for() -> None:
    memory = MemoryTier(3, Clock())
    for name in "abc":
        memory.put(name, Entry(Number(value=1), 0, 2_000_000))
    memory.get("a")
    memory.put("d", Entry(Number(value=1), 0, 2_000_000))
    assert [name for name in "abcd" if memory.get(name)] == ["a", "c", "d"]
    assert len(memory) == 3 and memory.evicted == 1


# ---- seals


@given(st.binary(max_size=3000), st.data())
def test_a_seal_tells_the_smallest_change(body: bytes, choose: st.DataObject) -> None:
    sealed = seal(SECRET, "a", Opened(body, 1.5, 2.5))
    assert unseal(SECRET, "a", sealed) == Opened(body, 1.5, 2.5)
    place = choose.draw(st.integers(0, len(sealed) * 8 - 1))
    bad = bytearray(sealed)
    bad[place // 8] ^= 1 << place % 8
    for key, content, secret in [
        ("a", bytes(bad), SECRET),
        ("a", sealed[: choose.draw(st.integers(0, len(sealed) - 1))], SECRET),
        ("b", sealed, SECRET),
        ("a", sealed, seal_key("another")),
    ]:
        with pytest.raises(SealError):
            unseal(secret, key, content)


def test_long_answers_are_compressed() -> None:
    body = json.dumps([{"date": f"2018-01-0{day}", "units": 12.5} for day in range(1, 9)] * 10).encode()
    assert len(seal(SECRET, "a", Opened(body, 0, 0))) < len(body) / 5
    assert len(seal(SECRET, "a", Opened(b"short", 0, 0))) < 50


# ---- Valkey and the history


def test_another_process_finds_the_answer_in_valkey(server: redis.Redis, valkey: Service) -> None:
    async def ask() -> None:
        make = Maker()
        first = await cache(url(valkey)).answer(asked(), Number, make)
        other = cache(url(valkey))
        found = [await other.answer(asked(), Number, make) for _ in range(2)]
        assert [one.state for one in (first, *found)] == ["miss", "hit", "hit"] and make.calls == 1
        assert 0 < (server.pttl(asked().key) or 0) <= 60_000

    before = lookups("valkey", "hit")
    play(ask)
    assert lookups("valkey", "hit") == before + 1  # the second time it lay in memory
    assert not server.exists(f"{asked().key}:lock")


def test_the_history_answers_when_valkey_has_forgotten(server: redis.Redis, valkey: Service, database: str) -> None:
    async def ask() -> None:
        make, first = Maker(), cache(url(valkey), database)
        await first.answer(asked(), Number, make)
        await first.close()
        server.flushall()
        other = cache(url(valkey), database)
        assert (await other.answer(asked(), Number, make)).state == "hit" and make.calls == 1
        await other.close()

    play(ask)
    assert server.exists(asked().key)  # and it is there again for the others


def test_the_history_keeps_every_answer_with_its_time_and_version(database: str) -> None:
    async def ask() -> list[Any]:
        clock, make = Clock(), Maker(keep=10)
        mine = cache(None, database, clock=clock)
        for version in ("1", "1", "2"):
            await mine.answer(asked(version=version), Number, make)
            clock.now += 8
        past = await mine.past("churn", "1", Number)
        assert await mine.past("churn", "2", Number) == []
        await mine.close()
        return past or []

    assert [(made, answer.value) for made, answer in play(ask)] == [(1_000_000, 1), (1_000_016, 2)]
    with sqlite3.connect(database.removeprefix("sqlite:///")) as lines:
        assert lines.execute("SELECT version FROM answers ORDER BY made").fetchall() == [("1",), ("2",)]


def test_what_is_made_quickly_stays_out_of_valkey(server: redis.Redis, valkey: Service, database: str) -> None:
    async def ask() -> None:
        mine, make = cache(url(valkey), database), Maker()
        states = [(await mine.answer(asked(quick=True), Number, make)).state for _ in range(2)]
        assert states == ["miss", "hit"] and len(await mine.past("churn", "1", Number) or []) == 1
        await mine.close()

    play(ask)
    assert server.dbsize() == 0


def test_a_flipped_bit_in_valkey_is_never_served(server: redis.Redis, valkey: Service) -> None:
    async def ask() -> None:
        key, make = asked().key, Maker()
        await cache(url(valkey)).answer(asked(), Number, make)
        sealed = server.get(key)
        assert isinstance(sealed, bytes)
        for calls, place in enumerate(range(0, len(sealed), 9), start=2):
            bad = bytearray(sealed)
            bad[place] ^= 4
            server.set(key, bytes(bad))
            found = await cache(url(valkey)).answer(asked(), Number, make)
            assert (found.state, found.answer.value, make.calls) == ("miss", calls, calls)
            assert (await cache(url(valkey)).answer(asked(), Number, make)).answer.value == calls  # and it is mended

    before = lookups("valkey", "error")
    play(ask)
    assert lookups("valkey", "error") > before + 5


@pytest.mark.parametrize("bad", [b"", b"W1", b"x" * 500, b'{"value": 7}'])
def test_what_is_no_entry_is_never_served(bad: bytes, server: redis.Redis, valkey: Service) -> None:
    server.set(asked().key, bad)
    assert play(lambda: cache(url(valkey)).answer(asked(), Number, Maker())).state == "miss"


def test_an_entry_with_a_wrong_type_in_valkey_is_never_served(server: redis.Redis, valkey: Service) -> None:
    server.lpush(asked().key, b"a list")
    assert play(lambda: cache(url(valkey)).answer(asked(), Number, Maker())).state == "miss"


def test_an_entry_under_another_key_is_never_served(server: redis.Redis, valkey: Service) -> None:
    play(lambda: cache(url(valkey)).answer(asked(1), Number, Maker()))
    server.rename(asked(1).key, asked(2).key)
    assert play(lambda: cache(url(valkey)).answer(asked(2), Number, Maker())).state == "miss"


def test_an_old_entry_that_valkey_did_not_delete_is_never_served(server: redis.Redis, valkey: Service) -> None:
    clock = Clock()
    play(lambda: cache(url(valkey), clock=clock).answer(asked(), Number, Maker()))
    server.persist(asked().key)
    clock.now += 60
    before = lookups("valkey", "stale")
    assert play(lambda: cache(url(valkey), clock=clock).answer(asked(), Number, Maker())).state == "miss"
    assert lookups("valkey", "stale") > before


def test_an_answer_of_another_form_is_never_served(server: redis.Redis, valkey: Service) -> None:
    class Other(BaseModel):
        another: int

    async def make() -> tuple[Other, float]:
        return Other(another=3), 60

    play(lambda: cache(url(valkey)).answer(asked(), Number, Maker()))
    assert play(lambda: cache(url(valkey)).answer(asked(), Other, make)).answer == Other(another=3)


def test_a_flipped_bit_in_the_history_is_never_served(database: str) -> None:
    async def ask() -> Found[Number]:
        mine = cache(None, database)
        found = await mine.answer(asked(), Number, Maker())
        await mine.close()
        return found

    async def past() -> Any:
        return await cache(None, database).past("churn", "1", Number)

    play(ask)
    assert play(ask).state == "hit" and len(play(past)) == 1
    with sqlite3.connect(database.removeprefix("sqlite:///")) as lines:
        (sealed,) = lines.execute("SELECT sealed FROM answers").fetchone()
        bad = bytearray(sealed)
        bad[len(bad) // 2] ^= 1
        lines.execute("UPDATE answers SET sealed = ?", [bytes(bad)])
    assert play(past) == []
    assert play(ask).state == "miss"
    assert len(play(past)) == 1  # the broken line is gone


# ---- faults


@contextmanager
def silent() -> Iterator[tuple[str, list[socket.socket]]]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        taken: list[socket.socket] = []
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0", taken
        while True:
            try:
                taken.append(listener.accept()[0])
            except BlockingIOError:
                break
        for one in taken:
            one.close()


def test_a_valkey_that_is_silent_costs_a_few_short_waits() -> None:
    async def ask(address: str) -> None:
        mine = cache(address, timeout=0.02, breaker=Breaker(limit=3, seconds=3600))
        for number in range(30):
            assert (await mine.answer(asked(number), Number, Maker())).state == "miss"
        assert "TimeoutError" in mine.problems["valkey"]

    with silent() as (address, taken):
        play(lambda: ask(address))
    assert 1 <= len(taken) <= 4


def test_a_dead_valkey_costs_no_answers_and_comes_back() -> None:
    service = cache_service("cache-that-dies", free_port())

    async def ask() -> None:
        clock = Clock()
        mine = cache(url(service), breaker=Breaker(limit=2, seconds=10, clock=clock))
        for number in range(3):
            assert (await mine.answer(asked(number), Number, Maker())).state == "miss"
        processes.stop(service)
        for number in range(6):
            found = await mine.answer(asked(number), Number, Maker())
            assert found.state == ("hit" if number < 3 else "miss")  # what lies in memory is still there
        assert "valkey" in mine.problems
        processes.start(service)
        assert (await mine.answer(asked(10), Number, Maker())).state == "miss" and mine.problems
        clock.now += 11
        assert (await mine.answer(asked(11), Number, Maker())).state == "miss" and not mine.problems
        assert (await cache(url(service)).answer(asked(11), Number, Maker())).state == "hit"

    processes.start(service)
    try:
        play(ask)
    finally:
        processes.stop(service)


@pytest.mark.parametrize("kind", ["locked", "a folder", "no database", "no table"])
def test_a_broken_history_costs_no_answers(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "history.db"

    async def ask() -> None:
        mine = cache(None, f"sqlite:///{file}", timeout=0.05, breaker=Breaker(limit=2, seconds=3600))
        for number in range(5):
            assert (await mine.answer(asked(number), Number, Maker())).state == "miss"
            assert (await mine.answer(asked(number), Number, Maker())).state == "hit"
        await mine.close()
        assert "sql" in mine.problems and await mine.past("churn", "1", Number) is None

    if kind == "a folder":
        file.mkdir()
    elif kind == "no database":
        file.write_bytes(b"not a database, but long enough to be taken for one" * 50)
    with sqlite3.connect(":memory:" if kind in ("a folder", "no database") else file) as other:
        if kind == "no table":
            other.execute("CREATE TABLE answers (something TEXT)")
            other.commit()
        elif kind == "locked":
            other.execute("BEGIN EXCLUSIVE")
        play(ask)


def test_a_breaker_opens_tries_again_and_closes() -> None:
    clock = Clock()
    breaker = Breaker(limit=2, seconds=10, clock=clock)
    breaker.failed("once")
    assert breaker.allows() and not breaker.reason
    breaker.succeeded()
    breaker.failed("once")
    assert breaker.allows()
    breaker.failed("twice")
    assert not breaker.allows() and breaker.reason == "twice"
    clock.now += 10
    assert breaker.allows() and not breaker.allows()  # one tries, the others wait for its result
    breaker.failed("again")
    clock.now += 9
    assert not breaker.allows()
    clock.now += 1
    assert breaker.allows()
    breaker.succeeded()
    assert breaker.allows() and breaker.allows() and not breaker.reason


def test_the_local_server_is_bounded_and_known_to_be_well(server: redis.Redis, valkey: Service) -> None:
    assert processes.status(valkey).state == "healthy"
    found = server.config_get("maxmemory*")
    assert isinstance(found, dict)
    assert (found["maxmemory"], found["maxmemory-policy"]) == (str(64 * 2**20), "allkeys-lru")
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.listen()
        service = cache_service("no-valkey", other.getsockname()[1])
        assert processes.status(service).state == "port taken"
        assert service.is_ready is not None and not service.is_ready(free_port())


# ---- two processes


def ask_many(address: str, log: str, start: Any) -> None:
    """What each of two processes does: asks forty questions, ten times each, all at once."""

    async def make_one(number: int) -> tuple[Number, float]:
        with Path(log).open("a") as lines:
            lines.write(f"{number}\n")
        await asyncio.sleep(0.05)
        return Number(value=number), 60

    async def ask() -> None:
        mine = cache(address)

        def make(number: int) -> Callable[[], Awaitable[tuple[Number, float]]]:
            return lambda: make_one(number)

        start.wait()
        many = [number for number in range(40) for _ in range(10)]
        found = await asyncio.gather(*(mine.answer(asked(n, patience=60), Number, make(n)) for n in many))
        assert [one.answer.value for one in found] == many

    asyncio.run(ask())


def test_two_processes_make_each_answer_once(server: redis.Redis, valkey: Service, tmp_path: Path) -> None:
    spawn, log = multiprocessing.get_context("spawn"), tmp_path / "made"
    start = spawn.Barrier(2)
    both = [spawn.Process(target=ask_many, args=(url(valkey), str(log), start)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(120)
    assert [one.exitcode for one in both] == [0, 0]
    assert sorted(map(int, log.read_text().split())) == list(range(40))
    assert not list(server.scan_iter("*:lock"))


def test_a_lock_whose_holder_died_opens_by_itself(server: redis.Redis, valkey: Service) -> None:
    server.set(f"{asked().key}:lock", "somebody who died", px=300)
    found = play(lambda: cache(url(valkey)).answer(asked(patience=60), Number, Maker()))
    assert found.state == "miss" and server.exists(asked().key)


def test_nobody_waits_for_ever_for_another_process(server: redis.Redis, valkey: Service) -> None:
    server.set(f"{asked().key}:lock", "somebody who is slow")
    found = play(lambda: cache(url(valkey)).answer(asked(patience=0.1), Number, Maker()))
    assert found.state == "miss"
    assert server.get(f"{asked().key}:lock") == b"somebody who is slow"  # it is not ours to open


# ---- keys


PLAIN = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
NESTED = st.lists(PLAIN, max_size=3) | st.dictionaries(st.text(max_size=3), PLAIN, max_size=3)
JSON = PLAIN | NESTED | st.lists(NESTED, max_size=2)
PARTS = st.dictionaries(st.text(max_size=3), JSON, max_size=4)


def turned(value: Any) -> Any:
    """The same with every dictionary in the opposite order."""
    if isinstance(value, dict):
        return {key: turned(inner) for key, inner in reversed(value.items())}
    return [turned(inner) for inner in value] if isinstance(value, list) else value


@given(PARTS, PARTS)
def test_equal_parts_share_a_key_and_others_never_do(one: dict[str, Any], other: dict[str, Any]) -> None:
    def key(kind: str, parts: dict[str, Any]) -> str:
        return Asked(kind, "about anything", parts, "1").key

    assert key("churn", one) == key("churn", turned(one))
    assert key("churn", one) != key("forecast", one)
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (key("churn", one) == key("churn", other)) == same


def test_a_key_is_short_and_plain() -> None:
    key = Asked("describe", "é" * 500, {"facts": {"product": "é\n" * 500}}).key
    assert key.isascii() and len(key) < 100 and os.sep not in key
