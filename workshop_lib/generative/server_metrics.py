"""What a vLLM server says of itself: its Prometheus metrics, read over HTTP."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from workshop_lib.generative.client import LLM, LLMError

_CACHE = "vllm:cache_config_info"


def read_metrics(llm: LLM) -> dict[str, float]:
    """Counters and histogram sums and counts, added up over their labels.

    Args:
        llm: the model whose server is asked.

    Returns:
        Values by sample name, such as ``vllm:generation_tokens_total`` and ``vllm:time_to_first_token_seconds_sum``.

    Raises:
        LLMError: when the server shows no metrics of vLLM.
    """
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(_fetch(llm)):
        for sample in family.samples:
            if sample.name.startswith("vllm:") and not sample.name.endswith(("_bucket", "_created")):
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def cache_settings(llm: LLM) -> dict[str, str]:
    """How the server laid out its KV cache: ``block_size``, ``kv_cache_size_tokens``, ``kv_cache_memory_bytes``, …

    Raises:
        LLMError: when the server does not tell.
    """
    for family in text_string_to_metric_families(_fetch(llm)):
        for sample in family.samples:
            if sample.name == _CACHE:
                return dict(sample.labels)
    raise LLMError(f"{llm.url} does not report {_CACHE}: it is no vLLM server, or one too old to tell.")


def _fetch(llm: LLM) -> str:
    text = llm.page("/metrics")
    if "vllm:" not in text:
        raise LLMError(f"The server of {llm.url} shows no metrics of vLLM.")
    return text
