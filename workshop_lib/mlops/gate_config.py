"""The limits of the quality gates, read from one file.

    limits = load_gates()
    limits.performance.accuracy

The file is ``6-advanced-mlops/pipelines/quality_gates.yaml``, a ConfigMap; a pod that mounts it reads the same text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from workshop_lib.monitoring.config import Name, Positive, Ratio, Share, read_limits
from workshop_lib.settings import settings

KEY = "gates.yaml"
"""Name of the limits within the ConfigMap."""
Cuts = Annotated[tuple[float, ...], Field(min_length=2)]


class _Part(BaseModel):
    """One part of the file: cannot be changed, and takes no field that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Traffic(_Part):
    """The load at which a version is measured."""

    requests_per_second: Positive
    seconds: Positive


class Performance(_Part):
    """How good and how quick the forecasts are."""

    accuracy: Share
    """At least: 1 - |errors| / units, by category and week."""
    r2: Share
    """At least, by category and day."""
    p95_seconds: Positive
    """95% of the answers within, at the load."""
    days: Annotated[int, Field(ge=7)]
    """Unseen days that it takes to judge."""


class Resources(_Part):
    """What the server's process may take at the load."""

    memory_gib: Positive
    cores: Positive


class Deduction(_Part):
    """What findings of one severity cost."""

    each: Positive
    most: Positive
    """All findings of the severity together cost no more."""


class Deductions(_Part):
    """Points taken off ten, by the severity of a finding."""

    critical: Deduction
    high: Deduction
    medium: Deduction
    low: Deduction


class Security(_Part):
    """What scans may find."""

    score: Annotated[float, Field(ge=0, le=10)]
    """At least, of ten."""
    deductions: Deductions
    code: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Folders of the code that works on the model, relative to the checkout."""
    trusted: tuple[Name, ...]
    """Types that a model may bring along in a skops file."""


class Groups(_Part):
    """Lower ends of the groups."""

    age: Cuts
    """Years."""
    income: Cuts
    """Thousands a year."""


class Fairness(_Part):
    """How differently the churn model may treat groups of households."""

    difference: Share
    """Between the largest and the smallest share of a group, at most."""
    confidence: Annotated[float, Field(gt=0, lt=1)]
    minimum_rows: Annotated[int, Field(ge=1)]
    """A group with fewer households is shown and not compared."""
    groups: Groups


class DataQuality(_Part):
    """What the newest raw data must be like."""

    completeness: Share
    consistency: Share
    weeks: Annotated[int, Field(ge=1)]
    """How far back it is looked at."""


class Robustness(_Part):
    """What odd inputs may do."""

    noise: Share
    """Standard deviation of the noise, as a share of a feature's own."""
    noise_loss: Ratio
    """Error with noise over error without, at most."""
    missing_loss: Ratio
    """Error with the least of the features that can be filled in over error without, at most."""
    extreme: Positive
    """How many times the largest sales ever a forecast may reach."""
    rows: Annotated[int, Field(ge=1)]


class Gates(_Part):
    """All limits, a part for each gate; :class:`Traffic` belongs to two of them."""

    traffic: Traffic
    performance: Performance
    resources: Resources
    security: Security
    fairness: Fairness
    data: DataQuality
    robustness: Robustness


def load_gates(path: Path | None = None) -> Gates:
    """Read the limits.

    Args:
        path: the file with the ConfigMap, or one that holds its text; by default ``settings.quality_gates``.

    Raises:
        ConfigError: when the file cannot be used, naming the fields.
    """
    return read_limits(path or settings.quality_gates, KEY, Gates)
