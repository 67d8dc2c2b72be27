"""Full packages: everything that a version needs to be served, checked and explained, in one signed folder.

    package = build("3", reason="trained on the autumn", actor="ana")     # …/packages/sales-forecaster-v1.2.0
    load(package.folder)                                                  # verified, or an error

::

    sales-forecaster-v1.2.0/
      model/              the fitted model as MLflow keeps it (skops: no pickle)
      forecaster.onnx     the same for ONNX Runtime
      model.xml model.bin the same as OpenVINO's IR
      forecaster.json     features, categories, intervals
      requirements.lock   the environment
      package.json        what it is, where it came from, and the checksum of every file above
      model.sig           the signature over all of it

Quick to import: whoever only loads a package need not wait for MLflow.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_lib.files import atomic_path, locked, sha256, write_text
from workshop_lib.mlops import audit, signing
from workshop_lib.mlops.semver import Version
from workshop_lib.settings import ROOT, settings

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities.model_registry import ModelVersion

PACKAGE_JSON = "package.json"
SIGNATURE = signing.SIGNATURE
LOCK = "requirements.lock"
NAME = "sales-forecaster"
"""The registered model that is packaged by default."""


class PackageError(RuntimeError):
    """A folder is no package, or not the one that was built; the message says what to do."""


@dataclass(frozen=True)
class Package:
    """A package on disk."""

    folder: Path
    about: dict[str, Any]
    """What its package.json says."""

    @property
    def name(self) -> str:
        """Of the registered model."""
        return str(self.about["name"])

    @property
    def version(self) -> str:
        """Semantic version, such as ``v1.2.3``."""
        return str(self.about["version"])

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def packages_dir() -> Path:
    """Where packages are kept."""
    return settings.home / "mlops" / "packages"


def build(registry_version: str | int, *, reason: str, actor: str, name: str = NAME) -> Package:
    """Make the package of a registered version, sign it, and write it into the audit trail.

    A version is packaged once: a later call returns the same package, after checking it.

    Args:
        registry_version: number or alias in the registry.
        reason: why it is built, for the trail.
        actor: who builds it, for the trail.
        name: the registered model.

    Raises:
        PackageError: when there is no such version, or another package stands under its number.
        SignatureError: when a package that was built before no longer fits its signature.
        TrackingError: when a file of the version is missing or is not what was registered.
    """
    from workshop_lib.mlops import versions
    from workshop_lib.predictive.champion import CHECKSUM_TAG, EXPERIMENT, PACKAGE_FILE, find_version
    from workshop_lib.predictive.tracking import use_tracking

    use_tracking(EXPERIMENT)
    uri = f"models:/{name}{'/' if str(registry_version).isdecimal() else '@'}{registry_version}"
    found = find_version(uri)
    if found is None:
        raise PackageError(f"The registry has no {uri}, so there is nothing to package.")
    number, decision = versions.assign(found)
    target = packages_dir() / f"{name}-{number}"
    with locked(packages_dir() / "build"):
        if target.exists():
            package = load(target)
            if package.about["files"][PACKAGE_FILE] != found.tags[CHECKSUM_TAG]:
                raise PackageError(
                    f"{target.name} was built from another model: the registry has been made anew since. Remove its"
                    " folder, or run ./workshop reset 6-advanced-mlops."
                )
            return package
        with atomic_path(target) as draft:
            about = _collect(found, draft)
            about |= {"version": str(number), "change": decision.change, "reasons": list(decision.reasons)}
            about |= {"built_by": actor, "files": {file: sha256(draft / file) for file in _files(draft)}}
            write_text(draft / PACKAGE_JSON, json.dumps(about, indent=1, ensure_ascii=False))
            signing.sign(draft)
    details = {"registry_version": about["registry_version"], PACKAGE_JSON: sha256(target / PACKAGE_JSON)}
    audit.record("build", f"{name} {number}", actor=actor, reason=reason, details=details)
    return load(target)


def ensure(registry_version: str = "champion") -> Package:
    """The package of a registered version, built when it is not there; a champion is trained when there is none."""
    from workshop_lib.predictive.champion import ensure_champion

    if registry_version == "champion":
        registry_version = str(ensure_champion().version)
    return build(registry_version, reason="needed and not there yet", actor="workshop")


def load(folder: Path) -> Package:
    """Open a package after checking its signature and the checksum of every file.

    Raises:
        PackageError: when it is no package, or a file is not what package.json says.
        SignatureError: when it was changed after it was signed, or signed by somebody else.
    """
    if not (folder / PACKAGE_JSON).is_file():
        raise PackageError(f"{folder} is no package: it has no {PACKAGE_JSON}.")
    signing.verify(folder)
    about = json.loads((folder / PACKAGE_JSON).read_text(encoding="utf-8"))
    # The signature says that the folder is as it was signed; this, that what was signed belongs together.
    present = {file: sha256(folder / file) for file in _files(folder)}
    wrong = sorted(file for file in present.keys() | about["files"] if present.get(file) != about["files"].get(file))
    if wrong:
        raise PackageError(
            f"{folder.name} is not the package that was built: {', '.join(wrong)} differ. Do not use it."
        )
    return Package(folder, about)


def find(version: str, name: str = NAME) -> Package:
    """The package of a semantic version, checked by :func:`load`.

    Raises:
        VersionError: when ``version`` is none.
        PackageError: when it was not built, naming those that were, or is not what was built.
        SignatureError: likewise, by its signature.
    """
    folder = packages_dir() / f"{name}-{Version.parse(version)}"
    if not folder.is_dir():
        built = ", ".join(str(known) for known in existing(name)) or "none"
        raise PackageError(f"There is no package of {name} {version}. Built so far: {built}.")
    return load(folder)


def existing(name: str = NAME) -> list[Version]:
    """Semantic versions of the packages that were built, in ascending order."""
    folders = packages_dir().glob(f"{name}-v*")
    return sorted(Version.parse(folder.name.removeprefix(f"{name}-")) for folder in folders if folder.is_dir())


def compare(a: Package, b: Package) -> pd.DataFrame:
    """What two packages say about themselves, where they differ.

    Returns:
        Columns ``field``, ``a`` and ``b``. Fields within others are joined by a dot (``metrics.test_wape``); long
        lists show what only one of the two has; what is missing in one is None.
    """
    import pandas as pd

    sides = [dict(_flat(package.about)) for package in (a, b)]
    rows = []
    for field in dict.fromkeys([*sides[0], *sides[1]]):
        left, right = (side.get(field) for side in sides)
        if left == right:
            continue
        if isinstance(left, list) and isinstance(right, list) and max(len(left), len(right)) > 3:
            only = [[value for value in one if value not in two] for one, two in ((left, right), (right, left))]
            left, right = (f"{len(side)}, {len(own)} only here" for side, own in zip((left, right), only, strict=True))
        rows.append({"field": field, "a": left, "b": right})
    return pd.DataFrame(rows, columns=["field", "a", "b"])


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _files(folder: Path) -> list[str]:
    """Every file of a package but its description and its signature, by its path within the folder."""
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(file for file in files if file not in (PACKAGE_JSON, SIGNATURE))


def _collect(version: ModelVersion, folder: Path) -> dict[str, Any]:
    """Copy a registered version's files, checked by their checksums, and say where they come from."""
    import mlflow
    from mlflow.tracking import MlflowClient

    from workshop_lib.predictive.champion import OUTPUT, PACKAGE_FILE, load_package

    uri = f"models:/{version.name}/{version.version}"
    source = load_package(uri)
    mlflow.artifacts.download_artifacts(uri, dst_path=str(folder / "model"))
    extra = folder / "model" / "extra_files"
    # A registry by HTTP gives the two IR files in folders of their own; load_package has put them side by side.
    for path in (source.onnx_file, source.ir_file, source.ir_file.with_suffix(".bin"), extra / PACKAGE_FILE):
        shutil.copyfile(path, folder / path.name)
    shutil.rmtree(extra)
    shutil.copyfile(ROOT / LOCK, folder / LOCK)
    client = MlflowClient(settings.tracking_uri)
    assert version.run_id is not None  # register_forecaster logs every version from a run
    run = client.get_run(version.run_id)
    aliases = client.get_registered_model(version.name).aliases
    about = source.about
    return {
        "name": version.name,
        "version": "",  # takes its place at the top
        "registry_version": str(version.version),
        "alias": ", ".join(alias for alias, number in aliases.items() if str(number) == str(version.version)),
        "description": version.description,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "run_id": version.run_id,
        "code_commit": code_commit(),
        "data_fingerprint": about["data_fingerprint"],
        "training_period": [about["first_day"], about["last_day"]],
        "features": about["features"],
        "categories": about["categories"],
        "output": OUTPUT,
        "metrics": run.data.metrics,
        "environment_sha256": sha256(folder / LOCK),
    }


def code_commit() -> str:
    """The commit of the course's code, with ``-dirty`` behind it when files were changed since.

    ``unknown`` outside of a git checkout, as in a folder that was unpacked from an archive.
    """
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
