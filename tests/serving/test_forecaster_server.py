"""The forecaster's server, asked by clients that nobody here wrote."""

import asyncio
import dataclasses
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.http
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from mlflow.tracking import MlflowClient

from workshop_lib import processes
from workshop_lib.predictive import onnx_export
from workshop_lib.predictive.champion import Package, load_package, register_forecaster
from workshop_lib.predictive.forecaster import gradient_boosting, make_dataset, train
from workshop_lib.predictive.tracking import TrackingError
from workshop_lib.processes import log_lines
from workshop_lib.serving.forecaster_client import Endpoint, v2_body
from workshop_lib.serving.local import forecaster_service
from workshop_lib.settings import ROOT, settings


@pytest.fixture(scope="module")
def expected(package: Package, rows: np.ndarray) -> np.ndarray:
    """What the registered file answers."""
    return np.maximum(onnx_export.predict(onnx_export.session(package.onnx_file), rows), 0)


@pytest.fixture
def infer(forecaster: Endpoint) -> Callable[..., httpx.Response]:
    """Send a body to the infer address."""

    def send(body: Any, **options: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json", **options.pop("headers", {})}
        address = f"{forecaster.url}{options.pop('path', '/v2/models/sales-forecaster/infer')}"
        return httpx.post(address, content=content, headers=headers, timeout=30)

    return send


# ---------------------------------------------------------------- what it answers


def test_rest_answers_what_the_registered_file_answers(
    infer: Callable[..., httpx.Response], rows: np.ndarray, expected: np.ndarray, package: Package
) -> None:
    reply = infer(v2_body(rows, "first"))
    body = reply.json()
    assert reply.status_code == 200
    assert (body["id"], body["model_name"], body["model_version"]) == ("first", "sales-forecaster", package.version)
    output = body["outputs"][0]
    assert (output["name"], output["datatype"], output["shape"]) == ("units", "FP32", [len(rows), 1])
    np.testing.assert_allclose(output["data"], expected, rtol=1e-5)


def test_both_runtimes_give_the_same_answer(
    infer: Callable[..., httpx.Response], forecaster: Endpoint, rows: np.ndarray, expected: np.ndarray
) -> None:
    many = np.tile(rows, (settings.forecaster_openvino_rows // len(rows) + 1, 1))
    reply = infer(v2_body(many))
    np.testing.assert_allclose(reply.json()["outputs"][0]["data"][: len(rows)], expected, rtol=1e-5)
    metrics = httpx.get(f"{forecaster.url}/metrics").text
    assert 'forecaster_rows_total{runtime="openvino"}' in metrics


def test_version_1_of_the_protocol_works_too(
    infer: Callable[..., httpx.Response], rows: np.ndarray, expected: np.ndarray
) -> None:
    reply = infer({"instances": rows.tolist()}, path="/v1/models/sales-forecaster:predict")
    np.testing.assert_allclose(reply.json()["predictions"], expected, rtol=1e-5)


def test_the_sdk_s_clients_work(forecaster: Endpoint, rows: np.ndarray, expected: np.ndarray) -> None:
    async def ask() -> tuple[Any, Any]:
        tensor = InferInput("features", list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows)
        request = InferRequest("sales-forecaster", [tensor])
        rest = InferenceRESTClient(RESTConfig(protocol="v2"))
        assert await rest.is_server_ready(forecaster.url)
        assert await rest.is_model_ready(forecaster.url, "sales-forecaster")
        by_rest = await rest.infer(forecaster.url, request, model_name="sales-forecaster")
        by_grpc = await InferenceGRPCClient(forecaster.grpc).infer(request)
        return by_rest, by_grpc

    for answer in asyncio.run(ask()):
        np.testing.assert_allclose(answer.outputs[0].as_numpy().ravel(), expected, rtol=1e-5)


@pytest.mark.parametrize("binary", [True, False])
def test_triton_s_http_client_works(forecaster: Endpoint, rows: np.ndarray, expected: np.ndarray, binary: bool) -> None:
    client = tritonclient.http.InferenceServerClient(forecaster.url.removeprefix("http://"))
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("sales-forecaster")
    tensor = tritonclient.http.InferInput("features", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    wanted = [tritonclient.http.InferRequestedOutput("units", binary_data=binary)]
    answer = client.infer("sales-forecaster", [tensor], outputs=wanted, request_id="t")
    np.testing.assert_allclose(answer.as_numpy("units").ravel(), expected, rtol=1e-5)
    assert answer.get_response()["id"] == "t"


def ask_by_triton_grpc(forecaster: Endpoint, shape: list[int], datatype: str = "FP32") -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.serving.triton_grpc", str(forecaster.grpc), json.dumps(shape), datatype]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout)


def test_triton_s_grpc_client_works(
    forecaster: Endpoint, package: Package, infer: Callable[..., httpx.Response]
) -> None:
    shape = [2, len(package.about["features"])]
    found = ask_by_triton_grpc(forecaster, shape)
    assert found["live"] and found["ready"] and found["id"] == "g"
    assert found["outputs"] == [["units", [-1, 1]]]
    by_rest = infer(v2_body(np.ones(shape))).json()["outputs"][0]["data"]
    np.testing.assert_allclose(found["units"], by_rest, rtol=1e-5)


def test_nobody_can_unload_the_model_over_grpc(forecaster: Endpoint) -> None:
    found = ask_by_triton_grpc(forecaster, [1, 32])
    assert "cannot be unloaded" in found["unload"] and found["ready_afterwards"]


def test_metadata_names_the_tensors(forecaster: Endpoint, package: Package) -> None:
    metadata = httpx.get(f"{forecaster.url}/v2/models/sales-forecaster").json()
    width = len(package.about["features"])
    assert metadata["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, width]}]
    assert metadata["outputs"] == [{"name": "units", "datatype": "FP32", "shape": [-1, 1]}]


def test_forecasts_are_never_negative(infer: Callable[..., httpx.Response], package: Package) -> None:
    rows = np.random.default_rng(0).normal(0, 1e6, (200, len(package.about["features"])))
    assert min(infer(v2_body(rows)).json()["outputs"][0]["data"]) >= 0


def test_metrics_count_requests_by_template_and_status(
    infer: Callable[..., httpx.Response], forecaster: Endpoint, rows: np.ndarray
) -> None:
    series = 'http_requests_total{path="/v2/models/{model_name}/infer",server="forecaster",status="200"}'

    def count() -> float:
        lines = httpx.get(f"{forecaster.url}/metrics").text.splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(series)), 0)

    before = count()
    infer(v2_body(rows))
    httpx.get(f"{forecaster.url}/no/such/{time.time()}")
    assert count() == before + 1
    assert "/no/such" not in httpx.get(f"{forecaster.url}/metrics").text


def test_a_request_id_comes_back_and_is_logged(infer: Callable[..., httpx.Response], rows: np.ndarray) -> None:
    reply = infer(v2_body(rows), headers={"X-Request-ID": "trace-me-1"})
    assert reply.headers["x-request-id"] == "trace-me-1"
    logged = log_lines("trace-me-1", [forecaster_service()])
    assert [(line["status"], line["path"]) for line in logged] == [(200, "/v2/models/{model_name}/infer")]


# ---------------------------------------------------------------- what it refuses


def broken(**changes: Any) -> dict[str, Any]:
    """A request for one row with one field replaced."""
    return {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 32], "data": [1.0] * 32, **changes}]}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (broken(name="rows"), "'features'"),
        (broken(shape=[1, 31], data=[1.0] * 31), "[rows, 32]"),
        (broken(shape=[32]), "[rows, 32]"),
        (broken(shape=[0, 32], data=[]), "at least one row"),
        (broken(shape=[-1, -32]), "[rows, 32]"),
        (broken(shape=[1_000_000, 32]), "at most 10000 rows"),
        (broken(datatype="INT64"), "FP32"),
        (broken(datatype="NONSENSE"), "FP32"),
        (broken(data=[1.0] * 31), "32 numbers"),
        (broken(data=["a"] * 32), "32 numbers"),
        (broken(data=[[1.0] * 16, [1.0] * 15]), "32 numbers"),
        (broken(data=[None] * 32), "finite"),
        (broken(data=[float("nan")] + [1.0] * 31), "lag_1"),
        (broken(data=[1.0] * 31 + [1e39]), "department"),
        ({"inputs": []}, "'features'"),
        ({"inputs": broken()["inputs"] * 2}, "'features'"),
        ({**broken(), "outputs": [{"name": "price"}]}, "'units'"),
        ({}, "inputs"),
        ([], "inputs"),
        (b"{not json", "JSON"),
        ({"inputs": [{"name": "features"}]}, "inputs.0.shape: Field required"),
        (b"\xff\xfe", ""),
        (b"", ""),
    ],
)
def test_a_wrong_request_is_told_the_field_and_what_was_expected(
    infer: Callable[..., httpx.Response], body: Any, says: str
) -> None:
    reply = infer(body)
    assert 400 <= reply.status_code < 500, reply.text
    assert says in reply.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/other/infer", 404),
        ("/v2/models/sales-forecaster/versions/7/infer", 404),
        ("/v2/repository/models/sales-forecaster/unload", 400),
        ("/v2/repository/models/other/load", 503),
        ("/v1/models/other:predict", 404),
    ],
)
def test_wrong_addresses_are_refused(infer: Callable[..., httpx.Response], path: str, status: int) -> None:
    assert infer(broken(), path=path).status_code == status


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused(forecaster: Endpoint, chunked: bool) -> None:
    whole = b" " * (settings.max_body_bytes + 1)
    pieces = (whole[start : start + 65536] for start in range(0, len(whole), 65536))
    address = f"{forecaster.url}/v2/models/sales-forecaster/infer"
    reply = httpx.post(address, content=pieces if chunked else whole, headers={"content-type": "application/json"})
    assert reply.status_code == 413
    assert str(settings.max_body_bytes) in reply.text


