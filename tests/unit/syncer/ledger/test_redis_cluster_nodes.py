"""The router of a Redis Cluster before nodes on sockets, which answer as a test says."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Self

import pytest

from syncer.ledger import redis_cluster
from syncer.ledger.pipeline import Call
from syncer.ledger.redis_cluster import Cluster
from syncer.ledger.store import RedisState
from syncer.ledger.url import Address, parse_redis_url
from syncer.model.errors import ConfigError, LedgerError, Unauthorised, Unavailable
from tests.beside import eventually
from tests.servers.listening import listening

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
        self.refuses: dict[str, str] = {}
        self.seen: list[str] = []
        self.address: Address = ("", 0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            count = int((await reader.readuntil(b"\r\n"))[1:])
            parts = []
            for _ in range(count):
                size = int((await reader.readuntil(b"\r\n"))[1:])
                parts.append((await reader.readexactly(size + 2))[:-2])
            writer.write(self._reply(parts))

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
            found = b"cluster_state:ok\r\n"
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
        made = [Node(name) for name in names]
        for node in made:
            node.slots = [(*_ALL, made[0])]
            node.address = "127.0.0.1", await stack.enter_async_context(listening(node.serve))
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
        async with asyncio.timeout(30):
            return await self.cluster.submit(Call(("GET", key)), None)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the map as often as it is asked for."""
    monkeypatch.setattr(redis_cluster, "_READ_PAUSE", 0.0)


async def test_a_store_that_was_emptied_is_stamped_anew() -> None:
    """Under a live connection, which wrote the metadata when it was made: without any, whose is it?"""
    async with nodes("a") as (a,), Client(a.address) as client:
        await client.cluster.open()
        assert client.state.server is not None
        before, generation = client.state.server.store, client.state.generation
        a.strings.clear()
        await client.cluster.probe()
        assert a.strings[b"nl:meta"].startswith(b"format=1 installation=i store=")
        assert client.state.server.store not in {"", before}
        assert (client.state.generation, client.changes) == (generation + 1, 1)
        await client.cluster.probe()
        assert (client.state.generation, client.state.problem) == (generation + 1, None)


async def test_a_store_that_became_another_installations_is_not_used() -> None:
    """Under a live connection as well; and used again once it is ours."""
    async with nodes("a", "b") as (a, b), Client(a.address) as client:
        a.slots = b.slots = [(0, 8191, a), (8192, 16383, b)]
        await client.cluster.open()
        holder = a if a.strings else b
        ours = holder.strings[b"nl:meta"]
        holder.strings[b"nl:meta"] = b"format=1 installation=other store=abc"
        for _ in range(2):
            await client.cluster.probe()
            assert "belong to installation 'other'" in (client.state.unavailable_reason or "")
        holder.strings[b"nl:meta"] = ours
        await client.cluster.probe()
        assert (client.state.unavailable_reason, client.changes) == (None, 0)


MAPS: Final[dict[str, tuple[str, str, type[LedgerError], str]]] = {
    "a server that is no node": (
        "CLUSTER", "ERR This instance has cluster support disabled", ConfigError,
        "is not a node of a Redis Cluster; begin with redis://",
    ),
    "a right that is missing": (
        "CLUSTER", "NOPERM User has no permissions to run 'cluster|slots'", Unauthorised, "NOPERM",
    ),
    "an answer that is none": ("CLUSTER", "LOADING is loading", Unavailable, "LOADING"),
}  # fmt: skip


@pytest.mark.parametrize("case", MAPS)
async def test_a_map_that_cannot_be_read(case: str) -> None:
    """The error says whose fault it is, and so does the client."""
    command, answer, kind, text = MAPS[case]
    async with nodes("a") as (a,), Client(a.address) as client:
        a.refuses[command] = answer
        with pytest.raises(LedgerError) as caught:
            await client.cluster.open()
        said = (
            str(caught.value) if kind is not Unavailable else "no node of the Redis Cluster answers"
        )
        assert (type(caught.value), str(caught.value)) == (kind, said)
        assert kind is Unavailable or text in said
        assert client.state.problem == said


