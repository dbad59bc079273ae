"""Handing shards over: in order, and without falling silent for the others meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from syncer.kube.leases import Lease
from syncer.sharding.installation import Installation
from syncer.sharding.manager import ShardKeeper
from syncer.sharding.ownership import Shards, hand_over
from tests.unit.syncer.sync.test_holes import Held

PERIOD = 0.01


class Others:
    """Counts beats, and says how many replicas there are."""

    def __init__(self) -> None:
        self.besides = 0
        self.beats = 0
        self.willing = True

    async def beat(self, *, willing: bool) -> int:
        """Count."""
        self.willing = willing
        self.beats += 1
        return self.besides + int(willing)

    async def leave(self) -> None:
        """Leave."""


class Single:
    """A Lease that is held from the first moment until it is released."""

    def __init__(self, n: int, willing: Callable[[], bool]) -> None:
        del n
        self.willing = willing
        self.holder, self.problem, self.term, self.unowned = "", None, None, False
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
        others.besides = 1
        await until(lambda: owner.asked == [3])
        beats = others.beats
        await until(lambda: others.beats >= beats + 5)
        assert sorted(shards.owned) == [0, 1, 2, 3]


async def test_what_is_above_the_share_is_judged_anew_for_each_shard() -> None:
    """The newcomer may be gone again before the first shard is quiet."""
    async with keeping() as (others, owner, shards):
        others.besides = 1
        await until(lambda: owner.asked == [3])
        others.besides, beats = 0, others.beats
        await until(lambda: others.beats >= beats + 2)
        owner.quiet.set()
        await until(lambda: sorted(shards.owned) == [0, 1, 2])
        await until(lambda: others.beats >= beats + 10)
        assert owner.asked == [3]


async def test_a_shard_acquired_anew_is_not_handed_over_as_if_it_were_quiet() -> None:
    """Lost and acquired again meanwhile: sends may have begun, which the waiting was not for."""
    async with keeping() as (others, owner, shards):
        others.besides = 1
        await until(lambda: owner.asked == [3])
        anew = Held()
        shards.drop(3)
        shards.take(3, anew)
        others.besides, beats = 0, others.beats
        await until(lambda: others.beats >= beats + 2)
        owner.quiet.set()
        beats = others.beats
        await until(lambda: others.beats >= beats + 10)
        assert shards.owned.get(3) is anew
        assert owner.asked == [3]


# -- what is handed over --------------------------------------------------------------------------

ABLE = None
EIGHT = tuple(range(8))


@pytest.mark.parametrize(
    ("owned", "others", "unable", "shards", "reason"),
    [
        pytest.param(EIGHT, 0, ABLE, (), "above the share of 1 replicas", id="alone"),
        pytest.param(EIGHT, 1, ABLE, (7, 6, 5, 4), "above the share of 2", id="one too many"),
        pytest.param((1, 5), 1, ABLE, (), "above the share of 2", id="below its share"),
        pytest.param(EIGHT, 1, 18.0, (), "not for long", id="a short outage"),
        pytest.param(EIGHT, 3, 18.0, (), "not for long", id="a short outage above its share"),
        pytest.param((0, 3), 1, 18.1, (3, 0), "another replica is able", id="a long outage"),
        pytest.param(EIGHT, 0, 900.0, (), "so is every other", id="nobody is able"),
        pytest.param((), 1, 900.0, (), "another replica is able", id="nothing is left"),
    ],
)
def test_what_is_handed_over(
    owned: tuple[int, ...], others: int, unable: float | None, shards: tuple[int, ...], reason: str
) -> None:
    """By the share; or all of it, by who is not able to serve while somebody else is."""
    decided = hand_over(owned, shards=8, others=others, unable=unable, patience=18.0)
    assert decided.shards == shards
    assert reason in decided.reason


class Place:
    """A keeper of four shards among others, with a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.able = True
        self.others, self.owner, self.shards = Others(), Slow(), Shards(4)
        self.owner.quiet.set()
        self.keeper = ShardKeeper(
            self.shards, cast("Installation", self.others), self.owner,
            lambda n, willing: cast("Lease", Single(n, willing)),
            able=lambda: self.able, refused=lambda _: None, period=PERIOD, patience=18.0,
            clock=lambda: self.now,
        )  # fmt: skip

    async def beats(self, count: int = 3) -> bool:
        """Let some beats pass; whether the last one said that the replica is able."""
        known = self.others.beats
        await until(lambda: self.others.beats >= known + count)
        return self.others.willing

    def replicas(self, others: int) -> None:
        """Set how many other replicas are able."""
        self.others.besides = others


@asynccontextmanager
async def placed() -> AsyncIterator[Place]:
    """One that holds all four shards, being alone."""
    place = Place()
    task = asyncio.create_task(place.keeper.run())
    try:
        await until(lambda: len(place.shards.owned) == 4)
        yield place
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_who_cannot_serve_hands_over_while_another_can() -> None:
    """After a LeaseDuration of it, all of its shards, and it says from the first beat that it cannot."""
    async with placed() as place:
        place.replicas(1)
        place.able = False
        assert not await place.beats()
        place.now += 18.0
        await place.beats()
        assert len(place.shards.owned) == 4
        place.now += 0.5
        await until(lambda: not place.shards.owned)
        assert place.owner.asked == [3, 2, 1, 0]


async def test_nobody_hands_over_where_nobody_can_serve() -> None:
    """Redis is away for all: shards stay where they are, however long that lasts."""
    async with placed() as place:
        place.able = False
        await place.beats()
        place.now += 3600.0
        await place.beats()
        assert len(place.shards.owned) == 4
        place.replicas(1)
        await until(lambda: not place.shards.owned)


async def test_an_outage_begins_anew_when_it_ends() -> None:
    """What counts is how long it has not been able without a break."""
    async with placed() as place:
        place.able = False
        await place.beats()
        place.now += 17.0
        place.able = True
        await place.beats()
        place.replicas(1)
        place.able = False
        await place.beats()
        place.now += 17.0
        await place.beats()
        assert len(place.shards.owned) == 4


async def test_who_handed_over_counts_again_when_it_has_been_able_for_as_long() -> None:
    """A connection that comes and goes moves no shards."""
    async with placed() as place:
        place.replicas(1)
        place.able = False
        await place.beats()
        place.now += 19.0
        await until(lambda: not place.shards.owned)
        place.able = True
        assert not await place.beats()
        place.able = False
        await place.beats()
        place.now += 18.0
        place.able = True
        assert not await place.beats()
        place.now += 18.5
        assert await place.beats()


async def test_who_handed_over_counts_at_once_if_nobody_else_is_able() -> None:
    """A shard without an owner is worse than one that moves."""
    async with placed() as place:
        place.replicas(1)
        place.able = False
        await place.beats()
        place.now += 19.0
        await until(lambda: not place.shards.owned)
        place.able = True
        assert not await place.beats()
        place.replicas(0)
        assert await place.beats()
