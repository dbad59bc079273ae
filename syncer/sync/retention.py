"""
Deleting finished notifications after their retention time, if `retention.deleteObjects` is set.

A log expires by itself. The object does not, since it may still be read: it is deleted only if the setting
demands it, and only when all of its log is published and audited. That is decided twice: from the summary
and the log's header (`due`, `settled`), so that a sweep over many costs one call to Redis a page; then
from the object as it is now, read right before the deletion.

A missing log proves nothing by itself. It counts as expired only if the store that the status
names is the one that answers now: a store that was lost or emptied has another id, and then the object
is the last record of what was sent, and stays. So do the finished objects of the replaced controller,
whose status names no store.

A clock that is ahead deletes nothing: the earlier of Redis's time and the API server's decides
(`LedgerTime.certain`).

The deletion names uid and resourceVersion. Any other write meanwhile, or another object under the name,
makes it fail, and the next sweep decides again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from syncer.kube.notification_requests import NotificationRequestClient
from syncer.ledger.log import RedisLog
from syncer.metrics import SyncMetrics
from syncer.model.errors import (
    OF_ONE_OBJECT,
    Ambiguous,
    Conflict,
    ContractError,
    Gone,
    PortError,
    Unauthorised,
    Unavailable,
)
from syncer.model.ports import Ownership
from syncer.model.record import Header
from syncer.model.resource import NotificationRequest
from syncer.rules.retention import retention_seconds
from syncer.runtime.clock import LedgerTime
from syncer.sync.cache import Finished, ended

logger = logging.getLogger("ledger.retention")

#: Logs in one call to Redis.
_PAGE: Final = 256


@dataclass(eq=False)
class Retention:
    """Deletes finished objects whose retention time is over."""

    log: RedisLog
    objects: NotificationRequestClient
    ownership: Ownership
    #: Redis time, in which the retention is counted, checked against the API server's.
    time: LedgerTime
    metrics: SyncMetrics

    async def sweep(self, summaries: Sequence[Finished]) -> int:
        """
        Delete those of our finished notifications whose retention time is over; returns how many.

        Raises:
            PortError: Redis does not answer; the next sweep begins again.
        """
        over = [s for s in summaries if due(s.ended, s.retention_days, self.time.certain())]
        #: Namespaces in which the right is missing: one call each has shown it.
        refused: set[str] = set()
        deleted = 0
        for start in range(0, len(over), _PAGE):
            page = [s for s in over[start : start + _PAGE] if self.ownership.term_of(s.uid)]
            heads = await self.log.read_headers([s.uid for s in page])
            for summary, head in zip(page, heads, strict=True):
                expired = head.element is None
                if summary.namespace in refused or not (
                    expired or settled(head.header, head.length, head.ttl)
                ):
                    continue
                try:
                    deleted += await self._delete(summary, expired=expired)
                except (Conflict, Gone, ContractError):
                    # It was changed or deleted: the watch brings its new state.
                    continue
                except PortError as error:
                    if not self._goes_on(summary, error, refused):
                        return deleted
        return deleted

    @staticmethod
    def _goes_on(summary: Finished, error: PortError, refused: set[str]) -> bool:
        """
        Log why an object was not deleted; whether others may be.

        Where the right is missing, its namespace joins those that are `refused`.
        """
        if isinstance(error, Ambiguous | Unavailable):
            logger.info(
                "finished objects were not deleted; the next round tries again",
                extra={"error": str(error)},
            )
            return False
        if isinstance(error, Unauthorised) and error.reason not in OF_ONE_OBJECT:
            logger.error(
                "finished objects are not deleted: retention.deleteObjects needs permission to read and"
                " delete notificationrequests",
                extra={"namespace": summary.namespace, "error": str(error)},
            )
            refused.add(summary.namespace)
            return error.reason == "Forbidden"
        logger.warning(
            "a finished object was not deleted; the next round tries again",
            extra={"uid": summary.uid, "error": str(error)},
        )
        return True

    async def _delete(self, summary: Finished, *, expired: bool) -> bool:
        current = await self.objects.get(summary.namespace, summary.name)
        if current.uid != summary.uid or not self._may_go(current, expired=expired):
            return False
        await self.objects.delete(
            current.namespace,
            current.name,
            uid=current.uid,
            resource_version=current.resource_version,
        )
        self.metrics.deleted.inc()
        logger.info(
            "a finished notification is deleted after its retention time",
            extra={
                "uid": current.uid,
                "object": current.key,
                "phase": current.status.phase,
                "days": current.retention_days,
            },
        )
        return True

    def _may_go(self, current: NotificationRequest, *, expired: bool) -> bool:
        status, mark = current.status, current.status.log
        return (
            status.terminal
            and not current.deleting
            # Else its attempts may be on record there alone.
            and status.journal is None
            and due(ended(current), current.retention_days, self.time.certain())
            and mark is not None
            and (not expired or (bool(mark.store) and mark.store == self.log.store))
        )


def due(ended: int, days: int, now: int) -> bool:
    """Whether one that ended at `ended` was kept for its days; times are Unix ms, 0 is never due."""
    return ended > 0 and now >= ended + retention_seconds(days) * 1000


def settled(header: Header | None, length: int, ttl: int) -> bool:
    """
    Whether a log is needed no more: all of it is published and audited, and its expiry set.

    Args:
        header: Its first element, None if that cannot be read.
        length: Elements, the header included.
        ttl: Seconds until it expires, negative if it does not.
    """
    return header is not None and ttl >= 0 and header.acked == header.audited == length - 1
