"""
The known reasons why notifications are not sent.

Some apply to all notifications: deliveries are paused, the process is ending. Others apply to one: its log
cannot be read, its log or its status names a later epoch, an operator holds it, or the self-audit has
stopped it. Operators' holds may also apply to some channels (`notifier.reconciler.operator_holds`). The
reconciler checks the reasons before it acts; readiness, metrics and the resync check them so that a
notification that has to wait is never mistaken for an overlooked one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from notifier.reconciler.operator_holds import CRITICAL, PlacedHolds
from syncer.metrics import HoldReason
from syncer.model.conditions import ATTEMPTS_NOT_SENT, find_condition
from syncer.model.ports import Ownership
from syncer.model.resource import NotificationRequest
from syncer.rules.plan import hold_of
from syncer.sync.notifications import Cache, Notification


@dataclass(eq=False)
class Holds:
    """Reasons why nothing is sent, for all notifications or for one."""

    cache: Cache
    ownership: Ownership
    placed: PlacedHolds
    #: An operator holds back the deliveries of all notifications.
    paused: bool = field(default=False, init=False)

    # -- what others ask ------------------------------------------------------------------------

    def hold(self, request: NotificationRequest, channel: str) -> bool:
        """Whether an operator holds back a channel of a notification."""
        return bool(
            hold_of(request.hold, paused=self.paused) or self.placed.of(request, (channel,))
        )

    def unclaimed(self) -> int:
        """How many live notifications of ours have not been claimed for no known reason."""
        return sum(
            notification.claim is None
            and not (notification.quarantine or notification.outage.note)
            and not (notification.fenced or notification.distrusted)
            and self.ownership.term_of(uid) is not None
            for uid, notification in self.cache.entries.items()
        )

    def fence_problem(self, patience: float) -> str | None:
        """
        Why this replica is not ready if logs keep carrying a later epoch than ours, else None.

        For a short while after a takeover, the old owner meets such logs, too. If it lasts longer than
        `patience` seconds, the cluster's resourceVersions have fallen back. Only logs are evidence of that,
        because only a claim writes their epoch; statuses are not. A single log among others that can be
        claimed only blocks its own notification: a replica is not ready once there are two, or nothing can
        be claimed.
        """
        now, notifications = self.cache.monotonic(), self.cache.entries.values()
        # Notifications that now belong to another replica are ignored. Ownership is looked up only for
        # fenced ones, which are few, because this runs at every probe.
        lasting = sum(
            now - e.fenced > patience and self.ownership.term_of(e.uid) is not None
            for e in notifications
            if e.fenced
        )
        ours = (e for e in notifications if self.ownership.term_of(e.uid) is not None)
        if not lasting or (lasting == 1 and any(e.claim is not None for e in ours)):
            return None
        return (
            f"{lasting} log(s) in Redis carry a later epoch than this cluster issues; after a"
            " restore of etcd or a move, raise sharding.incarnation"
        )

    def by_reason(self, notifications: Iterable[Notification]) -> Counter[str]:
        """Count the unfinished notifications of ours that have a reason not to be sent, by its label."""
        found: Counter[str] = Counter()
        for notification in notifications:
            stopped = notification.quarantine or notification.judged.untrusted
            if notification.cancelled or (notification.status.terminal and not stopped):
                continue
            if self.ownership.term_of(notification.uid) is not None:
                found[self._reason(notification)] += 1
        del found[""]
        return found

    def critical_seconds(self, notifications: Iterable[Notification]) -> float:
        """Longest time in seconds for which an operator's hold has held back a critical notification."""
        return max(
            (
                self.placed.critical(notification.request, notification.withheld)
                for notification in notifications
                if notification.withheld and not notification.cancelled
            ),
            default=0.0,
        )

    def undelivered_critical(self, notifications: Iterable[Notification]) -> float:
        """Age in seconds of the oldest critical notification that is ours and has not ended."""
        created = [
            notification.request.created
            for notification in notifications
            if notification.request.priority == CRITICAL
            and not (notification.status.terminal or notification.cancelled)
            and self.ownership.term_of(notification.uid) is not None
        ]
        return (self.placed.time.now() - min(created)) / 1000 if created else 0.0

    def _reason(self, notification: Notification) -> str:
        unsent = find_condition(notification.status.conditions, ATTEMPTS_NOT_SENT)
        reasons = (
            (notification.quarantine, HoldReason.QUARANTINED),
            (notification.violation, HoldReason.SELF_AUDIT),
            (notification.fenced, HoldReason.FENCED),
            (notification.judged.untrusted, HoldReason.UNTRUSTED),
            (notification.distrusted, HoldReason.EPOCH_AHEAD),
            (notification.outage.since, HoldReason.NO_LOG),
            (unsent, HoldReason.NOT_SENT),
            (hold_of(notification.request.hold, paused=False), HoldReason.ON_HOLD),
            (self.paused, HoldReason.PAUSED),
            (self.placed.of(notification.request, notification.withheld), HoldReason.PLACED),
        )
        return next((reason for holds, reason in reasons if holds), "")
