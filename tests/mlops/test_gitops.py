"""The repository says what a stage serves, and the stage follows."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.mlops.stubs import package, use_stub_servers
from workshop_lib import manifests
from workshop_lib.mlops import approvals, deployments, gitops
from workshop_lib.mlops.deployments import current
from workshop_lib.mlops.gitops import GitError, create, drift, git, propose, reconcile, revert

REQUIRE = approvals.require


@pytest.fixture
def repository(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A state repository, and empty stages with quick servers."""
    use_stub_servers(monkeypatch)
    yield create(tmp_path / "state.git")
    deployments.stop_all()


def test_a_stage_follows_the_repository(repository: Path) -> None:
    empty = drift(repository, "production")
    assert empty.in_sync and (empty.desired, empty.running) == ("", "")
    commit = propose(repository, "production", package("v1.0.0"), actor="pipeline", reason="approved")
    before = reconcile(repository, "production")
    assert (before.desired, before.running, before.in_sync) == ("stub v1.0.0", "", False)
    assert before.commit == commit[:8]
    running = current("production")
    assert running is not None and running.version == "v1.0.0"
    assert reconcile(repository, "production").in_sync and current("production") == running, (
        "it was restarted for nothing"
    )
    assert current("staging") is None


def test_what_somebody_changed_by_hand_is_seen_and_corrected(repository: Path) -> None:
    propose(repository, "staging", package("v1.0.0"), actor="pipeline", reason="run 1")
    reconcile(repository, "staging")
    deployments.deploy("staging", package("v2.0.0"), actor="olga", reason="in a hurry")
    assert drift(repository, "staging").running == "stub v2.0.0"
    assert not reconcile(repository, "staging").in_sync
    assert drift(repository, "staging").in_sync
    deployments.stop("staging")
    assert drift(repository, "staging").running == ""


def test_options_have_to_agree_as_well(repository: Path) -> None:
    propose(repository, "staging", package("v1.0.0"), actor="pipeline", reason="a", options={"WORKSHOP_SEED": "1"})
    reconcile(repository, "staging")
    propose(repository, "staging", package("v1.0.0"), actor="pipeline", reason="b", options={"WORKSHOP_SEED": "2"})
    assert drift(repository, "staging").desired == "stub v1.0.0 WORKSHOP_SEED=2"
    reconcile(repository, "staging")
    running = current("staging")
    assert running is not None and running.options == {"WORKSHOP_SEED": "2"}


def test_reverting_goes_back_one_commit_of_that_stage(repository: Path) -> None:
    for version in ("v1.0.0", "v2.0.0"):
        propose(repository, "staging", package(version), actor="ana", reason="better")
    propose(repository, "production", package("v1.0.0"), actor="ana", reason="first")
    revert(repository, "staging", actor="pipeline", reason="tests failed")
    wanted = gitops.desired(repository, "staging")
    assert wanted is not None and wanted.version == "v1.0.0"
    still = gitops.desired(repository, "production")
    assert still is not None and still.version == "v1.0.0"
    revert(repository, "production", actor="pipeline", reason="it was the first")
    assert gitops.desired(repository, "production") is None
    said = git("log", "--format=%an %s", folder=repository).splitlines()
    assert said[0].startswith("pipeline production: back to before") and said[-1] == "workshop First state"
    with pytest.raises(GitError, match="never said anything about moon"):
        revert(repository, "moon", actor="pipeline", reason="")


def test_the_repository_asks_for_the_approval_too(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approvals, "require", REQUIRE)
    with pytest.raises(approvals.NotApproved):
        propose(repository, "production", package("v1.0.0"), actor="pipeline", reason="nobody asked")
    assert gitops.desired(repository, "production") is None


def test_a_version_that_does_not_start_leaves_the_stage(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    propose(repository, "staging", package("v1.0.0"), actor="ana", reason="good")
    reconcile(repository, "staging")
    running = current("staging")
    propose(repository, "staging", package("v9.0.0"), actor="ana", reason="bad")
    monkeypatch.setattr("workshop_lib.mlops.packages.find", lambda version, name: package(version, "broken"))
    with pytest.raises(deployments.DeploymentError):
        reconcile(repository, "staging")
    assert current("staging") == running and not drift(repository, "staging").in_sync


def test_what_is_committed_is_what_a_cluster_takes() -> None:
    for stage in deployments.STAGES:
        text = yaml.safe_dump(gitops.manifest(stage, package("v1.0.0"), {"A": "1"}))
        (document,) = manifests.parse(text, "forecaster.yaml")
        assert manifests.problems([document]) == []
        assert document.get("metadata.namespace").startswith("supermarket")


def test_gits_words_reach_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GitError, match="does not exist"):
        drift(tmp_path / "nothing.git", "staging")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match="not installed"):
        git("status")


def test_importing_it_is_quick() -> None:
    """A step of the pipeline waits for its imports each time."""
    heavy = ("mlflow", "pandas", "torch", "sklearn", "kserve", "evidently", "openvino")
    code = "import sys, workshop_lib.mlops.gitops, workshop_lib.mlops.step_release, workshop_lib.mlops.step_model, "
    code += f"workshop_lib.mlops.step_data; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
