"""One file of limits: a number that is changed there is another one wherever it is used, and none is read by nobody."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from workshop_lib.monitoring import grafana, summaries
from workshop_lib.monitoring.alerts import render
from workshop_lib.monitoring.config import MonitoringConfig, load_config
from workshop_lib.monitoring.health_checks import checks
from workshop_lib.monitoring.retraining import ForecastComparison
from workshop_lib.optimization import autoscaling_simulation
from workshop_lib.settings import ROOT, settings

MODULE = ROOT / "5-monitoring-optimization"
CHANGES = {
    r"p95_seconds: 0\.1 ": "p95_seconds: 0.25 ",
    r"psi: 0\.2 ": "psi: 0.37 ",
    r" accuracy: 0\.80 ": " accuracy: 0.55 ",
    r"rating: 3\.5 ": "rating: 4.4 ",
    r"interval_seconds: 15 ": "interval_seconds: 7 ",
    r"concept: 1\.15 ": "concept: 1.9 ",
    r"promotion_p_value: 0\.05 ": "promotion_p_value: 0.0005 ",
}


@pytest.fixture
def elsewhere(tmp_path: Path, use_settings: Callable[..., object]) -> None:
    """The settings name a copy of the file with other limits."""
    text = settings.monitoring_config.read_text(encoding="utf-8")
    for pattern, new in CHANGES.items():
        text, count = re.subn(pattern, new, text, count=1)
        assert count == 1, pattern
    (tmp_path / "limits.yaml").write_text(text, encoding="utf-8")
    use_settings(monitoring_config=tmp_path / "limits.yaml")


def test_a_changed_limit_is_seen_by_everything_that_reads_it(elsewhere: None) -> None:
    config = load_config()
    rules = render(config)
    assert "workshop:forecast_seconds:p95 > 0.25" in rules and "workshop:forecast_accuracy:ratio < 0.55" in rules
    pages = {path.stem: text for path, text in grafana.files(config).items()}
    assert all(f'"value": {limit}' in pages["forecaster"] for limit in (0.25, 0.37, 0.55, 1.9))
    assert '"value": 4.4' in pages["business"] and "Forecasts within 250 ms" in pages["objectives"]
    limits = {(figure.at_least, figure.at_most) for figure in summaries.figures(config)}
    assert {(0.55, None), (None, 0.25), (4.4, None)} <= limits
    assert {check.interval for check in checks() if check.service != "llm"} == {7}
    assert autoscaling_simulation.forecaster(1000).allowed_wait == pytest.approx(0.25 - 0.001)
    lead = ForecastComparison(0.25, 0.24, 0.01, low=0.001, high=0.02, p_value=0.001, days=28)
    assert not lead.better  # the gate of a retraining
    assert config.forecaster.drift.psi == 0.37 and config.forecaster.drift.concept == 1.9  # what the drift job loads


def leaves(model: type[BaseModel], path: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{path}{name}.")
        else:
            yield f"{path}{field.alias or name}"


@pytest.mark.parametrize("field", list(leaves(MonitoringConfig)))
def test_every_field_is_read_somewhere(field: str) -> None:
    """By its last two names in the template of the rules, or by its last one in the code, where a table may name it."""
    folders = [ROOT / "workshop_lib" / room for room in ("monitoring", "optimization")]
    code = [path for folder in folders for path in folder.glob("*.py") if path.name != "config.py"]
    code += list(MODULE.rglob("*.ipynb"))
    *_, parent, name = field.split(".")
    template = (ROOT / "workshop_lib/monitoring/alert_rules.yaml").read_text(encoding="utf-8")
    read = re.search(rf"\b{parent}\.{name}\b", template)
    assert read or any(re.search(rf'[."]{name}\b', path.read_text(encoding="utf-8")) for path in code), field


def test_what_a_class_measures_is_what_the_service_promises() -> None:
    """Targets of earlier modules' checkpoints and limits in service: one promise, so one number."""
    promised, config = settings.thresholds, load_config()
    assert config.forecaster.service.p95_seconds == promised.endpoint_p95_ms / 1000
    assert config.forecaster.service.requests_per_second == promised.endpoint_requests_per_second
    assert config.generator.service.first_token_seconds == promised.llm_first_token_ms / 1000
    assert config.health.recovery_seconds == promised.recovery_seconds
