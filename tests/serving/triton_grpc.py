"""Ask a server with Triton's gRPC client and print what it says as JSON.

A program of its own: this client and the KServe SDK both register the protocol's messages, and refuse to do so
in one process. Usage: python -m tests.serving.triton_grpc HOST:PORT SHAPE DATATYPE
"""

import json
import sys

import numpy as np
import tritonclient.grpc as triton


def main(address: str, shape: list[int], datatype: str) -> dict[str, object]:
    """Metadata, one inference with ones as input, and an attempt to unload the model."""
    client = triton.InferenceServerClient(address)
    found: dict[str, object] = {"live": client.is_server_live(), "ready": client.is_model_ready("sales-forecaster")}
    metadata = client.get_model_metadata("sales-forecaster")
    found["outputs"] = [[tensor.name, list(tensor.shape)] for tensor in metadata.outputs]
    tensor = triton.InferInput("features", shape, datatype)
    tensor.set_data_from_numpy(np.ones(shape, np.float32 if datatype == "FP32" else np.float64))
    try:
        answer = client.infer("sales-forecaster", [tensor], request_id="g")
        found |= {"units": answer.as_numpy("units").ravel().tolist(), "id": answer.get_response().id}
    except triton.InferenceServerException as error:
        found |= {"status": str(error.status()), "message": error.message()}
    try:
        client.unload_model("sales-forecaster")
    except triton.InferenceServerException as error:
        found["unload"] = error.message()
    return found | {"ready_afterwards": client.is_model_ready("sales-forecaster")}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3])))
