"""Several keys for the business API: who is let in, to what, how often, and what a change of the file does."""

import asyncio
import datetime as dt
import hashlib
import json
from pathlib import Path

import httpx
import pytest

from workshop_lib.serving import api_keys
from workshop_lib.serving.api_access import DAY, Access, Bucket
from workshop_lib.serving.api_errors import Problem
from workshop_lib.serving.api_keys import KeyRing, KeysError, KeysFile, Role, add_key, read_keys, remove_key, write_keys
from workshop_lib.serving.api_middleware import Trace, charge
from workshop_lib.serving.envelope import Receive, Scope, Send

ROLES = {
    "app": Role(paths=("*",)),
    "partner": Role(paths=("/forecast",), per_minute=6, burst=3, answers_per_day=10),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "api-keys.json"
    write_keys(path, KeysFile(roles=ROLES))
    return path


async def inside(scope: Scope, receive: Receive, send: Send) -> None:
    """Charge as many answers as the query says, and say whose key it was."""
    try:
        charge(scope, int(scope["query_string"] or b"0"))
        status = 200
    except Problem as problem:
        assert problem.retry is not None and problem.retry > 0
        status = problem.status
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": scope["trace"].get("key", "").encode()})


class Client:
    """Asks an application that nothing but the middlewares surrounds."""

    def __init__(self, file: Path) -> None:
        access = Access(inside, KeyRing(file), open_paths=["/metrics"])
        transport = httpx.ASGITransport(Trace(access, paths=["/forecast"], quiet=[]))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://test")

    def get(self, path: str, key: str = "") -> httpx.Response:
        return asyncio.run(self._client.get(path, headers={"X-API-Key": key} if key else {}))


def test_a_key_opens_what_its_role_has(file: Path) -> None:
    app, partner = add_key(file, "app-1", "dashboard", "app"), add_key(file, "partner-1", "partner", "partner")
    client = Client(file)
    assert client.get("/churn", app).status_code == 200
    assert client.get("/forecast", partner).text == "partner-1"
    refused = client.get("/churn", partner)
    assert refused.status_code == 403 and refused.json()["request_id"] and "partner" in refused.json()["detail"]
    assert client.get("/metrics").status_code == 200
    for wrong in ("", "x", app[:-1], hashlib.sha256(app.encode()).hexdigest()):  # the hash itself is no key
        assert client.get("/forecast", wrong).status_code == 401


def test_neither_the_file_nor_the_log_holds_a_key(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    key = add_key(file, "app-1", "dashboard", "app")
    assert key not in file.read_text() and file.stat().st_mode & 0o777 == 0o600
    Client(file).get("/forecast", key)
    logged = capfd.readouterr().out
    assert '"key":"app-1"' in logged and key not in logged


def test_two_keys_hold_at_once_and_a_removed_one_ends_at_once(file: Path) -> None:
    old = add_key(file, "app-1", "dashboard", "app")
    client = Client(file)
    new = add_key(file, "app-2", "dashboard", "app")
    assert [client.get("/forecast", key).status_code for key in (old, new)] == [200, 200]
    remove_key(file, "app-1")
    assert [client.get("/forecast", key).status_code for key in (old, new)] == [401, 200]


def test_a_key_ends_when_it_says(file: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    past = add_key(file, "app-1", "dashboard", "app", ends=now - dt.timedelta(seconds=1))
    future = add_key(file, "app-2", "dashboard", "app", ends=now + dt.timedelta(hours=1))
    client = Client(file)
    assert [client.get("/forecast", key).status_code for key in (past, future)] == [401, 200]


def test_a_broken_file_leaves_the_last_keys_in_force(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    key = add_key(file, "app-1", "dashboard", "app")
    client = Client(file)
    good = file.read_text()
    for broken in ("{", '{"roles": {}, "keys": [{"id": "a"}]}', good.replace('"app"', '"boss"', 1)):
        file.write_text(broken)
        assert client.get("/forecast", key).status_code == client.get("/forecast", key).status_code == 200
        told = [line for line in capfd.readouterr().out.splitlines() if '"problem"' in line]
        assert len(told) == 1, "once per change, not once per request"
    file.unlink()
    assert client.get("/forecast", key).status_code == 200
    write_keys(file, KeysFile(roles=ROLES))
    assert client.get("/forecast", key).status_code == 401


def test_limits_count_per_owner_and_not_per_key(file: Path) -> None:
    keys = [add_key(file, f"partner-{number}", "partner", "partner") for number in (1, 2)]
    other = add_key(file, "other-1", "other", "partner")
    client = Client(file)
    answers = [client.get("/forecast", keys[number % 2]) for number in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 10  # six a minute
    assert client.get("/forecast", other).status_code == 200


def test_the_budget_counts_answers_and_not_requests(file: Path) -> None:
    keys = [add_key(file, f"partner-{number}", "partner", "partner") for number in (1, 2)]
    client = Client(file)
    assert [client.get(f"/forecast?{days}", keys[0]).status_code for days in (7, 4)] == [200, 429]
    assert client.get("/forecast?3", keys[1]).status_code == 200  # what is left, whichever key asks
    free = add_key(file, "app-1", "dashboard", "app")
    assert client.get("/forecast?100000", free).status_code == 200


def test_a_bucket_fills_steadily() -> None:
    bucket = Bucket(at=0)
    assert [bucket.take(1, size=2, per_second=0.5, now=0) for _ in range(3)] == [0, 0, 2]
    assert bucket.take(1, 2, 0.5, now=1.9) == pytest.approx(0.1)
    assert bucket.take(1, 2, 0.5, now=2) == 0
    assert bucket.take(2, 2, 0.5, now=1000) == 0, "never fuller than its size"
    assert bucket.take(1, 2, 0.5, now=1000) == 2
    day = Bucket(at=0)
    assert day.take(100, 100, 100 / DAY, now=0) == 0 and day.take(100, 100, 100 / DAY, now=DAY) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"keys": [{"id": "a", "owner": "o", "role": "app", "sha256": "secret-in-clear"}]}, "keys.0.sha256"),
        ({"keys": [{"id": "a", "owner": "o", "role": "boss", "sha256": "0" * 64}]}, "roles that are not there: boss"),
        ({"keys": [{"id": "a", "owner": "o", "role": "app", "sha256": "0" * 64}] * 2}, "its own id"),
        ({"keys": [{"id": "a", "owner": "o", "role": "app", "sha256": "0" * 64, "ends": "2026-01-01T00:00:00"}]},
         "timezone"),
        ({"role": {}}, "role: Extra"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named_without_what_stands_in_it(change: object, said: str, file: Path) -> None:
    assert isinstance(change, dict)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(KeysError) as caught:
        KeyRing(file)
    assert said in str(caught.value) and "secret-in-clear" not in str(caught.value)


def test_keys_are_managed_on_the_command_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    api_keys.main([str(file), "add", "app-1", "--owner", "dashboard", "--role", "app"])
    key = capsys.readouterr().out.strip()
    assert Client(file).get("/forecast", key).status_code == 200
    capsys.readouterr()
    api_keys.main([str(file), "list"])
    assert capsys.readouterr().out == "app-1\tdashboard\tapp\n"
    for wrong, said in (
        (["add", "app-1", "--owner", "x", "--role", "app"], "its own id"),
        (["add", "app-2", "--owner", "x", "--role", "boss"], "boss"),
        (["remove", "app-9"], "It has: app-1"),
    ):
        with pytest.raises(SystemExit, match=said):
            api_keys.main([str(file), *wrong])
    api_keys.main([str(file), "remove", "app-1"])
    assert read_keys(file).keys == ()
    with pytest.raises(KeysError, match="cannot be read"):
        read_keys(file.with_name("missing.json"))
