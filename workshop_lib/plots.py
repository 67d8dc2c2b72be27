"""One look for every plot of the course: readable from the back row and by colour-blind people."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from IPython.core.getipython import get_ipython
from IPython.core.pylabtools import print_figure
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.text import Text

from workshop_lib.messages import translate
from workshop_lib.settings import settings

# After Okabe & Ito (2008), "Color Universal Design", a palette for every common colour blindness. Its lighter colours
# are darkened here to a contrast of 3 on white, which graphics need (WCAG 2.2, 1.4.11), and red to stay apart; with
# that, green and sky blue came closer to each other.
BLUE, ORANGE, GREEN, PINK, SKY, RED, OLIVE, GREY = (
    "#0072B2", "#C98600", "#009E73", "#CC79A7", "#2B9ED8", "#B23A00", "#6E6400", "#6B6B6B",
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
    if settings.lang != "en":
        _translate_texts()
    if (shell := get_ipython()) is not None:
        plt.switch_backend(mpl.get_backend())  # it registers a way to show pictures, at its first use: not after ours
        # In place of matplotlib's own: the same picture, and what it shows in words for who cannot see it.
        shell.display_formatter.formatters["image/png"].for_type(
            Figure, lambda figure: (print_figure(figure, "png", base64=True), {"alt": alt_text(figure)})
        )


KINDS = ("line plot", "bar chart", "scatter plot", "heat map", "plot", "diagram")
"""What an alternative text calls a plot."""
DRAWN = (
    "KV cache", "a quiet week", "again", "already known", "always valid", "another seed ({0})", "at work",
    "building", "buyers' time", "by chance", "clear", "complements", "degraded", "duplicate", "dynamic",
    "editors' time", "everybody", "folded", "frequency", "fully busy", "gain: {0}", "insider", "look once",
    "may be zero", "model", "money", "needed", "new", "no forecast", "nothing made ahead", "of the business API",
    "of the forecaster", "off by", "old", "one and a half times", "outsider", "over", "overhead", "popular",
    "random forest", "recency", "refused", "retention", "root mean square", "running", "same day last week",
    "standard deviations", "standardised", "static", "stock", "stop when significant", "substitutes", "test",
    "the usual {0}", "the week of Thanksgiving", "this week", "train", "training weeks", "trees",
    "two thirds of the capacity", "under", "unhandled", "unknown category", "validation", "waiting", "weights",
    "whole", "without the household", "worst found", "wrong", "{0} made ahead", "{0} of the rows",
)  # fmt: skip
"""Names of what is drawn that are rows or columns of a table: no call tells that a reader sees them."""


def alt_text(figure: Figure) -> str:
    """What a picture shows, in words: for each plot its kind, title, axes, and the names of what is drawn.

    It comes from what the plot is labelled with, so it is true of every run, and it speaks the learner's language. It
    becomes the picture's ``alt`` in every export to HTML (https://www.w3.org/WAI/tutorials/images/complex/).
    """
    told = [str(title.get_text())] if (title := getattr(figure, "_suptitle", None)) else []
    return " ".join(told + [text for axis in figure.axes if (text := _describe(axis))])


def _describe(axis: Axes) -> str:
    """One plot, or a drawing by its texts; empty for a bar of colours and for axes that hold nothing."""
    if hasattr(axis, "_colorbar"):
        return ""
    if not axis.has_data():
        words = [" ".join(text.get_text().split()) for text in axis.texts]
        return f"{translate(KINDS[-1]).capitalize()}: {'; '.join(filter(None, words))}." if any(words) else ""
    scattered = any(isinstance(one, PathCollection) for one in axis.collections)
    meshed = axis.images or any(isinstance(one, QuadMesh) for one in axis.collections)
    lines = [line for line in axis.get_lines() if np.size(line.get_xdata()) > 2]
    found = (bool(lines), bool(axis.patches) and not lines, scattered and not lines, bool(meshed), True)
    kind = next(name for name, is_it in zip(KINDS, found, strict=False) if is_it)
    title = next((text for side in ("left", "center", "right") if (text := axis.get_title(loc=side))), "")
    names = [translate(str(text)) for text in axis.get_legend_handles_labels()[1]]
    parts = [
        translate(kind).capitalize() + (f": {title}" if title else ""),
        *(f"{translate('across')}: {text}" for text in [axis.get_xlabel()] if text),
        *(f"{translate('up')}: {text}" for text in [axis.get_ylabel()] if text),
        *([f"{translate('drawn')}: {', '.join(dict.fromkeys(names))}"] if names else []),
    ]
    return "; ".join(parts).replace("\n", " ") + "."


def _translate_texts() -> None:
    """Let every text of a picture be looked up in the catalogue where matplotlib sets it.

    Code cells are the same in all editions, so their titles and labels are English. All of them pass through here.
    """
    Text.set_text = _set_text  # type: ignore[method-assign]


_set_untranslated = Text.set_text


def _set_text(self: Text, s: object) -> None:
    _set_untranslated(self, translate(s) if isinstance(s, str) else s)
