"""Which texts the library and the code cells show to a reader: found in the code, for the catalogue of messages.

    shown_texts()        # {"units sold": "1-predictive/notebooks/01_data_exploration.ipynb", ...}

Shown are titles, axes and labels of plots, checkpoints and their conditions, hints of exercises, the self-assessment,
and what ``./workshop`` prints. A text that code puts together stands here with gaps: see :mod:`workshop_lib.messages`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import nbformat

from workshop_lib.messages import GAP
from workshop_lib.notebooks import find_notebooks
from workshop_lib.settings import ROOT

_SHOWN_BY = {
    "title", "xlabel", "ylabel", "label", "set_title", "set_xlabel", "set_ylabel", "suptitle", "annotate", "text",
    "supxlabel", "supylabel", "set_xticklabels", "set_yticklabels", "Rectangle", "legend", "colorbar_label",
}  # fmt: skip
"""Keywords and functions of matplotlib that take a text which a reader sees."""
_WORDS = re.compile(r"[A-Za-z]{2}")


@cache
def shown_texts() -> dict[str, str]:
    """All texts that are shown, each with the first place that shows it."""
    found: dict[str, str] = {}
    for place, text in _all():
        if _WORDS.search(GAP.sub("", text)):
            found.setdefault(text, place)
    return found


def _all() -> Iterator[tuple[str, str]]:
    from workshop_lib import checkpoints, console, exercises, maturity_questions, plots, quizzes, teaching

    yield from (("checkpoint", word) for word in checkpoints.WORDS)
    yield from (("exercise", word) for word in exercises.WORDS)
    for number, exercise in exercises.all_exercises().items():
        yield from (
            (f"exercise {number}", hint) for hint in (exercise.hint, *(hint for _, hint in exercise.near_misses))
        )
    yield from (("alternative text", kind) for kind in plots.KINDS)
    yield from (("legend", name) for name in plots.DRAWN)
    yield from (("workshop", word) for word in console.WORDS)
    yield from (("workshop catch-up", what) for _, what, _ in teaching.LEFT_BEHIND)
    yield from (("quiz", text) for text in (*quizzes.WORDS, *quizzes.texts()))
    yield from (("maturity", text) for text in maturity_questions.texts())
    yield from _in_bash(Path("workshop"))
    for path in sorted((ROOT / "workshop_lib").rglob("*.py")):
        yield from _in_code(path.relative_to(ROOT), path.read_text(encoding="utf-8"))
    for path in find_notebooks():
        for cell in nbformat.read(ROOT / path, as_version=4).cells:
            if cell.cell_type == "code":
                lines = cell.source.splitlines()
                yield from _in_code(path, "\n".join("pass" if line[:1] in "%!" else line for line in lines))


_ARGUMENTS = {
    "at_least": slice(3, 4), "at_most": slice(3, 4), "equals": slice(3, 4), "checkpoint": slice(1, 2),
    "translate": slice(1),
}  # fmt: skip
"""Functions whose arguments at these places a reader sees."""
_OF_THE_CONSOLE = {
    "say": slice(1), "warn": slice(1), "add_heading": slice(1, 2), "findings": slice(1), "table": slice(None),
    "Column": slice(1), "Finding": slice(None),
}  # fmt: skip
"""The same in the modules of the subcommands, which lie at the top of the library."""
_ERRORS = {
    "CatalogueError", "EditionError", "NotebookError", "PrometheusError", "ScorecardError", "ServiceError",
    "SettingsError", "WeightsError",
}  # fmt: skip
"""What a subcommand says when it fails."""
_ADVICE = "REMEDY"
"""The name of what errors of several places end with."""
_TOP = Path("workshop_lib")
_DEEPEST = 3


def _in_code(path: Path, code: str) -> Iterator[tuple[str, str]]:
    """Texts of plots, checkpoints, conditions and subcommands in a piece of code."""
    tree = ast.parse(code)
    values: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    values.setdefault(target.id, []).append(node.value)
                    if target.id == _ADVICE:
                        yield from ((str(path), text) for text in _texts(node.value, {}))
        elif isinstance(node, ast.FunctionDef) and any(_called(one) == "_command" for one in node.decorator_list):
            yield str(path), ast.get_docstring(node) or ""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for argument in _shown(node, _ARGUMENTS | (_OF_THE_CONSOLE if path.parent == _TOP else {})):
                yield from ((str(path), text) for text in _texts(argument, values))


_BASH_TEXT = r"(?P<text>\"(?=[^\"]*[a-z] ?[a-z])[^\"$]+\")"
"""A constant in quotation marks with words in it."""


def _in_bash(path: Path) -> Iterator[tuple[str, str]]:
    """Texts behind the functions of the installation that say something: both of ``fail``, the first of the others."""
    code = (ROOT / path).read_text(encoding="utf-8").replace("\\\n", "")
    for found in re.finditer(
        rf"\b(?:say|fill|step|fail|advice=) *{_BASH_TEXT}(?: *{_BASH_TEXT.replace('text', 'next')})?", code
    ):
        yield from ((str(path), text.strip('"')) for text in found.groups() if text)


def _called(node: ast.expr) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _shown(call: ast.Call, places: Mapping[str, slice]) -> list[ast.expr]:
    """The arguments of a call that a reader sees."""
    name = _called(call)
    if name in places:
        shown = call.args[places[name]]
    elif name in _SHOWN_BY:
        shown = call.args
    else:
        shown = call.args[:1] if name in _ERRORS else []
    return shown + [keyword.value for keyword in call.keywords if keyword.arg in _SHOWN_BY]


def _texts(node: ast.expr, values: Mapping[str, list[ast.expr]], depth: int = 0) -> Iterator[str]:
    """The texts that an expression can be: of a choice each side, of a name what the same code calls by it."""
    text = _text(node)
    if text is not None:
        yield text
    elif isinstance(node, ast.IfExp):
        for side in (node.body, node.orelse):
            yield from _texts(side, values, depth)
    elif isinstance(node, ast.BoolOp):
        for side in node.values:
            yield from _texts(side, values, depth)
    elif isinstance(node, ast.Name) and depth < _DEEPEST:
        for value in values.get(node.id, []):
            yield from _texts(value, values, depth + 1)


def _text(node: ast.expr) -> str | None:
    """A literal as the catalogue has it, or None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts, gaps = [], 0
        for value in node.values:
            if isinstance(value, ast.Constant):
                parts.append(str(value.value))
            else:
                parts.append(f"{{{gaps}}}")
                gaps += 1
        return "".join(parts)
    return None
