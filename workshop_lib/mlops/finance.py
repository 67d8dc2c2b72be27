"""Four answers to "does it pay?": return on investment, payback time, net present value, internal rate of return.

Year 0 is today, when the system is built; year 1 is the first year of use. All amounts of a year count at its end.
Source: Brealey, Myers, Allen, "Principles of Corporate Finance", chapters 2 and 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy_financial as npf  # type: ignore[import-untyped]


@dataclass(frozen=True)
class Appraisal:
    """What is said about an investment."""

    roi: float
    """Net benefit over all costs, not discounted: 0.5 means half a dollar more than each dollar spent."""
    payback: float
    """Years until the money spent has come back, within a year in proportion; infinite when it does not."""
    npv: float
    """Dollars of today."""
    irr: float
    """The discount rate at which the NPV is zero; NaN when there is none."""


def appraise(benefits: Sequence[float] | np.ndarray, costs: Sequence[float] | np.ndarray, rate: float) -> Appraisal:
    """Judge an investment by its yearly benefits and costs.

    Args:
        benefits: dollars per year, from year 0 on.
        costs: dollars per year, in the same years, above zero for money spent.
        rate: discount rate per year.

    Raises:
        ValueError: when the years differ, or nothing is spent.
    """
    gained, spent = np.asarray(benefits, dtype=float), np.asarray(costs, dtype=float)
    if gained.shape != spent.shape or not spent.sum() > 0:
        raise ValueError("Benefits and costs need the same years, and costs above zero.")
    flows = gained - spent
    return Appraisal(
        roi=float(flows.sum() / spent.sum()),
        payback=payback(flows),
        npv=float(npf.npv(rate, flows)),
        irr=float(npf.irr(flows)),
    )


def payback(flows: Sequence[float] | np.ndarray) -> float:
    """Years until the sum of the flows reaches zero for good; infinite when it does not.

    Args:
        flows: dollars per year, from year 0 on; within a year they come evenly.
    """
    total = np.cumsum(np.asarray(flows, dtype=float))
    below = np.flatnonzero(total < 0)
    if not len(below):
        return 0.0
    last = int(below[-1])
    if last == len(total) - 1:
        return float("inf")
    return last + float(-total[last] / (total[last + 1] - total[last]))
