"""MLflow for the course: where it keeps things, and the few options that every model needs.

Thin on purpose. Runs, parameters, metrics and aliases are written with MLflow's own calls in the
notebooks; here stands what would be repeated, or wrong by default in MLflow 3.17:

    use_tracking("sales-forecast")
    with mlflow.start_run(run_name="random forest"):
        mlflow.log_params(...)
        mlflow.log_metrics(...)
        version = register(model, "sales-forecaster", example=X.head(5), alias="champion")
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, Protocol

import mlflow
import mlflow.sklearn
import pandas as pd
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.entities import Experiment
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.tracking import MlflowClient

from workshop_lib import data
from workshop_lib.ports import HOST, free_port
from workshop_lib.settings import settings

FORECASTER = "sales-forecaster"
CHURN = "household-churn"

# MLflow stores scikit-learn models with skops, which walks through all of scikit-learn when it is imported. It meets
# scikit-learn's adapter for torch there, and torch is seconds of work that nobody here needs for it.
if "torch" not in sys.modules:
    sys.modules.setdefault("sklearn.externals.array_api_compat.torch", None)  # type: ignore[arg-type]

# skops loads no type that was not named as trusted.
TRUSTED_TYPES = ("sklearn.tree._tree.Tree", "xgboost.core.Booster", "xgboost.sklearn.XGB{kind}")
_REMEDY = "Check WORKSHOP_MLFLOW_URI, or unset it to use the local database."
_DATABASES = ("postgresql", "mysql", "mssql", "sqlite")
_PACKAGES = ("mlflow", "scikit-learn", "skops", "numpy", "pandas")


class TrackingError(RuntimeError):
    """MLflow cannot be used as it is configured; the message says what to do."""


class PromotionRefused(RuntimeError):
    """A challenger has not shown that it beats the champion."""


class Evidence(Protocol):
    """What speaks for a challenger; its text is kept in the registry."""

    @property
    def better(self) -> bool:
        """Whether the challenger beats the champion beyond chance."""
        ...


def use_tracking(experiment: str) -> Experiment:
    """Point MLflow at the configured place and make ``experiment`` the current one.

    Without ``WORKSHOP_MLFLOW_URI`` that is an SQLite database and a folder of artifacts below
    ``settings.mlflow_dir``. ``WORKSHOP_MLFLOW_ARTIFACTS`` moves the artifacts of new experiments.

    Raises:
        TrackingError: when the configured server or database does not answer.
    """
    _quieten()
    _check_server()
    if settings.mlflow_uri is None:
        settings.mlflow_dir.mkdir(parents=True, exist_ok=True)
    # The variable is for child processes: projects and model servers read it.
    os.environ["MLFLOW_TRACKING_URI"] = settings.tracking_uri
    mlflow.set_tracking_uri(settings.tracking_uri)
    try:
        if mlflow.get_experiment_by_name(experiment) is None:
            mlflow.create_experiment(experiment, artifact_location=_artifact_location(experiment))
        return mlflow.set_experiment(experiment)
    except (MlflowException, ImportError, OSError) as error:
        raise TrackingError(
            f"MLflow cannot use {_without_password(settings.tracking_uri)} ({_first_line(error)}). {_REMEDY}"
        ) from error


def _quieten() -> None:
    """Keep what MLflow reports about its own work out of the notebooks; warnings and errors stay."""
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A project or server that MLflow starts as `python …` belongs to this environment.
    folder = str(Path(sys.executable).parent)
    paths = os.environ.get("PATH", "").split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join([folder, *(path for path in paths if path != folder)])


def _check_server() -> None:
    """Ask a configured server or database once, instead of MLflow's minutes of retries."""
    import httpx
    import sqlalchemy

    uri = settings.mlflow_uri or ""
    scheme = uri.partition(":")[0].partition("+")[0]
    try:
        if scheme in ("http", "https"):
            httpx.get(f"{uri.rstrip('/')}/health", timeout=10).raise_for_status()
        elif scheme in _DATABASES:
            sqlalchemy.create_engine(uri).connect().close()
    except (httpx.HTTPError, sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        raise TrackingError(
            f"MLflow cannot reach {_without_password(uri)} ({_first_line(error)}). {_REMEDY}"
        ) from error


def _without_password(uri: str) -> str:
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", uri)


def _artifact_location(experiment: str) -> str | None:
    """Where a new experiment keeps its files; ``None`` leaves it to the server."""
    if settings.mlflow_artifacts is not None:
        return f"{settings.mlflow_artifacts.rstrip('/')}/{experiment}"
    return None if settings.mlflow_uri else (settings.mlflow_dir / "artifacts" / experiment).as_uri()


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def log_dataset(frame: pd.DataFrame, name: str, *, target: str, context: str) -> str:
    """Note on the active run which data it used, and return the data's digest.

    Recorded are the columns and their types, the number of rows, a digest of the contents, the file
    that it was computed from, and (as the tag ``data_fingerprint``) the raw files' fingerprint.

    Args:
        frame: features and target, one row per example.
        name: how the data is called in the user interface.
        target: the target's column.
        context: what it was used for, such as ``"training"``.
    """
    source = LocalArtifactDatasetSource(str(settings.data_dir / "transactions.parquet"))
    # Whole numbers as decimals: MLflow would warn at every call that integers cannot be missing.
    frame = frame.astype(dict.fromkeys(frame.select_dtypes("integer"), float))
    dataset = mlflow.data.from_pandas(frame, source=source, targets=target, name=name)
    mlflow.log_input(dataset, context=context)
    mlflow.set_tag("data_fingerprint", data.prepared().fingerprint)
    return str(dataset.digest)


def model_options(model: Any) -> dict[str, Any]:
    """Options for ``mlflow.sklearn.log_model`` that fit scikit-learn and XGBoost's scikit-learn models.

    Named requirements spare the twenty seconds in which MLflow would infer them, trusted types let
    skops load forests again, and a classifier answers with probabilities instead of yes or no.
    """
    kind = "Classifier" if hasattr(model, "predict_proba") else "Regressor"
    packages = [*_PACKAGES, *(["xgboost"] if _uses_xgboost(model) else [])]
    return {
        "pip_requirements": [f"{package}=={installed_version(package)}" for package in packages],
        "skops_trusted_types": [name.format(kind=kind) for name in TRUSTED_TYPES],
        "pyfunc_predict_fn": "predict_proba" if kind == "Classifier" else "predict",
    }


def _uses_xgboost(model: Any) -> bool:
    parts = [step for _, step in getattr(model, "steps", [])] or [model]
    return any(type(part).__module__.startswith("xgboost") for part in parts)


def register(
    model: Any,
    name: str,
    *,
    example: pd.DataFrame,
    alias: str | None = None,
    description: str = "",
    tags: Mapping[str, str] | None = None,
    extra_files: Mapping[str, Path] | None = None,
) -> ModelVersion:
    """Log a model to the active run (or one of its own) and register it as a new version.

    Args:
        model: a fitted scikit-learn estimator or pipeline, or XGBoost's scikit-learn estimator.
        name: the registered model, created when it does not exist.
        example: a few rows of input. It gives the signature (use float64 columns: MLflow refuses to
            narrow float64 to float32) and is stored as the input example.
        alias: given to the new version at once; the version that had it loses it. For an alias that
            must be earned use :func:`promote`.
        description: of this version.
        tags: of this version; ``data_fingerprint`` is added.
        extra_files: further files of the version, by the name they get there;
            :func:`version_file` finds them again.

    Returns:
        The new version.

    Raises:
        ValueError: when the example has missing values.
        FileNotFoundError: when an extra file does not exist.
    """
    if example.isna().to_numpy().any():
        raise ValueError("The input example has missing values; the models of this course take none.")
    answer = (model.predict_proba if hasattr(model, "predict_proba") else model.predict)(example)
    # A run of its own when none is active: log_model would open one and leave it open.
    with (
        nullcontext(mlflow.active_run()) if mlflow.active_run() else mlflow.start_run(run_name=name),
        _renamed(extra_files or {}) as files,
    ):
        logged = mlflow.sklearn.log_model(
            model,
            name=name,
            signature=infer_signature(example, answer),
            input_example=example,
            extra_files=files or None,
            **model_options(model),
        )
    client = MlflowClient()
    _ensure_registered(client, name)
    version = client.create_model_version(
        name,
        source=logged.model_uri,
        run_id=logged.run_id,
        model_id=logged.model_id,
        description=description,
        tags={"data_fingerprint": data.prepared().fingerprint, **(tags or {})},
    )
    if alias:
        client.set_registered_model_alias(name, alias, version.version)
    return version


@contextmanager
def _renamed(files: Mapping[str, Path]) -> Iterator[list[str]]:
    """Copies of the files under the names they shall have, as the list that MLflow wants."""
    with tempfile.TemporaryDirectory(prefix="workshop-") as folder:
        yield [str(shutil.copyfile(source, Path(folder) / name)) for name, source in files.items()]


def _ensure_registered(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def version_file(model_uri: str, filename: str) -> Path:
    """A local copy of one of a version's ``extra_files``.

    Args:
        model_uri: such as ``models:/sales-forecaster@champion``.
        filename: the name it was registered under.

    Raises:
        TrackingError: when there is no such version or file.
    """
    try:
        return Path(mlflow.artifacts.download_artifacts(f"{model_uri}/extra_files/{filename}"))
    except (MlflowException, OSError) as error:
        raise TrackingError(f"{model_uri} has no file {filename} ({_first_line(error)}).") from error


def promote(name: str, version: str | int, evidence: Evidence | None = None, alias: str = "champion") -> ModelVersion:
    """Give ``alias`` to a version if it has earned it.

    The first holder of an alias needs no evidence. Later ones need a comparison with the present
    holder that shows them to be better. The comparison is kept as tags on the version.

    Raises:
        PromotionRefused: without evidence, or when it does not show the challenger to be better. The
            alias stays where it was.
    """
    client = MlflowClient()
    holder = client.get_registered_model(name).aliases.get(alias)
    if holder is not None and str(holder) != str(version):
        if evidence is None:
            raise PromotionRefused(f"Version {version} of {name} was not compared with the {alias}, version {holder}.")
        if not evidence.better:
            raise PromotionRefused(
                f"Version {version} of {name} does not beat the {alias}, version {holder}: {evidence}."
            )
        client.set_model_version_tag(name, str(version), "replaces", str(holder))
    if evidence is not None:
        client.set_model_version_tag(name, str(version), "evidence", str(evidence))
    client.set_registered_model_alias(name, alias, str(version))
    return client.get_model_version_by_alias(name, alias)


def compare_runs(filter_string: str = "", *, params: Sequence[str] = (), metrics: Sequence[str] = ()) -> pd.DataFrame:
    """The current experiment's runs as a table: a row per run by its name, oldest first.

    Args:
        filter_string: MLflow's filter, such as ``"tags.session = 'abc' and params.family = 'forest'"``.
        params: parameters to show, as text; a run without one shows nothing there.
        metrics: metrics to show.
    """
    runs = mlflow.search_runs(filter_string=filter_string, order_by=["attributes.start_time ASC"])
    columns = {f"params.{name}": name for name in params} | {f"metrics.{name}": name for name in metrics}
    table = runs.reindex(columns=["tags.mlflow.runName", *columns])
    return table.rename(columns={"tags.mlflow.runName": "run", **columns}).set_index("run")


@contextmanager
def serve_model(model_uri: str, *, timeout: float = 150) -> Iterator[str]:
    """Run ``mlflow models serve`` on a free local port while the block runs, and yield its address.

    Args:
        model_uri: such as ``models:/household-churn@champion``.
        timeout: seconds to wait until the server answers.

    Raises:
        TrackingError: when the server does not come up, with the last line of its log.
    """
    from mirakuru import HTTPExecutor
    from mirakuru.exceptions import ProcessExitedWithError, TimeoutExpired

    port = free_port()
    address = f"http://{HOST}:{port}"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", model_uri]
    command += ["--env-manager", "local", "--host", HOST, "--port", str(port)]
    settings.logs_dir.mkdir(parents=True, exist_ok=True)
    log = settings.logs_dir / "mlflow-serve.log"
    with log.open("w") as stream:
        server = HTTPExecutor(
            command, f"{address}/ping", method="GET", timeout=timeout, cwd=str(log.parent), stdout=stream, stderr=stream
        )
        try:
            server.start()
        except (ProcessExitedWithError, TimeoutExpired) as error:
            server.kill()
            last = (log.read_text(encoding="utf-8", errors="replace").strip() or "no output").splitlines()[-1]
            raise TrackingError(f"The server for {model_uri} did not start: {last}. Its log: {log}") from error
        try:
            yield address
        finally:
            server.stop()
