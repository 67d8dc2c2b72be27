"""Run a notebook of the Spanish edition with other parameters than it stores.

    python -m tests.notebooks.other_parameters NOTEBOOK FOLDER

The executed copy goes into the folder; its outputs are not compared with anything.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat

from workshop_lib.checkpoints import read_scorecard
from workshop_lib.editions import write_edition
from workshop_lib.files import locked
from workshop_lib.messages import translate
from workshop_lib.notebooks import execute_notebook
from workshop_lib.settings import settings

PARAMETERS: dict[str, dict[str, object]] = {
    "00_what_is_mlops": {"team": {"experiments": 3, "alerts": 2, "platform": 0}, "shown_area": "governance"},
    "01_data_exploration": {"top_categories": 8, "promoted_from": 0.2},
    "02_feature_engineering": {"categories": 40, "proof_days": 10},
    "03_train_forecaster": {"categories": 110, "folds": 2, "search_trees": 10},
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
    "custom_metrics": {"first_day": "2017-11-27", "texts_rated": 2},
    "drift_and_retraining": {"shift": 0.1},
    "alerts_that_fire": {"slowness": 0.4},
    "health_and_slo": {"check_every": 1.5},
    "model_quantization": {"epochs": 15, "batches": [1, 1024], "rounds": 3, "tokens": 12, "products_described": 3},
    "caching_strategy": {"first_day": "2017-12-18", "requests": 150, "texts": 2},
    "autoscaling_simulation": {"quiet_week": "2017-09-18", "shops": 4_000, "price_gpu": 3.0},
    "model_versioning": {"fewer_categories": 90, "rate": 12},
    "quality_gates": {"shown": "greedy", "weak_package": "requests"},
    "ab_testing": {"looks": 8, "runs": 800},
    "cicd_pipeline": {"rounds": 100, "narrow": 48},
    "security": {"asked": [50, 200, 1000], "probed_rows": 60, "rotation_requests": 15},
    "model_governance": {"household": 7, "neighbours": [1, 8]},
    "business_impact": {"years": 5, "draws": 500, "busiest_day": "2017-12-23", "shown_category": "CHEESE"},
}
"""Values for each notebook that are not the ones its stored outputs were made with."""
SHORT = {
    "00_what_is_mlops", "01_data_exploration",
    "02_api_testing",
    "01_openvino_for_forests",
    "01_model_wrappers",
    "autoscaling_simulation",
    "business_impact",
}  # fmt: skip
"""One or two quick notebooks of each module. The others are run a second time, with other values, on request only."""

LANGUAGE = "es"
EDITIONS = "editions"
"""The folder below a home for notebooks in other languages than English."""


def run(notebook: Path, folder: Path) -> None:
    """Execute a notebook from end to end, and see that it measured something of its module and speaks Spanish.

    Raises:
        NotebookError: with the failing cell and its error.
        AssertionError: when a cell was left out, or no condition was measured.
    """
    edition = settings.home / EDITIONS / LANGUAGE
    with locked(edition):
        if not (edition / notebook).exists():
            write_edition(LANGUAGE, edition, whole=False)
    before = read_scorecard()
    with _speaking(LANGUAGE):
        execute_notebook(edition / notebook, folder / notebook.name, PARAMETERS.get(notebook.stem))
    executed = nbformat.read(folder / notebook.name, as_version=4)
    assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code"), "a cell was left out"
    shown = [str(output.get("data", "")) for cell in executed.cells for output in cell.get("outputs", [])]
    assert any(translate("Checkpoint", LANGUAGE) in text for text in shown), "the checkpoint is not in Spanish"
    measured = [record for record in read_scorecard() if record not in before]
    assert measured and {record["module"] for record in measured} == {notebook.parts[0]}, measured


@contextmanager
def _speaking(language: str) -> Iterator[None]:
    """Kernels that start meanwhile speak a language."""
    before = os.environ.get("WORKSHOP_LANG", "en")
    os.environ["WORKSHOP_LANG"] = language
    try:
        yield
    finally:
        os.environ["WORKSHOP_LANG"] = before


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
