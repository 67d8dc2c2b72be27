"""One look for every plot of the course: readable from the back row and by colour-blind people."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
from cycler import cycler

# Okabe & Ito (2008), "Color Universal Design": distinguishable with every common colour blindness.
BLUE, ORANGE, GREEN, PINK, SKY, RED, YELLOW, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#6B6B6B",
)  # fmt: skip


def use_course_style() -> None:
    """Set matplotlib's defaults for the notebook: size, fonts, grid and palette."""
    plt.rcParams.update(
        {
            "figure.figsize": (9, 3.6),
            "figure.dpi": 90,
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, PINK, SKY, RED, GREY]),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.grid.axis": "y",
            "axes.titlelocation": "left",
            "axes.titlesize": 12,
            "grid.color": "#E3E3E3",
            "axes.axisbelow": True,
            "legend.frameon": False,
            "lines.linewidth": 1.6,
            "savefig.dpi": 90,
        }
    )
    # Months and days as "Nov 2017" need no rotation and no overlap.
    mpl.rcParams["date.converter"] = "concise"
