"""
Holding shards: one Lease each, evenly distributed, handed over in order.

Every replica competes for every shard's Lease, and is willing to take one

- that carries its own name (a dead predecessor's): at once;
- whose holder has let it expire: the first to come, even above the share, because an owner with too much
  load is better than none;
- that is free, while it holds less than its share, or when it was free for a LeaseDuration.

When there are more replicas than before, the ones above their share hand shards over: nothing new is
begun in the shard, attempts under way end and are recorded, statuses are written, then the Lease is
released.

A replica that is not able to serve, since it cannot reach Redis, is willing to take nothing and is not
counted, so that no shard is handed to one that could not use it. If that lasts for a LeaseDuration it
hands all of its shards over, as long as another one is able. It counts again once it has been able for
as long, or at once if no other replica is: a connection that comes and goes must not move the shards back
and forth.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from syncer.kube.lease_term import LeaseTerm
from syncer.kube.leases import Lease
from syncer.model.errors import ConfigError, PortError
from syncer.sharding.installation import Installation
from syncer.sharding.ownership import HandOver, Shards, hand_over, share

logger = logging.getLogger("ledger.shards")

#: Seconds for which a handed-over shard may take to fall quiet before it is released anyway.
_QUIET: Final = 30.0


class Owner(Protocol):
    """The work on the shards, as its Lease manager starts and stops it."""

    def begin(self, shard: int) -> int:
        """Check a shard's notifications again; returns how many are unfinished."""
        ...

    async def quiesce(self, shard: int, seconds: float) -> bool:
        """Begin no more work in a shard and publish what there is; False if it did not end in time."""
        ...


