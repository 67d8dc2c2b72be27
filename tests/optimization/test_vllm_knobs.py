"""The sweep of vLLM's knobs: what is turned, what is kept, what is drawn."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from workshop_lib.generative.client import connect
from workshop_lib.optimization import vllm_knobs
from workshop_lib.optimization.vllm_knobs import KEPT, SWEEP, USUAL, Figures, Sweep

FIGURES = [field.name for field in fields(Figures)]


def test_knobs_become_arguments_of_vllm() -> None:
    assert vllm_knobs.options(max_num_seqs=4, enable_prefix_caching=False, enable_chunked_prefill=True) == [
        "--max-num-seqs", "4", "--no-enable-prefix-caching", "--enable-chunked-prefill",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="swap: the knobs here are max_num_seqs"):
        vllm_knobs.options(swap=1)


def test_vllm_knows_these_arguments() -> None:
    vllm = find_spec("vllm")  # not imported, which takes long
    assert vllm and vllm.origin
    source = Path(vllm.origin).with_name("engine").joinpath("arg_utils.py").read_text()
    assert all(f'"--{knob.replace("_", "-")}"' in source for knob in USUAL)
    assert all(USUAL[knob] in values for knob, values in SWEEP.items()) and SWEEP.keys() == USUAL.keys()


@pytest.fixture
def turned(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """No servers are started; what was turned is noted, and the figures are those of a machine that slows down."""
    seen: list[dict[str, Any]] = []

    @contextmanager
    def serving(**knobs: Any) -> Iterator[int]:
        seen.append(knobs)
        yield len(seen)

    def measure(number: int) -> Figures:
        return Figures(*(100.0 + number + place / 7 for place in range(len(FIGURES))))

    monkeypatch.setattr(vllm_knobs, "serving", serving)
    monkeypatch.setattr(vllm_knobs, "measure", measure)
    return seen


KNOBS = {"max_num_seqs": (1, 16, 32), "enable_prefix_caching": (False, True)}


def test_each_knob_is_turned_by_itself_and_the_usual_setting_is_repeated(turned: list[dict[str, Any]]) -> None:
    found = vllm_knobs.sweep(KNOBS)
    assert turned == [{}, {"max_num_seqs": 1}, {}, {"max_num_seqs": 32}, {"enable_prefix_caching": False}, {}]
    assert found.table["knob"].tolist() == [
        "usual", "max_num_seqs", "usual", "max_num_seqs", "enable_prefix_caching", "usual",
    ]  # fmt: skip
    rates = vllm_knobs.by_knob(found, "max_num_seqs")["tokens_per_second"]
    assert rates.to_dict() == {1: 102, 16: 103, 32: 104}  # 103 is the median of 101, 103 and 106
    assert vllm_knobs.noise(found)["tokens_per_second"] == pytest.approx(106 / 101)


def test_a_sweep_is_kept_and_read_again(turned: list[dict[str, Any]], tmp_path: Path) -> None:
    found = vllm_knobs.sweep(KNOBS)
    vllm_knobs.write(found, tmp_path / "sweep.json")
    again = vllm_knobs.read(tmp_path / "sweep.json")
    assert (again.machine, again.measured_at) == (found.machine, found.measured_at)
    pd.testing.assert_frame_equal(again.table, found.table.round(2), check_dtype=False)
    assert vllm_knobs.by_knob(again, "enable_prefix_caching").index.tolist() == [False, True]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"machine": "m", "table": []}'])
def test_a_file_that_is_no_sweep_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(ValueError, match=r"sweep\.json is not a sweep .* Delete it"):
        vllm_knobs.read(tmp_path / "sweep.json")


def test_the_command_keeps_a_learners_own_sweep_which_comes_first(
    turned: list[dict[str, Any]], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = vllm_knobs.read()
    vllm_knobs.main(["--knob", "max_num_seqs"])
    assert len(turned) == 3 + len(SWEEP["max_num_seqs"]) - 1
    assert str(home / "benchmarks" / "vllm_knobs.json") in capsys.readouterr().out
    own = vllm_knobs.read()
    assert set(own.table["knob"]) == {"usual", "max_num_seqs"} != set(shipped.table["knob"])


def test_the_kept_sweep_is_complete() -> None:
    found = vllm_knobs.read(KEPT)
    assert found.machine and found.measured_at.startswith("20")
    assert (found.table["knob"] == "usual").sum() == 3
    for knob, values in SWEEP.items():
        table = vllm_knobs.by_knob(found, knob)
        assert table.index.tolist() == sorted(values) and table.columns.tolist() == FIGURES
        assert (table > 0).all().all()


def test_every_panel_is_drawn(turned: list[dict[str, Any]]) -> None:
    found: Sweep = vllm_knobs.sweep()
    figure = vllm_knobs.plot(found)
    panels = [axis for axis in figure.axes if axis.patches]
    assert len(panels) == 8 and all(axis.get_xlabel() and axis.get_ylabel() for axis in panels)
    assert {axis.get_xlabel() for axis in panels} == set(SWEEP)
    ticks = {axis.get_xlabel(): [tick.get_text() for tick in axis.get_xticklabels()] for axis in panels}
    assert ticks["max_num_seqs"] == ["1", "4", "16", "32"] and ticks["enable_chunked_prefill"] == ["off", "on"]
    assert found.machine in figure.get_suptitle()
    plt.close(figure)


def test_the_courses_own_server_can_be_measured() -> None:
    figures = vllm_knobs.measure(connect(), tokens=4)
    assert all(value > 0 and np.isfinite(value) for value in vars(figures).values())
