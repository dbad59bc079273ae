"""Free TCP ports on the loopback address.

Asking the kernel for port 0 answers with an *ephemeral* port, one that it may also give to the
next outgoing connection. A server that is stopped and started again on such a port now and then
finds it taken by a client. So the choice is made below the ephemeral range, at random, and a port
is handed out only once per process.
"""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

_LOWEST = 20_000
_TRIES = 1_000
_handed_out: set[int] = set()


def free_port() -> int:
    """Return a port that nothing listens on and that no caller in this process was given."""
    highest = _ephemeral_start() - 1
    lowest = min(_LOWEST, highest // 2)
    for _ in range(_TRIES):
        port = random.randint(lowest, highest)  # noqa: S311 (no secret)
        if port not in _handed_out and _can_bind(port):
            _handed_out.add(port)
            return port
    msg = f"no free port between {lowest} and {highest} on 127.0.0.1 after {_TRIES} tries"
    raise RuntimeError(msg)


def _ephemeral_start() -> int:
    with contextlib.suppress(OSError):
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    return 32_768


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
