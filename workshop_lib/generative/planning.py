"""How much memory a language model needs, and what it runs on: sums that are done before a GPU is rented.

All memory is in bytes unless a name says GiB (2**30 bytes). A decoder-only transformer with gated MLPs is assumed,
the form of Llama, Granite, Mistral, Qwen and SmolLM2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan, prod
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from workshop_lib.settings import ROOT

GIB = 2**30
MODELS = ROOT / "2-generative" / "models"
BITS = {"FP16": 16, "INT8": 8, "INT4": 4}
"""Bits of a weight by precision; BF16 takes as much as FP16."""
GROUP = 128
"""Weights that share a scale in INT4, the default of GPTQ and AWQ checkpoints."""
USABLE = 0.92
"""Share of a device's memory that vLLM 0.32 takes by default (``--gpu-memory-utilization``)."""
OVERHEAD_GIB = 1.5
"""Assumed per device for activations, CUDA context and buffers; measure it on yours, it depends on the batch."""


class PlanningError(ValueError):
    """A model or a device is described in a way that cannot be planned with."""


@dataclass(frozen=True)
class ModelConfig:
    """The sizes that decide a model's memory, named after the fields of its ``config.json``."""

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    """Longest sequence the model was trained for, tokens."""
    tied: bool
    """Whether input and output embedding are one table."""


@dataclass(frozen=True)
class Accelerator:
    """A device with its memory (bytes) and memory bandwidth (bytes per second)."""

    name: str
    memory: float
    bandwidth: float
    devices: tuple[int, ...] = (1, 2, 4, 8)
    """How many can work on one model together."""


@dataclass(frozen=True)
class Plan:
    """A way to run a model on one kind of device."""

    devices: int
    """Tensor-parallel size: each device holds that part of every layer."""
    memory: float
    """Taken on each device, bytes."""
    sequences: int
    """Sequences of the planned length that fit at once."""
    tokens_per_second: float
    """Upper bound for one sequence, by memory bandwidth."""


def read_config(path: Path) -> ModelConfig:
    """Read a model's published ``config.json``.

    Raises:
        PlanningError: for a file that is missing or no JSON, a missing field, or a mixture of experts.
    """
    try:
        raw: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if any("experts" in field for field in raw):
            raise PlanningError(f"{path.name} describes a mixture of experts; these sums are for dense models.")
        heads = raw["num_attention_heads"]
        return ModelConfig(
            name=raw.get("_name", path.parent.name),
            layers=raw["num_hidden_layers"],
            hidden=raw["hidden_size"],
            intermediate=raw["intermediate_size"],
            heads=heads,
            kv_heads=raw.get("num_key_value_heads", heads),
            head_dim=raw.get("head_dim") or raw["hidden_size"] // heads,
            vocabulary=raw["vocab_size"],
            context=raw["max_position_embeddings"],
            tied=raw.get("tie_word_embeddings", False),
        )
    except KeyError as error:
        raise PlanningError(f"{path.name} lacks the field {error}.") from error
    except (OSError, json.JSONDecodeError) as error:
        raise PlanningError(f"{path} is no readable model configuration: {error}.") from error


def read_accelerators(path: Path = MODELS / "accelerators.yaml") -> list[Accelerator]:
    """Read the devices; GB are taken as 10**9 bytes, which is on the safe side.

    Raises:
        PlanningError: when an entry lacks a field.
    """
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        return [
            Accelerator(
                entry["name"],
                entry["memory"] * 1e9,
                entry["bandwidth"] * 1e9,
                tuple(entry.get("devices", (1, 2, 4, 8))),
            )
            for entry in entries
        ]
    except KeyError as error:
        raise PlanningError(f"An entry of {path.name} lacks the field {error}.") from error


def parameters(config: ModelConfig) -> dict[str, int]:
    """Number of weights by part of the model.

    With hidden size h, intermediate size m, H heads and K key-value heads of d values, V words and L layers:
    attention is L(2hHd + 2hKd) (queries and output; keys and values, which grouped-query attention shares),
    a gated MLP is 3Lhm (gate, up, down), the norms are (2L + 1)h, an embedding is Vh.

    Sources: Vaswani et al. 2017 (transformer), Shazeer 2020 (gated MLP), Ainslie et al. 2023 (grouped-query attention).
    """
    h, d = config.hidden, config.head_dim
    return {
        "attention": config.layers * 2 * h * d * (config.heads + config.kv_heads),
        "MLP": config.layers * 3 * h * config.intermediate,
        "embeddings": config.vocabulary * h * (1 if config.tied else 2),
        "norms": (2 * config.layers + 1) * h,
    }


def weight_bytes(config: ModelConfig, precision: str = "FP16") -> float:
    """Memory of the weights.

    Quantised checkpoints keep embeddings and norms in 16 bits and store a 16-bit scale beside the integers: one
    per output row for INT8, one per :data:`GROUP` weights for INT4 (scheme W8A8 of LLM Compressor; Frantar et al.
    2022, GPTQ).

    Raises:
        PlanningError: for a precision other than those in :data:`BITS`.
    """
    if precision not in BITS:
        raise PlanningError(f"Unknown precision {precision!r}. Known: {', '.join(BITS)}.")
    parts = parameters(config)
    layers, rest = parts["attention"] + parts["MLP"], parts["embeddings"] + parts["norms"]
    # Output rows of a layer: queries, keys and values, attention's output, gate and up, down.
    rows = config.head_dim * (config.heads + 2 * config.kv_heads) + 2 * config.hidden + 2 * config.intermediate
    scales = {"FP16": 0.0, "INT8": config.layers * rows, "INT4": layers / GROUP}[precision]
    return layers * BITS[precision] / 8 + 2 * scales + 2 * rest


