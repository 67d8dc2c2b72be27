"""The file between the drift job and its readers: whole or not at all, and clear about what is wrong with it."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from workshop_lib.monitoring.drift_result import Distance, DriftFileError, DriftResult, now, read_result, write_result


def result(**changes: Any) -> DriftResult:
    """A result with two features, one of them drifted."""
    distances = (
        Distance(kind="data", feature="lag_1", method="psi", value=0.3, threshold=0.2),
        Distance(kind="data", feature="trend", method="psi", value=0.2, threshold=0.2),
        Distance(kind="prediction", feature="prediction", method="psi", value=0.1, threshold=0.3),
        Distance(kind="concept", feature="error", method="wape_ratio", value=1.3, threshold=1.15),
    )
    values: dict[str, Any] = {
        "model_version": "3", "week": 48, "first_day": date(2017, 11, 20), "last_day": date(2017, 11, 26),
        "reference_first_day": date(2017, 2, 6), "reference_last_day": date(2017, 9, 24), "made_at": now(),
        "rows": 840, "distances": distances, "wape": 0.3, "reference_wape": 0.23, "decision": "watch",
        "reasons": ("why",),
    }  # fmt: skip
    return DriftResult(**values | changes)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = write_result(result(), tmp_path / "deep" / "drift.json")
    assert read_result(path) == result(made_at=read_result(path).made_at)
    assert [file.name for file in path.parent.iterdir()] == ["drift.json"]


def test_shares_and_look_ups() -> None:
    one = result()
    assert one.drifted_features_ratio == 0.5  # a value that equals its limit has not drifted
    assert one.distance("concept").drifted and not one.distance("prediction").drifted
    assert one.distance("data", "trend").value == 0.2
    with pytest.raises(KeyError, match="unknown"):
        one.distance("data", "unknown")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "has not run yet"),
        ("", "not a result"),
        ('{"week": 48', "not a result"),
        (result().model_dump_json().replace('"watch"', '"panic"'), "decision"),
        (result().model_dump_json().replace('"rows":840', '"rows":0'), "rows"),
        (result().model_dump_json().replace('"wape":0.3', '"wape":null'), "wape"),
        ("\udcff", "not a result"),
    ],
)
def test_a_missing_or_broken_file_is_named(tmp_path: Path, text: str | None, says: str) -> None:
    path = tmp_path / "drift.json"
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DriftFileError, match=says) as raised:
        read_result(path)
    assert str(path) in str(raised.value)


def test_no_value_is_missing_and_times_have_a_zone() -> None:
    with pytest.raises(ValidationError):
        result(wape=float("nan"))
    with pytest.raises(ValidationError):
        result(made_at=now().replace(tzinfo=None))
    with pytest.raises(ValidationError):
        result(surprise=1)
