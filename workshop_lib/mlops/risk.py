"""Risk of an AI system: its category under the EU AI Act by rules, and what of the NIST AI RMF is shown by evidence.

    systems = load_inventory().systems
    assess("household-churn", systems["household-churn"].answers).category

The rules follow the text of Regulation (EU) 2024/1689 as amended by Regulation (EU) 2026/1744 (Article 5: prohibited
practices; Article 6 with Annex III: high risk; Article 50: transparency). The Act itself has no name for what remains;
people call it *minimal* risk. The rules ask the Act's questions in short words. They are a lesson and no legal advice:
exceptions, definitions and dates stand in the law, and a lawyer reads those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field

from workshop_lib.settings import ROOT

INVENTORY = ROOT / "6-advanced-mlops" / "governance" / "ai_systems.yaml"
LAW = "Regulation (EU) 2024/1689, as amended by Regulation (EU) 2026/1744"
NO_ADVICE = "Made by the rules of a course from the answers of its owner. No legal advice."

Category = Literal["prohibited", "high", "transparency", "minimal", "open"]
Practice = Literal[
    "manipulation", "vulnerability", "social scoring", "crime prediction", "face scraping", "emotions at work",
    "biometric categories", "live face recognition", "intimate images",
]  # fmt: skip
Area = Literal[
    "biometrics", "critical infrastructure", "education", "employment", "essential services", "law enforcement",
    "migration", "justice and democracy",
]  # fmt: skip

PRACTICES: dict[str, tuple[str, str]] = {
    "manipulation": ("5(1)(a)", "manipulates or deceives people so that they decide to their significant harm"),
    "vulnerability": ("5(1)(b)", "exploits age, disability or a social or economic situation to people's harm"),
    "social scoring": ("5(1)(c)", "scores people by their behaviour and treats them worse elsewhere or out of measure"),
    "crime prediction": ("5(1)(d)", "predicts crimes of a person from profiling or traits of personality alone"),
    "face scraping": ("5(1)(e)", "collects faces from the internet or cameras without a target for recognition"),
    "emotions at work": ("5(1)(f)", "infers emotions at work or in education, other than for medicine or safety"),
    "biometric categories": ("5(1)(g)", "infers race, opinions, religion or sexual life from biometric data"),
    "live face recognition": ("5(1)(h)", "identifies people live and at a distance in public for law enforcement"),
    "intimate images": ("5(1), point added in 2026", "makes intimate images of people who did not agree"),
}
"""Prohibited practices of Article 5, in short words."""
AREAS: dict[str, str] = {area: f"Annex III, point {number}" for number, area in enumerate(Area.__args__, 1)}  # type: ignore[attr-defined]
"""Areas of high-risk uses; each point of the Annex names the uses that count."""
HIGH_RISK_DUTIES = (
    "risk management (Article 9)", "data governance (10)", "technical documentation (11)", "logs (12)",
    "instructions for use (13)", "human oversight (14)", "accuracy, robustness, cybersecurity (15)",
)  # fmt: skip


class Answers(BaseModel):
    """What the owner says about a system; None is a question that nobody has answered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    practices: tuple[Practice, ...] | None = Field(None, description="practices of Article 5 that it carries out")
    safety_component: bool | None = Field(None, description="safety part of a product that Annex I names, Article 6(1)")
    areas: tuple[Area, ...] | None = Field(None, description="areas of Annex III whose listed uses it is made for")
    narrow_task: bool = Field(False, description="only a narrow, improving, checking or preparing task, Article 6(3)")
    profiles_people: bool | None = Field(None, description="judges persons from their data, GDPR Article 4(4)")
    personal_data: bool | None = Field(None, description="whether personal data goes in")
    talks_to_people: bool | None = Field(None, description="made to talk to people directly")
    obviously_a_machine: bool | None = Field(None, description="and everybody sees that it is one")
    generates: tuple[Literal["text", "image", "audio", "video"], ...] | None = Field(None, description="makes content")
    only_assists_editing: bool | None = Field(None, description="and does no more than edit what somebody gave")
    deep_fakes: bool | None = Field(None, description="content that looks like real persons, places or events")
    informs_the_public: bool | None = Field(None, description="texts on matters of public interest")
    human_review: bool | None = Field(None, description="and a person checks them and answers for them")


