"""The router of a Redis Cluster over scripted nodes and maps: where a call goes, and what nodes report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast
from unittest.mock import AsyncMock, call

import pytest
from redis.crc import key_slot
from redis.exceptions import ResponseError

from syncer.ledger import redis_cluster
from syncer.ledger.cluster_map import Layout, Primary
from syncer.ledger.pipeline import Call
from syncer.ledger.redis_cluster import Cluster
from syncer.ledger.replies import Redirected, Refused
from syncer.ledger.store import RedisState
from syncer.ledger.url import Address, parse_redis_url
from syncer.model.errors import Unauthorised, Unavailable
from tests.beside import beside

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
        self.calls.append(call)
        if self.answers:
            raise self.answers.pop(0)
        return "reply"

    async def look(self) -> None:
        """Be there."""

    async def serve(self) -> None:
        await self.serving.wait()

    async def close(self) -> None:
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
        async with asyncio.timeout(20):
            return await self.cluster.submit(call, at)


Make = Callable[..., World]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make a world of maps."""
    return lambda *maps: World(monkeypatch, *maps)


# -- where a call goes ----------------------------------------------------------------------------


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


# -- what nodes report ----------------------------------------------------------------------------

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
    """An answer of Redis concerns that node alone: not all were seen then; all else is a fault of ours."""
    here = world(layout(B), BOTH)
    await here.cluster.probe()
    seen = here.identity.looked_at
    assert seen > 0
    monkeypatch.setattr(here.at(A), "look", AsyncMock(side_effect=error))
    if isinstance(error, OSError):
        with pytest.raises(OSError, match="no memory"):
            await here.cluster.primaries()
        return
    await here.cluster.probe()
    assert here.identity.looked_at == seen
    assert await here.submit() == "reply"


async def test_connections_are_made_again_when_it_is_opened(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are up might go to what was there before."""
    here = world(layout(A))
    await here.submit()
    steps = AsyncMock()
    monkeypatch.setattr(here.at(A), "reset", steps.reset, raising=False)
    monkeypatch.setattr(here.at(A), "look", steps.look)
    with pytest.raises(Unavailable, match="did not say whose it is"):
        await here.cluster.open()
    assert steps.mock_calls == [call.reset(), call.look()]


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
