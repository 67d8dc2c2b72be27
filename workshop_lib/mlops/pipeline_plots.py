"""Plots of pipeline runs."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.patches import Patch

from workshop_lib.mlops.pipeline_run import FAILED, SUCCEEDED, PipelineRun
from workshop_lib.plots import GREEN, GREY, RED

_COLOURS = {SUCCEEDED: GREEN, FAILED: RED}


def plot_run(run: PipelineRun) -> None:
    """When each task of a run began and how long it took; tasks that did not run have no bar."""
    table = run.table()
    ran = table["status"].isin(list(_COLOURS))
    _, axes = plt.subplots(figsize=(9, 0.32 * len(table) + 1))
    begun, seconds = table["began"].where(ran, 0), table["seconds"].where(ran, 0)
    colours = [_COLOURS.get(status, GREY) for status in table["status"]]
    axes.barh(table.index, seconds.clip(lower=0.2).where(ran, 0), left=begun, color=colours)
    for place, status in enumerate(table["status"]):
        if not ran.iloc[place]:
            axes.text(0.3, place, {"None": "not run"}.get(status, status.lower()), va="center", color=GREY)
    axes.invert_yaxis()
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("seconds since the run began")
    axes.set_title(f"{run.name}: {run.status.lower()}")
    axes.legend(handles=[Patch(color=colour, label=status.lower()) for status, colour in _COLOURS.items()])
