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
from tests.servers.redis import RedisServer, find_binary
from tests.servers.topology import call, port_of

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


async def _both(world: World, failpoints: str = "") -> tuple[Replica, Replica]:
    """Two replicas that are ready; failpoints are the first one's."""
    first, second = world.replica(), world.replica()
    for replica, armed in ((first, failpoints), (second, "")):
        await _begin(replica, armed)
        await replica.wait_ready(_SOON)
    return first, second


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


async def _a_replica_for_a_moment(world: World) -> None:
    """
    A replica freezes before it opens an attempt; another one delivers; Redis follows an earlier copy.

    It is a primary again at once: the same process at the same address, with the frozen replica's epoch.
    """
    first, second = world.replica(), world.replica()
    async with RedisServer(find_binary("redis-server")) as copy:
        # Before anything is claimed, since a first replica changes the stamp.
        await _follow(copy, world.redis)
        uid = await world.notify("n", "steady")
        await _begin(first, "before-intent=stop")
        await frozen(first, "before-intent", within=_SOON)
        key = world.here.prefix + f":{{{uid}}}"
        await until(
            lambda: call(port_of(copy), "LLEN", key) == 2, "the copy has its plan", within=_SOON
        )
        call(port_of(copy), "REPLICAOF", "NO", "ONE")
        await _begin(second)
        await _phase(world, uid, "Sent")
        await _follow(world.redis, copy)
        # A loss, also where the log is given everything back at once.
        world.flushed = True
        call(port_of(world.redis), "REPLICAOF", "NO", "ONE")
    world.landed["replica for a moment"] += 1
    await _woken(world, first)


async def _follow(server: RedisServer, other: RedisServer) -> None:
    call(port_of(server), "REPLICAOF", "127.0.0.1", port_of(other))

    def loaded() -> bool:
        replication = call(port_of(server), "INFO", "replication")
        return bool(replication["master_link_status"] == "up")

    await until(loaded, "it has the data of the other one", within=_SOON)


async def _frozen_after_intent(world: World) -> None:
    """A replica freezes between intent and send; another one takes over and delivers."""
    first, uid = await _one(world, failpoints="after-intent=stop")
    await frozen(first, "after-intent", within=_SOON)
    await _begin(world.replica())
    await _phase(world, uid, "Sent")
    await _woken(world, first)


async def _killed_before_patch(world: World) -> None:
    """A replica is killed as it is about to write a status, and stays away for a while."""
    first, uid = await _one(world, BUSY, OK, failpoints="before-patch=kill@2", retryPolicy=_LONG)
    await _dead(world, first, "before-patch")
    await asyncio.sleep(2)
    await _begin(first)
    await _phase(world, uid)


async def _redis_emptied(world: World) -> None:
    """Redis loses everything while the only replica is down and a notification is under way."""
    first, uid = await _one(world, BUSY, BUSY, BUSY, OK, retryPolicy=_LONG)

    def shown() -> bool:
        return len(world.here.watcher.last(uid).attempts) >= 2

    await until(shown, "two attempts are published", within=_SOON)
    await asyncio.to_thread(first.kill)
    world.flushed = True
    await asyncio.to_thread(world.redis.flush)
    world.landed["empty Redis"] += 1
    await _begin(first)
    await _phase(world, uid)


async def _killed_before_intent(world: World) -> None:
    """A replica is killed as it is about to put an attempt on record."""
    first, uid = await _one(world, failpoints="before-intent=kill")
    await _dead(world, first, "before-intent")
    await _begin(first)
    await _phase(world, uid)


async def _killed_after_intent(world: World) -> None:
    """A replica is killed between intent and send."""
    first, uid = await _one(world, failpoints="after-intent=kill")
    await _dead(world, first, "after-intent")
    await _begin(first)
    await _perhaps_ends(world, uid)


async def _perhaps_ends(world: World, uid: str) -> None:
    """Give a notification time to end; that it does not is for the judgement to say."""
    with contextlib.suppress(AssertionError):
        await until(lambda: world.here.watcher.phase(uid) in TERMINAL, "it ends", within=_SOON / 2)


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


async def _frozen_before_patch(world: World) -> None:
    """A replica freezes as it is about to write a status; another one goes on and ends it."""
    policy = {**_LONG, "initialBackoffSeconds": 2}
    first, uid = await _one(
        world, BUSY, BUSY, OK, failpoints="before-patch=stop@2", retryPolicy=policy
    )
    await frozen(first, "before-patch", within=_SOON)
    await _begin(world.replica())
    await _phase(world, uid, "Sent")
    await _woken(world, first)


async def _dropped(world: World) -> None:
    """A receiver acts upon a request and resets the connection."""
    _, uid = await _one(world, Step(drop="after"), OK, to="dropper", retryPolicy=_LONG)
    await _phase(world, uid)
    world.landed["process, then drop"] += sum(not c.code for c in world.book)


async def _retried(world: World) -> None:
    """A receiver refuses twice."""
    _, uid = await _one(world, BUSY, BUSY, OK, retryPolicy=_LONG)
    await _phase(world, uid)
    world.landed["refuse"] += sum(c.code == BUSY.code for c in world.book)


