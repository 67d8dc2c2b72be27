"""The pipeline's first tasks: fetch the code of a commit, and check the data."""

from __future__ import annotations

import shutil
from pathlib import Path

from workshop_lib.mlops.steps import Results, StepFailed

SOURCE = "source"
"""Folder of the workspace in which the code lies; the later tasks run there."""


def checkout(workspace: Path, repository: str, revision: str = "main") -> Results:
    """Fetch one commit of the code into the workspace.

    Args:
        workspace: folder that the run's tasks share.
        repository: address or path.
        revision: branch, tag or commit.

    Raises:
        GitError: when the repository or the revision is not there.
    """
    from workshop_lib.mlops.gitops import git

    if revision.startswith("-"):
        raise StepFailed(f"{revision!r} is no revision.")  # Git would take it for an option
    folder = workspace / SOURCE
    shutil.rmtree(folder, ignore_errors=True)
    git("clone", "--quiet", "--no-checkout", "--", repository, str(folder))
    git("checkout", "--quiet", "--detach", revision, folder=folder)
    return {"commit": git("rev-parse", "HEAD", folder=folder)}


def data_validation(workspace: Path) -> Results:
    """Ask the quality gate ``data`` about the newest raw tables, and check what training reads.

    Args:
        workspace: folder that the run's tasks share.

    Raises:
        DataError: when a file does not have the columns that it should have.
        StepFailed: when the gate says no, or the daily sales are not as training expects them.
    """
    import pandera.pandas as pa

    from workshop_lib import data
    from workshop_lib.data.schemas import DAILY_SALES
    from workshop_lib.mlops import gate_data
    from workshop_lib.mlops.gate_config import load_gates
    from workshop_lib.mlops.gates import Subject

    gate = gate_data.judge(Subject(workspace), load_gates())
    if gate.status != "passed":
        measured = ", ".join(f"{one.name} {one.value:.3f} of {one.limit:g}" for one in gate.measurements)
        raise StepFailed(f"the gate data has failed: {measured}. {gate.recommendation}")
    try:
        DAILY_SALES.validate(data.load("daily_sales"), lazy=True)
    except pa.errors.SchemaErrors as errors:
        broken = sorted(set(errors.failure_cases["check"].astype(str)))
        raise StepFailed(f"the daily sales break the rules {', '.join(broken)}.") from None
    shares = {one.name: f"{one.value:.4f}" for one in gate.measurements}
    return {**shares, "fingerprint": data.prepared().fingerprint}
