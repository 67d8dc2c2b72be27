"""How mature a team's MLOps is: questions, an assessment per area, and this system's own answers with their proofs.

    levels = assess({"data_quality": 1, "experiments": 2})     # what is not answered is level 0
    overall(levels)                                            # the lowest area
    this_system()                                              # a row per proof: is it there, is it met?

The questions stand in ``maturity.yaml``. The level of an area is that of its weakest answer: a team that tracks every
experiment and copies models to the server by hand still releases by hand. A mean would hide that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from workshop_lib.checkpoints import read_scorecard
from workshop_lib.maturity_questions import HIGHEST, UNANSWERED, MaturityError, Questionnaire, course
from workshop_lib.messages import translate
from workshop_lib.plots import BLUE, GREY, ORANGE
from workshop_lib.settings import MODULES, ROOT

THERE, MISSING, MET, MISSED, NOT_RUN = "there", "missing", "met", "missed", "not run yet"
"""What can be said of a proof. Only :data:`THERE` and :data:`MET` count."""


def questions(area: str | None = None) -> pd.DataFrame:
    """The questions as a table: the id as index, then the text and a column per level.

    Args:
        area: only its questions; all by default.

    Raises:
        MaturityError: when there is no such area.
    """
    if area is not None and area not in course().areas:
        raise MaturityError(f"There is no area {area!r}. The areas are: {', '.join(course().areas)}.")
    rows = {
        one.id: [translate(text) for text in (one.text, *one.levels)]
        for one in course().questions
        if area in (None, one.area)
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["question", *range(HIGHEST + 1)])


def assess(answers: Mapping[str, int], asked: Questionnaire | None = None) -> pd.DataFrame:
    """The level of each area: that of its weakest answer.

    Args:
        answers: level 0 to 3 by the id of the question. A question without an answer counts as level 0: what nobody
            knows, nobody does.
        asked: other questions than the course's.

    Returns:
        A row per area, with ``level``, ``weakest`` (ids of the questions that hold it there) and ``why`` (the first
        of them and what its answer means).

    Raises:
        MaturityError: for an id that is no question, and for a level that is no whole number from 0 to 3.
    """
    asked = asked or course()
    known = asked.by_id()
    if unknown := sorted(map(str, set(answers) - set(known))):
        raise MaturityError(f"No question has the id {', '.join(unknown)}. The ids are: {', '.join(known)}.")
    for name, level in answers.items():
        if isinstance(level, bool) or level not in range(HIGHEST + 1):
            raise MaturityError(f"{name}: a level is 0, 1, 2 or {HIGHEST}, not {level!r}.")
    rows = {}
    for area in asked.areas:
        given = {one.id: int(answers.get(one.id, 0)) for one in asked.questions if one.area == area}
        level = min(given.values())
        weakest = [name for name in given if given[name] == level]
        first = known[weakest[0]]
        said = first.levels[level] if first.id in answers else UNANSWERED
        rows[area] = {
            "level": level, "weakest": ", ".join(weakest), "why": f"{translate(first.text)} {translate(said)}"
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("area")


def overall(levels: pd.DataFrame) -> int:
    """The level of a team: that of its lowest area in a table of :func:`assess`."""
    return int(levels["level"].min())


def system_answers() -> dict[str, int]:
    """What this system answers to each question, as :func:`assess` takes it."""
    return {one.id: one.evidence.level for one in course().questions}


def gaps() -> pd.DataFrame:
    """The answers of this system below the highest level, and what is missing there."""
    below = [one for one in course().questions if one.evidence.level < HIGHEST]
    rows = {one.id: {"level": one.evidence.level, "missing": translate(one.evidence.limit)} for one in below}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["level", "missing"])


def this_system(asked: Questionnaire | None = None, root: Path = ROOT, scorecard: Path | None = None) -> pd.DataFrame:
    """Every answer of this system with its proofs.

    Args:
        asked: other questions than the course's.
        root: where the files of the proofs are looked for.
        scorecard: the scorecard file; the default is the one of the settings.

    Returns:
        A row per proof: ``area``, ``question``, ``level``, ``kind`` (file or checkpoint), ``proof``, ``state``
        (:data:`THERE` or :data:`MISSING`; :data:`MET`, :data:`MISSED` or :data:`NOT_RUN`) and ``counts``. What
        was not run yet proves nothing.

    Raises:
        ScorecardError: when the scorecard cannot be read.
    """
    met = {str(record["id"]): bool(record["met"]) for record in read_scorecard(scorecard)}
    rows = []
    for one in (asked or course()).questions:
        found = [("file", name, THERE if (root / name).is_file() else MISSING) for name in one.evidence.files]
        for key in one.evidence.checkpoints:
            found.append(("checkpoint", key, NOT_RUN if key not in met else MET if met[key] else MISSED))
        rows += [(one.area, one.id, one.evidence.level, *proof, proof[2] in (THERE, MET)) for proof in found]
    return pd.DataFrame(rows, columns=["area", "question", "level", "kind", "proof", "state", "counts"])


_KEY = re.compile(r"\b(?:at_least|at_most|equals)\(\s*\"([\w.]+)\"")


def checkpoint_keys(root: Path = ROOT) -> set[str]:
    """Keys of all conditions that stand as plain text in a checkpoint of a notebook."""
    keys: set[str] = set()
    for path in (path for module in MODULES for path in (root / module).rglob("*.ipynb")):
        if not any(part.startswith(".") for part in path.relative_to(root).parts):
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
                keys.update(_KEY.findall("".join(cell["source"])) if cell["cell_type"] == "code" else ())
    return keys


def plot_maturity(team: pd.DataFrame, system: pd.DataFrame) -> Figure:
    """A dot per area for a team and for this system, on one scale from level 0 to level 3.

    Args:
        team: from :func:`assess`.
        system: likewise, with the same areas.

    Raises:
        MaturityError: when the two tables have other areas.
    """
    if list(team.index) != list(system.index):
        raise MaturityError("The two assessments have other areas.")
    places = np.arange(len(team))[::-1]
    figure, axes = plt.subplots(figsize=(8, 0.45 * len(team) + 1.2))
    axes.hlines(places, team["level"], system["level"], color=GREY, linewidth=1)
    # Shape as well as colour, and two heights, so that equal levels do not hide each other.
    axes.scatter(team["level"], places + 0.12, s=70, color=ORANGE, marker="o", label="team", zorder=3)
    axes.scatter(system["level"], places - 0.12, s=70, color=BLUE, marker="D", label="this system", zorder=3)
    names = [f"{level}\n{translate(name)}" for level, name in enumerate(course().levels)]
    axes.set_xticks(range(HIGHEST + 1), names)
    axes.set_yticks(places, list(team.index))
    axes.set(xlim=(-0.3, HIGHEST + 0.3), ylim=(-0.6, len(team) - 0.4), title="Level of each area: its weakest answer")
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside right upper")
    return figure
