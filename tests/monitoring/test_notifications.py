"""Every class of alert reaches those whom it concerns, on a cluster and on a laptop, and no secret is in a file."""

from __future__ import annotations

import copy
import re
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.monitoring.prometheus_tools import skip_without
from workshop_lib.manifests import load, problems
from workshop_lib.monitoring import notifications as module
from workshop_lib.monitoring.alerts import rules, table
from workshop_lib.monitoring.config import load_config
from workshop_lib.monitoring.inbox import Inbox, InboxError, Message
from workshop_lib.monitoring.notifications import (
    NOTIFICATIONS_FILE,
    NotificationsError,
    check,
    load_notifications,
    main,
    plain,
    receivers,
    routing,
    to_inbox,
)
from workshop_lib.monitoring.prometheus import LocalAlertmanager, start_alertmanager
from workshop_lib.settings import ROOT

VALIDATOR = ROOT.parent / "shared" / "crds" / "validate_manifests.py"
SECRETS = Path("/secrets")
EXPECTED = {
    ("ForecastLatencyHigh", "warning", "ai-operations"): {"ai-operations"},
    ("GpuBusy", "warning", "ai-operations"): {"ai-operations"},
    ("EndpointDown", "critical", "ai-operations"): {"critical", "ai-operations"},
    ("NetworkErrors", "critical", "ai-operations"): {"critical", "ai-operations"},
    ("ErrorBudgetBurns", "critical", "ai-operations"): {"critical", "ai-operations"},
    ("ErrorBudgetBurns", "warning", "ai-operations"): {"ai-operations"},
    ("ForecastAccuracyDegraded", "warning", "ml-engineering"): {"ml-engineering", "tickets"},
    ("DataDrift", "warning", "ml-engineering"): {"ml-engineering", "tickets"},
    ("ConceptDrift", "critical", "ml-engineering"): {"critical", "ml-engineering", "tickets"},
    ("RetrainingDue", "warning", "ml-engineering"): {"ml-engineering", "tickets", "retraining"},
    ("ForecastConfidenceLow", "warning", "ml-engineering"): {"ml-engineering"},
    ("EngagementDrop", "info", "shop"): {"shop"},
    ("Unknown", "warning", "nobody"): {"ai-operations"},
}


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return plain(load_notifications(), SECRETS)


# ---- the file


