"""The catalogues: complete, true to the source, and what happens when the source changes."""

from __future__ import annotations

from pathlib import Path

import polib
import pytest

from workshop_lib import catalogues
from workshop_lib.catalogues import Problem, check_catalogue, differences, sync_catalogue

SPANISH = "es"


@pytest.mark.parametrize("source", catalogues.sources(), ids=str)
def test_every_text_has_its_translation(source: Path) -> None:
    path = catalogues.catalogue_file(source, SPANISH)
    assert [str(problem) for problem in check_catalogue(path, catalogues.texts(source))] == []


def test_every_catalogue_belongs_to_a_source() -> None:
    assert [str(problem) for problem in catalogues.strays(SPANISH)] == []


def test_everything_that_is_shown_has_its_translation() -> None:
    assert [str(problem) for problem in catalogues.check_messages(SPANISH)] == []


def test_no_translation_repeats_its_source() -> None:
    """Unless it is a heading or a line without words of its own."""
    same = [
        f"{source} {entry.msgctxt}"
        for source in catalogues.sources()
        for entry in catalogues.read_catalogue(catalogues.catalogue_file(source, SPANISH))
        if entry.msgid == entry.msgstr and len(entry.msgid.split()) > 4
    ]
    assert same == []


# --- Catalogues -------------------------------------------------------------------------------------


def said(path: Path, texts: dict[str, str]) -> list[tuple[str, str]]:
    return [(problem.context, problem.said.partition(":")[0]) for problem in check_catalogue(path, texts)]


def test_a_catalogue_follows_its_source(tmp_path: Path) -> None:
    path = tmp_path / "x.po"
    assert sync_catalogue(path, {"a": "One", "b": "Two"}, SPANISH) and not sync_catalogue(
        path, {"a": "One", "b": "Two"}, SPANISH
    )
    assert said(path, {"a": "One", "b": "Two"}) == [("a", "not translated"), ("b", "not translated")]
    catalogue = polib.pofile(str(path))
    for entry, text in zip(catalogue, ("Uno", "Dos"), strict=True):
        entry.msgstr = text
    catalogue.save(str(path))
    assert said(path, {"a": "One", "b": "Two"}) == []
    changed = {"a": "One more", "c": "Three"}
    assert said(path, changed) == [("b", "stale"), ("a", "stale"), ("c", "not translated")]
    sync_catalogue(path, changed, SPANISH)
    assert said(path, changed) == [("a", "fuzzy"), ("c", "not translated")]
    kept = polib.pofile(str(path)).find("One more", msgctxt="a")
    assert kept is not None and (kept.msgstr, kept.previous_msgid) == ("Uno", "One")
    with pytest.raises(catalogues.CatalogueError, match="cannot be read as a catalogue"):
        path.write_text("this is no catalogue\n")
        catalogues.read_catalogue(path)


@pytest.mark.parametrize(
    ("text", "translation", "found"),
    [
        ("Call `f()` on the 23rd.", "Llama a `f()` el día 23.", []),
        ("Call `f()`.", "Llama a `g()`.", ["code spans"]),
        ("See [this](a.md) and [that](b.md).", "Mira [esto](a.md) y [eso](a.md).", ["link targets"]),
        ("About 70% of $x^2$.", "Cerca del 60% de $x^2$.", ["numbers"]),
        ("Half of $x^2$.", "La mitad de $x^3$.", ["formulas"]),
        ("## A\n\ntext", "### A\n\ntexto", ["headings"]),
        ("- a\n- b", "- a", ["list items"]),
        ("| a |\n|---|\n| 1 |", "| a |\n|---|", ["table rows", "numbers"]),
        ("{count} rows", "{cuenta} filas", ["placeholders"]),
        ("```\nx = 1\n```", "```\nx = 2\n```", ["code blocks"]),
        ('```mermaid\na["one"] --> b\n```', '```mermaid\na["uno"] --> b\n```', []),
        ('```mermaid\na["one"] --> b\n```', '```mermaid\na["uno"] --> c\n```', ["code blocks"]),
        ("<b>x</b>", "<i>x</i>", ["HTML tags"]),
    ],
)
def test_differences(text: str, translation: str, found: list[str]) -> None:
    assert [difference.partition(" differ")[0] for difference in differences(text, translation)] == found


def test_a_page_in_parts_is_the_page() -> None:
    page = "intro\n\n# T\n\ntext\n```bash\n# a comment\n```\n## Two\n\n## Two\nend\n"
    parts = catalogues.sections(page)
    assert [name for name, _ in parts] == ["intro", "# T", "## Two", "## Two (2)"]
    assert "".join(text for _, text in parts) == page


def test_a_problem_says_where() -> None:
    assert str(Problem(Path("locale/es/a.po"), "id", "not translated")) == "locale/es/a.po, id: not translated"
