"""Handing shards over: in order, and without falling silent for the others meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from syncer.cluster.installation import Installation
from syncer.cluster.lease import Lease
from syncer.ownership import Shards
from syncer.sharding import ShardKeeper
from tests.unit.syncer.test_holes import Held

PERIOD = 0.01


class Others:
    """Counts beats, and says how many replicas there are."""

    def __init__(self) -> None:
        self.members = 1
        self.beats = 0

    async def beat(self, *, willing: bool) -> int:
        """Count."""
        assert willing
        self.beats += 1
        return self.members

    async def leave(self) -> None:
        """Leave."""


class Single:
    """A Lease that is held from the first moment until it is released."""

    def __init__(self, n: int, willing: Callable[[], bool]) -> None:
        del n
        self.willing = willing
        self.holder, self.problem, self.tenure, self.unowned = "", None, None, False
        self.released = asyncio.Event()

    async def run(self, acquired: Callable[[Any], Any], lost: Callable[[Any, str], Any]) -> None:
        """Hold."""
        del lost
        if self.willing():
            await acquired(Held())
        await self.released.wait()
        await asyncio.sleep(60)

    async def release(self, *, timeout: float = 2.0) -> bool:
        """Let go."""
        del timeout
        self.released.set()
        return True


class Slow:
    """An owner whose shards fall quiet when the test lets them."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.quiet = asyncio.Event()

    def begin(self, shard: int) -> int:
        """Begin with nothing."""
        del shard
        return 0

    async def quiesce(self, shard: int, seconds: float) -> bool:
        """Wait for the test."""
        del seconds
        self.asked.append(shard)
        await self.quiet.wait()
        return True


async def until(condition: Callable[[], object]) -> None:
    """Wait for what must happen."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(PERIOD)


@asynccontextmanager
async def keeping() -> AsyncIterator[tuple[Others, Slow, Shards]]:
    """A keeper of four shards, all held."""
    others, owner, shards = Others(), Slow(), Shards(4)
    keeper = ShardKeeper(
        shards, cast("Installation", others), owner,
        lambda n, willing: cast("Lease", Single(n, willing)),
        able=lambda: True, refused=lambda _: None, period=PERIOD, patience=60.0,
        clock=lambda: 0.0,
    )  # fmt: skip
    task = asyncio.create_task(keeper.run())
    try:
        await until(lambda: len(shards.owned) == 4)
        yield others, owner, shards
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_slow_hand_over_is_no_silence() -> None:
    """A replica that is not heard of counts as gone, and its shards would all be another's share."""
    async with keeping() as (others, owner, shards):
        others.members = 2
        await until(lambda: owner.asked == [3])
        beats = others.beats
        await until(lambda: others.beats >= beats + 5)
        assert sorted(shards.owned) == [0, 1, 2, 3]


async def test_what_is_above_the_share_is_judged_anew_for_each_shard() -> None:
    """The newcomer may be gone again before the first shard is quiet."""
    async with keeping() as (others, owner, shards):
        others.members = 2
        await until(lambda: owner.asked == [3])
        others.members, beats = 1, others.beats
        await until(lambda: others.beats >= beats + 2)
        owner.quiet.set()
        await until(lambda: sorted(shards.owned) == [0, 1, 2])
        await until(lambda: others.beats >= beats + 10)
        assert owner.asked == [3]
