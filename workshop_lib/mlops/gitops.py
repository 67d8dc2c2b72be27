"""GitOps: a Git repository says what each stage shall serve, and something makes it so.

    repository = create(folder)
    propose(repository, "production", package, actor="pipeline", reason="approved by carlos")   # one commit
    drift(repository, "production")                                    # desired against running
    reconcile(repository, "production")                                # make them equal

Per stage the repository holds one InferenceService. On a cluster Argo CD reads that file and makes the cluster equal to
it. Here :func:`reconcile` reads the same file and does the same with :mod:`workshop_lib.mlops.deployments`. Going back
is a commit as well (:func:`revert`), so the history tells what was served when, and who wanted it.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from workshop_lib.mlops import approvals, audit, deployments, roles
from workshop_lib.mlops.deployments import PRODUCTION

if TYPE_CHECKING:
    from workshop_lib.mlops.packages import Package

BRANCH = "main"
FILE = "forecaster.yaml"
NAME_LABEL, VERSION_LABEL = "workshop.example.com/model", "app.kubernetes.io/version"


class GitError(RuntimeError):
    """Git is missing, or refused; the message holds its words."""


@dataclass(frozen=True)
class Drift:
    """What a stage shall serve beside what it serves; empty where it is nothing."""

    stage: str
    desired: str
    running: str
    commit: str
    """The commit that desires it, shortened."""

    @property
    def in_sync(self) -> bool:
        """Whether both are the same; Argo CD says ``Synced`` or ``OutOfSync``."""
        return self.desired == self.running


def git(*arguments: str, folder: Path | None = None, author: str = "workshop") -> str:
    """Run a Git command and return what it says.

    Args:
        arguments: of ``git``.
        folder: where; the current folder by default.
        author: name for commits; the machine's own Git settings are not read.

    Raises:
        GitError: when Git is not installed or the command fails.
    """
    who = ("-c", f"user.name={author}", "-c", f"user.email={author}@example.com", "-c", "commit.gpgsign=false")
    try:
        done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise GitError("Git is not installed. It comes with your system's packages.") from None
    if done.returncode:
        raise GitError(f"git {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def create(repository: Path, files: Path | None = None, author: str = "workshop") -> Path:
    """Make a bare repository, as a Git server keeps them, with one first commit.

    Args:
        repository: where; it must not exist.
        files: a folder with the content of the first commit; a README alone by default.
        author: of the commit.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = files or Path(scratch)
        if files is None:
            (folder / "README.md").write_text("What each stage shall serve.\n", encoding="utf-8")
        git("init", "--quiet", f"--initial-branch={BRANCH}", folder=folder)
        git("add", "--all", folder=folder)
        git("commit", "--quiet", "--message", "First state", folder=folder, author=author)
        git("clone", "--quiet", "--bare", str(folder), str(repository))
    return repository


def propose(
    repository: Path | str,
    stage: str,
    package: Package,
    *,
    actor: str,
    reason: str,
    options: Mapping[str, str] | None = None,
) -> str:
    """Commit that a stage shall serve a package.

    Args:
        repository: a path or an address that Git can push to.
        stage: which one.
        package: a verified package.
        actor: author of the commit.
        reason: its message.
        options: variables of the server's environment.

    Returns:
        The commit.

    Raises:
        NotApproved: for production, when nobody allowed it: the repository stays as it was.
        GitError: when Git refuses.
    """
    if stage == PRODUCTION:
        approvals.require(package.name, package.version)
    text = yaml.safe_dump(manifest(stage, package, options or {}), sort_keys=False)
    with _clone(repository) as folder:
        path = folder / stage / FILE
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return _push(folder, f"{stage}: {package.version}, {reason}", actor)


def revert(repository: Path | str, stage: str, *, actor: str, reason: str) -> str:
    """Commit that a stage shall serve again what it served before the last commit about it.

    Raises:
        GitError: when the repository knows nothing of the stage, or refuses.
    """
    with _clone(repository) as folder:
        commits = git("log", "--format=%H", "--", stage, folder=folder).split()
        if not commits:
            raise GitError(f"The repository has never said anything about {stage}.")
        git("revert", "--no-commit", commits[0], folder=folder)
        return _push(folder, f"{stage}: back to before {commits[0][:8]}, {reason}", actor)


