"""The router of a Redis Cluster over scripted nodes and maps: where a call goes, and how often."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from redis.crc import key_slot

from syncer.ledger import redis_cluster
from syncer.ledger.cluster_map import Layout, Primary
from syncer.ledger.pipeline import Call
from syncer.ledger.replies import Redirected, Refused
from syncer.model.errors import Unavailable
from tests.unit.syncer.ledger.cluster_world import (
    SEED,
    A,
    B,
    Make,
    layout,
    world,
)

__all__ = ["world"]


async def test_a_client_that_is_closed_asks_no_node(world: Make) -> None:
    """Not even one that it had no connection to before."""
    here = world(layout(A), layout(B))
    await here.submit()
    await here.cluster.close()
    with pytest.raises(Unavailable, match="the Redis client is closed"):
        await here.submit()
    assert len(here.at(A).calls) == 1


async def test_a_redirection_without_a_host(world: Make) -> None:
    """It means another port of the node that answered."""
    here = world(layout(A), layout((A[0], 7000)))
    here.at(A).answers = [Redirected("MOVED", ("", 7000))]
    await here.submit()
    assert here.asked == [SEED, (A[0], 7000)]


async def test_nodes_that_do_not_agree(world: Make) -> None:
    """A call is sent on a few times and then given up as not executed."""
    here = world(layout(A), layout(B), layout(A), layout(B), layout(A), layout(B))
    here.at(A).answers = [Redirected("MOVED", B) for _ in range(9)]
    here.at(B).answers = [Redirected("MOVED", A) for _ in range(9)]
    with pytest.raises(Unavailable, match="do not agree about a slot"):
        await here.submit()
    assert len(here.at(A).calls) + len(here.at(B).calls) == 5


async def test_a_slot_on_its_way(world: Make) -> None:
    """ASK is followed for that one call, with ASKING; the map stays as it is."""
    here = world(layout(A))
    here.at(A).answers = [Redirected("ASK", B)]
    call = Call(("LLEN", "nl:{u}"), wait=(1, 50))
    assert await here.submit(call) == "reply"
    (asked,) = here.at(B).calls
    assert (asked.command, asked.wait, asked.asking) == (call.command, (1, 50), True)
    await here.submit()
    assert (len(here.at(A).calls), len(here.at(B).calls), here.asked) == (2, 1, [SEED])


async def test_a_cluster_that_is_down(world: Make) -> None:
    """CLUSTERDOWN is said at once, and the next call begins with another look at the map."""
    here = world(layout(A), layout(B))
    await here.submit()
    assert here.problem() is None
    here.at(A).answers = [Refused("CLUSTERDOWN")]
    with pytest.raises(Refused, match="Redis answers CLUSTERDOWN"):
        await here.submit()
    assert here.problem() == "Redis answers CLUSTERDOWN: not every slot is served"
    assert await here.submit() == "reply"
    assert here.asked == [SEED, A]
    assert here.problem() is None
    assert len(here.at(B).calls) == 1


async def test_a_node_that_is_named(world: Make) -> None:
    """A command for one primary goes there, and nowhere else once it is none any more."""
    here = world(layout(A))
    scan = Call(("SCAN", 0, "MATCH", "nl:*"))
    assert await here.submit(scan, "10.0.0.1:6379") == "reply"
    with pytest.raises(Unavailable, match="no longer a primary of the Redis Cluster"):
        await here.submit(scan, "10.0.0.2:6379")
    assert here.nodes.keys() == {A}


async def test_a_slot_without_a_holder(world: Make) -> None:
    """It is said without asking a node, and the map is read again for the next call."""
    half = Layout((None,) * 8192 + (Primary("node", A),) * 8192, healthy=True)
    here = world(half)
    low = next(f"k{n}" for n in range(99) if key_slot(b"k%d" % n) < 8192)
    for readings in (1, 2):
        with pytest.raises(Unavailable, match="serves the slot"):
            await here.submit(Call(("LLEN", low)))
        assert len(here.asked) == readings
    assert here.at(A).calls == []
    assert here.problem() == "Redis Cluster: 8192 slots are served by no node"


async def test_a_failed_reading_is_shared(world: Make) -> None:
    """Calls that wait for the map while it cannot be read fail together, after one try."""
    here = world(Unavailable("no answer"))
    calls = [asyncio.create_task(here.submit()) for _ in range(5)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert {str(answer) for answer in answers} == {"no node of the Redis Cluster answers"}
    assert here.asked == [SEED]
    assert here.problem() == "no node of the Redis Cluster answers"


async def test_connections_to_nodes_without_slots_end(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that lost its slots keeps its connection for a while, a holder keeps it for good."""
    here = world(layout(A), layout(B), layout(B), layout(B))
    await here.submit()
    here.at(A).answers = [Redirected("MOVED", B)]
    await here.submit()
    assert not here.at(A).closed, "it was used a moment ago"
    cluster = cast("Any", here.cluster)
    task = cluster._tasks[A] = asyncio.create_task(here.at(A).serve())
    cluster._infos |= {A: {"run_id": "a"}, B: {"run_id": "b"}}
    monkeypatch.setattr(redis_cluster, "_IDLE_SECONDS", 0.0)
    await here.cluster.primaries()
    assert (here.at(A).closed, here.at(B).closed) == (True, False)
    await asyncio.wait([task], timeout=20)
    assert task.cancelled()
    for known in (cluster._pipelines, cluster._infos, cluster._used):
        assert known.keys() == {B}
    assert cluster._tasks == {}


async def test_a_primary_without_a_slot_may_have_failed(world: Make) -> None:
    """All logs are looked at then; one that passed a slot on and holds others is there."""
    one = Layout((Primary("b", B),) + (Primary("a", A),) * 16383, healthy=True)
    here = world(Layout((Primary("a", A),) * 16384, healthy=True), one, one, layout(B))
    state = here.identity
    woken: list[int] = []
    state.on_change = lambda: woken.append(state.generation)
    await here.submit()
    before = state.generation
    for _ in range(2):
        await here.cluster.primaries()
        assert state.generation == before
    await here.cluster.primaries()
    assert state.generation == before + 1
    assert woken == [before + 1]


async def test_keys_that_one_primary_holds(world: Make) -> None:
    """The map says which holds a key, and which there are."""
    half = 8192
    halves = Layout(layout(A).slots[:half] + layout(B).slots[half:], healthy=True)
    here = world(halves)
    await here.submit()
    keys = [f"k{n}" for n in range(32)]
    lower = {key for key in keys if key_slot(key.encode()) < half}
    assert 0 < len(lower) < len(keys)
    first, second = here.cluster.known()
    for key in keys:
        assert here.cluster.primary_of(key) == (first if key in lower else second)
