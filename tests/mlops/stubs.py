"""Stages whose servers start at once, for tests of what happens around them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from workshop_lib.mlops import approvals, deployments, packages
from workshop_lib.mlops.packages import Package
from workshop_lib.processes import Service

SERVER = Path(__file__).with_name("stub_server.py")


def package(version: str, registry_version: str = "", name: str = "stub") -> Package:
    """A package that only says what it is."""
    about = {"name": name, "version": version, "registry_version": registry_version or version.strip("v")[0]}
    return Package(packages.packages_dir() / f"{name}-{version}", about)


def use_stub_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let deployments start the stub in place of the forecaster, and let everybody approve."""
    real = vars(deployments.Deployment)["service"]

    def service(self: deployments.Deployment) -> Service:
        command = (sys.executable, str(SERVER), self.registry_version, str(self.port))
        return replace(real.fget(self), command=command, memory_gib=0)

    monkeypatch.setattr(deployments.Deployment, "service", property(service))
    monkeypatch.setattr(approvals, "require", lambda name, version: None)
    monkeypatch.setattr(packages, "find", lambda version, name="stub": package(version, name=name))
