"""The one place for settings: paths, endpoints, thresholds and seeds.

Every field can be set by an environment variable with the prefix ``WORKSHOP_`` (or in a file ``.env``
beside ``README.md``): ``WORKSHOP_HOME=/data/course``, ``WORKSHOP_THRESHOLDS__TEST_R2=0.8``.

    from workshop_lib.settings import settings
"""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableSource

from workshop_lib.thresholds import Share, Thresholds

PREFIX = "WORKSHOP_"
ROOT = Path(__file__).resolve().parents[1]
"""The checkout: the folder that holds README.md and the modules."""

MODULES = (
    "1-predictive",
    "2-generative",
    "3-serving",
    "4-langchain",
    "5-monitoring-optimization",
    "6-advanced-mlops",
)

# Read by the entry point before Python starts, hence no fields below.
BOOTSTRAP_VARIABLES = frozenset({"WORKSHOP_ENV", "WORKSHOP_PYTHON"})

# OpenShift AI injects a connection into a workbench under these names.
S3_CONNECTION = {
    "s3_endpoint": "AWS_S3_ENDPOINT",
    "s3_bucket": "AWS_S3_BUCKET",
    "s3_region": "AWS_DEFAULT_REGION",
    "s3_access_key": "AWS_ACCESS_KEY_ID",
    "s3_secret_key": "AWS_SECRET_ACCESS_KEY",
}


class SettingsError(ValueError):
    """A setting has a value that the course cannot use; the message names it and what it accepts."""


def _language_of_the_machine() -> Literal["en", "es"]:
    """What the variables of the locale say, as gettext reads them; English where it is another language or none."""
    chosen = next((os.environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(name)), "")
    return "es" if chosen.lower().startswith("es") else "en"


