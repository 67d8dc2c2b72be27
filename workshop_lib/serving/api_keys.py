"""Several keys for the business API: hashes, roles and limits in one JSON file.

    secret = add_key(path, "dashboard-2", owner="dashboard", role="app")     # shown once, kept nowhere
    remove_key(path, "dashboard-1")

The file holds SHA-256 hashes. The keys have 192 random bits, so nobody finds one by trying, and a quick hash is enough
(passwords, which people choose, would need a slow one). Several keys of an owner hold at once: a new one can be handed
out before the old one ends. The API looks at the file again when it changes, without a restart.

On the command line::

    python -m workshop_lib.serving.api_keys FILE add dashboard-2 --owner dashboard --role app
    python -m workshop_lib.serving.api_keys FILE remove dashboard-1
    python -m workshop_lib.serving.api_keys FILE list
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import secrets
import sys
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from workshop_lib.files import atomic_path, locked
from workshop_lib.serving.envelope import log_line

Name = Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")]


class KeysError(ValueError):
    """A file with keys cannot be used; the message says why."""


class Role(BaseModel):
    """What the owners of some keys may ask, and how much of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    paths: tuple[str, ...] = Field(description="paths that they may call; * for all")
    per_minute: int | None = Field(None, ge=1, description="requests of an owner in a minute; no limit when unset")
    burst: int = Field(20, ge=1, description="requests that may come at once")
    answers_per_day: int | None = Field(
        None, ge=1, description="forecasts of a day, scores and texts that an owner gets in 24 hours; each counts"
    )

    def allows(self, path: str) -> bool:
        """Whether a path may be called."""
        return "*" in self.paths or path in self.paths


class Key(BaseModel):
    """One key, as far as anybody may know it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Name
    """Stands in logs and metrics."""
    owner: Name
    """The program or partner that it was given to. Limits count per owner: a second key brings no second budget."""
    role: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    ends: AwareDatetime | None = None
    """From this moment on it is refused."""


class KeysFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    roles: dict[Name, Role]
    keys: tuple[Key, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> KeysFile:
        for what in ("id", "sha256"):
            values = [getattr(key, what) for key in self.keys]
            if len(set(values)) < len(values):
                raise ValueError(f"every key needs its own {what}")
        unknown = sorted({key.role for key in self.keys} - self.roles.keys())
        if unknown:
            raise ValueError(f"roles that are not there: {', '.join(unknown)}")
        return self


class KeyRing:
    """The keys of a file, read anew whenever it changes.

    Args:
        path: of the file.

    Raises:
        KeysError: when it cannot be used. Later, a broken file leaves the last good keys in force.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._stamp()
        self._use(read_keys(path))

    def find(self, given: bytes) -> tuple[Key, Role] | None:
        """The key that somebody showed and its role; None for one that is unknown or has ended."""
        self._look_again()
        # The look-up is by the hash: how long it takes tells nothing about the keys themselves.
        key = self._by_hash.get(hashlib.sha256(given).hexdigest())
        if key is None or (key.ends is not None and key.ends <= dt.datetime.now(dt.UTC)):
            return None
        return key, self._file.roles[key.role]

    def _look_again(self) -> None:
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp  # a broken file is told once, not with every request
        try:
            self._use(read_keys(self._path))
        except KeysError as error:
            log_line(server="api", event="keys", problem=str(error))
        else:
            log_line(server="api", event="keys", keys=sorted(key.id for key in self._file.keys))

    def _stamp(self) -> tuple[int, int, int] | None:
        """Differs when the file is another one; a mounted secret is exchanged through a link, which this follows."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _use(self, file: KeysFile) -> None:
        self._file, self._by_hash = file, {key.sha256: key for key in file.keys}


def read_keys(path: Path) -> KeysFile:
    """Read a file with keys.

    Raises:
        KeysError: when it is missing or not of this form.
    """
    try:
        return KeysFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise KeysError(f"{path} cannot be read ({error.strerror}).") from error
    except ValidationError as error:
        first = error.errors(include_input=False)[0]  # a key in clear, put in the wrong place, stays out of the log
        place = ".".join(map(str, first["loc"])) or "the file"
        raise KeysError(f"{path}, {place}: {first['msg'].removeprefix('Value error, ')}.") from None


def write_keys(path: Path, file: KeysFile) -> None:
    """Write a file with keys; only its owner may read it."""
    with atomic_path(path) as draft:
        draft.touch(mode=0o600)
        draft.write_text(file.model_dump_json(indent=1, exclude_none=True), encoding="utf-8")


def add_key(path: Path, name: str, owner: str, role: str, ends: dt.datetime | None = None) -> str:
    """Put a new key into a file; those that are there stay in force.

    Args:
        path: of the file.
        name: the key's id, such as ``dashboard-2``.
        owner: who gets it.
        role: one of the file's.
        ends: when it stops to hold.

    Returns:
        The key itself. It is kept nowhere: hand it over, and forget it.

    Raises:
        KeysError: when the file cannot be used, knows no such role or has such a key already.
    """
    secret = secrets.token_urlsafe(24)
    with locked(path):
        file = read_keys(path)
        try:
            key = Key(id=name, owner=owner, role=role, sha256=hashlib.sha256(secret.encode()).hexdigest(), ends=ends)
            changed = KeysFile(roles=file.roles, keys=(*file.keys, key))
        except ValidationError as error:
            raise KeysError(error.errors(include_input=False)[0]["msg"].removeprefix("Value error, ")) from None
        write_keys(path, changed)
    return secret


def remove_key(path: Path, name: str) -> None:
    """Take a key out of a file; from the next request on it is refused.

    Raises:
        KeysError: when the file cannot be used or has no such key.
    """
    with locked(path):
        file = read_keys(path)
        left = tuple(key for key in file.keys if key.id != name)
        if len(left) == len(file.keys):
            known = ", ".join(key.id for key in file.keys) or "none"
            raise KeysError(f"{path} has no key {name}. It has: {known}.")
        write_keys(path, KeysFile(roles=file.roles, keys=left))


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Keys of the business API.")
    parser.add_argument("file", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", help="make a key and show it once")
    add.add_argument("id")
    add.add_argument("--owner", required=True)
    add.add_argument("--role", required=True)
    commands.add_parser("remove", help="end a key").add_argument("id")
    commands.add_parser("list", help="who has which key")
    given = parser.parse_args(arguments)
    try:
        if given.command == "add":
            print(add_key(given.file, given.id, given.owner, given.role))
        elif given.command == "remove":
            remove_key(given.file, given.id)
        else:
            for key in read_keys(given.file).keys:
                print(key.id, key.owner, key.role, sep="\t")
    except KeysError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
