"""The admin server's answers: alive, ready or not and why, and the metrics, on one address or two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry, Gauge

from syncer.runtime.health import AdminServer

Answer = tuple[int, dict[str, str], str]


async def get(port: int, path: str, *, accept: str = "*/*") -> Answer:
    """Ask; returns the code, the headers and the body."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n".encode()
        )
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
    status, *lines = head.split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(status.split(" ")[1]), headers, body


class World:
    """A server, with a gauge that is brought up to date when it is scraped."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.gauge = Gauge("waiting", "How many wait.", registry=registry)
        self.waiting = 0
        self.refreshing = 0.0
        self.server = AdminServer(registry)
        self.server.on_scrape(self._refresh)
        self.said: dict[str, str | None] = {"lease": None, "redis": None, "note": None}

    async def _refresh(self) -> float:
        self.gauge.set(self.waiting)
        return self.refreshing

    async def bind(self, *, port: int = 0, health: bool = True, metrics: bool = True) -> int:
        """Listen."""
        return await self.server.bind("127.0.0.1", port, health=health, metrics=metrics)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A server with two checks and a detail."""
    made = World()
    for name in ("lease", "redis"):
        made.server.check(name, lambda name=name: made.said[name])  # type: ignore[misc]  # the default binds it
    made.server.detail("note", lambda: made.said["note"])
    yield made
    await made.server.close()


async def test_ready(world: World) -> None:
    """Without a problem each check is named as passed, and the answer is 200."""
    port = await world.bind()
    code, headers, body = await get(port, "/readyz")
    assert (code, body) == (200, "[+] lease: ok\n[+] redis: ok\n")
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert world.server.problems() == {}
