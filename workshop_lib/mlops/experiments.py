"""A/B tests: how many are needed, what a difference is worth, and whether the test itself was sound.

    per_arm = sample_size(base=0.06, lift=0.02)             # before the test
    shares((60, 1000), (85, 1000)).row()                    # after it: difference, interval, p-value
    sample_ratio([5010, 1190], [80, 20])                    # and whether the split was what it should be

Everything is computed by scipy and statsmodels; here it only gets names that a shop would use. *Control* is what is
in service, *treated* what is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import ceil, nan, sqrt
from typing import Literal

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_effectsize, proportions_ztest

from workshop_lib.settings import settings

ALPHA = settings.thresholds.significance
"""Share of tests that find a difference where there is none."""
POWER = 0.8
"""Share of tests that find the difference for which they were planned."""
RESAMPLES = 2000
Counts = tuple[int, int]
"""How many did it, of how many."""
Verdict = Literal["kept", "broken", "not shown"]


# --- Before the test --------------------------------------------------------------------------------


def sample_size(base: float, lift: float, *, alpha: float = ALPHA, power: float = POWER, ratio: float = 1) -> int:
    """How many the control needs so that a test of two shares finds a lift.

    Args:
        base: the control's share.
        lift: smallest difference worth finding, in share points (0.02 is two of a hundred).
        alpha: see :data:`ALPHA`.
        power: see :data:`POWER`.
        ratio: treated per control; 0.25 when the new version gets a fifth of all.
    """
    effect = proportion_effectsize(base + lift, base)
    return ceil(NormalIndPower().solve_power(effect, alpha=alpha, power=power, ratio=ratio))


def power_of(base: float, lift: float, per_arm: int, *, alpha: float = ALPHA) -> float:
    """How often a test of two shares with so many per arm finds a lift; see :func:`sample_size`."""
    return float(NormalIndPower().power(proportion_effectsize(base + lift, base), per_arm, alpha))


def smallest_lift(base: float, per_arm: int, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """The smallest lift of a share that a test with so many per arm finds; see :func:`sample_size`.

    Raises:
        ValueError: when there are too few for any lift.
    """
    highest = 1 - base - 1e-6
    return float(brentq(lambda lift: power_of(base, lift, per_arm, alpha=alpha) - power, 1e-6, highest))


# --- After it ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """What a test found."""

    test: str
    control: float
    treated: float
    difference: float
    """Treated minus control."""
    low: float
    """Lower end of the 95% interval of the difference; NaN where the test gives none."""
    high: float
    p_value: float
    """How often chance alone makes so large a difference, to either side; NaN where the test gives none."""

    def row(self) -> dict[str, float | str]:
        """A row of a table, or of the audit trail."""
        return asdict(self)


def shares(control: Counts, treated: Counts) -> Comparison:
    """Compare two shares: z-test for the p-value, the interval by Newcombe's method, which holds for small counts.

    Raises:
        ValueError: when one side has no members.
    """
    (did, of), (did_new, of_new) = control, treated
    if min(of, of_new) < 1:
        raise ValueError("Both sides need members: a share of nothing is no number.")
    pooled = (did + did_new) / (of + of_new)
    # Where nobody did it, or all did, the z-test would divide zero by zero; there is no difference at all then.
    p_value = proportions_ztest([did_new, did], [of_new, of])[1] if 0 < pooled < 1 else 1.0
    low, high = confint_proportions_2indep(did_new, of_new, did, of, compare="diff", method="newcomb")
    before, after = did / of, did_new / of_new
    return Comparison("two shares (z)", before, after, after - before, float(low), float(high), float(p_value))


def means(control: Sequence[float] | np.ndarray, treated: Sequence[float] | np.ndarray) -> Comparison:
    """Compare two means with Welch's t-test, which does not ask for equal variances."""
    found = stats.ttest_ind(treated, control, equal_var=False)
    interval = found.confidence_interval()
    before, after = float(np.mean(control)), float(np.mean(treated))
    return Comparison(
        "means (Welch's t)", before, after, after - before, float(interval.low), float(interval.high),
        float(found.pvalue),
    )  # fmt: skip


