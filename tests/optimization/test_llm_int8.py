"""The INT8 checkpoint: its numbers, its form, its files; and both servers, side by side for real."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationStrategy
from compressed_tensors.quantization.lifecycle.forward import dequantize
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from workshop_lib import processes
from workshop_lib.generative import prompts, weights
from workshop_lib.generative.benchmark import Record, Run
from workshop_lib.generative.client import LLM
from workshop_lib.generative.comparison import gain
from workshop_lib.generative.facts import choose_products
from workshop_lib.generative.weights import WeightsError
from workshop_lib.optimization import llm_comparison, llm_int8
from workshop_lib.optimization.llm_comparison import Measured
from workshop_lib.processes import Service
from workshop_lib.settings import settings

LINEAR = ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")


def tiny(folder: Path, layers: tuple[str, ...] = LINEAR) -> Path:
    """A checkpoint of one layer with the names that Llama models use."""
    generator = torch.Generator().manual_seed(1)
    folder.mkdir(parents=True)
    tensors = {f"model.layers.0.{name}.weight": torch.randn(6, 8, generator=generator) for name in layers}
    tensors |= {
        "model.embed_tokens.weight": torch.randn(10, 8, generator=generator),
        "model.norm.weight": torch.ones(8),
    }
    tensors["model.layers.0.input_layernorm.weight"] = torch.ones(8)
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "hidden_size": 8}))
    (folder / "tokenizer.json").write_text("{}")
    weights.write_checksums(folder)
    return folder


# --- Numbers --------------------------------------------------------------------------------------


def test_a_row_is_rounded_with_a_scale_of_its_own() -> None:
    whole, scale = llm_int8.quantise(torch.tensor([[1.27, -0.635, 0.004], [0.0, 0.0, 0.0], [-254.0, 2.0, 3.9]]))
    assert whole.tolist() == [[127, -64, 0], [0, 0, 0], [-127, 1, 2]] and whole.dtype == torch.int8
    torch.testing.assert_close(scale, torch.tensor([[0.01], [1.0], [2.0]]))


def test_no_weight_is_wrong_by_more_than_half_a_step() -> None:
    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(0)).bfloat16()
    whole, scale = llm_int8.quantise(weight)
    error = (whole.float() * scale - weight.float()).abs()
    assert (error <= scale * 0.5001).all() and (whole.abs().amax(dim=1) == 127).all()
    assert whole.min() >= -127


def test_a_damaged_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        llm_int8.quantise(torch.tensor([[1.0, float("nan")]]))


# --- Files ----------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Path]:
    source, folder = tiny(tmp_path / "bf16"), tmp_path / "int8"
    folder.mkdir()
    llm_int8.write_int8(source, folder)
    return source, folder


def test_linear_layers_become_int8_and_nothing_else_changes(written: tuple[Path, Path]) -> None:
    before, after = (load_file(folder / "model.safetensors") for folder in written)
    for name in LINEAR:
        key = f"model.layers.0.{name}.weight"
        assert after[key].dtype == torch.int8 and after[f"{key}_scale"].shape == (6, 1)
        assert after[f"{key}_scale"].dtype == torch.float32
    kept = [name for name in before if "proj" not in name]
    assert len(kept) == 3 and all(torch.equal(before[name], after[name]) for name in kept)
    assert len(after) == len(before) + len(LINEAR)
    assert {path.name for path in written[1].iterdir()} == {path.name for path in written[0].iterdir()}
    assert weights.is_intact(written[1])


def test_the_format_is_the_one_of_compressed_tensors(written: tuple[Path, Path]) -> None:
    source, folder = written
    config = json.loads((folder / "config.json").read_text())
    assert config["hidden_size"] == 8  # what was there is still there
    group = QuantizationConfig.model_validate(config["quantization_config"]).config_groups["group_0"]
    assert group.targets == ["Linear"] and config["quantization_config"]["ignore"] == ["lm_head"]
    assert isinstance(group.weights, QuantizationArgs) and group.weights.strategy == QuantizationStrategy.CHANNEL
    assert isinstance(group.input_activations, QuantizationArgs) and group.input_activations.dynamic is True
    key = "model.layers.0.mlp.up_proj.weight"
    stored = load_file(folder / "model.safetensors")
    again = dequantize(stored[key], stored[f"{key}_scale"], args=group.weights)
    original = load_file(source / "model.safetensors")[key].float()
    assert (again.float() - original).abs().max() <= stored[f"{key}_scale"].max() * 0.51


def test_what_the_parts_take(written: tuple[Path, Path]) -> None:
    before, after = (llm_int8.stored_bytes(folder) for folder in written)
    assert before.loc["linear layers", "type"] == "bfloat16" and after.loc["linear layers", "type"] == "int8"
    assert after.loc["linear layers", "MB"] == before.loc["linear layers", "MB"] / 2 == 4 * 6 * 8 / 1e6
    assert after.loc["scales", "MB"] == 4 * 6 * 4 / 1e6
    assert after.loc["embedding and output", "MB"] == before.loc["embedding and output", "MB"] == 10 * 8 * 2 / 1e6


def test_a_model_with_other_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(WeightsError, match=r"no layers named like model\.layers\.0\.mlp\.up_proj\.weight"):
        llm_int8.write_int8(tiny(tmp_path / "other", layers=("attention.dense",)), tmp_path / "out")


@pytest.fixture
def tiny_course(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The course's checkpoint is the tiny one; returns where the INT8 one belongs."""
    source = tiny(tmp_path / "course")
    monkeypatch.setattr(llm_int8, "build_checkpoint", lambda: source)
    return home / "llm" / llm_int8.INT8_NAME


