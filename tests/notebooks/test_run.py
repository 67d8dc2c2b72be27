"""Every notebook from end to end through papermill: in the order of the course, with other parameters than it stores.

Then the whole of module 1 on a small shop of its own, as a learner brings it.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest

from workshop_lib import cli
from workshop_lib.checkpoints import read_scorecard
from workshop_lib.data.sources import find_source
from workshop_lib.notebooks import execute_notebook, find_notebooks
from workshop_lib.settings import ROOT, settings

NOTEBOOKS = find_notebooks()
PARAMETERS: dict[str, dict[str, object]] = {
    "01_data_exploration": {"top_categories": 8, "promoted_from": 0.2},
    "02_feature_engineering": {"categories": 40, "proof_days": 10},
    "03_train_forecaster": {"categories": 40, "folds": 2, "search_trees": 10},
    "04_churn_with_mlflow": {"cutoffs": 7, "search_trials": 2, "contact_cost": 3.0},
    "05_export_onnx": {"forest_trees": 20, "batches": [1, 32]},
    "01_resource_planning": {"sequences": 4, "length": 2048},
    "02_api_testing": {"question": "Name two fruits.", "temperatures": [0.0, 1.0], "samples": 2},
    "03_prompt_optimization": {"choosing": 4, "reporting": 5, "streams": 4},
    "04_performance_benchmark": {"tokens": 8, "levels": [1, 10], "open_seconds": 2},
    "01_openvino_for_forests": {"trees": 20, "batches": [1, 1024], "seconds": 0.05},
    "02_serve_forecaster": {"day": "2017-12-05", "shown": 5},
    "03_business_api": {"category": "CHEESE", "known_until": "2017-12-09", "burst_workers": 48, "burst_seconds": 1.0},
    "04_load_test": {"connections": [1, 4], "shares": [0.5, 1.0], "batches": [4, 512], "sustained_seconds": 4},
    "05_release_strategies": {"rate": 20, "flagged": 5},
    "01_model_wrappers": {"category": "CHEESE", "household": 1, "days_ahead": 3},
    "02_product_analysis": {"category": "CHEESE", "many": 6, "few": 2, "backtest": 30},
    "03_customer_insight": {"household_id": 1, "contacts": 4, "list_length": 3},
    "04_market_analysis": {"shown": ["CHEESE", "SOUP"], "shuffles": 60, "departments": ["GROCERY"]},
    "05_dashboard": {"category": "CHEESE", "household": 1, "question": "How much cheese will we sell tomorrow?"},
    "06_end_to_end": {"requests": 30, "at_once": 2, "delay": 8.0},
}
"""Values for each notebook that are not the ones its stored outputs were made with."""


def defaults_of(notebook: Path) -> dict[str, object]:
    found = papermill.inspect_notebook(str(ROOT / notebook))
    return {name: ast.literal_eval(parameter["default"]) for name, parameter in found.items()}


def test_every_notebook_is_run_with_other_parameters_than_its_own() -> None:
    assert PARAMETERS.keys() == {notebook.stem for notebook in NOTEBOOKS}
    for notebook in NOTEBOOKS:
        values, defaults = PARAMETERS[notebook.stem], defaults_of(notebook)
        assert values and values.keys() <= defaults.keys(), f"{notebook} has the parameters {', '.join(defaults)}"
        assert [name for name, value in values.items() if value == defaults[name]] == [], notebook


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=str)
def test_a_notebook_runs_with_other_parameters(notebook: Path, tmp_path: Path) -> None:
    before = read_scorecard()
    execute_notebook(notebook, tmp_path / notebook.name, PARAMETERS.get(notebook.stem))
    executed = nbformat.read(tmp_path / notebook.name, as_version=4)
    assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code")
    measured = [record for record in read_scorecard() if record not in before]
    assert measured and {record["module"] for record in measured} == {notebook.parts[0]}


def test_reset_knows_all_that_the_notebooks_made() -> None:
    made = {path for path in settings.home.iterdir() if path != settings.logs_dir}
    assert made - set(cli._generated(None)) == set()


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


# Backwards: no notebook finds what an earlier one would have left, so each must be able to run alone.
@pytest.mark.parametrize("notebook", [path for path in NOTEBOOKS if path.parts[0] == "1-predictive"][::-1], ids=str)
def test_module_1_runs_on_a_learners_own_shop(notebook: Path, own_shop: Path, tmp_path: Path) -> None:
    execute_notebook(notebook, tmp_path / notebook.name, PARAMETERS.get(notebook.stem, {}) | {"categories": 20})
    assert (own_shop / "data-own" / "manifest.json").is_file() and not (own_shop / "data").exists()
