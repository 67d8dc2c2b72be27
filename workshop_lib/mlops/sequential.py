"""Looking at a running test: why the usual p-value must not be looked at twice, and one that may.

A p-value of 0.05 keeps its promise at one moment that was fixed before. Who looks every day and stops at the first
value below 0.05 has many chances of a false alarm. An *always-valid* p-value keeps the promise for all looks
together. The one here is the mixture sequential probability ratio test: Johari, Koomen, Pekelis & Walsh 2022,
"Always Valid Inference: Continuous Monitoring of A/B Tests", Operations Research 70(3), section 4 (two streams,
normal approximation).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportions_ztest

from workshop_lib.mlops.experiments import ALPHA
from workshop_lib.settings import settings


def always_valid(control: np.ndarray, treated: np.ndarray, members: np.ndarray, expected: float) -> np.ndarray:
    """Always-valid p-values of the difference of two shares, one per look.

    With the difference d and the variance V of d at a look, and a normal mixture of width t around no difference,
    the likelihood ratio is sqrt(V / (V + t²)) · exp(t² d² / (2 V (V + t²))). The p-value is the smallest 1 / ratio
    so far.

    Args:
        control: how many of the control did it, up to each look, shape (looks,).
        treated: the same of the treated.
        members: of each arm up to each look; a hundred or more at the first, so that the approximation holds.
        expected: a difference that is hoped for. Any value is valid; one that is far off needs more members.

    Returns:
        Shape (looks,), falling.
    """
    before, after = control / members, treated / members
    # Half a success more on either side: where nobody did it yet, a variance of zero would prove anything.
    smoothed = (control + 0.5) / (members + 1), (treated + 0.5) / (members + 1)
    variance = sum(share * (1 - share) for share in smoothed) / members
    wider = variance + expected**2
    log_ratio = 0.5 * np.log(variance / wider) + expected**2 * (after - before) ** 2 / (2 * variance * wider)
    return np.minimum.accumulate(np.minimum(1.0, np.exp(-log_ratio)))


@dataclass(frozen=True)
class Looked:
    """Many simulated tests that were looked at several times."""

    members: np.ndarray
    """Of each arm at each look, shape (looks,)."""
    usual: np.ndarray
    """p-values of the z-test at each look, shape (runs, looks)."""
    always_valid: np.ndarray
    """Always-valid p-values, same shape."""

    def found(self, alpha: float = ALPHA) -> pd.DataFrame:
        """Share of the tests that had found a difference by each look, indexed by the number of members.

        Returns:
            ``stop when significant`` (the usual p-value, at this look or before), ``look once`` (at this look only),
            ``always valid`` (at this look or before).
        """
        ever = {"stop when significant": self.usual, "always valid": self.always_valid}
        columns = {name: np.mean(np.minimum.accumulate(p, axis=1) < alpha, axis=0) for name, p in ever.items()}
        columns["look once"] = np.mean(self.usual < alpha, axis=0)
        order = ["stop when significant", "look once", "always valid"]
        return pd.DataFrame(columns, index=pd.Index(self.members, name="per arm"))[order]

    def members_until_found(self, alpha: float = ALPHA) -> float:
        """Mean number per arm after which the always-valid test stops; all of them where it finds nothing."""
        below = self.always_valid < alpha
        first = np.where(below.any(axis=1), below.argmax(axis=1), below.shape[1] - 1)
        return float(self.members[first].mean())


def look_often(
    base: float, lift: float, per_look: int, looks: int, runs: int, expected: float, seed: int = settings.seed
) -> Looked:
    """Simulate tests of two shares that are looked at after every so many members.

    Args:
        base: the control's share.
        lift: the true difference; 0 for A/A tests.
        per_look: new members per arm from one look to the next.
        looks: how many.
        runs: how many tests.
        expected: for :func:`always_valid`.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    members = per_look * np.arange(1, looks + 1)
    control, treated = (random.binomial(per_look, share, (runs, looks)).cumsum(axis=1) for share in (base, base + lift))
    usual = np.array([
        [_z_test(old, new, of) for old, new, of in zip(*run, members.tolist(), strict=True)]
        for run in zip(control, treated, strict=True)
    ])  # fmt: skip
    valid = np.array([always_valid(old, new, members, expected) for old, new in zip(control, treated, strict=True)])
    return Looked(members, usual, valid)


def _z_test(control: int, treated: int, members: int) -> float:
    if control + treated in (0, 2 * members):  # no difference, and the test would divide zero by zero
        return 1.0
    return float(proportions_ztest([treated, control], [members, members])[1])