class System(BaseModel):
    """One AI system of the inventory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    purpose: str
    owner: dict[Literal["business", "technical"], str]
    users: str
    affected: str
    oversight: str
    not_for: tuple[str, ...]
    model: str = Field(description="its name in the registry, or of the served model")
    figures: tuple[str, ...] = Field(description="its figures on the scorecard, by the beginning of their names")
    answers: Answers


class Inventory(BaseModel):
    """All AI systems of the shop, and how often the shop looks at them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: str
    contact: str
    review_days: dict[Category, int]
    archive_days: int = Field(ge=0)
    request_days: int = Field(gt=0)
    systems: dict[str, System]


def load_inventory(path: Path = INVENTORY) -> Inventory:
    """Read the inventory.

    Raises:
        pydantic.ValidationError: naming each field that is missing, unknown or of the wrong kind.
    """
    return Inventory.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Reason:
    """Why a rule speaks, and where the law says so."""

    category: Category
    article: str
    text: str


@dataclass(frozen=True)
class Assessment:
    """What the rules say about a system."""

    system: str
    category: Category
    reasons: tuple[Reason, ...]
    duties: tuple[str, ...]

    def table(self) -> pd.DataFrame:
        """A row per reason."""
        return pd.DataFrame([vars(reason) for reason in self.reasons]).rename(columns={"text": "reason"})


def assess(system: str, answers: Answers) -> Assessment:
    """The category of a system: the gravest one that a rule finds, or ``open`` where an answer is missing above it."""
    reasons = [*_prohibited(answers), *_high(answers), *_transparency(answers)]
    for category in ("prohibited", "high", "open", "transparency"):
        if any(reason.category == category for reason in reasons):
            break
    else:
        category = "minimal"
    return Assessment(system, category, tuple(reasons), tuple(_duties(category, reasons)))  # type: ignore[arg-type]


def _prohibited(answers: Answers) -> list[Reason]:
    if answers.practices is None:
        return [Reason("open", "Article 5", "nobody has said whether it carries out a prohibited practice")]
    found = [Reason("prohibited", f"Article {PRACTICES[name][0]}", PRACTICES[name][1]) for name in answers.practices]
    return found or [Reason("minimal", "Article 5", "carries out none of the prohibited practices")]


def _high(answers: Answers) -> list[Reason]:
    """Article 6: safety components, and the uses of Annex III with their exception."""
    reasons = []
    if answers.safety_component is None:
        reasons.append(Reason("open", "Article 6(1)", "nobody has said whether it is a safety component of a product"))
    elif answers.safety_component:
        reasons.append(Reason("high", "Article 6(1)", "safety component of a product under Annex I"))
    if answers.areas is None:
        return [*reasons, Reason("open", "Article 6(2)", "nobody has compared its use with Annex III")]
    for area in answers.areas:
        where = f"Article 6(2), {AREAS[area]}"
        if answers.profiles_people or not answers.narrow_task:
            always = "; always so, because it profiles persons (Article 6(3))" if answers.profiles_people else ""
            reasons.append(Reason("high", where, f"its use is one of those listed for {area}{always}"))
        elif answers.profiles_people is None:
            reasons.append(
                Reason("open", "Article 6(3)", f"{area}, narrow task: nobody has said if it profiles persons")
            )
        else:
            reasons.append(Reason("minimal", "Article 6(3)", f"{area}, but a narrow task only: to be documented"))
    if not answers.areas:
        reasons.append(Reason("minimal", "Article 6(2)", "its use is none of those that Annex III lists"))
        if answers.profiles_people:
            text = "profiles persons, which counts here only for uses in Annex III; the GDPR applies all the same"
            reasons.append(Reason("minimal", "Article 6(3)", text))
    return reasons


