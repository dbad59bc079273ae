"""A router of a Redis Cluster over nodes that a test writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from syncer.ledger import redis_cluster
from syncer.ledger.cluster_map import Layout, Primary
from syncer.ledger.pipeline import Call
from syncer.ledger.redis_cluster import Cluster
from syncer.ledger.store import RedisState
from syncer.ledger.url import Address, parse_redis_url

A: Address = ("10.0.0.1", 6379)


B: Address = ("10.0.0.2", 6379)


SEED: Address = ("seed", 6379)


READ = Call(("LRANGE", "nl:{u}", 0, -1))


def layout(address: Address | None, *, healthy: bool = True) -> Layout:
    """A map in which one node holds every slot, or none does."""
    holder = None if address is None else Primary(f"node-{address[0]}", address)
    return Layout((holder,) * 16384, healthy)


class Node:
    """A pipeline that answers as a test says; what it does not say succeeds."""

    def __init__(self) -> None:
        self.answers: list[Exception] = []
        self.calls: list[Call] = []
        self.problem: str | None = None
        self.closed = False
        self.serving = asyncio.Event()

    async def submit(self, call: Call) -> str:
        """Answer."""
        self.calls.append(call)
        if self.answers:
            raise self.answers.pop(0)
        return "reply"

    async def look(self) -> None:
        """Be there."""

    async def serve(self) -> None:
        """Serve until cancelled."""
        await self.serving.wait()

    async def close(self) -> None:
        """Note it."""
        self.closed = True


class World:
    """A router, its nodes, and the maps that are read in turn; the last one stays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *maps: Layout | Exception) -> None:
        monkeypatch.setattr(redis_cluster, "_READ_PAUSE", 0.0)
        target = parse_redis_url(f"redis+cluster://{SEED[0]}:{SEED[1]}")
        self.identity = RedisState("nl")
        self.cluster = Cluster(target, self.identity, timeout=5.0)
        self.maps = list(maps)
        self.asked: list[Address] = []
        self.nodes: dict[Address, Node] = {}
        monkeypatch.setattr(self.cluster, "_ask_for_map", self._ask_for_map)
        monkeypatch.setattr(redis_cluster, "Pipeline", lambda *_, place, **__: self._node(place()))

    def problem(self) -> str | None:
        """What the client says is wrong."""
        return self.identity.problem

    def _node(self, name: str) -> Node:
        host, _, port = name.rpartition(":")
        return self.nodes.setdefault((host, int(port)), Node())

    def at(self, address: Address) -> Node:
        """A node, before or after it is connected to."""
        return self.nodes.setdefault(address, Node())

    async def _ask_for_map(self, address: Address) -> Layout:
        self.asked.append(address)
        await asyncio.sleep(0)
        found = self.maps.pop(0) if len(self.maps) > 1 else self.maps[0]
        if isinstance(found, Exception):
            raise found
        return found

    async def submit(self, call: Call = READ, at: str | None = None) -> Any:
        """Run a command."""
        async with asyncio.timeout(20):
            return await self.cluster.submit(call, at)


Make = Callable[..., World]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make a world of maps."""
    return lambda *maps: World(monkeypatch, *maps)
