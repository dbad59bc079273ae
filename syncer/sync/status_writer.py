"""
The status writer: takes dirty entries, merges, writes, and acknowledges.

It contains no rules. `rules.batch` decides when to write, `rules.merge` what, and
`rules.compact` how much; this module carries that out, and handles each answer of the API server:

- written: check the uid, remember the version, acknowledge what the write showed;
- conflict: read, merge with what is there now, write again, a bounded number of times;
- unclear (lost reply, 504): read back; only what is seen there counts as written, the rest backs off;
- refused: if it is too large, shorten once, then write only the phase and the counters; else back off,
  and `refusals` says so.

The acknowledgement names the position and chain that were rendered *before* the write, so a record that
arrived meanwhile is never acknowledged unread. Nothing is written outside a lease term.

`Shares` says how many writers one namespace may occupy. Namespaces take turns, which is fair as long as
each write is short. If the writes of one namespace take ten seconds each, because of a slow webhook, it
would soon occupy all writers, and every other namespace would get one write in ten seconds. So a
namespace whose recent writes were slow may have only as many under way as there are free writers: four of
eight, and the next slow one two. Others are not limited, because they release their writers soon.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from syncer.ledger.answers import ACKED, BOTH_MARKS, Mark
from syncer.metrics import SyncMetrics
from syncer.model.errors import (
    Ambiguous,
    Conflict,
    ContractError,
    Gone,
    PortError,
    Rejected,
    Unavailable,
)
from syncer.model.ports import LeaseTerm, ObjectClient, Ownership
from syncer.model.rendering import difference
from syncer.model.resource import SENT, TERMINAL_PHASES, Json, LogMark, NotificationRequest, Status
from syncer.rules.channel_state import ChannelState
from syncer.rules.compact import SOFT_LIMIT, compact, least
from syncer.rules.fold import History
from syncer.rules.journal import held_because
from syncer.rules.merge import Facts, Merged, merge, quarantine
from syncer.rules.retention import retention_seconds
from syncer.runtime.failpoints import Failpoint, failpoint
from syncer.runtime.supervise import elapse, end
from syncer.sync.cache import Cache
from syncer.sync.notification import Notification
from syncer.sync.recorder import Recorder
from syncer.sync.refusals import Refusals

#: Seconds from which a write is slow, and for which its namespace then counts as slow.
_SLOW: Final = 1.0
_LATELY: Final = 60.0


class Shares:
    """The writes under way, by namespace."""

    def __init__(self, writers: int, clock: Callable[[], float]) -> None:
        """Nothing is under way; `clock` gives monotonic seconds."""
        self._writers = writers
        self._clock = clock
        self._under_way: Counter[str] = Counter()
        #: Second of the last slow write, by namespace.
        self._slow: dict[str, float] = {}

    def may(self, namespace: str) -> bool:
        """Whether a namespace may have a write more."""
        if self._clock() - self._slow.get(namespace, -math.inf) > _LATELY:
            return True
        return self._under_way[namespace] < self._writers - self._under_way.total()

    @property
    def busy(self) -> bool:
        """Whether any is."""
        return bool(self._under_way)

    def begin(self, namespace: str) -> None:
        """Count a write from now on."""
        self._under_way[namespace] += 1

    def end(self, namespace: str, seconds: float) -> None:
        """Note the end of a write, and how long it took."""
        self._under_way -= Counter((namespace,))
        if seconds >= _SLOW:
            now = self._clock()
            self._slow = {n: at for n, at in self._slow.items() if now - at <= _LATELY}
            self._slow[namespace] = now


#: Conflicts that are resolved at once; after these the notification backs off.
MAX_CONFLICTS: Final = 5
#: Why an answer of 200 does not count as written.
LOST: Final = (
    "the API server stores a status without all of its attempts and conditions; exclude"
    " notificationrequests/status from mutating admission webhooks and policies"
)


class Flushed(StrEnum):
    """The result of one flush of a notification."""

    WRITTEN = "written"
    EQUAL = "equal"
    CONFLICT = "conflict"
    TOO_LARGE = "too large"
    UNCLEAR = "unclear"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    GONE = "gone"
    NOT_OURS = "not ours"


logger = logging.getLogger("ledger.sync")

#: What a write shows that shows nothing of the log.
_NOTHING: Final = History(0, "")
#: Seconds between checks if nothing wakes the loop; whatever becomes due does wake it.
_LOOK: Final = 10.0


class StatusWriter:
    """Publishes the views of the cache into the objects' status."""

    def __init__(
        self,
        recorder: Recorder,
        objects: ObjectClient,
        ownership: Ownership,
        metrics: SyncMetrics,
        *,
        writers: int = 8,
        status_bytes: int = SOFT_LIMIT,
        at_most_once: bool = False,
        on_settled: Callable[[Notification, Status, Merged], None] = lambda _e, _s, _m: None,
    ) -> None:
        """
        Publish the views in the recorder's cache.

        Args:
            recorder: Has the cache, and reads logs again.
            objects: Reads and writes objects.
            ownership: Knows which notifications are ours.
            metrics: Count writes.
            writers: Writes at once.
            status_bytes: Bytes of JSON that a status may take.
            at_most_once: An unknown result ends a channel.
            on_settled: Called after each successful write with the notification (which holds the stored
                object), the status before, and the merge that was written.
        """
        self.recorder = recorder
        self.cache: Cache = recorder.cache
        self.objects = objects
        self.ownership = ownership
        self.metrics = metrics
        self.writers = writers
        self.status_bytes = status_bytes
        self.at_most_once = at_most_once
        self._on_settled = on_settled
        self.refusals = Refusals(self.cache)
        self._shares = Shares(writers, self.cache.monotonic)
        self._serving = False
        #: One writer at a time waits until something is due.
        self._turn = asyncio.Lock()

    # -- the loop -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled; writes under way are cancelled with it."""
        self._serving = True
        writers = [
            asyncio.create_task(self._serve(), name="status-writer") for _ in range(self.writers)
        ]
        try:
            ended, _ = await asyncio.wait(writers, return_when=asyncio.FIRST_COMPLETED)
            ended.pop().result()
        finally:
            # A library may lose the cancellation: a write that goes on is the last one.
            self._serving = False
            await end(*writers)

    async def _serve(self) -> None:
        """Write what is due, one after the other."""
        while self._serving:
            async with self._turn:
                notification = await self._next()
            await self._one(notification)
            # Its namespace may have a write more now.
            self.cache.wake.set()

    async def _next(self) -> Notification:
        """Wait for a notification whose write is due and may begin."""
        while True:
            self.cache.wake.clear()
            now, paused_until = self.cache.monotonic(), self.cache.paused_until
            notification = self.cache.take_due(now, self._shares.may)
            if notification is not None:
                notification.publication.begin()
                self._shares.begin(notification.request.namespace)
                return notification
            due = paused_until if paused_until > now else self.cache.next_due()
            await elapse(min(_LOOK, due - self.cache.monotonic()), self.cache.wake)

    async def drain(self, deadline: float) -> int:
        """
        Write everything that is dirty, without waiting for windows.

        `run` must still be running. Returns how many entries are still dirty at the deadline (a second of
        the monotonic clock), or earlier, once none of them can be written by then.
        """
        while self.cache.monotonic() < deadline:
            waiting = [
                e
                for e in self.cache.dirty()
                if not e.in_flight.executing
                and (not e.publication.failures or self.cache.write_at(e) < deadline)
            ]
            paused = self.cache.paused_until >= deadline
            if (paused or not waiting) and not self._shares.busy:
                break
            for notification in waiting:
                if not (notification.publication.failures or notification.publication.urgent):
                    self.cache.mark_dirty(notification, urgent=True)
            await asyncio.sleep(0.02)
        return sum(1 for _ in self.cache.dirty())

    async def _one(self, notification: Notification) -> None:
        begun = self.cache.monotonic()
        try:
            result = await self.flush(notification)
        except Exception:
            # A poison object must not end the loop; it backs off like a failed write.
            logger.exception(
                "a status could not be written and is tried again", extra={"uid": notification.uid}
            )
            result = Flushed.UNAVAILABLE
        finally:
            notification.publication.over()
            self._shares.end(notification.request.namespace, self.cache.monotonic() - begun)
        self._after(notification, result)

    def _after(self, notification: Notification, result: Flushed) -> None:
        match result:
            case Flushed.WRITTEN | Flushed.EQUAL:
                notification.publication.forgive()
                if notification.publication.pending:
                    self.cache.mark_dirty(notification)
                self.cache.retire_if_settled(notification)
            case Flushed.GONE | Flushed.NOT_OURS:
                if result is Flushed.GONE:
                    notification.gone()
                # What is not ours is claimed by the next lease term, and claiming marks it again.
                notification.publication.clean()
                self.cache.check(notification.uid)
            case _:
                self.cache.failed(notification)

    # -- one notification ------------------------------------------------------------------------------

    async def flush(self, notification: Notification) -> Flushed:
        """Bring one object's status up to date, and acknowledge; never raises because of an answer."""
        term = self.ownership.term_of(notification.uid)
        if notification.deleted:
            return Flushed.GONE
        if term is None:
            return Flushed.NOT_OURS
        if not term.valid(self.cache.monotonic()):
            # The term may continue: the answer to a renewal may arrive any moment.
            return Flushed.UNAVAILABLE
        if not self._may_write(notification, term):
            return Flushed.NOT_OURS
        if self.refusals.waits(notification.request.namespace):
            return Flushed.UNAVAILABLE
        notification.publication.cover()
        try:
            gone = notification.doubtful and await self._refresh(notification)
            return Flushed.GONE if gone else await self._publish(notification, term)
        except (PortError, ContractError) as error:
            self.cache.pause_writes(getattr(error, "retry_after", None) or 0.0)
            if notification.publication.refuse(str(error)):
                logger.info(
                    "a status was not written and is tried again",
                    extra={"uid": notification.uid, "error": str(error)},
                )
            return Flushed.UNAVAILABLE

    def _may_write(self, notification: Notification, term: LeaseTerm) -> bool:
        """
        Whether status and log were compared in this lease term, or the status says why they were not.

        What is final while its log was never read has nothing due, and the log judges who wrote it.
        """
        if notification.claim is not None and not self.recorder.claimed(notification, term):
            # A claim that fails would leave it behind, and what others have written meanwhile unjudged.
            self.recorder.lose_claim(notification, "term")
        unread = notification.status.terminal and not notification.view.position
        held = notification.outage.shown and not unread
        stopped = notification.quarantine or notification.judged.untrusted or held
        return notification.claim is not None or bool(stopped or notification.outage.note)

    async def _publish(self, notification: Notification, term: LeaseTerm) -> Flushed:  # noqa: C901 (one loop of tries, whose order is the proof)
        limit = self.status_bytes
        tries = 0
        reread = False
        # The status before a write whose answer was lost: if that write turns out to have been stored, it
        # is reported then.
        unclear: Status | None = None
        while self._may_write(notification, term):
            # The watch may deliver our own write before its answer arrives, so the status before it is
            # remembered now.
            known, own = notification.request, notification.judged.own
            before = known.status
            merged = self._merged(notification, term)
            wanted = compact(merged.status, limit=limit)
            ends = wanted.terminal and not notification.status.terminal
            if ends and wanted.phase != SENT and not (reread or self._journals(notification)):
                # Before a notification is called failed, the log is read once more: another process
                # may have recorded a late success.
                if not await self._read_again(notification, term):
                    break
                reread = True
                continue
            patch = difference(before, wanted)
            # Nothing is shown of a log that cannot be read: if it becomes readable before the answer
            # arrives, none of its records may be acknowledged.
            mark = _NOTHING if self._withheld(notification) else notification.view.publishable
            if not patch:
                if unclear is not None:
                    self._on_settled(notification, unclear, merged)
                return await self._acknowledge(notification, mark, Flushed.EQUAL)
            if unclear is not None or not term.valid(self.cache.monotonic()):
                # What an unclear write has not stored waits: a server that fails need not fail six times.
                return Flushed.UNAVAILABLE
            result, stored = await self._write(notification, wanted, patch)
            if stored is not None:
                return await self._written(notification, known, merged, stored, mark, own=own)
            if result is Flushed.TOO_LARGE:
                if limit == self.status_bytes:
                    limit //= 4
                    continue
                return await self._write_least(notification, merged)
            if result not in (Flushed.CONFLICT, Flushed.UNCLEAR):
                return result
            unclear = before if result is Flushed.UNCLEAR else None
            tries += 1
            self._count_conflict(result, tries)
            if tries > MAX_CONFLICTS:
                return result
            if await self._refresh(notification):
                return Flushed.GONE
            # The object has changed, and the reason may be recorded in the log: read it again before
            # anything is called failed.
            reread = False
        # What others have written has to be judged first.
        return Flushed.NOT_OURS

    async def write_ahead(
        self, notification: Notification, term: LeaseTerm, journal: str
    ) -> Flushed:
        """
        Write all that is known into the status, with a mark that says so.

        Writes once, with the resourceVersion that was read: after a conflict, the caller decides again.

        Args:
            notification: Has an open attempt, which the status shows as unknown.
            term: The lease term in which the attempt is made.
            journal: Name of the note under which the status is complete.

        Raises:
            PortError: not written.
        """
        known = notification.request
        notification.publication.begin()
        try:
            merged = self._merged(notification, term, journal=journal)
            wanted = compact(merged.status, limit=self.status_bytes)
            result, stored = await self._write(
                notification, wanted, difference(known.status, wanted)
            )
            if stored is not None:
                if stored.status.nameless:
                    # The condition has no space for the mark and the ids, which the next owner needs.
                    return Flushed.UNCLEAR
                notification.journaling(journal)
                notification.take(stored, since=known.resource_version)
                self._on_settled(notification, known.status, merged)
            elif result is Flushed.CONFLICT and await self._refresh(notification):
                return Flushed.GONE
            return result
        finally:
            notification.publication.over()
            if notification.publication.pending:
                # Its turn may have come and gone meanwhile.
                self.cache.mark_dirty(notification)

    async def _read_again(self, notification: Notification, term: LeaseTerm) -> bool:
        """Read the log again; False if it holds another history, perhaps with a success."""
        if await self.recorder.reread(notification):
            # Sooner than by the resync: a resend request may be among the new records.
            self.cache.check(notification.uid)
        return self.recorder.claimed(notification, term) or bool(notification.quarantine)

    def _count_conflict(self, result: Flushed, tries: int) -> None:
        if result is Flushed.CONFLICT:
            outcome = "retried" if tries <= MAX_CONFLICTS else "requeued"
            self.metrics.conflicts.labels(outcome).inc()

    def weigh(
        self, notification: Notification, shown: NotificationRequest, term: LeaseTerm
    ) -> tuple[bool, tuple[ChannelState, ...]]:
        """Whether a write of the view would change an object as read just now, and its channels."""
        merged = self._merged(notification, term, shown)
        wanted = compact(merged.status, limit=self.status_bytes)
        return bool(difference(shown.status, wanted)), merged.channel_states

    def _merged(
        self,
        notification: Notification,
        term: LeaseTerm,
        shown: NotificationRequest | None = None,
        *,
        journal: str | None = None,
    ) -> Merged:
        now, outage = self.recorder.time.now(), notification.outage
        request = shown or notification.request
        status = notification.status if shown is None else request.status
        facts = Facts(
            request.generation,
            request.policy,
            self.at_most_once,
            held=held_because(outage.missing) if outage.shown else None,
            violation=notification.violation,
            untrusted=notification.judged.untrusted,
            unread=self._journals(notification),
            in_hand=notification.in_flight.executing,
        )
        if journal is None:
            # Under a claim the log is in use, and a mark is an old one; else it stays as it is.
            journal = (outage.note or None) if notification.claim is None else ""
        if self._withheld(notification):
            status = quarantine(request.status, notification.quarantine, facts, now=now)
            return Merged(status, (), "quarantined")
        # A log that was never read, because Redis does not answer, has no position.
        mark = None
        if notification.view.position:
            mark = LogMark(notification.view.position, term.epoch, self.recorder.log.store)
        return merge(status, notification.view, facts, now=now, mark=mark, journal=journal)

    def _withheld(self, notification: Notification) -> bool:
        """Whether a status gets a condition alone, and nothing of what is known."""
        doubted = notification.quarantine or notification.judged.untrusted
        return bool(doubted) or self._unjudged(notification)

    def _unjudged(self, notification: Notification) -> bool:
        """Whether a status says more than is known, and the log is away that could tell."""
        away = (
            notification.outage.shown
            and notification.claim is None
            and not notification.outage.note
        )
        return (
            away
            and notification.judged.own is None
            and not self.recorder.shows_what_is_known(notification)
        )

    def _journals(self, notification: Notification) -> bool:
        """Whether what is known of a notification is all there is, while its log cannot be read."""
        return (
            bool(notification.outage.note)
            and notification.claim is None
            and not self.recorder.log.available
        )

    async def _write(
        self, notification: Notification, wanted: Status, patch: Json
    ) -> tuple[Flushed, NotificationRequest | None]:
        """Write once; the object as it is stored comes with `WRITTEN` alone."""
        request, ending = notification.request, notification.publication.ending
        failpoint(Failpoint.BEFORE_PATCH)
        if patch.get("phase") in TERMINAL_PHASES:
            notification.publication.final_at(request.resource_version)
        try:
            stored = await self.objects.patch(
                request.namespace, request.name, patch, resource_version=request.resource_version
            )
        except Conflict:
            self.metrics.patches.labels("conflict").inc()
            return Flushed.CONFLICT, None
        except Gone:
            self.metrics.patches.labels("gone").inc()
            return Flushed.GONE, None
        except Ambiguous as error:
            self.metrics.patches.labels("unclear").inc()
            if notification.publication.refuse(str(error)):
                logger.info(
                    "the result of a status write is unknown; it is read back",
                    extra={"uid": notification.uid, "object": request.key, "error": str(error)},
                )
            # It counts as a failed try until it is read back: a hand-over does not wait for a server
            # that may not answer the read either.
            notification.publication.unclear()
            return Flushed.UNCLEAR, None
        except Rejected as error:
            notification.publication.final_at(ending)
            self.metrics.patches.labels("refused").inc()
            self.refusals.refused(notification, error)
            too_large = error.reason == "TooLarge"
            return Flushed.TOO_LARGE if too_large else Flushed.REFUSED, None
        except Unavailable:
            notification.publication.final_at(ending)
            self.metrics.patches.labels("unavailable").inc()
            raise
        if stored.uid != notification.uid:
            # The version matched, so this can only follow a restore of etcd; never acknowledge it.
            return Flushed.GONE, None
        shown = stored.status
        if len(shown.attempts) != len(wanted.attempts) or shown.log != wanted.log:
            # Mutating admission may take away entries and conditions, and answers 200.
            self.metrics.patches.labels("unclear").inc()
            notification.publication.unclear()
            if notification.publication.refuse(LOST):
                logger.error(LOST, extra={"uid": notification.uid, "object": request.key})
            return Flushed.UNCLEAR, None
        self.refusals.accepted(notification)
        failpoint(Failpoint.AFTER_PATCH)
        self.metrics.patches.labels("written").inc()
        return Flushed.WRITTEN, stored

    async def _write_least(self, notification: Notification, merged: Merged) -> Flushed:
        """
        Write the phase and the counters where the object leaves no space for the attempts.

        What is not shown is not acknowledged, so the result is a refusal all the same: the log stays
        without an expiry, and the whole status is tried again with a growing wait.
        """
        known = notification.request
        previous = known.status
        wanted = least(merged.status, notification.status)
        patch = difference(previous, wanted)
        if not patch:
            return Flushed.REFUSED
        result, stored = await self._write(notification, wanted, patch)
        if stored is None:
            return result
        notification.take(stored, since=known.resource_version)
        self._on_settled(notification, previous, merged)
        return Flushed.REFUSED

    async def _written(
        self,
        notification: Notification,
        known: NotificationRequest,
        merged: Merged,
        stored: NotificationRequest,
        mark: History,
        *,
        own: Status | None,
    ) -> Flushed:
        before = known.status if own is None else own
        shown = len(stored.status.attempts) - len(before.attempts)
        self.metrics.batch_records.observe(max(0, shown))
        notification.take(stored, since=known.resource_version)
        if notification.request is stored and notification.judged.own is own:
            # Else what it shows was judged while it was written.
            notification.judged.agree()
        self._on_settled(notification, before, merged)
        return await self._acknowledge(notification, mark, Flushed.WRITTEN)

    async def _refresh(self, notification: Notification) -> bool:
        """Read the object again; True if it is not the same one any more."""
        known = notification.request
        try:
            current = await self.objects.get(known.namespace, known.name)
        except Gone:
            return True
        if current.uid != notification.uid:
            return True
        notification.take(current, since=known.resource_version)
        self.recorder.compare(notification, known.status)
        return False

    async def _acknowledge(
        self, notification: Notification, mark: History, result: Flushed
    ) -> Flushed:
        position, chain = mark
        if notification.quarantine or position == 0 or notification.claim is None:
            return result
        final = notification.ends_at(position)
        if position <= notification.acked and not (final and not notification.expiring):
            return result
        ttl = retention_seconds(notification.request.retention_days) if final else 0
        # With an audit feed the other mark is the feed's; the later of the two sets the expiry.
        marks = ACKED if self.cache.auditing else BOTH_MARKS
        try:
            if not self.recorder.log.available:
                raise Unavailable("a call would keep a writer waiting")
            answer = await self.recorder.log.ack(
                notification.uid, position, chain, ttl=ttl, marks=marks
            )
        except PortError:
            # What the status shows is not lost: the mark waits for the log, and no write for the mark.
            self.cache.unmarked[notification.uid] = None
            return result
        if answer is not Mark.STALE:
            failpoint(Failpoint.AFTER_ACK)
            # A record appended while the answer was on its way has removed the expiry.
            notification.acknowledge(
                position, expiring=answer is Mark.EXPIRING and notification.ends_at(position)
            )
            if final and not notification.expiring:
                self.cache.mark_unaudited(notification)
            return result
        self.recorder.lose_claim(notification, "ack")
        return Flushed.NOT_OURS
