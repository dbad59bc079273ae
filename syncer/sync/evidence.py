"""What is known of notifications from elsewhere than their statuses; see `syncer.rules.evidence`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

from syncer.ledger.log import RedisLog
from syncer.model.lineage import UNKNOWN, Lineage
from syncer.rules.evidence import PROTECTED, Circumstances
from syncer.runtime.clock import LedgerTime
from syncer.sync.cache import Finished
from syncer.sync.notification import Notification


@dataclass(eq=False)
class Evidence:
    """Gathers the circumstances of one notification at a time."""

    log: RedisLog
    time: LedgerTime
    _: KW_ONLY
    #: Whether the policy is in force, so that nobody else can write a status.
    protected: Callable[[], bool] = lambda: True
    #: Objects created before that time (Unix milliseconds) are another controller's.
    adopted_before: Callable[[], float] = lambda: math.inf
    #: What is known of the store of a notification.
    lineage: Callable[[str], Lineage] = lambda _uid: UNKNOWN
    #: Whether the statuses of its shard may hold attempts of an outage.
    marked: Callable[[str], bool] = lambda _uid: True
    at_most_once: bool = False

    def of(self, uid: str, *, compared: float = 0.0) -> Circumstances:
        """What is known of one of ours, whose log and status were compared at that time."""
        if self.protected():
            return PROTECTED
        store = self.lineage(uid)
        return Circumstances(
            adopted_before=self.adopted_before(),
            since=store.since,
            lost=store.lost,
            compared=compared,
            marked=self.marked(uid),
            now=self.time.latest(),
            at_most_once=self.at_most_once,
        )

    def of_entry(self, notification: Notification) -> Circumstances:
        """As `of`."""
        return self.of(notification.uid, compared=notification.judged.compared)

    def alone(self, notification: Notification, about: Circumstances) -> bool:
        """Whether nobody but this process can have done anything for a notification."""
        request = notification.request
        if notification.judged.born and not notification.judged.alone:
            complete = about.complete(request.created, request.retention_days)
            notification.judged.prove_alone(
                complete and self.log.client.looked_at > notification.judged.born
            )
        # What it has journaled itself is shown as unknown, while its log has it open.
        return notification.judged.alone and not notification.in_flight.ahead

    def never_handled(self, finished: Finished) -> bool:
        """Whether nothing can have been sent for a finished notification that has no log."""
        about = self.of(finished.uid)
        return not about.protected and about.complete(finished.created, finished.retention_days)
