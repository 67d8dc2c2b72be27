"""Plots of the notebook on quality gates."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from workshop_lib.plots import BLUE, GREY


def plot_groups(shares: Mapping[str, pd.DataFrame]) -> Figure:
    """The share of each group with its interval, a panel per share; groups of one attribute stand together.

    Args:
        shares: per attribute what :func:`workshop_lib.mlops.gate_fairness.by_group` returned.
    """
    names = list(dict.fromkeys(name for table in shares.values() for name in table.index.get_level_values("share")))
    figure, panels = plt.subplots(1, len(names), sharey=True, figsize=(9, 3.8))
    for panel, name in zip(panels, names, strict=True):
        rows = pd.concat({attribute: table.loc[name] for attribute, table in shares.items()})
        labels = [f"{attribute} {group}" for attribute, group in rows.index]
        places = range(len(rows), 0, -1)
        panel.hlines(places, rows["low"], rows["high"], color=GREY)
        panel.plot(rows["value"], places, "o", color=BLUE)
        panel.set(title=name, xlim=(-0.02, 1.02), yticks=list(places), yticklabels=labels, xlabel="share of its group")
        for place, count in zip(places, rows["rows"], strict=True):
            panel.annotate(f"{count}", (1.0, place), ha="right", va="bottom", fontsize=8, color=GREY)
    return figure
