"""Periodic review: every AI system is looked at again after a time that its risk decides.

due(load_inventory(), today)            # a row per system: last look, next one, overdue or not
note("household-churn", actor="andrei", outcome="no complaints, figures as promised")
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pandas as pd

from workshop_lib.mlops import approvals, audit
from workshop_lib.mlops.audit import Entry
from workshop_lib.mlops.risk import Inventory, assess

ACTION = "review"


def note(system: str, *, actor: str, outcome: str, trail: Path | None = None) -> Entry:
    """Write down that somebody has looked at a system, and what came of it."""
    return audit.record(ACTION, f"system {system}", actor=actor, reason=outcome, path=trail)


def due(inventory: Inventory, today: dt.date, trail: Path | None = None) -> pd.DataFrame:
    """When each system has to be looked at again. The approval of a version counts as a look at its system.

    Returns:
        ``category``, ``last``, ``due`` and ``state`` by system. A system that nobody has looked at is due today.
    """
    entries = audit.read(trail)
    rows = []
    for key, system in inventory.systems.items():
        category = assess(key, system.answers).category
        looks = [entry.at[:10] for entry in entries if _is_look(entry, key, system.model)]
        last = dt.date.fromisoformat(max(looks)) if looks else None
        next_one = last + dt.timedelta(days=inventory.review_days[category]) if last else today
        state = "never reviewed" if last is None else "overdue" if next_one < today else "in time"
        rows.append({"system": key, "category": category, "last": last, "due": next_one, "state": state})
    return pd.DataFrame(rows).set_index("system")


def _is_look(entry: Entry, system: str, model: str) -> bool:
    approved = entry.action == f"{approvals.TRAIL}approve" and entry.subject.rpartition(" ")[0] == model
    return approved or (entry.action == ACTION and entry.subject == f"system {system}")
