"""
Sweeps over logs: they find what no event reports.

That is: logs without an object, finished objects whose log is not marked as published to its end, and
records that another process appended. A sweep compares headers, many in one round trip; what it finds is
claimed or retired as usual.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from syncer.model.errors import ContractError, Gone, PortError
from syncer.model.ports import Ownership
from syncer.model.resource import NotificationRequest
from syncer.sync.cache import Finished
from syncer.sync.claim import Claimer
from syncer.sync.notification import Notification

logger = logging.getLogger("ledger.claim")


class OrphanSweep(NamedTuple):
    """How many logs were compared, and how many of them were given an expiry."""

    looked_at: int
    retired: int


class FinishedSweep(NamedTuple):
    """
    What is left to do for finished notifications.

    Attributes:
        reopened: Uids whose log must be claimed again.
        unaudited: Uids whose log waits for the audit feed alone.
        lost: Those that have no log.
    """

    reopened: list[str]
    unaudited: list[str]
    lost: list[Finished]


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
    ) -> OrphanSweep:
        """
        Find logs whose object is gone, and retire those that are ours.

        Args:
            ownership: Knows which shards are ours.
            known: Whether an object with this uid exists, as of a complete list.
            watched: Whether objects of a namespace are watched here; of others nothing is known.
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
                entry = Notification(tombstone(uid, namespace, name), deleted=True)
                if head.ttl >= 0:
                    if header.audited < head.length - 1 and self.cache.audit_capacity:
                        self.cache.mark_unaudited(entry)
                    continue
                if not await self._is_gone(uid, namespace, name):
                    continue
                try:
                    retired += await self.claimer.retire(entry, term)
                except PortError as error:
                    logger.info(
                        "an orphaned log was not retired; the next sweep tries again",
                        extra={"uid": uid, "error": str(error)},
                    )
        return OrphanSweep(compared, retired)

    async def _is_gone(self, uid: str, namespace: str, name: str) -> bool:
        try:
            current = await self.claimer.objects.get(namespace, name)
        except Gone:
            return True
        except (PortError, ContractError):
            return False
        return current.uid != uid

    async def finished(self, summaries: Sequence[Finished]) -> FinishedSweep:
        """
        Compare finished objects with the headers of their logs, one round trip for many.

        A log that is marked as published to its end, or gone, needs nothing. One that holds more is
        `reopened`: the caller claims it. One that waits for the audit feed alone is `unaudited`: the
        caller keeps no more of these in memory than the feed can take.
        """
        reopened: list[str] = []
        unaudited: list[str] = []
        lost: list[Finished] = []
        heads = await self.log.read_headers([s.uid for s in summaries])
        for finished, head in zip(summaries, heads, strict=True):
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
        return FinishedSweep(reopened, unaudited, lost)

    async def live(self, entries: Sequence[Notification]) -> list[str]:
        """
        Read again every live log that another process has appended to.

        Returns the uids to be checked: of those logs, and of any with an open attempt that no task of this
        process carries out (an INTENT that arrived after its caller had given it up).
        """
        found: list[str] = []
        heard = self.log.subscriptions
        heads = await self.log.read_headers([e.uid for e in entries])
        for entry, head in zip(entries, heads, strict=True):
            if head.length - 1 == entry.view.position:
                entry.hear(heard)
            if entry.claim is None or entry.busy:
                continue
            if head.length - 1 != entry.view.position:
                await self.claimer.recorder.reread(entry)
                self.cache.mark_dirty(entry)
                found.append(entry.uid)
            elif entry.abandoned:
                found.append(entry.uid)
        return found


def tombstone(uid: str, namespace: str, name: str) -> NotificationRequest:
    """Return a request in the place of an object that is gone, as far as its log names it."""
    return NotificationRequest(uid, namespace, name, resource_version="", deleting=True)
