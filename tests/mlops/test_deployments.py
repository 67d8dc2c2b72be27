"""A stage changes only to a server that works, and production asks for an approval."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.mlops.stubs import package, use_stub_servers
from workshop_lib.mlops import approvals, audit, deployments
from workshop_lib.mlops.deployments import DeploymentError, current, deploy

REQUIRE = approvals.require


@pytest.fixture(autouse=True)
def stages(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Empty stages with quick servers, stopped at the end."""
    use_stub_servers(monkeypatch)
    yield
    deployments.stop_all()
    assert not list((home / "services").glob("*.json"))


def test_a_stage_serves_what_was_deployed_last(home: Path) -> None:
    assert current("staging") is None
    first = deploy("staging", package("v1.0.0"))
    second = deploy("staging", package("v2.0.0"), actor="olga", reason="better", options={"WORKSHOP_SEED": "7"})
    assert current("staging") == second and second.registry_version == "2"
    assert deployments.infer(second.url, [[1, 2], [3, 4]]).json()["outputs"][0]["data"] == [3, 7]
    assert current("production") is None
    with pytest.raises(httpx.ConnectError):  # the old server is gone
        deployments.infer(first.url, [[1, 2]])


@pytest.mark.parametrize("registry_version", ["broken", "liar"])
def test_a_bad_server_never_counts(home: Path, registry_version: str) -> None:
    good = deploy("staging", package("v1.0.0"))
    with pytest.raises(DeploymentError, match=r"v9\.0\.0 does not serve on staging, which stays as it was"):
        deploy("staging", package("v9.0.0", registry_version))
    assert current("staging") == good
    assert deployments.infer(good.url, [[1, 2]]).status_code == 200
    services = list((home / "services").glob("*.json"))
    assert [path.stem for path in services] == [good.service.name], "the bad server still runs"


def test_a_server_that_died_serves_nothing(home: Path) -> None:
    running = deploy("staging", package("v1.0.0"))
    deployments._stop(running)
    assert current("staging") is None
    assert deploy("staging", package("v2.0.0")).version == "v2.0.0"


def test_nothing_reaches_production_without_an_approval(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = deploy("production", package("v1.0.0"))
    monkeypatch.setattr(approvals, "require", REQUIRE)
    with pytest.raises(approvals.NotApproved):
        deploy("production", package("v2.0.0"))
    deploy("staging", package("v2.0.0"))
    assert current("production") == old


def test_every_change_is_in_the_trail(home: Path) -> None:
    deploy("staging", package("v1.0.0"), actor="pipeline", reason="run 1")
    deploy("staging", package("v2.0.0"), actor="pipeline", reason="run 2")
    deployments.stop("staging", actor="olga", reason="lunch")
    rows = [(one.action, one.subject, one.actor, one.reason, one.details.get("replaces")) for one in audit.read()]
    assert rows == [
        ("deploy", "stub v1.0.0", "pipeline", "run 1", ""),
        ("deploy", "stub v2.0.0", "pipeline", "run 2", "v1.0.0"),
        ("stop", "stub v2.0.0", "olga", "lunch", None),
    ]
    assert audit.verify() == 3


def test_a_trail_that_was_changed_stops_every_change(home: Path) -> None:
    good = deploy("staging", package("v1.0.0"))
    trail = audit.trail_file()
    trail.write_text(trail.read_text(encoding="utf-8").replace("released", "nothing!"), encoding="utf-8")
    trail.write_text(trail.read_text(encoding="utf-8") + "{}\n", encoding="utf-8")
    with pytest.raises(audit.AuditError):
        deploy("staging", package("v2.0.0"))
    assert current("staging") == good
    trail.unlink()
    trail.with_suffix(".head").unlink()


def test_there_are_two_stages(home: Path) -> None:
    with pytest.raises(DeploymentError, match="staging and production"):
        deploy("moon", package("v1.0.0"))
