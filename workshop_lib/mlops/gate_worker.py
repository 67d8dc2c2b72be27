"""The process in which a gate serves a package; :mod:`workshop_lib.mlops.gate_resources` forks it.

Importing this module is what the forked processes need not do again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# The SDK imports the Kubernetes client, which imports a validator when there is one: a quarter of the start.
sys.modules.setdefault("kubernetes_validate", None)  # type: ignore[arg-type]

import model_signing.verifying  # noqa: F401, E402 - the check of a package would import it in each process anew

from workshop_lib.mlops.package_server import PackagedForecaster  # noqa: E402
from workshop_lib.serving.forecaster_server import Server  # noqa: E402


def run(package: Path, http_port: int, grpc_port: int, log: Path) -> None:
    """Check a package and serve it until SIGTERM.

    Args:
        package: its folder.
        http_port: of REST.
        grpc_port: of gRPC.
        log: what is printed goes there.
    """
    with log.open("w") as stream:
        for descriptor in (1, 2):  # standard output and errors
            os.dup2(stream.fileno(), descriptor)
    model = PackagedForecaster(package)
    model.load()
    Server(http_port, grpc_port, None).serve(model)
