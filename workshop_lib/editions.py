"""The course in other languages than English: the same notebooks and pages, with their texts from the catalogues.

    write_edition("es", folder)    # the whole course in Spanish; a learner's own work in it stays

Which texts there are, and whether their translations are complete, is the matter of :mod:`workshop_lib.catalogues`.
"""

from __future__ import annotations

import copy
import hashlib
import shutil
from pathlib import Path
from typing import Any

import nbformat

from workshop_lib.catalogues import catalogue_file, read_catalogue, sections, sources, texts
from workshop_lib.files import atomic_path, write_text
from workshop_lib.settings import MODULES, ROOT

LANGUAGES = ("es",)
"""Beside English."""
REST = (
    *("LICENSE", "benchmarks", "environment.yml", "pyproject.toml", "requirements.lock", "workshop", "workshop_lib"),
    "locale",
)
"""What belongs to the course beside its modules and its first page; the tests are about the English edition."""
MARK = ".edition"
"""The file that an edition with everything has in its folder: it is no source for another one."""
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "*.ipynb")
_BUILT = "workshop"
"""In a cell's metadata of an edition: the fingerprint of what was written there."""


class EditionError(RuntimeError):
    """An edition cannot be made; the message says why."""


def translations(source: Path, language: str) -> dict[str, str]:
    """The translations of a notebook or page by their context; where one is missing, the English text stands in."""
    found = {entry.msgctxt: entry for entry in read_catalogue(catalogue_file(source, language))}
    return {
        context: entry.msgstr if (entry := found.get(context)) and entry.msgstr and entry.msgid == text else text
        for context, text in texts(source).items()
    }


def translated_page(source: Path, language: str) -> str:
    """A page in another language."""
    known = translations(source, language)
    parts = sections((ROOT / source).read_text(encoding="utf-8"))
    return "".join(known[name] + text[len(text.rstrip("\n")) :] for name, text in parts)


def translated_notebook(source: Path, language: str) -> Any:
    """A notebook in another language: code cells and their outputs as they are."""
    notebook, known = nbformat.read(ROOT / source, as_version=4), translations(source, language)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = known[cell.id]
        cell.metadata[_BUILT] = {"built": _fingerprint(cell.source)}
    return notebook


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _touched(cell: Any) -> bool:
    """Whether a learner added or changed a cell."""
    return bool(cell.metadata.get(_BUILT, {}).get("built") != _fingerprint(cell.source))


def merged(new: Any, old: Any) -> Any:
    """A notebook written anew over one in which somebody has worked.

    Cells that were changed, added or run keep what is in them. Cells that are as they were written become those of the
    new notebook, with the outputs of the old one where the code is the same.

    Args:
        new: from :func:`translated_notebook`.
        old: an earlier one, after its use.
    """
    result, theirs = copy.deepcopy(new), {cell.id: cell for cell in old.cells}
    for number, cell in enumerate(result.cells):
        mine = theirs.get(cell.id)
        if mine is None:
            continue
        if _touched(mine) or (mine.cell_type == "code" and mine.source == cell.source):
            result.cells[number] = mine
    places = {cell.id: number for number, cell in enumerate(result.cells)}
    for before, cell in zip([None, *old.cells], old.cells, strict=False):
        if cell.id not in places and _touched(cell):  # stays, after the same cell as before
            place = places.get(before.id, len(result.cells) - 1) + 1 if before is not None else 0
            result.cells.insert(place, cell)
            places = {one.id: number for number, one in enumerate(result.cells)}
    return result


def write_edition(language: str, folder: Path, *, whole: bool = True) -> list[Path]:
    """Write the course in another language: notebooks and pages translated, and the files beside them.

    Args:
        language: one of :data:`LANGUAGES`.
        folder: written into; a learner's changes in notebooks that are already there stay, and so do settings.
        whole: whether the library and all else go with them, so that the folder is a course of its own.

    Returns:
        Notebooks and pages, relative to the folder.

    Raises:
        EditionError: for another language, a folder within the course, a course that is an edition itself, or a
            notebook in the folder that cannot be read.
    """
    if language not in LANGUAGES:
        raise EditionError(f"There is no edition in {language!r}. Languages: {', '.join(LANGUAGES)}.")
    if (ROOT / MARK).exists():
        raise EditionError(f"{ROOT} is an edition itself. Make another one from the course in English.")
    if whole and folder.resolve().is_relative_to(ROOT):
        raise EditionError(f"{folder} lies within the course. Name a folder outside of {ROOT}.")
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*MODULES, *(REST if whole else ())):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=_LEFT_OUT, dirs_exist_ok=True)
        else:
            shutil.copy2(ROOT / name, folder / name)
    for source in sources():
        target = folder / source
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            write_text(target, translated_page(source, language))
            continue
        notebook = translated_notebook(source, language)
        if target.is_file():
            try:
                notebook = merged(notebook, nbformat.read(target, as_version=4))
            except (ValueError, nbformat.ValidationError) as error:
                reason = str(error).splitlines()[0][:200]
                raise EditionError(f"{target} is no notebook any more: {reason}. Move it away.") from None
        with atomic_path(target) as draft:
            nbformat.write(notebook, draft)
    if whole:
        write_text(folder / MARK, f"{language}\n")
        if not (folder / ".env").exists():
            write_text(folder / ".env", f"WORKSHOP_LANG={language}\n")
    return sources()
