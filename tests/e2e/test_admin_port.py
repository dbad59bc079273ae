"""Thousands of connections to the admin port that say nothing, on a real process."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import time
from typing import Final

import pytest

from syncer.runtime.connections import raise_descriptor_limit
from tests.benchmarks.load import pid_of
from tests.e2e.harness import Stage

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(120),
]

HALF_OPEN: Final = 2000
#: What container runtimes give a process.
DESCRIPTORS: Final = 1024


def _half_open(port: int) -> list[socket.socket]:
    """Connections over which half a request has come."""
    made = []
    for _ in range(HALF_OPEN):
        sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        with contextlib.suppress(OSError):
            sock.send(b"GET /hea")
        made.append(sock)
    return made


async def test_half_open_connections_take_nothing_from_probes_and_deliveries(here: Stage) -> None:
    """With 2,000 of them and 1,024 descriptors, /healthz answers within a second and sends go out."""
    assert raise_descriptor_limit() > HALF_OPEN + 500, "this test holds the other ends"
    process = here.notifier().start()
    resource.prlimit(pid_of(process), resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    await process.wait_ready()
    opened: list[socket.socket] = []
    try:
        for port in (process.health_port, process.metrics_port):
            opened += await asyncio.to_thread(_half_open, port)
        took = []
        for _ in range(5):
            began = time.monotonic()
            code, text = await process.ask("/healthz")
            took.append(time.monotonic() - began)
            assert (code, text) == (200, "ok\n"), process.tail()
        # The fastest: the rest is what else this machine does.
        assert min(took) <= 1.0, took
        assert await process.metric("notification_ledger_log_available") == 1
        uid = await here.create("beside")
        await here.wait_phase(uid, within=30)
        assert len(here.receiver.calls("beside")) == 1
        code, _ = await process.ask("/readyz")
        assert code == 200
    finally:
        for sock in opened:
            sock.close()
