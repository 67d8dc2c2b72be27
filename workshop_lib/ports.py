"""Free ports of this machine, for servers that start a moment later."""

from __future__ import annotations

import random
import socket

HOST = "127.0.0.1"
_LOWEST, _HIGHEST = 15_000, 29_999
"""Above the ports of well-known servers, below those that Linux (from 32768), macOS and Windows (from 49152) give to
outgoing connections: one of these would be taken again before a slow server has it."""
_ATTEMPTS = 200
_given: set[int] = set()


def free_port() -> int:
    """A loopback port that nothing listens on now, chosen by chance: others look for one at the same time.

    Raises:
        OSError: when none was found.
    """
    chance = random.SystemRandom()  # not the seeded generator: two processes with one seed would choose alike
    for _ in range(_ATTEMPTS):
        port = chance.randint(_LOWEST, _HIGHEST)
        if port in _given:  # its server may still be starting
            continue
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise OSError(f"No free port was found between {_LOWEST} and {_HIGHEST} on {HOST}.")
