"""
Delivery while the log is away: attempts are written ahead into the status.

`docs/adr/0016-the-status-as-journal.md` describes the protocol, `tests/model/journal.py` checks it,
`syncer.rules.journal` decides which replica knows enough, `StatusWriter.write_ahead` writes. This module
decides when: it notices that no replica has reached the log for a while, has notes put into the shards'
Leases, and has them removed once the log is back, before anything is opened there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from notifier.dispatch.allowance import Allowance
from notifier.dispatch.dispatcher import rank_of
from syncer.model.attempt import Attempt, AttemptState, attempt_epoch, wait_of
from syncer.model.errors import PortError, Unavailable
from syncer.model.journal import Note
from syncer.model.ports import Backoff, LeaseTerm
from syncer.model.record import Record, read_plan
from syncer.rules.journal import Basis, basis
from syncer.rules.merge import WRITTEN_AHEAD
from syncer.rules.restore import missing_plan
from syncer.runtime.clock import ServerTime
from syncer.sync.cache import Entry
from syncer.sync.flushes import Flushed
from syncer.sync.recorder import Recorder
from syncer.sync.status_writer import StatusWriter

logger = logging.getLogger("ledger.journal")

#: Seconds between two looks at whether the log is there.
_PERIOD: Final = 0.5
#: Seconds between looks at whether objects carry marks.
_CLEAR_PAUSE: Final = 5.0
#: Seconds for which an outcome is offered to a log that is known to be away.
_SOON: Final = 0.5
#: Text of an attempt that a former owner has journaled, and whose result nobody knows.
LEFT: Final = "the sender ended before the result was recorded"


class Notes(Protocol):
    """The notes in the Leases of our shards, and what is known of other replicas."""

    @property
    def others(self) -> int:
        """How many other replicas have the log."""
        ...

    @property
    def carries_notes(self) -> bool:
        """Whether a Lease of a shard of ours may carry one."""
        ...

    def note_of(self, uid: str) -> Note | None:
        """The note that is confirmed for a notification's shard."""
        ...

    def may_carry_note(self, uid: str) -> bool:
        """Whether there may be one, confirmed or not."""
        ...

    @property
    def marks_left(self) -> frozenset[int]:
        """Shards of ours whose objects may carry marks."""
        ...

    async def clear_marks(self, shard: int) -> bool:
        """Have the Lease of a shard say that none does."""
        ...

    def shard_of(self, uid: str) -> int:
        """The shard of a notification."""
        ...

    async def put_notes(self, since: int) -> int:
        """Have each shard of ours carry one; returns how many are known to."""
        ...

    async def remove_notes(self) -> int:
        """Have none of them carry one; returns how many were removed."""
        ...