@pytest.mark.parametrize(
    ("shape", "datatype", "says"), [([2, 31], "FP32", "32"), ([64], "FP32", "32"), ([2, 32], "FP64", "FP32")]
)
def test_grpc_refuses_with_invalid_argument(forecaster: Endpoint, shape: list[int], datatype: str, says: str) -> None:
    found = ask_by_triton_grpc(forecaster, shape, datatype)
    assert found["status"] == "StatusCode.INVALID_ARGUMENT" and says in found["message"]


NUMBERS = st.one_of(st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=3), st.none(), st.booleans())
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["features", "", "x"]) | NUMBERS,
        "shape": st.lists(NUMBERS, max_size=3) | NUMBERS,
        "datatype": st.sampled_from(["FP32", "FP16", "BYTES", "INT8", "BOOL"]) | NUMBERS,
        "data": st.lists(NUMBERS | st.lists(NUMBERS, max_size=3), max_size=33) | NUMBERS,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "a"]), NUMBERS, max_size=2),
    },
)
BODIES = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=2) | NUMBERS},
    optional={"id": NUMBERS, "outputs": st.lists(TENSORS, max_size=1) | NUMBERS, "parameters": NUMBERS},
)


@pytest.mark.parametrize("length", [None, "", "5", "-1", "x", "99999999"])
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES | st.binary(max_size=60))
def test_no_body_whatever_makes_the_server_fail(
    infer: Callable[..., httpx.Response], length: str | None, body: Any
) -> None:
    binary = {"content-type": "application/octet-stream", "inference-header-content-length": length or ""}
    reply = infer(body, headers={} if length is None else binary)
    assert reply.status_code < 500, (body, reply.text)