def test_a_cluster_would_take_it() -> None:
    documents = load(NOTIFICATIONS_FILE)
    kinds = [document.kind for document in documents]
    assert kinds == ["AlertmanagerConfig", "CronJob", "CronJob", "ServiceAccount", "RoleBinding"]
    assert documents[0].api_version == "monitoring.coreos.com/v1beta1" and problems(documents) == []
    if VALIDATOR.exists():
        command = [sys.executable, str(VALIDATOR), str(NOTIFICATIONS_FILE)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_secrets_are_references() -> None:
    text = NOTIFICATIONS_FILE.read_text(encoding="utf-8")
    keys = re.findall(r"\{name: alert-destinations, key: ([\w-]+)\}", text)
    assert set(keys) == {"slack-url", "pagerduty-key", "mail-password", "teams-url"}
    assert all(f"--from-file={key}" in text for key in keys)
    assert not re.search(r"https://hooks\.|(apiURL|routingKey|authPassword|webhookURL): *[^&*{ ]", text)


def test_the_three_channels_the_duty_the_bridge_and_teams_are_there() -> None:
    spec = load_notifications()
    found = {receiver["name"]: receiver for receiver in spec["receivers"]}
    channels = {one["channel"] for receiver in found.values() for one in receiver.get("slackConfigs", [])}
    assert channels == {"#ai-operations", "#critical-alerts", "#ml-engineering"}
    assert {"slackConfigs", "pagerdutyConfigs", "emailConfigs"} <= set(found["critical"])
    assert "msteamsv2Configs" in found["shop"] and "jira" in found["tickets"]["webhookConfigs"][0]["url"]
    assert all(one["sendResolved"] for one in found["critical"]["pagerdutyConfigs"])


def test_the_jobs_start_what_there_is() -> None:
    jobs = {document.name: document for document in load(NOTIFICATIONS_FILE) if document.kind == "CronJob"}
    for name, job in jobs.items():
        (container,) = job.get("spec.jobTemplate.spec.template.spec")["containers"]
        assert container["args"][:3] == ["-m", "workshop_lib.monitoring.summaries", name.removeprefix("summary-")]


# ---- routes


@pytest.mark.parametrize(("alert", "severity", "team"), EXPECTED)
def test_an_alert_reaches_those_whom_it_concerns(config: dict[str, Any], alert: str, severity: str, team: str) -> None:
    skip_without("amtool")
    labels = {"alertname": alert, "severity": severity, "team": team, "service": "forecaster"}
    assert set(receivers(config, labels)) == EXPECTED[alert, severity, team]


def test_every_alert_has_a_route_of_its_own(config: dict[str, Any]) -> None:
    skip_without("amtool")
    found = routing(config, table(rules(load_config())))
    names = [receiver["name"] for receiver in config["receivers"]]
    assert list(found) == ["alert", "severity", "team", *names]
    assert found[names].any(axis=1).all() and found[names].any(axis=0).all()
    assert (found["severity"].eq("critical") == found["critical"]).all()


def test_amtool_takes_it_and_refuses_what_is_wrong(config: dict[str, Any]) -> None:
    skip_without("amtool")
    assert "6 receivers" in check(config)
    wrong = copy.deepcopy(config)
    wrong["route"]["routes"][0]["receiver"] = "nobody"
    with pytest.raises(NotificationsError, match='undefined receiver "nobody"'):
        check(wrong)


# ---- translation


def test_a_translated_file_names_the_files_of_the_secrets(config: dict[str, Any]) -> None:
    found = {receiver["name"]: receiver for receiver in config["receivers"]}
    assert found["critical"]["slack_configs"][0]["api_url_file"] == "/secrets/slack-url"
    assert found["critical"]["pagerduty_configs"][0]["routing_key_file"] == "/secrets/pagerduty-key"
    assert found["critical"]["email_configs"][0]["auth_password_file"] == "/secrets/mail-password"
    assert found["critical"]["email_configs"][0]["headers"].keys() == {"Subject"}
    assert found["shop"]["webhook_configs"] == [{"url": module.TEAMS_BRIDGE, "send_resolved": False}]


def test_routes_and_inhibition_are_translated(config: dict[str, Any]) -> None:
    assert config["route"]["group_by"] == ["alertname", "service"]
    assert config["route"]["routes"][2]["matchers"] == ['alertname=~"ForecastAccuracyDegraded|.*Drift|RetrainingDue"']
    assert config["inhibit_rules"][0] == {
        "source_matchers": ['alertname="EndpointDown"'],
        "target_matchers": ['alertname!="EndpointDown"'],
        "equal": ["service"],
    }


def test_quotes_in_a_matcher_stay_what_they_are() -> None:
    spec = {
        "route": {"receiver": "a", "routes": [{"matchers": [{"name": "x", "value": 'say "\\d"'}], "receiver": "a"}]},
        "receivers": [{"name": "a"}],
    }
    made = plain(spec, SECRETS)
    assert made["route"]["routes"][0]["matchers"] == ['x="say \\"\\\\d\\""']


def test_a_kind_that_is_not_foreseen_is_an_error() -> None:
    spec = {"route": {"receiver": "a"}, "receivers": [{"name": "a", "telegramConfigs": [{}]}]}
    with pytest.raises(NotificationsError, match="Receiver a: telegramConfigs is not foreseen"):
        plain(spec, SECRETS)


def test_a_file_without_routes_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("kind: ConfigMap\napiVersion: v1\n")
    with pytest.raises(NotificationsError, match="there should be one AlertmanagerConfig, there are 0"):
        load_notifications(tmp_path / "other.yaml")


def test_the_command_prints_a_file_for_alertmanager(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--secrets", str(tmp_path)]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == plain(load_notifications(), tmp_path)


# ---- messages as they arrive


@pytest.fixture(scope="module")
def inbox() -> Iterator[Inbox]:
    with Inbox() as opened:
        yield opened


@pytest.fixture(scope="module")
def alertmanager(inbox: Inbox, config: dict[str, Any]) -> Iterator[LocalAlertmanager]:
    skip_without("alertmanager")
    with start_alertmanager("notifications", to_inbox(config, inbox, 60)) as started:
        yield started


def fire(
    alertmanager: LocalAlertmanager, alert: str, service: str, team: str, severity: str, over: bool = False
) -> None:
    """Hand an alert to Alertmanager, as Prometheus would."""
    now = datetime.now(UTC)
    body = {
        "labels": {"alertname": alert, "service": service, "team": team, "severity": severity},
        "annotations": {
            "summary": f"{alert} of Ñoño",
            "description": f"All about {alert}.",
            "runbook_url": "https://r#x",
        },
        "startsAt": (now - timedelta(seconds=1 if over else 0)).isoformat(),
        "endsAt": (now + timedelta(minutes=0 if over else 5)).isoformat(),
    }
    httpx.post(f"{alertmanager.url}/api/v2/alerts", json=[body]).raise_for_status()


def first(inbox: Inbox, channel: str, status: str | None = None) -> Message:
    """The first message that arrived somewhere."""
    return inbox.wait_for(lambda one: one.channel == channel and status in (None, one.status))


def test_a_critical_alert_arrives_everywhere_with_its_texts(alertmanager: LocalAlertmanager, inbox: Inbox) -> None:
    fire(alertmanager, "EndpointDown", "llm", "ai-operations", "critical")
    text = "All about EndpointDown.\nWhat to do: https://r#x\nEndpointDown, critical, llm"
    for channel in ("slack/critical-alerts", "slack/ai-operations", "mail"):
        found = first(inbox, channel)
        assert (found.status, found.title, found.text) == ("firing", "EndpointDown of Ñoño", text)
    slack = first(inbox, "slack/critical-alerts").body["attachments"][0]
    assert slack["color"] == "danger" and slack["title_link"] == "https://r#x"
    mail = first(inbox, "mail")
    assert mail.body["From"] == "alerts@shop.example" and "head-of-operations@shop.example" in mail.body["To"]
    page = first(inbox, "pagerduty")
    assert page.title == "EndpointDown of Ñoño" and page.body["payload"]["severity"] == "critical"
    assert page.body["payload"]["component"] == "llm"
    fire(alertmanager, "EndpointDown", "llm", "ai-operations", "critical", over=True)
    over = first(inbox, "slack/critical-alerts", "resolved")
    assert over.title == "Over: EndpointDown of Ñoño" and over.text == "EndpointDown, critical, llm"
    assert over.body["attachments"][0]["color"] == "good"
    first(inbox, "pagerduty", "resolved")


def test_drift_opens_a_ticket_and_a_retraining_starts(alertmanager: LocalAlertmanager, inbox: Inbox) -> None:
    fire(alertmanager, "RetrainingDue", "forecaster", "ml-engineering", "warning")
    for channel in ("webhook/tickets", "webhook/retraining", "slack/ml-engineering"):
        found = first(inbox, channel)
        assert (found.status, found.title) == ("firing", "RetrainingDue of Ñoño")
    assert first(inbox, "webhook/tickets").body["version"] == "4"


def test_one_alert_silences_another(alertmanager: LocalAlertmanager, inbox: Inbox) -> None:
    fire(alertmanager, "EndpointDown", "api", "ai-operations", "critical")
    fire(alertmanager, "ErrorBudgetBurns", "shop", "ai-operations", "critical")
    fire(alertmanager, "ErrorBudgetBurns", "shop", "ai-operations", "warning")
    fire(alertmanager, "ValidationErrors", "api", "ai-operations", "warning")
    fire(alertmanager, "ValidationErrors", "monitor", "ai-operations", "warning")
    inbox.wait_for(lambda one: "monitor" in one.text)
    found = alertmanager.alerts().set_index(["alertname", "service", "severity"])["inhibited"].to_dict()
    assert found["ValidationErrors", "api", "warning"] and found["ErrorBudgetBurns", "shop", "warning"]
    assert not found["ValidationErrors", "monitor", "warning"] and not found["EndpointDown", "api", "critical"]
    assert not found["ErrorBudgetBurns", "shop", "critical"]
    assert not any("ValidationErrors" in one.title and "api" in one.text for one in inbox.messages)


def test_engagement_goes_to_teams(alertmanager: LocalAlertmanager, inbox: Inbox) -> None:
    fire(alertmanager, "EngagementDrop", "shop", "shop", "info")
    assert first(inbox, "webhook/shop").title == "EngagementDrop of Ñoño"


def test_waiting_for_a_message_ends_and_says_what_there_is() -> None:
    with Inbox() as empty, pytest.raises(InboxError, match=r"No such message within 0\.1 s\. There are: none"):
        empty.wait_for(lambda one: True, 0.1)


def test_the_inbox_takes_mails_with_dots_and_attachments() -> None:
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = "Weekly", "a@x", "b@x"
    mail.set_content("first\n.\n..last\n")
    mail.add_alternative("<p>first</p>", subtype="html")
    with Inbox() as box:
        host, _, port = box.smarthost.partition(":")
        with smtplib.SMTP(host, int(port)) as server:
            server.send_message(mail)
            server.send_message(mail)
        found = first(box, "mail")
        assert (found.title, found.text) == ("Weekly", "first\n.\n..last")
        assert len(box.messages) == 2 and list(box.table()) == ["time", "channel", "status", "title", "text"]
