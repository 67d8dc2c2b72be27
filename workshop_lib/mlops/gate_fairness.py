"""The gate *fairness*: does the churn model treat groups of households alike?

The forecaster knows no people, the churn model does: it decides who gets an offer. For each group of age and of income
the gate looks at shares (with fairlearn's ``MetricFrame``):

* *contacted*: households that the model wants to contact, of all in the group (demographic parity);
* *contacted in vain*: the same of those that stayed anyway (false positive rate);
* *found*: the same of those that left (true positive rate, equal opportunity).

The difference between the largest and the smallest share should be small. In small groups it is large by chance alone,
so it gets a confidence interval: Newcombe's for two independent shares, which joins two Wilson intervals (Newcombe
1998, "Interval estimation for the difference between independent proportions", method 10), with Bonferroni's correction
because the two groups were picked as the farthest apart of many. A difference that is too large beyond doubt fails. One
that is too large, but may be chance, is a question for a person.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from workshop_lib.mlops.gate_config import Fairness, Gates
from workshop_lib.mlops.gate_result import Finding, GateResult, Measurement, Status, judged
from workshop_lib.mlops.gates import Subject
from workshop_lib.predictive import churn
from workshop_lib.settings import settings

SHARES = {"contacted": selection_rate, "contacted in vain": false_positive_rate, "found": true_positive_rate}
CUTOFFS = 4
"""As many as it takes to hold out the same two as module 1 does."""
UNKNOWN = -1
"""What the churn table has where a household gave no age or income."""


@dataclass(frozen=True)
class Difference:
    """One share, compared between the groups of one attribute."""

    attribute: str
    share: str
    largest: str
    """Group with the largest share."""
    smallest: str
    value: float
    low: float
    high: float

    def status(self, allowed: float) -> Status:
        """What the gate makes of it."""
        if self.value <= allowed:
            return "passed"
        return "failed" if self.low > allowed else "review"

    def __str__(self) -> str:
        return (
            f"{self.share}, {self.attribute}: {self.value:.2f} between {self.largest} and {self.smallest}"
            f" (interval {self.low:.2f} to {self.high:.2f})"
        )


@functools.cache
def held_out() -> pd.DataFrame:
    """The churn table's held-out rows of households with age and income: the newest row of each household.

    One row each, because two rows of the same household are not independent.
    """
    _, later = churn.split(churn.load_table(CUTOFFS))
    known = later[(later["age"] != UNKNOWN) & (later["income"] != UNKNOWN)]
    return known.drop_duplicates("household_id", keep="last").reset_index(drop=True)


def grouped(values: pd.Series, lower_ends: tuple[float, ...]) -> pd.Series:
    """Names of the groups: ``35 to 54``, ``55 and more``.

    Args:
        values: lower ends of the households' own bands.
        lower_ends: of the groups, ascending.
    """
    ends = [*lower_ends, float("inf")]
    names = [f"{low:g} to {high - 1:g}" for low, high in pairwise(ends[:-1])]
    return pd.Series(pd.cut(values, ends, right=False, labels=[*names, f"{ends[-2]:g} and more"])).astype(str)


def by_group(table: pd.DataFrame, decided: np.ndarray, limits: Fairness, attribute: str) -> pd.DataFrame:
    """All shares of the groups of one attribute, with Wilson intervals.

    Args:
        table: rows of :func:`held_out`.
        decided: whether the model wants to contact the household, shape (n,).
        limits: groups and confidence.
        attribute: ``age`` or ``income``.

    Returns:
        Index ``share`` and ``group``; ``rows`` that the share is of, ``hits``, ``value``, ``low`` and ``high``.
    """
    groups = grouped(table[attribute], getattr(limits.groups, attribute))
    truth = table["lapsed"].to_numpy()
    frame = MetricFrame(metrics=SHARES, y_true=truth, y_pred=decided.astype(int), sensitive_features=groups)
    bases = {"contacted": np.ones(len(table), bool), "contacted in vain": truth == 0, "found": truth == 1}
    parts = []
    for share, base in bases.items():
        rows = groups[base].value_counts().reindex(frame.by_group.index, fill_value=0)
        hits = (frame.by_group[share].fillna(0) * rows).round().astype(int)
        low, high = proportion_confint(hits, rows.clip(lower=1), alpha=1 - limits.confidence, method="wilson")
        columns = {"rows": rows, "hits": hits, "value": frame.by_group[share], "low": low, "high": high}
        parts.append(pd.DataFrame(columns).assign(share=share))
    return pd.concat(parts).rename_axis("group").reset_index().set_index(["share", "group"])


def difference(shares: pd.DataFrame, limits: Fairness, attribute: str, share: str) -> Difference | None:
    """The two groups that lie farthest apart; None when fewer than two are large enough to compare.

    Args:
        shares: of :func:`by_group`.
        limits: smallest group, confidence.
        attribute: what the groups are of.
        share: which share.
    """
    large = shares.loc[share].query("rows >= @limits.minimum_rows")
    if len(large) < 2:
        return None
    top, bottom = (large.loc[name] for name in (large["value"].idxmax(), large["value"].idxmin()))
    pairs = len(large) * (len(large) - 1) / 2
    low, high = confint_proportions_2indep(
        *(int(one[field]) for one in (top, bottom) for field in ("hits", "rows")),
        compare="diff", method="newcomb", alpha=(1 - limits.confidence) / pairs,
    )  # fmt: skip
    value = float(top["value"] - bottom["value"])
    return Difference(attribute, share, str(top.name), str(bottom.name), value, float(low), float(high))


def contacts(model: object, table: pd.DataFrame) -> np.ndarray:
    """Whom a churn model wants to contact: probability from ``settings.churn_threshold`` up, shape (n,)."""
    probability = model.predict_proba(table[list(churn.FEATURES)])[:, 1]  # type: ignore[attr-defined]
    return np.asarray(probability >= settings.churn_threshold)


def judge(subject: Subject, limits: Gates) -> GateResult:
    """The gate: all differences of all shares, for age and income.

    A difference that needs a person is no measurement that met or missed its limit; it is a finding.
    """
    allowed, table = limits.fairness, held_out()
    decided = contacts(subject.churn if subject.churn is not None else churn.load_champion(), table)
    findings, measurements = [], []
    for attribute in type(allowed.groups).model_fields:
        shares = by_group(table, decided, allowed, attribute)
        found = {share: difference(shares, allowed, attribute, share) for share in SHARES}
        for share, one in found.items():
            status = one.status(allowed.difference) if one else "review"
            if one is None:
                text = f"{share}, {attribute}: the groups have fewer than {allowed.minimum_rows} households to compare"
                findings.append(Finding("unanswered", "groups", text))
            elif status != "passed":
                findings.append(Finding("unanswered" if status == "review" else "high", "groups", str(one)))
            if one is not None and status != "review":
                measurements.append(Measurement(f"{share}, {attribute}", one.value, "<=", allowed.difference))
    advice = [
        "Look at the households behind the difference. Is it a true difference in behaviour, or does the model go by"
        " age and income itself? Train without these columns and compare, and let somebody decide who knows the law."
    ]
    return judged("fairness", measurements, findings, advice)
