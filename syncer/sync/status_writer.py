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
from dataclasses import dataclass
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
from syncer.rules.merge import Facts, Merged, merge, quarantine
from syncer.rules.retention import retention_seconds
from syncer.runtime.failpoints import Failpoint, failpoint
from syncer.runtime.supervise import elapse
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
        #: Second of the last slow write, by namespace, the latest last.
        self._slow: dict[str, float] = {}

    def may(self, namespace: str) -> bool:
        """Whether a namespace may have a write more."""
        if self._clock() - self._slow.get(namespace, -math.inf) > _LATELY:
            return True
        return self._under_way[namespace] < self._writers - self._under_way.total()

    def begin(self, namespace: str) -> None:
        """Count a write from now on."""
        self._under_way[namespace] += 1

    def end(self, namespace: str, seconds: float) -> None:
        """Note the end of a write, and how long it took."""
        self._under_way -= Counter((namespace,))
        if seconds >= _SLOW:
            now = self._clock()
            self._slow.pop(namespace, None)
            self._slow[namespace] = now
            first, since = next(iter(self._slow.items()))
            if now - since > _LATELY:
                del self._slow[first]


#: Conflicts that are resolved at once; after these the entry backs off.
MAX_CONFLICTS: Final = 5
#: Why an answer of 200 does not count as written.
LOST: Final = (
    "the API server stores a status without all of its attempts and conditions; exclude"
    " notificationrequests/status from mutating admission webhooks and policies"
)