# ---------------------------------------------------------------- how it runs


def test_it_listens_on_loopback_only(forecaster: Endpoint) -> None:
    pid = processes.status(forecaster_service()).pid
    listening = [c.laddr for c in psutil.Process(pid).connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {address.port for address in listening} == {settings.forecaster_port, settings.forecaster_grpc_port}
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_a_stop_finishes_what_is_in_flight(package: Package, free_port: Callable[[], int]) -> None:
    service = forecaster_service(f"models:/sales-forecaster/{package.version}", "stopping", free_port(), free_port())
    processes.start(service)
    rows = np.ones((settings.forecaster_max_rows, len(package.about["features"])), np.float32)
    content = rows.tobytes()
    head = json.dumps(
        {"inputs": [{"name": "features", "shape": list(rows.shape), "datatype": "FP32",
                     "parameters": {"binary_data_size": len(content)}}]}
    ).encode()  # fmt: skip
    replies = []

    def ask() -> None:
        headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
        address = f"{service.url}/v2/models/sales-forecaster/infer"
        replies.append(httpx.post(address, content=head + content, headers=headers, timeout=30))

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.15)  # the body has arrived, the answer has not been computed
    assert not replies
    begun = time.monotonic()
    processes.stop(service)
    thread.join()
    assert replies[0].status_code == 200
    assert time.monotonic() - begun < 8
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", service.port)) != 0