def test_it_is_built_once_and_again_when_damaged(tiny_course: Path) -> None:
    assert llm_int8.build_int8() == tiny_course
    file = tiny_course / "model.safetensors"
    first = file.stat().st_mtime_ns
    assert llm_int8.build_int8() == tiny_course and file.stat().st_mtime_ns == first
    file.write_text("damaged")
    llm_int8.build_int8()
    assert weights.is_intact(tiny_course) and load_file(file)


def test_an_interrupted_build_leaves_nothing(tiny_course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(llm_int8, "write_checksums", interrupted)
    with pytest.raises(KeyboardInterrupt):
        llm_int8.build_int8()
    assert [path.name for path in tiny_course.parent.iterdir()] == [f"{llm_int8.INT8_NAME}.lock"]


# --- Servers --------------------------------------------------------------------------------------


def arguments(service: Service) -> dict[str, str]:
    return dict(zip(service.command, service.command[1:], strict=False))


def test_bfloat16_is_the_courses_own_server_where_that_serves_the_course_model(
    use_settings: Callable[..., object], tiny_course: Path
) -> None:
    assert llm_int8.bf16_server().name == "llm"
    assert llm_int8.bf16_server(["--max-num-seqs", "2"]).name == "llm-bf16"
    use_settings(llm_endpoint="https://granite.example/v1")
    elsewhere = llm_int8.bf16_server()
    assert elsewhere.name == "llm-bf16" and elsewhere.port != settings.llm_port
    assert arguments(elsewhere)["--model"].endswith("course")


def test_int8_is_served_with_the_same_settings(tiny_course: Path) -> None:
    ours, own = llm_int8.int8_server(["--max-num-seqs", "2"]), llm_int8.bf16_server()
    assert (ours.env, ours.memory_gib, ours.health) == (own.env, own.memory_gib, own.health)
    assert ours.command[-2:] == ("--max-num-seqs", "2")
    assert arguments(ours)["--served-model-name"] == llm_int8.INT8_NAME
    assert ours.prepare is not None and ours.prepare()["HF_HUB_OFFLINE"] == "1"


def test_what_an_interrupted_comparison_left_behind_is_stopped(tiny_course: Path, free_port: Callable[[], int]) -> None:
    port = free_port()
    left = Service("llm-int8", port, (sys.executable, "-c", SERVER, str(port)), "/")
    processes.start(left)
    llm_int8.int8_server()
    assert processes.status(left).state == "stopped"


SERVER = (
    "import sys; from http.server import *; "
    "HTTPServer(('127.0.0.1', int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()"
)


@pytest.fixture
def services(home: Path, free_port: Callable[[], int]) -> dict[str, Service]:
    """Two small servers under the names of a comparison."""
    ports = {"one": free_port(), "two": free_port()}
    return {
        name: Service(
            name, port, (sys.executable, "-c", SERVER, str(port), "--served-model-name", f"model-{name}"), "/"
        )
        for name, port in ports.items()
    }


def states(services: dict[str, Service]) -> list[str]:
    return [processes.status(service).state for service in services.values()]


def test_servers_take_turns_and_are_gone_afterwards(services: dict[str, Service]) -> None:
    seen: list[tuple[str, str, list[str]]] = []

    def measure(service: Service, llm: LLM) -> int:
        assert llm.url == f"{service.url}/v1"
        seen.append((service.name, llm.model, states(services)))
        return len(seen)

    assert llm_comparison.alternate(services, measure, rounds=2) == {
        ("one", 1): 1, ("two", 1): 2, ("two", 2): 3, ("one", 2): 4,
    }  # fmt: skip
    assert [(name, model) for name, model, _ in seen] == [
        ("one", "model-one"), ("two", "model-two"), ("two", "model-two"), ("one", "model-one"),
    ]  # fmt: skip
    assert [state for _, _, state in seen][1:] == [["healthy", "healthy"]] * 3
    assert states(services) == ["stopped", "stopped"]


@pytest.mark.parametrize("together", [True, False])
def test_one_that_ran_before_runs_afterwards(
    together: bool, services: dict[str, Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm_comparison, "fits", lambda services: together)
    before = processes.start(services["one"]).pid
    seen: list[list[str]] = []
    try:
        with pytest.raises(KeyboardInterrupt):  # even then

            def measure(service: Service, llm: LLM) -> None:
                seen.append(states(services))
                if service.name == "two":
                    raise KeyboardInterrupt

            llm_comparison.alternate(services, measure, rounds=1)
        assert seen == [["healthy", "stopped"], ["healthy" if together else "stopped", "healthy"]]
        assert states(services) == ["healthy", "stopped"]
        assert (processes.status(services["one"]).pid == before) == together  # it was not even touched
    finally:
        processes.stop(services["one"])


def test_memory_decides_whether_they_run_together(monkeypatch: pytest.MonkeyPatch) -> None:
    two = [Service(name, 1, (), "/", memory_gib=3.5) for name in ("a", "b")]
    free = type("Memory", (), {"available": 7.1 * 2**30})()
    monkeypatch.setattr(llm_comparison.psutil, "virtual_memory", lambda: free)
    assert llm_comparison.fits(two) and not llm_comparison.fits([*two, two[0]])


def test_memory_of_a_server_that_is_gone(services: dict[str, Service]) -> None:
    with pytest.raises(processes.ServiceError, match="one does not run"):
        llm_comparison.memory_gib(services["one"])


# --- Figures --------------------------------------------------------------------------------------


def test_speed_is_compared_within_a_round() -> None:
    def one(rate: float) -> Run:
        return Run("1 at once", 1, [Record(0.0, [0.1, 0.2], 0.2, tokens=round(rate * 10))], seconds=10)

    rates = {("bf16", 1): 30.0, ("int8", 1): 60.0, ("int8", 2): 6.0, ("bf16", 2): 3.0}
    rates |= {("bf16", 3): 5.0, ("int8", 3): 100.0}
    found = {key: Measured([one(rate)], 3.0, 20.0) for key, rate in rates.items()}
    table = llm_comparison.speed(found)
    assert table.loc[("int8", 1), ["tokens/s", "lowest", "highest"]].tolist() == [60, 6, 100]
    assert table.loc[("bf16", 1), "first token ms"] == pytest.approx(100)
    # The machine was ten times slower in the second round, and busy with others for a moment in the third.
    assert llm_comparison.speed_up(found, "int8", "bf16").to_dict() == {1: 2.0}


@pytest.mark.parametrize(
    ("one", "other", "equal", "share"),
    [
        ("a b c d", "a b c d", 4, 1.0),
        ("a b c d", "a b x d", 2, 0.5),
        ("a b c d", "x b c d", 0, 0.0),
        ("a b", "a b c d", 2, 0.5),
        ("a b c d", "a b", 2, 0.5),
        ("", "", 0, 1.0),
    ],
)
def test_texts_agree_until_the_first_difference(one: str, other: str, equal: int, share: float, tmp_path: Path) -> None:
    words = Tokenizer(WordLevel({word: number for number, word in enumerate("abcdx")}, unk_token="x"))
    words.pre_tokenizer = Whitespace()
    words.save(str(tmp_path / "tokenizer.json"))
    (row,) = llm_comparison.agreement([one], [other], tmp_path).to_dict("records")
    assert (row["equal"], row["share"]) == (equal, share)


# --- For real -------------------------------------------------------------------------------------


@pytest.mark.long
def test_both_servers_side_by_side() -> None:
    """vLLM loads the checkpoint; both models write sense, nearly the same, and can be measured."""
    prompt, products = prompts.load("product_description.few_shot"), choose_products(3)
    servers = {"bf16": llm_int8.bf16_server(), "int8": llm_int8.int8_server()}
    texts: dict[str, pd.DataFrame] = {}
    same: dict[str, float] = {}

    def measure(service: Service, llm: LLM) -> Measured:
        name = "int8" if service.name == "llm-int8" else "bf16"
        texts[name] = llm_comparison.write_texts(llm, prompt, products, name)
        same[name] = llm_comparison.same_next_token(llm, prompt, products, texts["bf16"]["text"].tolist())
        return llm_comparison.measure_speed(service, llm, tokens=4, streams=(1, 2), requests=1)

    found = llm_comparison.alternate(servers, measure, rounds=1)
    table = llm_comparison.speed(found)
    assert set(table.index) == {(name, streams) for name in servers for streams in (1, 2)}
    assert (table > 0).all().all() and all(0.5 < one.memory_gib < 5 for one in found.values())
    assert same["bf16"] > 0.95  # it agrees with itself
    assert 0.6 < same["int8"] <= 1
    shares = llm_comparison.agreement(texts["bf16"]["text"], texts["int8"]["text"], settings.llm_dir / weights.NAME)
    assert shares["share"].between(0, 1).all() and shares["equal"].sum() > 0
    both = pd.concat(texts.values(), ignore_index=True)
    assert both["score"].mean() > 0.3 and abs(gain(both, "int8", "bf16").mean) < 0.5
    assert processes.status(servers["int8"]).state == "stopped"
