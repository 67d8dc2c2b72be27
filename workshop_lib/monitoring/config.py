"""What is watched in service and where the limits lie, read from one file.

    config = load_config()
    config.forecaster.service.p95_seconds
    config.alerts.latency_high.for_

The file is ``5-monitoring-optimization/monitoring/model_monitoring_config.yaml``: a ConfigMap that holds the limits as
text, and further objects of a cluster. A pod that mounts the ConfigMap has that text alone as a file, so both forms are
read. Whoever compares something with a limit takes the limit from here.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from workshop_lib.manifest_files import ManifestError, load, parse
from workshop_lib.settings import settings

KEY = "monitoring.yaml"
"""Name of the limits within the ConfigMap, and of the file that a pod sees."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class ConfigError(ValueError):
    """The file cannot be used; the message names the field, what was there and what it accepts."""


def seconds(duration: str) -> int:
    """A duration as Prometheus writes it, such as ``2m``, ``1h30m`` or ``7d``, in seconds.

    Raises:
        ValueError: for any other text, and for no time at all.
    """
    parts = re.findall(r"(\d+)([smhdw])", duration)
    total = sum(int(number) * _SECONDS[unit] for number, unit in parts)
    if "".join(map("".join, parts)) != duration or not total:
        raise ValueError("a duration such as 30s, 2m, 1h30m or 7d")
    return total


def _checked(duration: str) -> str:
    seconds(duration)
    return duration


Duration = Annotated[str, AfterValidator(_checked)]
"""Text that Prometheus takes as it is; :func:`seconds` reads it."""
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Ratio = Annotated[float, Field(ge=1, allow_inf_nan=False)]
Severity = Literal["info", "warning", "critical"]
Name = Annotated[str, Field(min_length=1)]
Limits = TypeVar("Limits", bound=BaseModel)


