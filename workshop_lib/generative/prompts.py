"""Prompts as files: named, versioned, with declared variables, rendered so that no mistake goes unnoticed.

    prompt = load("product_description.few_shot")
    reply = llm.chat(prompt.render(facts={"product": "green olives"}), **prompt.sampling)

A template is a YAML file ``<name>.v<version>.yaml`` in ``2-generative/prompts``. Its texts are Jinja2 templates.
An answer can be traced to the prompt that made it only when a template never changes: what is improved becomes
the next version, in a new file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml
from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, UndefinedError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from workshop_lib.settings import ROOT

FOLDER = ROOT / "2-generative" / "prompts"

Purpose = Literal["product_description", "recommendation", "customer_summary", "market_summary"]
Variant = Literal["zero_shot", "few_shot", "step_by_step"]
Message = dict[str, str]

# Sandboxed and immutable: a template is a text, it may not reach into Python or change what it is given.
_JINJA = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


class PromptError(ValueError):
    """A prompt cannot be used; the message names the file and the field or the variable."""


class Example(BaseModel):
    """One solved case of a few-shot prompt: variables as the user would give them, and the answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    variables: dict[str, Any]
    answer: str = Field(min_length=1)


class Sampling(BaseModel):
    """How the answer is drawn; what is not set is left to the server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_tokens: int = Field(gt=0)
    temperature: float = Field(0, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    stop: list[str] | None = Field(None, min_length=1)
    seed: int | None = None


class Prompt(BaseModel):
    """A template as its file declares it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z_]+(\.[a-z_]+)?$")
    version: int = Field(ge=1)
    purpose: Purpose
    variant: Variant
    description: str = Field(min_length=1)
    """Why it exists, and what changed since the version before."""
    variables: dict[str, str] = Field(min_length=1)
    """Name and meaning of each value that :meth:`render` needs."""
    system: str = ""
    user: str = Field(min_length=1)
    examples: list[Example] = []
    parameters: Sampling = Field(alias="sampling")

    _file: str = PrivateAttr("")

    @property
    def file(self) -> str:
        """Name of the file it was read from."""
        return self._file

    @property
    def sampling(self) -> dict[str, Any]:
        """Sampling parameters for :meth:`~workshop_lib.generative.client.LLM.chat`."""
        return self.parameters.model_dump(exclude_none=True)

    def render(self, **values: object) -> list[Message]:
        """The conversation to send: system text, each example as question and answer, the question.

        Args:
            values: one for every declared variable.

        Raises:
            PromptError: naming a variable that is missing, unknown or lacks a part that the template uses.
        """
        conversation = [{"role": "system", "content": self._fill("system", values)}] if self.system else []
        for number, example in enumerate(self.examples, start=1):
            question = self._fill("user", example.variables, where=f"examples.{number}: ")
            conversation += [
                {"role": "user", "content": question},
                {"role": "assistant", "content": example.answer.strip()},
            ]
        return [*conversation, {"role": "user", "content": self._fill("user", values)}]

    def _fill(self, field: str, values: Mapping[str, object], where: str = "") -> str:
        self._check_names(values, where)
        try:
            return _JINJA.from_string(getattr(self, field)).render(values).strip()
        except UndefinedError as error:
            raise PromptError(f"{self.file}: {where}{field}: {error.message}.") from error
        except (TemplateError, TypeError) as error:
            raise PromptError(f"{self.file}: {where}{field} cannot be rendered: {error}.") from error

    def _check_names(self, values: Mapping[str, object], where: str) -> None:
        problems = [
            f"variable {', '.join(sorted(names))} is {problem}"
            for problem, names in (
                ("missing", self.variables.keys() - values.keys()),
                ("unknown", values.keys() - self.variables.keys()),
            )
            if names
        ]
        if problems:
            declared = ", ".join(f"{name} ({meaning})" for name, meaning in self.variables.items())
            raise PromptError(f"{self.file}: {where}{'; '.join(problems)}. It takes: {declared}.")

    def _check_texts(self) -> None:
        """Compare the variables of the texts with the declared ones, and render every example once."""
        used: set[str] = set()
        for field in ("system", "user"):
            try:
                used |= meta.find_undeclared_variables(_JINJA.parse(getattr(self, field)))
            except TemplateSyntaxError as error:
                raise PromptError(f"{self.file}: {field}, line {error.lineno}: {error.message}.") from error
        for problem, names in (
            ("used but not declared under variables", used - self.variables.keys()),
            ("declared but never used", self.variables.keys() - used),
        ):
            if names:
                raise PromptError(f"{self.file}: variable {', '.join(sorted(names))} is {problem}.")
        if (self.variant == "few_shot") != bool(self.examples):
            raise PromptError(f"{self.file}: examples: a few_shot prompt has some, the other variants have none.")
        for number, example in enumerate(self.examples, start=1):
            self._fill("user", example.variables, where=f"examples.{number}: ")


