"""The comparison of servers: the same model everywhere, nothing left behind, nothing in the learner's registry."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from workshop_lib import processes
from workshop_lib.processes import ServiceError
from workshop_lib.serving import load_plots, runtimes
from workshop_lib.serving import side_by_side as lab
from workshop_lib.serving.load import Load, Target, Usage, background_load, table
from workshop_lib.settings import settings


@pytest.fixture(scope="module")
def forest() -> lab.Scratch:
    return lab.scratch(trees=10)


@pytest.fixture(scope="module")
def servers(forest: lab.Scratch) -> Iterator[list[lab.Rival]]:
    with lab.serving([*lab.rivals(forest), *lab.variants(forest)[:1]]) as running:
        yield list(running)


def named(servers: list[lab.Rival], label: str) -> lab.Rival:
    return next(server for server in servers if server.label == label)


def test_the_forest_has_a_registry_of_its_own(forest: lab.Scratch) -> None:
    assert forest.folder.is_relative_to(settings.home / "benchmarks")
    assert forest.rows.dtype == np.float32 and forest.rows.shape[1] == len(forest.columns)
    assert str(forest.folder) in forest.variables["MLFLOW_TRACKING_URI"]
    assert (forest.folder / "mlflow.db").is_file()
    assert forest.variables["MLFLOW_TRACKING_URI"] != settings.tracking_uri


def test_the_forest_is_made_once(forest: lab.Scratch) -> None:
    begun = time.monotonic()
    assert lab.scratch(trees=10) == forest
    assert time.monotonic() - begun < 10


@pytest.mark.long
def test_all_servers_answer_with_the_same_model(servers: list[lab.Rival], forest: lab.Scratch) -> None:
    differences = lab.check_answers(servers, forest.rows[:5])
    assert set(differences.index) == {server.label for server in servers} - {lab.CEILING}
    assert len(differences) == len(servers) - 1  # the one with the constant knows no forest
    assert (differences["largest difference"] < 1e-4).all()


@pytest.mark.long
def test_a_server_with_another_model_is_found_out(servers: list[lab.Rival], forest: lab.Scratch) -> None:
    honest = named(servers, lab.TYPED)
    other = replace(honest, label="other", read=lambda answer: [1.01 * units for units in answer["units"]])
    with pytest.raises(lab.RivalError, match="other"):
        lab.check_answers([honest, other], forest.rows[:3])


@pytest.mark.long
def test_a_server_that_refuses_is_named(servers: list[lab.Rival], forest: lab.Scratch) -> None:
    wrong = replace(named(servers, lab.COURSE), label="wrong", body=lambda rows: {"inputs": []})
    with pytest.raises(lab.RivalError, match="wrong answered 400"):
        lab.check_answers([wrong], forest.rows[:1])


@pytest.mark.long
def test_one_after_the_other_is_measured(servers: list[lab.Rival], forest: lab.Scratch) -> None:
    chosen = [named(servers, label) for label in (lab.COURSE, lab.MLFLOW, lab.TYPED)]
    loads = lab.side_by_side(chosen, forest.rows[:1], seconds=1)
    shown = table(loads)
    assert list(shown.index) == [lab.COURSE, lab.MLFLOW, lab.TYPED]
    assert (shown["errors"] == 0).all() and (shown["requests/s"] > 1).all()
    assert (shown["server CPU ms/request"] > 0).all() and (shown["server MiB"] > 50).all()
    # So far apart that no busy neighbour turns them round.
    assert shown.loc[lab.COURSE, "server CPU ms/request"] < shown.loc[lab.MLFLOW, "server CPU ms/request"] / 5
    assert len(load_plots.plot_side_by_side(loads, lab.COURSE).axes) == 2


@pytest.mark.parametrize(("answers", "lasted"), [((0, 3), [1, 10]), ((5,), [1])])
def test_a_slow_server_gets_more_time(
    forest: lab.Scratch, monkeypatch: pytest.MonkeyPatch, answers: tuple[int, ...], lasted: list[float]
) -> None:
    given, seen = iter(answers), []

    def measured(target: Target, connections: int, *, seconds: float, pid: int | None, label: str) -> Load:
        seen.append(seconds)
        usage = Usage()
        return Load(label, "wrk", connections, next(given), {}, seconds, {"P99": 1.0}, usage, 0.1)

    monkeypatch.setattr(lab, "measure", measured)
    [load] = lab.side_by_side([lab.typed(forest)], forest.rows[:1], seconds=1)
    assert (load.requests, seen) == (answers[-1], lasted)


def test_a_server_that_answers_nothing_is_named(forest: lab.Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Load("silent", "wrk", 1, 2, {"status 500": 2}, 1.0, {}, Usage(), 0.1)
    monkeypatch.setattr(lab, "measure", lambda *args, **options: nothing)
    with pytest.raises(lab.RivalError, match="silent answered nothing in 10 s"):
        lab.side_by_side([lab.typed(forest, "silent")], forest.rows[:1], seconds=1)


@pytest.mark.long
def test_together_means_at_the_same_time(servers: list[lab.Rival], forest: lab.Scratch) -> None:
    begun = time.monotonic()
    loads = lab.together([named(servers, lab.COURSE), named(servers, lab.TYPED)], forest.rows[:1], 2, seconds=2)
    assert time.monotonic() - begun < 5.5  # one after the other would take six
    assert [load.failed for load in loads] == [0, 0]


@pytest.mark.long
def test_a_frozen_server_wakes_up_again(servers: list[lab.Rival], forest: lab.Scratch) -> None:
    rival = named(servers, lab.COURSE)
    with background_load(rival.target(forest.rows[:1]), rate=50, seconds=2.5) as load:
        lab.freeze(rival, after=0.5 - load.now(), seconds=1)
        load.wait()
    frame = load.frame()
    assert (frame["error"] == "").all()
    assert 700 < frame["ms"].max() < 1500
    assert frame["ms"].tail(10).median() < 300
    assert len(load_plots.plot_stall({"open": frame, "again": frame}).axes) == 2
    assert load_plots.plot_sustained(frame, 100).axes[0].get_yscale() == "log"


def test_a_comparison_leaves_nothing_behind(forest: lab.Scratch, home: Path) -> None:
    rivals = [lab.typed(forest, "one"), lab.sdk(forest, "two", "--answer", "constant", "--quiet")]
    with lab.serving(rivals) as running:
        pids = [rival.pid for rival in running]
        assert None not in pids and all(psutil.pid_exists(pid) for pid in pids if pid)
    assert not any(processes.port_in_use(rival.service.port) for rival in rivals)
    assert not any(psutil.pid_exists(pid) for pid in pids if pid)


def test_one_that_cannot_start_stops_them_all(forest: lab.Scratch, home: Path) -> None:
    good = lab.typed(forest, "good")
    bad = lab.sdk(forest, "bad", "--answer", "nothing")
    begun = time.monotonic()
    with pytest.raises(ServiceError, match="rival-bad ended while it started"), lab.serving([good, bad]):
        pass
    assert time.monotonic() - begun < 60
    assert not processes.port_in_use(good.service.port)
    assert processes.status(good.service).pid is None


def test_what_a_killed_notebook_left_is_stopped_first(forest: lab.Scratch, home: Path) -> None:
    left = lab.typed(forest, "twice")
    processes.start(left.service)
    again = lab.typed(forest, "twice")
    with lab.serving([again]):
        assert not processes.port_in_use(left.service.port)
    assert not processes.port_in_use(again.service.port)


def test_the_runtimes_can_be_compared_in_process(forest: lab.Scratch) -> None:
    found = runtimes.in_process(forest.rows, (1, 64), seconds=0.05)
    assert list(found.columns) == [runtimes.ONNX_RUNTIME, runtimes.OPENVINO] and list(found.index) == [1, 64]
    assert (found > 0).all(axis=None)
    assert (found.loc[64] > found.loc[1] / 4).all()  # rows, not calls, per second
    assert len(load_plots.plot_batches(found, found).axes) == 2


@pytest.mark.long
def test_the_runtimes_can_be_compared_through_a_server(servers: list[lab.Rival], forest: lab.Scratch) -> None:
    one, two = (replace(named(servers, lab.COURSE), label=label) for label in ("ONNX Runtime", "OpenVINO"))
    found = runtimes.over_http([one, two], forest.rows, (4, 128), seconds=0.5)
    assert found.index.to_list() == [(4, "ONNX Runtime"), (4, "OpenVINO"), (128, "ONNX Runtime"), (128, "OpenVINO")]
    assert (found["errors"] == 0).all()
    assert found.loc[(128, "OpenVINO"), "rows/s"] > found.loc[(4, "OpenVINO"), "rows/s"]


def test_one_runtime_each_differs_in_the_setting_only() -> None:
    never, always = runtimes.one_runtime_each()
    values = [int(rival.service.env["WORKSHOP_FORECASTER_OPENVINO_ROWS"]) for rival in (never, always)]
    assert values[0] > settings.forecaster_max_rows and values[1] == 2
    assert "MLFLOW_TRACKING_URI" not in never.service.env  # the learner's champion


@pytest.mark.parametrize(
    ("onnx", "openvino", "batch"),
    [
        ([1, 1, 1], [2, 2, 2], 1),
        ([2, 2, 1], [1, 1, 2], 64),
        ([2, 1, 1], [1, 1, 2], 16),  # as fast is fast enough
        ([1, 2, 1], [2, 1, 2], 64),  # a lucky small batch does not count
        ([2, 2, 2], [1, 1, 1], None),
        ([1, 1, 2], [2, 2, 1], None),
    ],
)
def test_the_crossover_is_where_openvino_wins_for_good(onnx: list[int], openvino: list[int], batch: int | None) -> None:
    speed = pd.DataFrame({runtimes.ONNX_RUNTIME: onnx, runtimes.OPENVINO: openvino}, index=[1, 16, 64])
    assert runtimes.crossover(speed) == batch
    assert runtimes.crossover(speed.iloc[::-1]) == batch


def test_the_bodies_say_the_same_in_each_dialect(forest: lab.Scratch) -> None:
    rows = forest.rows[:2]
    v2 = json.loads(lab.sdk(forest, "x").target(rows).bodies[0])["inputs"][0]
    assert v2["shape"] == [2, rows.shape[1]] and v2["data"] == pytest.approx(rows.ravel().tolist())
    table_ = json.loads(lab.mlflow_sklearn(forest).target(rows).bodies[0])["dataframe_split"]
    assert table_["columns"] == forest.columns and np.allclose(table_["data"], rows)