@dataclass(eq=False)
class Journal:
    """Knows whether attempts are journaled, and begins them."""

    recorder: Recorder
    writer: StatusWriter
    notes: Callable[[], Notes]
    api_time: ServerTime
    #: Has every notification reconciled.
    on_change: Callable[[], None]
    enabled: bool
    #: Seconds for which nobody must have had the log.
    after: float
    allowance: Allowance
    #: The wait after an attempt whose sender is gone.
    backoff: Backoff
    #: Called for each attempt that is written ahead, with the reason why that may be.
    on_journaled: Callable[[Basis], None] = lambda _basis: None
    #: Why nothing must be journaled although it is enabled, None if nothing is in the way.
    refused: Callable[[], str | None] = lambda: None
    #: Whether all objects of the shards of ours are known.
    listed: Callable[[], bool] = lambda: True
    #: Attempts of a shard of ours are journaled now.
    active: bool = field(default=False, init=False)
    _away_since: float | None = field(default=None, init=False)
    _cleared: float = field(default=0.0, init=False)
    #: How many shards of ours carry a note.
    _noted: int = field(default=0, init=False)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_PERIOD)

    async def look(self) -> None:
        """Begin or end journaling, as the log is away or there; no answer of a server ends it."""
        if self.recorder.log.available:
            await self._end()
        else:
            await self._begin()

    async def _end(self) -> None:
        if self._away_since is not None:
            self.writer.schema.on_log_back()
        self._away_since, self._noted = None, 0
        if self.active:
            self.active = False
            self.allowance.open()
            logger.warning("Redis is back; attempts are no longer journaled")
        # Also notes that a former owner has left.
        notes = self.notes()
        if notes.carries_notes and await notes.remove_notes():
            self.on_change()
        if notes.marks_left and self.listed():
            await self._clear_marks(notes)

    async def _clear_marks(self, notes: Notes) -> None:
        """Once the logs hold all that was journaled in a shard, have its Lease say so."""
        now = self.recorder.cache.monotonic()
        if now < self._cleared + _CLEAR_PAUSE:
            return
        self._cleared = now
        entries = self.recorder.cache.entries.values()
        left = {notes.shard_of(e.uid) for e in entries if e.request.status.journal or e.ahead}
        for shard in notes.marks_left - left:
            await notes.clear_marks(shard)

    async def _begin(self) -> None:
        now = self.recorder.cache.monotonic()
        if self._away_since is None:
            self._away_since = now
        notes, since = self.notes(), self.api_time.now()
        if not self.enabled or notes.others or now - self._away_since < self.after:
            return
        if self.refused():
            self.active = False
            return
        if since is None:
            return
        noted, before = await notes.put_notes(since), self._noted
        if noted and not self.active:
            logger.warning(
                "no replica reaches Redis; attempts are journaled in the status",
                extra={"seconds": round(now - self._away_since, 1)},
            )
        self.active, self._noted = noted > 0, noted
        if noted > before:
            self.on_change()

    # -- one notification -----------------------------------------------------------------------

    def blocks(self, uid: str) -> bool:
        """Whether nothing may be opened in a notification's log: a note may say that nothing was."""
        return self.notes().may_carry_note(uid)

    def basis(self, entry: Entry, term: LeaseTerm) -> Basis:
        """Whether all is known of a notification without its log, and why or why not."""
        # What others may have appended is not known, neither to a claim nor since the creation.
        known_in, since = (None, 0) if entry.reread else (entry.known_in, term.since)
        note = self.notes().note_of(entry.uid)
        return basis(entry.request, note, known_in=known_in, epoch=term.epoch, since=since)

    @property
    def patience(self) -> float | None:
        """
        Seconds for which the outcome of an attempt of the log is offered to the log alone.

        After that the status shows it, until the log takes it. None where nothing is ever journaled.
        """
        if not self.enabled:
            return None
        return _SOON if self.active else self.after

    def takes(self, entry: Entry, term: LeaseTerm) -> bool:
        """Whether a due attempt of a notification is to be journaled now."""
        return (
            self.active
            and not self.recorder.log.available
            and not (entry.quarantine or entry.violation or entry.doubtful)
            and self.basis(entry, term).complete
        )

    def take_up(self, entry: Entry, term: LeaseTerm) -> None:
        """
        Know what the status shows, of which the log cannot be asked: attempts in their order, and the plan.

        What a former owner has journaled, and left without a result, is unknown. The next attempt waits as
        after a claim, and so it does after any other of his.
        """
        status, view = entry.request.status, entry.view
        for shown in status.attempts:
            known = view.attempts.get(shown.id)
            if shown.id in entry.executing or (known and known.state >= shown.state):
                continue
            former = attempt_epoch(shown.id) != term.epoch
            attempt = self._left(entry, shown) if former else shown
            view.learn(attempt)
            if former and attempt.due:
                wait = wait_of(attempt, self.recorder.time.now()) / 1000
                entry.due[attempt.channel] = self.recorder.cache.monotonic() + wait
        plan = missing_plan(view, status)
        if plan is not None:
            view.plan = read_plan(plan)
        note = self.notes().note_of(entry.uid)
        if note is not None and entry.journaled != note.name:
            entry.journaled = note.name
            if entry.unrecorded:
                # Until now its status could not be written without a claim.
                self.recorder.cache.mark_dirty(entry, urgent=True)
        entry.unjournaled = None

    def _left(self, entry: Entry, shown: Attempt) -> Attempt:
        """An attempt whose sender ended before it wrote the result, if it is one."""
        if shown.state is not AttemptState.UNKNOWN or shown.due or shown.error != WRITTEN_AHEAD:
            return shown
        made = sum(a.channel == shown.channel for a in entry.request.status.attempts)
        wait = self.backoff(entry.request.policy, made)
        now = self.recorder.time.now()
        return replace(shown, ended=now, due=now + wait, error=LEFT)

    async def turn(self, entry: Entry, channel: str) -> None:
        """
        Wait until an attempt may be journaled.

        Namespaces take turns; within one it is priority, then what has been due for longest.
        """
        due = entry.due.get(channel, self.recorder.cache.monotonic())
        await self.allowance.turn(entry.request.namespace, (rank_of(entry.request.priority), due))

    async def open(
        self,
        entry: Entry,
        term: LeaseTerm,
        channel: str,
        *,
        in_doubt: Callable[[Entry, Record], object],
    ) -> Record | None:
        """
        Write an attempt ahead; None if it is not to be made.

        Args:
            entry: The notification; `takes` it, and no write of its status is under way.
            term: In which it is made.
            channel: To send on.
            in_doubt: Called with an attempt that may be written, or that a claim has given to a log which
                is back by now, and for which nothing was sent. Another write has to say so, after which
                the first one can no longer land.
        """
        note, why = self.notes().note_of(entry.uid), self.basis(entry, term)
        if note is None:
            return None
        intent = self.recorder.begin_journaled(entry, term, channel)
        result = Flushed.UNCLEAR
        try:
            result = await self.writer.write_ahead(entry, term, note.name)
        except PortError as error:
            logger.info(
                "an attempt is not journaled", extra={"uid": entry.uid, "error": str(error)}
            )
            if isinstance(error, Unavailable) and self.writer.schema.problem is None:
                result = Flushed.UNAVAILABLE
        finally:
            on_record = result is Flushed.UNCLEAR or intent.attempt_id in entry.seeded
            if result is not Flushed.WRITTEN and on_record:
                in_doubt(entry, intent)
            elif result is not Flushed.WRITTEN:
                self.recorder.drop_journaled(entry, intent)
        if result is not Flushed.WRITTEN:
            return None
        self.on_journaled(why)
        return intent
