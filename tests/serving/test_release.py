"""Releases between two real versions under load: what callers see of each strategy, and what is left afterwards."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pandas as pd
import psutil
import pytest
from mlflow.tracking import MlflowClient

from workshop_lib import processes
from workshop_lib.predictive.champion import ensure_champion
from workshop_lib.predictive.tracking import FORECASTER
from workshop_lib.processes import Service, ServiceError
from workshop_lib.serving import release_report, release_stage, shadow
from workshop_lib.serving.release import (
    Guard,
    Release,
    Seen,
    Server,
    Stage,
    blue_green,
    canary,
    challenger,
    champion,
    feature_flag,
    open_stage,
    recreate,
    rolling,
)
from workshop_lib.serving.release import shadow as shadow_release
from workshop_lib.serving.release_exercises import EXERCISES
from workshop_lib.serving.release_report import (
    Step,
    compare_by_category,
    plot_shadow,
    plot_timelines,
    shadow_log,
    summary,
)
from workshop_lib.serving.release_servers import answered, questions, warm
from workshop_lib.settings import settings

PATIENT = Guard(slow=1)
"""Looks at failures only: how fast a busy machine is, is not the question here."""


@pytest.fixture(scope="module")
def versions() -> dict[str, str]:
    return {"blue": champion(), "green": challenger()}


@pytest.fixture(scope="module")
def scene(versions: dict[str, str]) -> Iterator[SimpleNamespace]:
    """A stage with a server of each version, shared by all tests of this file."""
    with open_stage(rate=30) as stage:
        blue, green = (stage.server(name, version) for name, version in versions.items())
        stage.reset([blue, green])
        yield SimpleNamespace(stage=stage, blue=blue, green=green)


@pytest.fixture
def on_blue(scene: SimpleNamespace) -> SimpleNamespace:
    """All requests go to blue, and green runs."""
    scene.stage.start(scene.green)
    scene.stage.reset([scene.blue], keep=[scene.green])
    return scene


def answered_by(release: Release, begin: float = 0, end: float = float("inf")) -> set[str]:
    """Versions whose answers came to requests that were due within a time; failed requests count as ''."""
    return set(release.frame.loc[release.frame["due"].between(begin, end), "tag"])


# --- The strategies, with real servers --------------------------------------------------------------


@pytest.mark.long
def test_blue_green_moves_every_request_and_back_without_losing_one(
    on_blue: SimpleNamespace, versions: dict[str, str]
) -> None:
    stage, blue, green = on_blue.stage, on_blue.blue, on_blue.green
    done = stage.perform(
        "blue-green", lambda: blue_green(stage, blue, green), lambda: stage.route({blue: 100, green: 0})
    )
    assert done.failed.empty and len(done.frame) > 40
    assert done.back is not None
    # A request counts from when it was due; it may be sent, and so routed, a little later.
    assert answered_by(done, 0, done.begun - 0.3) == {versions["blue"]}
    assert answered_by(done, done.ended, done.back[0] - 0.3) == {versions["green"]}
    assert answered_by(done, done.back[1]) == {versions["blue"]}
    assert done.processes == 2


@pytest.mark.long
def test_a_good_canary_gets_more_and_more_requests(on_blue: SimpleNamespace, versions: dict[str, str]) -> None:
    stage, blue, green = on_blue.stage, on_blue.blue, on_blue.green
    done = stage.perform("canary", lambda: canary(stage, blue, green, (20, 60, 100), seconds=1.5, guard=PATIENT))
    assert done.outcome is True and done.failed.empty and done.back is None
    at = [step.at for step in done.steps if "%" in step.what]
    assert len(at) == 3
    shares = [
        (done.frame.loc[done.frame["due"].between(begin, end), "tag"] == versions["green"]).mean()
        for begin, end in pairwise([0, *at, float("inf")])
    ]
    assert shares[0] == 0 and shares == sorted(shares) and shares[-1] > 0.95
    assert 0 < shares[1] < 0.5


@pytest.mark.long
def test_a_bad_canary_is_taken_back_by_itself_and_hurts_few(on_blue: SimpleNamespace, versions: dict[str, str]) -> None:
    """It is ready and answers one row; what it cannot do shows only with real requests."""
    stage, blue = on_blue.stage, on_blue.blue
    bad = stage.server("bad", versions["green"], {"WORKSHOP_FORECASTER_MAX_ROWS": "1"})
    done = stage.perform(
        "canary", lambda: canary(stage, blue, bad, (50, 100), guard=dataclasses.replace(PATIENT, requests=20))
    )
    assert done.outcome is False and done.back is not None
    assert set(done.failed["error"]) == {"status 502"}
    routed = next(step.at for step in done.steps if step.what.startswith("50%"))
    assert done.failed["due"].between(routed - 0.3, done.back[1]).all()
    assert len(done.failed) < 0.5 * done.frame["due"].between(routed, done.back[1]).sum()
    assert answered_by(done, done.back[1]) == {versions["blue"]}
    assert done.back[1] - done.back[0] < 0.5


@pytest.mark.long
def test_a_shadow_changes_no_answer_and_is_logged(on_blue: SimpleNamespace, versions: dict[str, str]) -> None:
    stage, blue, green = on_blue.stage, on_blue.blue, on_blue.green
    done = stage.perform("shadow", lambda: shadow_release(stage, blue, green, seconds=2))
    assert done.failed.empty and answered_by(done) == {versions["blue"]}
    log = shadow_log(stage.requests_of)
    assert len(log) > 20 and (log["error"] == "").all()
    assert set(log["version"]) == {versions["blue"]} and set(log["shadow_version"]) == {versions["green"]}
    assert (log[["ms", "shadow_ms", "units", "shadow_units"]] > 0).all(axis=None)
    differences = compare_by_category(log)["difference"]
    assert 0 < differences.abs().max() < 1
    assert shadow_log("another-load").empty


def test_a_dead_shadow_is_not_felt(on_blue: SimpleNamespace, versions: dict[str, str]) -> None:
    stage, blue = on_blue.stage, on_blue.blue
    dead = stage.server("dead", versions["green"])

    def release() -> None:
        stage.route({blue: 100}, shadow=dead)
        stage.watch(1.5)
        stage.route({blue: 100})

    done = stage.perform("dead shadow", release)
    assert done.failed.empty and answered_by(done) == {versions["blue"]}
    log = shadow_log(stage.requests_of)
    assert len(log) and (log["error"] != "").all() and compare_by_category(log).empty


@pytest.mark.long
def test_a_flag_moves_its_categories_and_no_others(on_blue: SimpleNamespace, versions: dict[str, str]) -> None:
    stage, blue, green = on_blue.stage, on_blue.blue, on_blue.green
    asked = [json.loads(body)["category"] for body in questions()]
    flagged = set(asked[:15])
    done = stage.perform(
        "flag", lambda: feature_flag(stage, blue, green, flagged), lambda: stage.route({blue: 100}), before=0, after=2
    )
    assert done.failed.empty and done.back is not None
    # The bodies are sent in turn, so the place of a row tells its category.
    during = done.frame[done.frame["due"].between(done.ended, done.back[0] - 0.3)]
    by_flag = {versions["green"]: [], versions["blue"]: []}  # type: dict[str, list[bool]]
    for place, version in during["tag"].items():
        by_flag[version].append(asked[int(place) % len(asked)] in flagged)
    assert len(by_flag[versions["green"]]) > 5 and all(by_flag[versions["green"]])
    assert len(by_flag[versions["blue"]]) > 5 and not any(by_flag[versions["blue"]])
    assert answered_by(done, done.back[1]) == {versions["blue"]}


@pytest.mark.long
def test_recreate_fails_requests_for_as_long_as_nobody_runs(on_blue: SimpleNamespace, versions: dict[str, str]) -> None:
    stage, blue, green = on_blue.stage, on_blue.blue, on_blue.green
    stage.reset([blue])
    done = stage.perform("recreate", lambda: recreate(stage, [blue], [green]))
    assert len(done.failed) > 10 and set(done.failed["error"]) == {"status 503"}
    assert done.failed["due"].between(done.begun - 0.3, done.ended).all()
    assert answered_by(done, done.ended + 0.1) == {versions["green"]}
    assert done.processes == 1
    assert done.start_seconds < done.failed_seconds + 1 < done.ended - done.begun + 1


@pytest.mark.long
def test_rolling_loses_no_request(on_blue: SimpleNamespace, versions: dict[str, str]) -> None:
    stage, blue, green = on_blue.stage, on_blue.blue, on_blue.green
    stage.reset([green])
    done = stage.perform("rolling", lambda: rolling(stage, [green], [blue]))
    assert done.failed.empty
    assert answered_by(done, 0, done.begun) == {versions["green"]}
    assert answered_by(done, done.ended) == {versions["blue"]}
    assert done.processes == 2 and set(stage.running) == {"blue"}


def test_a_server_that_is_drained_has_answered_everything(on_blue: SimpleNamespace) -> None:
    stage, blue, green = on_blue.stage, on_blue.blue, on_blue.green
    counts = []

    def release() -> None:
        blue_green(stage, blue, green)
        stage.drain(blue)
        counts.append(answered(blue))
        time.sleep(1)
        counts.append(answered(blue))

    stage.perform("drain", release)
    assert counts[0] == counts[1] > 0


def test_watching_counts_one_backend_and_goes_on_until_there_are_enough(on_blue: SimpleNamespace) -> None:
    stage, blue, green = on_blue.stage, on_blue.blue, on_blue.green
    seen: list[Seen] = []

    def release() -> None:
        stage.route({blue: 50, green: 50})
        for server in (blue, green, None):
            seen.append(stage.watch(0.5, server))
        seen.append(stage.watch(0.25, at_least=25))
        seen.append(stage.watch(0.2, at_least=10**6))

    stage.perform("watch", release)
    assert all(part.requests > 0 and part.failed == 0 for part in seen)
    assert seen[3].requests >= 25 and seen[4].requests < 10**6
    with pytest.raises(ValueError, match="slow_seconds"):
        stage.watch(0.1, slow_seconds=0.3)


# --- Nothing is left behind -------------------------------------------------------------------------


def listening(stage: Stage, *servers: Server) -> list[bool]:
    return [processes.port_in_use(service.port) for service in (stage.api, *(server.service for server in servers))]


def test_whatever_fails_everything_is_stopped(versions: dict[str, str]) -> None:
    settings.routes_file.unlink(missing_ok=True)
    before = set((settings.home / "services").iterdir())
    with pytest.raises(RuntimeError, match="in the middle"), open_stage() as stage:
        blue = stage.server("blue", versions["blue"])
        green = stage.server("green", "999")
        stage.reset([blue])
        assert all(listening(stage, blue))
        with pytest.raises(ServiceError, match="999"):
            stage.perform("blue-green", lambda: blue_green(stage, blue, green), before=0.2)
        # What could not start leaves the old version in charge.
        assert httpx.get(f"{stage.api.url}/health/ready").json()["dependencies"]["forecaster"]["status"] == "ok"
        raise RuntimeError("in the middle")
    assert not any(listening(stage, blue, green))
    assert not stage.routes_file.exists() and not settings.routes_file.exists()
    assert {path for path in (settings.home / "services").iterdir() if "release-" in path.name} <= before


def test_an_exception_within_a_release_ends_the_load_and_puts_the_routes_back(on_blue: SimpleNamespace) -> None:
    stage, blue, green = on_blue.stage, on_blue.blue, on_blue.green

    def release() -> None:
        blue_green(stage, blue, green)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.perform("interrupted", release, before=0)
    routes = json.loads(stage.routes_file.read_text())
    assert [backend["name"] for backend in routes["backends"] if backend["weight"]] == ["blue"]
    mine = psutil.Process().children(recursive=True)
    assert not [child for child in mine if "workshop_lib.serving.load_worker" in " ".join(child.cmdline())]


def test_the_next_stage_clears_away_what_a_killed_one_left() -> None:
    owner = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    left = [
        Service(f"release-{pid}-blue", 0, (sys.executable, "-c", "import time; time.sleep(60)"), "/")
        for pid in (int(owner.stdout), os.getpid())
    ]
    running = [processes._spawn(service) for service in left]
    for service in left:
        (service.pid_file.parent / service.name).mkdir()  # a stage keeps its routes in a folder
    try:
        release_stage._clear_leftovers()
        files = [service.log.exists() or (service.pid_file.parent / service.name).exists() for service in left]
        assert files == [False, True]
        assert [process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in running] == [
            False,
            True,
        ]
    finally:
        for service in left:
            processes.stop(service)
            shutil.rmtree(service.pid_file.parent / service.name, ignore_errors=True)


# --- The challenger ---------------------------------------------------------------------------------


def test_the_challenger_is_registered_once_and_takes_nobodys_place(versions: dict[str, str]) -> None:
    client = MlflowClient()
    before = len(client.search_model_versions(f"name = '{FORECASTER}'"))
    assert challenger() == versions["green"] != versions["blue"] == champion() == str(ensure_champion().version)
    assert len(client.search_model_versions(f"name = '{FORECASTER}'")) == before
    assert client.get_model_version(FORECASTER, versions["green"]).tags["made_for"] == "release strategies"


# --- Judging and reporting --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "good"),
    [
        (Seen(100, 0, 0), True),
        (Seen(100, 1, 5), True),
        (Seen(100, 2, 0), False),
        (Seen(100, 0, 6), False),
        (Seen(4, 0, 0), False),
        (Seen(0, 0, 0), False),
    ],
)
def test_a_guard_wants_enough_good_and_quick_answers(seen: Seen, good: bool) -> None:
    assert Guard(failed=0.01, slow=0.05, requests=5).accepts(seen) is good


def made_up(**changes: object) -> Release:
    """Ten seconds with a request every 0.1 s; between 4 and 5 s they fail, from 5 s on version 2 answers."""
    due = [place / 10 for place in range(100)]
    frame = pd.DataFrame({"due": due, "sent": due, "ms": [10.0] * 40 + [1.0] * 10 + [20.0] * 30 + [30.0] * 20})
    frame["error"] = ["status 503" if 4 <= at < 5 else "" for at in due]
    frame["status"] = [503 if error else 200 for error in frame["error"]]
    frame["tag"] = ["" if error else "1" if at < 5 else "2" for at, error in zip(due, frame["error"], strict=True)]
    steps = (Step(4, "stop blue"), Step(5, "to green"), Step(5.01, "near"), Step(8, "roll back"))
    release = Release("recreate", frame, steps, 4, 5, 0.8, (8, 8.5), 2)
    return dataclasses.replace(release, **changes)  # type: ignore[arg-type]


def test_the_summary_tells_what_callers_felt() -> None:
    row = summary([made_up()]).loc["recreate"]
    assert row["requests"] == 100 and row["failed"] == 10 and row["failed for s"] == pytest.approx(0.9)
    assert row["P95 before ms"] == 10 and row["P95 after ms"] == 20  # going back is no part of it
    assert row["P95 during ms"] == 20  # the only good answer of that time; failed ones have no waiting time
    assert row["release s"] == 1 and row["of it starting s"] == 0.8 and row["back s"] == 0.5 and row["forecasters"] == 2
    assert summary([made_up(back=None)])["back s"].isna().all()


def test_steps_close_together_share_a_label() -> None:
    assert release_report._labels(made_up().steps, 0.1) == [
        (4, "stop blue"), (5, "to green: near"), (8, "roll back"),
    ]  # fmt: skip


def test_plots_show_every_release_and_every_request() -> None:
    figure = plot_timelines([made_up(), made_up(strategy="rolling"), made_up()], {"blue": "1", "green": "2"})
    axes = [axis for axis in figure.axes if axis.get_title(loc="left") or axis.get_title()]
    assert len(axes) == 3
    points = {part.get_label(): np.shape(part.get_offsets())[0] for part in axes[0].collections}
    assert points == {"blue": 40, "green": 50, "failed": 10}


def test_the_shadow_log_is_read_across_its_two_files(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    file = shadow.log_file()
    file.parent.mkdir(parents=True)
    line = {"category": "BEEF", "dates": ["2018-01-01"], "version": "1", "shadow_version": "2", "ms": 4.0}
    good = {**line, "units": [10.0, 20.0], "shadow_units": [12.0, 24.0], "shadow_ms": 5.0}
    file.with_name("shadow.jsonl.1").write_text(json.dumps({**good, "request_id": "mine-1"}) + "\n")
    rows = [
        {**good, "request_id": "mine-2", "category": "YOGURT", "shadow_units": [10.0, 20.0]},
        {**good, "request_id": "mine-3"},  # the same question again
        {**good, "request_id": "other-1"},
        {"category": "BEEF", "dates": ["2018-01-01"], "version": "1", "error": "away", "request_id": "mine-4"},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    log = shadow_log("mine-")
    assert list(log["category"]) == ["BEEF", "YOGURT", "BEEF", "BEEF"] and list(log["error"]) == ["", "", "", "away"]
    assert list(log["units"][:3]) == [30, 30, 30] and log["units"].isna()[3]
    table = compare_by_category(log)
    assert list(table.index) == ["BEEF", "YOGURT"] and list(table["questions"]) == [1, 1]
    assert table.loc["BEEF", "difference"] == pytest.approx(0.2) and table.loc["YOGURT", "difference"] == 0
    assert len(plot_shadow(log).axes) == 2


def test_questions_cover_every_category_with_one_day_and_with_several(versions: dict[str, str]) -> None:
    asked = [json.loads(body) for body in questions(several=2)]
    assert len({one["category"] for one in asked}) == len(asked)
    assert [len(one["dates"]) for one in asked[:4]] == [1, 3, 1, 3]


def test_warming_up_fails_where_nobody_answers(free_port) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(httpx.HTTPError):
        warm(f"http://127.0.0.1:{free_port()}")


# --- Exercises --------------------------------------------------------------------------------------


def good_check(seen: Seen) -> bool:
    return seen.requests >= 50 and seen.failed <= 0.02 * seen.requests


def good_retirement(stage: Stage, old: Server, new: Server) -> None:
    stage.route({new: 100})
    stage.drain(old)
    stage.stop(old)


RIGHT = {"3.5.a": "Shadow", "3.5.b": good_check, "3.5.c": good_retirement}
WRONG: dict[str, list[Any]] = {
    "3.5.a": ["canary", "feature flag", "blue-green"],
    "3.5.b": [
        lambda seen: seen.failed <= 0.02 * seen.requests,
        lambda seen: seen.requests >= 50 and seen.failed < 0.02 * seen.requests,
        lambda seen: seen.requests > 50 and seen.failed <= 0.02 * seen.requests,
        lambda seen: seen.requests >= 50,
        lambda seen: not good_check(seen),
    ],
    "3.5.c": [
        lambda stage, old, new: (stage.route({new: 100}), stage.stop(old)),
        lambda stage, old, new: (stage.stop(old), stage.route({new: 100})),
        lambda stage, old, new: (stage.drain(old), stage.route({new: 100}), stage.stop(old)),
        lambda stage, old, new: (stage.route({old: 100}), stage.drain(old), stage.stop(old)),
    ],
}


@pytest.mark.parametrize("number", EXERCISES)
def test_right_answers_are_right_and_foreseen_mistakes_get_their_hint(number: str) -> None:
    exercise = EXERCISES[number]
    assert exercise.right(RIGHT[number])
    hints = []
    for answer in WRONG[number]:
        assert not exercise.right(answer)
        hints.append(next(hint for mistaken, hint in exercise.near_misses if mistaken(answer)))
    assert len(set(hints)) == len(hints)
