"""
What this replica holds in memory about each notification: disposable, bounded by what is live.

The loops share a `Notification` for each (`syncer.sync.notification`). This is their registry, and the
order in which their statuses are written.

A notification that is finished and published leaves a summary. So does one that was journaled and whose
status shows all of it: its summary says so, and once the log is back it is claimed. A hundred thousand
summaries cost megabytes, not gigabytes.

With an audit feed, a notification is finished only when it is audited: until then it stays, listed in
`unaudited`. Because the feed may wait for days, this is bounded: beyond `audit_limit` waiting entries,
a finished one is dropped nevertheless, and a later sweep finds its log, which does not expire before it
is audited.

All access is from one event loop; no method awaits.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from syncer.model.resource import NotificationRequest
from syncer.rules.batch import write_at
from syncer.runtime.clock import MonotonicClock, monotonic_clock
from syncer.runtime.turns import Turns
from syncer.sync.notification import Notification


@dataclass(frozen=True, slots=True)
class Finished:
    """Summary of a notification whose final phase is published."""

    uid: str
    namespace: str
    name: str
    resource_version: str
    phase: str
    retention_days: int
    #: Unix milliseconds, as `ended` has them.
    ended: int
    #: When the object was created, Unix milliseconds.
    created: int = 0
    #: Its attempts may be in no log yet.
    journaled: bool = False


def ended(request: NotificationRequest) -> int:
    """When a finished object ended, by its status; not before the API server has created it."""
    return max(request.status.completed_at, request.created)


def summary(request: NotificationRequest) -> Finished:
    """The summary of a finished object; namespaces and phases are few, and each is kept once."""
    return Finished(
        request.uid,
        sys.intern(request.namespace),
        request.name,
        request.resource_version,
        sys.intern(request.status.phase),
        request.retention_days,
        ended(request),
        request.created,
        request.status.journal is not None,
    )


#: Longest pause in seconds, as that of the client (`syncer.kube.client`).
_PAUSE_MOST: Final = 30.0


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
        self.entries: dict[str, Notification] = {}
        self.finished: dict[str, Finished] = {}
        #: Uids of summaries that are, or were, of journaled ones.
        self._journaled: dict[str, None] = {}
        #: Entries whose log holds more than the audit feed has handed over, the longest waiting
        #: first. One may be deleted and forgotten already: what was sent is audited all the same.
        self.unaudited: dict[str, Notification] = {}
        self.audit_limit = audit_limit
        self.wake = asyncio.Event()
        #: Requests a check of a notification: the controller's work queue takes its uid.
        self.check: Callable[[str], None] = lambda _uid: None
        #: The same, at a second of the monotonic clock.
        self.check_at: Callable[[str, float], None] = lambda _uid, _at: None
        #: The same, after a wait that grows with each in a row; returns it.
        self.retry: Callable[[str], float] = lambda _uid: 0.0
        self.monotonic = monotonic
        self._window = window
        self._heap: list[tuple[float, int, str]] = []
        #: Uids whose writes are due, by namespace, so that thousands of one author delay no other author.
        self._due: Turns[str] = Turns()
        self._ticket = 0
        #: Uids whose status is written, and whose log could not be marked as published.
        self.unmarked: dict[str, None] = {}
        #: Second until which no write begins.
        self.paused_until = -math.inf

    def namespace_of(self, uid: str) -> str:
        """The namespace of a live notification, empty if it is unknown."""
        notification = self.entries.get(uid)
        return notification.request.namespace if notification is not None else ""

    def mark_dirty(self, notification: Notification, *, urgent: bool = False) -> None:
        """Note that the status of what is not gone lags behind; the first time is kept."""
        if not notification.deleted:
            notification.publication.mark(self.monotonic(), urgent=urgent)
            self._schedule(notification)

    def failed(self, notification: Notification, *, before: int | None = None) -> None:
        """Note that a write failed; it stays dirty and backs off, as after so many failures `before`."""
        if not notification.deleted:
            notification.publication.fail(self.monotonic(), self._jitter(), before=before)
            self._schedule(notification)

    def pause_writes(self, seconds: float) -> None:
        """
        Have no write begin for so long, since the API server asks for that; the pause that ends last holds.

        Each would only fail, and back off for much longer.
        """
        until = self.monotonic() + min(seconds, _PAUSE_MOST)
        self.paused_until = max(self.paused_until, until)

    def retry_marks(self) -> None:
        """Have logs marked as published that could not be when they were: they are there again."""
        unmarked, self.unmarked = self.unmarked, {}
        for notification in filter(None, map(self.entries.get, unmarked)):
            self.mark_dirty(notification, urgent=True)

    def retry_writes(self, namespace: str) -> None:
        """Have the statuses of a namespace written at once that back off."""
        for notification in self.dirty():
            if notification.publication.failures and notification.request.namespace == namespace:
                notification.publication.forgive()
                self.mark_dirty(notification, urgent=True)

    def _schedule(self, notification: Notification) -> None:
        at = self.write_at(notification)
        if notification.publication.ticket <= at:
            # It is scheduled by then; if that is too early, it waits again.
            return
        notification.publication.ticket = at
        self._ticket += 1
        heapq.heappush(self._heap, (at, self._ticket, notification.uid))
        if self._heap[0][1] == self._ticket:
            # Otherwise the writer already waits for an earlier one.
            self.wake.set()

    def write_at(self, notification: Notification) -> float:
        """Second at which a dirty notification is to be written."""
        publication = notification.publication
        if publication.dirty_since is None:
            raise ValueError("the notification is clean")
        return write_at(
            dirty_since=publication.dirty_since,
            urgent=publication.urgent,
            failures=publication.failures,
            last_failure=publication.last_failure,
            window=self._window,
            quiet=self._quiet(notification),
            jitter=publication.jitter,
        )

    def _quiet(self, notification: Notification) -> bool:
        # Without a due time nothing has failed yet: attempts are about to start.
        if notification.in_flight.executing or not notification.due:
            return False
        return min(notification.due.values()) > self.monotonic() + self._window

    def take_due(
        self, now: float, may: Callable[[str], bool] = lambda _namespace: True
    ) -> Notification | None:
        """
        The next notification whose write is due and not under way; one that is early now waits again.

        Args:
            now: Second of the monotonic clock.
            may: Whether a namespace may have a write more; if not, its turn stays.
        """
        if now < self.paused_until:
            return None
        while self._heap and self._heap[0][0] <= now:
            at, _, uid = heapq.heappop(self._heap)
            notification = self.entries.get(uid)
            if notification is not None and notification.publication.ticket == at:
                # Its turn comes, whatever marks follow.
                notification.publication.ticket = -math.inf
                self._due.append(notification.request.namespace, uid)
        while self._due:
            try:
                notification = self.entries.get(self._due.popleft(may))
            except StopIteration:
                return None
            if notification is None or notification.publication.ticket != -math.inf:
                continue
            notification.publication.ticket = math.inf
            if not notification.publication.pending or notification.publication.writing:
                # It is clean, or will be marked again when the write ends.
                continue
            if self.write_at(notification) <= now:
                return notification
            self._schedule(notification)
        return None

    def next_due(self) -> float:
        """When the next write becomes due, infinite if none will; it says nothing of those that are."""
        return self._heap[0][0] if self._heap else math.inf

    def dirty(self) -> Iterator[Notification]:
        """Entries with unpublished changes."""
        return (e for e in self.entries.values() if e.publication.pending)

    def oldest_dirty(self) -> float:
        """Age in seconds of the oldest unpublished change, 0 if there is none."""
        oldest = min(
            (e.publication.dirty_since for e in self.dirty() if e.publication.dirty_since),
            default=None,
        )
        return 0.0 if oldest is None else max(0.0, self.monotonic() - oldest)

    @property
    def auditing(self) -> bool:
        """Whether an audit feed runs."""
        return self.audit_limit is not None

    @property
    def audit_capacity(self) -> int:
        """How many more finished notifications may be held for the audit feed."""
        return max(0, (self.audit_limit or 0) - len(self.unaudited))

    def mark_unaudited(self, notification: Notification) -> None:
        """Note that the audit feed must read a notification's log; does nothing where no feed runs."""
        if self.auditing and not notification.quarantine:
            self.unaudited.setdefault(notification.uid, notification)

    def mark_audited(self, notification: Notification, position: int) -> None:
        """Note that everything up to a position of a notification's log was handed over."""
        notification.audit(position)
        if notification.view.position <= position:
            self.unaudited.pop(notification.uid, None)

    def retire_if_settled(self, notification: Notification) -> None:
        """
        Replace a notification by its summary once it is finished, published, audited and idle.

        Its log then has an expiry, set with the later of the two marks. If the audit feed lags and too many
        wait for it, a published one is enough: its log has no expiry yet, and a sweep finds it.
        """
        kept = (
            self.entries.get(notification.uid) is not notification
            or notification.quarantine
            or notification.deleted
            or notification.judged.untrusted
            or notification.busy
            or notification.publication.pending
        )
        position = notification.view.position
        crowded = self.auditing and not self.audit_capacity and notification.acked == position
        if not kept and (
            notification.shown_whole
            or (notification.ends_at(position) and (notification.expiring or crowded))
        ):
            self.retire(notification)

    def retire(self, notification: Notification) -> None:
        """Replace a finished, published notification by its summary; nothing is kept of a deleted one."""
        request = notification.request
        self.entries.pop(notification.uid, None)
        self.unaudited.pop(notification.uid, None)
        if not notification.deleted:
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

    def reopen(self, request: NotificationRequest) -> Notification:
        """Hold a finished notification in full again: its log holds more than its object shows."""
        self.finished.pop(request.uid, None)
        again = Notification(request, reopened=True)
        notification = self.entries.setdefault(request.uid, again)
        notification.request = request
        return notification

    def forget(self, uid: str) -> None:
        """Drop everything known about a notification, except what the audit feed still has to deliver."""
        self.entries.pop(uid, None)
        if len(self.unaudited) > (self.audit_limit or 0):
            self.unaudited.pop(uid, None)
        self.finished.pop(uid, None)