def ranks(control: Sequence[float] | np.ndarray, treated: Sequence[float] | np.ndarray) -> Comparison:
    """Compare two samples by their ranks (Mann-Whitney), which single giants cannot turn over.

    The two columns hold medians. The difference is the chance that a treated value lies above one of the control,
    minus one half: 0 means that neither side tends to be larger.
    """
    found = stats.mannwhitneyu(treated, control)
    above = float(found.statistic) / (len(treated) * len(control))
    before, after = float(np.median(control)), float(np.median(treated))
    return Comparison("ranks (Mann-Whitney)", before, after, above - 0.5, nan, nan, float(found.pvalue))


def resampled(
    control: Sequence[float] | np.ndarray,
    treated: Sequence[float] | np.ndarray,
    statistic: Callable[..., np.ndarray] = np.mean,
    resamples: int = RESAMPLES,
    seed: int = settings.seed,
) -> Comparison:
    """The interval of a difference by the bootstrap, for any statistic: draw again from what was seen, many times.

    Args:
        control: values.
        treated: values.
        statistic: such as ``np.mean`` or ``np.median``; takes ``axis``.
        resamples: how many times.
        seed: of the draws.
    """

    def difference(new: np.ndarray, old: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(statistic(new, axis=axis) - statistic(old, axis=axis))

    samples = np.asarray(treated, float), np.asarray(control, float)
    drawn = stats.bootstrap(
        samples, difference, n_resamples=resamples, method="percentile", batch=100, rng=np.random.default_rng(seed)
    )
    low, high = drawn.confidence_interval
    before, after = (float(statistic(values, axis=-1)) for values in reversed(samples))
    name = f"{getattr(statistic, '__name__', 'statistic')} (bootstrap)"
    return Comparison(name, before, after, after - before, float(low), float(high), nan)


def guardrail(found: Comparison, most: float) -> Verdict:
    """Whether something that must not get worse did not: the whole interval of the difference has to say so.

    Args:
        found: of a figure that is better when it is lower, such as a share of errors.
        most: what the difference may be.

    Returns:
        ``kept`` when even the interval's upper end is no more, ``broken`` when even its lower end is more, and
        ``not shown`` in between: the test was too small to tell.
    """
    if found.high <= most:
        return "kept"
    return "broken" if found.low > most else "not shown"


def sample_ratio(counts: Sequence[int], weights: Sequence[float]) -> float:
    """How often chance makes a split this far from the planned one (chi-square); below 0.001 something is broken.

    Fabijan et al. 2019, "Diagnosing Sample Ratio Mismatch in Online Controlled Experiments", KDD.

    Args:
        counts: members per arm.
        weights: planned shares, relative to each other.
    """
    planned = np.asarray(weights, float) * sum(counts) / sum(weights)
    return float(stats.chisquare(counts, planned).pvalue)


# --- The tests themselves, tested -------------------------------------------------------------------


@dataclass(frozen=True)
class Simulated:
    """How often a test found a difference."""

    runs: int
    found: int

    @property
    def share(self) -> float:
        """Of the runs."""
        return self.found / self.runs

    @property
    def error(self) -> float:
        """Standard error of the share: a simulation is a sample as well."""
        return sqrt(self.share * (1 - self.share) / self.runs)


def simulate(
    experiment: Callable[[np.random.Generator], float], runs: int, *, alpha: float = ALPHA, seed: int = settings.seed
) -> Simulated:
    """Carry out an experiment many times.

    Args:
        experiment: draws both arms and returns the p-value of its test.
        runs: how many times.
        alpha: a p-value below counts as found.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    return Simulated(runs, sum(experiment(random) < alpha for _ in range(runs)))


def simulate_shares(base: float, lift: float, per_arm: int, runs: int) -> Simulated:
    """Tests of two shares with a known lift; a lift of 0 is an *A/A test*, in which all that is found is false."""

    def experiment(random: np.random.Generator) -> float:
        control, treated = random.binomial(per_arm, [base, base + lift]).tolist()
        return shares((control, per_arm), (treated, per_arm)).p_value

    return simulate(experiment, runs)
