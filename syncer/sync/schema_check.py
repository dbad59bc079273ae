"""
Whether the schema that the API server applies keeps what a status needs.

A server that serves an older CRD drops members that it does not know, and answers 200. An
attempt that loses its id would come back as one that no log holds, and be published a second time. So the
ids are checked where they are written and where they are read: one server of several may still serve an
older CRD, and any may do so again. Mutating admission may take away whole attempts, and answers 200
as well.

The mark of a journaled object (`syncer.model.journal`) is checked in the same way, but before the attempt
that needs it: an object without its mark waits at the next owner for as long as the log is away.
"""

from __future__ import annotations

import logging
from typing import Final

from syncer.kube.crd import pruned
from syncer.model.errors import PortError, Unavailable
from syncer.model.ports import ObjectClient
from syncer.model.resource import Json, NotificationRequest
from syncer.runtime.clock import MonotonicClock

logger = logging.getLogger("ledger.sync")

_DROPPED: Final = (
    "the API server drops the ids of attempts when they are read; apply the CRD of this version"
    " (notifier crd)"
)
_LOST: Final = (
    "the API server stores a status without all of its attempts; exclude notificationrequests/status from"
    " mutating admission webhooks and policies"
)
#: Seconds after which a CRD that dropped the mark is tried again.
_AGAIN: Final = 30.0
_MARK_DROPPED: Final = (
    "the served CRD prunes status.journal; apply the CRD of this version (notifier crd)"
)


class SchemaCheck:
    """
    The checks around each status write that holds attempts.

    Attributes:
        problem: What the served schema would drop of a status, None while nothing is known.
        verified: Writing and reading have both been seen to keep the ids of attempts.
        keeps_mark: Writing has been seen to keep the mark of a journaled object.
    """

    def __init__(self, objects: ObjectClient, monotonic: MonotonicClock) -> None:
        """Nothing is verified yet."""
        self._objects = objects
        self._monotonic = monotonic
        #: When writing was last seen to drop the mark, None if it was not, or is not known to any more.
        self._dropped_at: float | None = None
        self.problem: str | None = None
        #: The problem is the mark, and nothing else.
        self._mark_alone = False
        self.verified = False
        self.keeps_mark = False

    async def before_write(self, request: NotificationRequest, patch: Json) -> None:
        """
        Check, until it is verified, that a write would keep the ids, and the mark if it sets one.

        A dry run shows that without the right to read the CRD.

        Raises:
            Unavailable: what the merge needs would be dropped, or the mark; nothing was written.
        """
        marks = bool(patch.get("journal"))
        if self.verified and (self.keeps_mark or not marks):
            return
        answer = await self._objects.patch(
            request.namespace,
            request.name,
            patch,
            resource_version=request.resource_version,
            dry_run=True,
        )
        self._check_complete(answer, patch)
        lost = pruned(patch, answer.document().get("status") or {})
        # Which members a status has differs from object to object.
        news = self.problem in (None, _DROPPED) or self._mark_alone
        if lost:
            self.problem = (
                f"the served CRD prunes {', '.join(f'status.{path}' for path in lost[:8])};"
                " apply the CRD of this version (notifier crd)"
            )
            self._mark_alone = all(path.split(".")[0] == "journal" for path in lost)
        if any(path.endswith(".id") for path in lost):
            if news:
                logger.error("no status is written: %s", self.problem)
            raise Unavailable("the served CRD prunes the ids of attempts")
        if marks:
            self._note_mark(kept=not any(path.split(".")[0] == "journal" for path in lost))
        if not lost:
            self.problem = None
        elif news:
            logger.warning("%s", self.problem)
        if marks and not self.keeps_mark:
            raise Unavailable("the served CRD prunes status.journal")

    def journal_refused(self) -> str | None:
        """
        Why nothing may be journaled, None if something may.

        After a while it may again: the next attempt finds out, before it is made, whether the CRD
        was replaced.
        """
        if self._dropped_at is None or self._monotonic() - self._dropped_at >= _AGAIN:
            return None
        return _MARK_DROPPED

    def on_log_back(self) -> None:
        """Note that journaling has ended: lost marks are no problem now."""
        if self._mark_alone:
            self.problem, self._mark_alone = None, False

    def _note_mark(self, *, kept: bool) -> None:
        self.keeps_mark = kept
        self._dropped_at = None if kept else self._monotonic()

    def mark_is_kept(self, stored: NotificationRequest, name: str) -> bool:
        """Note the answer to a write that has set a mark; returns whether the mark is in it."""
        self._note_mark(kept=stored.status.journal == name)
        if not self.keeps_mark:
            self.problem, self._mark_alone = _MARK_DROPPED, True
            logger.error("an attempt is not journaled: %s", self.problem)
        return self.keeps_mark

    async def after_write(self, stored: NotificationRequest, patch: Json) -> None:
        """
        Check that all attempts come back, with their ids; until that is verified, by reading as well.

        Raises:
            Unavailable: ids or attempts were dropped. The write may be complete, and must not be
                acknowledged.
        """
        self._check_complete(stored, patch)
        shown = stored
        if not self.verified and not stored.status.nameless:
            try:
                shown = await self._objects.get(stored.namespace, stored.name)
            except PortError:
                # It was written all the same; the next write checks again.
                return
            if shown.resource_version != stored.resource_version:
                # The version of another writer proves nothing about the schema.
                return
        if not shown.status.nameless:
            self.verified = True
            return
        self._distrust(_DROPPED)
        raise Unavailable("the ids of attempts are dropped when they are read")

    def _check_complete(self, stored: NotificationRequest, patch: Json) -> None:
        written = {
            attempt["id"] for attempt in patch.get("deliveryAttempts") or () if "id" in attempt
        }
        if not stored.status.nameless and written - {a.id for a in stored.status.attempts}:
            self._distrust(_LOST)
            raise Unavailable("the API server stores a status without all of its attempts")

    def _distrust(self, problem: str) -> None:
        self.verified = False
        if self.problem != problem:
            logger.error("a status is not trusted: %s", problem)
        self.problem, self._mark_alone = problem, False

    def on_read(self, current: NotificationRequest) -> None:
        """Note an object that was read: once its attempts have ids, none are dropped."""
        if (
            self.problem in (_DROPPED, _LOST)
            and current.status.attempts
            and not current.status.nameless
        ):
            self.problem = None
