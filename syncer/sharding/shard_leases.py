"""
Writes of the shards' Leases: at acquisition, at release, and where a note in them changes.

Each is a compare-and-swap on the resourceVersion that was seen. A Lease that a session holds names its
holder and the session's uid; its own times decide nothing. Its `leaseDurationSeconds` is the longest there
is, which tells it from a Lease that somebody else has written, and the shortest once it is released.

The resourceVersion of the acquiring write is the second part of the epoch.

While attempts are journaled a Lease carries a note (`syncer.model.journal`). An acquisition keeps or
removes the one that it finds; `put_note` and `remove_note` write it during a term. If such a write is not
answered, the note is in doubt until another write is answered: it counts as present before the log is used,
and as absent before anything is journaled. Reading the Lease does not settle it, because the write may
still be in flight.

A Lease also notes the store (`syncer.model.lineage`): an acquisition compares that with the store of now,
and `note_store` writes a change that comes later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from syncer.kube.client import Json
from syncer.kube.lease_term import LeaseTerm, Session
from syncer.kube.leases import LeaseRecord, Leases
from syncer.model.attempt import make_epoch
from syncer.model.errors import Conflict, Gone, PortError, Unavailable
from syncer.model.journal import MARKS_LEFT, NOTE, Note, note_after
from syncer.model.lineage import STORE, UNKNOWN, Lineage, parse_lineage
from syncer.sharding.assignment import loss_of
from syncer.sharding.sessions import Place, TimesOfDay
from syncer.sharding.view import FOREVER, RELEASED, SESSION, LeaseView, Sighting

logger = logging.getLogger("ledger.shards")

#: `leaseTransitions` is a 32-bit number.
_TRANSITIONS: Final = 2**31
#: What a Lease made anew says of marks: there may be some, of notes that nobody knows any more.
_ASSUMED: Final = "assumed"


class ShardLeases:
    """The shards' Leases, and our lease terms; `problem` is why the last call failed, or None."""

    def __init__(
        self,
        leases: Leases,
        view: LeaseView,
        place: Place,
        *,
        times: TimesOfDay,
        timeout: float,
        new: Callable[[], bool] = lambda: False,
        store: Callable[[], str] = str,
    ) -> None:
        """
        Hold nothing yet.

        `times` gives the times of day that Leases show. A call takes at most `timeout` seconds. `new` tells
        whether this process has founded the installation, so that no object can carry a mark; `store` names
        the store and its history, empty while unknown.
        """
        self.terms: dict[int, LeaseTerm] = {}
        self.problem: str | None = None
        #: Why no shard can be acquired, as was logged; empty after one was.
        self._refusal = ""
        self._leases = leases
        self._view = view
        self._place = place
        self._times = times
        self._timeout = timeout
        self._new = new
        self._store = store
        #: What is known of the store by shard, and what the Leases of ours note of it.
        self._lineages: dict[int, Lineage] = {}
        self._noted: dict[int, str] = {}
        #: Each Lease as our last write has left it; kept after the term, as the view may be behind it.
        self._written: dict[int, LeaseRecord] = {}
        self._releasing: set[int] = set()
        #: Notes that are known to be in Leases of ours.
        self._notes: dict[int, Note] = {}
        #: Shards whose note was written, or removed, without an answer.
        self._doubted: set[int] = set()
        #: Shards whose objects may carry marks.
        self._marked: set[int] = set()
        #: How many notes each term has written.
        self._note_count: dict[str, int] = {}

    def note(self, n: int) -> Note | None:
        """The confirmed note of one of our Leases; None also while it is in doubt."""
        return None if n in self._doubted else self._notes.get(n)

    def may_carry_note(self, n: int) -> bool:
        """Whether one of our Leases may carry a note, so that nothing may be opened in its logs."""
        return n in self._notes or n in self._doubted

    @property
    def carries_notes(self) -> bool:
        """Whether any Lease that we hold, or held, may carry a note."""
        return bool(self._notes or self._doubted)

    @property
    def marks_left(self) -> frozenset[int]:
        """Our shards whose objects may carry marks of an outage."""
        return frozenset(self._marked.intersection(self.terms))

    async def put_note(self, n: int, since: int) -> Note | None:
        """
        Write a note into a Lease of ours, or find one there; None if that could not be confirmed.

        `since` is the API server's time, in Unix milliseconds.
        """
        if known := self.note(n):
            return known
        term = self.terms.get(n)
        if term is None or not await self._refresh(n):
            return None
        held = self._written[n]
        count = self._note_count.get(term.epoch, 0) + 1
        self._note_count[term.epoch] = count
        note = Note(f"{term.epoch}-{count}", since, held.transitions)
        self._marked.add(n)
        if not await self._write_note(n, {NOTE: note.text(), MARKS_LEFT: note.name}):
            return None
        self._notes[n] = note
        return note

    async def remove_note(self, n: int) -> bool:
        """Remove the note of one of our Leases; returns whether none is left."""
        if not self.may_carry_note(n):
            return n in self.terms
        if n not in self.terms or not await self._refresh(n):
            return False
        if not await self._write_note(n, {NOTE: None}):
            return False
        self._notes.pop(n, None)
        return True

    async def clear_marks(self, n: int) -> bool:
        """Record in one of our Leases that no object carries a mark; returns whether that is confirmed."""
        free = n in self.terms and not self.may_carry_note(n)
        cleared = free and await self._annotate(n, {MARKS_LEFT: None})
        if cleared:
            self._marked.discard(n)
        return cleared

    async def _annotate(self, n: int, annotations: Mapping[str, str | None]) -> bool:
        """Write into a Lease whatever version it has, if it is ours; whether that was answered."""
        held, found = self._written[n], await self._read(n)
        if found is None or not self._is_ours(found, held):
            return False
        return await self._write(n, held, found.resource_version, annotations)

    async def _refresh(self, n: int) -> bool:
        """Learn the version of a Lease whose note is in doubt; False if it is not known, or not ours."""
        if n not in self._doubted:
            return True
        found = await self._read(n)
        if found is None or not self._is_ours(found, self._written[n]):
            return False
        self._written[n] = found
        return True

    async def _read(self, n: int) -> LeaseRecord | None:
        """Read a Lease from the server; None if that failed."""
        name = self._view.name_of(n)
        try:
            return await self._leases.get(name, timeout=self._timeout)
        except PortError as error:
            self.problem = f"lease {name}: {error}"
            return None

    def _is_ours(self, found: LeaseRecord, held: LeaseRecord) -> bool:
        """Whether nobody has acquired a Lease since a write of ours."""
        return (found.holder, found.transitions) == (self._place.identity, held.transitions)

    async def _write_note(self, n: int, annotations: Mapping[str, str | None]) -> bool:
        """Compare and swap; without a clear answer, the note stays in doubt."""
        held = self._written[n]
        self._doubted.add(n)
        if not await self._write(n, held, held.resource_version, annotations):
            return False
        self._doubted.discard(n)
        return True

    async def _write(
        self, n: int, held: LeaseRecord, version: str, annotations: Mapping[str, str | None]
    ) -> bool:
        """
        Write annotations of a Lease of ours; whether that was answered, and nothing of ours came between.

        `held` is our last write of it as the caller knows it, `version` what the Lease must have.
        """
        name = self._view.name_of(n)
        # The time changes with each write, so that one before it that is still on its way is refused.
        spec: Json = {"renewTime": self._times.next()}
        try:
            stored = await self._leases.patch(
                name, version, annotations, spec, timeout=self._timeout
            )
        except PortError as error:
            self.problem = f"lease {name}: {error}"
            return False
        if self._written[n] is not held:
            # Released meanwhile, and perhaps acquired again: what the Lease carries was decided there.
            return False
        self._written[n] = stored
        return True

    def lineage(self, n: int) -> Lineage:
        """What is known of the store of one of our shards; a change that is noticed only now was now."""
        return self._compared(n, self._lineages.get(n)) if n in self.terms else UNKNOWN

    def _compared(self, n: int, known: Lineage | None) -> Lineage:
        name, now = self._store(), self._place.api_time()
        if name and now is not None and (known is None or known.name != name):
            known = Lineage(name, now, now if known else 0)
        if known is None or known.name != name:
            return UNKNOWN
        self._lineages[n] = known
        return known

    def _note_at_acquisition(self, n: int, lease: LeaseRecord | None) -> dict[str, str | None]:
        """The annotation that an acquisition writes, none where the store is not known."""
        noted = parse_lineage(lease.annotation(STORE)) if lease else None
        name = self._store()
        if lease is None and self._new() and n not in self._noted and name:
            # Nothing can have been lost before there was anything.
            noted = Lineage(name, 0)
        found = self._compared(n, noted)
        if found is not UNKNOWN:
            return {STORE: found.text()}
        if noted is not None:
            self._lineages[n] = noted
        return {}

    async def note_store(self) -> None:
        """Write into our Leases what they do not note yet of the store."""
        for n in list(self.terms):
            lineage = self.lineage(n)
            known = lineage is UNKNOWN or lineage.text() == self._noted.get(n)
            if known or self.may_carry_note(n):
                # A note of an outage is written with care, and what comes between leaves it in doubt.
                continue
            if not await self._annotate(n, {STORE: lineage.text()}):
                return
            self._noted[n] = lineage.text()

    def settled(self, n: int) -> bool:
        """Whether the view shows what we wrote last, and nothing is being written."""
        written = self._written.get(n)
        return n not in self._releasing and (
            written is None or self._view.shows(written.resource_version)
        )

    def losses(self) -> dict[int, LeaseTerm]:
        """End the terms whose Leases have become somebody else's, or are gone; returns them."""
        lost = {}
        for n, term in self.terms.items():
            uid = term.session.uid
            if reason := loss_of(self._view, n, self._written[n], self._place.identity, uid):
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
        name, time = self._view.name_of(n), self._times.next()
        lease = seen.lease if seen else None
        # Always counted up: a write that changes nothing would keep the resourceVersion,
        # and with it the epoch of our predecessor.
        transitions = (lease.transitions + 1) % _TRANSITIONS if lease else 0
        spec: Json = {
            "holderIdentity": self._place.identity,
            "leaseDurationSeconds": FOREVER,
            "acquireTime": time,
            "renewTime": time,
            "leaseTransitions": transitions,
        }
        noted = lease.annotation(NOTE) if lease else ""
        note = note_after(
            noted,
            transitions=lease.transitions if lease else 0,
            incarnation=self._place.incarnation,
            taken=transitions,
        )
        left = lease.annotation(MARKS_LEFT) if lease else ""
        if not session.valid(self._place.clock()):
            return None
        try:
            annotations: dict[str, str | None] = {SESSION: session.uid}
            if lease is None and (n in self._marked or not self._new()):
                # It was deleted, and with it what it said of marks.
                annotations[MARKS_LEFT] = left = _ASSUMED
            if noted:
                annotations[NOTE] = note.text() if note else None
            annotations |= self._note_at_acquisition(n, lease)
            taken = await self._take(name, lease, annotations, spec)
            epoch = make_epoch(self._place.incarnation, taken.resource_version) if taken else None
            self.problem, self._refusal = None, ""
        except PortError as error:
            self.problem = f"lease {name}: {error}"
            if str(error) != self._refusal:
                self._refusal = str(error)
                logger.warning("shard not acquired", extra={"shard": n, "error": str(error)})
            return None
        if taken is None or epoch is None:
            return None
        self._written[n] = taken
        self._doubted.discard(n)
        self._notes.pop(n, None)
        self._marked.discard(n)
        self._noted[n] = annotations.get(STORE) or ""
        if note is not None:
            self._notes[n] = note
        if left:
            self._marked.add(n)
        if session.ended:
            return None
        term = self.terms[n] = LeaseTerm(epoch, session, since=self._place.api_time() or 0)
        return term

    async def _take(
        self, name: str, seen: LeaseRecord | None, annotations: Mapping[str, str | None], spec: Json
    ) -> LeaseRecord | None:
        timeout = self._timeout
        try:
            if seen is None:
                given = {key: value for key, value in annotations.items() if value is not None}
                return await self._leases.create(name, given, spec, timeout=timeout)
            version = seen.resource_version
            taken = await self._leases.patch(name, version, annotations, spec, timeout=timeout)
        except Gone:
            return None
        except Conflict:
            if seen is None:
                # One that somebody else has created, and did not label.
                await self._leases.put_label(name, timeout=timeout)
            return None
        if taken.resource_version == version:
            raise Unavailable("taking the lease did not change its resourceVersion")
        return taken

    async def release(self, n: int, *, timeout: float) -> bool:
        """
        Free a Lease of ours, so that others need not wait; call it when nothing is in flight.

        The term is over at once, whatever the answer, which is waited for `timeout` seconds at most.
        Returns whether the Lease is known to be free.
        """
        term = self.terms.pop(n, None)
        if term is None or term.ended:
            return False  # lost while the release was on its way
        term.end("released")
        self._releasing.add(n)
        name = self._view.name_of(n)
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
        version = held.resource_version
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
                if not self._is_ours(found, held):
                    return False
                version = found.resource_version
            else:
                self._written[n] = freed
                return True
