"""The quiz at the end of each module: situations, options, and a reason for every choice.

    quiz("3")                     # the questions
    quiz("3", "d b a c d a")      # which letters are right, and why

The questions stand in ``quizzes.yaml``. An answer that is wrong, or in no form that can be read, never raises: it is
told and the notebook goes on.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from workshop_lib.messages import translate

FILE = Path(__file__).with_name("quizzes.yaml")
LETTERS = "abcd"
WORDS = ("right", "not yet", "{0} of {1} right", "Answer with {0} letters, one per question, such as {1}.")
"""What a quiz says itself, beside its questions."""
Text = Annotated[str, Field(pattern=r"\S")]


class QuizError(ValueError):
    """The questions cannot be used, or there is no quiz of that name; the message says what is wrong."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Option(_Model):
    """Something that may be chosen."""

    text: Text
    why: Text
    """For whoever has chosen it."""
    right: bool = False


class Question(_Model):
    """A question, of whose options exactly one is right."""

    question: Text
    options: tuple[Option, ...] = Field(min_length=3, max_length=len(LETTERS))

    @model_validator(mode="after")
    def _has_one_right_option(self) -> Question:
        if sum(option.right for option in self.options) != 1:
            raise ValueError("exactly one option with right: true")
        return self


def load(path: Path = FILE) -> dict[str, tuple[Question, ...]]:
    """Read and check the quizzes.

    Returns:
        The questions by the number of their module.

    Raises:
        QuizError: when the file is no YAML, or an entry is missing or not usable; the message names the entry.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TypeAdapter(dict[str, tuple[Question, ...]]).validate_python(content)
    except yaml.YAMLError as error:
        raise QuizError(f"{path.name} is no YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        problems = (f"{', '.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise QuizError(f"{path.name}: {'; '.join(problems)}") from None


@cache
def course() -> dict[str, tuple[Question, ...]]:
    """The course's own quizzes, read once."""
    return load()


def texts() -> Iterator[str]:
    """Every text of the quizzes that a learner sees, for :mod:`workshop_lib.shown_texts`."""
    for questions in course().values():
        for question in questions:
            yield question.question
            for option in question.options:
                yield from (option.text, option.why)


@dataclass(frozen=True)
class Quiz:
    """The questions of a module, with what was answered."""

    questions: tuple[Question, ...]
    letters: str = ""
    """One per question; empty before they are answered."""
    problem: str = ""
    """Why an answer cannot be read."""

    @property
    def right(self) -> int:
        """How many letters are right."""
        return sum(option.right for _, option in self._chosen())

    def _chosen(self) -> list[tuple[Question, Option]]:
        pairs = zip(self.questions, self.letters, strict=False)
        return [(question, question.options[LETTERS.index(letter)]) for question, letter in pairs]

    def _verdicts(self) -> list[str]:
        return [
            f"{translate('right' if option.right else 'not yet')}. {translate(option.why)}"
            for _, option in self._chosen()
        ]

    def _summary(self) -> str:
        return self.problem or translate(f"{self.right} of {len(self.questions)} right")

    def __repr__(self) -> str:
        if self.problem:
            return self.problem
        if self.letters:
            lines = [f"{number}. {verdict}" for number, verdict in enumerate(self._verdicts(), start=1)]
            return "\n".join([*lines, self._summary()])
        lines = []
        for number, question in enumerate(self.questions, start=1):
            lines.append(f"{number}. {translate(question.question)}")
            lines += [f"   {letter}) {translate(o.text)}" for letter, o in zip(LETTERS, question.options, strict=False)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        if self.problem:
            return html.escape(self.problem)
        if self.letters:
            items = "".join(
                f"<li><b>{letter}</b>: {html.escape(verdict)}</li>"
                for letter, verdict in zip(self.letters, self._verdicts(), strict=True)
            )
            return f"<ol>{items}</ol><b>{html.escape(self._summary())}</b>"
        items = "".join(
            f"<li>{html.escape(translate(question.question))}"
            f'<ol type="a">{"".join(f"<li>{html.escape(translate(o.text))}</li>" for o in question.options)}</ol></li>'
            for question in self.questions
        )
        return f"<ol>{items}</ol>"


def quiz(module: str, answers: object = "") -> Quiz:
    """The quiz of a module, or what is to be said of its answers.

    Args:
        module: its number, such as ``"3"``.
        answers: a letter per question in one text, in any spacing; nothing shows the questions.

    Raises:
        QuizError: when there is no quiz of that module.
    """
    if module not in course():
        raise QuizError(f"There is no quiz {module!r}; known ones: {', '.join(course())}.")
    questions = course()[module]
    if answers == "":
        return Quiz(questions)
    letters = "".join(sign for sign in str(answers).lower() if sign.isalnum()) if isinstance(answers, str) else ""
    options = [LETTERS[: len(question.options)] for question in questions]
    if len(letters) == len(questions) and all(one in some for one, some in zip(letters, options, strict=True)):
        return Quiz(questions, letters)
    example = repr(" ".join(LETTERS[place % 3] for place in range(len(questions))))
    return Quiz(
        questions,
        problem=translate(f"Answer with {len(questions)} letters, one per question, such as {example}."),
    )
