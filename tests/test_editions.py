"""The editions: the same code in another language, and a learner's work that survives."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from workshop_lib import editions
from workshop_lib.catalogues import sources
from workshop_lib.editions import merged
from workshop_lib.settings import ROOT

SPANISH = "es"


# --- What is written --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def edition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("the Spanish course")
    editions.write_edition(SPANISH, folder)
    return folder


def test_code_cells_are_the_same_byte_for_byte(edition: Path) -> None:
    for source in sources():
        if source.suffix == ".ipynb":
            english, spanish = (nbformat.read(root / source, as_version=4) for root in (ROOT, edition))
            assert [cell.cell_type for cell in english.cells] == [cell.cell_type for cell in spanish.cells]
            for one, other in zip(english.cells, spanish.cells, strict=True):
                if one.cell_type == "code":
                    assert (one.source, one.outputs) == (other.source, other.outputs)
                else:
                    assert one.source != other.source


def test_it_is_the_whole_course(edition: Path) -> None:
    assert (edition / "workshop_lib" / "settings.py").is_file() and (edition / "workshop").is_file()
    assert (edition / ".env").read_text() == "WORKSHOP_LANG=es\n"
    for module in editions.MODULES:
        english, spanish = (
            {path.relative_to(root) for path in (root / module).rglob("*") if path.is_file() and path.suffix != ".pyc"}
            for root in (ROOT, edition)
        )
        assert {path for path in english if not any(part.startswith(".") for part in path.parts)} == spanish
    first, primera = ((root / "README.md").read_text() for root in (ROOT, edition))
    assert "## Two commands" in first and "## Dos comandos" in primera
    with pytest.raises(editions.EditionError, match="no edition in 'fr'"):
        editions.write_edition("fr", edition)


def test_a_learners_work_survives_a_rebuild(edition: Path) -> None:
    path = edition / "1-predictive" / "notebooks" / "01_data_exploration.ipynb"
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[0].source, code[1].outputs = "mine = 1", [nbformat.v4.new_output("stream", text="mine\n")]
    notebook.cells.insert(3, nbformat.v4.new_code_cell("added = 2"))
    ids = [cell.id for cell in notebook.cells]
    nbformat.write(notebook, path)
    editions.write_edition(SPANISH, edition)
    again = nbformat.read(path, as_version=4)
    assert [cell.id for cell in again.cells] == ids
    assert again.cells[3].source == "added = 2" and "mine = 1" in [cell.source for cell in again.cells]
    assert json.dumps([cell.get("outputs") for cell in again.cells]).count("mine") == 1
    path.write_text("{")
    with pytest.raises(editions.EditionError, match="is no notebook any more"):
        editions.write_edition(SPANISH, edition)
    path.unlink()


def cell(name: str, source: str, kind: str = "markdown") -> Any:
    made = nbformat.v4.new_markdown_cell(source) if kind == "markdown" else nbformat.v4.new_code_cell(source)
    made.id, made.metadata["workshop"] = name, {"built": editions._fingerprint(source)}
    return made


def test_what_nobody_touched_follows_the_source() -> None:
    old = nbformat.v4.new_notebook(cells=[cell("a", "uno"), cell("b", "1", "code"), cell("c", "tres"), cell("d", "x")])
    new = nbformat.v4.new_notebook(cells=[cell("a", "UNO"), cell("b", "2", "code"), cell("c", "TRES"), cell("e", "y")])
    used = copy.deepcopy(old)
    used.cells[2].source, used.cells[3].source = "tres, y mis notas", "x, y más notas"
    used.cells[1:1] = [nbformat.v4.new_markdown_cell("nota 1"), nbformat.v4.new_markdown_cell("nota 2")]
    expected = ["UNO", "nota 1", "nota 2", "2", "tres, y mis notas", "x, y más notas", "y"]
    assert [one.source for one in merged(new, used).cells] == expected
