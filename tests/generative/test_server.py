"""How the local server is started, and what it tells when it is asked."""

import stat
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from workshop_lib import processes
from workshop_lib.generative import server
from workshop_lib.generative.client import LLM


def test_it_listens_on_loopback_only_and_keeps_its_key_to_itself(llm: LLM) -> None:
    found = processes.status(server.llm_server())
    assert found.state == "healthy" and found.pid
    process = psutil.Process(found.pid)
    family = [process, *process.children(recursive=True)]
    listening = [c.laddr.ip for p in family for c in p.connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert set(listening) == {"127.0.0.1"}
    key = server.local_api_key()
    assert not any(key in argument for p in family for argument in p.cmdline())
    assert key not in found.log.read_text()
    assert httpx.get(f"{llm.url}/models").status_code == 401


def test_it_tells_probabilities_wherever_the_course_lies(llm: LLM) -> None:
    # vLLM compiles this part by itself, which kills the server in a folder with a space unless that is switched off.
    assert server.llm_server().env["TORCHDYNAMO_DISABLE"] == "1"
    start = "The capital of France is"
    guess = llm.openai.completions.create(model=llm.model, prompt=start, max_tokens=1, temperature=0, logprobs=3)
    likely = guess.choices[0].logprobs
    assert likely and likely.top_logprobs and " Paris" in likely.top_logprobs[0]


def test_it_takes_the_cores_it_may_use_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert server.llm_server().env["OMP_NUM_THREADS"] == "1"


def test_its_memory_is_bounded(llm: LLM) -> None:
    service = server.llm_server()
    process = psutil.Process(processes.status(service).pid)
    used = sum(p.memory_full_info().uss for p in [process, *process.children(recursive=True)]) / 2**30
    assert 1 < used < service.memory_gib  # what a start asks for is what a run takes


def test_the_key_is_made_once_and_readable_by_its_owner_only(home: Path) -> None:
    key = server.local_api_key()
    (path,) = (home / "services").glob("llm-key.txt")
    assert key == server.local_api_key() == path.read_text() and len(key) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_settings_reach_the_command(use_settings: Callable[..., object], tmp_path: Path) -> None:
    use_settings(llm_kv_cache_gib=0.5, llm_context=512, llm_sequences=4, llm_port=8123)
    service = server.llm_server()
    options = dict(zip(service.command, service.command[1:], strict=False))
    assert options["--kv-cache-memory-bytes"] == str(2**29)
    assert (options["--max-model-len"], options["--max-num-seqs"]) == ("512", "4")
    assert (options["--host"], options["--port"], service.port) == ("127.0.0.1", "8123", 8123)
    assert options["--model"] == str(tmp_path / "home" / "llm" / "smollm2-135m-instruct")
    assert service.memory_gib == pytest.approx(server.PROCESS_GIB + 0.5)


@pytest.mark.parametrize("kind", ["folder", "hub"])
def test_another_model_can_be_served(kind: str, use_settings: Callable[..., object], tmp_path: Path) -> None:
    model = str(tmp_path) if kind == "folder" else "ibm-granite/Granite-4.0-350M"
    use_settings(llm_model=model)
    service = server.llm_server()
    options = dict(zip(service.command, service.command[1:], strict=False))
    assert options["--model"] == model
    assert options["--served-model-name"] == (tmp_path.name.lower() if kind == "folder" else "granite-4.0-350m")
    assert service.prepare is not None
    variables = service.prepare()  # the course's own checkpoint is not built for it
    assert variables["VLLM_API_KEY"] == server.local_api_key()
    assert ("HF_HUB_OFFLINE" in variables) == (kind == "folder")
    assert not (tmp_path / "home" / "llm").exists()