def kv_bytes_per_token(config: ModelConfig, bits: int = 16) -> float:
    """Memory that one token of one sequence occupies in the KV cache: 2 · layers · KV heads · head size · bytes.

    The 2 is for a key and a value. Source: Kwon et al. 2023, PagedAttention, section 3.
    """
    return 2 * config.layers * config.kv_heads * config.head_dim * bits / 8


def memory(config: ModelConfig, precision: str, sequences: int, length: int) -> dict[str, float]:
    """Memory by part when ``sequences`` of ``length`` tokens each (prompt and answer) are worked on at once."""
    return {
        "weights": weight_bytes(config, precision),
        "KV cache": sequences * length * kv_bytes_per_token(config),
        "overhead": OVERHEAD_GIB * GIB,
    }


def tensor_parallel_sizes(config: ModelConfig, device: Accelerator) -> list[int]:
    """Numbers of devices that can share the model: each must get whole heads and whole KV heads.

    Source: Shoeybi et al. 2019, Megatron-LM.
    """
    return [n for n in device.devices if config.heads % n == 0 and config.kv_heads % n == 0]


def plan(config: ModelConfig, device: Accelerator, precision: str, sequences: int, length: int) -> Plan | None:
    """The fewest devices of a kind that hold the model and the wanted sequences.

    Returns:
        The plan, or None when not even the largest number of devices is enough.
    """
    weights, per_sequence = weight_bytes(config, precision), length * kv_bytes_per_token(config)
    for count in tensor_parallel_sizes(config, device):
        room = USABLE * device.memory - OVERHEAD_GIB * GIB - weights / count
        fitting = int(room * count // per_sequence)
        if fitting >= sequences:
            taken = (weights + sequences * per_sequence) / count + OVERHEAD_GIB * GIB
            return Plan(count, taken, fitting, decode_bound(config, device, precision, length, count))
    return None


def decode_bound(config: ModelConfig, device: Accelerator, precision: str, length: int, count: int = 1) -> float:
    """Tokens per second of one sequence if nothing but reading memory took time; real speed is below.

    Each new token needs all weights and the sequence's KV cache once: bandwidth over bytes.
    Source: Pope et al. 2022, Efficiently Scaling Transformer Inference.
    """
    return count * device.bandwidth / (weight_bytes(config, precision) + length * kv_bytes_per_token(config))


def comparison(
    config: ModelConfig,
    devices: Sequence[Accelerator],
    sequences: int,
    length: int,
    precisions: Sequence[str] = tuple(BITS),
) -> pd.DataFrame:
    """Plans for every device (rows) and precision as a table; a dash where the model does not fit.

    Returns:
        For each precision the number of devices, GiB on each, sequences that fit and the bound in tokens per second.
    """
    rows: dict[str, dict[tuple[str, str], object]] = {}
    for device in devices:
        row: dict[tuple[str, str], object] = {}
        for precision in precisions:
            found = plan(config, device, precision, sequences, length)
            row[precision, "devices"] = found.devices if found else "-"
            row[precision, "GiB each"] = round(found.memory / GIB, 1) if found else "-"
            row[precision, "sequences"] = found.sequences if found else "-"
            row[precision, "tokens/s <"] = round(found.tokens_per_second) if found else "-"
        rows[device.name] = row
    return pd.DataFrame.from_dict(rows, orient="index").pipe(_with_two_header_lines)


def stored_weights(path: Path) -> tuple[int, int]:
    """Count what a checkpoint file really holds, from the header of its safetensors format.

    Returns:
        Number of weights and their bytes.
    """
    with path.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    tensors = [entry for name, entry in header.items() if name != "__metadata__"]
    count = sum(prod(entry["shape"]) for entry in tensors)
    return count, sum(entry["data_offsets"][1] - entry["data_offsets"][0] for entry in tensors)


def kv_tokens(config: ModelConfig, cache_bytes: float, block: int) -> int:
    """Tokens that fit into a KV cache, which the server hands out in blocks of ``block`` tokens."""
    return int(cache_bytes // (block * kv_bytes_per_token(config))) * block


def cache_tokens(config: ModelConfig, served: str, reported: Mapping[str, str]) -> tuple[float, float]:
    """Tokens in a server's KV cache: by the sums, and as the server says.

    Args:
        config: the model to plan for.
        served: name of the model that the server runs.
        reported: what :func:`workshop_lib.generative.server_metrics.cache_settings` read from it.

    Returns:
        Planned and reported tokens. The first is NaN when the server runs another model, or was given no fixed
        memory for its cache (``--kv-cache-memory-bytes``) and took what was left; the second when it does not say.
    """
    told = {name: float(value) for name, value in reported.items() if value.isdigit()}
    cache, block = told.get("kv_cache_memory_bytes"), told.get("block_size")
    planned = nan
    if served == config.name and cache is not None and block is not None:
        planned = kv_tokens(config, cache, int(block))
    return planned, told.get("kv_cache_size_tokens", nan)


def _with_two_header_lines(table: pd.DataFrame) -> pd.DataFrame:
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    return table
