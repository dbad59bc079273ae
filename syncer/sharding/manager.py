"""
Holding shards: acquiring, keeping and handing them over, within one session.

One task keeps the own session, one follows the Leases of the installation, one acts on what they show
(`syncer.sharding.assignment` decides), one hands shards over. The acting loop examines everything
again whenever a Lease changes, when the next session could be ended, and every retry period in any
case. It ends the sessions of dead replicas, then acquires what they held.

When there are more replicas than before, those above their share hand shards over: nothing new is
begun in the shard, attempts under way end and are recorded, statuses are written, then the Lease is
released.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, Protocol

from syncer.kube.lease_term import LeaseTerm, LeaseTimings, Session
from syncer.kube.leases import LeaseRecord, Leases, LeaseWatch
from syncer.model.errors import ConfigError, Conflict, Gone, PortError
from syncer.model.journal import Note
from syncer.runtime.supervise import elapse
from syncer.sharding.assignment import (
    Fitness,
    Hold,
    ShardState,
    able_sessions,
    choose,
    hand_over,
    look_again,
    share,
    silent_sessions,
    state_of,
)
from syncer.sharding.installation import Installation
from syncer.sharding.ownership import Shards
from syncer.sharding.sessions import Place, SessionLease, TimesOfDay
from syncer.sharding.shard_leases import ShardLeases
from syncer.sharding.view import LeaseView, Sighting, session_name, session_of

logger = logging.getLogger("ledger.shards")

#: Seconds for which a handed-over shard may take to fall quiet before it is released anyway.
_QUIET: Final = 30.0
#: Shards that are acquired at once, each on its own connection: TLS takes a third of a MiB for each, which
#: the process does not return.
_TOGETHER: Final = 4


class Owner(Protocol):
    """The work on the shards, as their manager starts and stops it."""

    def begin(self, shard: int) -> None:
        """Check the known notifications of a shard again; the others are listed."""

    async def quiesce(self, shard: int, seconds: float) -> bool:
        """Begin no more work in a shard and publish its results; False if it did not end in time."""


class ShardManager:
    """Owns shards and keeps `Shards` true."""

    def __init__(  # noqa: PLR0913 (wiring: each is a part or a question of its own)
        self,
        shards: Shards,
        installation: Installation,
        owner: Owner,
        leases: Leases,
        place: Place,
        *,
        timings: LeaseTimings,
        able: Callable[[], bool],
        without_writes: Callable[[], bool] = lambda: False,
        problem: Callable[[], str] = str,
        store: Callable[[], str] = str,
        refused: Callable[[ConfigError], None],
    ) -> None:
        """
        Wire; nothing is asked or written yet.

        Args:
            shards: Is kept true.
            installation: The map Lease.
            owner: Works on the shards.
            leases: Calls on Leases.
            place: Identity and clocks.
            timings: Equal in all replicas.
            able: Whether this replica could work on a shard now, and could go on working on one.
            without_writes: Whether it could do some of that as long as nobody's Redis executes writes.
            problem: Why this replica opens no attempt now, empty if it does; its session shows it.
            store: Names the store and its history, empty while unknown.
            refused: Called once, when the installation has another number of shards; `release` must follow.
        """
        self._shards = shards
        self._installation = installation
        self._owner = owner
        self._leases = leases
        self._place = place
        self._clock = place.clock
        self._timings = timings
        self._able = able
        self._without_writes = without_writes
        self._refused = refused
        times = TimesOfDay(place.wall)
        self._changed = asyncio.Event()
        self._view = LeaseView(
            place.installation,
            duration=timings.duration,
            clock=place.clock,
            on_change=self._changed.set,
        )
        self._session = SessionLease(
            leases, place, timings, able=self._serving, problem=problem, times=times
        )
        self._watch = LeaseWatch(
            leases,
            self._view,
            lagging=lambda: self._session.lagging(self._view.version_of(self._session.name)),
            patience=timings.renew_deadline,
        )
        #: The shards' Leases, and what is known of those that are ours.
        self.held = ShardLeases(
            leases,
            self._view,
            place,
            times=times,
            timeout=timings.call_timeout,
            new=lambda: installation.new,
            store=store,
        )
        #: uids of sessions that are certainly over.
        self._ended: set[str] = set()
        #: resourceVersions at which sessions could not be ended, since they were renewed, by uid.
        self._renewed: dict[str, str] = {}
        #: How many other replicas could own a shard, as far as known.
        self.others = 0
        self._fitness = Fitness(timings.duration)
        self._problem: str | None = None
        self._stopped = False
        self._assigning = asyncio.Lock()
        self._acquiring = asyncio.Semaphore(_TOGETHER)

    @property
    def problem(self) -> str | None:
        """Why shards have no owner, or would not get another one; None if each has one."""
        orphaned = [n for n, state in self._states().items() if state.hold is not Hold.HELD]
        if orphaned:
            shown = ", ".join(map(str, orphaned[:8]))
            reason = (
                self._session.problem or self._watch.problem or self.held.problem or self._problem
            )
            return f"no owner yet for shard {shown}" + (f" ({reason})" if reason else "")
        if self._watch.problem and self._watch.silent_for() > self._timings.duration:
            # It keeps its shards, and could take none over.
            return f"other replicas' leases are not known ({self._watch.problem})"
        if self._session.current is None and self._session.problem:
            return (
                f"this replica has no session, and could take none over ({self._session.problem})"
            )
        return None

    @property
    def sessions(self) -> int:
        """How many replicas have a session, this one included."""
        return len(self._view.sessions)

    def note_of(self, uid: str) -> Note | None:
        """The confirmed note in the Lease of a notification's shard."""
        return self.held.note(self.shard_of(uid))

    def may_carry_note(self, uid: str) -> bool:
        """Whether that Lease may carry a note, so that nothing may be opened in the shard's logs."""
        return self.held.carries_notes and self.held.may_carry_note(self.shard_of(uid))

    def marked(self, uid: str) -> bool:
        """Whether a notification's status may hold attempts of an outage."""
        return self.shard_of(uid) in self.held.marks_left

    def shard_of(self, uid: str) -> int:
        """The shard of a notification."""
        return self._shards.sharding.of(uid)

    async def put_notes(self, since: int) -> int:
        """Put a note into the Lease of each of our shards; returns how many are confirmed."""
        shards = list(self.held.terms)
        found = await asyncio.gather(*(self.held.put_note(n, since) for n in shards))
        return len(found) - found.count(None)

    async def remove_notes(self) -> int:
        """Remove the notes of our shards; returns how many were removed."""
        shards = [n for n in self.held.terms if self.held.may_carry_note(n)]
        return sum(await asyncio.gather(*(self.held.remove_note(n) for n in shards)))

    async def run(self) -> None:
        """Compete, hold and hand over until cancelled, or until `release`."""
        async with asyncio.TaskGroup() as group:
            following = [
                group.create_task(work, name=name)
                for name, work in (
                    ("lease-watch", self._watch.run()),
                    ("shard-assignment", self._assign()),
                    ("map-lease", self._tend_map()),
                    ("shard-distribution", self._distribute()),
                )
            ]
            # One list first: a newcomer must know of the others before it says that it could serve.
            while not self._view.version:
                await self._wait(self._timings.retry_period)
            await self._session.run(self._begun, self._lost)
            for task in following:
                task.cancel()

    async def release(self, *, timeout: float = 2.0) -> int:
        """
        Give all shards up, when nothing is in flight any more, and end the session.

        The timeout is in seconds, for the shards, and again for the rest. Returns how many are known to be
        free.
        """
        self._stopped = True
        with suppress(TimeoutError):
            # What is being taken right now is released as well.
            async with asyncio.timeout(timeout / 2), self._assigning:
                pass
        held = list(self.held.terms)
        for n in held:
            self._shards.drop(n)
        released = await asyncio.gather(*(self.held.release(n, timeout=timeout / 2) for n in held))
        await self._session.end(timeout=timeout)
        return sum(released)

    # -- whether this replica serves ------------------------------------------------------------

    def _serving(self) -> bool:
        able = not self._stopped and self._able()
        return self._fitness.check(able=able, others=self.others, now=self._clock())

    def _excess(self) -> tuple[int, str] | None:
        self._serving()
        return hand_over(
            set(self.held.terms) - self._shards.leaving,
            shards=self._shards.sharding.shards,
            others=self.others,
            unable=self._fitness.unable_for(self._clock()),
            patience=self._timings.duration,
        )

    # -- the session ----------------------------------------------------------------------------

    def _begun(self, session: Session) -> None:
        logger.info("session begun", extra={"session": session.uid})
        self._changed.set()

    def _lost(self, session: Session) -> None:
        found = {"session": session.uid, "reason": session.ended}
        if error := self._session.problem:
            found["error"] = error
        logger.warning("session lost", extra=found)
        self._drop(self.held.terms)

    def _drop(self, lost: Mapping[int, LeaseTerm]) -> None:
        for n, term in list(lost.items()):
            del self.held.terms[n]
            self._shards.drop(n)
            logger.warning(
                "shard lost", extra={"shard": n, "epoch": term.epoch, "reason": term.ended}
            )

    # -- taking ---------------------------------------------------------------------------------

    async def _wait(self, seconds: float) -> None:
        await elapse(seconds, self._changed)
        self._changed.clear()

    async def _assign(self) -> None:
        until = math.inf
        while True:
            await self._wait(min(self._timings.retry_period, until - self._clock()))
            if not self._view.version or self._stopped:
                # Nothing is known, or nothing was done: check again every period.
                until = math.inf
                continue
            async with self._assigning:
                until = await self._round()
            if self.held.problem or self._problem:
                # Every event would lead to the same calls, and the same answers.
                await asyncio.sleep(self._timings.retry_period / 4)

    async def _round(self) -> float:
        """Check everything once; returns the second at which to check again if nothing changes."""
        self._agree()
        self._view.forget()
        self.others = able_sessions(self._view, self._place.identity, self._clock())
        session = self._session.current
        if session is None or self._stopped:
            return math.inf
        self._drop(self.held.losses())
        self._problem = None
        for lease in silent_sessions(self._view, session.uid, self._clock()):
            # One that was ended stays to be seen for as long as a finalizer keeps its Lease.
            renewed = self._renewed.get(lease.uid) == lease.resource_version
            if not renewed and lease.uid not in self._ended:
                await self._end(lease)
        states = self._states()
        await self._take(session, states)
        await self.held.note_store()
        return look_again(self._view, states.values(), self._clock())

    def _agree(self) -> None:
        """Compare the map with the settings."""
        found = self._view.map()
        if found is None:
            return
        self._installation.compare(found.uid)
        try:
            self._installation.agree(found.annotations)
        except ConfigError as error:
            # What is held stays held until what is in flight is on record: others wait as long.
            self._stopped = True
            self._refused(error)

    async def _tend_map(self) -> None:
        """Restore the label of the map."""
        while True:
            await asyncio.sleep(self._timings.retry_period)
            if not self._view.version or self._stopped or self._view.map() is not None:
                continue
            try:
                await self._installation.put_label()
            except PortError as error:
                logger.debug("map lease not written", extra={"error": str(error)})

    def _states(self) -> dict[int, ShardState]:
        """Return the states of all shards that are not ours and whose view is up to date."""
        now, terms, shards = self._clock(), self.held.terms, range(self._shards.sharding.shards)
        holding = {session_of(seen.lease) for n in shards if (seen := self._view.shard(n))}
        self._ended &= holding | set(self._view.sessions)
        self._renewed = {uid: v for uid, v in self._renewed.items() if uid in self._view.sessions}
        return {
            n: state_of(self._view, n, self._place.identity, now, self._ended)
            for n in shards
            if n not in terms and self.held.settled(n)
        }

    async def _end(self, lease: LeaseRecord) -> None:
        """End a session by compare-and-swap: any renewal that the view does not show defeats it."""
        try:
            await self._leases.delete(
                lease.name, lease.uid, lease.resource_version, timeout=self._timings.call_timeout
            )
        except Gone:
            # Not ended by us: there may have been a renewal that we have not seen, and then an end.
            return
        except Conflict:
            # It was renewed, and the watch did not show that for a whole LeaseDuration.
            logger.info("session not ended: it was renewed", extra={"holder": lease.holder})
            self._renewed[lease.uid] = lease.resource_version
            self._watch.relist()
            return
        except PortError as error:
            self._problem = f"lease {lease.name}: {error}"
            return
        self._ended.add(lease.uid)
        logger.warning(
            "session of a silent replica ended",
            extra={"holder": lease.holder, "session": lease.uid},
        )

    async def _confirm(self, holder: str, uid: str) -> None:
        """Find out whether a session that the view does not show is over; restore its label if not."""
        name, timeout = session_name(self._place.installation, holder), self._timings.call_timeout
        try:
            found = await self._leases.get(name, timeout=timeout)
            if found.uid != uid:
                self._ended.add(uid)
            else:
                await self._leases.put_label(name, timeout=timeout)
        except Gone:
            self._ended.add(uid)
        except PortError as error:
            self._problem = f"lease {name}: {error}"

    async def _take(self, session: Session, states: dict[int, ShardState]) -> None:
        if not self._serving() and (self.others or not self._without_writes()):
            return
        chosen = choose(
            states,
            missing=share(self._shards.sharding.shards, self.others + 1) - len(self.held.terms),
            now=self._clock(),
            patience=self._timings.duration,
        )
        # What is written is compared with what was decided on, however long the confirmation takes.
        decided_on = {n: self._view.shard(n) for n in chosen}
        doubtful = {(states[n].holder, states[n].session) for n in chosen if states[n].session}
        for holder, uid in sorted(doubtful):
            await self._confirm(holder, uid)
        sure = (n for n in chosen if not states[n].session or states[n].session in self._ended)
        await asyncio.gather(*(self._acquire(n, session, decided_on[n]) for n in sure))

    async def _acquire(self, n: int, session: Session, seen: Sighting | None) -> None:
        async with self._acquiring:
            term = await self.held.acquire(n, session, seen)
        if term is not None:
            self._shards.take(n, term)
            self._owner.begin(n)
            logger.info("shard acquired", extra={"shard": n, "epoch": term.epoch})

    # -- giving up ------------------------------------------------------------------------------

    async def _distribute(self) -> None:
        while True:
            await asyncio.sleep(self._timings.retry_period)
            while (excess := self._excess()) and not self._stopped:
                # One at a time: meanwhile others may have come or gone.
                if self._fitness.unable_for(self._clock()) is not None:
                    self._fitness.probe(self._clock())
                await self._hand_over(*excess)

    async def _hand_over(self, n: int, reason: str) -> None:
        term = self.held.terms[n]
        self._shards.leave(n)
        quiet = await self._owner.quiesce(n, _QUIET)
        if self.held.terms.get(n) is not term:
            # Lost meanwhile. If it was acquired again, work that began since then is not waited for.
            return
        if not quiet:
            logger.warning("a shard is handed over with work under way", extra={"shard": n})
        self._shards.drop(n)
        released = await self.held.release(n, timeout=self._timings.call_timeout)
        logger.info("shard handed over", extra={"shard": n, "released": released, "reason": reason})
