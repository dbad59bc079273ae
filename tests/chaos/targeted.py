"""
One short schedule of faults for each break: the trouble that its protection is for.

Each runs in seconds and is harmless to the sound product; that is tested too (`--against NAME`),
for a schedule that any product fails would prove nothing. Where a process must be stopped or killed
at one step of the protocol, the product's failpoints do it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.chaos.world import Replica, World, frozen
from tests.e2e.checker import TERMINAL, Kind
from tests.e2e.harness import BUSY, LEASE_SECONDS, OK, Step, until

#: Seconds in which a schedule's step must come about; the machine may be busy.
_SOON: Final = 40.0
_LONG: Final = {"maxAttempts": 10, "initialBackoffSeconds": 1, "backoffMultiplier": 1}


@dataclass(frozen=True, slots=True)
class Schedule:
    """
    The trouble that shows a break.

    Attributes:
        run: Brings it about.
        violates: Findings, at least one of which must appear.
        ttl: Seconds for which a finished log is kept; 0 for the product's own.
        convergence: It shows by never coming to rest.
        journal: Attempts are journaled while Redis is away.
    """

    run: Callable[[World], Awaitable[None]]
    violates: tuple[Kind, ...]
    ttl: int = 0
    convergence: bool = False
    journal: bool = False

    @property
    def names(self) -> set[str]:
        """Names of invariants, one of which must be violated."""
        return {k.value for k in self.violates} | ({"convergence"} if self.convergence else set())


async def _phase(world: World, uid: str, *phases: str) -> None:
    await until(
        lambda: world.here.watcher.phase(uid) in (phases or TERMINAL),
        lambda: f"{uid} is at its end, it is {world.here.watcher.phase(uid) or 'new'}",
        within=_SOON,
    )


async def _begin(replica: Replica, failpoints: str = "") -> None:
    await asyncio.to_thread(replica.start, failpoints)


async def _one(
    world: World, *script: Step, failpoints: str = "", to: str = "steady", **spec: Any
) -> tuple[Replica, str]:
    """One replica, and one notification that is there when it starts."""
    replica, uid = world.replica(), await world.notify("n", to, *script, **spec)
    await _begin(replica, failpoints)
    return replica, uid


async def _attempted(world: World) -> None:
    await until(lambda: len(world.book) == 1, "the first attempt is made", within=_SOON)


async def _dead(world: World, replica: Replica, failpoint: str) -> None:
    await replica.wait_exit(within=_SOON)
    assert replica.landed(failpoint), f"the fault did not land; {replica.tail()}"
    world.landed["kill at a step"] += 1


async def _woken(world: World, replica: Replica) -> None:
    replica.resume()
    world.landed["freeze at a step"] += 1
    await asyncio.sleep(4)


async def _without_redis(world: World) -> None:
    await world.redis.kill()
    world.landed["kill Redis"] += 1


async def _frozen_before_intent(world: World) -> None:
    """A replica freezes before it opens an attempt; another one delivers; the log expires."""
    first, uid = await _one(world, failpoints="before-intent=stop")
    await frozen(first, "before-intent", within=_SOON)
    await _begin(world.replica())
    await _phase(world, uid, "Sent")

    async def expired() -> bool:
        return not await world.here.redis.exists(world.here.prefix + f":{{{uid}}}")

    await until(expired, "the log has expired", within=_SOON)
    first.resume()
    world.landed["freeze at a step"] += 1
    # What is unfenced sends at once where nothing else runs, and later on a busy machine.
    for _ in range(20):
        await asyncio.sleep(0.5)
        if len(world.receivers["steady"].calls("n")) > 1:
            break


async def _frozen_after_intent(world: World) -> None:
    """A replica freezes between intent and send; another one takes over and delivers."""
    first, uid = await _one(world, failpoints="after-intent=stop")
    await frozen(first, "after-intent", within=_SOON)
    await _begin(world.replica())
    await _phase(world, uid, "Sent")
    await _woken(world, first)


async def _killed_before_intent(world: World) -> None:
    """A replica is killed as it is about to put an attempt on record."""
    first, uid = await _one(world, failpoints="before-intent=kill")
    await _dead(world, first, "before-intent")
    await _begin(first)
    await _phase(world, uid)


async def _redis_away(world: World) -> None:
    """Redis dies while a retry falls due, and then the replica does."""
    policy = {**_LONG, "initialBackoffSeconds": 3}
    first, uid = await _one(world, BUSY, OK, retryPolicy=policy)
    await _attempted(world)
    await asyncio.sleep(1)
    await _without_redis(world)
    await asyncio.sleep(7)
    await asyncio.to_thread(first.kill)
    world.landed["kill at a step"] += 1
    await world.redis.start()
    await _begin(first)
    await _phase(world, uid)


async def _dropped(world: World) -> None:
    """A receiver acts upon a request and resets the connection."""
    _, uid = await _one(world, Step(drop="after"), OK, to="dropper", retryPolicy=_LONG)
    await _phase(world, uid)
    world.landed["process, then drop"] += sum(not c.code for c in world.book)


async def _frozen_between_attempts(world: World) -> None:
    """The only replica is frozen for longer than its session lasts, and wakes up."""
    policy = {**_LONG, "initialBackoffSeconds": 4}
    first, uid = await _one(world, BUSY, OK, retryPolicy=policy)
    await _attempted(world)
    first.pause()
    await asyncio.sleep(2 * LEASE_SECONDS)
    first.resume()
    world.landed["freeze between attempts"] += 1
    # That it does not end is for the judgement to say.
    with contextlib.suppress(AssertionError):
        await until(lambda: world.here.watcher.phase(uid) in TERMINAL, "it ends", within=_SOON / 2)


async def _journaling(replica: Replica) -> None:
    """Wait until a replica says that it journals, and takes what is created from now on for younger."""
    event = "no replica reaches Redis; attempts are journaled in the status"
    await until(
        lambda: bool(replica.lines(event)), lambda: f"it journals; {replica.tail()}", within=_SOON
    )
    # By a margin of whole seconds, which nothing but time brings about.
    await asyncio.sleep(4)


async def _killed_after_journaled_send(world: World) -> None:
    """Redis is away, and the owner is killed when the receiver has what it journaled."""
    first = world.replica()
    await _begin(first, "after-send=kill")
    await first.wait_ready(_SOON)
    await _without_redis(world)
    await _journaling(first)
    uid = await world.notify("n", "steady", retryPolicy=_LONG)
    await _dead(world, first, "after-send")
    await world.redis.start()
    await _begin(first)
    await _phase(world, uid)


SCHEDULES: Final[dict[str, Schedule]] = {
    "no-deadline": Schedule(_frozen_after_intent, (Kind.REPEATED,)),
    "no-fence": Schedule(_frozen_before_intent, (Kind.REPEATED,), ttl=2),
    "send-before-intent": Schedule(_killed_before_intent, (Kind.LOST,)),
    "send-without-log": Schedule(_redis_away, (Kind.LOST,)),
    "unknown-as-failed": Schedule(_dropped, (Kind.MISRECORDED, Kind.REPEATED)),
    "one-session": Schedule(_frozen_between_attempts, (), convergence=True),
    "journal-without-write": Schedule(
        _killed_after_journaled_send, (Kind.LOST, Kind.REPEATED), journal=True
    ),
}
