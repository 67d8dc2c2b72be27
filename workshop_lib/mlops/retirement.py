"""The end of a version: no more requests, its process ended, its files archived, its data decided about.

    retired = retire(package, server=server, routes=routes_file, actor="olga", reason="replaced by v1.1.0")
    restore(retired.archive, folder)        # the archive is whole: signature and checksums still fit

Nothing is deleted on the way that could not be brought back, and no caller notices: requests move to the other
versions first, those under way get their answers, and only then the process ends.
"""

from __future__ import annotations

import datetime as dt
import shutil
import tarfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import httpx
import numpy as np
import pandas as pd
from mlflow.tracking import MlflowClient

from workshop_lib import processes
from workshop_lib.files import atomic_path, sha256
from workshop_lib.mlops import approvals, audit, packages
from workshop_lib.mlops.packages import Package
from workshop_lib.mlops.risk import load_inventory
from workshop_lib.serving import routing
from workshop_lib.serving.forecaster_client import NAME, v2_body
from workshop_lib.serving.release_servers import Server, answered
from workshop_lib.settings import settings

QUIET_SECONDS = 0.5
"""A server that has answered nothing new for so long has nothing left to do."""


class NotDrained(RuntimeError):
    """A server still answers requests that nobody should send any more; it goes on running."""


@dataclass(frozen=True)
class Retired:
    """What is left of a version."""

    package: str
    archive: Path
    sha256: str
    keep_until: dt.date
    data: str
    """What happens to the data that it was trained on, and why."""

    def table(self) -> pd.Series:
        """For reading."""
        return pd.Series({
            "version": self.package, "archive": self.archive.name, "archive kept until": f"{self.keep_until}",
            "training data": self.data,
        })  # fmt: skip


def archive_dir() -> Path:
    """Where retired packages are kept."""
    return settings.home / "mlops" / "archive"


def retire(
    package: Package,
    *,
    server: Server,
    routes: Path,
    actor: str,
    reason: str,
    living: Iterable[Package] = (),
    trail: Path | None = None,
) -> Retired:
    """Take a version out of service for good.

    Args:
        package: the version.
        server: the process that serves it.
        routes: the file with the routes that it stands in.
        actor: who retires it.
        reason: why.
        living: packages that stay in service; data that one of them was trained on stays.
        trail: the audit trail; the course's own by default.

    Raises:
        ApprovalRefused: when the actor may not, or an alias of the registry still leads to it; nothing happens then.
        RoutesError: when it is the only version that gets requests.
        NotDrained: when requests keep coming.
    """
    if not approvals.may(actor, "retire"):
        raise approvals.ApprovalRefused(f"{actor} may not retire a version.")
    client, number = MlflowClient(settings.tracking_uri), package.about["registry_version"]
    aliases = client.get_registered_model(package.name).aliases
    if held := [alias for alias, holder in aliases.items() if str(holder) == number]:
        raise approvals.ApprovalRefused(f"{package} is the {', '.join(held)} of the registry. Move the alias first.")
    routing.set_weights({server.name: 0}, routes)
    drain(server)
    processes.stop(server.service)
    file = archive(package)
    keep = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=load_inventory().archive_days)
    done = Retired(str(package), file, sha256(file), keep, _data_of(package, living))
    details = {"archive": file.name, "sha256": done.sha256, "keep_until": f"{keep}", "data": done.data}
    approvals.retire(package.name, package.version, actor, reason, details=details, path=trail)
    client.set_model_version_tag(package.name, number, "lifecycle", "retired")
    shutil.rmtree(package.folder)
    return done


def drain(server: Server) -> None:
    """Wait until a server that gets no new requests has answered those under way: its own counter stands still.

    Raises:
        NotDrained: when it does not come to rest.
    """
    until = time.monotonic() + settings.forecaster_timeout + 4 * QUIET_SECONDS
    count, since = answered(server), time.monotonic()
    while time.monotonic() - since < QUIET_SECONDS:
        if time.monotonic() > until:
            raise NotDrained(f"{server.name} still answers. Who asks it? Its routes say that nobody does.")
        time.sleep(0.1)
        if (now := answered(server)) != count:
            count, since = now, time.monotonic()


def archive(package: Package) -> Path:
    """Pack a package's folder into one file, with its signature inside."""
    target = archive_dir() / f"{package.folder.name}.tar.gz"
    with atomic_path(target) as draft, tarfile.open(draft, "w:gz") as pack:
        pack.add(package.folder, arcname=package.folder.name)
    return target


def restore(file: Path, folder: Path) -> Package:
    """Unpack an archive and check everything in it.

    Raises:
        SignatureError: when it is not what was signed.
        PackageError: when it is no package.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file) as pack:
        pack.extractall(folder, filter="data")  # refuses paths that lead out of the folder
    return packages.load(folder / file.name.removesuffix(".tar.gz"))


def purge(today: dt.date, *, trail: Path | None = None) -> list[str]:
    """Delete the archives whose time is over, by the audit trail; returns their names."""
    gone = []
    for entry in audit.read(trail):
        if entry.action == f"{approvals.TRAIL}retire" and entry.details.get("keep_until", "9999") < f"{today}":
            file = archive_dir() / entry.details["archive"]
            if file.exists():
                file.unlink()
                audit.record("purge", entry.subject, actor="workshop", reason="kept long enough", path=trail)
                gone.append(file.name)
    return gone


def _data_of(package: Package, living: Iterable[Package]) -> str:
    """Whether the data stays: somebody still needs it, or nobody does."""
    needed = [str(one) for one in living if one.about["data_fingerprint"] == package.about["data_fingerprint"]]
    if needed:
        return f"kept: {', '.join(needed)} was trained on it too"
    return "to be erased: no version in service was trained on it"


@dataclass
class Traffic:
    """Requests that callers sent meanwhile."""

    rows: list[tuple[float, str, bool]]

    def wait(self, count: int) -> float:
        """Until so many more requests were answered; returns the seconds since the beginning."""
        until = len(self.rows) + count
        while len(self.rows) < until:
            time.sleep(0.01)
        return self.rows[-1][0]

    def frame(self) -> pd.DataFrame:
        """``seconds`` since the beginning, ``backend`` that the routes chose, ``ok`` for a good answer."""
        return pd.DataFrame(self.rows, columns=["seconds", "backend", "ok"])


@contextmanager
def traffic(routes: Path, width: int, pause: float = 0.01) -> Iterator[Traffic]:
    """Send requests the whole time, each to the version that the routes name at that moment.

    Args:
        routes: the file with the routes.
        width: number of features of a row.
        pause: seconds between two requests.
    """
    seen, ended, begun = Traffic([]), Event(), time.monotonic()
    router, body = routing.Router(routes), v2_body(np.ones((1, width)))

    def send() -> None:
        with httpx.Client(timeout=settings.forecaster_timeout) as client:
            while not ended.is_set():
                backend = router.choose(f"customer {len(seen.rows)}")
                try:
                    ok = client.post(f"{backend.url}/v2/models/{NAME}/infer", json=body).status_code == 200
                except httpx.HTTPError:
                    ok = False
                seen.rows.append((time.monotonic() - begun, backend.name, ok))
                time.sleep(pause)

    sender = Thread(target=send, daemon=True)
    sender.start()
    try:
        yield seen
    finally:
        ended.set()
        sender.join()
