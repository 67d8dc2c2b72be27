"""From draft to retired: what a version needs before it may go into production, and who may say so.

    submit("sales-forecaster", "v1.1.0", actor="ana", evidence=evidence)              # draft -> validated
    approve("sales-forecaster", "v1.1.0", actor="carlos", reason="better at Christmas")  # -> approved
    require("sales-forecaster", "v1.1.0")                       # asked by every deployment to production
    state("sales-forecaster", "v1.1.0")                         # in_production, once it is deployed there

The audit trail is the only memory: a state is what its entries say, so nobody can change a state without leaving a
line, and a line that was changed is found by :func:`workshop_lib.mlops.audit.verify`. What is in production follows
from the entries of :mod:`workshop_lib.mlops.deployments`. The evidence is copied beside the trail, which notes its
checksums; a report that is exchanged after the approval makes the approval void.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workshop_lib.files import locked, sha256, write_text
from workshop_lib.mlops import audit, roles
from workshop_lib.mlops.audit import Entry
from workshop_lib.mlops.packages import PACKAGE_JSON
from workshop_lib.settings import settings

if TYPE_CHECKING:
    import pandas as pd

State = Literal["draft", "validated", "approved", "in_production", "retired", "rejected"]
EVIDENCE = ("gate_report", "signature", "model_card")
"""Files that a version needs: the report of the quality gates, the package's signature, the model card."""
AUTHORS = ("build", "submit")
"""Whoever did one of these to a version may not approve it: four eyes see more than two."""
PRODUCTION = "production"
"""The stage that asks :func:`require`."""
TRAIL = "approval."
"""How the actions of this module begin in the audit trail."""


class ApprovalRefused(RuntimeError):
    """A step was not taken; the message says what is missing, or who may not."""


class NotApproved(RuntimeError):
    """A version may not go into production."""


@dataclass(frozen=True)
class Step:
    """One step of the life of a version."""

    before: tuple[State, ...]
    """States in which it is possible."""
    after: State
    verb: str
    """With :attr:`resource`: the right that a person needs for it on the cluster, see ``security_policies.yaml``."""
    resource: str


STEPS: dict[str, Step] = {
    "submit": Step(("draft", "rejected"), "validated", "create", "pipelineruns"),
    "approve": Step(("validated",), "approved", "update", "approvaltasks"),
    "reject": Step(("validated", "approved"), "rejected", "update", "approvaltasks"),
    "retire": Step(
        ("draft", "validated", "approved", "in_production", "rejected"), "retired", "delete", "inferenceservices"
    ),
}


def submit(
    name: str, version: object, actor: str, evidence: Mapping[str, Path | str], *,
    reason: str = "ready for production", path: Path | None = None,
) -> State:  # fmt: skip
    """Hand in a version with its evidence.

    Args:
        name: of the model.
        version: its semantic version.
        actor: who hands it in, the author.
        evidence: a file per name of :data:`EVIDENCE`; the signature lies in the package's folder.
        reason: why.
        path: the audit trail; the course's own by default, as for all functions here.

    Raises:
        ApprovalRefused: when evidence is missing or bad, or the actor may not.
        SignatureError: when the package is not what was signed.
    """
    from workshop_lib.mlops import signing  # only handing in needs its seconds of imports

    missing = [kind for kind in EVIDENCE if kind not in evidence or not Path(evidence[kind]).is_file()]
    if missing:
        raise ApprovalRefused(f"{_subject(name, version)} lacks evidence: {', '.join(missing)}.")
    files = {kind: Path(evidence[kind]).resolve() for kind in EVIDENCE}
    report = json.loads(files["gate_report"].read_text(encoding="utf-8"))
    status, package = report["status"], files["signature"].with_name(PACKAGE_JSON)
    about = json.loads(package.read_text(encoding="utf-8")) if package.is_file() else {}
    if (about.get("name"), about.get("version")) != (name, str(version)):
        raise ApprovalRefused(f"The signature is none of {_subject(name, version)}.")
    if report["package_sha256"] != sha256(package):
        raise ApprovalRefused(f"{_subject(name, version)}: the gate report is about another package.")
    if status not in ("passed", "review"):
        raise ApprovalRefused(f"{_subject(name, version)}: the quality gates say {status}. Mend it, then try again.")
    signing.verify(files["signature"].parent)
    if str(version) not in files["model_card"].read_text(encoding="utf-8"):
        raise ApprovalRefused(f"{files['model_card'].name} is no card of {_subject(name, version)}.")
    kept = _keep(files, (path or audit.trail_file()).parent / "evidence" / f"{name}-{version}")
    return _take("submit", name, version, actor, reason, {"gates": status, "evidence": kept}, path)


def approve(
    name: str, version: object, actor: str, reason: str, *, reviewed: bool = False, path: Path | None = None
) -> State:
    """Allow a version to go into production.

    Args:
        name: of the model.
        version: its semantic version.
        actor: who approves; not an author.
        reason: why.
        reviewed: whether the actor has looked at what the gates left to a person.
        path: the audit trail.

    Raises:
        ApprovalRefused: when the actor may not, the state is another, or a review is open.
    """
    _check("approve", name, version, actor, path)
    asked = _last(_of(audit.read(path), name, version), "submit")
    if asked is not None and asked.details["gates"] == "review" and not reviewed:
        raise ApprovalRefused(f"{_subject(name, version)}: a gate asks for a review by a person. Say reviewed=True.")
    return _take("approve", name, version, actor, reason, {"reviewed": reviewed}, path)


