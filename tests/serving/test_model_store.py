"""Models in S3-compatible storage, against a local server: the layout, the order, and what can go wrong."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import openvino
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from workshop_lib import manifests
from workshop_lib.predictive.champion import OUTPUT, Package
from workshop_lib.predictive.onnx_export import INPUT
from workshop_lib.serving import model_store
from workshop_lib.serving.model_store import ModelStoreError, listing, upload, versions
from workshop_lib.settings import S3_CONNECTION, Settings

BUCKET = "models"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A storage on loopback that speaks S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def storage(endpoint: str, use_settings: Callable[..., Settings]) -> Iterator[Any]:
    """A client of that storage with an empty bucket, which the settings name."""
    httpx.post(f"{endpoint}/moto-api/reset")
    use_settings(s3_endpoint=endpoint, s3_bucket=BUCKET, s3_access_key="key", s3_secret_key="secret")
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
    )
    client.create_bucket(Bucket=BUCKET)
    yield client
    httpx.post(f"{endpoint}/moto-api/reset")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder as an export leaves it."""
    folder = tmp_path / "ir"
    folder.mkdir()
    (folder / "model.xml").write_text("<net/>")
    (folder / "model.bin").write_bytes(bytes(range(256)) * 10)
    (folder / "forecaster.onnx").write_bytes(b"a server would not know which of two models to load")
    return folder


def keys(client: Any) -> list[str]:
    return [entry["Key"] for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def put_only(monkeypatch: pytest.MonkeyPatch, put: Callable[..., Any]) -> None:
    """Replace the client's put_object; everything else stays real."""
    original = boto3.client

    def client(*args: Any, **options: Any) -> Any:
        made = original(*args, **options)
        real = made.put_object
        made.put_object = lambda **request: put(real, **request)
        return made

    monkeypatch.setattr(model_store.boto3, "client", client)


def test_a_version_lies_where_the_inference_service_looks_for_it(storage: Any, model: Path) -> None:
    stored = upload(model, 1)
    assert keys(storage) == ["models/sales-forecaster/1/model.bin", "models/sales-forecaster/1/model.xml"]
    service = next(
        document
        for document in manifests.load("3-serving/manifests/base/forecaster")
        if document.kind == "InferenceService"
    )
    assert service.get("spec.predictor.model.storage.path") == stored.path
    assert stored.uri == "s3://models/models/sales-forecaster/1"
    for file in model_store.FILES:
        found = storage.get_object(Bucket=BUCKET, Key=f"{stored.path}/1/{file}")
        assert found["Body"].read() == (model / file).read_bytes()
        assert found["Metadata"] == {"sha256": stored.files[file]}


def test_a_registered_version_arrives_as_it_was_registered(package: Package, tmp_path: Path) -> None:
    with model_store.practice_storage() as storage:
        stored = model_store.upload_registered(storage=storage)
        with model_store._client(storage) as client:
            for file in model_store.FILES:
                client.download_file(stored.bucket, f"{stored.path}/{stored.version}/{file}", str(tmp_path / file))
    assert stored.version == int(package.version)
    assert stored.files == {file: package.about["files"][file] for file in model_store.FILES}
    model = openvino.Core().read_model(tmp_path / "model.xml")
    assert model.input(0).names == {INPUT} and model.output(0).names == {OUTPUT}  # what callers of the protocol name
    assert model.input(0).partial_shape[1] == len(package.about["features"])


def test_versions_are_listed_by_number(storage: Any, model: Path) -> None:
    for number in (10, 9, 1):
        (model / "model.bin").write_bytes(b"numbers of version %d" % number)
        upload(model, number)
    upload(model, 4, name="another")
    assert versions() == [1, 9, 10]
    table = listing()
    assert list(table.columns) == ["version", "file", "bytes", "sha256"]
    assert list(table["version"]) == [1, 1, 9, 9, 10, 10]
    assert table["sha256"].nunique() == 4  # three times other numbers, always the same graph


def test_versions_on_further_pages_are_found(storage: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")  # objects per answer; a real storage gives a thousand
    for number in range(1, 6):
        upload(model, number)
    assert len(keys(storage)) == 3
    assert versions() == [1, 2, 3, 4, 5]


def test_a_reader_never_meets_half_a_version(storage: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def put(real: Callable[..., Any], **request: Any) -> Any:
        order.append(Path(request["Key"]).name)
        assert versions() == []
        if order[-1] == "model.xml":
            raise ConnectionAbortedError("the network went away")
        return real(**request)

    with monkeypatch.context() as patch:
        put_only(patch, put)
        with pytest.raises(ConnectionAbortedError):
            upload(model, 1)
    assert order == ["model.bin", "model.xml"]
    assert keys(storage) == ["models/sales-forecaster/1/model.bin"]
    assert versions() == [] and listing().empty
    upload(model, 1)  # what was left over is no obstacle
    assert versions() == [1]


def test_what_arrives_damaged_does_not_count(storage: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def put(real: Callable[..., Any], **request: Any) -> Any:
        return real(**request | {"Body": request["Body"][:-1]})

    put_only(monkeypatch, put)
    with pytest.raises(ModelStoreError, match=r"models/sales-forecaster/1/model\.bin is not what was sent"):
        upload(model, 1)
    assert keys(storage) == []


def test_a_version_that_is_there_never_changes(storage: Any, model: Path) -> None:
    first = upload(model, 1)
    written = storage.head_object(Bucket=BUCKET, Key=f"{first.path}/1/model.xml")["LastModified"]
    assert upload(model, 1) == first
    assert storage.head_object(Bucket=BUCKET, Key=f"{first.path}/1/model.xml")["LastModified"] == written
    (model / "model.bin").write_bytes(b"other numbers")
    with pytest.raises(ModelStoreError, match=r"sales-forecaster/1 exists with another content.*the next number"):
        upload(model, 1)
    assert storage.get_object(Bucket=BUCKET, Key=f"{first.path}/1/model.bin")["Body"].read() != b"other numbers"


def test_other_things_in_the_bucket_are_no_versions(storage: Any, model: Path) -> None:
    for key in ("README.txt", "1/model.xml", "2/model.bin", "latest/model.xml", "latest/model.bin"):
        storage.put_object(Bucket=BUCKET, Key=f"models/sales-forecaster/{key}", Body=b"")
    upload(model, 3)
    assert versions() == [3]


def test_a_folder_without_a_model_is_refused(storage: Any, model: Path) -> None:
    (model / "model.bin").unlink()
    with pytest.raises(ModelStoreError, match=r"ir has no model\.bin\. Export"):
        upload(model, 1)
    with pytest.raises(ModelStoreError, match="from 1, not 0"):
        upload(model, 0)
    assert keys(storage) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"s3_bucket": None}, "No bucket is named. Set WORKSHOP_S3_BUCKET"),
        ({"s3_bucket": "elsewhere"}, "bucket elsewhere: NoSuchBucket .* Create it"),
        ({"s3_access_key": None}, "No key for http.* Set WORKSHOP_S3_ACCESS_KEY"),
        ({"s3_secret_key": None}, "No key for http.* Set WORKSHOP_S3_ACCESS_KEY and WORKSHOP_S3_SECRET_KEY"),
    ],
)
def test_errors_say_what_to_set(
    changes: dict[str, Any],
    message: str,
    storage: Any,
    model: Path,
    endpoint: str,
    use_settings: Callable[..., Settings],
) -> None:
    use_settings(
        **{"s3_endpoint": endpoint, "s3_bucket": BUCKET, "s3_access_key": "key", "s3_secret_key": "secret"} | changes
    )
    with pytest.raises(ModelStoreError, match=message):
        upload(model, 1)


