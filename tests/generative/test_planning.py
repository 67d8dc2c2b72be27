"""The sums: against published figures, against a real checkpoint and a real server, and at their edges."""

import json
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from math import nan
from pathlib import Path
from threading import Thread

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workshop_lib.exercises import check
from workshop_lib.generative import planning, weights
from workshop_lib.generative.client import LLM, LLMError
from workshop_lib.generative.planning import GIB, Accelerator, PlanningError
from workshop_lib.generative.server_metrics import cache_settings, read_metrics
from workshop_lib.settings import settings

GRANITE = planning.read_config(planning.MODELS / "granite-3.1-8b-instruct.json")
CARDS = {device.name: device for device in planning.read_accelerators()}


def test_granite_is_as_large_as_its_model_card_says() -> None:
    assert sum(planning.parameters(GRANITE).values()) == pytest.approx(8.1e9, rel=0.01)
    assert planning.weight_bytes(GRANITE) == 2 * sum(planning.parameters(GRANITE).values())
    assert planning.weight_bytes(GRANITE) == pytest.approx(16.34e9, rel=0.001)  # its four published files together
    assert planning.kv_bytes_per_token(GRANITE) == 160 * 1024
    assert planning.kv_bytes_per_token(GRANITE, bits=8) == 80 * 1024


def test_the_small_model_is_what_its_file_holds(llm: LLM) -> None:
    folder = settings.llm_dir / weights.NAME
    config = planning.read_config(folder / "config.json")
    assert planning.stored_weights(folder / "model.safetensors") == (
        sum(planning.parameters(config).values()),
        planning.weight_bytes(config),
    )


def test_the_server_reports_the_planned_cache(llm: LLM) -> None:
    config = planning.read_config(settings.llm_dir / weights.NAME / "config.json")
    reported = cache_settings(llm)
    cache = settings.llm_kv_cache_gib * GIB
    assert float(reported["kv_cache_memory_bytes"]) == cache
    tokens = int(reported["kv_cache_size_tokens"])
    assert planning.kv_tokens(config, cache, int(reported["block_size"])) == tokens
    assert planning.cache_tokens(config, llm.model, reported) == (tokens, tokens)


def test_counters_of_the_server_count(llm: LLM) -> None:
    before = read_metrics(llm)
    reply = llm.chat("Name a fruit.", max_tokens=7, temperature=0)
    after = read_metrics(llm)
    name = "vllm:generation_tokens_total"
    assert after[name] - before[name] == reply.completion_tokens
    assert after["vllm:prompt_tokens_total"] - before["vllm:prompt_tokens_total"] == reply.prompt_tokens


def test_a_server_without_these_metrics_is_named() -> None:
    with pytest.raises(LLMError, match=r"http://127\.0\.0\.1:9/metrics does not answer"):
        cache_settings(LLM("http://127.0.0.1:9/v1", "m", "k"))


@pytest.fixture
def other_server() -> Iterator[str]:
    """Address of an HTTP server that has metrics, but not those of vLLM."""

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"process_cpu_seconds_total 1.0\n")

        def log_message(self, *_: object) -> None:
            """Keep the suite's output clean."""

    with HTTPServer(("127.0.0.1", 0), Metrics) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_with_metrics_of_its_own_is_named(other_server: str) -> None:
    for read in (cache_settings, read_metrics):
        with pytest.raises(LLMError, match=f"{other_server}/v1 shows no metrics of vLLM"):
            read(LLM(f"{other_server}/v1", "m", "k"))


CACHE = {"block_size": "16", "kv_cache_memory_bytes": str(GIB), "kv_cache_size_tokens": "6544"}


def test_only_a_cache_that_can_be_compared_is_compared() -> None:
    assert planning.cache_tokens(GRANITE, GRANITE.name, CACHE) == (6544, 6544)
    for served, reported in (
        ("another-model", CACHE),
        (GRANITE.name, CACHE | {"kv_cache_memory_bytes": "None"}),  # a server that took the memory that was left
        (GRANITE.name, {"kv_cache_size_tokens": "6544"}),
    ):
        assert planning.cache_tokens(GRANITE, served, reported) == (pytest.approx(nan, nan_ok=True), 6544)
    older = {name: value for name, value in CACHE.items() if name != "kv_cache_size_tokens"}
    assert planning.cache_tokens(GRANITE, GRANITE.name, older) == (6544, pytest.approx(nan, nan_ok=True))


