"""
Delivery while the log is away: attempts are recorded in the status before they are sent.

`docs/adr/0016-the-status-as-journal.md` describes the protocol, `tests/model/journal.py` checks it,
`syncer.rules.journal` decides which replica knows enough, and `StatusWriter.write_ahead` writes. This
module decides when: once no replica has reached the log for a while, it puts notes into the shards'
Leases; once the log is back, it removes them before anything is opened there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from syncer.model.attempt import Attempt, AttemptState, Epoch, attempt_epoch, wait_of
from syncer.model.errors import PortError, Unavailable
from syncer.model.ports import Backoff, LeaseTerm
from syncer.model.record import Record, read_attempt
from syncer.model.resource import rank_of
from syncer.rules.journal import Basis, basis
from syncer.rules.merge import SENDER_ENDED, WRITTEN_AHEAD
from syncer.rules.restore import missing_plan
from syncer.runtime.clock import ServerTime
from syncer.sharding.manager import ShardManager
from syncer.sync.allowance import Allowance
from syncer.sync.notification import Notification
from syncer.sync.recorder import Recorder
from syncer.sync.status_writer import Flushed, StatusWriter

logger = logging.getLogger("ledger.journal")

#: Seconds between two checks whether the log is there.
_PERIOD: Final = 0.5
#: Seconds between checks whether objects carry marks.
_CLEAR_PAUSE: Final = 5.0
#: Seconds for which an outcome is written to a log that is known to be away, and where none is journaled.
_SOON: Final = 0.5
_LONG: Final = 7 * 86400.0


@dataclass(eq=False)
class Journal:
    """Decides whether attempts are journaled, and begins them."""

    recorder: Recorder
    writer: StatusWriter
    #: Puts notes into the Leases of our shards, and knows which other replicas reach the log.
    notes: Callable[[], ShardManager]
    api_time: ServerTime
    #: Requests a reconcile of every notification.
    on_change: Callable[[], None]
    enabled: bool
    #: Seconds for which no replica must have reached the log.
    after: float
    allowance: Allowance
    #: The wait after an attempt whose sender is gone.
    backoff: Backoff
    #: Called for each journaled attempt, with the reason why it may be journaled.
    on_journaled: Callable[[Basis], None] = lambda _basis: None
    #: Whether all objects of our shards are known, those of namespaces that may not be read included.
    listed: Callable[[], bool] = lambda: True
    #: Whether attempts of any of our shards are journaled now.
    active: bool = field(default=False, init=False)
    _away_since: float | None = field(default=None, init=False)
    _cleared: float = field(default=0.0, init=False)
    #: Number of the last subscription to wake-ups that had ended while the log could be reached.
    _unheard: int | None = field(default=None, init=False)
    #: How many of our shards carry a note.
    _noted: int = field(default=0, init=False)

    async def run(self) -> None:
        """Check periodically, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_PERIOD)

    async def look(self) -> None:
        """Begin journaling if the log is away, end it if the log is back; never raises for an answer."""
        log = self.recorder.log
        if log.client.unheard:
            self._unheard = log.client.subscriptions
        if log.available:
            await self._end()
        else:
            await self._begin()

    async def _end(self) -> None:
        self._away_since, self._noted = None, 0
        if self.active:
            self.active = False
            self.allowance.open()
            logger.warning("Redis is back; attempts are no longer journaled")
        # Notes of a former owner are removed as well.
        notes = self.notes()
        if notes.held.carries_notes and await notes.remove_notes():
            self.on_change()
        if notes.held.marks_left and self.listed():
            await self._clear_marks(notes)

    async def _clear_marks(self, notes: ShardManager) -> None:
        """Once the logs hold everything journaled in a shard, record that in its Lease."""
        now = self.recorder.cache.monotonic()
        if now < self._cleared + _CLEAR_PAUSE:
            return
        self._cleared = now
        cache = self.recorder.cache
        # A status that is not marked yet may be marked until the next claim.
        marked = [
            e.uid
            for e in cache.entries.values()
            if e.request.status.journal or e.outage.note or e.in_flight.ahead
        ]
        left = {notes.shard_of(uid) for uid in (*marked, *(s.uid for s in cache.journaled()))}
        for shard in notes.held.marks_left - left:
            await notes.held.clear_marks(shard)

    async def _begin(self) -> None:
        now = self.recorder.cache.monotonic()
        if self._away_since is None:
            self._away_since = now
        notes, since = self.notes(), self.api_time.now()
        soon = now - self._away_since < self.after
        if not self.enabled or notes.others or soon or since is None:
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
        """Whether nothing may be opened in a notification's log, because a note may rely on that."""
        return self.notes().may_carry_note(uid)

    def basis(self, notification: Notification, term: LeaseTerm) -> Basis:
        """Whether everything about a notification is known without its log, and why or why not."""
        # If others may have appended records, neither a claim nor the creation proves that all is known. An
        # operator's word needs an attempt.
        known_in: Epoch | None = notification.known_in
        since = term.since
        subscription = self.recorder.log.client.subscriptions
        unheard = notification.heard != subscription or self._unheard == subscription
        if notification.reread or (unheard and notification.view.attempts):
            known_in, since = None, 0
        if notification.reopened and known_in != term.epoch:
            # What was sent stands in the log, or stood in the status alone, which may have lost it.
            return Basis.OLDER
        note = self.notes().note_of(notification.uid)
        return basis(notification.request, note, known_in=known_in, epoch=term.epoch, since=since)

    @property
    def patience(self) -> float:
        """
        Seconds for which the outcome of an attempt in the log is only written to the log.

        After that, the next claim records it; where attempts are journaled, the status shows it until then.
        """
        if not self.enabled:
            return _LONG
        return _SOON if self.active else self.after

    def applies(self, notification: Notification, term: LeaseTerm) -> bool:
        """Whether due attempts of a notification are journaled now."""
        return (
            self.active
            and not self.recorder.log.available
            and not (notification.quarantine or notification.violation or notification.doubtful)
            # Until a claim judges it anew, its status is left as it is: it would not show the attempt.
            and not notification.judged.untrusted
            and self.basis(notification, term).complete
            and self.recorder.shows_what_is_known(notification)
        )

    def take_up(self, notification: Notification, term: LeaseTerm) -> None:
        """
        Learn from the status what the log cannot tell: the attempts in their order, and the plan.

        An attempt that a former owner journaled without a result is unknown. The next attempt waits as
        after a claim, as it does after every attempt of a former owner.
        """
        status, view = notification.status, notification.view
        for shown in status.attempts:
            known = view.attempts.get(shown.id)
            if shown.id in notification.in_flight.executing or (
                known and known.state >= shown.state
            ):
                continue
            former = attempt_epoch(shown.id) != term.epoch
            attempt = self._left(notification, shown) if former else shown
            notification.learn([attempt])
            # A claim from before the outage would go on without them.
            self.recorder.lose_claim(notification, "journal")
            if former and attempt.due:
                wait = wait_of(attempt, self.recorder.time.now()) / 1000
                notification.wait(attempt.channel, self.recorder.cache.monotonic() + wait)
        about = self.recorder.evidence.of_entry(notification)
        note = self.notes().note_of(notification.uid)
        # A plan never comes from what others may have written; who journals it marks it with the note.
        ours = about.protected or (note is not None and status.journal == note.name)
        plan = missing_plan(view, status) if ours else None
        if plan is not None:
            notification.learn((), plan)
            self.recorder.lose_claim(notification, "journal")
        if note is not None and notification.outage.note != note.name:
            notification.journaling(note.name)
            if notification.in_flight.unrecorded:
                # Its status could not be written without a claim until now.
                self.recorder.cache.mark_dirty(notification, urgent=True)
        notification.not_journaling(None)

    def _left(self, notification: Notification, shown: Attempt) -> Attempt:
        """The attempt, with a time and a wait if its sender ended before it wrote the result."""
        if shown.state is not AttemptState.UNKNOWN or shown.due or shown.error != WRITTEN_AHEAD:
            return shown
        made = sum(a.channel == shown.channel for a in notification.status.attempts)
        wait = self.backoff(notification.request.policy, made)
        now = self.recorder.time.now()
        return replace(shown, ended=now, due=now + wait, error=SENDER_ENDED)

    def turn(self, notification: Notification, channel: str, given: Callable[[], object]) -> None:
        """
        Ask for a turn to journal an attempt; `given` is called when it has come.

        Namespaces take turns; within one, the order is by priority, then by due time.
        """
        due = notification.due.get(channel, self.recorder.cache.monotonic())
        urgency = (rank_of(notification.request.priority), due)
        self.allowance.turn(notification.request.namespace, urgency, given)

    async def open(
        self,
        notification: Notification,
        term: LeaseTerm,
        channel: str,
        *,
        in_doubt: Callable[[Notification, Record], object],
    ) -> Record | None:
        """
        Record an attempt in the status before it is sent; None if it must not be made.

        Args:
            notification: `applies` is true for it, and no write of its status is under way.
            term: The lease term in which the attempt is made.
            channel: The channel to send on.
            in_doubt: Called with an attempt that the status, or a log that is back by now, may hold
                although nothing was sent. Another write must say so; after it the first can no longer land.
        """
        note, why = self.notes().note_of(notification.uid), self.basis(notification, term)
        if note is None:
            return None
        # The view shows it as open. The next claim adds to the log what only the status holds.
        intent = self.recorder.begin(notification, term, channel)
        notification.in_flight.journal(intent.attempt_id)
        notification.learn([read_attempt(intent)])
        self.recorder.lose_claim(notification, "journal")
        result = Flushed.UNCLEAR
        try:
            result = await self.writer.write_ahead(notification, term, note.name)
        except PortError as error:
            logger.info(
                "an attempt is not journaled", extra={"uid": notification.uid, "error": str(error)}
            )
            if isinstance(error, Unavailable):
                result = Flushed.UNAVAILABLE
        finally:
            on_record = (
                result is Flushed.UNCLEAR or intent.attempt_id in notification.in_flight.seeded
            )
            if result is not Flushed.WRITTEN and on_record:
                in_doubt(notification, intent)
            elif result is not Flushed.WRITTEN:
                # Neither the status nor a log can have recorded it.
                notification.in_flight.end(intent.attempt_id)
                notification.view.forget(intent.attempt_id)
        if result is not Flushed.WRITTEN:
            return None
        self.on_journaled(why)
        return intent
