"""A real PostgreSQL for tests, where its programs are installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from workshop_lib.ports import free_port
from workshop_lib.serving import history


def _program(name: str) -> str | None:
    """Debian keeps the server's programs out of the PATH, one folder per version."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join([*map(str, places), os.environ.get("PATH", "")]))


@contextmanager
def postgres() -> Iterator[str]:
    """The address of an empty database in a server of its own; the test is skipped where there is none."""
    initdb, server = _program("initdb"), _program("postgres")
    if initdb is None or server is None:
        pytest.skip("not installed: postgresql")
    # A short path outside pytest's own folder, which only its owner may enter: the server refuses to run as root.
    folder, port = Path(tempfile.mkdtemp(prefix="workshop-postgres-")), free_port()
    other: dict[str, Any] = {}
    if os.geteuid() == 0:
        other = {"user": "nobody", "group": "nogroup"}
        shutil.chown(folder, "nobody", "nogroup")
    quiet: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **other}
    try:
        make = [
            initdb,
            "-D",
            str(folder / "data"),
            "-A",
            "trust",
            "-U",
            "shop",
            "--no-sync",
            "--locale",
            "C",
            "-E",
            "UTF8",
        ]
        subprocess.run(make, check=True, **quiet)
        options = [f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", "fsync=off"]
        command = [server, "-D", str(folder / "data"), *(word for option in options for word in ("-c", option))]
        with subprocess.Popen(command, **quiet) as process:
            try:
                address = f"postgresql://shop@127.0.0.1:{port}/postgres"
                _wait(address)
                yield address
            finally:
                process.send_signal(signal.SIGINT)  # a mere SIGTERM waits until all clients have left
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(address: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            history.connect(address).connect().close()
            return
        except OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
