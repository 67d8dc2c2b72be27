"""The library is a row of rooms: each knows those to its left, and all are short enough to read."""

import ast
from pathlib import Path

import pytest

from tests.syntax import broad_excepts
from workshop_lib.settings import ROOT

ROOMS = ["data", "predictive", "generative", "serving", "orchestration", "monitoring", "optimization", "mlops"]
"""In the order of the story: a room knows those to its left, the corridor knows none."""
ABOVE_THE_STORY = {"cli", "doctor", "notebooks", "services", "teaching"}
LIBRARY = sorted((ROOT / "workshop_lib").rglob("*.py"))
each_module = pytest.mark.parametrize("module", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))


def imported_rooms(source: str) -> set[str]:
    """Rooms of the library that a module's source imports."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("workshop_lib.")} & set(ROOMS)


def test_every_folder_of_the_library_is_a_room() -> None:
    folders = {path.parent.name for path in LIBRARY} - {"workshop_lib"}
    assert folders <= set(ROOMS)


@each_module
def test_a_room_imports_none_to_its_right(module: Path) -> None:
    place = module.relative_to(ROOT / "workshop_lib").parts[0].removesuffix(".py")
    reach = len(ROOMS) if place in ABOVE_THE_STORY else ROOMS.index(place) + 1 if place in ROOMS else 0
    assert imported_rooms(module.read_text(encoding="utf-8")) - set(ROOMS[:reach]) == set()


@each_module
def test_no_module_is_too_long_to_read(module: Path) -> None:
    assert len(module.read_text(encoding="utf-8").splitlines()) <= 400


@each_module
def test_no_module_swallows_errors(module: Path) -> None:
    assert broad_excepts(ast.parse(module.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("source", ["import workshop_lib.mlops.gates", "from workshop_lib import mlops",
                                    "def f():\n    from workshop_lib.mlops import gates"])  # fmt: skip
def test_the_rule_for_rooms_sees_every_way_to_import(source: str) -> None:
    assert imported_rooms(source) == {"mlops"}
