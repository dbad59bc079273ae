"""What the nodes of a Redis Cluster report, and what the router makes of it for all of them."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import Any, cast

import pytest
from redis.exceptions import ResponseError

from syncer.ledger import redis_cluster
from syncer.ledger.cluster_map import Layout, Primary
from syncer.ledger.pipeline import Call
from syncer.model.errors import Unauthorised, Unavailable
from tests.beside import beside
from tests.unit.syncer.ledger.cluster_nodes import META, Client, nodes
from tests.unit.syncer.ledger.cluster_world import SEED, A, B, Make, Node, layout, world

__all__ = ["world"]

BOTH = Layout((Primary("a", A),) * 8192 + (Primary("b", B),) * 8192, healthy=True)


def told(node: Node) -> Any:
    """A node as one that reports."""
    return cast("Any", node)


async def test_a_pipeline_that_lost_its_server_has_the_map_read(world: Make) -> None:
    """The problem is known at once, and the next call begins with another reading."""
    here = world(layout(A), layout(B))
    await here.submit()
    here.at(A).problem = "the connection is lost"
    here.cluster.on_problem(told(here.at(A)))
    assert here.problem() == "1 of 1 primaries of the Redis Cluster: the connection is lost"
    await here.submit()
    assert (len(here.at(A).calls), len(here.at(B).calls)) == (1, 1)
    assert here.problem() is None


async def test_the_layout_is_counted_by_changes_of_holders(world: Make) -> None:
    """Each map with other holders raises it by one, one that is the same leaves it."""
    here = world(layout(A), layout(A), layout(B), BOTH, BOTH)
    assert here.cluster.layout == 0
    seen = []
    for _ in range(5):
        await here.cluster.primaries()
        seen.append(here.cluster.layout)
    assert seen == [1, 1, 2, 3, 3]


async def test_a_primary_that_is_away_is_asked_last(world: Make) -> None:
    """It would cost a timeout; those of the start come behind those of the map."""
    here = world(BOTH)
    await here.cluster.primaries()
    here.at(A).problem = "away"
    here.asked.clear()
    here.maps = [Unavailable("no answer")]
    with pytest.raises(Unavailable, match="no node of the Redis Cluster answers"):
        await here.cluster.primaries()
    assert here.asked == [B, A, SEED]
    # A refusal says more than silence.
    here.maps = [Unavailable("no answer"), Unauthorised("NOPERM"), Unavailable("no answer")]
    with pytest.raises(Unauthorised, match="NOPERM"):
        await here.cluster.primaries()


async def test_the_map_with_the_fewest_holes_is_taken(world: Make) -> None:
    """Where no node is well, the one that knows most is believed, and all of them are asked."""
    here = world(BOTH)
    await here.cluster.primaries()
    here.asked.clear()
    here.maps = [layout(None, healthy=False), layout(B, healthy=False), layout(None, healthy=False)]
    assert await here.cluster.primaries() == ("10.0.0.2:6379",)
    assert here.asked == [A, B, SEED]


async def test_a_command_without_a_key(world: Make) -> None:
    """It goes to the first primary, and nowhere while there is none."""
    here = world(layout(None), BOTH)
    scan = Call(("SCAN", 0))
    with pytest.raises(Unavailable, match="no node of the Redis Cluster holds a slot"):
        await here.submit(scan)
    await here.submit(scan)
    assert (here.at(A).calls, here.at(B).calls) == ([scan], [])


@pytest.mark.parametrize("error", [Unavailable("away"), OSError("no memory")])
async def test_a_new_primary_that_cannot_be_connected_to(
    world: Make, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """An answer of Redis concerns that node alone, and anything else is a fault of ours."""
    here = world(layout(A))

    async def look() -> None:
        raise error

    monkeypatch.setattr(here.at(A), "look", look)
    if isinstance(error, Unavailable):
        assert await here.submit() == "reply"
    else:
        with pytest.raises(OSError, match="no memory"):
            await here.submit()


@pytest.mark.parametrize("error", [Unavailable("away"), OSError("no memory")])
async def test_a_look_at_every_primary(
    world: Make, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """One that does not answer is passed over, and not all of them were seen then."""
    here = world(BOTH, BOTH)
    await here.cluster.probe()
    seen = here.identity.looked_at
    assert seen > 0

    async def look() -> None:
        raise error

    monkeypatch.setattr(here.at(A), "look", look)
    if isinstance(error, OSError):
        with pytest.raises(OSError, match="no memory"):
            await here.cluster.probe()
        return
    await here.cluster.probe()
    assert here.identity.looked_at == seen


async def test_connections_are_made_again_when_it_is_opened(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are up might go to what was there before."""
    here = world(layout(A))
    await here.submit()
    done: list[str] = []
    for name in ("reset", "look"):

        async def step(name: str = name) -> None:
            done.append(name)

        monkeypatch.setattr(here.at(A), name, step, raising=False)
    with pytest.raises(Unavailable, match="did not say whose it is"):
        await here.cluster.open()
    assert done == ["reset", "look"]


async def test_pipelines_of_before_are_served_when_it_runs(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A map may be read before anything runs; tasks end with the router, and bear the node's name."""
    here = world(layout(A), layout(B))
    await here.submit()
    began: asyncio.Queue[str] = asyncio.Queue()
    ended: list[str] = []
    for address in (A, B):

        async def serve() -> None:
            task = asyncio.current_task()
            assert task is not None
            began.put_nowait(task.get_name())
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(task.get_name())

        monkeypatch.setattr(here.at(address), "serve", serve)
    async with beside(here.cluster.run()):
        names = [f"redis-pipeline-{host}:{port}" for host, port in (A, B)]
        async with asyncio.timeout(30):
            assert await began.get() == names[0]
            await here.cluster.primaries()
            assert await began.get() == names[1]
    assert sorted(ended) == names


async def test_a_pipeline_that_was_dropped_does_not_connect(world: Make) -> None:
    """What is no longer the router's is refused, whoever answers there."""
    here = world(layout(A))
    with pytest.raises(ResponseError, match="ERR the pipeline is closed"):
        await here.cluster.on_connect(told(Node()), cast("Any", None), {"cluster_enabled": "1"})


async def test_a_node_under_an_address_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers is not whom the map names there: the map is read before the next call, once."""
    monkeypatch.setattr(redis_cluster, "_READ_PAUSE", 0.0)
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


async def test_a_write_that_no_replica_confirms_holds_attempts(world: Make) -> None:
    """That primary is known by its process, and attempts are held where they must be confirmed."""
    here = world(layout(A))
    await here.submit()
    cluster = cast("Any", here.cluster)
    cluster._infos[A] = {"run_id": "r", "slave0": "ip=h,port=1,state=online,offset=1,lag=0"}
    here.identity.replicas.observe(cluster._infos[A])
    here.identity.confirming = True
    cluster._settle(changed=False)
    assert here.identity.unfit is None
    here.cluster.on_unconfirmed(told(here.at(A)))
    assert here.identity.unfit == (
        "no replica has confirmed the newest attempts in time; look at its lag"
    )


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
