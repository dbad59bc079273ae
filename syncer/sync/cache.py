"""
What this replica holds in memory about each notification: disposable, bounded by what is live.

The loops share an `Entry`: the newest object seen, the fold of its log, the claim under which that log may
be extended, the attempts executing here, and the changes not published yet. Nothing in it is a source of
truth. Outcomes that cannot be written to Redis yet belong to the task that received them.

A notification that is finished and published leaves a summary. So does one that was journaled and whose
status shows all of it: its summary says so, and once the log is back it is claimed.

With an audit feed, a notification is finished only when it is audited: until then the entry stays, listed
in `unaudited`. Because the feed may wait for days, this is bounded: beyond `audit_limit` waiting entries,
a finished one is dropped nevertheless, and a later sweep finds its log, which does not expire before it
is audited.

All access is from one event loop; no method awaits.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from syncer.model.attempt import NO_IDS, Attempt, AttemptId, Epoch
from syncer.model.record import Record
from syncer.model.resource import NotificationRequest, Status, version_key
from syncer.rules.batch import Decision, decide
from syncer.rules.evidence import Verdict
from syncer.rules.fold import LogView
from syncer.rules.journal import Basis
from syncer.rules.merge import exceeds, ordered_channels
from syncer.rules.recognise import poorer
from syncer.rules.resync import Check
from syncer.runtime.clock import MonotonicClock, monotonic_clock
from syncer.runtime.turns import Turns
from syncer.sync.finished import Finished, summary

#: Longest pause in seconds, as that of the client (`syncer.kube.client`).
_PAUSE_MOST: Final = 30.0
#: What is asked for often, and mostly empty.
_NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Claim:
    """
    Right to open attempts in one log.

    INTENT has the server compare `epoch` and `stamp`, the answer to the first CLAIM, which a later one does
    not renew. `generation` only has a log claimed again that opens nothing, once another server answers.
    """

    epoch: Epoch
    generation: int
    stamp: str


#: One for all whose status is as sure as it can be: each would take 80 bytes.
SURE: Final = (Verdict.AGREES, 0.0)


@dataclass(slots=True)
class Entry:
    """
    One live notification.

    Attributes:
        request: Newest version of the object that this process has seen.
        uid: Identity of the notification, which every version has.
        fresh: First seen in a watch event without status, in this lease term.
        deleted: The object is gone; nothing is sent any more.
        doubtful: The newest version came from the watch and shows less than the one before: the object is
            read again before anything is merged with it.
        own: What holds in the place of the object's status, which is disregarded; None where it is not.
        untrusted: Why its record cannot be trusted, so that nothing is sent; empty if it can.
        claimed_at: Second of the loop's clock at which the log was last read by a claim.
        born: That of the first claim of this lease term, if it found that there was no log; else 0.
        alone: Nobody but this process can have done anything for it, in this lease term.
        compared: When a claim compared log and object last, in Unix milliseconds, 0 if none has.
        unsure: The verdict on its status that was reached last, and the claim at which that was first.
        rewrites: How often another client has written what is disregarded.
        unreadable: The object could not be read at the last claim.

        view: Fold of its log up to `view.position`.
        claim: None until claimed, and after a claim turned out to be stale.
        reread: The view may lack records of others: read the log again before relying on it.
        quarantine: Why the log cannot be read, empty if it can.
        violation: What the self-audit found that the rules exclude; nothing is sent while it is set.
        acked: Position up to which the log is marked as published.
        audited: Position up to which the log is marked as handed to the audit feed's sinks.
        expiring: The log has been given its time to live.

        executing: Open attempts that tasks of this process carry out, with their channels.
        never_sent: Executing attempts of which no byte has left, because the log has not allowed it yet.
        unrecorded: Results that could not be written to the log, with their intents.
        due: Second of the monotonic clock before which a channel must not be tried again.
        withheld: Due channels that the last decision held back.
        last_check: The last check that ended with a decision, None if a later one did not.
        unchecked_since: Second since which the resync requests a check without success, 0 if it does not.

        dirty_since: Second of the first unpublished change, None if there is none.
        urgent: The change is final and must not wait for the window.
        ticket: Second at which its write is due, infinite if none is scheduled, negative while it waits for
            its turn.
        writing: A write of its status is under way.
        failures: Status writes that failed in a row, the last one at `last_failure`.
        jitter: Share of the back-off to wait after the last of them.
        unwritten: Why the last status was not written, empty if it was.
        ending: Version of the object to which a final phase was written, unless that write was refused.

        without_log_since: Second since which a due attempt could not be made without Redis, 0 if none.
        without_log: Whether that has lasted long enough for the status to show it.
        known_in: Lease term of the last claim; everything recorded since then is in memory.
        heard: Number of the subscription to wake-ups during which the log was last known to hold no more.
        ahead: Executing attempts that are journaled.
        seeded: Journaled attempts that the log may have received.
        journaled: Name of the note under which this process has journaled it, empty if it has not.
        unjournaled: Why it must wait while the log is away and others are journaled, None if it need not.
    """

    # The object.
    request: NotificationRequest
    uid: str = field(init=False)
    fresh: bool = False
    deleted: bool = False
    doubtful: bool = False
    unreadable: bool = False
    own: Status | None = None
    untrusted: str = ""
    claimed_at: float = 0.0
    born: float = 0.0
    alone: bool = False
    compared: float = 0.0
    unsure: tuple[Verdict, float] = SURE
    rewrites: int = 0

    # Its log.
    view: LogView = field(default_factory=LogView)
    claim: Claim | None = None
    reread: bool = False
    quarantine: str = ""
    violation: str = ""
    acked: int = 0
    audited: int = 0
    expiring: bool = False

    # Its attempts and decisions here.
    executing: dict[AttemptId, str] = field(default_factory=dict)
    never_sent: frozenset[AttemptId] = NO_IDS
    unrecorded: dict[AttemptId, tuple[Record, Record]] = field(default_factory=dict)
    due: dict[str, float] = field(default_factory=dict)
    withheld: tuple[str, ...] = ()
    last_check: Check | None = None
    unchecked_since: float = 0.0

    # The write of its status.
    dirty_since: float | None = None
    urgent: bool = False
    ticket: float = math.inf
    writing: bool = False
    failures: int = 0
    last_failure: float = 0.0
    jitter: float = 1.0
    unwritten: str = ""
    ending: str = ""

    # Delivery while the log is away.
    without_log_since: float = 0.0
    without_log: bool = False
    known_in: Epoch | None = None
    heard: int = 0
    ahead: frozenset[AttemptId] = NO_IDS
    seeded: frozenset[AttemptId] = NO_IDS
    journaled: str = ""
    unjournaled: Basis | None = None

    def __post_init__(self) -> None:
        """Cache the uid, which is read most often."""
        self.uid = self.request.uid

    @property
    def status(self) -> Status:
        """The status by which everything goes: the object's, unless that is disregarded."""
        return self.request.status if self.own is None else self.own

    def known_empty(self, empty: bool, now: float) -> None:
        """Note that a claim has read the log, and whether there was none."""
        if empty and not self.claimed_at:
            self.born = now
        self.claimed_at = now

    def on_started_leading(self) -> None:
        """Note that others may have owned it: what was known of it alone is known no more."""
        self.fresh = self.alone = False
        self.journaled = ""
        self.claimed_at = self.born = 0.0

    @property
    def cancelled(self) -> bool:
        """Whether nothing more is sent: the object is gone, or is being deleted."""
        return self.deleted or self.request.deleting

    @property
    def busy(self) -> bool:
        """Whether a task still works on it."""
        return bool(self.executing) or self.writing

    @property
    def abandoned(self) -> list[Attempt]:
        """Open attempts of the log that no task of this process carries out."""
        return [a for a in self.view.attempts.values() if a.open and a.id not in self.executing]

    @property
    def unscheduled(self) -> bool:
        """Whether it has unpublished changes and no write scheduled."""
        return self.dirty_since is not None and not self.writing and math.isinf(self.ticket)

    @property
    def ordered(self) -> frozenset[str]:
        """Channels with a resend request that no attempt has followed yet."""
        return ordered_channels(self.view, self.status) if self.view.orders else _NONE

    @property
    def closing(self) -> bool:
        """
        Whether the object may have a final phase that this process has not seen.

        The view can fall behind a phase that was written: with `atMostOnce` an unknown result ends a
        channel, and a manual resolution reverses that.
        """
        return self.ending == self.request.resource_version and bool(self.ending)

    def observe(self, seen: NotificationRequest) -> None:
        """
        Take a newer version from the watch.

        A watch that was opened under an older CRD keeps dropping members which that CRD
        lacks. A version that shows less than the one before is therefore not trusted until the object was
        read.
        """
        self.doubtful = self.doubtful or poorer(seen.status, self.request.status)
        self.request = seen

    def take(self, answer: NotificationRequest, *, since: str) -> None:
        """
        Take the API server's answer about the object, read or written.

        The watch may have delivered a later version than `since`, the one known when the request was sent,
        and will not deliver it again. If it has delivered the same version, the answer is used.
        """
        known = self.request.resource_version
        if known == since or version_key(answer.resource_version) >= version_key(known):
            self.request = answer
            self.doubtful = False

    @property
    def shown_whole(self) -> bool:
        """Whether it is finished, was journaled, and its status alone tells all that is known of it."""
        status = self.status
        return (
            status.terminal
            and self.claim is None
            and bool(self.journaled)
            and status.journal == self.journaled
            and not (self.doubtful or self.violation or self.view.opened or self.ordered)
            and status.rollup is None
            and not exceeds(self.view, status)
        )

    def ends_at(self, position: int) -> bool:
        """Whether a mark at this position covers all of the log of a finished notification."""
        return (
            self.status.terminal
            and self.status.journal is None
            and not self.view.opened
            and position == self.view.position
            and not (self.ordered or self.unrecorded)
        )