#: The last slot that is served, what the node says of a cluster, and what comes of it.
UNUSABLE: Final[dict[str, tuple[int, str, type[LedgerError], str]]] = {
    "a hole": (16_382, "1", Unavailable, "1 slots are served by no node"),
    "a reply that is no map": (99_999, "1", Unavailable, "no node of the Redis Cluster answers"),
    "a server without slots of its own": (16_383, "0", ConfigError, "begin with redis://"),
}


@pytest.mark.parametrize("case", UNUSABLE)
async def test_a_cluster_that_cannot_be_opened(case: str) -> None:
    """It says how many slots nobody serves, or what to write where there is no cluster."""
    last, enabled, error, text = UNUSABLE[case]
    async with nodes("a") as (a,), Client(a.address) as client:
        a.slots = [(0, last, a)]
        a.info["cluster_enabled"] = enabled
        a.strings[b"nl:meta"] = META
        with pytest.raises(error, match=text):
            await client.cluster.open()


async def test_trouble_is_looked_at_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """While something is wrong the cluster is asked again and again; else at a longer interval."""
    monkeypatch.setattr(redis_cluster, "_PROBE_TROUBLED", 0.01)
    monkeypatch.setattr(redis_cluster, "_PROBE_SECONDS", 3_600.0)
    async with nodes("a") as (a,), Client(a.address) as client:
        trouble: list[str | None] = ["too small"]
        client.state.fitness = lambda _info: trouble[0]
        await client.cluster.open()
        assert client.state.unfit == "too small"
        trouble[0] = None
        await eventually(lambda: client.state.unfit is None)
        asked = len(a.seen)
        await asyncio.sleep(0.3)
        assert len(a.seen) - asked <= 4, "all is well: nobody asks"
        monkeypatch.setattr(redis_cluster, "_PROBE_SECONDS", 0.02)
        a.info["run_id"] = "run-after"
        await eventually(lambda: client.changes)


async def test_a_subscriber_goes_to_a_node_of_the_cluster() -> None:
    """Before the map is read to one that was named; one to a node that has left is given up."""
    async with nodes("a", "b", "c") as (a, b, c), Client(c.address) as client:
        named = await client.cluster.connect_subscriber()
        assert client.cluster.serves_subscriber(named)
        c.slots = [(*_ALL, a)]
        await client.cluster.primaries()
        one = await client.cluster.connect_subscriber()
        assert (one.host, one.port) == a.address  # type: ignore[attr-defined] # a TCP connection
        assert client.cluster.serves_subscriber(one)
        a.slots = [(*_ALL, b)]
        await client.cluster.primaries()
        assert not client.cluster.serves_subscriber(one)
        for connection in (named, one):
            await connection.disconnect(nowait=True)


async def test_a_node_under_an_address_of_another() -> None:
    """Who answers is not whom the map names there: the map is read before the next call, once."""
    async with nodes("a", "b") as (a, b), Client(a.address) as client:
        a.strings[b"nl:meta"] = META
        b.address = a.address
        a.slots = [(0, 16383, b)]
        await client.cluster.open()
        readings = []
        for _ in range(3):
            readings.append(a.seen.count("CLUSTER SLOTS"))
            await client.get()
        assert readings == [1, 2, 2]


async def test_a_connection_for_the_map_is_closed() -> None:
    """None is left for the collector to find, whether the node answers with a map or refuses it."""
    async with nodes("a") as (a,), Client(a.address) as client:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            await client.cluster.primaries()
            a.refuses["CLUSTER"] = "LOADING is loading"
            with pytest.raises(Unavailable):
                await client.cluster.primaries()
            gc.collect()
        assert [str(w.message) for w in caught if "unclosed Connection" in str(w.message)] == []
