"""Cards and documents: read from the systems, honest about what nobody knows, safe to open."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest

from workshop_lib.checkpoints import at_least, checkpoint
from workshop_lib.mlops import audit, documents, packages, risk
from workshop_lib.mlops.model_card import TYPED, UNKNOWN, Card, model_card
from workshop_lib.mlops.packages import Package
from workshop_lib.orchestration.dashboard_pictures import find_browser

ABOUT: dict[str, Any] = {
    "name": "sales-forecaster", "version": "v1.2.0", "registry_version": "7", "alias": "", "change": "minor",
    "reasons": ["other data"], "description": "for <b>autumn</b>", "created_at": "2026-01-02T03:04:05+00:00",
    "built_by": "ana", "code_commit": "abc", "environment_sha256": "e" * 64, "data_fingerprint": "f" * 16,
    "training_period": ["2017-02-05", "2017-11-10"], "categories": ["MILK", "RICE"], "features": ["lag_1", "lag_7"],
    "metrics": {"test_r2": 0.861}, "files": {"model.bin": "0" * 64}, "output": "units", "run_id": "r" * 32,
}  # fmt: skip


def package(**changed: Any) -> Package:
    return Package(Path("sales-forecaster-v1.2.0"), ABOUT | changed)


def value(card: Card, field: str) -> str:
    return next(fact.value for fact in card.facts if fact.field == field)


def test_every_field_follows_its_system(home: Path) -> None:
    before, after = (model_card("sales-forecaster", package=package(metrics={"test_r2": r2})) for r2 in (0.861, 0.7))
    assert (value(before, "test_r2"), value(after, "test_r2")) == ("0.861", "0.7")
    assert value(before, "training days") == "2017-02-05 to 2017-11-10"
    assert before.version == "v1.2.0"


def test_people_type_only_what_no_system_knows(home: Path) -> None:
    card = model_card("sales-forecaster", package=package())
    typed = {fact.field for fact in card.facts if fact.source == TYPED}
    assert typed == {"purpose", "users", "people affected", "human oversight", "not made for", "owner"}
    assert all(fact.section == "intended use" for fact in card.facts if fact.source == TYPED)
    # The file has no room for anything else: a version or a figure typed there is refused.
    assert not {"version", "metrics", "features", "training_period"} & set(risk.System.model_fields)


def test_what_nobody_knows_is_said(home: Path) -> None:
    card = model_card("sales-forecaster", package=package(description="", metrics={}))
    assert {"description", "alias", "metrics", "figures", "report"} <= set(card.unknown)
    assert set(card.table().columns) == {"value", "source"}


def test_a_missed_target_stands_on_the_card(home: Path) -> None:
    checkpoint("1.3", "Trained", [at_least("forecaster.test_r2", 0.5, 0.85, "R² one day ahead", required=False)])
    card = model_card("sales-forecaster", package=package())
    assert value(card, "R² one day ahead") == "0.5 (target >= 0.85, missed)"
    assert "figures" not in card.unknown


def test_the_report_of_the_gates_stands_on_the_card(home: Path, tmp_path: Path) -> None:
    report = tmp_path / "gate_report.json"
    report.write_text(json.dumps({"gates": [{"name": "fairness", "status": "review", "recommendation": "Look."}]}))
    assert value(model_card("sales-forecaster", package=package(), report=report), "fairness") == "review. Look."


def test_models_without_a_package_have_a_card_too(home: Path) -> None:
    texts = model_card("product-texts")
    assert value(texts, "licence") == "Apache-2.0"
    assert value(texts, "category, EU AI Act") == "transparency"
    assert value(texts, "origin") == UNKNOWN


@pytest.fixture
def facts(home: Path) -> Iterator[dict[str, str]]:
    audit.record("approval.approve", "sales-forecaster v1.2.0", actor="carlos", reason="<script>alert(1)</script>")
    card = model_card("sales-forecaster", package=package())
    yield documents.gather_evidence(package(), card)


def test_evidence_is_found_and_not_claimed(facts: dict[str, str]) -> None:
    assert facts["approval"] == "audit trail, entry 1"
    assert not {"retirement", "fairness gate", "security gate", "impact study", "rollback", "performance"} & set(facts)


def test_each_kind_of_document_is_written(facts: dict[str, str], home: Path) -> None:
    pages = {
        "model_card": documents.card_page(model_card("sales-forecaster", package=package())),
        "technical": documents.technical(package()),
        "business": documents.business(risk.load_inventory()),
        "operational": documents.operational(),
        "compliance": documents.compliance(facts),
    }
    found = {kind: documents.write(kind, content)[0].read_text() for kind, content in pages.items()}
    assert {path.stem for path in documents.documents_dir().iterdir()} == set(pages)
    assert all("{{" not in page and "http://" not in page and "https://" not in page for page in found.values())
    assert "for &lt;b&gt;autumn" in found["model_card"]
    assert "<script>" not in found["operational"]
    assert "lag_1, lag_7" in found["technical"]
    assert "EndpointDown" in found["operational"]
    for words in ("Article 50(2)", "GOVERN 1.6", "none found", "never reviewed", "No legal advice", "approved"):
        assert words in found["compliance"]


def test_the_report_is_printed_where_there_is_a_browser(facts: dict[str, str]) -> None:
    written = documents.write("compliance", documents.compliance(facts), pdf=True)
    assert [path.suffix for path in written] == [".html", ".pdf"][: 2 if find_browser() else 1]
    assert all(path.read_bytes()[:4] in (b"%PDF", b"<!DO") for path in written)


def test_no_document_with_a_hole_and_none_on_a_forged_trail(facts: dict[str, str]) -> None:
    with pytest.raises(jinja2.UndefinedError):
        documents.write("technical", {"title": "half"})
    trail = audit.trail_file()
    trail.write_text(trail.read_text().replace("carlos", "ana"))
    with pytest.raises(audit.AuditError):
        documents.compliance(facts)


def test_the_technical_document_knows_the_signed_files() -> None:
    assert documents.technical(package())["files"]["file"].tolist() == ["model.bin"]
    assert packages.SIGNATURE == "model.sig"
