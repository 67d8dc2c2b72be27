"""From a fault to the message and back, with the real programs and the real services."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest

from tests.monitoring.prometheus_tools import skip_without
from workshop_lib import processes
from workshop_lib.monitoring.alert_stand import STEPS, AlertStand
from workshop_lib.monitoring.alerts import AlertsError, rules
from workshop_lib.monitoring.config import load_config
from workshop_lib.monitoring.panels import series
from workshop_lib.monitoring.panels_catalogue import dashboard
from workshop_lib.monitoring.replay_feedback import tell_week
from workshop_lib.orchestration.faults import broken
from workshop_lib.settings import settings

pytestmark = pytest.mark.long

CRITICAL = ["slack/critical-alerts", "slack/ai-operations", "pagerduty", "mail"]


@pytest.fixture(scope="module")
def stand() -> Iterator[AlertStand]:
    skip_without("prometheus", "alertmanager")
    with AlertStand(rules(load_config()), factor=60, name="test") as started:
        yield started
    assert list((settings.home / "services").glob("*-test.json")) == []  # nothing is left behind
    assert not processes.port_in_use(started.forecaster.port)


def test_all_is_well_at_first(stand: AlertStand) -> None:
    assert stand.prometheus.rules()["health"].isin(["ok", "unknown"]).all()
    assert stand.prometheus.targets()["health"].tolist() == ["up"] * 4
    stand.prometheus.wait_for("workshop:forecast_seconds:p95")  # traffic arrives, and is answered
    assert not set(stand.prometheus.alerts()["alertname"]) & {"EndpointDown", "NetworkErrors"}


def test_a_dead_forecaster_is_told_and_its_return_too(stand: AlertStand) -> None:
    silenced = 'ALERTS{alertname="NetworkErrors", alertstate="firing"}'
    found = {}

    def look() -> None:
        stand.prometheus.wait_for(silenced, 60)
        stand.alertmanager.wait_for("NetworkErrors", 60)
        known = stand.alertmanager.alerts()
        found.update(known.set_index("alertname")["inhibited"].groupby(level=0).any().to_dict())

    story = stand.experiment("dead", "EndpointDown", CRITICAL, meanwhile=look)
    assert tuple(story.table()["step"]) == STEPS and story.waited == 1
    assert "does not answer" in story.message.title and story.message.body["attachments"][0]["color"] == "danger"
    assert "#endpointdown" in story.message.text
    assert found["NetworkErrors"] and not found["EndpointDown"]
    about = [one for one in stand.inbox.messages if one.title.endswith(story.message.title)]
    assert {(one.channel, one.status) for one in about} == {
        (channel, status) for channel in CRITICAL for status in ("firing", "resolved")
    }


def test_the_monitor_sees_it_through_the_same_door(stand: AlertStand) -> None:
    with broken(stand.forecaster, "dead"):
        stand.prometheus.wait_for("service_up{service='forecaster'} == 0", 120)
        stand.prometheus.wait_for("service_up{service='llm'} == 1", 120)
    stand.prometheus.wait_for("service_up{service='forecaster'} == 1", 120)


def test_two_weeks_of_the_shop_fill_the_business_dashboard(stand: AlertStand) -> None:
    for week in (dt.date(2017, 11, 27), dt.date(2017, 12, 4)):
        told = tell_week(stand.api, week)
        assert told.counted > 800 and told.duplicates == 0  # sales alone are 120 categories on 7 days
        stand.prometheus.wait_for("count(forecast_actual_units_total)")
    stand.prometheus.wait_for("count(workshop:forecast_accuracy:ratio) > 3", 60)
    shown = {panel.title: series(panel, stand.prometheus) for panel in dashboard("business").panels}
    for title in ("Suggestions that were bought", "Coupons redeemed", "Readers who act on a text"):
        assert not shown[title].empty, title


def test_a_slow_forecaster_is_told_to_those_who_run_it(stand: AlertStand) -> None:
    """Also when it was slow by itself just before: Alertmanager tells what comes back at once only after its end."""
    before = len(stand.inbox.messages)
    with broken(stand.forecaster, "slow", 0.3):
        stand.inbox.wait_for(lambda one: one in stand.inbox.messages[before:] and "slow" in one.title)
    story = stand.experiment("slow", "ForecastLatencyHigh", ["slack/ai-operations"], slowness=0.3)
    assert tuple(story.table()["step"]) == STEPS and story.waited == 2
    new = [one for one in stand.inbox.messages[before:] if "slow" in one.title]
    assert {one.channel for one in new} == {"slack/ai-operations"}
    assert [one.status for one in new][-4:] == ["firing", "resolved"] * 2


def test_an_alert_that_is_not_there_is_said(stand: AlertStand) -> None:
    with pytest.raises(AlertsError, match="no alert GpuBusy about the forecaster"):
        stand.experiment("slow", "GpuBusy", ["slack/ai-operations"])
