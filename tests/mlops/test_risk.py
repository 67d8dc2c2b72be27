"""The rules for risk: every answer counts, a missing one is no "no", and nothing counts as shown without evidence."""

import datetime as dt
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import ValidationError

from workshop_lib.mlops import audit, reviews, risk
from workshop_lib.mlops.risk import Answers, Inventory, assess, load_inventory, rmf

NOTHING: dict[str, Any] = {
    "practices": (), "safety_component": False, "areas": (), "profiles_people": False, "talks_to_people": False,
    "generates": (),
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "category", "article"),
    [
        ({}, "minimal", "Article 6(2)"),
        ({"profiles_people": True}, "minimal", "Article 6(3)"),
        *[({"practices": (name,)}, "prohibited", risk.PRACTICES[name][0]) for name in get_args(risk.Practice)],
        *[({"areas": (area,)}, "high", f"point {n}") for n, area in enumerate(get_args(risk.Area), 1)],
        ({"safety_component": True}, "high", "Article 6(1)"),
        ({"areas": ("employment",), "narrow_task": True}, "minimal", "Article 6(3)"),
        ({"areas": ("employment",), "narrow_task": True, "profiles_people": True}, "high", "Article 6(2)"),
        ({"areas": ("employment",), "narrow_task": True, "profiles_people": None}, "open", "Article 6(3)"),
        ({"talks_to_people": True}, "transparency", "Article 50(1)"),
        ({"talks_to_people": True, "obviously_a_machine": True}, "minimal", "Article 6(2)"),
        ({"generates": ("text",)}, "transparency", "Article 50(2)"),
        ({"generates": ("text",), "only_assists_editing": True}, "minimal", "Article 6(2)"),
        ({"deep_fakes": True}, "transparency", "Article 50(4)"),
        ({"informs_the_public": True}, "transparency", "Article 50(4)"),
        ({"informs_the_public": True, "human_review": True}, "minimal", "Article 6(2)"),
        ({"practices": None}, "open", "Article 5"),
        ({"areas": None}, "open", "Article 6(2)"),
        ({"safety_component": None, "generates": ("text",)}, "open", "Article 6(1)"),
        ({"talks_to_people": None}, "open", "Article 50"),
        # the gravest counts
        ({"practices": ("manipulation",), "areas": ("migration",), "generates": None}, "prohibited", "5(1)(a)"),
        ({"areas": ("education",), "generates": ("text",)}, "high", "point 3"),
    ],
)  # fmt: skip
def test_each_rule_speaks(changed: dict[str, Any], category: str, article: str) -> None:
    found = assess("x", Answers(**NOTHING | changed))
    assert found.category == category
    assert any(article in reason.article for reason in found.reasons if reason.category == category)
    assert found.duties


def test_nobody_has_answered_anything() -> None:
    found = assess("x", Answers())
    assert found.category == "open"
    assert all(duty.startswith("find out") for duty in found.duties)


def test_high_risk_names_the_requirements_and_keeps_transparency() -> None:
    duties = assess("x", Answers(**NOTHING | {"areas": ("education",), "talks_to_people": True})).duties
    assert set(risk.HIGH_RISK_DUTIES) < set(duties)
    assert any("Article 50(1)" in duty for duty in duties)


def test_the_shop_has_answered_for_its_systems() -> None:
    systems = load_inventory().systems
    categories = {key: assess(key, system.answers).category for key, system in systems.items()}
    assert categories == {
        "sales-forecaster": "minimal", "household-churn": "minimal", "product-texts": "transparency",
        "shop-assistant": "transparency",
    }  # fmt: skip


@pytest.mark.parametrize("broken", [{"practices": ["magic"]}, {"areas": ["sport"]}, {"profile": True}])
def test_an_answer_that_no_rule_reads_is_refused(broken: dict[str, Any]) -> None:
    content = yaml.safe_load(risk.INVENTORY.read_text(encoding="utf-8"))
    content["systems"]["product-texts"]["answers"] |= broken
    with pytest.raises(ValidationError):
        Inventory.model_validate(content)


def test_without_evidence_nothing_is_shown() -> None:
    assert not rmf({})["shown"].any()
    table = rmf({"inventory": "a file"})
    assert table.index[table["shown"]].tolist() == ["GOVERN 1.6", "MAP 1.1"]
    assert table.index.is_unique
    assert set(table["function"]) == {"govern", "map", "measure", "manage"}


def test_reviews_are_due_by_category(home: Path) -> None:
    inventory, today = load_inventory(), dt.datetime.now(dt.UTC).date()
    assert set(reviews.due(inventory, today)["state"]) == {"never reviewed"}
    reviews.note("product-texts", actor="andrei", outcome="fine")
    audit.record("approval.approve", "sales-forecaster v1.0.0", actor="carlos", reason="good")
    table = reviews.due(inventory, today)
    assert table.loc["product-texts", "due"] == today + dt.timedelta(days=inventory.review_days["transparency"])
    assert table.loc["sales-forecaster", "due"] == today + dt.timedelta(days=inventory.review_days["minimal"])
    assert table.loc["household-churn", "due"] == today
    later = reviews.due(inventory, table.loc["product-texts", "due"] + dt.timedelta(days=1))
    assert later.loc[["product-texts", "sales-forecaster"], "state"].tolist() == ["overdue", "in time"]
