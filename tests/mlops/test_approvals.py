"""What a version needs before production, who may say so, and that nobody gets around it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from workshop_lib.files import sha256
from workshop_lib.mlops import approvals, audit, deployments, packages, signing
from workshop_lib.mlops.approvals import ApprovalRefused, NotApproved

NAME = "sales-forecaster"
Evidence = dict[str, Path]


@pytest.fixture
def evidence(home: Path) -> Callable[..., Evidence]:
    def make(version: str = "v1.0.0", status: str = "passed") -> Evidence:
        folder = home / "mlops" / "packages" / f"{NAME}-{version}"
        folder.mkdir(parents=True)
        (folder / "model.bin").write_bytes(version.encode())
        about = {"name": NAME, "version": version, "registry_version": "1", "files": {"model.bin": "?"}}
        (folder / packages.PACKAGE_JSON).write_text(json.dumps(about))
        signing.sign(folder)
        report, card = home / f"report-{version}.json", home / f"card-{version}.html"
        report.write_text(json.dumps({"status": status, "package_sha256": sha256(folder / packages.PACKAGE_JSON)}))
        card.write_text(f"card of {version}")
        return {"gate_report": report, "signature": folder / signing.SIGNATURE, "model_card": card}

    return make


def approved(files: Evidence, version: str = "v1.0.0") -> None:
    approvals.submit(NAME, version, "ana", files)
    approvals.approve(NAME, version, "carlos", "better than before")


def test_a_version_goes_from_draft_to_production_and_to_its_end(evidence: Callable[..., Evidence]) -> None:
    files = evidence()
    seen = [approvals.state(NAME, "v1.0.0"), approvals.submit(NAME, "v1.0.0", "ana", files)]
    seen.append(approvals.approve(NAME, "v1.0.0", "carlos", "better"))
    audit.record("deploy", f"{NAME} v1.0.0", actor="pipeline", reason="released", details={"stage": "production"})
    seen += [approvals.state(NAME, "v1.0.0"), approvals.retire(NAME, "v1.0.0", "olga", "old")]
    assert seen == ["draft", "validated", "approved", "in_production", "retired"]
    assert approvals.history(NAME, "v1.0.0")["actor"].tolist() == ["ana", "carlos", "pipeline", "olga"]
    with pytest.raises(NotApproved, match="retired"):
        approvals.require(NAME, "v1.0.0")


def test_what_was_replaced_may_come_back(evidence: Callable[..., Evidence]) -> None:
    for version in ("v1.0.0", "v1.1.0"):
        approved(evidence(version), version)
        audit.record("deploy", f"{NAME} {version}", actor="pipeline", reason="go", details={"stage": "production"})
    assert approvals.states(NAME) == {"v1.0.0": "approved", "v1.1.0": "in_production"}
    assert approvals.require(NAME, "v1.0.0").actor == "carlos"
    audit.record("deploy", f"{NAME} v1.0.0", actor="pipeline", reason="try", details={"stage": "staging"})
    assert approvals.state(NAME, "v1.1.0") == "in_production"
    audit.record("stop", f"{NAME} v1.1.0", actor="olga", reason="night", details={"stage": "production"})
    assert approvals.states(NAME) == {"v1.0.0": "approved", "v1.1.0": "approved"}


def test_nothing_that_is_not_approved_is_deployed_to_production(evidence: Callable[..., Evidence]) -> None:
    files = evidence()
    folder = files["signature"].parent
    package = packages.Package(folder, json.loads((folder / packages.PACKAGE_JSON).read_text()))
    approvals.submit(NAME, "v1.0.0", "ana", files)
    with pytest.raises(NotApproved, match="validated, not approved"):
        deployments.deploy("production", package)
    assert deployments.current("production") is None


def test_evidence_must_be_whole_and_about_this_version(evidence: Callable[..., Evidence], tmp_path: Path) -> None:
    files, other = evidence(), evidence("v2.0.0")
    wrong = {
        "lacks evidence: gate_report": {"gate_report": tmp_path / "none"},
        "about another package": {"gate_report": other["gate_report"]},
        "signature is none": {"signature": other["signature"]},
        "no card of": {"model_card": other["model_card"]},
    }
    for message, replaced in wrong.items():
        with pytest.raises(ApprovalRefused, match=message):
            approvals.submit(NAME, "v1.0.0", "ana", files | replaced)
    (files["signature"].parent / "model.bin").write_bytes(b"another")
    with pytest.raises(signing.SignatureError):
        approvals.submit(NAME, "v1.0.0", "ana", files)
    assert approvals.state(NAME, "v1.0.0") == "draft"


def test_failed_gates_stop_a_version_and_open_questions_want_a_person(evidence: Callable[..., Evidence]) -> None:
    with pytest.raises(ApprovalRefused, match="gates say failed"):
        approvals.submit(NAME, "v1.0.0", "ana", evidence(status="failed"))
    approvals.submit(NAME, "v2.0.0", "ana", evidence("v2.0.0", "review"))
    with pytest.raises(ApprovalRefused, match="review by a person"):
        approvals.approve(NAME, "v2.0.0", "carlos", "looks fine")
    assert approvals.approve(NAME, "v2.0.0", "carlos", "asked the data owner", reviewed=True) == "approved"


@pytest.mark.parametrize("who", ["ana", "olga", "andrei", "pipeline", "mallory"])
def test_only_approvers_approve(evidence: Callable[..., Evidence], who: str) -> None:
    approvals.submit(NAME, "v1.0.0", "ana", evidence())
    with pytest.raises(ApprovalRefused, match="may not approve"):
        approvals.approve(NAME, "v1.0.0", who, "please")


def test_an_approver_does_not_approve_what_he_built(evidence: Callable[..., Evidence]) -> None:
    files = evidence()
    audit.record("build", f"{NAME} v1.0.0", actor="carlos", reason="I can do that too")
    approvals.submit(NAME, "v1.0.0", "ana", files)
    with pytest.raises(ApprovalRefused, match="somebody else"):
        approvals.approve(NAME, "v1.0.0", "carlos", "mine is good")


def test_steps_come_in_their_order(evidence: Callable[..., Evidence]) -> None:
    with pytest.raises(ApprovalRefused, match="is draft"):
        approvals.approve(NAME, "v1.0.0", "carlos", "in advance")
    files = evidence()
    approved(files)
    assert approvals.reject(NAME, "v1.0.0", "carlos", "a customer complained") == "rejected"
    with pytest.raises(NotApproved, match="rejected"):
        approvals.require(NAME, "v1.0.0")
    assert approvals.submit(NAME, "v1.0.0", "ana", files) == "validated"


def test_exchanged_evidence_makes_an_approval_void(evidence: Callable[..., Evidence], home: Path) -> None:
    files = evidence()
    approved(files)
    files["gate_report"].unlink()  # the workspace of a pipeline is gone: the copy counts
    approvals.require(NAME, "v1.0.0")
    kept = home / "mlops" / "evidence" / f"{NAME}-v1.0.0" / "gate_report.json"
    kept.write_text(kept.read_text().replace("passed", "failed"))
    with pytest.raises(NotApproved, match="gate_report"):
        approvals.require(NAME, "v1.0.0")


def test_a_forged_approval_is_found(evidence: Callable[..., Evidence]) -> None:
    approvals.submit(NAME, "v1.0.0", "ana", evidence())
    approvals.reject(NAME, "v1.0.0", "carlos", "no")
    trail = audit.trail_file()
    trail.write_text(trail.read_text().replace("approval.reject", "approval.approve"))
    assert approvals.state(NAME, "v1.0.0") == "approved"
    with pytest.raises(audit.AuditError, match="line 2"):
        approvals.require(NAME, "v1.0.0")