def test_likely_wrong_promises_get_the_hint_that_helps() -> None:
    card, per_sequence = CARDS["A100 40GB"], 8192 * planning.kv_bytes_per_token(GRANITE)
    free = card.memory - planning.weight_bytes(GRANITE)
    promises = {precision: planning.plan(GRANITE, card, precision, 1, 8192) for precision in planning.BITS}
    assert check("2.1.b", promises["FP16"].sequences).correct  # type: ignore[union-attr]
    for precision in ("INT8", "INT4"):
        assert "quantised" in check("2.1.b", promises[precision].sequences).hint  # type: ignore[union-attr]
    for left in (free, free - planning.OVERHEAD_GIB * GIB, free - (1 - planning.USABLE) * card.memory):
        assert "overhead" in check("2.1.b", int(left // per_sequence)).hint


def test_quantised_weights_and_their_scales() -> None:
    parts = planning.parameters(GRANITE)
    layers, rest = parts["attention"] + parts["MLP"], parts["embeddings"] + parts["norms"]
    assert planning.weight_bytes(GRANITE, "INT4") == layers / 2 + 2 * layers / planning.GROUP + 2 * rest
    rows = 4096 + 1024 + 1024 + 4096 + 12800 + 12800 + 4096  # of a layer's seven matrices, one scale each
    assert planning.weight_bytes(GRANITE, "INT8") == layers + 2 * 40 * rows + 2 * rest
    with pytest.raises(PlanningError, match=r"Unknown precision 'FP8'\. Known: FP16, INT8, INT4"):
        planning.weight_bytes(GRANITE, "FP8")


def test_an_untied_model_has_a_second_embedding() -> None:
    untied = planning.parameters(replace(GRANITE, tied=False))
    assert untied["embeddings"] == 2 * planning.parameters(GRANITE)["embeddings"]


def test_where_granite_fits() -> None:
    assert planning.plan(GRANITE, CARDS["T4"], "FP16", 1, 4096).devices == 2  # type: ignore[union-attr]
    assert planning.plan(GRANITE, CARDS["A100 40GB"], "FP16", 1, 4096).devices == 1  # type: ignore[union-attr]
    assert planning.plan(GRANITE, CARDS["CPU node"], "FP16", 1000, 4096) is None  # one node, no second one to share
    table = planning.comparison(GRANITE, list(CARDS.values()), 1000, 4096)
    assert table.loc["CPU node", ("FP16", "devices")] == "-"
    assert list(table.index) == list(CARDS) and isinstance(table.columns, pd.MultiIndex)


def test_only_whole_heads_are_shared_out() -> None:
    device = Accelerator("x", 1e9, 1e9, (1, 2, 3, 4, 8, 16))
    assert planning.tensor_parallel_sizes(GRANITE, device) == [1, 2, 4, 8]
    assert planning.tensor_parallel_sizes(replace(GRANITE, heads=9, kv_heads=3), device) == [1, 3]


@given(
    precision=st.sampled_from(list(planning.BITS)),
    sequences=st.integers(1, 200),
    length=st.integers(1, 20_000),
    card=st.sampled_from(list(CARDS.values())),
)
def test_a_plan_holds_what_was_asked_and_not_more_than_there_is(
    precision: str, sequences: int, length: int, card: Accelerator
) -> None:
    plan = planning.plan(GRANITE, card, precision, sequences, length)
    needed = planning.memory(GRANITE, precision, sequences, length)
    if plan is None:
        most = max(planning.tensor_parallel_sizes(GRANITE, card))
        assert needed["weights"] + needed["KV cache"] > most * (
            planning.USABLE * card.memory - needed["overhead"]
        ) - length * planning.kv_bytes_per_token(GRANITE)
        return
    assert plan.sequences >= sequences and plan.memory <= planning.USABLE * card.memory
    assert plan.memory * plan.devices == pytest.approx(
        needed["weights"] + needed["KV cache"] + plan.devices * needed["overhead"]
    )
    assert plan.tokens_per_second <= plan.devices * card.bandwidth / needed["weights"]


def test_a_configuration_that_lacks_something_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    good = json.loads((planning.MODELS / "granite-3.1-8b-instruct.json").read_text())
    for field in ("num_hidden_layers", "hidden_size", "vocab_size", "intermediate_size"):
        path.write_text(json.dumps({name: value for name, value in good.items() if name != field}))
        with pytest.raises(PlanningError, match=f"config.json lacks the field '{field}'"):
            planning.read_config(path)
    path.write_text(json.dumps(good | {"num_local_experts": 8}))
    with pytest.raises(PlanningError, match="mixture of experts"):
        planning.read_config(path)
    path.write_text("{")
    with pytest.raises(PlanningError, match="no readable model configuration"):
        planning.read_config(path)
    del good["num_key_value_heads"]  # without the field every head has keys and values of its own
    path.write_text(json.dumps(good))
    assert planning.read_config(path).kv_heads == 32


def test_a_device_that_lacks_something_is_named(tmp_path: Path) -> None:
    path = tmp_path / "accelerators.yaml"
    path.write_text("- {name: X1, memory: 16}")
    with pytest.raises(PlanningError, match=r"accelerators\.yaml lacks the field 'bandwidth'"):
        planning.read_accelerators(path)


@pytest.mark.parametrize(("cache", "block", "tokens"), [(1023, 16, 0), (160 * 1024 * 16, 16, 16), (1e9, 16, 6096)])
def test_a_cache_is_handed_out_in_whole_blocks(cache: float, block: int, tokens: int) -> None:
    assert planning.kv_tokens(GRANITE, cache, block) == tokens
