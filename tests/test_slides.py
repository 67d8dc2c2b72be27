"""Slides: chosen by tags, in both languages, and nothing on them comes from the internet."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from typer.testing import CliRunner

from workshop_lib import cli, slides
from workshop_lib.notebooks import NotebookError, find_notebooks
from workshop_lib.settings import MODULES, ROOT
from workshop_lib.slides import write_slides

SLIDE, MORE = {"tags": ["slide"]}, {"tags": ["slide-more"]}


@pytest.fixture
def lesson() -> nbformat.NotebookNode:
    table = new_output("execute_result", {"text/html": "<table><tr><td>42</td></tr></table>"}, execution_count=1)
    picture = new_output("display_data", {"image/png": "aGVsbG8="}, metadata={"image/png": {"alt": "Line plot."}})
    return new_notebook(
        cells=[
            new_markdown_cell("# Title\n\nWhat it is about.\n\nMore than fits.", metadata=SLIDE),
            new_markdown_cell("not on a slide"),
            new_markdown_cell(
                "The end of a part.\n\n## Next part\n\nTwo things:\n\n- one\n- two\n\nRest.", metadata=SLIDE
            ),
            new_code_cell("shown()", metadata=MORE, outputs=[table]),
            new_code_cell("plot()", metadata=SLIDE, outputs=[picture]),
        ]
    )


def test_tags_make_slides_and_texts_are_shortened(lesson: nbformat.NotebookNode) -> None:
    first, second, third = slides._slides(lesson)
    assert "<h1" in first and "What it is about." in first and "More than fits." not in first
    assert "Next part" in second and "The end of a part." not in second and "Rest." not in second
    assert second.count("<li>") == 2 and "42" in second and "shown()" not in second
    assert 'alt="Line plot."' in third and "data:image/png;base64,aGVsbG8=" in third
    assert all("not on a slide" not in slide for slide in (first, second, third))


@pytest.mark.parametrize("notebook", find_notebooks(), ids=str)
def test_every_notebook_begins_a_slide_with_its_title_and_none_is_crowded(notebook: Path) -> None:
    cells = nbformat.read(ROOT / notebook, as_version=4).cells
    begins = [number for number, cell in enumerate(cells) if "slide" in cell.metadata.get("tags", [])]
    assert begins[0] == 0 and 3 <= len(begins) <= 25
    for begin, end in zip(begins, [*begins[1:], len(cells)], strict=True):
        shown = [slides._shortened(cells[begin])]
        shown += [slides._shortened(c) for c in cells[begin + 1 : end] if "slide-more" in c.metadata.get("tags", [])]
        words = " ".join(cell.source for cell in shown if cell.cell_type == "markdown").split()
        assert len(words) <= 140, words[:30]
        outputs = [output for cell in shown for output in cell.get("outputs", [])]
        assert sum("image/png" in output.get("data", {}) for output in outputs) <= 2


@pytest.mark.parametrize("lang", ["en", "es"])
def test_a_page_holds_all_it_needs(lang: str, tmp_path: Path, use_settings: Callable[..., object]) -> None:
    use_settings(lang=lang)
    file = tmp_path / "slides.html"
    count = write_slides("2-generative", file)
    page = file.read_text(encoding="utf-8")
    assert page.count("<section") == count > 20 and f'<html lang="{lang}">' in page
    loaded = re.findall(r"<(?:script|img|link|iframe)[^>]*\s(?:src|href)=\"(?!data:)([^\"]+)", page)
    assert loaded == [] and "@import" not in page and "url(http" not in page
    assert ("Planifica" in page) == (lang == "es")


def test_the_subcommand_writes_where_it_is_told(home: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(cli.app, ["slides", MODULES[0], str(tmp_path / "a.html")])
    assert told.exit_code == 0 and (tmp_path / "a.html").stat().st_size > 10_000
    assert CliRunner().invoke(cli.app, ["slides", "01_data_exploration"]).exit_code == 0
    assert (home / "slides" / "01_data_exploration.en.html").is_file()


def test_an_unknown_module_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match="names no notebook or module"):
        write_slides("9-nothing", tmp_path / "x.html")
