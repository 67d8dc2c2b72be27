"""An old version to retire: a small forecaster in a registered model of its own, and servers for a moment.

old = old_version()
with serving({"old": old, "new": packages.ensure()}) as (servers, routes):
    retirement.retire(old, server=servers["old"], routes=routes, …)
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from workshop_lib import processes
from workshop_lib.mlops import packages
from workshop_lib.mlops.packages import Package
from workshop_lib.mlops.practice import SMALL
from workshop_lib.ports import free_port
from workshop_lib.predictive import champion, tracking
from workshop_lib.predictive.forecaster import make_dataset, train
from workshop_lib.processes import Service
from workshop_lib.serving.local import forecaster_service
from workshop_lib.serving.release_servers import Server, start_together, warm
from workshop_lib.serving.routing import Routes, default_routes, write_routes
from workshop_lib.settings import settings

OLD = f"{packages.NAME}-old"
"""The registered model."""


def old_version() -> Package:
    """The package of a small forecaster, made anew: an earlier run of the lesson has retired the last one."""
    tracking.use_tracking(champion.EXPERIMENT)
    try:
        MlflowClient(settings.tracking_uri).delete_registered_model(OLD)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    for version in packages.existing(OLD):
        shutil.rmtree(packages.packages_dir() / f"{OLD}-{version}")
    champion.ensure_champion()
    interval = champion.load_package().about["interval"]  # borrowed: measuring them takes long
    trained = train(SMALL(), make_dataset())
    found = champion.register_forecaster(
        trained, metrics={}, description="Small and old, to be retired.", alias=None, interval=interval, name=OLD
    )
    return packages.build(str(found.version), reason="to be retired", actor="ana", name=OLD)


@contextmanager
def serving(package: Package) -> Iterator[tuple[Server, Path]]:
    """Serve an old version beside the shop's forecaster as long as the block lasts.

    Yields:
        The old one's server, and a file with routes that give ``old`` and ``champion`` the same share.
    """
    port = free_port()
    command = (
        sys.executable, "-m", "workshop_lib.mlops.package_server", "--package", str(package.folder),
        "--http-port", str(port), "--grpc-port", str(free_port()),
    )  # fmt: skip
    server = Server(
        "old", package.about["registry_version"],
        Service("retirement-old", port, command, "/v2/health/ready", memory_gib=1),
    )  # fmt: skip
    champions = default_routes().backends
    routes = settings.home / "mlops" / "governance" / "routes.json"
    try:
        start_together([server.service, *([] if settings.forecaster_endpoint else [forecaster_service()])])
        warm(server.service.url)
        write_routes(Routes(backends=(server.backend(100), *champions)), routes)
        yield server, routes
    finally:
        processes.stop(server.service)