def _transparency(answers: Answers) -> list[Reason]:
    """Article 50: people who talk to a machine or read what it wrote are told so."""
    reasons = []
    if answers.talks_to_people is None or answers.generates is None:
        reasons.append(Reason("open", "Article 50", "nobody has said whether it talks to people or makes content"))
    if answers.talks_to_people and not answers.obviously_a_machine:
        reasons.append(Reason("transparency", "Article 50(1)", "people talk to it: they have to be told that it is AI"))
    if answers.generates and not answers.only_assists_editing:
        content = ", ".join(answers.generates)
        text = f"makes {content}: to be marked as artificial in a form that machines can read"
        reasons.append(Reason("transparency", "Article 50(2)", text))
    if answers.deep_fakes:
        reasons.append(Reason("transparency", "Article 50(4)", "deep fakes: to be disclosed"))
    if answers.informs_the_public and not answers.human_review:
        text = "texts on matters of public interest that nobody answers for: to be disclosed"
        reasons.append(Reason("transparency", "Article 50(4)", text))
    return reasons


def _duties(category: str, reasons: Iterable[Reason]) -> list[str]:
    if category == "prohibited":
        return ["do not place on the market, put into service or use (Article 5)"]
    duties = list(HIGH_RISK_DUTIES) if category == "high" else []
    duties += [f"{reason.text} ({reason.article})" for reason in reasons if reason.category == "transparency"]
    duties += [f"find out: {reason.text} ({reason.article})" for reason in reasons if reason.category == "open"]
    return duties or ["none from Articles 5, 6 and 50; codes of conduct are voluntary (Article 95)"]


OUTCOMES: tuple[tuple[str, str, str, str], ...] = (
    ("govern", "GOVERN 1.1", "legal requirements are known and documented", "assessment"),
    ("govern", "GOVERN 1.5", "reviews are planned, with their frequency", "reviews"),
    ("govern", "GOVERN 1.6", "there is an inventory of AI systems", "inventory"),
    ("govern", "GOVERN 1.7", "retirement has a safe procedure", "retirement"),
    ("govern", "GOVERN 2.1", "roles and responsibilities are documented", "roles"),
    ("map", "MAP 1.1", "purpose, users and context are documented", "inventory"),
    ("map", "MAP 2.2", "limits of knowledge and human oversight are documented", "model card"),
    ("map", "MAP 5.1", "likelihood and size of impacts on people are documented", "impact study"),
    ("measure", "MEASURE 2.3", "performance is measured", "performance"),
    ("measure", "MEASURE 2.4", "behaviour in production is monitored", "monitoring"),
    ("measure", "MEASURE 2.7", "security and resilience are evaluated", "security gate"),
    ("measure", "MEASURE 2.10", "privacy risk is examined", "privacy"),
    ("measure", "MEASURE 2.11", "fairness and bias are evaluated", "fairness gate"),
    ("manage", "MANAGE 1.1", "somebody decided whether it goes into service", "approval"),
    ("manage", "MANAGE 2.4", "it can be switched off or replaced", "rollback"),
    ("manage", "MANAGE 4.1", "changes and incidents after deployment are managed", "audit trail"),
)
"""A choice of the outcomes of NIST AI 100-1 (AI RMF 1.0, January 2023), section 5, with what shows each here."""


def rmf(evidence: Mapping[str, str]) -> pd.DataFrame:
    """What of the NIST AI RMF is shown, and by what. An outcome without evidence is open, whatever people say.

    Args:
        evidence: what was found, by the names in :data:`OUTCOMES`.

    Returns:
        ``function``, ``outcome``, ``evidence`` and ``shown`` by subcategory.
    """
    rows = [
        {"function": function, "subcategory": number, "outcome": outcome, "evidence": evidence.get(kind, "none found"),
         "shown": bool(evidence.get(kind))}
        for function, number, outcome, kind in OUTCOMES
    ]  # fmt: skip
    return pd.DataFrame(rows).set_index("subcategory")
