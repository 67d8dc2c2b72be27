"""The local vLLM server: an OpenAI-compatible endpoint on loopback, on the CPU, within the memory of a laptop."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from joblib import cpu_count

from workshop_lib.files import secret
from workshop_lib.generative.weights import NAME, build_checkpoint
from workshop_lib.ports import HOST
from workshop_lib.processes import Service
from workshop_lib.settings import settings

PROCESS_GIB = 2.5
"""What the server takes beside its KV cache: libraries, weights and working memory of the course's model."""


def llm_server(
    name: str = "llm", port: int | None = None, model: str | None = None, options: Sequence[str] = ()
) -> Service:
    """How the local server is started.

    The course's own model is built first when it is missing. ``WORKSHOP_LLM_MODEL`` names another one: a folder,
    or a hub id that vLLM downloads.

    Args:
        name: of the service; a second server beside the course's needs one of its own.
        port: the default is ``WORKSHOP_LLM_PORT``.
        model: a folder or hub id to serve instead of the settings' model.
        options: further arguments of vLLM; of an argument given twice, vLLM takes the last.
    """
    model = model or settings.llm_model
    port = port or settings.llm_port
    return Service(
        name=name,
        port=port,
        command=(
            sys.executable, "-m", "vllm.entrypoints.openai.api_server",
            "--model", model or str(settings.llm_dir / NAME),
            "--served-model-name", served_name(model),
            "--host", HOST, "--port", str(port),
            "--dtype", "bfloat16",
            "--max-model-len", str(settings.llm_context),
            "--max-num-seqs", str(settings.llm_sequences),
            "--kv-cache-memory-bytes", str(int(settings.llm_kv_cache_gib * 2**30)),
            "--enforce-eager",  # compiling the graph starts slower and, for this model on a CPU, runs no faster
            "--enable-prompt-tokens-details",  # a reply tells how much of its prompt came from the prefix cache
            "--disable-uvicorn-access-log",
            *options,
        ),
        health="/health",
        seconds=180,
        env={
            # The worker runs within the engine: each further process would import everything once more.
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "OMP_NUM_THREADS": str(cpu_count()),  # of a pod, its limit; not all cores of its node
            # Some functions would be compiled all the same, by a linker that fails in folders with a space.
            "TORCHDYNAMO_DISABLE": "1",
            "VLLM_LOGGING_COLOR": "0",
            "TOKENIZERS_PARALLELISM": "false",
        },
        prepare=partial(_prepare, model),
        memory_gib=PROCESS_GIB + settings.llm_kv_cache_gib,
    )  # fmt: skip


def served_name(model: str | None = None) -> str:
    """The name that requests to a local server give as ``model``; the default server's unless one is named."""
    model = model or settings.llm_model
    return Path(model).name.lower() if model else NAME


def local_api_key() -> str:
    """The local server's key: made at random once, readable by its owner only."""
    return secret(settings.home / "services" / "llm-key.txt")


def _prepare(model: str | None) -> dict[str, str]:
    key = {"VLLM_API_KEY": local_api_key()}  # not an argument: the list of processes shows those to everyone
    if model and not Path(model).is_dir():
        return key
    if not model:
        build_checkpoint()
    return key | {"HF_HUB_OFFLINE": "1"}
