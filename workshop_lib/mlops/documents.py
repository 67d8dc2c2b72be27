"""Documents for four kinds of readers and the model card, as HTML pages whose every figure is read from a system.

    write("technical", technical(package))                  # -> …/governance/documents/technical.html
    write("compliance", compliance(evidence), pdf=True)     # and compliance.pdf where there is a browser

The words stand in the templates beside this file, the facts come from the systems at the moment of writing. So a
document cannot grow old behind its system's back: it is made again, and not kept up to date.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from workshop_lib.checkpoints import number, read_scorecard, verdict
from workshop_lib.files import atomic_path, write_text
from workshop_lib.mlops import approvals, audit, deployments, reviews, risk, roles
from workshop_lib.mlops.model_card import UNKNOWN, Card
from workshop_lib.mlops.packages import Package
from workshop_lib.settings import settings

TEMPLATES = Path(__file__).with_name("templates")
LAST_ENTRIES = 10
MONEY = "6.7"
"""Checkpoint of the notebook business_impact."""
_BAD = (UNKNOWN, "missed", "overdue", "never reviewed", "prohibited", "open", "none found")
"""Cells that catch the eye."""
_LABEL = re.compile(r"\{\{ \$labels\.(\w+) \}\}")
"""Where Prometheus puts a label into an alert's text."""
Facts = dict[str, Any]


def documents_dir() -> Path:
    """Where documents are written."""
    return settings.home / "mlops" / "governance" / "documents"


