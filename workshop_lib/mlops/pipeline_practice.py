"""A scratch world for the pipeline: two Git repositories as a server keeps them, and nothing on the stages.

lesson = prepare()
run = lesson.run("first", author="ana", rounds=120)
run.advance()
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workshop_lib.manifest_files import load
from workshop_lib.manifest_rules import Document
from workshop_lib.mlops import deployments, gitops
from workshop_lib.mlops.pipeline_run import PipelineRun
from workshop_lib.ports import HOST, free_port
from workshop_lib.settings import ROOT, settings

FILE = ROOT / "6-advanced-mlops" / "pipelines" / "gitops_pipeline.yaml"
CODE = (
    "workshop_lib",
    "6-advanced-mlops/pipelines",
    "6-advanced-mlops/security",
    "6-advanced-mlops/governance",
    "5-monitoring-optimization/monitoring/model_monitoring_config.yaml",
    "requirements.lock",
)
"""What of the checkout goes into the lesson's repository: all that a step of the pipeline reads."""
NAME = "sales-forecaster-pipeline"
"""The registered model of the lesson, so that the champion of the other modules stays alone."""


@dataclass(frozen=True)
class Lesson:
    """Where everything of the lesson lies."""

    folder: Path
    documents: list[Document]
    """Of :data:`FILE`."""

    @property
    def code(self) -> Path:
        """The repository with the code."""
        return self.folder / "code.git"

    @property
    def state(self) -> Path:
        """The repository that says what each stage shall serve."""
        return self.folder / "state.git"

    def run(
        self,
        name: str,
        body: Mapping[str, Any] | None = None,
        secrets: Mapping[str, Mapping[str, str]] | None = None,
        **params: object,
    ) -> PipelineRun:
        """A run that has not begun, with the addresses of this machine.

        Unless the settings name a source of advisories, nobody answers about known weaknesses of packages (a port on
        which nobody listens): the security gate then says the same on every machine and on every day.

        Args:
            name: of the run.
            body: a PipelineRun; the one of the file by default.
            secrets: as for :class:`PipelineRun`.
            params: of the pipeline, with ``_`` for ``-``; numbers may be numbers.
        """
        body = body or next(one.body for one in self.documents if one.kind == "PipelineRun")
        here = {"code-repository": self.code, "state-repository": self.state, "staging-url": "", "production-url": ""}
        values = {**here, "model": NAME, **{name.replace("_", "-"): value for name, value in params.items()}}
        texts = {name: value if isinstance(value, list) else str(value) for name, value in values.items()}
        silent = {} if settings.advisories else {"WORKSHOP_ADVISORIES": f"http://{HOST}:{free_port()}"}
        return PipelineRun(self.documents, body, self.folder / "runs" / name, texts, secrets, silent)


def prepare(folder: Path | None = None) -> Lesson:
    """Make the repositories anew and empty both stages.

    Args:
        folder: what is in it is deleted; ``mlops/cicd`` in the home by default.
    """
    folder = folder or settings.home / "mlops" / "cicd"
    deployments.stop_all()
    shutil.rmtree(folder, ignore_errors=True)
    lesson = Lesson(folder, load(FILE))
    with tempfile.TemporaryDirectory() as scratch:
        for name in CODE:
            source, target = ROOT / name, Path(scratch) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)
        gitops.create(lesson.code, Path(scratch), author="ana")
    gitops.create(lesson.state)
    return lesson
