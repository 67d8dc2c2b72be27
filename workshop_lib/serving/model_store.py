"""Models in S3-compatible storage, laid out as a model server expects to find them.

    stored = upload_registered("models:/sales-forecaster@champion")
    stored.path      # models/sales-forecaster, what an InferenceService names as storage.path
    listing()

    with practice_storage() as storage:    # no bucket at hand
        upload_registered(storage=storage)

The layout is ``<prefix>/<name>/<version>/model.xml`` with ``model.bin`` beside it. Storage has no transaction
over two files, so the order makes one: the graph ``model.xml``, without which a server sees no model, goes up
last, when everything before it was read back and found equal. A version that is there never changes.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import httpx
import pandas as pd
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from workshop_lib.files import sha256
from workshop_lib.ports import HOST
from workshop_lib.predictive.champion import EXPERIMENT, URI, load_package
from workshop_lib.predictive.tracking import FORECASTER, use_tracking
from workshop_lib.settings import settings

PREFIX = "models"
AMAZON = "Amazon S3"
FILES = ("model.bin", "model.xml")
"""In the order of their upload: the last one makes the version count."""
_REMEDIES = {
    "NoSuchBucket": "Create it, or set WORKSHOP_S3_BUCKET to one that exists.",
    "InvalidAccessKeyId": "Check WORKSHOP_S3_ACCESS_KEY.",
    "SignatureDoesNotMatch": "Check WORKSHOP_S3_SECRET_KEY.",
    "AccessDenied": "The key may not do this; ask whoever owns the bucket.",
}


class ModelStoreError(RuntimeError):
    """A model cannot be stored or read; the message says what was wrong and what to do."""


@dataclass(frozen=True)
class Storage:
    """A bucket and how to reach it."""

    bucket: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    endpoint: str | None = None
    """Address of the storage; None for Amazon's own."""


@dataclass(frozen=True)
class Stored:
    """A version in the storage."""

    bucket: str
    path: str
    """Folder of the model's versions in the bucket: the InferenceService's ``storage.path``."""
    version: int
    files: Mapping[str, str]
    """SHA-256 of each file."""

    @property
    def uri(self) -> str:
        """Where the version lies."""
        return f"s3://{self.bucket}/{self.path}/{self.version}"


def configured_storage() -> Storage:
    """The storage that the settings name.

    Raises:
        ModelStoreError: when a setting is missing.
    """
    if settings.s3_bucket is None:
        raise ModelStoreError("No bucket is named. Set WORKSHOP_S3_BUCKET, or attach a connection to the workbench.")
    if settings.s3_access_key is None or settings.s3_secret_key is None:
        raise ModelStoreError(
            f"No key for {settings.s3_endpoint or AMAZON}. Set WORKSHOP_S3_ACCESS_KEY and WORKSHOP_S3_SECRET_KEY."
        )
    return Storage(
        settings.s3_bucket,
        settings.s3_access_key.get_secret_value(),
        settings.s3_secret_key.get_secret_value(),
        settings.s3_region,
        settings.s3_endpoint,
    )


