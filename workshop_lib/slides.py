"""Slides of a module for whoever teaches it: one page of HTML that needs no internet and no notebook.

    write_slides("3-serving", Path("3-serving.html"))

What is on them is chosen by tags in the notebooks: a cell tagged ``slide`` begins a slide, and cells tagged
``slide-more`` go on with it. Of a text a slide shows the heading and the first paragraph; of a code cell its stored
outputs, without the code. What there is to say stands in the module's TEACHING.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import nbformat
from nbconvert import HTMLExporter

from workshop_lib.editions import translated_notebook
from workshop_lib.files import write_text
from workshop_lib.messages import translate
from workshop_lib.notebooks import find_notebooks
from workshop_lib.settings import ROOT, settings

BEGINS, GOES_ON = "slide", "slide-more"
_MOST_WORDS = 80
"""Of a list that is shown whole."""
PAGE = Path(__file__).with_name("slides.html")


def write_slides(module: str, file: Path) -> int:
    """Write the slides of a module, in the settings' language.

    Args:
        module: a folder such as ``3-serving``, its number, or a notebook.
        file: the page.

    Returns:
        How many slides there are.

    Raises:
        NotebookError: when there is no such module.
    """
    notebooks = find_notebooks([module])
    slides = [slide for notebook in notebooks for slide in _slides(_read(notebook))]
    page = Template(PAGE.read_text(encoding="utf-8")).substitute(
        language=settings.lang,
        title=escape(f"{translate('Slides')}: {module}"),
        slides="\n".join(f'<section tabindex="0">\n{slide}\n</section>' for slide in slides),
    )
    write_text(file, page)
    return len(slides)


def _read(notebook: Path) -> Any:
    if settings.lang == "en":
        return nbformat.read(ROOT / notebook, as_version=4)
    return translated_notebook(notebook, settings.lang)


def _slides(notebook: Any) -> Iterator[str]:
    """The bodies of a notebook's slides."""
    export = HTMLExporter(
        template_name="basic", exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True
    )
    cells: list[Any] = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if BEGINS in tags and cells:
            yield export.from_notebook_node(nbformat.v4.new_notebook(cells=cells))[0]
            cells = []
        if BEGINS in tags or GOES_ON in tags:
            cells.append(_shortened(cell))
    if cells:
        yield export.from_notebook_node(nbformat.v4.new_notebook(cells=cells))[0]


def _shortened(cell: Any) -> Any:
    """Of a text its last heading, the paragraph below, and the list that it leads to if it is short; code as it is."""
    if cell.cell_type != "markdown":
        return cell
    starts = [match.start() for match in re.finditer(r"^#{1,2} ", cell.source, re.M)]
    heading, _, rest = cell.source[starts[-1] if starts else 0 :].partition("\n\n")
    first, _, then = rest.partition("\n\n")
    listed = then.split("\n\n")[0] if first.endswith(":") and re.match(r"[-*\d]", then) else ""
    if len(listed.split()) > _MOST_WORDS:
        listed = ""
    return nbformat.v4.new_markdown_cell("\n\n".join([heading, first, listed]))
