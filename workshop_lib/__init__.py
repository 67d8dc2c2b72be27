"""The library behind the course: each folder is a room named after the module that uses it first.

Importing it sets a few variables for this process and its children, unless they are set already.
"""

import os

__version__ = "0.1.0"

# No learner's machine phones home because of a workshop.
NO_TELEMETRY = {
    "DO_NOT_TRACK": "true",  # MLflow and Evidently read exactly this word
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "VLLM_NO_USAGE_STATS": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime reports from Linux too since 1.31
}

# OpenMP threads that wait shall sleep, not spin: beside one busy browser tab, XGBoost's training takes
# ten times as long when they spin. It is read when a library is loaded, hence here.
PATIENT_THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}

for _variable, _value in (NO_TELEMETRY | PATIENT_THREADS).items():
    os.environ.setdefault(_variable, _value)
