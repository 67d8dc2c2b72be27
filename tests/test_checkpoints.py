"""Checkpoints: what is compared, recorded, shown and raised."""

import json
import math
from datetime import datetime
from pathlib import Path

import pytest

from workshop_lib import checkpoints
from workshop_lib.checkpoints import (
    SCORECARD_KEYS,
    Checkpoint,
    CheckpointFailed,
    ScorecardError,
    at_least,
    at_most,
    checkpoint,
    equals,
    forget,
    number,
    read_scorecard,
)
from workshop_lib.settings import MODULES

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        (at_least("k", 0.85, 0.85, "l"), True),
        (at_least("k", 0.8499, 0.85, "l"), False),
        (at_most("k", 0.7, 0.7, "l"), True),
        (at_most("k", 0.71, 0.7, "l"), False),
        (equals("k", 0, 0, "l"), True),
        (equals("k", True, 1, "l"), True),
        (equals("k", 1, 0, "l"), False),
        (at_least("k", math.nan, 0, "l"), False),
        (at_most("k", math.nan, 0, "l"), False),
        (at_most("k", math.inf, 1, "l"), False),
    ],
)
def test_a_condition_compares_the_measured_value_with_its_target(condition: checkpoints.Condition, met: bool) -> None:
    assert condition.met is met


def test_what_depends_on_speed_is_never_required() -> None:
    assert at_most("k", 1, 2, "l").required
    assert not at_most("k", 1, 2, "l", required=False).required
    assert not at_most("k", 1, 2, "l", speed=True).required


def test_a_checkpoint_is_recorded_with_time_and_machine() -> None:
    result = checkpoint("1.3", "Trained", [at_least("a.r2", 0.9, 0.85, "R²"), at_most("a.s", 5, 60, "time", "s")])
    assert result.met
    first, second = read_scorecard()
    assert {key: first[key] for key in SCORECARD_KEYS if key != "measured_at"} == {
        "id": "a.r2", "module": "1-predictive", "label": "R²", "comparison": ">=", "target": 0.85,
        "measured": 0.9, "unit": "", "met": True, "required": True,
    }  # fmt: skip
    assert second["id"] == "a.s" and second["unit"] == "s"
    assert datetime.fromisoformat(str(first["measured_at"])).utcoffset() is not None
    assert "cores" in str(first["machine"])


def test_measuring_again_replaces_the_records_of_that_checkpoint_only() -> None:
    checkpoint("1.2", "Two", [at_least("b", 1, 0, "b")])
    checkpoint("1.1", "One", [at_least("a", 1, 0, "a"), at_least("old", 1, 0, "old")])
    checkpoint("1.1", "One", [at_least("a", 2, 0, "a")])
    assert [(record["id"], record["measured"]) for record in read_scorecard()] == [("a", 2), ("b", 1)]


def test_a_required_condition_that_is_missed_raises_and_is_recorded() -> None:
    with pytest.raises(CheckpointFailed) as caught:
        checkpoint("1.3", "Trained", [at_least("ok", 1, 0, "fine"), at_least("bad.r2", 0.2, 0.85, "R²")])
    message = str(caught.value)
    assert "Checkpoint 1.3 (Trained) is not reached." in message
    assert "R²: measured 0.2, needed >= 0.85." in message and "bad.r2" in message
    assert "fine" not in message
    assert len(message.splitlines()) == 3
    assert [record["met"] for record in read_scorecard()] == [True, False]


def test_single_cases_are_told_when_they_stop_the_notebook() -> None:
    with pytest.raises(CheckpointFailed, match="- forecast of eggs: 3 is 2"):
        checkpoint("1.3", "Right", [equals("wrong", 1, 0, "wrong numbers", details=["forecast of eggs: 3 is 2"])])


def test_a_missed_speed_condition_does_not_stop_a_class() -> None:
    assert not checkpoint("1.3", "Trained", [at_most("slow", 90, 60, "training", "s", speed=True)]).met
    assert [(record["met"], record["required"]) for record in read_scorecard()] == [(False, False)]


def test_a_value_that_could_not_be_measured_is_null() -> None:
    conditions = [at_least("nan", math.nan, 0, "a", required=False), at_most("inf", math.inf, 0, "b", required=False)]
    shown = repr(checkpoint("1.3", "Trained", conditions))
    assert "a: no value, missed" in shown and "b: inf, missed" in shown
    assert [record["measured"] for record in read_scorecard()] == [None, None]


@pytest.mark.parametrize("keys", [[], ["a", "a"]])
def test_conditions_must_be_there_and_differ(keys: list[str]) -> None:
    with pytest.raises(ValueError, match="different keys"):
        checkpoint("1.3", "Trained", [at_least(key, 1, 0, "l") for key in keys])
    assert read_scorecard() == []


def test_every_module_has_its_numbers() -> None:
    assert [checkpoints.module_of(f"{n}.1") for n in range(1, 7)] == list(MODULES)
    with pytest.raises(ValueError, match=r"'7\.1'"):
        checkpoints.module_of("7.1")


def test_forget_removes_one_module() -> None:
    checkpoint("1.1", "One", [at_least("a", 1, 0, "a")])
    checkpoint("3.1", "Three", [at_least("b", 1, 0, "b")])
    forget("1-predictive")
    assert [record["id"] for record in read_scorecard()] == ["b"]


@pytest.mark.parametrize("content", ["{", "{}x", '{"a": 1}', "[1]", '[{"id": "a"}]', "\xff"])
def test_a_broken_scorecard_is_named_with_what_to_do(content: str, home: Path) -> None:
    home.mkdir()
    (home / "scorecard.json").write_text(content, encoding="latin-1")
    with pytest.raises(ScorecardError, match=r"scorecard\.json is not a scorecard.*Delete it"):
        read_scorecard()


def test_the_file_is_json_that_other_tools_read(home: Path) -> None:
    checkpoint("1.1", "One", [at_least("a", math.inf, 0, "a", required=False)])

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert len(json.loads((home / "scorecard.json").read_text(encoding="utf-8"), parse_constant=refuse)) == 1


def test_both_ways_of_showing_mark_what_a_fast_or_slow_machine_changes() -> None:
    conditions = (at_least("r2", 0.9, 0.85, "R² <test>"), at_most("s", 12.3456, 60, "training", "s", speed=True))
    shown = Checkpoint("1.3", "Trained", conditions, "now")
    assert repr(shown).splitlines() == [
        "Checkpoint 1.3 Trained",
        "  R² <test>: 0.9, met (target >= 0.85)",
        "  training: {12.35 s, met} (target <= 60 s)",
    ]
    html = shown._repr_html_()
    assert "<td>0.9</td><td>met</td>" in html and "R² &lt;test&gt;" in html
    assert '<td class="varies">12.35 s</td><td class="varies">met</td>' in html


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.85123, "", "0.8512"), (1469307, "rows", "1,469,307 rows"), (12345.67, "", "12,346"), (3.0, "s", "3 s"),
        (1e-5, "", "1e-05"), (-0.5, "", "-0.5"), (math.nan, "s", "no value"), (-math.inf, "", "-inf"),
    ],
)  # fmt: skip
def test_numbers_are_written_for_reading(value: float, unit: str, text: str) -> None:
    assert number(value, unit) == text
