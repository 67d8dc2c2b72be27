"""Write files so that a failed or interrupted run leaves the last good state in place."""

from __future__ import annotations

import fcntl
import hashlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give a temporary path beside ``target`` and rename it into place when the block succeeds.

    The block may create a file or a folder at the path it is given. When the block raises, what it
    wrote is deleted and an existing ``target`` stays as it was. A rename within one folder is atomic,
    so a reader sees the old content or the new one, never half of it.

    Args:
        target: the final file or folder; missing parent folders are created.

    Yields:
        A path that does not exist yet, with the suffix of ``target`` (writers that go by it work).
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    draft = scratch / target.name
    try:
        yield draft
        if draft.is_dir() and target.is_dir():
            _replace_folder(draft, target, aside=scratch / "replaced")
        else:
            draft.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _replace_folder(draft: Path, target: Path, aside: Path) -> None:
    """Rename a folder over another, which has to step aside: only an empty one would be overwritten."""
    target.rename(aside)
    try:
        draft.rename(target)
    except OSError:
        aside.rename(target)
        raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time into the block, by a file beside ``path`` with the suffix ``.lock``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def secret(path: Path) -> str:
    """The random secret in a file that only its owner can read; made once, the first time that it is asked for."""
    with locked(path):
        if not path.exists():
            with atomic_path(path) as draft:
                draft.touch(mode=0o600)
                draft.write_text(secrets.token_urlsafe(24), encoding="utf-8")
        return path.read_text(encoding="utf-8")


def write_text(target: Path, text: str) -> None:
    """Write ``text`` as UTF-8 through :func:`atomic_path`."""
    with atomic_path(target) as draft:
        draft.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
