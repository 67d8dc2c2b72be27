"""The questions about a team's MLOps: read from ``maturity.yaml`` and checked.

What is done with them stands in :mod:`workshop_lib.maturity`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

FILE = Path(__file__).with_name("maturity.yaml")
HIGHEST = 3
UNANSWERED = "No answer."
"""Why an area is at level 0 when nobody has answered."""
Text = Annotated[str, Field(pattern=r"\S")]


class MaturityError(ValueError):
    """The questions or the answers cannot be used; the message names what is wrong."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Evidence(_Model):
    """What this system answers, and what shows it."""

    level: int = Field(ge=0, le=HIGHEST)
    files: tuple[str, ...] = ()
    """Paths relative to the checkout."""
    checkpoints: tuple[str, ...] = ()
    """Keys on the scorecard."""
    limit: str = ""
    """What keeps it from the highest level; empty there."""

    @model_validator(mode="after")
    def _is_honest(self) -> Evidence:
        if not (self.files or self.checkpoints):
            raise ValueError("at least one file or checkpoint as a proof")
        if (self.level == HIGHEST) == bool(self.limit.strip()):
            raise ValueError(f"a limit below level {HIGHEST}, and none at it")
        outside = [
            name for name in self.files if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts
        ]
        if outside:
            raise ValueError(f"paths within the checkout, not {', '.join(outside)}")
        return self


class Question(_Model):
    """One question, with what each level means."""

    id: str = Field(pattern=r"^[a-z]\w*$")
    area: str
    text: Text
    levels: tuple[Text, Text, Text, Text]
    evidence: Evidence


class Questionnaire(_Model):
    """The content of the file."""

    levels: tuple[Text, Text, Text, Text]
    """What the levels are called."""
    areas: dict[str, Text]
    """What each area is about."""
    questions: tuple[Question, ...]

    @model_validator(mode="after")
    def _fits_together(self) -> Questionnaire:
        ids = [question.id for question in self.questions]
        used = {question.area for question in self.questions}
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"every id once, but there are several of {', '.join(twice)}")
        if used != set(self.areas):
            raise ValueError(
                f"questions for the areas that are listed, but {', '.join(sorted(used ^ set(self.areas)))}"
            )
        return self

    def by_id(self) -> dict[str, Question]:
        """The questions by their ids, in the order of the file."""
        return {question.id: question for question in self.questions}


def load(path: Path = FILE) -> Questionnaire:
    """Read and check the questions.

    Raises:
        MaturityError: when the file is no YAML, or an entry is missing or not usable; the message names the entry.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Questionnaire.model_validate(content)
    except yaml.YAMLError as error:
        raise MaturityError(f"{path.name} is no YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise MaturityError(f"{path.name}: " + "; ".join(_explain(one, content) for one in error.errors())) from None


def _explain(problem: Any, content: Any) -> str:
    place = list(problem["loc"])
    if len(place) > 1 and place[0] == "questions" and isinstance(entry := content["questions"][place[1]], dict):
        place[:2] = [f"question {entry.get('id', place[1] + 1)!r}"]
    where = ", ".join(str(part) for part in place) or "the whole file"
    return f"{where}: {problem['msg'].removeprefix('Value error, needed: ').removeprefix('Value error, ')}"


@cache
def course() -> Questionnaire:
    """The course's own questions, read once."""
    return load()


def texts() -> Iterator[str]:
    """Every text of the questions that a learner sees, for :mod:`workshop_lib.catalogues`."""
    own = course()
    yield from (UNANSWERED, *own.levels, *own.areas, *own.areas.values())
    for question in own.questions:
        yield from (question.text, *question.levels, question.evidence.limit)
