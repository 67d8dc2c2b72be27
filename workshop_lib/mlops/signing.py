"""Signatures of model folders: who made these files, and has anybody changed them since?

    keys = ensure_keys()
    sign(folder)                       # writes folder/model.sig
    verify(folder)                     # raises SignatureError when one byte, one file or the key is another

The signature is a Sigstore bundle made by the library model-signing (OpenSSF Model Signing 1.0): a list of all files
with their SHA-256, signed with an elliptic-curve key. Without the private key nobody can write such a list anew, which
is what plain checksums beside the files cannot promise.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from workshop_lib.files import atomic_path, locked, write_text
from workshop_lib.settings import settings

SIGNATURE = "model.sig"
"""Name of the signature's file inside the folder; it is the only file that is not signed."""
T = TypeVar("T")


class SignatureError(RuntimeError):
    """A folder is not what was signed, or nobody signed it; the message says what differs."""


@dataclass(frozen=True)
class Keys:
    """Where a pair of keys lies, both as PEM files."""

    private: Path
    """Signs. Only its owner can read the file; on a cluster only the pipeline gets it."""
    public: Path
    """Verifies. Everybody may have it."""


def ensure_keys(folder: Path | None = None) -> Keys:
    """The pair of keys in a folder; made once, the first time that it is asked for (EC P-256).

    Args:
        folder: by default the course's own, ``mlops/keys`` below the settings' home.
    """
    folder = folder or settings.home / "mlops" / "keys"
    keys = Keys(folder / "model-signing.pem", folder / "model-signing.pub")
    with locked(keys.private):
        if not (keys.private.exists() and keys.public.exists()):
            _make(keys)
    return keys


def _make(keys: Keys) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    pem, nothing = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, nothing)
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    for path, content in ((keys.private, private), (keys.public, public)):
        with atomic_path(path) as draft:
            draft.touch(mode=0o600)
            draft.write_bytes(content)


def sign(folder: Path, keys: Keys | None = None) -> Path:
    """Sign every file of a folder, hidden ones too, and put the signature into it.

    Args:
        folder: of a model; files of any kind, no symbolic links.
        keys: the course's own by default.

    Returns:
        The signature's path.

    Raises:
        SignatureError: when there is nothing to sign, or something that cannot be signed.
    """
    from model_signing import signing  # about a second, which only those pay who sign

    keys = keys or ensure_keys()
    if not any(path.is_file() and path.name != SIGNATURE for path in folder.rglob("*")):
        raise SignatureError(f"{folder.name} holds no file to sign.")
    signer = signing.Config().use_elliptic_key_signer(private_key=keys.private).set_hashing_config(_hashing())
    with tempfile.TemporaryDirectory() as scratch:  # elsewhere: a file within the folder would be signed as well
        draft = Path(scratch) / SIGNATURE
        try:
            signer.sign(folder, draft)
        except ValueError as error:
            raise SignatureError(f"{folder.name} cannot be signed: {_reason(error)}") from error
        write_text(folder / SIGNATURE, draft.read_text(encoding="utf-8"))
    return folder / SIGNATURE


def verify(folder: Path, public: Path | None = None) -> None:
    """Check that a folder holds exactly the files that the owner of the key signed.

    Args:
        folder: of a model.
        public: the public key to trust; the course's own by default.

    Raises:
        SignatureError: when the signature is missing, broken or by another key, or when a file was changed, added or
            removed.
    """
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying

    signature, public = folder / SIGNATURE, public or ensure_keys().public
    if not signature.is_file():
        raise SignatureError(f"{folder.name} has no signature ({SIGNATURE}).")
    verifier = verifying.Config().use_elliptic_key_verifier(public_key=public).set_hashing_config(_hashing())
    try:
        verifier.verify(folder, signature)
    except InvalidSignature:
        raise SignatureError(f"{folder.name}: the signature does not belong to this list of files.") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:  # whatever a forged file may hold
        raise SignatureError(f"{folder.name}: {_reason(error)}") from None


def open_verified(folder: Path, name: str, load: Callable[[Path], T], public: Path | None = None) -> T:
    """Load one file of a folder, but only after the whole folder was verified.

    Args:
        folder: of a model.
        name: the file to load.
        load: reads it; it is not called when anything is wrong.
        public: as for :func:`verify`.

    Raises:
        SignatureError: as :func:`verify` does.
    """
    verify(folder, public)
    return load(folder / name)


def signed_files(folder: Path) -> dict[str, str]:
    """The names and SHA-256 sums that a signature lists. They say nothing before :func:`verify` has passed."""
    envelope = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))["dsseEnvelope"]
    statement: dict[str, Any] = json.loads(base64.b64decode(envelope["payload"]))
    return {entry["name"]: entry["digest"] for entry in statement["predicate"]["resources"]}


def _hashing() -> Any:
    """All files count but the signature. By default the library leaves out ``.git`` and its like: a place to hide."""
    from model_signing import hashing

    return hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


_DIFFERENCES = {
    r"Hash mismatch for '([^']+)'": "{} was changed",
    r"Extra files found in model '[^']*': ([^'\"\]]+)": "{} was added",
    r"Missing files in model '[^']*': ([^'\"\]]+)": "{} is missing",
    "(Key mismatch)": "it was signed with another key",
    "(symlink)": "it holds a symbolic link",
}
"""What the library says, and what that means."""


def _reason(error: Exception) -> str:
    """The library's words as a short sentence."""
    text = str(error).replace("\\'", "'")  # so Python writes it where a checksum's bytes hold a double quote
    found = [plain.format(match) for words, plain in _DIFFERENCES.items() for match in re.findall(words, text)]
    return f"{'; '.join(dict.fromkeys(found)) or f'{SIGNATURE} is no signature'}."