def test_a_storage_that_does_not_answer_is_named(model: Path, use_settings: Callable[..., Settings]) -> None:
    with socket.socket() as closed:  # bound but not listening
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        use_settings(s3_endpoint=address, s3_bucket=BUCKET, s3_access_key="key", s3_secret_key="secret")
        with pytest.raises(ModelStoreError, match=f"{address} cannot be used .*WORKSHOP_S3_ENDPOINT"):
            upload(model, 1)


def test_without_a_bucket_one_can_practise(model: Path, home: Path) -> None:
    with pytest.raises(ModelStoreError):
        versions()  # nothing is configured
    with model_store.practice_storage() as storage:
        assert storage.endpoint is not None and storage.endpoint.startswith("http://127.0.0.1:")
        assert upload(model, 1, storage=storage).uri == "s3://models/models/sales-forecaster/1"
        assert versions(storage=storage) == [1] and len(listing(storage=storage)) == 2
    with model_store.practice_storage() as storage:
        assert versions(storage=storage) == []
    assert "practice'" not in repr(storage)
    with pytest.raises(ModelStoreError, match="cannot be used"):
        versions(storage=storage)


@pytest.mark.parametrize(
    ("code", "advice"), [("AccessDenied", "ask whoever owns"), ("SignatureDoesNotMatch", "WORKSHOP_S3_SECRET_KEY")]
)
def test_a_refusal_of_the_storage_is_explained(
    code: str, advice: str, storage: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(real: Callable[..., Any], **request: Any) -> Any:
        raise ClientError({"Error": {"Code": code}}, "PutObject")

    put_only(monkeypatch, put)
    with pytest.raises(ModelStoreError, match=f"bucket {BUCKET}: {code} .*{advice}"):
        upload(model, 1)


def test_the_keys_of_a_connection_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {
        "AWS_S3_ENDPOINT": "https://minio.example",
        "AWS_S3_BUCKET": "team",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    for name, value in connection.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.s3_endpoint, settings.s3_bucket, settings.s3_region) == (
        "https://minio.example",
        "team",
        "eu-west-1",
    )
    assert settings.s3_access_key is not None and settings.s3_access_key.get_secret_value() == "key"
    assert "secret" not in repr(settings.s3_secret_key) and "secret'" not in repr(settings)
    monkeypatch.setenv("WORKSHOP_S3_BUCKET", "mine")  # the course's own variable is the stronger one
    monkeypatch.setenv("AWS_S3_ENDPOINT", "minio.example:9000")
    assert (Settings().s3_bucket, Settings().s3_endpoint) == ("mine", "https://minio.example:9000")
    monkeypatch.setenv("AWS_S3_ENDPOINT", "")  # set but empty is not set
    assert Settings().s3_endpoint is None


def test_the_connection_secret_has_the_keys_that_are_read() -> None:
    (secret,) = manifests.load("3-serving/manifests/secrets/connection.yaml")
    assert set(secret.body["stringData"]) == set(S3_CONNECTION.values())