@pytest.fixture(scope="session")
def second_version(package: Package) -> str:
    """Another forecaster in the registry; the champion stays what it is."""
    trained = train(gradient_boosting(n_estimators=20), make_dataset())
    return str(register_forecaster(trained, metrics={}, description="For tests.", alias=None).version)


def follow(alias: str, version: str, port: int, grpc_port: int) -> processes.Service:
    """A server that follows an alias of its own."""
    MlflowClient().set_registered_model_alias("sales-forecaster", alias, version)
    service = forecaster_service(f"models:/sales-forecaster@{alias}", alias, port, grpc_port)
    command = tuple(word for word in service.command if word != "--no-reload")
    return dataclasses.replace(service, command=command, env={"WORKSHOP_RELOAD_SECONDS": "0.3"})


def test_a_new_champion_is_loaded_without_a_lost_request(
    package: Package, second_version: str, rows: np.ndarray, free_port: Callable[[], int]
) -> None:
    service = follow("reload", package.version, free_port(), free_port())
    processes.start(service)
    answers: list[tuple[int, str]] = []
    enough = threading.Event()

    def load() -> None:
        with httpx.Client(timeout=30) as client:
            while not enough.is_set():
                reply = client.post(f"{service.url}/v2/models/sales-forecaster/infer", json=v2_body(rows))
                answers.append((reply.status_code, reply.json().get("model_version")))

    workers = [threading.Thread(target=load) for _ in range(3)]
    try:
        for worker in workers:
            worker.start()
        time.sleep(0.5)
        MlflowClient().set_registered_model_alias("sales-forecaster", "reload", second_version)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and (not answers or answers[-1][1] != second_version):
            time.sleep(0.1)
        time.sleep(0.3)
    finally:
        enough.set()
        for worker in workers:
            worker.join()
        processes.stop(service)
    assert {status for status, _ in answers} == {200}
    assert {version for _, version in answers} == {package.version, second_version}


def test_a_version_that_was_tampered_with_is_not_loaded(
    package: Package, second_version: str, free_port: Callable[[], int]
) -> None:
    service = follow("tampered", package.version, free_port(), free_port())
    processes.start(service)
    file = load_package(f"models:/sales-forecaster/{second_version}").ir_file.with_suffix(".bin")
    original = file.read_bytes()
    try:
        file.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
        MlflowClient().set_registered_model_alias("sales-forecaster", "tampered", second_version)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and "reload failed" not in service.log.read_text():
            time.sleep(0.1)
        body = httpx.post(f"{service.url}/v2/models/sales-forecaster/infer", json=v2_body(np.ones((1, 32)))).json()
        assert body["model_version"] == package.version
        assert "checksum" in service.log.read_text()
        assert 'forecaster_reloads_total{result="failed"}' in httpx.get(f"{service.url}/metrics").text
        with pytest.raises(TrackingError, match="checksum"):
            load_package(f"models:/sales-forecaster/{second_version}")
    finally:
        file.write_bytes(original)
        processes.stop(service)