def read(path: Path) -> Prompt:
    """Read one template file and check all that can be checked before it is used.

    Raises:
        PromptError: naming file and field: no YAML, an unknown or missing field, a value of the wrong kind, a variable
            that is used but not declared or the other way round, an example that does not fit, a name or version
            that differs from the file's name.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PromptError(f"{path.name}: cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PromptError(f"{path.name}: is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise PromptError(f"{path.name}: has no fields; it needs name, version, purpose and so on.")
    try:
        prompt = Prompt.model_validate(content)
    except ValidationError as error:
        lines = (f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise PromptError(f"{path.name}: {'; '.join(lines)}.") from error
    prompt._file = path.name
    if path.name != f"{prompt.name}.v{prompt.version}.yaml":
        raise PromptError(f"{path.name}: name and version say {prompt.name}.v{prompt.version}.yaml.")
    prompt._check_texts()
    return prompt


def load(name: str, version: int | None = None, folder: Path = FOLDER) -> Prompt:
    """A prompt by its name, such as ``product_description.few_shot``; the latest version unless one is named.

    Raises:
        PromptError: when there is none of that name or version (the message lists what there is), or its file is
            not usable.
    """
    versions = {int(match[2]): path for match, path in _files(folder) if match[1] == name}
    if not versions:
        names = sorted({match[1] for match, _ in _files(folder)})
        raise PromptError(f"There is no prompt {name} in {folder.name}; there are: {', '.join(names) or 'none'}.")
    if version is not None and version not in versions:
        known = ", ".join(map(str, sorted(versions)))
        raise PromptError(f"Prompt {name} has no version {version}; it has {known}.")
    return read(versions[version if version is not None else max(versions)])


def load_all(folder: Path = FOLDER) -> list[Prompt]:
    """Every version of every prompt, by name and version.

    Raises:
        PromptError: when a file is not usable or its name is not ``<name>.v<version>.yaml``.
    """
    known = {path: (match[1], int(match[2])) for match, path in _files(folder)}
    for path in folder.glob("*.y*ml"):
        if path not in known:
            raise PromptError(f"{path.name}: a prompt's file is called <name>.v<version>.yaml.")
    return [read(path) for path in sorted(known, key=lambda path: known[path])]


def as_table(prompts: Iterable[Prompt] | None = None) -> pd.DataFrame:
    """One row per prompt and version: purpose, variant, variables, examples, longest answer, description."""
    rows = [
        {
            "name": prompt.name,
            "version": prompt.version,
            "purpose": prompt.purpose,
            "variant": prompt.variant,
            "variables": ", ".join(prompt.variables),
            "examples": len(prompt.examples),
            "max_tokens": prompt.parameters.max_tokens,
            "description": prompt.description.strip(),
        }
        for prompt in (load_all() if prompts is None else prompts)
    ]
    return pd.DataFrame(rows)


def _files(folder: Path) -> list[tuple[re.Match[str], Path]]:
    matches = ((re.fullmatch(r"(.+)\.v(\d+)\.yaml", path.name), path) for path in folder.glob("*.yaml"))
    return [(match, path) for match, path in matches if match]
