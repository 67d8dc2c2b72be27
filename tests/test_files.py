"""Atomic writing: the last good state survives whatever happens while a new one is made."""

import hashlib
import multiprocessing
import time
from pathlib import Path

import pytest

from workshop_lib.files import atomic_path, locked, secret, sha256, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_the_block_succeeds(tmp_path: Path) -> None:
    target = tmp_path / "new" / "table.parquet"
    with atomic_path(target) as draft:
        assert draft.suffix == ".parquet"
        draft.write_text("content")
        assert not target.exists()
    assert target.read_text() == "content"
    assert names(target.parent) == ["table.parquet"]


def test_a_failed_block_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_text(target, "old")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as draft:
        draft.write_text("half of the n")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_an_interrupted_block_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "file") as draft:
        draft.write_text("half")
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_a_folder_replaces_a_full_one(tmp_path: Path) -> None:
    target = tmp_path / "tables"
    for content in ("first", "second"):
        with atomic_path(target) as draft:
            draft.mkdir()
            (draft / content).touch()
    assert names(target) == ["second"]
    assert names(tmp_path) == ["tables"]


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "tables"
    target.mkdir()
    (target / "good").touch()
    rename = Path.rename

    def fails_for_drafts(path: Path, goal: Path) -> Path:
        if goal == target and path.name == target.name:
            raise PermissionError("not now")
        return rename(path, goal)

    monkeypatch.setattr(Path, "rename", fails_for_drafts)
    with pytest.raises(PermissionError), atomic_path(target) as draft:
        draft.mkdir()
    assert names(target) == ["good"]


def test_text_is_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "R² ≥ 0,85 · año")
    assert (tmp_path / "file").read_bytes().decode("utf-8") == "R² ≥ 0,85 · año"


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()


def _read_wait_write(path: Path) -> None:
    with locked(path):
        before = int(path.read_text())
        time.sleep(0.05)
        write_text(path, str(before + 1))


def test_locked_lets_one_process_at_a_time_in(tmp_path: Path) -> None:
    path = tmp_path / "count.json"
    path.write_text("0")
    workers = [multiprocessing.get_context("fork").Process(target=_read_wait_write, args=(path,)) for _ in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert path.read_text() == "5"


def test_a_secret_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "services" / "key.txt"
    first = secret(file)
    assert len(first) >= 32 and secret(file) == first != secret(tmp_path / "other.txt")
    assert file.stat().st_mode & 0o777 == 0o600