def drift(repository: Path | str, stage: str) -> Drift:
    """Compare what a stage shall serve with what it serves."""
    body, running = _desired(repository, stage), deployments.current(stage)
    return Drift(
        stage,
        _words(*_package(body), _env(body)) if body else "",
        _words(running.version, running.name, running.options) if running else "",
        git("ls-remote", "--", str(repository), BRANCH)[:8],
    )


def reconcile(repository: Path | str, stage: str, actor: str = "gitops") -> Drift:
    """Make a stage equal to the repository, as Argo CD does on a cluster.

    Returns:
        The difference that was found; afterwards there is none.

    Raises:
        DeploymentError, NotApproved, PackageError, SignatureError: when the desired version cannot be served. The
            stage then stays as it was.
    """
    from workshop_lib.mlops import packages

    found = drift(repository, stage)
    if found.in_sync:
        return found
    reason = f"desired by commit {found.commit}"
    body = _desired(repository, stage)
    audit.record("reconcile", stage, actor=actor, reason=reason, details={"was": found.running, "is": found.desired})
    if body is None:
        deployments.stop(stage, actor=actor, reason=reason)
    else:
        deployments.deploy(stage, packages.find(*_package(body)), actor=actor, reason=reason, options=_env(body))
    return found


def desired(repository: Path | str, stage: str) -> Package | None:
    """The package that a stage shall serve, verified; None when the repository says nothing about the stage."""
    from workshop_lib.mlops import packages

    body = _desired(repository, stage)
    return packages.find(*_package(body)) if body else None


def manifest(stage: str, package: Package, options: Mapping[str, str]) -> dict[str, Any]:
    """The InferenceService of a stage, ready for YAML: that of module 3 with another version.

    The options matter to the course's own server; OpenVINO Model Server, which a cluster starts, does not know them.
    """
    number = package.about["registry_version"]
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": "sales-forecaster",
            "namespace": roles.NAMESPACE if stage == PRODUCTION else roles.STAGING,
            "labels": {NAME_LABEL: package.name, VERSION_LABEL: package.version},
            "annotations": {"serving.kserve.io/deploymentMode": "RawDeployment"},
        },
        "spec": {
            "predictor": {
                "minReplicas": 1,
                "maxReplicas": 1,
                "model": {
                    "runtime": "openvino",
                    "protocolVersion": "v2",
                    "modelFormat": {"name": "openvino_ir", "version": "opset13"},
                    "storage": {"key": "models", "path": f"models/{package.name}"},
                    "args": [f'--model_version_policy={{"specific": {{"versions": [{number}]}}}}'],
                    "env": [{"name": name, "value": value} for name, value in options.items()],
                    "resources": {
                        "requests": {"cpu": "250m", "memory": "256Mi"},
                        "limits": {"cpu": "1", "memory": "1Gi"},
                    },
                },
            }
        },
    }


@contextmanager
def _clone(repository: Path | str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "state"
        git("clone", "--quiet", "--branch", BRANCH, "--", str(repository), str(folder))
        yield folder


def _push(folder: Path, message: str, author: str) -> str:
    git("add", "--all", folder=folder)
    # A commit says that somebody wanted this now, also when the stage had it before.
    git("commit", "--quiet", "--allow-empty", "--message", message, folder=folder, author=author)
    git("push", "--quiet", "origin", f"HEAD:{BRANCH}", folder=folder)
    return git("rev-parse", "HEAD", folder=folder)


def _desired(repository: Path | str, stage: str) -> dict[str, Any] | None:
    with _clone(repository) as folder:
        path = folder / stage / FILE
        body: dict[str, Any] | None = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
        return body


def _package(body: Mapping[str, Any]) -> tuple[str, str]:
    """Version and model of the package that a manifest names."""
    labels = body["metadata"]["labels"]
    return labels[VERSION_LABEL], labels[NAME_LABEL]


def _env(body: Mapping[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in body["spec"]["predictor"]["model"]["env"]}


def _words(version: str, name: str, options: Mapping[str, str]) -> str:
    """All that has to agree, in one line."""
    return " ".join([name, version, *(f"{option}={value}" for option, value in sorted(options.items()))])