class _Part(BaseModel):
    """One part of the file: cannot be changed, and takes no field that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class ForecastQuality(_Part):
    """Forecasts against the sales that arrive afterwards."""

    window: Duration
    accuracy: Share
    """At least: 1 - |errors| / units, by department and day."""
    accuracy_category_day: Share
    """At least: the same by category and day."""
    r2: Share
    mae: Positive
    """At most, units by category and day."""
    rmse: Positive
    coverage: Share
    """At least: share of days inside their intervals."""
    minimum_units: Positive
    """A department that sold less in the window is not judged."""


class ForecastService(_Part):
    """How quickly forecasts come, and how many."""

    p95_seconds: Positive
    requests_per_second: Positive


class Confidence(_Part):
    """How wide an interval may be: its width over the forecast."""

    relative_width: Positive
    share: Share
    """Of the forecasts that may be wider."""


class ForecastDrift(_Part):
    """How far the inputs, the forecasts and the errors may move away from those of the training days."""

    psi: Positive
    """Population stability index of a feature."""
    prediction: Positive
    """The same of the forecasts."""
    concept: Ratio
    """Error now over the error on quiet weeks that the model had not seen."""
    watch_share: Share
    retrain_share: Share
    weeks: Annotated[int, Field(ge=1)]
    """In a row beyond a limit make a retraining."""
    shadow_weeks: Annotated[int, Field(ge=1)]
    """How long a newly trained model runs beside the old one before they are compared."""
    promotion_p_value: Share
    """The new one takes over when a paired test's p-value is below."""
    features: Annotated[tuple[Name, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _watch_comes_first(self) -> ForecastDrift:
        if self.watch_share > self.retrain_share:
            raise ValueError("watch_share may not be above retrain_share")
        if len(set(self.features)) < len(self.features):
            raise ValueError("features: each once")
        return self


class Forecaster(_Part):
    """The forecaster of sales."""

    quality: ForecastQuality
    service: ForecastService
    confidence: Confidence
    drift: ForecastDrift


class TextQuality(_Part):
    """Texts of the language model, by the rules of :mod:`workshop_lib.generative.quality`."""

    relevance: Share
    coherence: Share


class TextService(_Part):
    """How quickly texts come."""

    tokens_per_second: Positive
    first_token_seconds: Positive
    response_seconds: Positive
    waiting_requests: Positive
    gpu_utilisation: Share


class Generator(_Part):
    """The language model."""

    quality: TextQuality
    service: TextService


class Business(_Part):
    """What the shop gets out of it."""

    click_rate: Share
    engagement_drop: Share
    """Engagement over that of a day before, at least."""
    rating: Annotated[float, Field(ge=1, le=5)]
    redemption_rate: Share


class Alert(_Part):
    """When an alert fires whose limit and window stand in another part."""

    for_: Duration = Field(alias="for")
    """How long it must last."""
    severity: Severity


class WindowAlert(Alert):
    """An alert whose limit stands in another part."""

    window: Duration
    """What a rate or a quantile looks at."""


class LimitAlert(WindowAlert):
    """An alert with a limit of its own."""

    threshold: Positive


class Alerts(_Part):
    """Every alert of ``prometheus_alerts.yaml``."""

    accuracy_degraded: Alert
    latency_high: WindowAlert
    low_confidence: WindowAlert
    drift: WindowAlert
    gpu_high: WindowAlert
    memory_high: LimitAlert
    endpoint_down: Alert
    network_errors: LimitAlert
    prediction_anomaly: LimitAlert
    engagement_drop: WindowAlert
    validation_errors: LimitAlert
    low_throughput: LimitAlert


class Health(_Part):
    """How the services are asked whether they are well."""

    interval_seconds: Positive
    generation_interval_seconds: Positive
    """A test generation keeps a processor busy for seconds, so it comes less often than the other checks."""
    timeout_seconds: Positive
    generation_timeout_seconds: Positive
    failures: Annotated[int, Field(ge=1)]
    """In a row make a service count as down."""
    detection_seconds: Positive
    """From a fault until it is seen."""
    recovery_seconds: Positive
    forecast_difference: Positive
    """Of the test prediction from its known answer, relative."""
    generation_quality: Share
    needed: tuple[Name, ...]
    """Services without which the shop cannot be served; the others make it poorer."""


class BurnRate(_Part):
    """How many times too fast the error budget is used up, over a long and a short window."""

    factor: Positive
    long: Duration
    short: Duration
    severity: Severity

    @model_validator(mode="after")
    def _long_is_longer(self) -> BurnRate:
        if seconds(self.short) >= seconds(self.long):
            raise ValueError("short must be shorter than long")
        return self


class Objectives(_Part):
    """What is promised to the users, and how its breach is noticed in time."""

    availability: Annotated[float, Field(gt=0, lt=1)]
    latency: Annotated[float, Field(gt=0, lt=1)]
    """Share of the requests that are answered within ``forecaster.service.p95_seconds``."""
    window: Duration
    burn_rates: Annotated[tuple[BurnRate, ...], Field(min_length=1)]

    @property
    def error_budget(self) -> float:
        """Share of the requests that may fail: 1 minus the promised availability."""
        return 1 - self.availability


class MonitoringConfig(_Part):
    """All limits."""

    forecaster: Forecaster
    generator: Generator
    business: Business
    alerts: Alerts
    health: Health
    objectives: Objectives


def with_health(config: MonitoringConfig, **values: float) -> MonitoringConfig:
    """The same limits with other values of the part ``health``, for an experiment."""
    return config.model_copy(update={"health": config.health.model_copy(update=values)})


def load_config(path: Path | None = None) -> MonitoringConfig:
    """Read the limits.

    Args:
        path: the file with the ConfigMap, or one that holds the ConfigMap's text; by default
            ``settings.monitoring_config``.

    Raises:
        ConfigError: as :func:`read_limits` does.
    """
    return read_limits(path or settings.monitoring_config, KEY, MonitoringConfig)


def read_limits(path: Path, key: str, kind: type[Limits]) -> Limits:
    """Read limits from a file with a ConfigMap, or from its text alone.

    Args:
        path: the file.
        key: name of the text within the ConfigMap.
        kind: what the text must be.

    Raises:
        ConfigError: when the file is missing or broken, and for each field that is missing, unknown or of a wrong
            value, with what it accepts.
    """
    try:
        documents = load(path)
        inner = [
            one.body["data"][key] for one in documents if one.kind == "ConfigMap" and key in one.body.get("data", {})
        ]
        if inner:
            documents = parse(inner[0], f"{path.name}, {key}")
        if len(documents) != 1:
            raise ConfigError(f"{path}: neither a ConfigMap with the key {key} nor its text.")
        return kind.model_validate(documents[0].body)
    except ManifestError as error:
        raise ConfigError(str(error)) from None
    except ValidationError as error:
        raise ConfigError("\n".join(map(partial(_explain, path.name), error.errors()))) from None


def _explain(file: str, problem: Any) -> str:
    """One line for one of pydantic's error records."""
    field = ".".join(map(str, problem["loc"])) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"{file}, {field}: nobody reads a field of this name."
    if problem["type"] == "missing":
        return f"{file}, {field}: it is missing."
    accepts = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{file}, {field}: got {problem['input']!r}, expected {accepts}."
