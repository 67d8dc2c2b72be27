"""Every notebook from end to end through papermill: in the order of the course, in Spanish, with other parameters.

Each notebook runs in the suite at its defaults (see test_stored_outputs.py). Here quick ones of every module run a
second time, and the others do so with --long. Where there is memory for it, the background helps from the last
notebook on: see tests/notebooks/comparing.py.

Then module 1 on a small shop of its own, as a learner brings it.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import papermill
import pytest

from tests.notebooks import other_parameters
from tests.notebooks.comparing import Comparing
from tests.notebooks.other_parameters import PARAMETERS, SHORT
from workshop_lib import products
from workshop_lib.data.sources import find_source
from workshop_lib.notebooks import execute_notebook, find_notebooks
from workshop_lib.settings import ROOT, settings

NOTEBOOKS = find_notebooks()


def defaults_of(notebook: Path) -> dict[str, object]:
    found = papermill.inspect_notebook(str(ROOT / notebook))
    return {name: ast.literal_eval(parameter["default"]) for name, parameter in found.items()}


def test_every_notebook_is_run_with_other_parameters_than_its_own() -> None:
    assert PARAMETERS.keys() == {notebook.stem for notebook in NOTEBOOKS}
    for notebook in NOTEBOOKS:
        values, defaults = PARAMETERS[notebook.stem], defaults_of(notebook)
        assert values and values.keys() <= defaults.keys(), f"{notebook} has the parameters {', '.join(defaults)}"
        assert [name for name, value in values.items() if value == defaults[name]] == [], notebook


@pytest.mark.parametrize(
    "notebook", [pytest.param(path, marks=[pytest.mark.long] * (path.stem not in SHORT)) for path in NOTEBOOKS], ids=str
)
@pytest.mark.timeout(1800)  # the background may be in the middle of it
def test_a_notebook_runs_with_other_parameters(notebook: Path, early: Comparing | None, tmp_path: Path) -> None:
    begun = early.other(notebook) if early else None
    if begun is None:
        other_parameters.run(notebook, tmp_path)
    else:
        assert begun.returncode == 0, begun.stderr[-6000:]


def test_reset_knows_all_that_the_notebooks_made(early: Comparing | None) -> None:
    homes = [settings.home, *([early.home] if early else [])]
    kept = {settings.logs_dir.name, other_parameters.EDITIONS}
    made = {path.name for home in homes for path in home.iterdir()} - kept
    assert made - {path.name for path in products.generated()} == set()


# --- Bring your own data --------------------------------------------------------------------------

HOUSEHOLDS = 400


@pytest.fixture(scope="module")
def own_shop(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Path]:
    """A folder with the two required files in their required columns only, and a home that is still empty."""
    course, folder = find_source().files, tmp_path_factory.mktemp("own") / "a shop"
    folder.mkdir()
    sales = pd.read_parquet(course["transactions"])
    sample = sorted(sales["household_id"].unique())[:HOUSEHOLDS]
    optional = ["retail_disc", "coupon_disc", "coupon_match_disc", "week"]
    sales[sales["household_id"].isin(sample)].drop(columns=optional).to_csv(folder / "transactions.csv", index=False)
    catalogue = pd.read_parquet(course["products"], columns=["product_id", "department", "product_category"])
    catalogue.to_csv(folder / "products.csv", index=False)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WORKSHOP_DATA", str(folder))
        environment.setenv("WORKSHOP_HOME", str(folder.with_name("home")))
        environment.setenv("WORKSHOP_MLFLOW_PORT", str(free_port()))
        yield folder.with_name("home")


# Backwards: no notebook finds what an earlier one would have left, so each must be able to run alone. The opening one
# reads no data.
OWN = [path for path in NOTEBOOKS if path.parts[0] == "1-predictive" and not path.stem.startswith("00_")]
MODELS = {"01_data_exploration", "03_train_forecaster", "04_churn_with_mlflow"}
"""The data and both models; what the other notebooks add runs with --long."""


@pytest.mark.parametrize(
    "notebook",
    [pytest.param(path, marks=[pytest.mark.long] * (path.stem not in MODELS)) for path in OWN[::-1]],
    ids=str,
)
def test_module_1_runs_on_a_learners_own_shop(notebook: Path, own_shop: Path, tmp_path: Path) -> None:
    execute_notebook(notebook, tmp_path / notebook.name, PARAMETERS.get(notebook.stem, {}) | {"categories": 20})
    assert (own_shop / "data-own" / "manifest.json").is_file() and not (own_shop / "data").exists()
