"""When the router of a Redis Cluster reads its map, gives up, and closes, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from syncer.ledger import redis_cluster
from syncer.ledger.cluster_map import Layout
from syncer.ledger.redis_cluster import Cluster
from syncer.ledger.replies import Redirected
from syncer.ledger.url import Address, parse_redis_url
from syncer.model.errors import Unavailable
from tests.simulation.loop import SimLoop, simulate
from tests.unit.syncer.ledger.test_redis_cluster import READ, SEED, A, B, World, layout


class Timed(World):
    """A world whose readings of the map are noted with their times, at the pace of the product."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *maps: Layout | Exception) -> None:
        pause = redis_cluster._READ_PAUSE
        super().__init__(monkeypatch, *maps)
        monkeypatch.setattr(redis_cluster, "_READ_PAUSE", pause)
        self.read: list[float] = []

    async def _ask_for_map(self, address: Address) -> Layout:
        self.read.append(now())
        return await super()._ask_for_map(address)


def now() -> float:
    """Seconds since the test began."""
    return round(asyncio.get_running_loop().time() - _began[0], 6)


_began = [0.0]


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a test on virtual time."""

    async def timed(loop: SimLoop) -> None:
        _began[0] = loop.time()
        await main()

    simulate(1, timed)


def test_readings_of_the_map_keep_their_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever needs a newer map waits until the last reading is a fifth of a second old."""

    async def main() -> None:
        here = Timed(monkeypatch, layout(A))
        await here.submit()
        for _ in range(3):
            await here.cluster.primaries()
        await asyncio.sleep(5)
        await here.cluster.primaries()
        assert here.read == [0.0, 0.2, 0.4, 0.6, 5.6]

    run(main)


def test_a_map_in_doubt_is_used_until_it_may_be_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call that is in doubt of the map does not wait for the next reading, but asks for it in time."""

    async def main() -> None:
        here = Timed(monkeypatch, layout(A, healthy=False))
        for _ in range(4):
            await here.submit()
            await asyncio.sleep(0.1)
        assert set(here.read) == {0.0, 0.2}

    run(main)


def test_a_call_that_is_sent_on_waits_from_the_second_time_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first redirection is followed as soon as the map is read, those behind it after a pause."""

    async def main() -> None:
        here = Timed(monkeypatch, layout(A), *[layout(B), layout(A)] * 3)
        sent: list[float] = []
        for node, other in ((here.at(A), B), (here.at(B), A)):

            async def submit(_call: object, other: Address = other) -> str:
                sent.append(now())
                raise Redirected("MOVED", other)

            monkeypatch.setattr(node, "submit", submit)
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="do not agree about a slot"):
            await here.submit()
        assert sent == [0.0, 0.2, 0.6, 0.8, 1.0]

    run(main)


def test_a_call_without_an_answer_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up after six times the time of one try."""

    async def main() -> None:
        here = Timed(monkeypatch, layout(A))

        async def submit(_call: object) -> str:
            await asyncio.sleep(3_600)
            return ""

        monkeypatch.setattr(here.at(A), "submit", submit)
        with pytest.raises(TimeoutError):
            await here.cluster.submit(READ, None)
        assert now() == 30.0

    run(main)


def test_a_connection_without_use_is_closed_after_half_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A node that has lost its slots may get them back soon; after a while it is let go of."""

    async def main() -> None:
        here = Timed(monkeypatch, layout(A), layout(B))
        await here.submit()
        for until, closed in ((29.5, False), (30.5, True)):
            await asyncio.sleep(until - now())
            await here.cluster.primaries()
            assert here.at(A).closed is closed
        assert not here.at(B).closed

    run(main)


@pytest.mark.parametrize(
    ("troubled", "wanted"), [(False, [10.0, 20.0, 30.0]), (True, [1.0, 2.0, 3.0])]
)
def test_the_cluster_is_looked_at_in_between(
    monkeypatch: pytest.MonkeyPatch, troubled: bool, wanted: list[float]
) -> None:
    """Every ten seconds while all is well, every second once something is wrong; no error ends it."""

    async def main() -> None:
        here = Timed(monkeypatch, layout(A))
        await here.submit()
        looks: list[float] = []

        async def probe() -> None:
            looks.append(now())
            raise Unavailable("no answer") if len(looks) % 2 else TimeoutError

        monkeypatch.setattr(here.cluster, "probe", probe)
        here.identity.unfit = "too small" if troubled else None
        running = asyncio.create_task(here.cluster.run())
        await asyncio.sleep(wanted[-1] + 0.5)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert looks == wanted

    run(main)


class Silent:
    """A connection that is never made."""

    ended = False

    async def connect(self) -> None:
        """Hang."""
        await asyncio.sleep(3_600)

    async def disconnect(self, *, nowait: bool) -> None:
        """Note it; to a peer that does not answer nothing polite is said."""
        self.ended = nowait


def _silent(monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> list[Silent]:
    made: list[Silent] = []

    class Pool:
        def make_connection(self) -> Any:
            made.append(Silent())
            return made[-1]

    monkeypatch.setattr(cluster, "_pool", lambda _address: Pool())
    return made


def test_nodes_that_do_not_answer_cost_a_second_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen of those that are named are asked for the map, then the cluster is given up."""

    async def main() -> None:
        nodes = ",".join(f"n{n}:6379" for n in range(20))
        state = World(monkeypatch, layout(A)).identity
        cluster = Cluster(parse_redis_url(f"redis+cluster://{nodes}"), state, timeout=5.0)
        made = _silent(monkeypatch, cluster)
        with pytest.raises(Unavailable, match="no node of the Redis Cluster answers"):
            await cluster.primaries()
        assert (len(made), now()) == (16, 16.0)
        assert all(connection.ended for connection in made)

    run(main)


def test_a_subscriber_waits_three_times_as_long_for_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A connection to listen on may take longer than a call; then it is given up."""

    async def main() -> None:
        state = World(monkeypatch, layout(A)).identity
        cluster = Cluster(
            parse_redis_url(f"redis+cluster://{SEED[0]}:{SEED[1]}"), state, timeout=5.0
        )
        _silent(monkeypatch, cluster)
        with pytest.raises(TimeoutError):
            await cluster.connect_subscriber()
        assert now() == 15.0

    run(main)
