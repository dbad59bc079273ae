"""The router of a Redis Cluster before nodes on sockets, which answer as a test says."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from syncer.ledger import redis_cluster
from syncer.model.errors import ConfigError, LedgerError, Unauthorised, Unavailable
from tests.beside import eventually
from tests.unit.syncer.ledger.cluster_nodes import _ALL, META, Client, nodes


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the map as often as it is asked for."""
    monkeypatch.setattr(redis_cluster, "_READ_PAUSE", 0.0)


async def test_a_cluster_with_a_hole_cannot_be_opened() -> None:
    """It says how many slots nobody serves."""
    async with nodes("a") as (a,), Client(a.address) as client:
        a.slots = [(0, 16382, a)]
        a.strings[b"nl:meta"] = META
        with pytest.raises(Unavailable, match="1 slots are served by no node"):
            await client.cluster.open()


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


async def test_a_map_in_another_form() -> None:
    """A reply that is no map is no answer."""
    async with nodes("a") as (a,), Client(a.address) as client:
        a.slots = [(0, 99_999, a)]
        with pytest.raises(Unavailable, match="no node of the Redis Cluster answers"):
            await client.cluster.open()


async def test_a_server_without_slots_of_its_own() -> None:
    """A node that says of itself that it is in no cluster is refused with what to write instead."""
    async with nodes("a") as (a,), Client(a.address) as client:
        a.info["cluster_enabled"] = "0"
        with pytest.raises(ConfigError, match="begin with redis://"):
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
