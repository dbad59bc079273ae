"""Replicas that share shards, played on a loop of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from syncer.kube.client import KubeClient
from syncer.kube.lease_term import LeaseTerm, LeaseTimings
from syncer.kube.leases import Leases
from syncer.runtime.clock import monotonic_clock
from syncer.sharding.installation import Installation
from syncer.sharding.manager import ShardManager
from syncer.sharding.ownership import Shards
from syncer.sharding.sessions import Place
from syncer.sharding.view import LABEL
from tests.beside import beside

#: 3 s in all; the Lease says 3. A machine that is busy may hold up a renewal for the deadline.
QUICK = LeaseTimings(renew_deadline=2.0, retry_period=0.3, margin=0.5, send_timeout=0.5)


@dataclass
class Player:
    """A replica that competes for one shard; every term that it had."""

    identity: str
    shards: Shards = field(default_factory=lambda: Shards(1))
    terms: list[LeaseTerm] = field(default_factory=list)
    manager: ShardManager = field(init=False)
    clock: Callable[[], float] = monotonic_clock
    able: bool = True

    def begin(self, shard: int) -> None:
        """Note a lease term."""
        term = self.shards.owned[shard]
        assert isinstance(term, LeaseTerm)
        self.terms.append(term)

    async def quiesce(self, shard: int, seconds: float) -> bool:
        """Nothing is under way."""
        return True

    @property
    def term(self) -> LeaseTerm | None:
        """The term that is not over."""
        return self.terms[-1] if self.terms and not self.terms[-1].ended else None

    @property
    def valid(self) -> bool:
        """Whether it may work now."""
        return bool(self.terms) and self.terms[-1].valid(self.clock())

    @property
    def sends(self) -> bool:
        """Whether it may begin the shortest send now."""
        return bool(self.terms) and self.terms[-1].may_send(self.clock(), 0.0)


@asynccontextmanager
async def playing(
    client: KubeClient,
    namespace: str,
    identity: str,
    timings: LeaseTimings = QUICK,
    *,
    clock: Callable[[], float] = monotonic_clock,
    wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    incarnation: int = 0,
    able: bool = True,
) -> AsyncIterator[Player]:
    """Run a replica for the time of the context; it ends without a word."""
    player = Player(identity, clock=clock, able=able)
    leases = Leases(client, namespace, (LABEL, "nl"))
    installation = Installation(leases, namespace, "nl", shards=1)
    await installation.found()
    player.manager = ShardManager(
        player.shards,
        installation,
        player,
        leases,
        Place("nl", identity, incarnation, clock, wall),
        timings=timings,
        able=lambda: player.able,
        refused=lambda _: None,
    )
    async with beside(player.manager.run()):
        yield player


async def connect(kubeconfig: str | Path) -> KubeClient:
    """Return a client for a kubeconfig."""
    return await KubeClient.connect(str(kubeconfig), user_agent="ledger-test/1")
