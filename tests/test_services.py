"""Which services the course starts, and how."""

from collections.abc import Callable
from pathlib import Path

from workshop_lib import services


def test_what_runs_elsewhere_is_not_started_here(use_settings: Callable[..., object]) -> None:
    names = [service.name for service in services.services()]
    assert names == ["mlflow", "llm", "forecaster", "cache", "api", "dashboard", "monitor"]
    assert {service.name for service in services.services() if not service.url.startswith("http://")} == {"cache"}
    use_settings(
        mlflow_uri="https://mlflow.example",
        llm_endpoint="https://granite.example/v1",
        forecaster_endpoint="https://forecaster.example",
        cache_url="rediss://cache.example:6379/0",
        api_endpoint="https://api.example",
    )
    assert [service.name for service in services.services()] == ["dashboard", "monitor"]


def test_mlflow_keeps_its_store_below_home(use_settings: Callable[..., object], tmp_path: Path) -> None:
    use_settings(mlflow_port=5123)
    mlflow = services.mlflow_server()
    assert mlflow.url == "http://127.0.0.1:5123" and mlflow.health == "/health"
    assert f"sqlite:///{tmp_path}/home/mlflow/mlflow.db" in mlflow.command
    assert mlflow.command[mlflow.command.index("--host") + 1] == "127.0.0.1"
    assert mlflow.prepare and mlflow.prepare() == {} and (tmp_path / "home" / "mlflow").is_dir()
    use_settings(mlflow_uri="postgresql://u:p@db/mlflow")
    assert "postgresql://u:p@db/mlflow" in services.mlflow_server().command
