"""The trail says who changed what and why, and tells when it was changed itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from workshop_lib.mlops import audit
from workshop_lib.mlops.audit import AuditError, Entry

Change = Callable[[list[str]], list[str]]


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    """A trail of five entries."""
    path = tmp_path / "audit.jsonl"
    for number in range(1, 6):
        audit.record("build", f"model v1.{number}.0", actor="ana", reason="retrained", details={"n": number}, path=path)
    return path


def _rewrite(path: Path, change: Change) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("".join(f"{line}\n" for line in change(lines)), encoding="utf-8")


def _entry(line: str, **changes: object) -> str:
    """A line with changes and a checksum that fits them."""
    entry = replace(Entry(**json.loads(line)), **changes)  # type: ignore[arg-type]
    return json.dumps(asdict(replace(entry, sha256=entry.checksum())), ensure_ascii=False, sort_keys=True)


def test_a_sound_trail(trail: Path) -> None:
    assert audit.verify(trail) == 5
    entries = audit.read(trail)
    assert [entry.number for entry in entries] == [1, 2, 3, 4, 5]
    assert entries[0].previous == audit.GENESIS and entries[4].previous == entries[3].sha256
    assert (entries[2].actor, entries[2].action, entries[2].subject) == ("ana", "build", "model v1.3.0")
    assert entries[2].reason == "retrained" and entries[2].details == {"n": 3}


def test_nothing_recorded_is_a_sound_trail(tmp_path: Path) -> None:
    assert audit.verify(tmp_path / "none.jsonl") == 0
    assert audit.read(tmp_path / "none.jsonl") == []


def test_the_course_has_a_trail_of_its_own(home: Path) -> None:
    audit.record("approve", "model v1.0.0", actor="carlos", reason="gates passed")
    assert (home / "mlops" / "audit.jsonl").is_file() and audit.verify() == 1


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda lines: [*lines[:2], lines[2].replace("ana", "eva"), *lines[3:]], 3),
        (lambda lines: [*lines[:2], lines[2].replace('": "', '":"'), *lines[3:]], 3),  # not even a space
        (lambda lines: [*lines[:2], lines[2] + "\r", *lines[3:]], 3),
        (lambda lines: [*lines[:2], _entry(lines[2], actor="eva"), *lines[3:]], 3),  # with a new checksum
        (lambda lines: [_entry(lines[0], actor="eva"), *lines[1:]], 1),
        (lambda lines: [*lines[:4], _entry(lines[4], actor="eva")], 5),  # the last one: only the head knows
        (lambda lines: [*lines[:2], *lines[3:]], 3),  # taken out
        (lambda lines: lines[1:], 1),
        (lambda lines: lines[:3], 4),  # cut off
        (lambda lines: [], 1),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 2),  # moved
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], 3),  # put in twice
        (lambda lines: [*lines[:2], "{}", *lines[3:]], 3),
        (lambda lines: [*lines[:2], "not JSON", *lines[3:]], 3),
        (lambda lines: [*lines[:2], "[1]", *lines[3:]], 3),
    ],
)
def test_the_first_bad_line_is_named(trail: Path, change: Change, line: int) -> None:
    _rewrite(trail, change)
    with pytest.raises(AuditError, match=f"audit.jsonl, line {line}: ") as caught:
        audit.verify(trail)
    assert caught.value.line == line


def test_lines_added_by_hand_are_found(trail: Path) -> None:
    def add(lines: list[str]) -> list[str]:
        for number in (6, 7):
            previous = json.loads(lines[-1])["sha256"]
            lines.append(_entry(lines[-1], number=number, actor="eva", previous=previous))
        return lines

    _rewrite(trail, add)
    with pytest.raises(AuditError, match="line 6: the head knows 5 lines"):
        audit.verify(trail)


def test_a_lost_or_broken_head_is_found(trail: Path) -> None:
    head = trail.with_suffix(".head")
    head.write_text("{", encoding="utf-8")
    with pytest.raises(AuditError, match=r"head beside it, audit\.head, cannot be read"):
        audit.verify(trail)
    head.unlink()
    with pytest.raises(AuditError, match="line 1: the head knows 0 lines"):
        audit.verify(trail)


def test_an_entry_whose_head_was_not_written_any_more_is_kept(trail: Path) -> None:
    """What a crash between the two writes leaves behind."""
    head = trail.with_suffix(".head")
    before = head.read_text(encoding="utf-8")
    audit.record("approve", "model v1.5.0", actor="carlos", reason="passed", path=trail)
    head.write_text(before, encoding="utf-8")
    assert audit.verify(trail) == 6
    audit.record("deploy", "model v1.5.0", actor="olga", reason="released", path=trail)
    assert audit.verify(trail) == 7


def test_nothing_is_written_behind_a_trail_that_was_cut(trail: Path) -> None:
    _rewrite(trail, lambda lines: lines[:3])
    with pytest.raises(AuditError, match="line 4: it is missing"):
        audit.record("deploy", "model v1.5.0", actor="olga", reason="released", path=trail)


def test_nothing_is_written_behind_half_a_line(trail: Path) -> None:
    with trail.open("a", encoding="utf-8") as stream:
        stream.write('{"number": 6')
    with pytest.raises(AuditError, match="line 6: it cannot be read"):
        audit.record("deploy", "model v1.5.0", actor="olga", reason="released", path=trail)


@pytest.mark.parametrize("missing", ["action", "subject", "actor", "reason"])
def test_who_what_and_why_are_asked_for(tmp_path: Path, missing: str) -> None:
    texts = {"action": "build", "subject": "model", "actor": "ana", "reason": "new data"} | {missing: " "}
    with pytest.raises(ValueError, match=f"{missing}: an entry needs one"):
        audit.record(**texts, path=tmp_path / "audit.jsonl")  # type: ignore[arg-type]


def test_details_are_json_and_come_back_the_same(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    written = audit.record("a", "b", actor="c", reason="d", details={"days": (1, 2), "ñ": {"x": None}}, path=path)
    assert audit.read(path) == [written] and written.details == {"days": [1, 2], "ñ": {"x": None}}
    with pytest.raises(ValueError, match="Out of range float"):
        audit.record("a", "b", actor="c", reason="d", details={"wape": float("nan")}, path=path)
    assert audit.verify(path) == 1


def _write_some(path: Path) -> None:
    for _ in range(10):
        audit.record("a", "b", actor="c", reason="d", path=path)


def test_several_processes_write_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with ProcessPoolExecutor(3) as pool:
        list(pool.map(_write_some, [path] * 3))
    assert audit.verify(path) == 30


def test_the_table(trail: Path) -> None:
    shown = audit.table(audit.read(trail))
    assert list(shown.columns) == ["at", "actor", "action", "subject", "reason", "details"]
    assert shown.loc[3, "details"] == "n 3"
    assert audit.table([]).empty
