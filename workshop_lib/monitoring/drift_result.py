"""What the drift job writes and others read: one small JSON file with distances, decision and reasons.

The job (:mod:`workshop_lib.monitoring.drift`) looks at one week of arrivals and replaces ``drift.json``. The
monitor turns the file into metrics, alerts read those. The last good file stays when a job fails, so that a
reader sees an old result (its ``made_at`` says how old) rather than none.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from workshop_lib.files import write_text
from workshop_lib.settings import settings

Kind = Literal["data", "prediction", "concept"]
Decision = Literal["nothing", "watch", "retrain"]
DECISIONS: tuple[Decision, ...] = ("nothing", "watch", "retrain")
MODEL = "forecaster"
"""How the model is called in configuration and metrics (its name in the registry is longer)."""
PREDICTION, ERROR = "prediction", "error"
"""What stands in place of a feature's name for the kinds prediction and concept."""


class DriftFileError(RuntimeError):
    """The file of the drift job is missing or cannot be read; the message says what to do."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Distance(_Frozen):
    """How far one thing that is watched has moved from the training weeks."""

    kind: Kind
    feature: str
    """A feature's name; ``prediction`` or ``error`` for the other two kinds."""
    method: str
    """How it was measured, such as ``psi``, ``wasserstein`` or ``wape_ratio``."""
    value: Annotated[float, Field(ge=0)]
    threshold: Annotated[float, Field(ge=0)]
    """From the configuration; a value above it counts as drift."""

    @property
    def drifted(self) -> bool:
        """Whether the value lies above its threshold."""
        return self.value > self.threshold


class DriftResult(_Frozen):
    """One week of arrivals against the training weeks of the model in service."""

    model: str = MODEL
    model_version: str
    """Number in the registry."""
    week: int
    """Number in the column ``week`` of the data: weeks begin on Monday, 1 is the first of the data."""
    first_day: date
    last_day: date
    reference_first_day: date
    """Where the training weeks begin."""
    reference_last_day: date
    made_at: AwareDatetime
    rows: Annotated[int, Field(gt=0)]
    """Rows of the week: open days times categories."""
    distances: tuple[Distance, ...]
    wape: Annotated[float, Field(ge=0)]
    """Error of the week's forecasts against what was sold: sum of absolute errors over units."""
    reference_wape: Annotated[float, Field(ge=0)]
    """The same on quiet weeks that the model had not seen."""
    decision: Decision
    reasons: tuple[str, ...]
    """The rules that led to the decision, in words."""
    report: str | None = None
    """Name of the HTML report beside the file, when one was made."""

    @property
    def drifted_features_ratio(self) -> float:
        """Share of the watched features that drifted, 0 to 1."""
        features = [distance.drifted for distance in self.distances if distance.kind == "data"]
        return sum(features) / len(features) if features else 0.0

    def distance(self, kind: Kind, feature: str | None = None) -> Distance:
        """One of the distances; for the kinds prediction and concept there is one only.

        Raises:
            KeyError: when nothing of that kind and name is watched.
        """
        for distance in self.distances:
            if distance.kind == kind and feature in (None, distance.feature):
                return distance
        raise KeyError(f"There is no distance of kind {kind!r} for {feature!r}.")


def drift_file() -> Path:
    """Where the newest result lies."""
    return settings.home / "monitoring" / "drift.json"


def read_result(path: Path | None = None) -> DriftResult:
    """The newest result of the drift job.

    Args:
        path: the file; :func:`drift_file` by default.

    Raises:
        DriftFileError: when there is none, or it is not a result.
    """
    path = path or drift_file()
    try:
        return DriftResult.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DriftFileError(
            f"{path} does not exist: the drift job has not run yet. Run: python -m workshop_lib.monitoring.drift"
        ) from None
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        problem = f"{'.'.join(map(str, first['loc'])) or 'as a whole'}: {first['msg']}"
        raise DriftFileError(f"{path} is not a result of the drift job ({problem}). Run the job again.") from error


def write_result(result: DriftResult, path: Path | None = None) -> Path:
    """Replace the newest result; a reader sees the old file or the new one, never half of it."""
    path = path or drift_file()
    write_text(path, result.model_dump_json(indent=1))
    return path


def now() -> datetime:
    """The present moment, in UTC and to the second."""
    return datetime.now(UTC).replace(microsecond=0)
