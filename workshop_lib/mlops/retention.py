"""What the churn model is worth: whom it would have contacted at cutoffs that it never saw, and what that brings.

Who would have left is known. Whether a letter would have kept them is not: that is the *uplift*, an assumption here
(Gutierrez and Gérardy 2017, "Causal inference and uplift modelling", PMLR 67). So every figure is a product of a
measured part and an assumed one, and the assumed one is varied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import average_precision_score

from workshop_lib.mlops.assumptions import Values
from workshop_lib.predictive import churn
from workshop_lib.settings import settings

MODEL, RULE, EVERYBODY = "churn model", churn.BASELINE.family, "everybody"
ROUNDS_PER_YEAR = 365 / churn.HORIZON_DAYS
RESAMPLES = 1000


@dataclass(frozen=True)
class Scored:
    """Held-out households with what happened and what was said about them."""

    household: np.ndarray
    """Its number, shape (rows,); a household has a row per cutoff."""
    lapsed: np.ndarray
    """0 or 1, shape (rows,)."""
    probability: Mapping[str, np.ndarray]
    """By policy, shape (rows,)."""
    cutoffs: int

    def contacted(self, policy: str, campaign: churn.Campaign) -> np.ndarray:
        """Who is contacted: from the break-even probability on; a probability of 1 always. Shape (rows,)."""
        return self.probability[policy] >= min(campaign.break_even, 1.0)

    def gains(self, policy: str, campaign: churn.Campaign) -> np.ndarray:
        """Expected dollars per row, shape (rows,)."""
        kept = self.lapsed * campaign.success_rate * campaign.saved_value
        return np.where(self.contacted(policy, campaign), kept - campaign.contact_cost, 0.0)

    @property
    def per_year(self) -> float:
        """What turns a sum over all rows into a sum per year."""
        return ROUNDS_PER_YEAR / self.cutoffs


def score() -> Scored:
    """The held-out cutoffs, scored by the champion and by recency, frequency and money alone."""
    train, held_out = churn.split(churn.load_table())
    names = list(churn.FEATURES)
    rule = churn.BASELINE.build().fit(train[names], train["lapsed"])
    models = {MODEL: churn.load_champion(), RULE: rule}
    probability = {name: model.predict_proba(held_out[names])[:, 1].astype(float) for name, model in models.items()}
    return Scored(
        held_out["household_id"].to_numpy(),
        held_out["lapsed"].to_numpy(),
        {**probability, EVERYBODY: np.ones(len(held_out))},
        held_out["cutoff"].nunique(),
    )


def campaign_of(values: Values) -> churn.Campaign:
    """The assumptions as module 1 knows them."""
    return churn.Campaign(values["contact_cost"], values["saved_value"], values["success_rate"])


def yearly_gain(scored: Scored, values: Values, random: np.random.Generator | None = None) -> float:
    """Dollars per year that the model brings beyond the rule of marketing, in one shop.

    Args:
        scored: the households.
        values: the assumptions.
        random: draws the households anew, with replacement; without it each counts once.
    """
    campaign = campaign_of(values)
    more = scored.gains(MODEL, campaign) - scored.gains(RULE, campaign)
    if random is not None:
        per_household = _per_household(scored, more)
        more = per_household[random.integers(len(per_household), size=len(per_household))]
    return float(more.sum()) * scored.per_year


def compare(scored: Scored, values: Values, seed: int = settings.seed) -> pd.DataFrame:
    """A row per policy: ``contacted`` and ``leavers reached`` per round, ``dollars per year`` with a 95% interval.

    The last row is the model's lead over the rule. The interval comes from a bootstrap of whole households.
    """
    campaign = campaign_of(values)
    gains = {policy: scored.gains(policy, campaign) for policy in scored.probability}
    lead = f"{MODEL} minus {RULE}"
    gains[lead] = gains[MODEL] - gains[RULE]
    drawn = stats.bootstrap(
        (np.stack([_per_household(scored, gain) for gain in gains.values()], axis=1),), np.sum, axis=0,
        n_resamples=RESAMPLES, method="percentile", batch=100, rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    contacted = {policy: scored.contacted(policy, campaign) for policy in scored.probability}
    return pd.DataFrame(
        {
            "contacted": {policy: chosen.sum() / scored.cutoffs for policy, chosen in contacted.items()},
            "leavers reached": {
                policy: scored.lapsed[chosen].sum() / scored.lapsed.sum() for policy, chosen in contacted.items()
            },
            "dollars per year": {policy: gain.sum() * scored.per_year for policy, gain in gains.items()},
            "low": dict(zip(gains, drawn.low * scored.per_year, strict=True)),
            "high": dict(zip(gains, drawn.high * scored.per_year, strict=True)),
        }
    ).loc[list(gains)]


def by_success(scored: Scored, values: Values, rates: Sequence[float]) -> pd.DataFrame:
    """Dollars per year of each policy (columns) for several success rates (rows)."""
    rows = {}
    for rate in rates:
        campaign = campaign_of({**values, "success_rate": rate})
        rows[rate] = {policy: scored.gains(policy, campaign).sum() * scored.per_year for policy in scored.probability}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("success rate")


def ranking(scored: Scored) -> dict[str, float]:
    """Average precision of each policy; of contacting everybody it is the share that leaves."""
    return {
        policy: float(average_precision_score(scored.lapsed, probability))
        for policy, probability in scored.probability.items()
    }


def _per_household(scored: Scored, gain: np.ndarray) -> np.ndarray:
    """The sum of each household's rows, shape (households,)."""
    _, position = np.unique(scored.household, return_inverse=True)
    return np.bincount(position, gain)