def reject(name: str, version: object, actor: str, reason: str, *, path: Path | None = None) -> State:
    """Refuse a version; its author may submit it again.

    Raises:
        ApprovalRefused: when the actor may not, or the state is another.
    """
    return _take("reject", name, version, actor, reason, {}, path)


def retire(
    name: str, version: object, actor: str, reason: str, *, details: Mapping[str, Any] = {}, path: Path | None = None
) -> State:  # fmt: skip
    """Note that a version is out of service for good; :mod:`workshop_lib.mlops.retirement` does the work.

    Raises:
        ApprovalRefused: when the actor may not, or the state is another.
    """
    return _take("retire", name, version, actor, reason, details, path)


def state(name: str, version: object, *, path: Path | None = None) -> State:
    """Where a version stands; a version that nobody handed in is a draft."""
    return states(name, path=path).get(str(version), "draft")


def states(name: str, *, path: Path | None = None) -> dict[str, State]:
    """Where each version of a model stands, in the order in which they first appear in the trail.

    A version that another one replaced in production is an approved one again, to go back to.
    """
    found: dict[str, State] = {}
    for entry in audit.read(path):
        model, _, version = entry.subject.rpartition(" ")
        if model != name:
            continue
        if entry.action.startswith(TRAIL):
            found[version] = STEPS[entry.action.removeprefix(TRAIL)].after
        elif entry.details.get("stage") == PRODUCTION:
            found |= {other: "approved" for other, now in found.items() if now == "in_production"}
            if entry.action != "stop":
                found[version] = "in_production"
    return found


def require(name: str, version: object, *, path: Path | None = None) -> Entry:
    """Let pass only what may go into production.

    Returns:
        The entry with which it was approved.

    Raises:
        NotApproved: when it was not approved, or its evidence is no longer what was approved.
        AuditError: when the trail itself was changed.
    """
    audit.verify(path)
    now, entries = state(name, version, path=path), _of(audit.read(path), name, version)
    asked, approved = _last(entries, "submit"), _last(entries, "approve")
    if now not in ("approved", "in_production") or asked is None or approved is None:
        raise NotApproved(f"{_subject(name, version)} is {now}, not approved. It cannot go into production.")
    for kind, kept in asked.details["evidence"].items():
        file = settings.home / kept["file"]
        if not file.is_file() or sha256(file) != kept["sha256"]:
            raise NotApproved(
                f"{_subject(name, version)}: {kind} is not what was approved. It has to be handed in again."
            )
    return approved


def history(name: str, version: object, *, path: Path | None = None) -> pd.DataFrame:
    """All that the trail knows of a version: who did what, and why."""
    return audit.table(entry for entry in audit.read(path) if entry.subject == _subject(name, version))


def may(actor: str, step: str) -> bool:
    """Whether a person has the right to a step, by the roles of ``security_policies.yaml``."""
    return roles.can(actor, STEPS[step].verb, STEPS[step].resource, roles.NAMESPACE)


def _take(
    step: str, name: str, version: object, actor: str, reason: str, details: Mapping[str, Any], path: Path | None
) -> State:
    """Record a step, if it may be taken."""
    with locked(settings.home / "mlops" / "approvals"):  # of two who decide at once, the second sees the first
        _check(step, name, version, actor, path)
        audit.record(TRAIL + step, _subject(name, version), actor=actor, reason=reason, details=details, path=path)
    return STEPS[step].after


def _check(step: str, name: str, version: object, actor: str, path: Path | None) -> None:
    """Check a step against state, rights and four eyes."""
    subject, now = _subject(name, version), state(name, version, path=path)
    if now not in STEPS[step].before:
        raise ApprovalRefused(f"{subject} is {now}; to {step} it, it must be {' or '.join(STEPS[step].before)}.")
    if not may(actor, step):
        raise ApprovalRefused(f"{actor} may not {step}: no {STEPS[step].verb} on {STEPS[step].resource}.")
    if step == "approve" and actor in _authors(audit.read(path), subject):
        raise ApprovalRefused(f"{actor} made {subject}; somebody else has to approve it.")


def _keep(files: Mapping[str, Path], folder: Path) -> dict[str, dict[str, str]]:
    """Copy evidence to where it outlives a pipeline's workspace; the signature stays with its package."""
    kept = {}
    for kind, file in files.items():
        place = file if kind == "signature" else folder / f"{kind}{file.suffix}"
        if place != file:
            write_text(place, file.read_text(encoding="utf-8"))
        kept[kind] = {"file": _short(place), "sha256": sha256(place)}
    return kept


def _authors(entries: Iterable[Entry], subject: str) -> set[str]:
    return {entry.actor for entry in entries
            if entry.subject == subject and entry.action.removeprefix(TRAIL) in AUTHORS}  # fmt: skip


def _of(entries: Iterable[Entry], name: str, version: object) -> list[Entry]:
    """The steps of one version."""
    return [entry for entry in entries
            if entry.action.startswith(TRAIL) and entry.subject == _subject(name, version)]  # fmt: skip


def _last(entries: list[Entry], step: str) -> Entry | None:
    return next((entry for entry in reversed(entries) if entry.action == TRAIL + step), None)


def _subject(name: str, version: object) -> str:
    return f"{name} {version}"


def _short(file: Path) -> str:
    """A path below the course's folder as it is from there, so that the folder may move."""
    return str(file.relative_to(settings.home) if file.is_relative_to(settings.home) else file)
