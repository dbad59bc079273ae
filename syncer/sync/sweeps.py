"""
The resync and the sweeps.

The resync is a periodic walk over every live notification that requests a check of each that needs one.

It guarantees that everything that is due is checked within a bound; watches, wake-ups, timers and the end
of an attempt only bring a check sooner. The rule is `syncer.rules.resync`; this module walks, requests
checks, and measures.

It does no I/O, and a walk is cut into slices, so that it holds the event loop for about a millisecond at a
time, however many entries are live. While Redis does not answer only what is journaled is checked: of the
rest nothing could be decided, and the work queue retries with its growing wait.

A check that was requested and has not ended with a decision by the next round is *missing*: what is due
waits although its time has come. Metrics show how many there are, and for how long. The age is computed at
the scrape and counts from the last round, so it also grows while the resync itself does not run.

`Sweeper` compares logs: it finds what no event reports. That is: logs without an object, finished objects
whose log is not marked as published to its end, and records that another process appended. A sweep compares
headers, many in one round trip; what it finds is claimed or retired as usual.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from syncer.model.errors import ContractError, Gone, PortError
from syncer.model.ports import Ownership
from syncer.model.resource import NotificationRequest
from syncer.rules.divergence import Divergence
from syncer.rules.resync import Reason, reason_of
from syncer.runtime.slices import slices
from syncer.sync.cache import Finished
from syncer.sync.claim import Claimer
from syncer.sync.notification import Notification
from syncer.sync.retention import due
from syncer.sync.scrubber import report

logger = logging.getLogger("ledger.claim")

#: Logs in one question of a sweep: claims and intents wait behind it for a few milliseconds.
_PAGE: Final = 256
#: Checks in one round that a later one could make.
_DEFERRABLE: Final = 500
#: Notifications without a log that one sweep names; all of them are counted.
_NAMED: Final = 20


@dataclass(eq=False)
class Resync:
    """Requests a check of every live notification of ours that needs one."""

    #: Its cache is what is walked.
    claimer: Claimer
    #: Whether a per-receiver queue holds a channel of a notification.
    waits: Callable[[str, str], bool]

    def __post_init__(self) -> None:
        """Show the age of the oldest missing check."""
        self.cache, self.recorder = self.claimer.cache, self.claimer.recorder
        self.ownership, self.journal = self.claimer.ownership, self.claimer.journal
        self.metrics = self.claimer.metrics
        self._rounded = self.cache.monotonic()
        #: Second at which Redis last did not answer: that is not a time without a check.
        self._away = 0.0
        self._oldest = 0.0
        self.metrics.unchecked_seconds.set_function(self.unchecked)

    def unchecked(self) -> float:
        """Longest time in seconds for which a notification may have needed a check and not had one."""
        return self._oldest + self.cache.monotonic() - self._rounded

    async def round(self) -> None:
        """Walk once over all that is live."""
        away = not self.recorder.log.available
        if away and not self.journal.active:
            self._away = self.cache.monotonic()
            self._end(0, 0.0)
            return
        if not away:
            self.cache.retry_marks()
        missing, oldest = 0, 0.0
        deferrable: list[tuple[float, str]] = []
        async for notifications in slices(self.cache.entries.values()):
            now = self.cache.monotonic()
            for notification in notifications:
                reason = self._reason(notification, now, away=away)
                if reason is None or self.cache.entries.get(notification.uid) is not notification:
                    notification.unchecked(0.0)
                elif reason.deferrable:
                    notification.unchecked(0.0)
                    deferrable.append(
                        (
                            notification.last_check.at if notification.last_check else 0.0,
                            notification.uid,
                        )
                    )
                else:
                    since = notification.unchecked_since
                    notification.unchecked(max(since, self._away) if since else now)
                    missing += notification.unchecked_since < now
                    oldest = max(oldest, now - notification.unchecked_since)
                    self.cache.check(notification.uid)
        for _, uid in heapq.nsmallest(_DEFERRABLE, deferrable):
            self.cache.check(uid)
        self._end(missing, oldest)

    def _end(self, missing: int, oldest: float) -> None:
        if missing and not self._oldest:
            logger.warning(
                "notifications need a check and have not had one",
                extra={"notifications": missing, "seconds": round(oldest, 1)},
            )
        self._oldest, self._rounded = oldest, self.cache.monotonic()
        self.metrics.unchecked.set(missing)

    def _reason(self, notification: Notification, now: float, *, away: bool) -> Reason | None:
        term = self.ownership.term_of(notification.uid)
        if term is None:
            # Not ours any more: it is dropped as soon as no task works on it. What only this process
            # knows is recorded until the log takes it.
            return None if notification.busy else Reason.STALE
        if not self.ownership.accepts(notification.uid) or (
            away and not self.journal.applies(notification, term)
        ):
            return None
        last_check, executing = notification.last_check, notification.in_flight.executing
        idle = last_check is not None and any(
            c not in executing.values() and not self.waits(notification.uid, c)
            for c in last_check.channels
        )
        if notification.deleted and executing:
            # Its end brings the next check.
            return None
        return reason_of(
            last_check,
            deleted=notification.deleted,
            blocked=bool(notification.blocked),
            claimed=away or self.recorder.claimed(notification, term),
            # What cannot be read is for the claim that follows the outage.
            unread=not away
            and (notification.reread or any(a not in executing for a in notification.view.opened)),
            version=notification.request.resource_version,
            # While an attempt runs the log grows by its own records; its end brings a check.
            position=last_check.position
            if last_check and executing
            else notification.view.position,
            idle=idle,
            now=now,
        )


class Sweeper:
    """Compares many logs at once with what this process knows."""

    def __init__(self, claimer: Claimer) -> None:
        """Use the parts of `claimer`, which also retires what is found."""
        self.claimer = claimer
        self.log = claimer.log
        self.cache = claimer.cache

    async def orphans(
        self,
        ownership: Ownership,
        known: Callable[[str], bool],
        watched: Callable[[str], bool],
    ) -> tuple[int, int]:
        """
        Find logs whose object is gone, and retire those that are ours.

        Args:
            ownership: Knows which shards are ours.
            known: Whether an object with this uid exists, as of a complete list.
            watched: Whether objects of a namespace are watched here; of others nothing is known.

        Returns:
            How many logs were compared, and how many of them were given an expiry.
        """
        compared, retired = 0, 0
        async for uids in self.log.scan():
            unknown = [u for u in uids if not known(u) and ownership.term_of(u)]
            compared += len(uids)
            heads = await self.log.read_headers(unknown)
            for uid, head in zip(unknown, heads, strict=True):
                header = head.header
                term = ownership.term_of(uid)
                if header is None or term is None:
                    continue
                namespace, _, name = header.object.partition("/")
                if not watched(namespace):
                    continue
                # In the place of the object, as far as its log names it.
                gone = NotificationRequest(uid, namespace, name, resource_version="", deleting=True)
                notification = Notification(gone, deleted=True)
                if head.ttl >= 0:
                    if header.audited < head.length - 1 and self.cache.audit_capacity:
                        self.cache.mark_unaudited(notification)
                    continue
                if not await self._is_gone(uid, namespace, name):
                    continue
                try:
                    retired += await self.claimer.retire(notification, term)
                except PortError as error:
                    logger.info(
                        "an orphaned log was not retired; the next sweep tries again",
                        extra={"uid": uid, "error": str(error)},
                    )
        return compared, retired

    async def _is_gone(self, uid: str, namespace: str, name: str) -> bool:
        try:
            current = await self.claimer.objects.get(namespace, name)
        except Gone:
            return True
        except (PortError, ContractError):
            return False
        return current.uid != uid

    async def finished(
        self, summaries: Sequence[Finished], reopen: Callable[[str], Awaitable[None]]
    ) -> int:
        """
        Compare finished objects with the headers of their logs, one round trip for many.

        A log that is marked as published to its end, or gone, needs nothing. One that holds more is to be
        claimed again. Of those that wait for the audit feed alone no more are held in memory than the feed
        can take.

        Args:
            summaries: What is compared.
            reopen: Called with each uid whose log is to be claimed.

        Returns:
            How many have no log.
        """
        lost: list[Finished] = []
        left = self.cache.audit_capacity
        async for page in slices(summaries, _PAGE):
            reopened: list[str] = []
            unaudited: list[str] = []
            heads = await self.log.read_headers([s.uid for s in page])
            for finished, head in zip(page, heads, strict=True):
                if head.element is None:
                    if self.claimer.recorder.evidence.never_handled(finished):
                        # Somebody else has written the phase.
                        reopened.append(finished.uid)
                    lost.append(finished)
                    continue
                header = head.header
                if header is None or header.acked < head.length - 1:
                    reopened.append(finished.uid)
                elif head.ttl == -1:
                    lagging = self.cache.auditing and header.audited < head.length - 1
                    (unaudited if lagging else reopened).append(finished.uid)
            for uid in (*reopened, *unaudited[:left]):
                await reopen(uid)
            left = max(0, left - len(unaudited))
        self._miss(lost)
        return len(lost)

    def _miss(self, lost: Sequence[Finished]) -> None:
        """Report finished notifications of this installation whose logs are gone before their time."""
        recorder = self.claimer.recorder
        now, since = recorder.time.certain(), recorder.evidence.adopted_before()
        missed = [s for s in lost if s.ended > since and not due(s.ended, s.retention_days, now)]
        if missed:
            self.claimer.metrics.divergences.labels(Divergence.LOG_MISSING).inc(len(missed))
        for finished in missed[:_NAMED]:
            report(finished.uid, f"{finished.namespace}/{finished.name}", Divergence.LOG_MISSING)

    async def live(self) -> int:
        """
        Read again every claimed log that another process has appended to; returns how many are checked.

        That is those logs, and any with an open attempt that no task of this process carries out (an INTENT
        that arrived after its caller had given it up).
        """
        found = 0
        claimed = (e for e in self.cache.entries.values() if e.claim is not None)
        async for page in slices(claimed, _PAGE):
            heard = self.log.client.subscriptions
            heads = await self.log.read_headers([e.uid for e in page])
            for notification, head in zip(page, heads, strict=True):
                longer = head.length - 1 != notification.view.position
                if not longer:
                    notification.hear(heard)
                if notification.claim is None or notification.busy:
                    continue
                if longer:
                    await self.claimer.recorder.reread(notification)
                    self.cache.mark_dirty(notification)
                if longer or notification.abandoned:
                    self.cache.check(notification.uid)
                    found += 1
        return found
