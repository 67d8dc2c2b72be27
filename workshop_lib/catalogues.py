"""Catalogues: what of the course is translated, and whether the translations are complete and true to the source.

    locale/es/1-predictive/notebooks/03_train_forecaster.po     an entry per markdown cell
    locale/es/1-predictive/README.po                            an entry per section
    locale/es/messages.po                                       what the library shows; see workshop_lib.messages

English is the source. Code cells are in no catalogue: every edition runs the same code. Catalogues are files of GNU
gettext (https://www.gnu.org/software/gettext/manual/html_node/PO-Files.html), which any translation program opens.

    sync("es")                     # after a change of the English texts: new entries are empty, changed ones fuzzy
    problems("es")                 # what is missing, stale, doubtful or differs in more than the words
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat
import polib

from workshop_lib import messages
from workshop_lib.files import write_text
from workshop_lib.notebooks import find_notebooks
from workshop_lib.settings import MODULES, ROOT
from workshop_lib.shown_texts import shown_texts

LOCALE = ROOT / "locale"
PAGES = ("README.md", "TEACHING.md")
"""Of every module: for its learners, and for whoever teaches it."""


class CatalogueError(RuntimeError):
    """A catalogue cannot be used; the message says why."""


# --- The texts of the source ------------------------------------------------------------------------


def sources() -> list[Path]:
    """Notebooks and pages that are translated, relative to the checkout, in the order of the course."""
    pages = [Path("README.md"), *(Path(module) / page for module in MODULES for page in PAGES)]
    return [*(page for page in pages if (ROOT / page).is_file()), *find_notebooks()]


def texts(source: Path) -> dict[str, str]:
    """The texts of a notebook by the id of their cell, or of a page by the heading of their section."""
    if source.suffix == ".ipynb":
        notebook = nbformat.read(ROOT / source, as_version=4)
        return {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "markdown"}
    return {heading: text.rstrip("\n") for heading, text in sections((ROOT / source).read_text(encoding="utf-8"))}


def sections(page: str) -> list[tuple[str, str]]:
    """A page in parts that begin with a heading, each with that heading as its name; the parts joined are the page."""
    fences = [match.span() for match in re.finditer(r"^```.*?^```", page, re.M | re.S)]
    starts = [
        match.start()
        for match in re.finditer(r"^#{1,3} ", page, re.M)
        if not any(begin <= match.start() < end for begin, end in fences)
    ]
    if not starts or starts[0]:
        starts.insert(0, 0)
    named, seen = [], dict[str, int]()
    for begin, end in zip(starts, [*starts[1:], len(page)], strict=True):
        heading = page[begin:end].split("\n", 1)[0]
        seen[heading] = seen.get(heading, 0) + 1
        named.append((heading if seen[heading] == 1 else f"{heading} ({seen[heading]})", page[begin:end]))
    return named


# --- Catalogues -------------------------------------------------------------------------------------


def catalogue_file(source: Path, language: str) -> Path:
    """Where the translation of a notebook or page lies."""
    return LOCALE / language / source.with_suffix(".po")


def read_catalogue(path: Path) -> polib.POFile:
    """A catalogue; an empty one where there is no file.

    Raises:
        CatalogueError: when the file is none.
    """
    if not path.is_file():
        return polib.POFile(wrapwidth=0)
    try:
        return polib.pofile(str(path), wrapwidth=0)
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{path} cannot be read as a catalogue: {error}") from None


def sync(language: str) -> list[Path]:
    """Bring all catalogues in line with the English texts.

    A new text gets an empty entry. The entry of a text that was changed keeps its translation, marked *fuzzy*, with
    the former English text beside it. What is no longer in the source goes.

    Returns:
        The catalogues that were written.
    """
    written = []
    for source in sources():
        path = catalogue_file(source, language)
        if sync_catalogue(path, texts(source), language):
            written.append(path)
    if sync_messages(language):
        written.append(messages_file(language))
    return written


def sync_catalogue(path: Path, wanted: Mapping[str, str], language: str) -> bool:
    """The same for one catalogue.

    Args:
        path: the catalogue.
        wanted: English texts by their context.
        language: of the catalogue.

    Returns:
        Whether something was changed.
    """
    before = {entry.msgctxt: entry for entry in read_catalogue(path) if not entry.obsolete}
    after = _empty(language)
    for context, text in wanted.items():
        entry = before.get(context) or polib.POEntry(msgctxt=context, msgid=text)
        if entry.msgid != text:
            entry.previous_msgid, entry.msgid = entry.msgid, text
            if entry.msgstr and "fuzzy" not in entry.flags:
                entry.flags.append("fuzzy")
        after.append(entry)
    return _write(path, after)


def sync_messages(language: str) -> bool:
    """The same for what the library and the code cells show; an entry's text is its name."""
    path, after = messages_file(language), _empty(language)
    before = {entry.msgid: entry for entry in read_catalogue(path)}
    for text, place in shown_texts().items():
        entry = before.get(text) or polib.POEntry(msgid=text)
        entry.comment = place
        after.append(entry)
    return _write(path, after)


def messages_file(language: str) -> Path:
    """The catalogue of :mod:`workshop_lib.messages`."""
    return LOCALE / language / messages.CATALOGUE


def _empty(language: str) -> polib.POFile:
    catalogue = polib.POFile(wrapwidth=0)
    catalogue.metadata = {
        "Language": language,
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=UTF-8",
        "Content-Transfer-Encoding": "8bit",
    }
    return catalogue