class Settings(BaseSettings):
    """What differs between a laptop, CI and a cluster."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=ROOT / ".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    home: Path = Field(ROOT / "generated", description="folder for everything that the course generates")
    data: Path | None = Field(None, description="folder with your own transactions and products files")
    timezone: str = Field("America/New_York", description="time zone of the shop in the course's data")
    holidays: str = Field("US", description="country code of the public holidays")
    seed: int = Field(42, ge=0, description="seed of everything random, 0 or above")
    progress: bool = Field(True, description="whether long work shows a progress bar")
    jobs: int = Field(-1, description="parallel workers; -1 for one per core")
    ray_address: str | None = Field(None, description="Ray cluster for searches, such as ray://head:10001")
    mlflow_uri: str | None = Field(None, description="MLflow tracking server or database URI")
    mlflow_artifacts: str | None = Field(None, description="where new experiments keep artifacts, e.g. s3://…")
    mlflow_port: int = Field(5000, ge=1024, le=65535, description="local port of the MLflow server")
    llm_endpoint: str | None = Field(None, description="OpenAI-compatible endpoint, such as https://granite.example/v1")
    llm_model: str | None = Field(
        None, description="served name of the model there; without an endpoint, a hub id or folder to serve here"
    )
    llm_api_key: SecretStr | None = Field(None, description="key of that endpoint; the local server has its own")
    llm_ca_file: Path | None = Field(None, description="certificate authority of that endpoint, a PEM file")
    llm_port: int = Field(8100, ge=1024, le=65535, description="local port of the vLLM server")
    llm_kv_cache_gib: float = Field(1.0, gt=0, description="memory of the local server for its KV cache, GiB")
    llm_context: int = Field(2048, ge=256, description="longest prompt and answer together, tokens")
    llm_sequences: int = Field(16, ge=1, description="requests that the local server works on at once")
    llm_timeout: float = Field(120, gt=0, description="longest wait for an answer, seconds")
    llm_retries: int = Field(2, ge=0, description="further attempts when an endpoint is busy or fails")
    forecaster_endpoint: str | None = Field(
        None, description="forecaster behind the Open Inference Protocol, such as https://forecaster.example"
    )
    forecaster_grpc_endpoint: str | None = Field(None, description="the same over gRPC, as host:port")
    forecaster_token: SecretStr | None = Field(None, description="bearer token of that endpoint")
    forecaster_ca_file: Path | None = Field(None, description="certificate authority of that endpoint, a PEM file")
    forecaster_port: int = Field(8200, ge=1024, le=65535, description="local port of the forecaster, HTTP")
    forecaster_grpc_port: int = Field(8201, ge=1024, le=65535, description="local port of the forecaster, gRPC")
    forecaster_model: str = Field("models:/sales-forecaster@champion", description="registered model to serve here")
    forecaster_openvino_rows: int = Field(
        256, ge=1, description="rows per request from which OpenVINO answers instead of ONNX Runtime"
    )
    reload_seconds: float = Field(2, gt=0, description="how often servers look for a new champion in the registry")
    forecaster_max_rows: int = Field(10_000, ge=1, description="most rows in one request")
    forecaster_timeout: float = Field(2, gt=0, description="longest wait for a forecast, seconds")
    forecaster_routes: Path | None = Field(
        None, description="JSON file with the forecaster's versions and their shares of the traffic"
    )
    api_endpoint: str | None = Field(None, description="business API to use, such as https://api.example")
    api_port: int = Field(8300, ge=1024, le=65535, description="local port of the business API")
    api_key: SecretStr | None = Field(None, description="key that the business API asks for; made here when unset")
    api_keys_file: Path | None = Field(
        None, description="JSON file with the hashes of the business API's keys, their roles and limits; or one key"
    )
    prediction_log: Path | None = Field(
        None, description="folder in which the business API keeps a line per answer, without personal data"
    )
    prediction_log_days: int = Field(30, ge=1, description="days after which a file of that log is deleted")
    prediction_log_key: SecretStr | None = Field(
        None, description="what turns households into pseudonyms there; made here when unset"
    )
    input_guard: bool = Field(False, description="whether the business API marks inputs unlike any that it knows")
    api_concurrency: int = Field(16, ge=1, description="requests that the business API works on at once")
    api_queue: int = Field(64, ge=0, description="requests that wait for their turn there; more are turned away")
    api_timeout: float = Field(5, gt=0, description="longest time for a request there, seconds")
    api_llm_concurrency: int = Field(4, ge=1, description="requests at once there that need the language model")
    api_llm_timeout: float = Field(30, gt=0, description="longest time for such a request, seconds")
    model_timeout: float = Field(5, gt=0, description="longest wait of a chain for a forecast or a score, seconds")
    model_attempts: int = Field(3, ge=1, description="attempts of a chain before it goes on without a model")
    text_timeout: float = Field(20, gt=0, description="longest wait of a chain for a text, seconds")
    chain_concurrency: int = Field(8, ge=1, description="questions that a chain works on at once in a batch")
    router_asks_model: bool = Field(False, description="whether the language model decides where rules are in doubt")
    memory_turns: int = Field(6, ge=1, description="questions and answers that a conversation remembers")
    lang: Literal["en", "es"] = Field(
        default_factory=_language_of_the_machine, description="language of notebooks, messages and the dashboard"
    )
    dashboard_endpoint: str | None = Field(None, description="dashboard to watch, such as http://dashboard:7860")
    dashboard_port: int = Field(7860, ge=1024, le=65535, description="local port of the dashboard")
    monitor_port: int = Field(8400, ge=1024, le=65535, description="local port of the monitor")
    dashboard_user: str | None = Field(None, description="name for the dashboard's login; open without one")
    dashboard_password: SecretStr | None = Field(None, description="the password to it")
    runbooks: str = Field(
        "https://git.example.com/shop/workshop/blob/main/5-monitoring-optimization/README.md",
        description="address of module 5's README, which links in alerts lead to",
    )
    mail_user: str | None = Field(None, description="sender of the summaries, and name for the mail server's login")
    mail_password: SecretStr | None = Field(None, description="the password to it; sent over TLS only")
    prometheus_url: str | None = Field(None, description="Prometheus or Thanos to ask, such as https://thanos.example")
    prometheus_token: SecretStr | None = Field(None, description="bearer token for it")
    prometheus_ca_file: Path | None = Field(None, description="certificate authority of it, a PEM file")
    prometheus_namespace: str | None = Field(None, description="namespace that the tenancy port of Thanos asks for")
    churn_threshold: Share = Field(0.1667, description="probability of leaving from which a contact pays")
    monitoring_config: Path = Field(
        ROOT / "5-monitoring-optimization" / "monitoring" / "model_monitoring_config.yaml",
        description="YAML file with everything that is watched in service and its limits",
    )
    quality_gates: Path = Field(
        ROOT / "6-advanced-mlops" / "pipelines" / "quality_gates.yaml",
        description="YAML file with the limits that a version must keep before it may serve",
    )
    advisories: str | None = Field(
        None, description="where pip-audit asks for known weaknesses, in OSV's protocol; its own choice by default"
    )
    history_url: SecretStr | None = Field(
        None,
        description="SQL database for past forecasts, feedback and answers, such as postgresql://user:password@db/shop",
    )
    cache: bool = Field(False, description="whether the business API keeps answers, on or off")
    cache_url: SecretStr | None = Field(
        None, description="Valkey or Redis for kept answers, such as rediss://user:password@cache.example:6379/0"
    )
    cache_port: int = Field(8500, ge=1024, le=65535, description="local port of the Valkey server")
    cache_entries: int = Field(5000, ge=1, description="answers that each process of the API keeps in memory")
    cache_shortest: float = Field(900, gt=0, description="how long the least certain answer is kept, seconds")
    cache_longest: float = Field(86_400, gt=0, description="how long the most certain answer is kept, seconds")
    cache_text_longest: float = Field(604_800, gt=0, description="the same for a product's text, seconds")
    cache_timeout: float = Field(0.05, gt=0, description="longest wait for Valkey or the history, seconds")
    cache_prefetch: int = Field(0, ge=0, description="likely forecasts that the API makes ahead each hour")
    bind_host: str = Field("127.0.0.1", description="address that servers listen on; 0.0.0.0 in a container")
    s3_endpoint: str | None = Field(None, description="S3-compatible storage for models; or AWS_S3_ENDPOINT")
    s3_bucket: str | None = Field(None, description="bucket for models there; or AWS_S3_BUCKET")
    s3_region: str = Field("us-east-1", description="region of that storage; or AWS_DEFAULT_REGION")
    s3_access_key: SecretStr | None = Field(None, description="key of that storage; or AWS_ACCESS_KEY_ID")
    s3_secret_key: SecretStr | None = Field(None, description="its secret; or AWS_SECRET_ACCESS_KEY")
    max_body_bytes: int = Field(4 * 2**20, ge=1024, description="largest body that the servers accept, bytes")
    thresholds: Thresholds = Thresholds()

    @model_validator(mode="before")
    @classmethod
    def _use_connection(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {field: os.environ[name] for field, name in S3_CONNECTION.items() if os.environ.get(name)} | values

    @field_validator("jobs")
    @classmethod
    def _at_least_one_worker(cls, jobs: int) -> int:
        if jobs == 0 or jobs < -1:
            raise ValueError("-1 (one worker per core) or a number of workers from 1 up")
        return jobs

    @field_validator(
        "home", "data", "forecaster_routes", "monitoring_config", "quality_gates", "api_keys_file", "prediction_log"
    )
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        # Notebooks run in their own folders: a relative path would mean something else in each.
        return None if path is None else (ROOT / path.expanduser()).resolve()

    @field_validator("data")
    @classmethod
    def _existing_folder(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_dir():
            raise ValueError("an existing folder with the files described in README.md")
        return path

    @field_validator(
        "llm_endpoint", "forecaster_endpoint", "api_endpoint", "dashboard_endpoint", "prometheus_url", "advisories"
    )
    @classmethod
    def _web_address(cls, url: str | None) -> str | None:
        if url is not None and not re.match(r"https?://[^/\s]+", url):
            raise ValueError("an address that starts with http:// or https://; an LLM's usually ends in /v1")
        return url and url.rstrip("/")

    @field_validator("s3_endpoint")
    @classmethod
    def _with_scheme(cls, url: str | None) -> str | None:
        # People type a connection's address without it, and boto3 takes no address without it.
        return f"https://{url}" if url and "://" not in url else url

    @field_validator("llm_ca_file", "forecaster_ca_file", "prometheus_ca_file")
    @classmethod
    def _existing_file(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError("an existing PEM file")
        return path

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, name: str) -> str:
        from zoneinfo import available_timezones

        if name not in available_timezones():
            raise ValueError("a time zone of the IANA database, such as Europe/Madrid")
        return name

    @field_validator("holidays")
    @classmethod
    def _known_country(cls, code: str) -> str:
        import holidays

        if code not in holidays.list_supported_countries():
            raise ValueError("a two-letter country code of the holidays package, such as ES")
        return code

    @property
    def cache_server(self) -> str:
        """Where the Valkey server is: the configured one, else the local service."""
        return self.cache_url.get_secret_value() if self.cache_url else f"redis://127.0.0.1:{self.cache_port}/0"

    @property
    def uses_course_data(self) -> bool:
        """Whether the tables come from the course's own data rather than a learner's folder."""
        return self.data is None

    @property
    def data_dir(self) -> Path:
        """Prepared tables; a learner's own data is kept apart from the course's."""
        return self.home / ("data" if self.uses_course_data else "data-own")

    @property
    def mlflow_dir(self) -> Path:
        """Database and artifacts of the local MLflow."""
        return self.home / "mlflow"

    @property
    def models_dir(self) -> Path:
        """Exported model files."""
        return self.home / "models"

    @property
    def llm_dir(self) -> Path:
        """Checkpoints of language models that were built here."""
        return self.home / "llm"

    @property
    def assistant_dir(self) -> Path:
        """What the assistant keeps: last known answers and conversations."""
        return self.home / "assistant"

    @property
    def routes_file(self) -> Path:
        """The forecaster's versions and their shares of the traffic."""
        return self.forecaster_routes or self.home / "services" / "routes.json"

    @property
    def history_database(self) -> str:
        """Where past forecasts, feedback and answers are kept: the configured database, else SQLite."""
        if self.history_url:
            return self.history_url.get_secret_value()
        return f"sqlite:///{self.home / 'services' / 'history.db'}"

    @property
    def runs_dir(self) -> Path:
        """One folder per `./workshop run`."""
        return self.home / "runs"

    @property
    def logs_dir(self) -> Path:
        """Logs of the installation and of the local services."""
        return self.home / "logs"

    @property
    def scorecard_file(self) -> Path:
        """What the checkpoints measured."""
        return self.home / "scorecard.json"

    @cached_property
    def tracking_uri(self) -> str:
        """MLflow tracking URI: the configured server, else SQLite below :attr:`home`."""
        return self.mlflow_uri or f"sqlite:///{self.mlflow_dir / 'mlflow.db'}"


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsError: for each bad value, its variable, what it was and what it accepts.
    """
    try:
        return Settings()
    except UnreadableSource:
        # A whole group in one variable that is no JSON fails before any single value is looked at.
        names = [name for name in os.environ if name.upper() == f"{PREFIX}THRESHOLDS"]
        raise SettingsError(
            f"{', '.join(names) or 'The file .env'}: not usable. Set single thresholds, such as"
            f" {PREFIX}THRESHOLDS__TEST_R2=0.8."
        ) from None
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(problem) for problem in error.errors())) from None


def _explain(problem: ErrorDetails) -> str:
    """One line for one of pydantic's error records."""
    names = [str(part) for part in problem["loc"]]
    variable = PREFIX + "__".join(names).upper()
    fields = Settings.model_fields
    meaning = fields[names[0]].description if names[0] in fields else ""
    if names[0] == "thresholds" and len(names) > 1 and names[1] in Thresholds.model_fields:
        meaning = Thresholds.model_fields[names[1]].description
    accepts = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{variable}={problem['input']!s} is not usable ({meaning}). It accepts: {accepts}."


settings = load_settings()
