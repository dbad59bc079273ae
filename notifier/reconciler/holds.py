"""
The known reasons why notifications are not sent.

Some apply to all notifications: deliveries are paused, the process is ending. Others apply to one: its
log cannot be read, its log or its status names a later epoch, an operator or the self-audit holds it; or
to some channels of some (`notifier.reconciler.operator_holds`). The reconciler asks before it acts;
readiness, metrics and the resync ask so that a held notification is never mistaken for an overlooked one.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from notifier.reconciler.operator_holds import CRITICAL, PlacedHolds
from syncer.metrics import HoldReason
from syncer.model.conditions import ATTEMPTS_NOT_SENT, find_condition
from syncer.model.ports import Ownership
from syncer.rules.plan import hold_of
from syncer.sync.notifications import Cache, Notification

logger = logging.getLogger("ledger.delivery")


@dataclass(eq=False)
class Holds:
    """Reasons why nothing is sent, for all notifications or for one."""

    cache: Cache
    ownership: Ownership
    placed: PlacedHolds
    #: An operator holds back the deliveries of all notifications.
    paused: bool = field(default=False, init=False)

    # -- what others ask ------------------------------------------------------------------------

    def unclaimed(self) -> int:
        """How many live notifications of ours have not been claimed for no known reason."""
        return sum(
            entry.claim is None
            and not (entry.quarantine or entry.outage.note)
            and not (entry.fenced or entry.distrusted)
            and self.ownership.term_of(uid) is not None
            for uid, entry in self.cache.entries.items()
        )

    def fence_problem(self, patience: float) -> str | None:
        """
        Why this replica is not ready if logs keep carrying a later epoch than ours, else None.

        For a short while after a takeover, the old owner meets such logs, too. If it lasts longer than
        `patience` seconds, the cluster's resourceVersions have fallen back. Only logs are evidence of that,
        because only a claim writes their epoch; statuses are not. A single log among others that can be
        claimed only holds its own notification: it takes two, or that nothing can be claimed.
        """
        now, entries = self.cache.monotonic(), self.cache.entries.values()
        # What belongs to another replica now is ignored; asked for at every probe, most are not fenced.
        lasting = sum(
            now - e.fenced > patience and self.ownership.term_of(e.uid) is not None
            for e in entries
            if e.fenced
        )
        ours = (e for e in entries if self.ownership.term_of(e.uid) is not None)
        if not lasting or (lasting == 1 and any(e.claim is not None for e in ours)):
            return None
        return (
            f"{lasting} log(s) in Redis carry a later epoch than this cluster issues; after a"
            " restore of etcd or a move, raise sharding.incarnation"
        )

    def by_reason(self, entries: Iterable[Notification]) -> Counter[str]:
        """How many of these that are unfinished and ours are held, by the reason's label."""
        found: Counter[str] = Counter()
        for entry in entries:
            stopped = entry.quarantine or entry.judged.untrusted
            if entry.cancelled or (entry.status.terminal and not stopped):
                continue
            if self.ownership.term_of(entry.uid) is not None:
                found[self._reason(entry)] += 1
        del found[""]
        return found

    def critical_seconds(self, entries: Iterable[Notification]) -> float:
        """Longest time in seconds for which operators' holds have held back a critical one of these."""
        return max(
            (
                self.placed.critical(entry.request, entry.withheld)
                for entry in entries
                if entry.withheld and not entry.cancelled
            ),
            default=0.0,
        )

    def undelivered_critical(self, entries: Iterable[Notification]) -> float:
        """Age in seconds of the oldest critical one of these that is ours and has not ended."""
        created = [
            entry.request.created
            for entry in entries
            if entry.request.priority == CRITICAL
            and not (entry.status.terminal or entry.cancelled)
            and self.ownership.term_of(entry.uid) is not None
        ]
        return (self.placed.time.now() - min(created)) / 1000 if created else 0.0

    def _reason(self, entry: Notification) -> str:
        if entry.quarantine:
            return HoldReason.QUARANTINED
        if entry.violation:
            return HoldReason.SELF_AUDIT
        if entry.fenced:
            return HoldReason.FENCED
        if entry.judged.untrusted or entry.distrusted:
            return HoldReason.UNTRUSTED if entry.judged.untrusted else HoldReason.EPOCH_AHEAD
        if entry.outage.since:
            return HoldReason.NO_LOG
        if find_condition(entry.status.conditions, ATTEMPTS_NOT_SENT):
            return HoldReason.NOT_SENT
        if hold_of(entry.request.hold, paused=False):
            return HoldReason.ON_HOLD
        placed = HoldReason.PLACED if self.placed.of(entry.request, entry.withheld) else ""
        return HoldReason.PAUSED if self.paused else placed