@contextmanager
def practice_storage(bucket: str = "models") -> Iterator[Storage]:
    """A storage on loopback that speaks S3 and forgets everything at the end of the block."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would tell every request
    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    try:
        address, port = server.get_host_and_port()
        storage = Storage(bucket, "practice", "practice", endpoint=f"http://{address}:{port}")
        with _client(storage) as client:
            client.create_bucket(Bucket=bucket)
        yield storage
        httpx.post(f"{storage.endpoint}/moto-api/reset")  # its memory would outlive the server
    finally:
        server.stop()


def upload_registered(uri: str = URI, *, prefix: str = PREFIX, storage: Storage | None = None) -> Stored:
    """Upload a registered version of the forecaster under its number in the registry.

    Args:
        uri: ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``; its files are checked against the registry.
        prefix: folder of all models in the bucket.
        storage: where to; :func:`configured_storage` by default.

    Raises:
        TrackingError: when the registry does not have it, or a file is not what was registered.
        ModelStoreError: as :func:`upload` does.
    """
    use_tracking(EXPERIMENT)
    package = load_package(uri)
    return upload(package.ir_file.parent, int(package.version), prefix=prefix, storage=storage)


def upload(
    folder: Path, version: int, *, name: str = FORECASTER, prefix: str = PREFIX, storage: Storage | None = None
) -> Stored:
    """Upload a model as one complete version; one that is there with the same content is left as it is.

    Args:
        folder: where ``model.xml`` and ``model.bin`` lie; other files in it stay behind.
        version: its number, from 1.
        name: of the model.
        prefix: folder of all models in the bucket.
        storage: where to; :func:`configured_storage` by default.

    Raises:
        ModelStoreError: when a file is missing, the version exists with another content, the storage cannot be
            reached or refuses, or what it holds afterwards is not what was sent.
    """
    if version < 1:
        raise ModelStoreError(f"A model server counts versions from 1, not {version}.")
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        raise ModelStoreError(f"{folder} has no {' and no '.join(missing)}. Export the model to OpenVINO's IR first.")
    storage = storage or configured_storage()
    stored = Stored(storage.bucket, f"{prefix}/{name}", version, {file: sha256(folder / file) for file in FILES})
    with _client(storage) as client:
        there = _checksums(client, stored)
        if there == stored.files:
            return stored
        if FILES[-1] in there:
            raise ModelStoreError(
                f"{stored.uri} exists with another content. A version never changes: use the next number."
            )
        for file in FILES:
            _put(client, stored, file, (folder / file).read_bytes())
    return stored


def listing(name: str = FORECASTER, *, prefix: str = PREFIX, storage: Storage | None = None) -> pd.DataFrame:
    """The complete versions of a model: version, file, bytes, sha256; an unfinished upload is not among them.

    Raises:
        ModelStoreError: when the storage cannot be reached or refuses.
    """
    rows = []
    storage = storage or configured_storage()
    with _client(storage) as client:
        for version in _versions(client, storage.bucket, f"{prefix}/{name}"):
            for file in FILES:
                found = client.get_object(Bucket=storage.bucket, Key=f"{prefix}/{name}/{version}/{file}")
                content = found["Body"].read()
                rows.append((version, file, len(content), hashlib.sha256(content).hexdigest()))
    return pd.DataFrame(rows, columns=["version", "file", "bytes", "sha256"])


def versions(name: str = FORECASTER, *, prefix: str = PREFIX, storage: Storage | None = None) -> list[int]:
    """Numbers of the complete versions, in ascending order.

    Raises:
        ModelStoreError: when the storage cannot be reached or refuses.
    """
    storage = storage or configured_storage()
    with _client(storage) as client:
        return _versions(client, storage.bucket, f"{prefix}/{name}")


def _versions(client: Any, bucket: str, path: str) -> list[int]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{path}/")
    found: dict[str, set[str]] = {}
    for page in pages:
        for entry in page.get("Contents", []):
            number, _, file = entry["Key"].removeprefix(f"{path}/").partition("/")
            found.setdefault(number, set()).add(file)
    return sorted(int(number) for number, files in found.items() if number.isdecimal() and files >= set(FILES))


def _checksums(client: Any, stored: Stored) -> dict[str, str]:
    """SHA-256 of the files of a version that are there, computed from what they hold."""
    prefix = f"{stored.path}/{stored.version}/"
    listed = client.list_objects_v2(Bucket=stored.bucket, Prefix=prefix).get("Contents", [])
    present = {entry["Key"].removeprefix(prefix) for entry in listed}
    return {file: _checksum(client, stored, file) for file in FILES if file in present}


def _checksum(client: Any, stored: Stored, file: str) -> str:
    found = client.get_object(Bucket=stored.bucket, Key=f"{stored.path}/{stored.version}/{file}")
    return hashlib.sha256(found["Body"].read()).hexdigest()


def _put(client: Any, stored: Stored, file: str, content: bytes) -> None:
    key = f"{stored.path}/{stored.version}/{file}"
    client.put_object(Bucket=stored.bucket, Key=key, Body=content, Metadata={"sha256": stored.files[file]})
    if _checksum(client, stored, file) != stored.files[file]:
        client.delete_object(Bucket=stored.bucket, Key=key)
        raise ModelStoreError(f"{stored.uri}/{file} is not what was sent, and was deleted again. Upload once more.")


@contextmanager
def _client(storage: Storage) -> Iterator[Any]:
    """A client for the storage, whose failures are told in the course's words."""
    where = storage.endpoint or AMAZON
    client = boto3.client(
        "s3",
        endpoint_url=storage.endpoint,
        region_name=storage.region,
        aws_access_key_id=storage.access_key,
        aws_secret_access_key=storage.secret_key,
        config=Config(
            connect_timeout=5,
            read_timeout=60,
            retries={"total_max_attempts": 3},
            # Other storages than Amazon's have no host name per bucket, and some do not know its newer checksums.
            s3={"addressing_style": "path"} if storage.endpoint else {},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    try:
        yield client
    except ClientError as error:
        code = error.response["Error"].get("Code", "")
        remedy = _REMEDIES.get(code, "See the message of the storage.")
        raise ModelStoreError(f"{where}, bucket {storage.bucket}: {code} ({error}). {remedy}") from error
    except BotoCoreError as error:
        raise ModelStoreError(f"{where} cannot be used ({error}). Check WORKSHOP_S3_ENDPOINT.") from error
    finally:
        client.close()
