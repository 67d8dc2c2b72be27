"""Entries of a cache that others can write to: compressed, and sealed so that a wrong one is noticed.

The seal is a hash that only somebody with the secret can make (a *message authentication code*, here keyed BLAKE2,
RFC 7693). It covers the key of the entry and the times as well as the answer. So an entry whose bytes flipped, that
somebody forged, that lies under another key, or whose time was prolonged does not open.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass

import zstandard

COMPRESS_FROM = 512
"""Bytes from which an answer is compressed; below that the saving is not worth the work."""
_HEAD = struct.Struct(">2sBdd")
_MAGIC = b"W1"
_SEAL_BYTES = 16
_LARGEST = 16 * 2**20
"""Bytes that an answer may have when it is unpacked."""


class SealError(ValueError):
    """An entry is not what was once stored under this key."""


@dataclass(frozen=True)
class Opened:
    """What was sealed."""

    body: bytes
    made: float
    """When the answer was made, seconds since 1970."""
    expires: float
    """Until when it may be used, likewise."""


def seal_key(secret: str) -> bytes:
    """The key for seals, from a secret that all processes of the API share: 32 bytes."""
    return hashlib.blake2b(secret.encode(), digest_size=32, person=b"cache seal").digest()


def seal(secret: bytes, key: str, opened: Opened) -> bytes:
    """Pack an answer for the shelf with this key.

    Args:
        secret: from :func:`seal_key`.
        key: under which it will lie.
        opened: the answer and its times.
    """
    packed = len(opened.body) >= COMPRESS_FROM
    body = zstandard.compress(opened.body) if packed else opened.body
    content = _HEAD.pack(_MAGIC, packed, opened.made, opened.expires) + body
    return content + _code(secret, key, content)


def unseal(secret: bytes, key: str, sealed: bytes) -> Opened:
    """Unpack what :func:`seal` packed.

    Raises:
        SealError: when a single bit of it, or the key, is another one.
    """
    content, code = sealed[:-_SEAL_BYTES], sealed[-_SEAL_BYTES:]
    if len(content) < _HEAD.size or not hmac.compare_digest(code, _code(secret, key, content)):
        raise SealError(f"{key}: the seal is broken.")
    magic, packed, made, expires = _HEAD.unpack_from(content)
    body = content[_HEAD.size :]
    if magic != _MAGIC:
        raise SealError(f"{key}: packed by another release.")
    if packed:
        try:
            body = zstandard.decompress(body, max_output_size=_LARGEST)
        except zstandard.ZstdError as error:
            raise SealError(f"{key}: cannot be unpacked ({error}).") from None
    return Opened(body, made, expires)


def _code(secret: bytes, key: str, content: bytes) -> bytes:
    name = key.encode()
    # The length keeps the border between key and content where it was.
    return hashlib.blake2b(len(name).to_bytes(4) + name + content, key=secret, digest_size=_SEAL_BYTES).digest()
