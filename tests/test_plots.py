"""The plots' style: applied to matplotlib, and told apart by colour-blind people."""

import re
from collections.abc import Callable, Iterator
from itertools import combinations

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from workshop_lib import plots
from workshop_lib.messages import GAP
from workshop_lib.notebooks import find_notebooks
from workshop_lib.plots import alt_text, use_course_style
from workshop_lib.settings import ROOT


@pytest.fixture(autouse=True)
def _style_of_one_test() -> Iterator[None]:
    with mpl.rc_context():
        use_course_style()
        yield


def test_the_style_is_the_default_of_new_plots() -> None:
    colours = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    assert len(set(colours)) == len(colours) == 7
    assert mpl.rcParams["figure.constrained_layout.use"] and not mpl.rcParams["axes.spines.top"]


# Machado, Oliveira & Fernandes (2009), severity 1, on linear RGB.
BLINDNESS = {
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
}


def _linear(colours: list[str]) -> np.ndarray:
    values = np.array([to_rgb(colour) for colour in colours])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def test_every_colour_stands_out_from_white() -> None:
    """Contrast by WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    colours = [*mpl.rcParams["axes.prop_cycle"].by_key()["color"], plots.OLIVE]
    luminance = _linear(colours) @ np.array([0.2126, 0.7152, 0.0722])
    contrast = dict(zip(colours, 1.05 / (luminance + 0.05), strict=True))
    assert {colour: ratio for colour, ratio in contrast.items() if ratio < 3} == {}


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_the_first_colours_differ_for_colour_blind_people(blindness: str) -> None:
    seen = _linear(mpl.rcParams["axes.prop_cycle"].by_key()["color"][:4]) @ np.array(BLINDNESS[blindness]).T
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 0.15


# --- In words, for who cannot see it --------------------------------------------------------------


@pytest.fixture
def figure() -> Iterator[Figure]:
    made, (sold, categories, days) = plt.subplots(1, 3)
    sold.plot([3, 1, 2], label="sold")
    sold.plot([2, 2, 2], label="forecast")
    sold.set(title="Units per day", xlabel="day", ylabel="units")
    sold.legend()
    categories.bar(["eggs", "soup"], [2, 3])
    categories.set_title("Two\ncategories", loc="right")
    made.colorbar(days.imshow(np.eye(3)))
    yield made
    plt.close(made)


def test_a_picture_is_told_by_its_labels(figure: Figure) -> None:
    assert alt_text(figure) == (
        "Line plot: Units per day; across: day; up: units; drawn: sold, forecast. Bar chart: Two categories. Heat map."
    )


def test_a_picture_is_told_in_spanish(figure: Figure, use_settings: Callable[..., object]) -> None:
    use_settings(lang="es")
    assert alt_text(figure).startswith("Gráfico de líneas: Units per day; eje horizontal: day")


def test_points_and_empty_axes() -> None:
    made, (points, empty) = plt.subplots(1, 2)
    points.scatter([1, 2], [3, 4])
    points.axhline(3)  # a line of two points is a mark, not what is plotted
    empty.set_axis_off()
    made.suptitle("All shops")
    assert alt_text(made) == "All shops Scatter plot."
    plt.close(made)


def test_a_notebook_gets_the_text_with_the_picture() -> None:
    """In a real kernel, because its backend registers a way of its own to show pictures."""
    plot = "_, axis = plt.subplots(); axis.plot([3, 1, 2], label='sold'); axis.set_title('Units'); plt.show()"
    start = "import matplotlib.pyplot as plt\nfrom workshop_lib.plots import use_course_style\nuse_course_style()"
    notebook = new_notebook(cells=[new_code_cell(start), new_code_cell(plot), new_code_cell(plot)])
    NotebookClient(notebook, kernel_name="python3").execute()
    for cell in notebook.cells[1:]:
        [output] = cell.outputs
        assert output.data["image/png"]
        assert output.metadata["image/png"]["alt"] == "Line plot: Units; drawn: sold."


def test_what_a_catalogue_has_for_legends_is_drawn_in_some_notebook() -> None:
    told = "\n".join(
        output.metadata["image/png"]["alt"]
        for path in find_notebooks()
        for cell in nbformat.read(ROOT / path, as_version=4).cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("metadata", {})
    )
    patterns = {name: "[^,;]+".join(map(re.escape, GAP.split(name))) for name in plots.DRAWN}
    assert [name for name, pattern in patterns.items() if not re.search(rf"(drawn:|,) {pattern}[,.]", told)] == []


def test_alternative_texts_name_what_is_drawn_in_the_learners_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "translate", lambda text: {"needed": "necesario"}.get(text, text))
    figure, axis = plt.subplots()
    axis.plot([1, 2, 3], label="needed")
    assert plots.alt_text(figure).endswith("drawn: necesario.")
    plt.close(figure)
