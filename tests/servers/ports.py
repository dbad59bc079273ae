"""
Free TCP ports on the loopback address.

Asking the kernel for port 0 answers with an *ephemeral* port, one that it may also give to the
next outgoing connection. A server that is stopped and started again on such a port now and then
finds it taken by a client. So the choice is made below the ephemeral range, at random.

A port is handed out once: to one caller on this machine, until the process of that caller ends. Tests
run in several processes, and between the choice and the server's start any of them might choose the
same. An abstract Unix socket named after the port is the reservation; the kernel releases it with
its process, and one network namespace, which is what ports belong to, is also what it is known in.
"""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

_LOWEST = 20_000
_TRIES = 1_000
_reserved: list[socket.socket] = []


def free_port() -> int:
    """Return a port that nothing listens on and that no other caller has reserved."""
    highest = _ephemeral_start() - 1
    lowest = min(_LOWEST, highest // 2)
    for _ in range(_TRIES):
        port = random.randint(lowest, highest)  # noqa: S311 (no secret)
        if _can_bind(port) and _reserve(port):
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


def _reserve(port: int) -> bool:
    """Reserve a port until this process ends; False if somebody has it."""
    reservation = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        reservation.bind(f"\0notification-ledger-port-{port}")
    except OSError:
        reservation.close()
        return False
    _reserved.append(reservation)
    return True
