"""
The own session: one Lease that is created once, renewed, and deleted at the end.

It is never acquired again. A Lease that bears our name at the start belongs to a dead predecessor, or to a
creation of ours whose answer was lost; it is ended by a compare-and-swap, and a new one is created. So a
session's uid stands for one uninterrupted life, and whoever finds it gone knows that life to be over.

A renewal counts from its start, not from its answer, and only once it is confirmed: one whose answer was
lost counts when the Lease, read back, shows the time that we wrote. It is the only thing that is written
at rest, and carries whether this replica could own a shard, and why it opens no attempt now.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Container
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from syncer.kube.lease_term import LeaseTimings, Session
from syncer.kube.leases import LeaseRecord, Leases
from syncer.model.conditions import bounded
from syncer.model.errors import Ambiguous, Conflict, Gone, PortError
from syncer.model.resource import version_key
from syncer.rules.backoff import late_jitter
from syncer.runtime.supervise import elapse
from syncer.sharding.view import (
    ABLE,
    NAMESPACES,
    PROBLEM,
    ROUTING,
    ROUTING_PROBLEM,
    session_name,
)

#: Renewals whose answer was lost and that may still turn out to have been written.
_PENDING: Final = 8
#: Shortest wait, so that clocks that differ by a rounding do not spin.
_SOON: Final = 0.01
#: Bytes of an annotation, in UTF-8.
_LONGEST_PROBLEM: Final = 300

logger = logging.getLogger("ledger.shards")


@dataclass(frozen=True, slots=True)
class Place:
    """
    Where a replica stands, and by which clocks.

    Attributes:
        installation: First part of the names of the Leases.
        identity: Unique among living processes.
        incarnation: First part of each epoch.
        clock: Boot-time seconds.
        wall: Time of day, for the times that Leases show.
        api_time: The API server's time in Unix milliseconds, None if that is not known.
        namespaces: That the replica watches, as its Lease shows them.
        routing: The routing in force, in words, and why it is not that of the files.
    """

    installation: str
    identity: str
    incarnation: int
    clock: Callable[[], float]
    wall: Callable[[], datetime]
    api_time: Callable[[], int | None] = lambda: None
    namespaces: str = ""
    routing: Callable[[], tuple[str, str]] = lambda: ("", "")


class TimesOfDay:
    """Times in Leases, for people to read: 6 decimals, as the type demands, and no two are equal."""

    def __init__(self, wall: Callable[[], datetime]) -> None:
        """Use a wall clock."""
        self._wall = wall
        self._last: datetime | None = None

    def next(self, unlike: Container[str] = ()) -> str:
        """Return the time of day, later by microseconds if it would be the last one, or in `unlike`."""
        now = self._wall().astimezone(UTC)
        while now == self._last or _text(now) in unlike:
            now += timedelta(microseconds=1)
        self._last = now
        return _text(now)


@dataclass(slots=True)
class _Unseen:
    """Renewals that the watch has not shown yet: the first, the last, and since when."""

    first: str
    last: str
    since: float


class SessionLease:
    """
    Keeps a session alive, and begins another one when it is over.

    Attributes:
        current: The session that is not over, or None.
        name: Of the Lease.
        problem: Why the last call failed, for readiness; None after one that did not. A renewal that failed
            stays the reason until another one succeeds: a session may be begun again without the right to
            renew it.
    """

    def __init__(
        self,
        leases: Leases,
        place: Place,
        timings: LeaseTimings,
        *,
        able: Callable[[], bool],
        problem: Callable[[], str],
        times: TimesOfDay,
    ) -> None:
        """
        Prepare; `run` starts.

        `timings` are equal in all replicas. `able` tells whether this replica could own a shard now,
        `problem` why it opens no attempt now, empty if it does. `times` gives the times of day that the
        Lease shows.
        """
        self.current: Session | None = None
        self._begin_problem: str | None = None
        self._renewal_problem: str | None = None
        self._leases = leases
        self.name = session_name(place.installation, place.identity)
        self._place = place
        self._timings = timings
        self._able = able
        self._why_idle = problem
        self._clock = place.clock
        self._times = times
        #: resourceVersion of the Lease as it was written or read last.
        self._version = ""
        self._pending: dict[str, float] = {}
        self._unseen: _Unseen | None = None
        self._stop = asyncio.Event()
        self._calling = asyncio.Lock()

    @property
    def problem(self) -> str | None:
        """See the class."""
        return self._begin_problem or self._renewal_problem

    async def run(
        self, on_begun: Callable[[Session], None], on_lost: Callable[[Session], None]
    ) -> None:
        """
        Begin, renew, lose, and begin again; returns after `end`.

        `on_lost` is called with a session that is over, before the next one begins; not after `end`.
        """
        while not self._stop.is_set():
            session = await self._begin()
            if session is None:
                wait = late_jitter(self._timings.retry_period, random.random())  # noqa: S311 - jitter
                await elapse(wait, self._stop)
                continue
            on_begun(session)
            try:
                await self._hold(session)
            finally:
                session.end("the process ends")
                self.current = None
            if not self._stop.is_set():
                on_lost(session)

    async def end(self, *, timeout: float) -> bool:
        """
        End the session and delete its Lease, so that others need not wait; `run` returns.

        Takes at most `timeout` seconds. Returns whether the Lease is known to be gone; if not, others end
        it in time.
        """
        self._stop.set()
        session = self.current
        if session is None:
            return True
        session.end("released")
        try:
            async with asyncio.timeout(timeout), self._calling:
                await self._leases.delete(self.name, session.uid, timeout=timeout)
        except (Gone, Conflict):
            return True
        except (PortError, TimeoutError) as error:
            logger.info("session not deleted; others end it", extra={"error": str(error)})
            return False
        return True

    def lagging(self, shown: str) -> bool:
        """
        Tell whether a watch has not shown a renewal of ours for longer than it may take.

        `shown` is the resourceVersion in which it shows our Lease, empty if it does not. It is not the
        newest of any Lease: a stream that drops events may go on with those of others.
        """
        unseen = self._unseen
        if unseen is None:
            return False
        if version_key(unseen.last) <= version_key(shown):
            self._unseen = None
        elif version_key(unseen.first) <= version_key(shown):
            self._unseen = _Unseen(unseen.last, unseen.last, self._clock())
        return self._unseen is not None and (
            self._clock() - self._unseen.since > self._timings.renew_deadline
        )

    # -- beginning ------------------------------------------------------------------------------

    async def _begin(self) -> Session | None:
        """Try to create the Lease, twice if another one is in the way; None if that failed."""
        try:
            async with self._calling:
                try:
                    begun = await self._create()
                except Conflict:
                    await self._end_predecessor()
                    begun = await self._create()
            self._begin_problem = None
        except PortError as error:
            problem = f"lease {self.name}: {error}"
            if problem != self._begin_problem:
                logger.warning(
                    "no session can be begun; this replica owns no shard", extra={"error": problem}
                )
            self._begin_problem = problem
            return None
        self.current = begun
        return begun

    async def _create(self) -> Session | None:
        time, start = self._times.next(), self._clock()
        if self._stop.is_set():
            return None
        made = await self._leases.create(
            self.name,
            {**self._annotations(), NAMESPACES: self._place.namespaces},
            {
                "holderIdentity": self._place.identity,
                "leaseDurationSeconds": self._timings.duration_seconds,
                "acquireTime": time,
                "renewTime": time,
                "leaseTransitions": 0,
            },
            timeout=self._timings.call_timeout,
        )
        self._pending.clear()
        self._wrote(made)
        return Session(made.uid, start, self._timings)

    async def _end_predecessor(self) -> None:
        timeout = self._timings.call_timeout
        with suppress(Gone):
            found = await self._leases.get(self.name, timeout=timeout)
            await self._leases.delete(self.name, found.uid, found.resource_version, timeout=timeout)

    # -- renewing -------------------------------------------------------------------------------

    async def _hold(self, session: Session) -> None:
        """Renew until the session is over, however the server behaves."""
        period = self._timings.retry_period
        next_at = session.renewed + period
        while not session.ended:
            deadline = session.renewed + self._timings.renew_deadline
            await elapse(min(next_at, deadline) - self._clock(), session.is_over)
            now = self._clock()
            if now >= deadline:
                session.end(f"not renewed for {self._timings.renew_deadline:g} s")
            elif now >= next_at and not session.ended:
                next_at = now + period
                if not await self._renew(session, deadline):
                    next_at = min(next_at, self._clock() + period / 4)

    async def _renew(self, session: Session, deadline: float) -> bool:
        """Write a renewal; False if it should be tried again soon."""
        async with self._calling:
            if session.ended:
                return True
            time, start = self._times.next(self._pending), self._clock()
            timeout = min(self._timings.call_timeout, max(_SOON, deadline - start))
            try:
                try:
                    written = await self._leases.patch(
                        self.name,
                        self._version,
                        self._annotations(),
                        {
                            "holderIdentity": self._place.identity,
                            "leaseDurationSeconds": self._timings.duration_seconds,
                            "renewTime": time,
                        },
                        timeout=timeout,
                    )
                except Conflict:
                    self._examine(session, await self._leases.get(self.name, timeout=timeout))
                    return False
            except Gone:
                session.end("its lease was deleted")
            except PortError as error:
                self._renewal_problem = f"lease {self.name}: {error}"
                if isinstance(error, Ambiguous):
                    self._pending[time] = start
                    if len(self._pending) > _PENDING:
                        del self._pending[next(iter(self._pending))]
                return False
            else:
                session.renewed = start
                self._pending.clear()
                self._wrote(written)
            self._renewal_problem = None
            return True

    def _examine(self, session: Session, found: LeaseRecord) -> None:
        """Find out what a conflict meant: another Lease or holder, an edit, or a renewal of ours."""
        self._version = found.resource_version
        if found.uid != session.uid:
            session.end("its lease was deleted, and another one created")
        elif found.holder != self._place.identity:
            session.end(f"its lease was taken by {bounded(found.holder, 100) or 'nobody'}")
        elif found.renew_time in self._pending:
            session.renewed = max(session.renewed, self._pending[found.renew_time])

    def _annotations(self) -> dict[str, str]:
        able = "true" if self._able() else "false"
        force, problem = (bounded(text, _LONGEST_PROBLEM) for text in self._place.routing())
        return {
            ABLE: able, PROBLEM: bounded(self._why_idle(), _LONGEST_PROBLEM),
            ROUTING: force, ROUTING_PROBLEM: problem,
        }  # fmt: skip

    def _wrote(self, lease: LeaseRecord) -> None:
        self._version = lease.resource_version
        if self._unseen is None:
            self._unseen = _Unseen(self._version, self._version, self._clock())
        else:
            self._unseen.last = self._version


def _text(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
