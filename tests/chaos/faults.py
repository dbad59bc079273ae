"""
Faults at random: streams that strike at the same time, each with a bag of kinds.

A bag is emptied in random order and filled again, so every kind comes up as often as any other, and
a run of a given length has seen all of them. The seed fixes the order and the parameters, not the
moments: processes and kernels have a timing of their own, which is the point of real parts.

A fault counts as landed only when it has hit something: a kill when there was a process, a fault of
a connection when a request ran into it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

import redis

from tests.chaos.world import _NETWORK, Replica, World
from tests.e2e.checker import TERMINAL
from tests.e2e.harness import LEASE_SECONDS
from tests.fakes.proxy import (
    ALWAYS,
    Action,
    Answer,
    BlackHole,
    Delay,
    DropReply,
    DropRequest,
    Fault,
    Proxy,
    ResetAfter,
    SwallowReply,
)
from tests.servers.topology import call, port_of

REPLICAS: Final = ("kill and restart", "kill and replace", "freeze beyond the lease")
SERVERS: Final = ("kill Redis", "freeze Redis", "kill the API server", "freeze the API server")
ACTIONS: Final[dict[str, Callable[[random.Random], Action]]] = {
    "drop reply": lambda _: DropReply(),
    "drop request": lambda _: DropRequest(),
    "delay": lambda rng: Delay(rng.uniform(0.2, 1.2)),
    "reset after n bytes": lambda rng: ResetAfter(rng.randint(1, 400)),
    "black hole": lambda _: BlackHole(),
}
NETWORK: Final = tuple(f"{action}: {server}" for server in ("Redis", "API") for action in ACTIONS)
DELETE: Final = "delete an object"
RENEWAL: Final = "renewal's answer lost"
CUT: Final = "replica cut off from Redis alone"
#: What passes between one replica and Redis, and what does not, for longer than a lease.
LOPSIDED: Final[dict[str, Callable[[], Fault]]] = {
    "no answer to writes, to reads there is": lambda: Fault(BlackHole(), b"EVALSHA", ALWAYS),
    "writes refused to one replica": lambda: Fault(
        Answer(b"-NOREPLICAS Not enough good replicas to write.\r\n"), b"EVALSHA", ALWAYS
    ),
    "large packets lost": lambda: Fault(BlackHole(), times=ALWAYS, above=1300),
    "requests lost, in one direction": lambda: Fault(BlackHole(), times=ALWAYS),
    "replies lost, in one direction": lambda: Fault(SwallowReply(), times=ALWAYS),
    "accepted, then closed": lambda: Fault(DropRequest(), times=ALWAYS),
}
#: For all replicas.
PAUSED: Final = "Redis pauses writes"
#: Only where attempts are journaled: without that, nothing at all is sent meanwhile.
AWAY: Final = "Redis away for long"
KINDS: Final = (*REPLICAS, *SERVERS, PAUSED, *NETWORK, DELETE, RENEWAL, CUT, *LOPSIDED)

#: Seconds for which Redis is away for long, at least and at most.
OUTAGE: Final = (20.0, 90.0)

Strike = Callable[[World, str, random.Random], Awaitable[None]]

#: A fault of a connection that nothing ran into within so many seconds is taken back.
_ARMED: Final = 3.0
#: What a renewal of a shard's Lease holds, and neither an acquisition nor a release.
_RENEWS: Final = f'"leaseDurationSeconds":{LEASE_SECONDS:.0f},"renewTime"'.encode()


def bag(kinds: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Kinds in random order, each as often as any other."""
    while True:
        yield from rng.sample(kinds, len(kinds))


async def storm(world: World, seconds: float, pause: float, *, patience: float = 45.0) -> None:
    """
    Let things fail, for so many seconds or until every kind has landed once.

    A fault that has begun is undone before this returns, so no server is left frozen.

    Args:
        world: What is to fail.
        seconds: How long.
        pause: Seconds between two faults of one stream, on average.
        patience: Seconds more in which a kind that has not landed yet is tried again.
    """
    loop = asyncio.get_running_loop()
    end, last = loop.time() + seconds, loop.time() + seconds + patience
    streams: tuple[tuple[Sequence[str], Strike, float], ...] = (
        (REPLICAS, _replica, pause),
        ((*SERVERS, PAUSED), _server, pause),
        ((*NETWORK, DELETE), _connection, pause / 4),
        ((RENEWAL,), _renewal, pause / 2),
        ((CUT, *LOPSIDED), _cut, pause),
    )
    if world.journal:
        streams += (((AWAY,), _away, 6 * pause),)

    async def stream(kinds: Sequence[str], strike: Strike, every: float) -> None:
        rng = random.Random(world.rng.random())  # noqa: S311 - no secret
        for kind in bag(kinds, rng):
            missing = [k for k in kinds if not world.landed[k]]
            now = loop.time()
            if now > last or (now > end and not missing):
                return
            if now > end and kind not in missing:
                continue
            await asyncio.sleep(rng.uniform(0.5, 1.5) * every)
            await strike(world, kind, rng)

    async with asyncio.TaskGroup() as group:
        for kinds, strike, every in streams:
            group.create_task(stream(kinds, strike, every))


