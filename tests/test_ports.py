"""Ports for servers that start a moment later."""

import socket

import pytest

from workshop_lib import ports


def test_a_port_is_free_and_given_once() -> None:
    given = [ports.free_port() for _ in range(50)]
    assert len(set(given)) == len(given)
    assert max(given) < 32_768, "from there on Linux gives them to outgoing connections"
    with socket.create_server((ports.HOST, given[0])) as server:
        assert server.getsockname()[1] == given[0]


def test_a_port_in_use_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((ports.HOST, 0)) as server:
        used = server.getsockname()[1]
        monkeypatch.setattr(ports, "_LOWEST", used)
        monkeypatch.setattr(ports, "_HIGHEST", used)
        with pytest.raises(OSError, match="No free port"):
            ports.free_port()
