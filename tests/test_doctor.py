"""The doctor: each check tells well from unwell and says what to do."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from workshop_lib import cli, doctor, processes
from workshop_lib.doctor import Finding
from workshop_lib.generative import client
from workshop_lib.settings import MODULES

Usage = namedtuple("Usage", "total used free")


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_every_check_runs_and_a_problem_comes_with_advice(home: Path) -> None:
    findings = doctor.examine()
    looked_at = {finding.check for finding in findings}
    assert looked_at >= {"machine", "memory", "disk", "packages", "settings", "service mlflow", "GPU", "OpenShift"}
    assert {finding.verdict for finding in findings} <= {"ok", "note", "problem"}
    assert [finding for finding in findings if finding.verdict == "problem" and not finding.advice] == []
    assert not home.exists()  # looking leaves no traces


def test_every_module_has_its_measured_memory() -> None:
    assert tuple(doctor.MEMORY_GIB) == MODULES


def test_memory_and_disk_that_do_not_suffice(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    little = SimpleNamespace(total=4 * 2**30, available=1 * 2**30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10 * 2**30, 9 * 2**30, 1 * 2**30))
    memory, disk = only(doctor._memory()), only(doctor._disk())
    assert (memory.found, memory.verdict) == ("1.0 of 4.0 GiB free", "problem")
    budget = only(doctor._memory_budget())
    assert budget.verdict == "note" and f"2: {doctor.MEMORY_GIB['2-generative']}" in budget.found
    assert "2-generative" in budget.advice and "./workshop down" in budget.advice
    assert (disk.verdict, disk.advice[:13]) == ("problem", "Free 2.0 GiB,")


def test_a_home_that_cannot_be_written(use_settings: Callable[..., object]) -> None:
    use_settings(home=Path("/dev/null/home"))
    disk = only(doctor._disk())
    assert disk.verdict == "problem" and "WORKSHOP_HOME" in disk.advice
    assert doctor.examine()  # the other checks go on


def test_one_core_is_worth_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    finding = only(doctor._machine())
    assert finding.verdict == "note" and "1 usable cores" in finding.found


def test_packages_are_compared_with_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    (tmp_path / "requirements.lock").write_text(f"psutil=={psutil.__version__}\n")
    assert only(doctor._packages()).verdict == "ok"
    (tmp_path / "requirements.lock").write_text("psutil==0.1\nno-such-package==1\n")
    finding = only(doctor._packages())
    assert finding.verdict == "problem"
    assert finding.found == f"0 of 2 as locked (psutil {psutil.__version__}, no-such-package missing)"


@pytest.mark.parametrize("name", ["WORKSHOP_HOMES", "WORKSHOP_THRESHOLDS__R2", "WORKSHOP_SEED__X"])
def test_a_misspelled_variable_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(doctor._variables()).verdict == "ok"
    monkeypatch.setenv(name, "1")
    finding = only(doctor._variables())
    assert (finding.found, finding.verdict) == (name, "problem")
    assert "WORKSHOP_HOME," in finding.advice


def test_variables_that_are_read_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORKSHOP_THRESHOLDS__TEST_R2", "WORKSHOP_PYTHON", "WORKSHOP_ENV"):
        monkeypatch.setenv(name, "1")
        assert name in only(doctor._variables()).found
    assert only(doctor._variables()).verdict == "ok"


def test_a_port_that_another_program_uses(
    use_settings: Callable[..., object], free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = [f"{name}_port" for name in ("mlflow", "llm", "forecaster", "cache", "api", "dashboard", "monitor")]
    use_settings(**{name: free_port() for name in (*ports, "forecaster_grpc_port")})
    assert [finding.verdict for finding in doctor._ports()] == ["ok"] * len(ports)
    monkeypatch.setattr(processes, "port_in_use", lambda port: True)
    finding, *_ = doctor._ports()
    assert finding.verdict == "problem"
    assert "used by another program" in finding.found and "WORKSHOP_MLFLOW_PORT" in finding.advice


def test_an_endpoint_that_does_not_answer(use_settings: Callable[..., object]) -> None:
    use_settings(mlflow_uri="http://127.0.0.1:9", ray_address="ray://head:10001")
    server, cluster = doctor._endpoints()
    assert server.verdict == "problem" and "WORKSHOP_MLFLOW_URI" in server.advice
    assert cluster.found == "ray://head:10001"
    use_settings(mlflow_uri="postgresql://u:p@db/mlflow")
    assert doctor._endpoints() == []
    use_settings(forecaster_endpoint="http://127.0.0.1:9", api_endpoint="http://127.0.0.1:9")
    assert [finding.verdict for finding in doctor._endpoints()] == ["problem", "problem"]
    assert client  # loaded before the settings are changed, so that it sees them
    use_settings(llm_endpoint="http://127.0.0.1:9/v1", llm_retries=0)
    model = only(doctor._endpoints())
    assert model.verdict == "problem" and "WORKSHOP_LLM_ENDPOINT" in model.advice


@pytest.mark.parametrize(
    ("script", "gpu"),
    [("echo 'NVIDIA L4, 23034 MiB'; echo second", "NVIDIA L4, 23034 MiB"), ("exit 9", "none"), ("", "none")],
)
def test_a_gpu_is_asked_for_by_its_own_tool(
    script: str, gpu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert only(doctor._gpu()).found == gpu


def test_a_cluster_login_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "oc"
    tool.write_text('#!/bin/sh\nif [ "$2" ]; then echo https://api.example:6443; else echo ana; fi\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert only(doctor._cluster()).found == "ana at https://api.example:6443"
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: (_ for _ in ()).throw(subprocess.TimeoutExpired("oc", 10)))
    assert only(doctor._cluster()).verdict == "note"


def test_missing_programs_for_alerts_are_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = only(doctor._alerting())
    assert finding.verdict == "note" and "alertmanager" in finding.found and "apt install" in finding.advice
    for name in ("prometheus", "promtool", "alertmanager", "amtool"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    assert only(doctor._alerting()).verdict == "ok"


@pytest.mark.parametrize(("verdict", "code"), [("ok", 0), ("note", 0), ("problem", 1)])
def test_the_command_fails_only_for_problems(
    verdict: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("disk", "/a/[b]/c", verdict, "pip install '.[ray]'")])
    monkeypatch.setattr(sys, "argv", ["workshop", "doctor"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code or 0) == code
    shown = capsys.readouterr().out
    assert "/a/[b]/c" in shown and "pip install '.[ray]'" in shown and verdict in shown
