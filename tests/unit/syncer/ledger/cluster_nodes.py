"""Nodes of a Redis Cluster that speak its protocol, and a client of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final, Self

from syncer.ledger.pipeline import Call
from syncer.ledger.redis_cluster import Cluster
from syncer.ledger.store import RedisState
from syncer.ledger.url import Address, parse_redis_url

META: Final = b"format=1 installation=i store=abc"


_ALL: Final = (0, 16383)


class Node:
    """A server of a cluster: strings, and what it says of itself and of the others."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.strings: dict[bytes, bytes] = {}
        self.info = {"cluster_enabled": "1", "role": "master", "redis_version": "7.2.4"}
        self.info |= {"run_id": f"run-{name}", "connected_slaves": "1"}
        self.slots: list[tuple[int, int, Node]] = []
        self.state = "ok"
        self.refuses: dict[str, str] = {}
        self.silent = False
        self.seen: list[str] = []
        self.address: Address = ("", 0)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = (host, port)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Be gone, as a process that is killed."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                count = int((await reader.readuntil(b"\r\n"))[1:])
                parts = []
                for _ in range(count):
                    size = int((await reader.readuntil(b"\r\n"))[1:])
                    parts.append((await reader.readexactly(size + 2))[:-2])
                if not self.silent:
                    writer.write(self._reply(parts))
        writer.transport.abort()

    def _reply(self, parts: list[bytes]) -> bytes:
        words = " ".join(p.decode() for p in parts).upper()
        self.seen.append(words)
        for beginning, error in self.refuses.items():
            if words.startswith(beginning):
                return b"-%b\r\n" % error.encode()
        if words == "CLUSTER SLOTS":
            return _encoded(
                [
                    [first, last, [node.address[0].encode(), node.address[1], node.name.encode()]]
                    for first, last, node in self.slots
                ]
            )
        found: Any = b"OK"
        if words == "CLUSTER INFO":
            found = b"cluster_state:%b\r\n" % self.state.encode()
        elif words == "CLUSTER MYID":
            found = self.name.encode()
        elif words.startswith("INFO"):
            found = "\r\n".join(f"{k}:{v}" for k, v in self.info.items()).encode()
        elif words.startswith("GET "):
            found = self.strings.get(parts[1])
        elif words.startswith("SET "):
            self.strings.setdefault(parts[1], parts[2])
        return _encoded(found)


def _encoded(value: Any) -> bytes:
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(map(_encoded, value))
    if isinstance(value, int):
        return b":%d\r\n" % value
    return b"$%d\r\n%b\r\n" % (len(value), value)


@asynccontextmanager
async def nodes(*names: str) -> AsyncIterator[list[Node]]:
    """Nodes that know each other; the first holds all slots."""
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(Node(name)) for name in names]
        for node in made:
            node.slots = [(*_ALL, made[0])]
        yield made


class Client:
    """A router that runs, and what it says."""

    def __init__(self, *seeds: Address, installation: str = "i", timeout: float = 20.0) -> None:
        where = ",".join(f"{host}:{port}" for host, port in seeds)
        self.state = RedisState("nl")
        self.state.installation = installation
        self.changes = 0
        self.state.on_change = self._changed
        target = parse_redis_url(f"redis+cluster://{where}")
        self.cluster = Cluster(target, self.state, timeout=timeout)

    def _changed(self) -> None:
        self.changes += 1

    async def __aenter__(self) -> Self:
        """Run."""
        self._task = asyncio.create_task(self.cluster.run())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await self.cluster.close()

    async def get(self, key: str = "k") -> Any:
        """Read a string."""
        async with asyncio.timeout(30):
            return await self.cluster.submit(Call(("GET", key)), None)
