"""The churn model in process: features of today's households and the champion as ONNX."""

from __future__ import annotations

import datetime as dt
import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import mlflow
import numpy as np
from onnxruntime import InferenceSession

from workshop_lib.predictive import churn, onnx_export, tracking
from workshop_lib.predictive.champion import find_version
from workshop_lib.serving.api_errors import InvalidInput
from workshop_lib.serving.api_schemas import ChurnResponse, ModelVersion
from workshop_lib.settings import settings

URI = f"models:/{tracking.CHURN}@champion"


def ensure_champion() -> None:
    """Train and register a churn model where there is none."""
    tracking.use_tracking(churn.EXPERIMENT)
    if find_version(URI) is None:
        churn.load_champion()


@dataclass(frozen=True)
class _Loaded:
    """A version that is ready to answer."""

    version: str
    session: InferenceSession


class Households:
    """Everything that answering about households takes. Making one loads the data and the champion.

    Raises:
        TrackingError: when MLflow cannot be used.
        DataError: when the data cannot be used.
    """

    def __init__(self) -> None:
        ensure_champion()
        self.load()
        table = churn.load_current()
        self.as_of: dt.date = table["cutoff"].iloc[0].date()
        self._rows = table[list(churn.FEATURES)].to_numpy(dtype=np.float32)
        self._ids = table["household_id"].tolist()
        self._place = {str(household): place for place, household in enumerate(self._ids)}

    @property
    def version(self) -> str:
        """Number in the registry of the version that answers."""
        return self._loaded.version

    @cached_property
    def fingerprint(self) -> str:
        """Differs when the features of any household differ, or the day on which they were known."""
        about = repr((self.as_of, self._ids, churn.FEATURES)).encode()
        return hashlib.blake2b(about + self._rows.tobytes(), digest_size=16).hexdigest()

    @cached_property
    def seen(self) -> dict[str, tuple[float, float]]:
        """The smallest and the largest value of each feature among today's households."""
        lowest, highest = self._rows.min(axis=0).tolist(), self._rows.max(axis=0).tolist()
        return dict(zip(churn.FEATURES, zip(lowest, highest, strict=True), strict=True))

    def is_outdated(self) -> bool:
        """Whether the registry has another champion than the one in use."""
        version = find_version(URI)
        return version is not None and str(version.version) != self.version

    def load(self) -> None:
        """Load the champion; the version in use answers until the new one is ready.

        Raises:
            TrackingError: when the registry has none.
        """
        version = find_version(URI)
        if version is None:
            raise tracking.TrackingError(f"The registry has no {URI}.")
        model = mlflow.sklearn.load_model(f"models:/{tracking.CHURN}/{version.version}")
        with tempfile.TemporaryDirectory(prefix="workshop-") as folder:
            file = Path(folder) / "churn.onnx"
            onnx_export.export(model, file, churn.FEATURES)
            # One assignment: a request sees the old version or the new one.
            self._loaded = _Loaded(str(version.version), onnx_export.session(file, threads=1))

    def by_id(self, household_id: int | str) -> ChurnResponse:
        """How likely a household of the shop is to leave.

        Raises:
            InvalidInput: with status 404 for one that did not shop lately.
        """
        place = self._place.get(str(household_id))
        if place is None:
            expected = (
                f"a household that shopped in the {churn.WINDOW_DAYS} days before {self.as_of}, such as {self._ids[0]}"
            )
            raise InvalidInput("household_id", str(household_id), expected, status=404)
        return self._answer(self._rows[[place]], self._ids[place])

    def by_features(self, features: Mapping[str, float]) -> ChurnResponse:
        """How likely a household with these features is to leave."""
        return self._answer(np.array([[features[name] for name in churn.FEATURES]], dtype=np.float32), None)

    def _answer(self, row: np.ndarray, household_id: int | str | None) -> ChurnResponse:
        loaded = self._loaded
        probability = float(onnx_export.predict(loaded.session, row)[0])
        return ChurnResponse(
            household_id=household_id,
            probability=probability,
            horizon_days=churn.HORIZON_DAYS,
            threshold=settings.churn_threshold,
            contact=probability >= settings.churn_threshold,
            as_of=None if household_id is None else self.as_of,
            model=ModelVersion(name=tracking.CHURN, version=loaded.version),
        )