class Cache:
    """Entries by uid, and the order in which dirty ones are to be written."""

    def __init__(
        self,
        *,
        window: float,
        monotonic: MonotonicClock = monotonic_clock,
        audit_limit: int | None = None,
        jitter: Callable[[], float] = lambda: random.uniform(0.5, 1.0),  # noqa: S311 - no secret
    ) -> None:
        """
        Start empty.

        Args:
            window: The batching window in seconds.
            monotonic: The clock of all its times.
            audit_limit: How many entries may wait for the audit feed; None where there is no feed.
            jitter: Share of a failed write's back-off to wait, in [0.5, 1].
        """
        self._jitter = jitter
        self.entries: dict[str, Entry] = {}
        self.finished: dict[str, Finished] = {}
        #: Uids of summaries that are, or were, of journaled ones.
        self._journaled: dict[str, None] = {}
        #: Entries whose log holds more than the audit feed has handed over, the longest waiting
        #: first. One may be deleted and forgotten already: what was sent is audited all the same.
        self.unaudited: dict[str, Entry] = {}
        self.audit_limit = audit_limit
        self.wake = asyncio.Event()
        self.monotonic = monotonic
        self._window = window
        self._heap: list[tuple[float, int, str]] = []
        #: Uids whose writes are due, by namespace, so that thousands of one author delay no other author.
        self._due: Turns[str] = Turns()
        self._ticket = 0
        #: Second until which no write begins.
        self.paused_until = -math.inf

    def namespace_of(self, uid: str) -> str:
        """The namespace of a live notification, empty if it is unknown."""
        entry = self.entries.get(uid)
        return entry.request.namespace if entry is not None else ""

    def mark_dirty(self, entry: Entry, *, urgent: bool = False) -> None:
        """Note that the status lags behind; repeated marks keep the first time."""
        if entry.dirty_since is None:
            entry.dirty_since = self.monotonic()
        entry.urgent = entry.urgent or urgent
        self._schedule(entry)

    def begin_write(self, entry: Entry) -> None:
        """Note that a write includes everything known now; later changes mark the entry again."""
        entry.dirty_since = None
        entry.urgent = False

    def clean(self, entry: Entry) -> None:
        """Note that everything up to now is published, or is not ours to publish."""
        self.begin_write(entry)
        entry.failures, entry.ticket = 0, math.inf

    def failed(self, entry: Entry) -> None:
        """Note that a write failed; the entry stays dirty and backs off."""
        entry.failures += 1
        entry.last_failure = self.monotonic()
        entry.jitter = self._jitter()
        if entry.dirty_since is None:
            entry.dirty_since = self.monotonic()
        self._schedule(entry)

    def pause_writes(self, seconds: float) -> None:
        """
        Have no write begin for so long, since the API server asks for that; the pause that ends last holds.

        Each would only fail, and back off for much longer.
        """
        until = self.monotonic() + min(seconds, _PAUSE_MOST)
        self.paused_until = max(self.paused_until, until)

    def retry_marks(self) -> None:
        """Have logs marked at once whose status shows all of them, and that could not be before."""
        for entry in self.dirty():
            if entry.failures and not exceeds(entry.view, entry.status):
                entry.failures = 0
                self.mark_dirty(entry, urgent=True)

    def retry_writes(self, namespace: str) -> None:
        """Have the statuses of a namespace written at once that back off."""
        for entry in self.dirty():
            if entry.failures and entry.request.namespace == namespace:
                entry.failures = 0
                self.mark_dirty(entry, urgent=True)

    def _schedule(self, entry: Entry) -> None:
        at = self.decision(entry).at
        if entry.ticket <= at:
            # It is scheduled by then; if that is too early, it waits again.
            return
        entry.ticket = at
        self._ticket += 1
        heapq.heappush(self._heap, (at, self._ticket, entry.uid))
        if self._heap[0][1] == self._ticket:
            # Otherwise the writer already waits for an earlier one.
            self.wake.set()

    def decision(self, entry: Entry) -> Decision:
        """When a dirty entry is to be written, and the reason."""
        if entry.dirty_since is None:
            raise ValueError("the entry is clean")
        return decide(
            dirty_since=entry.dirty_since,
            urgent=entry.urgent,
            failures=entry.failures,
            last_failure=entry.last_failure,
            window=self._window,
            quiet=self._quiet(entry),
            jitter=entry.jitter,
        )

    def _quiet(self, entry: Entry) -> bool:
        # Without a due time nothing has failed yet: attempts are about to start.
        if entry.executing or not entry.due:
            return False
        return min(entry.due.values()) > self.monotonic() + self._window

    def take_due(
        self, now: float, may: Callable[[str], bool] = lambda _namespace: True
    ) -> Entry | None:
        """
        The next entry whose write is due and not under way; one that is early now waits again.

        Args:
            now: Second of the monotonic clock.
            may: Whether a namespace may have a write more; if not, its turn stays.
        """
        if now < self.paused_until:
            return None
        while self._heap and self._heap[0][0] <= now:
            at, _, uid = heapq.heappop(self._heap)
            entry = self.entries.get(uid)
            if entry is not None and entry.ticket == at:
                # Its turn comes, whatever marks follow.
                entry.ticket = -math.inf
                self._due.append(entry.request.namespace, uid)
        while self._due:
            try:
                entry = self.entries.get(self._due.popleft(may))
            except StopIteration:
                return None
            if entry is None or entry.ticket != -math.inf:
                continue
            entry.ticket = math.inf
            if entry.dirty_since is None or entry.writing:
                # It is clean, or will be marked again when the write ends.
                continue
            if self.decision(entry).at <= now:
                return entry
            self._schedule(entry)
        return None

    def next_due(self) -> float | None:
        """When the next write becomes due, None if none will; see `waiting` for those that are."""
        return self._heap[0][0] if self._heap else None

    @property
    def waiting(self) -> bool:
        """Whether writes that are due wait for their turn."""
        return bool(self._due)

    def dirty(self) -> Iterator[Entry]:
        """Entries with unpublished changes."""
        return (e for e in self.entries.values() if e.dirty_since is not None)

    def oldest_dirty(self) -> float:
        """Age in seconds of the oldest unpublished change, 0 if there is none."""
        oldest = min((e.dirty_since for e in self.dirty() if e.dirty_since), default=None)
        return 0.0 if oldest is None else max(0.0, self.monotonic() - oldest)

    @property
    def auditing(self) -> bool:
        """Whether an audit feed runs."""
        return self.audit_limit is not None

    @property
    def audit_capacity(self) -> int:
        """How many more finished notifications may be held for the audit feed."""
        return max(0, (self.audit_limit or 0) - len(self.unaudited))

    def mark_unaudited(self, entry: Entry) -> None:
        """Note that the audit feed must read an entry's log; does nothing where no feed runs."""
        if self.auditing and not entry.quarantine:
            self.unaudited.setdefault(entry.uid, entry)

    def mark_audited(self, entry: Entry, position: int) -> None:
        """Note that everything up to a position of an entry's log was handed over."""
        entry.audited = max(entry.audited, position)
        if entry.view.position <= position:
            self.unaudited.pop(entry.uid, None)

    def retire_if_settled(self, entry: Entry) -> None:
        """
        Replace an entry by its summary once it is finished, published and audited, and no task works on it.

        Its log then has an expiry, set with the later of the two marks. If the audit feed lags and too many
        entries wait for it, a published entry is enough: its log has no expiry yet, and a sweep finds it.
        """
        gone = (
            self.entries.get(entry.uid) is not entry
            or entry.quarantine
            or entry.deleted
            or entry.untrusted
        )
        if gone or entry.busy or entry.dirty_since is not None:
            return
        if entry.shown_whole:
            self.retire(entry)
            return
        if not entry.ends_at(entry.view.position):
            return
        crowded = self.auditing and not self.audit_capacity and entry.acked == entry.view.position
        if entry.expiring or crowded:
            self.retire(entry)

    def retire(self, entry: Entry) -> None:
        """Replace a finished, published entry by its summary; nothing is kept of a deleted one."""
        request = entry.request
        self.entries.pop(entry.uid, None)
        self.unaudited.pop(entry.uid, None)
        if not entry.deleted:
            # The deletion may have come during the last write; nothing would remove the summary later.
            self.sum_up(request)

    def sum_up(self, request: NotificationRequest) -> None:
        """Keep of a finished object no more than its summary."""
        found = self.finished[request.uid] = summary(request)
        if found.journaled:
            self._journaled[request.uid] = None

    def journaled(self) -> list[Finished]:
        """Summaries of those whose attempts may be in no log yet."""
        found = (self.finished.get(uid) for uid in self._journaled)
        known = [summary for summary in found if summary is not None and summary.journaled]
        self._journaled = dict.fromkeys(summary.uid for summary in known)
        return known

    def reopen(self, request: NotificationRequest) -> Entry:
        """Hold a finished notification in full again: its log holds more than its object shows."""
        self.finished.pop(request.uid, None)
        entry = self.entries.setdefault(request.uid, Entry(request))
        entry.request = request
        return entry

    def forget(self, uid: str) -> None:
        """Drop everything known about a notification, except what the audit feed still has to deliver."""
        self.entries.pop(uid, None)
        if len(self.unaudited) > (self.audit_limit or 0):
            self.unaudited.pop(uid, None)
        self.finished.pop(uid, None)
