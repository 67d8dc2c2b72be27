"""The runbook for a leaked key: nobody is turned away who should not be, and the thief is."""

from __future__ import annotations

from pathlib import Path

import pytest

from workshop_lib.files import write_text
from workshop_lib.mlops.key_rotation import STEPS, rotate, uses
from workshop_lib.mlops.security_stand import Stand
from workshop_lib.serving.api_keys import add_key, read_keys, remove_key
from workshop_lib.serving.prediction_log import read_log

REQUESTS = 10


@pytest.mark.long
def test_a_leaked_key_is_exchanged_without_a_failed_request(stand: Stand, tmp_path: Path) -> None:
    mounted = tmp_path / "key"
    write_text(mounted, add_key(stand.keys_file, "kiosk-1", "kiosk", "app"))
    url = stand.api("dashboard").url
    done = rotate(url, stand.keys_file, "kiosk", "app", mounted, REQUESTS)
    assert done.failed == 0 and done.let_in == 0
    assert done.second_key_uses >= REQUESTS - 1  # the change-over may come in the middle of a request
    table = done.table()
    assert list(table.index) == list(STEPS)
    assert (table["owner", "answered"] >= REQUESTS).all() and (table["owner", "turned away"] == 0).all()
    assert (table["thief", "answered"].iloc[:3] >= REQUESTS).all() and table["thief", "turned away"].iloc[3] >= REQUESTS
    assert [key.id for key in read_keys(stand.keys_file).keys if key.owner == "kiosk"] == ["kiosk-2"]
    counted = uses(url)
    assert counted["kiosk-2"] >= 2 * REQUESTS - 1
    keys = {line["key"] for line in read_log(stand.log)}
    assert {"kiosk-1", "kiosk-2"} <= keys, "the log tells which answers the thief may have got"
    remove_key(stand.keys_file, "kiosk-2")


@pytest.mark.long
def test_the_stand_s_owners_may_what_their_roles_say(stand: Stand) -> None:
    forecast = {"category": "SOFT DRINKS", "dates": ["2018-01-01"]}
    status = {
        (owner, path): stand.ask(owner, path, body).status_code
        for owner in ("dashboard", "supplier", "partner", "nobody")
        for path, body in (("/forecast", forecast), ("/churn", {"household_id": 1}))
    }
    assert status == {
        ("dashboard", "/forecast"): 200, ("dashboard", "/churn"): 200, ("supplier", "/forecast"): 200,
        ("supplier", "/churn"): 403, ("partner", "/forecast"): 403, ("partner", "/churn"): 200,
        ("nobody", "/forecast"): 401, ("nobody", "/churn"): 401,
    }  # fmt: skip
