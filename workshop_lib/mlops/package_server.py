"""The forecaster's server for a stage: it serves one package, and only after checking it itself.

    python -m workshop_lib.mlops.package_server --package FOLDER --http-port 8410 --grpc-port 8411

It is the server of module 3 (:mod:`workshop_lib.serving.forecaster_server`), which takes its files from a signed folder
instead of the registry. Signature and checksums are checked by the process that loads the files: whoever changes
a file between the pipeline's check and the start is found out.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from workshop_lib.mlops import packages, signing
from workshop_lib.predictive import champion
from workshop_lib.serving.envelope import log_line
from workshop_lib.serving.forecaster_model import ForecasterModel
from workshop_lib.serving.forecaster_server import Server


class PackagedForecaster(ForecasterModel):
    """The forecaster from a package.

    Args:
        folder: the package's folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self._folder = folder

    def fetch(self) -> champion.Package:
        """The package's files.

        Raises:
            SignatureError, PackageError: when they are not what was signed.
        """
        package = packages.load(self._folder)
        about = json.loads((self._folder / champion.PACKAGE_FILE).read_text(encoding="utf-8"))
        files = (self._folder / champion.ONNX_FILE, self._folder / champion.IR_FILE)
        return champion.Package(str(package.about["registry_version"]), *files, about)

    def is_outdated(self) -> bool:
        """Never: a package does not change, another one gets a server of its own."""
        return False


def main() -> None:
    """Read the command line, check the package and serve it."""
    parser = argparse.ArgumentParser(description="Serve a signed package over the Open Inference Protocol.")
    parser.add_argument("--package", type=Path, required=True, help="the package's folder")
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    given = parser.parse_args()
    model = PackagedForecaster(given.package)
    try:
        model.load()
    except (packages.PackageError, signing.SignatureError) as error:
        sys.exit(f"{given.package.name} is not served: {error}")
    log_line(server="forecaster", event="loaded", version=model.version, model=given.package.name)
    Server(given.http_port, given.grpc_port, None).serve(model)


if __name__ == "__main__":
    main()
