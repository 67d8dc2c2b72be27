"""The plots' style: applied to matplotlib, and told apart by colour-blind people."""

from collections.abc import Iterator
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from workshop_lib.plots import use_course_style


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


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_the_first_colours_differ_for_colour_blind_people(blindness: str) -> None:
    colours = np.array([to_rgb(colour) for colour in mpl.rcParams["axes.prop_cycle"].by_key()["color"][:4]])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = linear @ np.array(BLINDNESS[blindness]).T
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 0.15
