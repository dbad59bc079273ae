"""The admin server under connections that say nothing: bounded, and a probe is answered all the same."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
from prometheus_client import CollectorRegistry, Gauge

from syncer.runtime.connections import Connections
from syncer.runtime.health import AdminServer
from tests.servers.descriptors import no_descriptor_left

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
Started = Callable[..., Awaitable[int]]
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def started() -> AsyncIterator[Started]:
    """Start servers; returns their ports."""
    servers: list[AdminServer] = []

    async def start(**bounds: float) -> int:
        registry = CollectorRegistry()
        Gauge("filler", "Long enough not to fit into the buffers.", ["n"], registry=registry)
        bounded = partial(Connections, **bounds)  # type: ignore[arg-type]  # one is a count
        server = AdminServer(registry, connections=bounded)
        servers.append(server)
        return await server.bind("127.0.0.1", 0, health=True, metrics=True)

    yield start
    for server in servers:
        await server.close()


@contextlib.asynccontextmanager
async def connections(port: int, number: int, said: bytes = b"") -> AsyncIterator[list[Pair]]:
    """Open connections that have said so much."""
    opened: list[Pair] = []
    try:
        for _ in range(number):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            opened.append((reader, writer))
        yield opened
    finally:
        for _, writer in opened:
            writer.close()


async def answered(pair: Pair) -> str:
    """Ask for /healthz on a connection; the first line of the answer, empty if it has ended."""
    reader, writer = pair
    try:
        writer.write(REQUEST)
        async with asyncio.timeout(30):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(3)
    except (ConnectionError, asyncio.IncompleteReadError):
        return ""
    return head.split(b"\r\n")[0].decode()


async def test_the_silent_make_way(started: Started) -> None:
    """Beyond the bound who has asked nothing goes; who asks is answered, old and new alike."""
    port = await started(most=8)
    async with connections(port, 1) as (kept,):
        assert await answered(kept) == "HTTP/1.1 200 OK"
        for _ in range(10):
            async with connections(port, 7, b"GET /") as silent:
                async with connections(port, 1) as (new,):
                    assert await answered(new) == "HTTP/1.1 200 OK"
                assert await answered(kept) == "HTTP/1.1 200 OK", "it is not the silent one"
                del silent


async def test_a_reason_is_one_line() -> None:
    """What is wrong may quote others: it forges no line beside its own, and commands no terminal."""
    server = AdminServer(CollectorRegistry())
    server.check("redis", lambda: "installation 'x\n[+] routing: ok\x1b[2J\u202e'")
    server.detail("clocks", lambda: "a\r[-] b")
    try:
        port = await server.bind("127.0.0.1", 0, health=True, metrics=False)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(30):
            answer = (await reader.read()).decode()
        writer.close()
    finally:
        await server.close()
    _, _, body = answer.partition("\r\n\r\n")
    assert body.split("\n") == [
        r"[-] redis: installation 'x\n[+] routing: ok\x1b[2J\u202e'", r"[!] clocks: a\r[-] b", "",
    ]  # fmt: skip


async def test_a_shortage_of_descriptors_is_said_once_and_survived(
    started: Started, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a descriptor connections wait and one line says why; then they are answered."""
    port = await started()
    loop = asyncio.get_running_loop()

    def said() -> int:
        return sum("out of system resource" in r.getMessage() for r in caplog.records)

    with socket.socket() as waiting, caplog.at_level(logging.ERROR, "asyncio"):
        waiting.setblocking(False)
        with no_descriptor_left():
            await loop.sock_connect(waiting, ("127.0.0.1", port))
            await loop.sock_sendall(waiting, REQUEST)
            while not said():
                await asyncio.sleep(0.01)
            # The loop tries again after a second.
            await asyncio.sleep(1.5)
        async with asyncio.timeout(30):
            assert (await loop.sock_recv(waiting, 64)).startswith(b"HTTP/1.1 200")
    assert said() == 1
