"""Importing the library: nothing reports home, threads wait politely, a learner's own choice stands."""

import json
import os
import subprocess
import sys

import workshop_lib

SHOW = "import json, os, workshop_lib; print(json.dumps(dict(os.environ)))"


def imported(**given: str) -> dict[str, str]:
    """The variables of a fresh Python after it has imported the library."""
    wanted = workshop_lib.NO_TELEMETRY | workshop_lib.PATIENT_THREADS
    clean = {name: value for name, value in os.environ.items() if name not in wanted}
    shown = subprocess.run([sys.executable, "-c", SHOW], env=clean | given, capture_output=True, text=True, check=True)
    return dict(json.loads(shown.stdout))


def test_every_library_that_reports_home_is_told_not_to() -> None:
    telemetry = {
        **{"DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true", "VLLM_NO_USAGE_STATS": "1"},
        **{"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "RAY_USAGE_STATS_ENABLED": "0"},
        "ORT_DISABLE_TELEMETRY": "1",
    }
    assert telemetry.items() <= imported().items()


def test_what_was_set_before_stays() -> None:
    assert imported(OMP_WAIT_POLICY="ACTIVE")["OMP_WAIT_POLICY"] == "ACTIVE"
    assert imported()["OMP_WAIT_POLICY"] == "PASSIVE"