class ShardKeeper:
    """Competes for the Leases of all shards and keeps `Shards` true."""

    def __init__(  # noqa: PLR0913 (wiring: each is a part or a number of its own)
        self,
        shards: Shards,
        installation: Installation,
        owner: Owner,
        lease: Callable[[int, Callable[[], bool]], Lease],
        *,
        able: Callable[[], bool],
        refused: Callable[[ConfigError], None],
        period: float,
        patience: float,
        clock: Callable[[], float],
    ) -> None:
        """
        Args:
            shards: Is kept true.
            installation: Tells how many replicas there are.
            owner: Works on the shards.
            lease: Makes the Lease of a shard, given what it asks before it is taken.
            able: Whether this replica could work on a shard now, and could go on working on one.
            refused: Told once that the installation has other shards now; `release` must follow.
            period: Seconds between beats.
            patience: Seconds after which any replica takes a free shard, and for which a
                replica may be unable before it hands over what it holds.
            clock: Boot-time seconds.
        """  # noqa: D205 - the class says what it is
        self._shards = shards
        self._installation = installation
        self._owner = owner
        self._able = able
        self._refused = refused
        self._period = period
        self._patience = patience
        self._clock = clock
        #: Other replicas that could own a shard, as of the last beat.
        self._others = 0
        self._unable_since: float | None = None
        #: Since when it has been able again, after all of its shards were handed over; else None.
        self._on_trial: float | None = None
        #: Whether no other replica is known that could own a shard.
        self.alone = False
        self._free_since: dict[int, float] = {}
        self._stopped = False
        self._leases = {
            n: lease(n, lambda n=n: self._willing(n))  # type: ignore[misc]  # the loop's n
            for n in range(shards.shards)
        }

    @property
    def problem(self) -> str | None:
        """What keeps shards from being worked on, None if each has an owner."""
        orphaned = [n for n, lease in self._leases.items() if lease.unowned]
        if orphaned:
            shown = ", ".join(map(str, orphaned[:8]))
            reason = next((x.problem for x in self._leases.values() if x.problem), None)
            return f"no owner yet for shard {shown}" + (f" ({reason})" if reason else "")
        return None

    async def run(self) -> None:
        """Compete, hold and hand over until `release`."""
        async with asyncio.TaskGroup() as group:
            # One beat first: a newcomer must know of the others before it counts its share.
            await self._beat()
            for n in self._leases:
                group.create_task(self._compete(n), name=f"shard-{n}")
            group.create_task(self._keep_beating(), name="shard-beat")
            group.create_task(self._distribute(), name="shard-distribution")

    async def release(self, *, timeout: float = 2.0) -> int:
        """Give all shards up, when nothing is in flight any more; how many are known to be free."""
        self._stopped = True
        released = await asyncio.gather(
            *(x.release(timeout=timeout) for x in self._leases.values())
        )
        for n in list(self._shards.owned):
            self._shards.drop(n)
        try:
            async with asyncio.timeout(timeout):
                await self._installation.leave()
        except (PortError, TimeoutError) as error:
            logger.info("the own membership stays until it is old", extra={"error": str(error)})
        return sum(released)

    # -- parts ----------------------------------------------------------------------------------

    def _willing(self, n: int) -> bool:
        if self._stopped or not self._serving():
            return False
        holder = self._leases[n].holder
        if holder:
            # Its own, or expired: the Lease asks only when no other process may rely on it any more.
            return True
        if len(self._shards.owned) < share(self._shards.shards, self._others + 1):
            self._free_since.pop(n, None)
            return True
        since = self._free_since.setdefault(n, self._clock())
        return self._clock() - since > self._patience

    def _serving(self) -> bool:
        """Whether this replica counts as able to serve, by what it is and was."""
        now = self._clock()
        if not self._able():
            if self._unable_since is None:
                self._unable_since = now
            if self._on_trial is not None:
                self._on_trial = now
            return False
        self._unable_since = None
        if self._on_trial is None:
            return True
        if self._others and now - self._on_trial <= self._patience:
            return False
        self._on_trial = None
        return True

    def _excess(self) -> HandOver:
        self._serving()
        unable = None if self._unable_since is None else self._clock() - self._unable_since
        return hand_over(
            set(self._shards.owned) - self._shards.leaving,
            shards=self._shards.shards,
            others=self._others,
            unable=unable,
            patience=self._patience,
        )

    async def _compete(self, n: int) -> None:
        lease = self._leases[n]
        while not self._stopped:
            await lease.run(
                lambda t: self._acquired(n, t), lambda t, reason: self._lost(n, t, reason)
            )

    async def _acquired(self, n: int, term: LeaseTerm) -> None:
        self._free_since.pop(n, None)
        self._shards.take(n, term)
        unfinished = self._owner.begin(n)
        logger.info(
            "shard acquired", extra={"shard": n, "epoch": term.epoch, "unfinished": unfinished}
        )

    async def _lost(self, n: int, term: LeaseTerm, reason: str) -> None:
        self._shards.drop(n)
        logger.warning("shard lost", extra={"shard": n, "epoch": term.epoch, "why": reason})

    async def _keep_beating(self) -> None:
        # Beside the handing over, which may take longer than a silent replica counts as alive.
        while True:
            await asyncio.sleep(self._period)
            await self._beat()

    async def _distribute(self) -> None:
        while True:
            await asyncio.sleep(self._period)
            while (excess := self._excess()).shards:
                # One at a time: meanwhile others may have come or gone.
                if self._unable_since is not None:
                    self._on_trial = self._clock()
                await self._hand_over(excess.shards[0], excess.reason)

    async def _beat(self) -> None:
        try:
            willing = self._serving()
            members = await self._installation.beat(willing=willing)
            self._others = max(0, members - int(willing))
            self.alone = not self._others
        except ConfigError as error:
            # What is held stays held until what is in flight is on record: others wait as long.
            if not self._stopped:
                self._stopped = True
                self._refused(error)
        except PortError as error:
            logger.debug("members are not counted", extra={"error": str(error)})

    async def _hand_over(self, n: int, reason: str) -> None:
        term = self._shards.owned.get(n)
        self._shards.leave(n)
        quiet = await self._owner.quiesce(n, _QUIET)
        if self._shards.owned.get(n) is not term:
            # Lost meanwhile. If it was acquired again, work that began since then is not waited for.
            return
        if not quiet:
            logger.warning("a shard is handed over before it is quiet", extra={"shard": n})
        self._shards.drop(n)
        released = await self._leases[n].release()
        logger.info("shard handed over", extra={"shard": n, "released": released, "why": reason})
