"""What the course generates below ``settings.home``, by module: what a reset removes."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from workshop_lib.settings import settings

BY_MODULE = {
    "1-predictive": ["data", "data-own", "mlflow", "models", "predictions"],
    "2-generative": ["llm"],
    "3-serving": ["benchmarks", "forecasts"],
    "4-langchain": ["assistant", "screenshots"],
    "5-monitoring-optimization": ["monitoring"],
    "6-advanced-mlops": ["mlops"],
}
RECORDS = ("runs", "services", "slides", "scorecard.json", "scorecard.lock")
"""What belongs to no module; the log of the installation and a learner's notebooks in other languages stay."""


def generated(module: str | None = None) -> list[Path]:
    """A module's products, or those of all modules and the records of the course; they need not exist.

    They are named one by one, because WORKSHOP_HOME may be a folder that holds a learner's own files too.
    """
    names = BY_MODULE.get(module, []) if module else [*chain(*BY_MODULE.values()), *RECORDS]
    # What an interrupted preparation left behind starts with a dot (workshop_lib.files.atomic_path).
    return [path for name in names for path in (settings.home / name, *settings.home.glob(f".{name}.*"))]