def write(
    kind: str, facts: Facts, *, name: str | None = None, folder: Path | None = None, pdf: bool = False
) -> list[Path]:
    """Fill a template and write the page.

    Args:
        kind: of document: the name of a template.
        facts: what the functions below return.
        name: of the file; that of the template by default.
        folder: :func:`documents_dir` by default.
        pdf: whether to print it too.

    Returns:
        The HTML file, and the PDF file where it was wanted and a browser is there.

    Raises:
        jinja2.UndefinedError: when a fact is missing: a document with a hole is not written.
    """
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.globals |= {"bad": _BAD, "unknown": UNKNOWN}
    about = {"made": f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC", "provider": risk.load_inventory().provider}
    page = (folder or documents_dir()) / f"{name or kind}.html"
    write_text(page, environment.get_template(f"{kind}.html").render(about | facts))
    printed = print_pdf(page) if pdf else None
    return [page, *([printed] if printed else [])]


def print_pdf(page: Path) -> Path | None:
    """Print a page with the browser of this machine; None where there is none."""
    from workshop_lib.orchestration.dashboard_pictures import find_browser

    program = find_browser()
    if program is None:
        return None

    def work() -> Path:
        from playwright.sync_api import sync_playwright

        target = page.with_suffix(".pdf")
        with sync_playwright() as playwright, atomic_path(target) as draft:
            # In a container the browser's own sandbox does not start; it only sees the course's own page.
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            tab = browser.new_page()
            tab.goto(page.as_uri())
            tab.pdf(path=str(draft), prefer_css_page_size=True, print_background=True)
            browser.close()
        return target

    # A thread of its own: a notebook runs in an event loop, where this interface of the browser does not work.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def card_page(card: Card) -> Facts:
    """For a model card."""
    return {"title": f"Model card: {card.title} {card.version}", "card": card}


def technical(package: Package) -> Facts:
    """For people who build and check."""
    from workshop_lib.mlops import lineage

    about = package.about
    files = [{"file": name, "SHA-256": checksum} for name, checksum in about["files"].items()]
    measured = [{"metric": name, "value": number(value)} for name, value in sorted(about["metrics"].items())]
    return {
        "title": f"Technical documentation: {package}",
        "package": str(package),
        "version": package.version,
        "origins": lineage.origins(lineage.trace([package]), str(package)),
        "features": about["features"],
        "output": about["output"],
        "categories": about["categories"],
        "days": " to ".join(about["training_period"]),
        "files": pd.DataFrame(files),
        "measured": pd.DataFrame(measured),
    }


def business(inventory: risk.Inventory) -> Facts:
    """For people who decide."""
    scorecard = read_scorecard()
    by_system = {
        key: _figures([row for row in scorecard if str(row["id"]).startswith(system.figures)])
        for key, system in inventory.systems.items()
    }
    money = [row for row in scorecard if row["checkpoint"]["number"] == MONEY]  # type: ignore[index]
    return {
        "title": "Business documentation", "systems": inventory.systems, "figures": by_system, "money": _figures(money),
    }  # fmt: skip


def _figures(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Promised and measured, a row per figure of the scorecard."""
    return pd.DataFrame(
        {
            "figure": row["label"],
            "target": f"{row['comparison']} {number(row['target'], row['unit'])}",
            "measured": UNKNOWN if row["measured"] is None else number(row["measured"], row["unit"]),
            "result": verdict(row["met"]),
        }
        for row in rows
    )


def operational(trail: Path | None = None) -> Facts:
    """For people who keep it running."""
    from workshop_lib.monitoring import alerts
    from workshop_lib.monitoring.config import load_config

    running = {stage: deployments.current(stage) for stage in deployments.STAGES}
    stages = [{"stage": stage, "version": one.version, "since": one.at} for stage, one in running.items() if one]
    rules = [
        {
            "alert": rule["alert"],
            "waits": rule.get("for", "0s"),
            "urgency": rule["labels"]["severity"],
            "says": _LABEL.sub(r"(\1)", rule["annotations"]["summary"]),
            "runbook": rule["annotations"]["runbook_url"].rpartition("#")[2],
        }
        for rule in alerts.alerts(alerts.rules(load_config()))
    ]
    rights = roles.matrix().reset_index(names="what")
    return {
        "title": "Operational documentation",
        "stages": pd.DataFrame(stages),
        "config": settings.monitoring_config.name,
        "alerts": pd.DataFrame(rules),
        "rights": rights,
        "trail": audit.table(audit.read(trail)[-LAST_ENTRIES:]).drop(columns="details"),
    }


def compliance(evidence: Mapping[str, str], trail: Path | None = None) -> Facts:
    """For people who check: categories with reasons, evidence, approvals, reviews, requests and retirements.

    Args:
        evidence: what :func:`gather_evidence` found.
        trail: the audit trail; the course's own by default.

    Raises:
        AuditError: when the trail was changed: then there is nothing to report on.
    """
    count, entries = audit.verify(trail), audit.read(trail)
    inventory = risk.load_inventory()
    assessments = [risk.assess(key, system.answers) for key, system in inventory.systems.items()]
    categories = [
        {"system": inventory.systems[one.system].title, "category": one.category,
         "owner": inventory.systems[one.system].owner["business"], "affected": inventory.systems[one.system].affected}
        for one in assessments
    ]  # fmt: skip
    models = dict.fromkeys(
        entry.subject.rpartition(" ")[0] for entry in entries if entry.action.startswith(approvals.TRAIL)
    )
    stands = [{"version": f"{name} {version}", "state": state} for name in models
              for version, state in approvals.states(name, path=trail).items()]  # fmt: skip
    today = dt.datetime.now(dt.UTC).date()
    return {
        "title": "Compliance report",
        "law": risk.LAW,
        "no_advice": risk.NO_ADVICE,
        "systems": inventory.systems,
        "categories": pd.DataFrame(categories),
        "assessments": assessments,
        "rmf": risk.rmf(evidence).reset_index(),
        "approvals": pd.DataFrame(stands),
        "reviews": reviews.due(inventory, today, trail).reset_index().fillna({"last": "never"}),
        "requests": _told(entries, "privacy.erase"),
        "retired": _told(entries, f"{approvals.TRAIL}retire"),
        "entries": count,
    }


def _told(entries: list[audit.Entry], action: str) -> pd.DataFrame:
    rows = audit.table(entry for entry in entries if entry.action == action)
    return rows[["at", "subject", "actor", "reason", "details"]]


def gather_evidence(
    package: Package, card: Card, *, report: Path | None = None, influence: str = "", trail: Path | None = None
) -> dict[str, str]:
    """Look for what shows the outcomes of the NIST AI RMF; a place where nothing is found says nothing.

    Args:
        package: the version that is judged.
        card: its model card.
        report: the JSON report of the quality gates.
        influence: what the study of one household's influence found.
        trail: the audit trail.
    """
    entries = audit.read(trail)
    said = json.loads(report.read_text(encoding="utf-8")) if report and report.is_file() else {"gates": []}
    gates = {gate["name"]: f"gate {gate['name']}: {gate['status']}" for gate in said["gates"]}
    figures = [fact for fact in card.facts if fact.section == "measured here" and fact.value != UNKNOWN]
    monitored = [row for row in read_scorecard() if str(row["id"]).startswith("monitoring.")]
    done = {entry.action: f"audit trail, entry {entry.number}" for entry in entries}
    inventory = risk.load_inventory()
    found = {
        "assessment": f"{len(inventory.systems)} systems assessed by rules",
        "reviews": f"{len(inventory.review_days)} frequencies in {risk.INVENTORY.name}",
        "inventory": f"{risk.INVENTORY.name}, {len(inventory.systems)} systems",
        "retirement": done.get(f"{approvals.TRAIL}retire", ""),
        "roles": f"{len(roles.PEOPLE)} roles, {roles.POLICIES.name}" if roles.POLICIES.is_file() else "",
        "model card": f"{len(card.facts) - len(card.unknown)} of {len(card.facts)} fields are known",
        "performance": f"{len(figures)} figures on the card" if figures else gates.get("performance", ""),
        "monitoring": f"{len(monitored)} figures of module 5 on the scorecard" if monitored else "",
        "security gate": gates.get("security", ""),
        "privacy": influence or done.get("privacy.erase", ""),
        "fairness gate": gates.get("fairness", ""),
        "approval": done.get(f"{approvals.TRAIL}approve", ""),
        "rollback": done.get("rollback", ""),
        "audit trail": f"{audit.verify(trail)} entries, chain intact" if entries else "",
    }
    return {kind: text for kind, text in found.items() if text}
