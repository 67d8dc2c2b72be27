"""What the business case assumes: read from one file, each with its unit, its bounds and its reason.

assumptions = load_assumptions()
values = base(assumptions)        # {"margin": 0.3, …}
draw(assumptions, random)         # the same names, each drawn between its bounds
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from workshop_lib.settings import ROOT

FILE = ROOT / "6-advanced-mlops" / "governance" / "business_assumptions.yaml"
Values = Mapping[str, float]
"""A value for each assumption, by its name."""


class AssumptionError(ValueError):
    """The file of assumptions cannot be used; the message names the assumption and the field."""


class Assumption(BaseModel):
    """One thing that nobody has measured."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    group: str
    value: float
    low: float
    high: float
    unit: str
    reason: str

    @model_validator(mode="after")
    def _in_order(self) -> Assumption:
        if not (self.low <= self.value <= self.high and self.low < self.high):
            raise ValueError("low <= value <= high, with low below high")
        if not self.unit.strip() or not self.reason.strip():
            raise ValueError("a unit and a reason")
        return self


def load_assumptions(path: Path = FILE) -> dict[str, Assumption]:
    """The assumptions of a file, by name, in its order.

    Raises:
        AssumptionError: for a group that is no mapping, a name that stands twice, and a field that is missing or
            cannot be used.
    """
    found: dict[str, Assumption] = {}
    groups: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    for group, members in groups.items():
        if not isinstance(members, dict):
            raise AssumptionError(f"{group}: not a group of assumptions but {members!r}.")
        for name, fields in members.items():
            if name in found:
                raise AssumptionError(f"{name} stands twice, in {found[name].group} and in {group}.")
            try:
                found[name] = Assumption(group=group, **fields)
            except (ValidationError, TypeError) as error:
                why = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
                raise AssumptionError(f"{'.'.join([group, name, *map(str, why['loc'])])}: {why['msg']}.") from None
    return found


def base(assumptions: Mapping[str, Assumption]) -> dict[str, float]:
    """The value of each."""
    return {name: one.value for name, one in assumptions.items()}


def draw(assumptions: Mapping[str, Assumption], random: np.random.Generator) -> dict[str, float]:
    """One possible world: each drawn from the triangle between low, value and high, independently of the others."""
    return {name: float(random.triangular(one.low, one.value, one.high)) for name, one in assumptions.items()}