class Flushed(StrEnum):
    """The result of one flush of an entry."""

    WRITTEN = "written"
    EQUAL = "equal"
    CONFLICT = "conflict"
    UNCLEAR = "unclear"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    GONE = "gone"
    NOT_OURS = "not ours"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the writer: writes at once, bytes of JSON, and whether an unknown result ends a channel."""

    writers: int = 8
    status_bytes: int = SOFT_LIMIT
    at_most_once: bool = False


def ends_badly(entry: Notification, wanted: Status) -> bool:
    """Whether a write would end a notification in another way than with Sent."""
    return wanted.terminal and wanted.phase != SENT and not entry.status.terminal


def is_kept(stored: Status, wanted: Status) -> bool:
    """Whether an answer shows what was written: the list, and the condition that names its entries."""
    return len(stored.attempts) == len(wanted.attempts) and stored.log == wanted.log


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
        limits: Limits | None = None,
        on_settled: Callable[[Notification, Status, Merged], None] = lambda _e, _s, _m: None,
    ) -> None:
        """
        Publish the views in the recorder's cache.

        `on_settled` is called after each successful write with the entry (which holds the stored object),
        the status before, and the merge that was written.
        """
        self.recorder = recorder
        self.cache: Cache = recorder.cache
        self.objects = objects
        self.ownership = ownership
        self.metrics = metrics
        self.limits = limits or Limits()
        self._written_patches = metrics.patches.labels("written")
        self._on_settled = on_settled
        self.refusals = Refusals(self.cache)
        self._running: set[asyncio.Task[None]] = set()
        self._shares = Shares(self.limits.writers, self.cache.monotonic)
        self._serving = False

    # -- the loop -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled; writes under way are cancelled with it."""
        self._serving = True
        try:
            while True:
                self.cache.wake.clear()
                now = self.cache.monotonic()
                self._start_due()
                await self._wait(now)
        finally:
            self._serving = False
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    def _start_due(self) -> None:
        while not self._full and (entry := self._take()) is not None:
            task = asyncio.create_task(self._write_due(entry), name="status-writer")
            self._running.add(task)
            task.add_done_callback(self._done)

    def _take(self) -> Notification | None:
        entry = self.cache.take_due(self.cache.monotonic(), self._shares.may)
        if entry is not None:
            entry.publication.begin()
            self._shares.begin(entry.request.namespace)
        return entry

    async def _write_due(self, entry: Notification | None) -> None:
        """Write an entry, then further due ones: a task for each would cost more than a merge."""
        while entry is not None:
            await self._one(entry)
            entry = self._take() if self._serving else None

    def _done(self, task: asyncio.Task[None]) -> None:
        full = self._full
        self._running.discard(task)
        if full or self.cache.waiting:
            self.cache.wake.set()

    @property
    def _full(self) -> bool:
        return len(self._running) >= self.limits.writers

    async def _wait(self, since: float) -> None:
        """Wait until something may have become due `since` it was last looked."""
        due = self.cache.paused_until
        if due <= since:
            first = None if self._full else self.cache.next_due()
            due = math.inf if first is None else first
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
                and (not e.publication.failures or self.cache.decision(e).at < deadline)
            ]
            paused = self.cache.paused_until >= deadline
            if (paused or not waiting) and not self._running:
                break
            for entry in waiting:
                if not (entry.publication.failures or entry.publication.urgent):
                    self.cache.mark_dirty(entry, urgent=True)
            await asyncio.sleep(0.02)
        return sum(1 for _ in self.cache.dirty())

    async def _one(self, entry: Notification) -> None:
        begun = self.cache.monotonic()
        try:
            result = await self.flush(entry)
        except Exception:
            # A poison object must not end the loop; it backs off like a failed write.
            logger.exception(
                "a status could not be written and is tried again", extra={"uid": entry.uid}
            )
            result = Flushed.UNAVAILABLE
        finally:
            entry.publication.over()
            self._shares.end(entry.request.namespace, self.cache.monotonic() - begun)
        self._after(entry, result)

    def _after(self, entry: Notification, result: Flushed) -> None:
        match result:
            case Flushed.WRITTEN | Flushed.EQUAL:
                entry.publication.forgive()
                if entry.publication.pending:
                    self.cache.mark_dirty(entry)
                self.cache.retire_if_settled(entry)
            case Flushed.GONE | Flushed.NOT_OURS:
                if result is Flushed.GONE:
                    entry.gone()
                # What is not ours is claimed by the next lease term, and claiming marks it again.
                entry.publication.clean()
                self.cache.check(entry.uid)
            case _:
                self.cache.failed(entry)

    # -- one entry ------------------------------------------------------------------------------

    async def flush(self, entry: Notification) -> Flushed:
        """Bring one object's status up to date, and acknowledge; never raises because of an answer."""
        term = self.ownership.term_of(entry.uid)
        if entry.deleted:
            return Flushed.GONE
        if term is None:
            return Flushed.NOT_OURS
        if not term.valid(self.cache.monotonic()):
            # The term may continue: the answer to a renewal may arrive any moment.
            return Flushed.UNAVAILABLE
        if not self._may_write(entry, term):
            return Flushed.NOT_OURS
        if self.refusals.waits(entry.request.namespace):
            return Flushed.UNAVAILABLE
        entry.publication.cover()
        try:
            gone = entry.doubtful and await self._refresh(entry)
            return Flushed.GONE if gone else await self._publish(entry, term)
        except (PortError, ContractError) as error:
            self.cache.pause_writes(getattr(error, "retry_after", None) or 0.0)
            if entry.publication.refuse(str(error)):
                logger.info(
                    "a status was not written and is tried again",
                    extra={"uid": entry.uid, "error": str(error)},
                )
            return Flushed.UNAVAILABLE

    def _may_write(self, entry: Notification, term: LeaseTerm) -> bool:
        """Whether status and log were compared in this lease term, or the status says why they were not."""
        if entry.claim is not None and not self.recorder.claimed(entry, term):
            # A claim that fails would leave it behind, and what others have written meanwhile unjudged.
            self.recorder.lose_claim(entry, "term")
        stopped = entry.quarantine or entry.judged.untrusted or entry.outage.shown
        return entry.claim is not None or bool(stopped or entry.outage.note)

    async def _publish(self, entry: Notification, term: LeaseTerm) -> Flushed:  # noqa: C901 (one loop of tries, whose order is the proof)
        limit = self.limits.status_bytes
        tries = 0
        reread = False
        # The status before a write whose answer was lost: if that write turns out to have been stored, it
        # is reported then.
        unclear: Status | None = None
        while self._may_write(entry, term):
            # The watch may deliver our own write before its answer arrives, so the status before it is
            # remembered now.
            known, own = entry.request, entry.judged.own
            before = known.status
            merged = self._merged(entry, term)
            wanted = compact(merged.status, limit=limit)
            if ends_badly(entry, wanted) and not (reread or self._journals(entry)):
                # Before a notification is called failed, the log is read once more: another process
                # may have recorded a late success.
                if not await self._read_again(entry, term):
                    break
                reread = True
                continue
            patch = difference(before, wanted)
            # Nothing is shown of a log that cannot be read: if it becomes readable before the answer
            # arrives, none of its records may be acknowledged.
            mark = (
                _NOTHING if entry.quarantine or entry.judged.untrusted else entry.view.publishable
            )
            if not patch:
                if unclear is not None:
                    self._on_settled(entry, unclear, merged)
                return await self._acknowledge(entry, mark, Flushed.EQUAL)
            if unclear is not None or not term.valid(self.cache.monotonic()):
                # What an unclear write has not stored waits: a server that fails need not fail six times.
                return Flushed.UNAVAILABLE
            result, current = await self._write(entry, wanted, patch)
            if result is Flushed.WRITTEN and current is not None:
                return await self._written(entry, known, merged, current, mark, own=own)
            if result is Flushed.REFUSED:
                if current is None and limit == self.limits.status_bytes:
                    limit //= 4
                    continue
                return result if current is not None else await self._write_least(entry, merged)
            if result not in (Flushed.CONFLICT, Flushed.UNCLEAR):
                return result
            unclear = before if result is Flushed.UNCLEAR else None
            tries += 1
            self._count_conflict(result, tries)
            if tries > MAX_CONFLICTS:
                return result
            if await self._refresh(entry):
                return Flushed.GONE
            # The object has changed, and the reason may be recorded in the log: read it again before
            # anything is called failed.
            reread = False
        # What others have written has to be judged first.
        return Flushed.NOT_OURS

    async def write_ahead(self, entry: Notification, term: LeaseTerm, journal: str) -> Flushed:
        """
        Write all that is known into the status, with a mark that says so.

        Writes once, with the resourceVersion that was read: after a conflict, the caller decides again.

        Args:
            entry: Has an open attempt, which the status shows as unknown.
            term: The lease term in which the attempt is made.
            journal: Name of the note under which the status is complete.

        Raises:
            PortError: not written.
        """
        known = entry.request
        entry.publication.begin()
        try:
            merged = self._merged(entry, term, journal=journal)
            wanted = compact(merged.status, limit=self.limits.status_bytes)
            result, stored = await self._write(entry, wanted, difference(known.status, wanted))
            if result is Flushed.WRITTEN and stored is not None:
                if stored.uid != entry.uid:
                    return Flushed.GONE
                if stored.status.nameless:
                    # The condition has no space for the mark and the ids, which the next owner needs.
                    return Flushed.UNCLEAR
                entry.journaling(journal)
                entry.take(stored, since=known.resource_version)
                self._on_settled(entry, known.status, merged)
            elif result is Flushed.CONFLICT and await self._refresh(entry):
                return Flushed.GONE
            return result
        finally:
            entry.publication.over()
            if entry.publication.pending:
                # Its turn may have come and gone meanwhile.
                self.cache.mark_dirty(entry)

    async def _read_again(self, entry: Notification, term: LeaseTerm) -> bool:
        """Read the log again; False if it holds another history, perhaps with a success."""
        position = entry.view.position
        await self.recorder.reread(entry)
        if entry.view.position != position:
            # Sooner than by the resync: a resend request may be among the new records.
            self.cache.check(entry.uid)
        return self.recorder.claimed(entry, term) or bool(entry.quarantine)

    def _count_conflict(self, result: Flushed, tries: int) -> None:
        if result is Flushed.CONFLICT:
            outcome = "retried" if tries <= MAX_CONFLICTS else "requeued"
            self.metrics.conflicts.labels(outcome).inc()

    def weigh(
        self, entry: Notification, shown: NotificationRequest, term: LeaseTerm
    ) -> tuple[bool, tuple[ChannelState, ...]]:
        """Whether a write of an entry's view would change an object as read just now, and its channels."""
        merged = self._merged(entry, term, shown)
        wanted = compact(merged.status, limit=self.limits.status_bytes)
        return bool(difference(shown.status, wanted)), merged.channel_states

    def _merged(
        self,
        entry: Notification,
        term: LeaseTerm,
        shown: NotificationRequest | None = None,
        *,
        journal: str | None = None,
    ) -> Merged:
        now = self.recorder.time.now()
        request = shown or entry.request
        status = entry.status if shown is None else request.status
        facts = Facts(
            request.generation,
            request.policy,
            self.limits.at_most_once,
            held=entry.outage.shown,
            held_by=entry.outage.missing,
            violation=entry.violation,
            untrusted=entry.judged.untrusted,
            unread=self._journals(entry),
            in_hand=frozenset(entry.in_flight.executing),
        )
        if journal is None:
            # Under a claim the log is in use, and a mark is an old one; else it stays as it is.
            journal = (entry.outage.note or None) if entry.claim is None else ""
        if entry.quarantine or entry.judged.untrusted or self._unjudged(entry):
            status = quarantine(request.status, entry.quarantine, facts, now=now)
            return Merged(status, (), "quarantined")
        # A log that was never read, because Redis does not answer, has no position.
        mark = None
        if entry.view.position:
            mark = LogMark(entry.view.position, term.epoch, self.recorder.log.store)
        return merge(status, entry.view, facts, now=now, mark=mark, journal=journal)

    def _unjudged(self, entry: Notification) -> bool:
        """Whether a status says more than is known, and the log is away that could tell."""
        away = entry.outage.shown and entry.claim is None and not entry.outage.note
        return away and entry.judged.own is None and not self.recorder.shows_what_is_known(entry)

    def _journals(self, entry: Notification) -> bool:
        """Whether what is known of an entry is all there is, while its log cannot be read."""
        return bool(entry.outage.note) and entry.claim is None and not self.recorder.log.available

    async def _write(
        self, entry: Notification, wanted: Status, patch: Json
    ) -> tuple[Flushed, NotificationRequest | None]:
        """Write once; a refusal with None means "too large"."""
        request, ending = entry.request, entry.publication.ending
        failpoint(Failpoint.BEFORE_PATCH)
        if patch.get("phase") in TERMINAL_PHASES:
            entry.publication.final_at(request.resource_version)
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
            if entry.publication.refuse(str(error)):
                logger.info(
                    "the result of a status write is unknown; it is read back",
                    extra={"uid": entry.uid, "object": request.key, "error": str(error)},
                )
            # It counts as a failed try until it is read back: a hand-over does not wait for a server
            # that may not answer the read either.
            entry.publication.unclear()
            return Flushed.UNCLEAR, None
        except Rejected as error:
            entry.publication.final_at(ending)
            self.metrics.patches.labels("refused").inc()
            self.refusals.refused(entry, error)
            return Flushed.REFUSED, None if error.reason == "TooLarge" else request
        except Unavailable:
            entry.publication.final_at(ending)
            self.metrics.patches.labels("unavailable").inc()
            raise
        if not is_kept(stored.status, wanted):
            # Mutating admission may take away entries and conditions, and answers 200.
            self.metrics.patches.labels("unclear").inc()
            entry.publication.unclear()
            if entry.publication.refuse(LOST):
                logger.error(LOST, extra={"uid": entry.uid, "object": request.key})
            return Flushed.UNCLEAR, None
        self.refusals.accepted(entry)
        failpoint(Failpoint.AFTER_PATCH)
        self._written_patches.inc()
        return Flushed.WRITTEN, stored

    async def _write_least(self, entry: Notification, merged: Merged) -> Flushed:
        """
        Write the phase and the counters where the object leaves no space for the attempts.

        What is not shown is not acknowledged, so the result is a refusal all the same: the log stays
        without an expiry, and the whole status is tried again with a growing wait.
        """
        known = entry.request
        previous = known.status
        wanted = least(merged.status, entry.status)
        patch = difference(previous, wanted)
        if not patch:
            return Flushed.REFUSED
        result, stored = await self._write(entry, wanted, patch)
        if result is not Flushed.WRITTEN or stored is None:
            return result
        if stored.uid != entry.uid:
            return Flushed.GONE
        entry.take(stored, since=known.resource_version)
        self._on_settled(entry, previous, merged)
        return Flushed.REFUSED

    async def _written(
        self,
        entry: Notification,
        known: NotificationRequest,
        merged: Merged,
        stored: NotificationRequest,
        mark: History,
        *,
        own: Status | None,
    ) -> Flushed:
        if stored.uid != entry.uid:
            # The version matched, so this can only follow a restore of etcd; never acknowledge it.
            return Flushed.GONE
        before = known.status if own is None else own
        shown = len(stored.status.attempts) - len(before.attempts)
        self.metrics.batch_records.observe(max(0, shown))
        entry.take(stored, since=known.resource_version)
        if entry.request is stored and entry.judged.own is own:
            # Else what it shows was judged while it was written.
            entry.judged.agree()
        self._on_settled(entry, before, merged)
        return await self._acknowledge(entry, mark, Flushed.WRITTEN)

    async def _refresh(self, entry: Notification) -> bool:
        """Read the object again; True if it is not the same one any more."""
        known = entry.request
        try:
            current = await self.objects.get(known.namespace, known.name)
        except Gone:
            return True
        if current.uid != entry.uid:
            return True
        entry.take(current, since=known.resource_version)
        self.recorder.compare(entry, known.status)
        return False

    async def _acknowledge(self, entry: Notification, mark: History, result: Flushed) -> Flushed:
        position, chain = mark
        if entry.quarantine or position == 0 or entry.claim is None:
            return result
        final = entry.ends_at(position)
        if position <= entry.acked and not (final and not entry.expiring):
            return result
        ttl = retention_seconds(entry.request.retention_days) if final else 0
        # With an audit feed the other mark is the feed's; the later of the two sets the expiry.
        marks = ACKED if self.cache.auditing else BOTH_MARKS
        try:
            if not self.recorder.log.available:
                raise Unavailable("a call would keep a writer waiting")
            answer = await self.recorder.log.ack(entry.uid, position, chain, ttl=ttl, marks=marks)
        except PortError:
            # What the status shows is not lost: the mark waits for the log, and no write for the mark.
            self.cache.unmarked[entry.uid] = None
            return result
        if answer is not Mark.STALE:
            failpoint(Failpoint.AFTER_ACK)
            entry.acknowledge(position, expiring=answer is Mark.EXPIRING)
            if final and not entry.expiring:
                self.cache.mark_unaudited(entry)
            return result
        self.recorder.lose_claim(entry, "ack")
        return Flushed.NOT_OURS