def _write(path: Path, catalogue: polib.POFile) -> bool:
    """Write a catalogue if it is another one than before."""
    content = str(catalogue)
    if path.is_file() and path.read_text(encoding="utf-8") == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, content)
    return True


@dataclass(frozen=True)
class Problem:
    """Something to mend in a catalogue."""

    catalogue: Path
    """Relative to the checkout."""
    context: str
    said: str

    def __str__(self) -> str:
        return f"{self.catalogue}, {self.context}: {self.said}"


def problems(language: str) -> list[Problem]:
    """What keeps the edition from being complete: texts without a translation, entries without a text, doubtful ones,
    and translations that differ in more than the words (:func:`differences`)."""
    found: list[Problem] = []
    for source in sources():
        path = catalogue_file(source, language)
        found += check_catalogue(path, texts(source))
    found += check_messages(language)
    return [*found, *strays(language)]


def strays(language: str) -> list[Problem]:
    """Catalogues that belong to nothing."""
    known = {catalogue_file(source, language) for source in sources()} | {messages_file(language)}
    return [
        Problem(path.relative_to(ROOT), "file", "it belongs to no notebook and no page")
        for path in sorted((LOCALE / language).rglob("*.po"))
        if path not in known
    ]


def check_catalogue(path: Path, wanted: Mapping[str, str]) -> Iterator[Problem]:
    """The problems of one catalogue; see :func:`problems`.

    Args:
        path: the catalogue.
        wanted: English texts by their context.
    """
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    entries = {entry.msgctxt: entry for entry in read_catalogue(path) if not entry.obsolete}
    for context in entries.keys() - wanted.keys():
        yield Problem(shown, str(context), "stale: the text is no longer in the source")
    for context, text in wanted.items():
        entry = entries.get(context)
        if entry is None or not entry.msgstr:
            yield Problem(shown, context, "not translated")
        elif entry.msgid != text:
            yield Problem(shown, context, "stale: the English text has changed")
        elif entry.fuzzy:
            yield Problem(shown, context, "fuzzy: somebody has to look at the translation again")
        else:
            for difference in differences(text, entry.msgstr):
                yield Problem(shown, context, difference)


def check_messages(language: str) -> Iterator[Problem]:
    """The problems of what the library and the code cells show."""
    path, wanted = messages_file(language), shown_texts()
    shown = path.relative_to(ROOT)
    entries = {entry.msgid: entry for entry in read_catalogue(path)}
    for text in entries.keys() - wanted.keys():
        yield Problem(shown, text, "stale: nothing shows this text any more")
    for text, place in wanted.items():
        entry = entries.get(text)
        if entry is None or not entry.msgstr:
            yield Problem(shown, text, f"not translated ({place})")
        elif sorted(_COMPARED["placeholders"].findall(text)) != sorted(_COMPARED["placeholders"].findall(entry.msgstr)):
            yield Problem(shown, text, "placeholders differ")


_FENCE = re.compile(r"^```.*?^```", re.M | re.S)
_DIAGRAM = re.compile(r"^```mermaid.*?^```", re.M | re.S)
_CODE = re.compile(r"``.+?``|`[^`\n]+`")
_FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$", re.S)
_COMPARED = {
    "code blocks": _FENCE,
    "code spans": _CODE,
    "formulas": _FORMULA,
    "link targets": re.compile(r"\]\(([^)\s]+)"),
    "headings": re.compile(r"^(#+) ", re.M),
    "table rows": re.compile(r"^\|", re.M),
    "list items": re.compile(r"^\s*(?:[-*]|\d+\.) ", re.M),
    "numbers": re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*(?=(?:st|nd|rd|th)?(?!\w))"),
    "placeholders": re.compile(r"\{\w*(?:[:!][^{}]*)?\}"),
    "HTML tags": re.compile(r"</?[a-z]+"),
}


def differences(text: str, translation: str) -> Iterator[str]:
    """Where a translation differs in more than its words: in code, formulas, links, numbers, or its structure."""
    left, right = _structure(text), _structure(translation)
    for kind in _COMPARED:
        lost, added = _without(left[kind], right[kind]), _without(right[kind], left[kind])
        if kind == "numbers":
            added = []  # an explanation may repeat in words what stands in code
        if lost or added:
            parts = [
                f"{word} {', '.join(map(repr, some))}" for word, some in (("without", lost), ("with", added)) if some
            ]
            yield f"{kind} differ: {' and '.join(parts)}"


def _structure(text: str) -> dict[str, list[str]]:
    plain = _FENCE.sub("", text)
    bare = _FORMULA.sub("", _CODE.sub("", plain))
    where = {"code blocks": _DIAGRAM.sub(_without_labels, text), "code spans": plain, "formulas": _CODE.sub("", plain)}
    found = {kind: pattern.findall(where.get(kind, bare)) for kind, pattern in _COMPARED.items()}
    found["numbers"] = _COMPARED["numbers"].findall(re.sub(r"\]\([^)]*\)", "", bare))
    return found


def _without_labels(diagram: re.Match[str]) -> str:
    """A diagram's nodes and arrows: its labels stand in quotation marks, and are translated."""
    return re.sub(r'"[^"\n]*"', '""', diagram[0])


def _without(some: list[str], others: list[str]) -> list[str]:
    rest = list(others)
    return [one for one in some if one not in rest or rest.remove(one)]  # type: ignore[func-returns-value]
