"""Signatures: what was changed, added, removed or forged is refused, and refused before anything is loaded."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from workshop_lib.mlops import signing, tampering
from workshop_lib.mlops.signing import SIGNATURE, SignatureError, ensure_keys, open_verified, sign, verify


@pytest.fixture
def folder(tmp_path: Path, home: Path) -> Path:
    """A signed folder with files at several depths."""
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"1234")
    (folder / "inner" / "about.json").write_text("{}")
    (folder / ".hidden").write_text("x")
    sign(folder)
    return folder


def test_what_was_signed_is_accepted(folder: Path) -> None:
    verify(folder)
    assert signing.signed_files(folder).keys() == {"weights.bin", "inner/about.json", ".hidden"}
    assert sign(folder) == folder / SIGNATURE, "once more, over the old signature"
    verify(folder)


def test_keys_are_made_once_and_the_private_one_is_private(home: Path) -> None:
    keys = ensure_keys()
    assert keys.private.stat().st_mode & 0o777 == 0o600
    before = keys.public.read_bytes()
    assert ensure_keys() == keys and keys.public.read_bytes() == before
    assert keys.private.is_relative_to(home / "mlops" / "keys")


def test_every_way_to_tamper_is_refused_with_its_reason(folder: Path, tmp_path: Path) -> None:
    found = tampering.tamper_and_verify(folder, tmp_path / "scratch")
    assert found["refused"].to_dict() == {attempt: attempt != "nothing, only moved" for attempt in found.index}
    reasons = found["reason"]
    assert reasons["one bit flipped"] == ".hidden was changed."
    assert reasons["a file added"] == "helper.py was added."
    assert reasons["a file hidden in .git"] == ".git/hook was added."
    assert reasons["a file removed"] == ".hidden is missing."
    assert "another key" in reasons["changed and signed by somebody else"]
    assert "link" in reasons["a file replaced by a link"]
    verify(folder)


def _edit(folder: Path, change: dict[str, object]) -> None:
    content = json.loads((folder / SIGNATURE).read_text())
    (folder / SIGNATURE).write_text(json.dumps(content | change))


@pytest.mark.parametrize("content", [b"", b"hello", b"{}", b"[]", b"\xff\xfe", b'{"verificationMaterial": 1}', b"null"])
def test_a_signature_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / SIGNATURE).write_bytes(content)
    with pytest.raises(SignatureError, match=r"model\.sig is no signature"):
        verify(folder)


def test_a_forged_list_of_files_is_refused(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"9999")
    envelope = json.loads((folder / SIGNATURE).read_text())["dsseEnvelope"]
    statement = base64.b64decode(envelope["payload"]).decode()
    old = signing.signed_files(folder)["weights.bin"]
    new = hashlib.sha256(b"9999").hexdigest()
    forged = base64.b64encode(statement.replace(old, new).encode()).decode()
    _edit(folder, {"dsseEnvelope": envelope | {"payload": forged}})
    with pytest.raises(SignatureError, match="does not belong"):
        verify(folder)


def test_a_signature_of_another_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "weights.bin").write_bytes(b"5")
    (other / SIGNATURE).write_bytes((folder / SIGNATURE).read_bytes())
    with pytest.raises(SignatureError, match="is missing"):
        verify(other)


def test_what_cannot_be_signed_is_told(tmp_path: Path, home: Path, folder: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SignatureError, match="holds no file"):
        sign(empty)
    (folder / "link").symlink_to(folder / "weights.bin")
    with pytest.raises(SignatureError, match="symbolic link"):
        sign(folder)


def test_a_malicious_pickle_runs_when_loaded_and_is_refused_before(tmp_path: Path, home: Path) -> None:
    found = tampering.load_both_ways(tmp_path / "scratch")
    assert found["ran"].to_dict() == {"unpickled at once": True, "verified first": False}
    assert found.loc["verified first", "said"] == "model: model.pkl was changed."


def test_what_is_verified_is_loaded(folder: Path) -> None:
    assert open_verified(folder, "weights.bin", Path.read_bytes) == b"1234"
