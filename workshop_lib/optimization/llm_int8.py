"""The course's language model with INT8 weights and activations (W8A8), as a checkpoint that vLLM reads.

For every token, a processor has to fetch all weights from memory. Weights of half the size are fetched in half the
time. Each matrix of the decoder's layers becomes whole numbers from -127 to 127 and one scale per output channel
(a row of the matrix); activations are quantised by vLLM itself while it runs, with one scale per token. The embedding
and the output layer, which share one matrix here, stay bfloat16, and so do the norms.

The files are written in the compressed-tensors format (https://github.com/vllm-project/compressed-tensors): the
whole numbers under the weight's own name, the scales beside them as ``weight_scale``, and a description in
``config.json``.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from workshop_lib import processes
from workshop_lib.files import atomic_path, locked
from workshop_lib.generative.server import llm_server
from workshop_lib.generative.weights import NAME, WeightsError, build_checkpoint, is_intact, write_checksums
from workshop_lib.ports import free_port
from workshop_lib.processes import Service
from workshop_lib.settings import settings

INT8_NAME = f"{NAME}-w8a8"
"""Folder of the checkpoint, and the name under which it is served."""
LARGEST = 127
"""Largest whole number that is used; -128 is left out, so that the range is symmetric."""
_WEIGHTS = "model.safetensors"
_LINEAR = re.compile(r"model\.layers\.\d+\.(?:self_attn|mlp)\.\w+_proj\.weight")


def quantise(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round a matrix to whole numbers, each row with a scale of its own.

    A row's scale is its largest absolute value over :data:`LARGEST`; a number is the weight over the scale, rounded.

    Args:
        weight: floating point, shape (outputs, inputs).

    Returns:
        int8 of the same shape, and the scales, float32, shape (outputs, 1): their product is the weight again, wrong
        by half a scale at most.

    Raises:
        ValueError: when the matrix is not finite.
    """
    exact = weight.float()
    if not torch.isfinite(exact).all():
        raise ValueError("A weight is not a finite number: the checkpoint is damaged.")
    largest = exact.abs().amax(dim=1, keepdim=True)
    scale = torch.where(largest > 0, largest / LARGEST, 1.0)
    return (exact / scale).round().to(torch.int8), scale


def build_int8() -> Path:
    """Quantise the course's checkpoint unless that is done and intact; takes seconds once.

    Returns:
        The folder with ``config.json``, ``model.safetensors`` (163 MB) and the tokenizer.

    Raises:
        WeightsError: when the checkpoint to start from cannot be built, or has no layers of the expected names.
    """
    source, folder = build_checkpoint(), settings.llm_dir / INT8_NAME
    with locked(folder):  # of two processes that need it at once, one builds it
        if not is_intact(folder):
            with atomic_path(folder) as draft:
                draft.mkdir()
                write_int8(source, draft)
    return folder


def write_int8(source: Path, folder: Path) -> None:
    """Write the quantised form of a checkpoint.

    Args:
        source: a folder with ``config.json`` and ``model.safetensors`` of a Llama model.
        folder: an existing, empty one.

    Raises:
        WeightsError: when it has no linear layers of the expected names.
    """
    tensors: dict[str, torch.Tensor] = {}
    quantised = 0
    with safe_open(source / _WEIGHTS, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118, this is no dictionary
            tensor = file.get_tensor(name)
            if _LINEAR.fullmatch(name):
                tensors[name], tensors[f"{name}_scale"] = quantise(tensor)
                quantised += 1
            else:
                tensors[name] = tensor
    if not quantised:
        raise WeightsError(f"{source / _WEIGHTS} has no layers named like model.layers.0.mlp.up_proj.weight.")
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = quantization_config()
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    for path in source.iterdir():
        if path.name not in (_WEIGHTS, "config.json", "checksums.json"):
            shutil.copy(path, folder)
    write_checksums(folder)


def quantization_config() -> dict[str, object]:
    """What ``config.json`` says of the quantised layers, in the words of compressed-tensors."""
    eight_bits = {"num_bits": 8, "type": "int", "symmetric": True}
    return {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": eight_bits | {"strategy": "channel", "dynamic": False},
                "input_activations": eight_bits | {"strategy": "token", "dynamic": True},
            }
        },
    }


def stored_bytes(folder: Path) -> pd.DataFrame:
    """What a checkpoint's tensors take, by the part of the model that they belong to.

    Returns:
        Indexed by part (``embedding and output``, ``linear layers``, ``scales``, ``norms``): ``MB`` (10**6 bytes) and
        ``type`` of the numbers.
    """
    rows = []
    with safe_open(folder / _WEIGHTS, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            tensor = file.get_tensor(name)
            size = tensor.numel() * tensor.element_size() / 1e6
            rows.append((_part(name), size, str(tensor.dtype).removeprefix("torch.")))
    table = pd.DataFrame(rows, columns=["part", "MB", "type"])
    return table.groupby("part").agg({"MB": "sum", "type": "first"}).sort_values("MB", ascending=False)


def _part(name: str) -> str:
    if name.endswith("_scale"):
        return "scales"
    if _LINEAR.fullmatch(name):
        return "linear layers"
    return "norms" if "norm" in name else "embedding and output"


def bf16_server(options: Sequence[str] = ()) -> Service:
    """The server of the model as it is.

    That is the course's own server, unless the settings name another model or endpoint, or ``options`` change it;
    then it is one like :func:`int8_server`.
    """
    if not options and settings.llm_endpoint is None and settings.llm_model is None:
        return llm_server()
    return _scratch("llm-bf16", build_checkpoint(), options)


def int8_server(options: Sequence[str] = ()) -> Service:
    """A second server with the quantised model, on a free port, with the same settings.

    One that an interrupted comparison left behind is stopped.
    """
    return _scratch("llm-int8", build_int8(), options)


def _scratch(name: str, checkpoint: Path, options: Sequence[str]) -> Service:
    service = llm_server(name, free_port(), str(checkpoint), options)
    processes.stop(service)  # it would hold memory on a port that nobody knows any more
    return service
