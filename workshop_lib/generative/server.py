"""The local vLLM server: an OpenAI-compatible endpoint on loopback, on the CPU, within the memory of a laptop."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from workshop_lib.files import secret
from workshop_lib.generative.weights import NAME, build_checkpoint
from workshop_lib.processes import HOST, Service
from workshop_lib.settings import settings

PROCESS_GIB = 2.5
"""What the server takes beside its KV cache: libraries, weights and working memory of the course's model."""


def llm_server() -> Service:
    """How the local server is started.

    The course's own model is built first when it is missing. ``WORKSHOP_LLM_MODEL`` names another one: a folder,
    or a hub id that vLLM downloads.
    """
    return Service(
        name="llm",
        port=settings.llm_port,
        command=(
            sys.executable, "-m", "vllm.entrypoints.openai.api_server",
            "--model", settings.llm_model or str(settings.llm_dir / NAME),
            "--served-model-name", served_name(),
            "--host", HOST, "--port", str(settings.llm_port),
            "--dtype", "bfloat16",
            "--max-model-len", str(settings.llm_context),
            "--max-num-seqs", str(settings.llm_sequences),
            "--kv-cache-memory-bytes", str(int(settings.llm_kv_cache_gib * 2**30)),
            "--enforce-eager",  # compiling the graph starts slower and, for this model on a CPU, runs no faster
            "--enable-prompt-tokens-details",  # a reply tells how much of its prompt came from the prefix cache
            "--disable-uvicorn-access-log",
        ),
        health="/health",
        seconds=180,
        env={
            # The worker runs within the engine: each further process would import everything once more.
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
            # Some functions would be compiled all the same, by a linker that fails in folders with a space.
            "TORCHDYNAMO_DISABLE": "1",
            "VLLM_LOGGING_COLOR": "0",
            "TOKENIZERS_PARALLELISM": "false",
        },
        prepare=_prepare,
        memory_gib=PROCESS_GIB + settings.llm_kv_cache_gib,
    )  # fmt: skip


def served_name() -> str:
    """The name that requests to the local server give as ``model``."""
    return Path(settings.llm_model).name.lower() if settings.llm_model else NAME


def local_api_key() -> str:
    """The local server's key: made at random once, readable by its owner only."""
    return secret(settings.home / "services" / "llm-key.txt")


def _prepare() -> dict[str, str]:
    key = {"VLLM_API_KEY": local_api_key()}  # not an argument: the list of processes shows those to everyone
    if settings.llm_model and not Path(settings.llm_model).is_dir():
        return key
    if not settings.llm_model:
        build_checkpoint()
    return key | {"HF_HUB_OFFLINE": "1"}
