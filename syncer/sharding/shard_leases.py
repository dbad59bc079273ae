"""
Writes of the shards' Leases: at acquisition, at release, and at no other time.

Each is a compare-and-swap on the resourceVersion that was seen. A Lease that a session holds names its
holder and the session's uid; its own times decide nothing among replicas that have sessions. Its
`leaseDurationSeconds` is the longest there is, so that a version without sessions never takes it for
expired, and the shortest once it is released, so that such a version may take it at once.

The resourceVersion of the acquiring write is the second part of the epoch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from syncer.kube.client import Json
from syncer.kube.lease_term import LeaseTerm, Session
from syncer.kube.leases import LeaseRecord, Leases
from syncer.model.attempt import make_epoch
from syncer.model.errors import Conflict, Gone, PortError, Unavailable
from syncer.sharding.assignment import Held, loss_of
from syncer.sharding.sessions import TimesOfDay
from syncer.sharding.view import FOREVER, RELEASED, SESSION, LeaseView, Sighting

logger = logging.getLogger("ledger.shards")

#: `leaseTransitions` is a 32-bit number.
_TRANSITIONS: Final = 2**31


class ShardLeases:
    """
    The shards' Leases, and the lease terms that follow from our writes.

    Attributes:
        terms: Of the shards that we hold.
        problem: Why the last call failed; None after one that did not.
    """

    def __init__(
        self,
        leases: Leases,
        view: LeaseView,
        identity: str,
        *,
        incarnation: int,
        clock: Callable[[], float],
        times: TimesOfDay,
        timeout: float,
    ) -> None:
        """
        Hold nothing yet.

        Args:
            leases: The calls.
            view: What is known of the Leases.
            identity: Unique among living processes.
            incarnation: First part of each epoch.
            clock: Seconds of the monotonic clock.
            times: Of day, for the times that Leases show.
            timeout: Seconds for one call.
        """
        self.terms: dict[int, LeaseTerm] = {}
        self.problem: str | None = None
        self._leases = leases
        self._view = view
        self._identity = identity
        self._incarnation = incarnation
        self._clock = clock
        self._times = times
        self._timeout = timeout
        #: Our last write of each Lease; kept after the term, as the view may be behind it.
        self._written: dict[int, Held] = {}
        self._releasing: set[int] = set()

    def settled(self, n: int) -> bool:
        """Whether the view shows what we wrote last, and nothing is being written."""
        written = self._written.get(n)
        return n not in self._releasing and (written is None or self._view.shows(written.version))

    def losses(self) -> dict[int, LeaseTerm]:
        """End the terms whose Leases have become somebody else's, or are gone; returns them."""
        lost = {}
        for n, term in self.terms.items():
            uid = term.session.uid
            if reason := loss_of(self._view, n, self._written[n], self._identity, uid):
                term.end(reason)
                lost[n] = term
        return lost

    async def acquire(self, n: int, session: Session, seen: Sighting | None) -> LeaseTerm | None:
        """
        Take a Lease; None if it is another one by now, or no answer came.

        Args:
            n: The shard.
            session: Our own.
            seen: The Lease that was found to be free to take, None if there was none. The view may have
                gone on since, and shows another owner's by now.
        """
        name, time = f"{self._view.installation}-{n}", self._times.next()
        spec: Json = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": FOREVER,
            "acquireTime": time,
            "renewTime": time,
            # Always counted up: a write that changes nothing would keep the resourceVersion,
            # and with it the epoch of our predecessor.
            "leaseTransitions": (seen.lease.transitions + 1) % _TRANSITIONS if seen else 0,
        }
        if not session.valid(self._clock()):
            return None
        try:
            taken = await self._take(name, seen.lease if seen else None, session.uid, spec)
            epoch = make_epoch(self._incarnation, taken.resource_version) if taken else None
            self.problem = None
        except PortError as error:
            self.problem = f"lease {name}: {error}"
            return None
        if taken is None or epoch is None:
            return None
        self._written[n] = Held(taken.resource_version, taken.transitions)
        if session.ended:
            return None
        term = self.terms[n] = LeaseTerm(epoch, session)
        return term

    async def _take(
        self, name: str, seen: LeaseRecord | None, uid: str, spec: Json
    ) -> LeaseRecord | None:
        annotations, timeout = {SESSION: uid}, self._timeout
        try:
            if seen is None:
                return await self._leases.create(name, annotations, spec, timeout=timeout)
            version = seen.resource_version
            taken = await self._leases.patch(name, version, annotations, spec, timeout=timeout)
        except Gone:
            return None
        except Conflict:
            if seen is None:
                # One that a version without sessions has created, and does not label.
                await self._leases.put_label(name, timeout=timeout)
            return None
        if taken.resource_version == version:
            raise Unavailable("taking the lease did not change its resourceVersion")
        return taken

    async def release(self, n: int, *, timeout: float) -> bool:
        """
        Free a Lease of ours, so that others need not wait; call it when nothing is in flight.

        The term is over at once, whatever the answer.

        Args:
            n: The shard.
            timeout: Seconds for all of it.

        Returns:
            Whether the Lease is known to be free.
        """
        term = self.terms.pop(n, None)
        if term is None or term.ended:
            return False  # lost while the release was on its way
        term.end("released")
        self._releasing.add(n)
        name = f"{self._view.installation}-{n}"
        try:
            async with asyncio.timeout(timeout):
                return await self._free(n, name, timeout)
        except (PortError, TimeoutError) as error:
            logger.info("lease not released", extra={"lease": name, "error": str(error)})
            return False
        finally:
            self._releasing.discard(n)

    async def _free(self, n: int, name: str, timeout: float) -> bool:
        held = self._written[n]
        version = held.version
        spec = {
            "holderIdentity": "",
            "leaseDurationSeconds": RELEASED,
            "renewTime": self._times.next(),
        }
        while True:
            try:
                freed = await self._leases.patch(
                    name, version, {SESSION: None}, spec, timeout=timeout
                )
            except Conflict:
                found = await self._leases.get(name, timeout=timeout)
                if (found.holder, found.transitions) != (self._identity, held.transitions):
                    return False
                version = found.resource_version
            else:
                self._written[n] = Held(freed.resource_version, freed.transitions)
                return True
