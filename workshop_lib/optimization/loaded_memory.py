"""What a loaded model takes in a process that holds nothing else: ``python -m …loaded_memory FILE [PRECISION]``.

Prints two numbers of bytes: of the process once the runtime is imported, and with the model loaded and used. It
imports as little as possible, which is why it is not part of :mod:`workshop_lib.optimization.quantization`.
"""

from __future__ import annotations

import gc
import json
import sys

import numpy as np
import psutil

ROWS = 512
"""Rows of the one prediction that is made, so that working memory is counted too."""


def main(file: str, precision: str = "f32") -> tuple[int, int]:
    """Load a model of :mod:`~workshop_lib.optimization.quantization`, use it once, and return both sizes.

    Memory is the unique set size: what would be free again if the process ended.
    """
    process = psutil.Process()
    if file.endswith(".onnx"):
        import onnxruntime

        before = process.memory_full_info().uss
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        entry = session.get_inputs()[0]
        session.run(None, {entry.name: np.ones((ROWS, entry.shape[1]), np.float32)})
    else:
        import openvino

        before = process.memory_full_info().uss
        properties = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
        model = openvino.Core().compile_model(file, "CPU", properties)
        model(np.ones((ROWS, model.input(0).get_partial_shape()[1].get_length()), np.float32))
    gc.collect()
    return before, process.memory_full_info().uss


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
