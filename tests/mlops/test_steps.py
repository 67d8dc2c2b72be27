"""The commands behind the tasks, each asked for what it does and for what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.mlops.stubs import package, use_stub_servers
from workshop_lib.mlops import approvals, deployments, gitops, step_model, step_release, steps
from workshop_lib.mlops.gitops import create, git
from workshop_lib.mlops.step_data import checkout
from workshop_lib.mlops.step_notify import notify
from workshop_lib.mlops.steps import StepFailed, main
from workshop_lib.monitoring.inbox import Inbox

REQUIRE = approvals.require


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one file."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "model.txt").write_text("a model", encoding="utf-8")
    return create(folder.with_name("code.git"), folder)


@pytest.fixture
def state(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A state repository, and empty stages with quick servers."""
    use_stub_servers(monkeypatch)
    yield create(tmp_path / "state.git")
    deployments.stop_all()


# --- The command line -----------------------------------------------------------------------------


def test_options_are_the_functions_parameters(code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = tmp_path / "results" / "commit"
    done = main(["checkout", "--workspace", str(tmp_path), "--repository", str(code), "--result", f"commit={result}"])
    assert done == 0
    assert result.read_text(encoding="utf-8") == git("rev-parse", "HEAD", folder=code)
    assert capsys.readouterr().out == f"commit {result.read_text(encoding='utf-8')}\n"


def test_a_no_is_said_in_a_line(code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["checkout", "--workspace", str(tmp_path), "--repository", str(code), "--revision=--upload-pack=x"]
    assert main(wrong) == 1
    assert capsys.readouterr().err == "checkout: '--upload-pack=x' is no revision.\n"


@pytest.mark.parametrize(
    "arguments", [["moonwalk"], ["checkout"], ["training", "--workspace", "x", "--rounds", "many"]]
)
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and "usage" in capsys.readouterr().err


def test_every_task_has_a_function_that_says_what_it_does() -> None:
    for task in steps.TASKS:
        assert steps.function_of(task).__doc__


# --- Code and data --------------------------------------------------------------------------------


def test_the_code_is_that_of_the_revision(code: Path, tmp_path: Path) -> None:
    first = git("rev-parse", "HEAD", folder=code)
    for _ in range(2):  # a second time it begins anew
        assert checkout(tmp_path, str(code), first) == {"commit": first}
        assert (tmp_path / "source" / "model.txt").read_text(encoding="utf-8") == "a model"
    with pytest.raises(gitops.GitError, match="nowhere"):
        checkout(tmp_path, str(code), "nowhere")


# --- The model ------------------------------------------------------------------------------------


def test_a_model_that_forecasts_badly_goes_no_further(tmp_path: Path) -> None:
    """With two rounds of boosting a forest knows little more than the mean."""
    state = create(tmp_path / "state.git")
    assert int(step_model.training(tmp_path, rounds=2, depth=3, trees=1)["rows"]) > 30_000
    with pytest.raises(StepFailed, match=r"of the error of last week's sales, and 0\.7 is allowed"):
        step_model.model_validation(tmp_path, str(state))
    assert json.loads((tmp_path / step_model.VALIDATION).read_text(encoding="utf-8"))["ratio"] > 0.7


# --- Releases -------------------------------------------------------------------------------------


def test_staging_serves_and_goes_back(state: Path, tmp_path: Path) -> None:
    first = step_release.deploy_staging(tmp_path, "stub", "v1.0.0", str(state))
    second = step_release.deploy_staging(tmp_path, "stub", "v2.0.0", str(state), max_rows=1)
    assert httpx.get(f"{second['url']}/v2/models/sales-forecaster").json()["versions"] == ["2"]
    assert first["url"] != second["url"]
    assert step_release.rollback("staging", str(state))["serves"] == "stub v1.0.0"
    running = deployments.current("staging")
    assert running is not None and running.options == {"WORKSHOP_FORECASTER_MAX_ROWS": "10000"}


def test_going_back_from_the_first_release_empties_the_stage(state: Path, tmp_path: Path) -> None:
    step_release.deploy_staging(tmp_path, "stub", "v1.0.0", str(state))
    assert step_release.rollback("staging", str(state))["serves"] == "nothing"
    assert deployments.current("staging") is None


def test_production_without_an_approval_stays(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step_release.deploy_production(tmp_path, "stub", "v1.0.0", str(state))
    monkeypatch.setattr(approvals, "require", REQUIRE)
    with pytest.raises(StepFailed, match=r"stub v2\.0\.0 is draft, not approved"):
        step_release.deploy_production(tmp_path, "stub", "v2.0.0", str(state))
    assert gitops.drift(state, "production").in_sync
    running = deployments.current("production")
    assert running is not None and running.version == "v1.0.0"


def test_a_version_that_does_not_start_leaves_stage_and_repository(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_release.deploy_staging(tmp_path, "stub", "v1.0.0", str(state))
    monkeypatch.setattr("workshop_lib.mlops.packages.find", lambda version, name: package(version, "broken"))
    with pytest.raises(StepFailed, match="does not serve on staging"):
        step_release.deploy_staging(tmp_path, "stub", "v9.0.0", str(state))
    drift = gitops.drift(state, "staging")
    assert drift.in_sync and drift.running.startswith("stub v1.0.0")


def test_on_a_cluster_the_step_waits_for_the_stage(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Argo CD changes the stage there; the step only asks its address."""
    served = deployments.deploy("production", package("v1.0.0"))  # stands for the stage on the cluster
    monkeypatch.setattr(step_release, "WAIT_SECONDS", 0)
    assert step_release.deploy_staging(tmp_path, "stub", "v1.0.0", str(state), url=served.url)["url"] == served.url
    assert deployments.current("staging") is None
    with pytest.raises(StepFailed, match=r"staging does not serve stub v2\.0\.0 after 0 s"):
        step_release.deploy_staging(tmp_path, "stub", "v2.0.0", str(state), url=served.url)


def test_the_integration_tests_name_what_is_wrong(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handed_in: list[str] = []
    monkeypatch.setattr(step_release, "_hand_in", lambda workspace, package, author: handed_in.append(author))
    golden = step_model.golden_file(package("v1.0.0"))
    golden.parent.mkdir(parents=True)
    golden.write_text(json.dumps({"rows": [[1, 2], [3, 4]], "units": [3, 7]}), encoding="utf-8")
    url = step_release.deploy_staging(tmp_path, "stub", "v1.0.0", str(state))["url"]
    assert step_release.integration_tests(tmp_path, "stub", "v1.0.0", url, "ana") == {"passed": "4"}
    assert handed_in == ["ana"]

    golden.write_text(json.dumps({"rows": [[1, 2], [3, 4]], "units": [3, 8]}), encoding="utf-8")
    with pytest.raises(StepFailed, match=r"^all categories in one request: forecasts differ by up to 0\.12$"):
        step_release.integration_tests(tmp_path, "stub", "v1.0.0", url, "ana")
    url = step_release.deploy_staging(tmp_path, "stub", "v1.0.0", str(state), max_rows=1)["url"]
    with pytest.raises(StepFailed, match="2 rows in one request are answered with 400"):
        step_release.integration_tests(tmp_path, "stub", "v1.0.0", url, "ana")
    found = json.loads((tmp_path / step_release.TESTS).read_text(encoding="utf-8"))
    assert [name for name, said in found.items() if said] == ["all categories in one request"]
    assert handed_in == ["ana"], "a version that failed was handed in"


# --- News -----------------------------------------------------------------------------------------


def test_people_are_told() -> None:
    with Inbox() as inbox:
        webhook = f"{inbox.url}/slack/releases"
        assert notify("run-1", "Failed", "tests Failed", webhook) == {"told": "releases"}
        notify("run-2", "Completed", webhook=webhook)
        assert [(one.status, one.title) for one in inbox.messages] == [
            ("firing", "run-1: Failed"),
            ("resolved", "run-2: Completed"),
        ]
    assert notify("run-3", "Failed") == {"told": "nobody"}
