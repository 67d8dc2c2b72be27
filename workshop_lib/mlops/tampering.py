"""Ways to tamper with a signed model, to see that each is found before anything is loaded."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from workshop_lib.mlops import signing
from workshop_lib.mlops.signing import SIGNATURE


def tamper_and_verify(folder: Path, scratch: Path) -> pd.DataFrame:
    """Copy a signed folder, change each copy in another way, and verify it.

    Args:
        folder: with a signature.
        scratch: an empty folder for the copies and for an attacker's pair of keys.

    Returns:
        Per attempt (index) whether it was ``refused``, and the ``reason``.
    """
    first = sorted(signing.signed_files(folder))[0]
    attacker = signing.ensure_keys(scratch / "attacker")

    def flip(copy: Path) -> None:
        content = bytearray((copy / first).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / first).write_bytes(content)

    def forge(copy: Path) -> None:
        flip(copy)
        signing.sign(copy, attacker)

    def link(copy: Path) -> None:
        (copy / first).unlink()
        (copy / first).symlink_to(folder / first)

    attempts: dict[str, Callable[[Path], object]] = {
        "nothing, only moved": lambda copy: None,
        "one bit flipped": flip,
        "a file added": lambda copy: (copy / "helper.py").write_text("print('hello')", encoding="utf-8"),
        "a file hidden in .git": lambda copy: _hide(copy / ".git" / "hook"),
        "a file removed": lambda copy: (copy / first).unlink(),
        "a file replaced by a link": link,
        "signature removed": lambda copy: (copy / SIGNATURE).unlink(),
        "changed and signed by somebody else": forge,
    }
    rows = {}
    for number, (attempt, change) in enumerate(attempts.items()):
        copy = scratch / f"copy-{number}"
        shutil.copytree(folder, copy)
        change(copy)
        try:
            signing.verify(copy)
        except signing.SignatureError as error:
            rows[attempt] = {"refused": True, "reason": str(error).partition(": ")[2] or "there is no signature"}
        else:
            rows[attempt] = {"refused": False, "reason": ""}
        shutil.rmtree(copy)
    return pd.DataFrame(rows).T


def _hide(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("x", encoding="utf-8")


class _Payload:
    """Pickled, it becomes an order: when somebody loads the file, write another one."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.write_text, (self._target, "This was written by loading a model.")


def load_both_ways(scratch: Path) -> pd.DataFrame:
    """Exchange a signed model for a malicious one, and load it carelessly and after verifying.

    The malicious file writes a file when it is unpickled. A real one would do worse.

    Args:
        scratch: an empty folder.

    Returns:
        Per way to load (index) whether the attacker's code ``ran``, and what the loader ``said``.
    """
    folder, marker = scratch / "model", scratch / "written-by-the-attacker.txt"
    folder.mkdir(parents=True)
    model = folder / "model.pkl"
    model.write_bytes(pickle.dumps({"coefficients": [0.2, 0.8]}))
    signing.sign(folder)
    model.write_bytes(pickle.dumps(_Payload(marker)))
    ways: dict[str, Callable[[], object]] = {
        "unpickled at once": lambda: unpickle(model),
        "verified first": lambda: signing.open_verified(folder, model.name, unpickle),
    }
    rows = {}
    for way, load in ways.items():
        marker.unlink(missing_ok=True)
        try:
            load()
        except signing.SignatureError as error:
            said = str(error)
        else:
            said = "nothing"
        rows[way] = {"ran": marker.exists(), "said": said}
    return pd.DataFrame(rows).T


def unpickle(path: Path) -> object:
    """What many programs do with a model's file, without asking where it comes from."""
    return pickle.loads(path.read_bytes())  # nosec B301 - the lesson is that this runs whatever the file says