async def _repaired_in_silence(world: World) -> None:
    """A log becomes unreadable between two attempts and is repaired too late for them; nobody is told."""
    policy = {**_LONG, "initialBackoffSeconds": 6}
    _, uid = await _one(world, BUSY, OK, retryPolicy=policy)
    await _attempted(world)
    await asyncio.sleep(1)
    # The vendor's types know no binary elements.
    redis: Any = world.here.redis
    key = f"{world.here.prefix}:{{{uid}}}"
    record: bytes = await redis.lindex(key, -1)
    await redis.lset(key, -1, record[:-1] + bytes([record[-1] ^ 1]))
    await redis.publish(f"{world.here.prefix}:poke", uid)

    def quarantined() -> bool:
        return world.here.watcher.last(uid).condition("Quarantined").get("status") == "True"

    await until(quarantined, "the log is found unreadable", within=_SOON)
    # The timer of the second attempt brings a look as well.
    await asyncio.sleep(8)
    await redis.lset(key, -1, record)
    world.landed["repair in silence"] += 1
    with contextlib.suppress(AssertionError):
        await until(lambda: world.here.watcher.phase(uid) in TERMINAL, "it ends", within=60.0)


async def _killed_for_good(world: World) -> None:
    """A replica is killed between two attempts and does not come back; another one is there."""
    first, _ = await _both(world)
    # Both are there before, so that the kill comes before the second attempt on a busy machine, too.
    policy = {**_LONG, "initialBackoffSeconds": 4}
    uid = await world.notify("n", "steady", BUSY, OK, retryPolicy=policy)
    await _attempted(world)
    await asyncio.to_thread(first.kill)
    world.landed["kill for good"] += 1
    # Before everything is mended, which would start it again under its name.
    await _phase(world, uid)


async def _frozen_between_attempts(world: World) -> None:
    """The only replica is frozen for longer than its session lasts, and wakes up."""
    policy = {**_LONG, "initialBackoffSeconds": 4}
    first, uid = await _one(world, BUSY, OK, retryPolicy=policy)
    await _attempted(world)
    first.pause()
    await asyncio.sleep(2 * LEASE_SECONDS)
    first.resume()
    world.landed["freeze between attempts"] += 1
    await _perhaps_ends(world, uid)


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


async def _killed_with_a_secret(world: World) -> None:
    """The owner is killed when the log knows a success and the status does not; then Redis dies."""
    first, second = await _both(world, "after-outcome=kill")
    uid = await world.notify("n", "steady", retryPolicy=_LONG)
    await _dead(world, first, "after-outcome")
    await _without_redis(world)
    await _journaling(second)
    # What is younger goes meanwhile, and what nobody knows must not.
    other = await world.notify("m", "steady", retryPolicy=_LONG)
    await _phase(world, other)
    await asyncio.sleep(5)
    await world.redis.start()
    await _phase(world, uid)


async def _two_outages(world: World) -> None:
    """Between two outages the owner is killed when the log knows a success and the status does not."""
    first, second = await _both(world, "after-outcome=kill")
    await world.redis.kill()
    await _journaling(first)
    await world.redis.start()
    await until(
        lambda: bool(first.lines("Redis is back; attempts are no longer journaled")),
        lambda: f"it has the log; {first.tail()}",
        within=_SOON,
    )
    uid = await world.notify("n", "steady", retryPolicy=_LONG)
    await _dead(world, first, "after-outcome")
    await world.redis.kill()
    world.landed["kill Redis"] += 2
    await _journaling(second)
    other = await world.notify("m", "steady", retryPolicy=_LONG)
    await _phase(world, other)
    await asyncio.sleep(5)
    await world.redis.start()
    await _phase(world, uid)


SCHEDULES: Final[dict[str, Schedule]] = {
    "no-deadline": Schedule(_frozen_after_intent, (Kind.REPEATED,)),
    "no-fence": Schedule(_frozen_before_intent, (Kind.REPEATED,), ttl=2),
    "no-stamp": Schedule(_a_replica_for_a_moment, (Kind.REPEATED,)),
    "ack-before-patch": Schedule(_killed_before_patch, (Kind.OVERACKED,)),
    "overwrite-instead-of-union": Schedule(_redis_emptied, (Kind.REGRESSED,)),
    "send-before-intent": Schedule(_killed_before_intent, (Kind.LOST,)),
    "send-without-log": Schedule(_redis_away, (Kind.LOST,)),
    "no-resource-version": Schedule(_frozen_before_patch, (Kind.REGRESSED,)),
    "no-recover": Schedule(_killed_after_intent, (Kind.UNSETTLED,), convergence=True),
    "unknown-as-failed": Schedule(_dropped, (Kind.MISRECORDED, Kind.REPEATED)),
    "numbers-from-count": Schedule(_retried, (Kind.REORDERED,)),
    "no-resync": Schedule(_repaired_in_silence, (), convergence=True),
    "silent-session-kept": Schedule(_killed_for_good, (), convergence=True),
    "one-session": Schedule(_frozen_between_attempts, (), convergence=True),
    "journal-without-write": Schedule(
        _killed_after_journaled_send, (Kind.LOST, Kind.REPEATED), journal=True
    ),
    "trust-every-object": Schedule(_killed_with_a_secret, (Kind.REPEATED,), journal=True),
    "note-stays": Schedule(_two_outages, (Kind.REPEATED,), journal=True),
}
