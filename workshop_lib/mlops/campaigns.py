"""The shop's campaigns as an A/B test on business figures, and what is wrong with that.

Of a campaign the data knows who was sent it, what these and all other households spent before and during it, and who
redeemed its coupons. It does not know a coin that decided who was sent it. The shop chose, and it chose households
that spend much. So nothing here is an experiment, except where a split is drawn at random on purpose.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats

from workshop_lib import data
from workshop_lib.mlops.experiments import means

DAYS = 28
"""Looked at before a campaign, and from its first day on."""


def overview() -> pd.DataFrame:
    """One row per type of campaign: ``campaigns``, ``sent`` (a household counts once per campaign), ``redeemed`` (those
    of them that redeemed at least one of its coupons), ``share``.

    Raises:
        DataError: for a learner's own data, which has no campaigns.
    """
    sent, about, redemptions = data.find_source().campaigns()
    redeemed = redemptions[["campaign_id", "household_id"]].drop_duplicates().assign(redeemed=True)
    joined = sent.merge(redeemed, how="left").merge(about[["campaign_id", "campaign_type"]])
    table = joined.groupby("campaign_type").agg(
        campaigns=("campaign_id", "nunique"), sent=("household_id", "size"), redeemed=("redeemed", "count")
    )
    table.index = table.index.str.removeprefix("Type ")
    return table.rename_axis("type").assign(share=table["redeemed"].to_numpy() / table["sent"].to_numpy())


def households(campaign: int, days: int = DAYS) -> pd.DataFrame:
    """What each household spent around the first day of a campaign.

    Args:
        campaign: its number in the data.
        days: before the first day, and from it on.

    Returns:
        One row per household that bought something in the days before: ``sent`` (bool), ``before`` and ``during``
        (US dollars), ``change`` (during minus before), ``redeemed`` (bool: a coupon of this campaign).

    Raises:
        DataError: for a learner's own data, which has no campaigns.
        ValueError: for a campaign that the data does not have, or one too close to its ends.
    """
    sent, about, redemptions = data.find_source().campaigns()
    starts = pd.to_datetime(about.set_index("campaign_id")["start_date"])
    lines = data.load("transactions", ["household_id", "date", "revenue"])
    length = pd.Timedelta(days=days)
    usable = starts[starts.between(lines["date"].min() + length, lines["date"].max() - length)]
    if campaign not in usable.index:
        raise ValueError(f"Campaign {campaign}: choose one of {', '.join(map(str, sorted(usable.index)))}.")
    start = usable[campaign]
    spent = {}
    for name, first in (("before", start - length), ("during", start)):
        rows = lines[lines["date"].between(first, first + length, inclusive="left")]
        spent[name] = rows.groupby("household_id")["revenue"].sum()
    table = spent["before"].to_frame("before").join(spent["during"].rename("during")).fillna({"during": 0.0})
    mine = {name: frame.loc[frame["campaign_id"] == campaign, "household_id"] for name, frame in
            (("sent", sent), ("redeemed", redemptions))}  # fmt: skip
    return table.assign(
        sent=table.index.isin(mine["sent"]),
        change=table["during"] - table["before"],
        redeemed=table.index.isin(mine["redeemed"]),
    )


def compare(table: pd.DataFrame) -> pd.DataFrame:
    """Households that were sent the campaign against all others, in four ways.

    Args:
        table: of :func:`households`.

    Returns:
        One row per figure: ``before``, ``during``, ``change``, ``adjusted`` (see :func:`adjusted`), with the columns of
        :class:`~workshop_lib.mlops.experiments.Comparison`.
    """
    values = table.assign(adjusted=adjusted(table["during"].to_numpy(), table["before"].to_numpy()))
    old, new = values[~values["sent"]], values[values["sent"]]
    figures = ("before", "during", "change", "adjusted")
    return pd.DataFrame({name: means(old[name], new[name]).row() for name in figures}).T.drop(columns="test")


def adjusted(during: np.ndarray, before: np.ndarray) -> np.ndarray:
    """What was spent during the test, without the part that the time before explains.

    This is CUPED (Deng, Xu, Kohavi & Walker 2013, "Improving the Sensitivity of Online Controlled Experiments by
    Utilizing Pre-Experiment Data", WSDM): during minus slope times (before minus its mean). In a random split both
    sides spent the same before, so the mean of the difference stays and its noise shrinks. In a split that somebody
    chose, the difference itself changes, and not always to the truth.

    Args:
        during: values of all, both sides.
        before: the same of the time before.
    """
    return np.asarray(during - stats.linregress(before, during).slope * (before - before.mean()))


def coin(table: pd.DataFrame, lift: float, *, use_before: bool) -> Callable[[np.random.Generator], float]:
    """An experiment for :func:`workshop_lib.mlops.experiments.simulate`: real spending, and a split by a coin.

    Args:
        table: of :func:`households`; those that were sent the campaign are left out.
        lift: by which share the spending of one half is raised; 0 for an A/A test.
        use_before: whether to compare the :func:`adjusted` values in place of the plain ones.
    """
    before, during = (table.loc[~table["sent"], name].to_numpy() for name in ("before", "during"))

    def experiment(random: np.random.Generator) -> float:
        sent = random.permutation(len(during)) < len(during) // 2
        raised = during * np.where(sent, 1 + lift, 1.0)
        values = adjusted(raised, before) if use_before else raised
        return means(values[~sent], values[sent]).p_value

    return experiment