async def _replica(world: World, kind: str, rng: random.Random) -> None:
    victim = rng.choice([r for r in world.replicas if r.running])
    if kind == "freeze beyond the lease":
        victim.pause()
        try:
            await asyncio.sleep(LEASE_SECONDS + rng.uniform(1.0, 3.0))
        finally:
            victim.resume()
    else:
        await asyncio.to_thread(victim.kill)
        if kind == "kill and replace":
            world.replicas.remove(victim)
            await _start(world.replica())
        else:
            await asyncio.sleep(rng.uniform(0.0, 1.0))
            await _start(victim)
    world.landed[kind] += 1


async def _start(replica: Replica) -> None:
    await asyncio.to_thread(replica.start)


async def _server(world: World, kind: str, rng: random.Random) -> None:
    if "Redis" in kind:
        if world.redis_turn.locked():
            return
        async with world.redis_turn:
            await _redis(world, kind, rng)
    elif kind == "kill the API server":
        await world.plane.kill_apiserver()
        await asyncio.sleep(rng.uniform(0.0, 1.0))
        await asyncio.to_thread(world.plane.heal)
    else:
        await world.plane.pause("kube-apiserver")
        try:
            await asyncio.sleep(rng.uniform(1.0, LEASE_SECONDS + 2.0))
        finally:
            await world.plane.resume("kube-apiserver")
    world.landed[kind] += 1


async def _redis(world: World, kind: str, rng: random.Random) -> None:
    if kind == PAUSED:
        with contextlib.suppress(redis.RedisError, OSError):
            seconds = LEASE_SECONDS + rng.uniform(1.0, 5.0)
            port = port_of(world.redis)
            await asyncio.to_thread(call, port, "CLIENT", "PAUSE", round(1000 * seconds), "WRITE")
            await asyncio.sleep(seconds)
        return
    if kind == "kill Redis":
        await world.redis.kill()
        await asyncio.sleep(rng.uniform(0.2, 2.0))
        await world.redis.start()
        return
    await world.redis.pause()
    try:
        await asyncio.sleep(rng.uniform(1.0, 3.0))
    finally:
        await world.redis.resume()


async def _away(world: World, kind: str, rng: random.Random) -> None:
    """Have no Redis for so long that attempts are journaled."""
    async with world.redis_turn:
        await world.redis.kill()
        try:
            await asyncio.sleep(rng.uniform(*OUTAGE))
        finally:
            await world.redis.start()
    world.landed[kind] += 1


async def _connection(world: World, kind: str, rng: random.Random) -> None:
    if kind == DELETE:
        await _delete(world, rng)
        return
    action, _, server = kind.partition(": ")
    proxy: Proxy = world.to_redis if server == "Redis" else world.to_api
    fault = Fault(ACTIONS[action](rng), skip=rng.randint(0, 3))
    if await _struck(proxy, fault):
        world.landed[kind] += 1


async def _renewal(world: World, kind: str, rng: random.Random) -> None:
    """Have one renewal written, or two in a row, whose sender does not learn of it."""
    action = rng.choice((SwallowReply(), DropReply()))
    fault = Fault(action, match=_RENEWS, times=rng.randint(1, 2))
    if await _struck(world.to_api, fault):
        world.landed[kind] += 1


async def _cut(world: World, kind: str, rng: random.Random) -> None:
    """Keep one replica from Redis, or from a part of it, for longer than its lease; another one has it."""
    running = [r for r in world.replicas if r.running]
    if len(running) < 2:
        return
    proxy = rng.choice(running).to_redis
    struck = len(proxy.struck)
    if kind == CUT:
        await proxy.refuse()
    else:
        proxy.faults.append(LOPSIDED[kind]())
    try:
        await asyncio.sleep(LEASE_SECONDS + rng.uniform(1.0, 5.0))
    finally:
        proxy.faults.clear()
        proxy.cut()
        await proxy.accept()
    world.landed[kind] += kind == CUT or len(proxy.struck) > struck


async def _struck(proxy: Proxy, fault: Fault) -> bool:
    """Wait until something has run into a fault as often as it may; it is taken back after a while."""
    proxy.faults.append(fault)
    try:
        for _ in range(round(_ARMED / 0.1)):
            if not fault.times:
                return True
            await asyncio.sleep(0.1)
        return False
    finally:
        proxy.faults.remove(fault)


async def _delete(world: World, rng: random.Random) -> None:
    """Delete an object that is still under way."""
    for _ in range(round(_ARMED / 0.1)):
        young = [
            (uid, seen[-1].name)
            for uid, seen in list(world.here.watcher.versions.items())[-30:]
            if uid not in world.gone and seen[-1].phase not in TERMINAL
        ]
        if young:
            break
        await asyncio.sleep(0.1)
    else:
        return
    uid, name = rng.choice(young)
    with contextlib.suppress(*_NETWORK):
        reply = await world.here.api.ask("DELETE", f"{world.here.api.requests}/{name}")
        if reply.code == 200:
            world.deleted.add(uid)
            world.landed[DELETE] += 1
