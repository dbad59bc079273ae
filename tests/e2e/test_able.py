"""
Redis that answers and executes no writes, on real parts, with an installation's timings in small.

Its owner hands its shards to a replica whose writes are executed; where nobody's are answered, attempts are
journaled. Each fault has landed: what it did is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import redis.asyncio as redis_asyncio

from syncer.rules.journal import BORN_MARGIN
from tests.e2e.checker import Kind
from tests.e2e.harness import NotifierProcess, Stage, stage, until
from tests.fakes.proxy import ALWAYS, BlackHole, Fault, Proxy
from tests.servers.controlplane import ControlPlane
from tests.servers.redis import RedisServer, find_binary
from tests.servers.topology import QUICK, call, port_of, replicated

pytestmark = pytest.mark.timeout(400)

SHARDS: Final = 4
SEND_TIMEOUT: Final = 4.0
#: Renewal, send and margin: two fifths of the defaults.
LEASE: Final = 7.0
#: Within which all that is due goes, whatever Redis does with writes.
BOUND: Final = 2 * LEASE + 15
_JOURNALING: Final = "no replica reaches Redis; attempts are journaled in the status"


@dataclass
class Pair:
    """Two replicas, each behind a proxy of its own, and a primary with a replica of its own."""

    here: Stage
    primary: RedisServer
    second: RedisServer
    proxies: tuple[Proxy, Proxy]
    replicas: tuple[NotifierProcess, NotifierProcess]

    async def do(self, server: RedisServer, *command: str) -> None:
        """Run a command on a server."""
        await asyncio.to_thread(call, port_of(server), *command)

    async def owns(self, n: int, shards: int, within: float = 90) -> None:
        """Wait until a replica owns so many shards."""
        await self.replicas[n].wait_metric("shards_owned", shards, within=within)

    async def share(self, within: float = 90) -> None:
        """Wait until each owns half of the shards."""
        for n in range(2):
            await self.owns(n, SHARDS // 2, within)

    async def mend(self) -> None:
        """End every fault; where there are two stores by now, the promoted one is everybody's."""
        await self.do(self.primary, "CLIENT", "UNPAUSE")
        target = self.proxies[1].target
        if target != port_of(self.primary):
            self.here.redis = redis_asyncio.Redis(port=target, socket_timeout=5)
        for proxy in self.proxies:
            proxy.faults.clear()
            proxy.target = target
            proxy.cut()
            await proxy.accept()

    async def delivered(self, name: str) -> list[str]:
        """
        Create some, for shards of both, and wait for the last until the bound is over.

        They are young enough for whoever owns their shards now to journal them.
        """
        await asyncio.sleep(BORN_MARGIN / 1000 + 1)
        began = time.monotonic()
        uids = [await self.here.create(f"{name}-{n}") for n in range(12)]
        await self.here.wait_sent(uids, within=BOUND - (time.monotonic() - began))
        return uids


async def partition_and_loss(pair: Pair) -> list[str]:
    """
    The first keeps the old primary, which has no replica left; the second has the promoted one.

    Once it has all shards the second loses Redis wholly: nobody's writes are executed.
    """
    await replicated(pair.second, pair.primary)
    await pair.do(pair.primary, "CONFIG", "SET", "min-replicas-to-write", "1")
    await pair.do(pair.second, "REPLICAOF", "NO", "ONE")
    pair.proxies[1].target = port_of(pair.second)
    pair.proxies[1].cut()
    uids = await pair.delivered("parted")
    await pair.owns(1, SHARDS)
    assert not pair.replicas[1].lines(_JOURNALING)
    await pair.proxies[1].refuse()
    return uids


async def large_packets(pair: Pair) -> list[str]:
    """On the way from the first: what is small is answered, as reads and PING are where scripts are not."""
    pair.proxies[0].faults.append(Fault(BlackHole(), times=ALWAYS, above=1300))
    return []


async def pause(pair: Pair) -> list[str]:
    """Of writes, for both."""
    await pair.do(pair.primary, "CLIENT", "PAUSE", "600000", "WRITE")
    return []


#: What strikes and was delivered meanwhile; whether the first replica then hands over; who journals.
FAULTS: Final[dict[str, tuple[Callable[[Pair], Awaitable[list[str]]], bool, list[bool]]]] = {
    "replicas are missing on one side of a partition, then the other side loses Redis": (
        partition_and_loss, True, [False, True],
    ),
    "a path loses large packets": (large_packets, True, [False, False]),
    "writes are paused for all": (pause, False, [True, True]),
}  # fmt: skip


@contextlib.asynccontextmanager
async def _pair(control_plane: ControlPlane, folder: Path) -> AsyncIterator[Pair]:
    primary = RedisServer(find_binary("redis-server"))
    second = RedisServer(
        find_binary("redis-server"),
        settings={"replicaof": f"127.0.0.1 {port_of(primary)}", **QUICK},
    )
    async with (
        primary, second,
        stage(control_plane, primary.url, folder, send_timeout=SEND_TIMEOUT, sampled=False) as here,
        Proxy(port_of(primary)) as one, Proxy(port_of(primary)) as two,
    ):  # fmt: skip
        first, other = (
            here.notifier(
                sharding={
                    "shards": SHARDS, "renewDeadline": "2s", "retryPeriod": "800ms", "margin": "1s",
                },
                redis={"url": f"redis://127.0.0.1:{proxy.port}", "timeout": "1200ms"},
            ).start()
            for proxy in (one, two)
        )  # fmt: skip
        pair = Pair(here, primary, second, (one, two), (first, other))
        await pair.share()
        yield pair


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_is_due_goes_although_writes_are_not_executed(
    control_plane: ControlPlane, tmp_path: Path, fault: str
) -> None:
    """Within two leases and 15 s, handed over or journaled, and nothing twice without an unknown."""
    strike, hands_over, journals = FAULTS[fault]
    async with _pair(control_plane, tmp_path) as pair:
        here = pair.here
        uids = await pair.delivered("before")
        uids += await strike(pair)
        uids += await pair.delivered("during")
        if hands_over:
            await pair.owns(1, SHARDS)
            # The one may say it after the other has taken the shard.
            first = pair.replicas[0]
            await until(
                lambda: any(
                    "another replica is able" in str(line["reason"])
                    for line in first.lines("shard handed over")
                ),
                first.tail,
            )
        # What is delivered by one tells nothing of the other.
        await until(
            lambda: [bool(process.lines(_JOURNALING)) for process in pair.replicas] == journals,
            lambda: "".join(process.tail() for process in pair.replicas),
        )
        await pair.mend()
        await pair.share(within=120)
        findings = await here.sound(uids, within=60)
        # Where an answer was lost with its path, a repeat is due, and its attempt is on record as unknown.
        repeats = sum(f.kind is Kind.EXPLAINED for f in findings.found)
        assert len(here.receiver.book) == len(uids) + repeats
