"""
Whether the schema that the API server applies keeps what a status needs.

A server that serves an older CRD drops members that it does not know, and answers 200. An
attempt that loses its id would come back as one that no log holds, and be published a second time. So the
ids are checked where they are written and where they are read: one server of several may still serve an
older CRD, and any may do so again. Mutating admission may take away whole attempts, and answers 200
as well.

What else is dropped repeats nothing, but a status without its channels restores less of a lost log. So it
is a problem of readiness, and writes go on. A CRD may be replaced at any time, so answers are compared with
their writes for as long as the process runs: seldom while nothing is missing, each one while something is.

The mark of a journaled object (`syncer.model.journal`) is checked in the same way, but before the attempt
that needs it: an object without its mark waits at the next owner for as long as the log is away.
"""

from __future__ import annotations

import logging
from typing import Final

from syncer.kube.crd import has_member, pruned
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
#: Seconds after which a CRD that dropped the mark is tried again, and answers are compared again.
_AGAIN: Final = 30.0
#: Seconds after which a member that no write has had since is not held against the CRD any more.
_FORGOTTEN: Final = 600.0
_MARK: Final = "journal"
_ID: Final = "id"


def _kind(path: str) -> str:
    """Return what is lost with a member: ids, the mark, or what restores less of a lost log."""
    if path.endswith(".id"):
        return _ID
    return _MARK if path.partition(".")[0] == _MARK else "members"


def _prunes(paths: list[str]) -> str:
    named = ", ".join(f"status.{path}" for path in paths[:8])
    return f"the served CRD prunes {named}; apply the CRD of this version (notifier crd)"


class SchemaCheck:
    """
    The checks around each status write that holds attempts.

    Attributes:
        verified: Writing and reading have both been seen to keep the ids of attempts.
        keeps_mark: Writing has been seen to keep the mark of a journaled object.
    """

    def __init__(self, objects: ObjectClient, monotonic: MonotonicClock) -> None:
        """Nothing is verified yet."""
        self._objects = objects
        self._monotonic = monotonic
        #: When writing was last seen to drop the mark, None if it was not, or is not known to any more.
        self._dropped_at: float | None = None
        #: When an answer was last compared with its whole write, None if none was.
        self._compared_at: float | None = None
        #: Members that the served CRD drops, each with the time of the last write that showed it.
        self._pruned: dict[str, float] = {}
        #: Why no status is trusted, None while they are.
        self._distrusted: str | None = None
        self.verified = False
        self.keeps_mark = False

    @property
    def problem(self) -> str | None:
        """What the served schema would drop of a status, None while nothing is known."""
        return self._distrusted or (_prunes(sorted(known)) if (known := self._dropped()) else None)

    def _dropped(self) -> dict[str, float]:
        now = self._monotonic()
        return {path: at for path, at in self._pruned.items() if now - at < _FORGOTTEN}

    async def before_write(self, request: NotificationRequest, patch: Json) -> None:
        """
        Check, until it is verified, that a write would keep the ids, and the mark if it sets one.

        A dry run shows that without the right to read the CRD.

        Raises:
            Unavailable: what the merge needs would be dropped, or the mark; nothing was written.
        """
        marks = bool(patch.get(_MARK))
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
        lost = self._compare(answer, patch)
        self._distrusted = None
        kinds = set(map(_kind, lost))
        if _ID in kinds:
            raise Unavailable("the served CRD prunes the ids of attempts")
        if marks:
            self._note_mark(kept=_MARK not in kinds)
            if not self.keeps_mark:
                raise Unavailable("the served CRD prunes status.journal")

    def journal_refused(self) -> str | None:
        """
        Why nothing may be journaled, None if something may.

        After a while it may again: the next attempt finds out, before it is made, whether the CRD
        was replaced.
        """
        if self._dropped_at is None or self._monotonic() - self._dropped_at >= _AGAIN:
            return None
        return _prunes([_MARK])

    def on_log_back(self) -> None:
        """Note that journaling has ended: lost marks are no problem now."""
        self._pruned = {p: at for p, at in self._pruned.items() if _kind(p) != _MARK}

    def _note_mark(self, *, kept: bool) -> None:
        self.keeps_mark = kept
        self._dropped_at = None if kept else self._monotonic()

    def mark_is_kept(self, stored: NotificationRequest, name: str) -> bool:
        """Note the answer to a write that has set a mark; returns whether the mark is in it."""
        self._note_mark(kept=stored.status.journal == name)
        if not self.keeps_mark:
            self._pruned[_MARK] = self._monotonic()
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
        before = self._compared_at
        if self._pruned or before is None or self._monotonic() - before >= _AGAIN:
            self._compare(stored, patch)
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

    def _compare(self, answer: NotificationRequest, patch: Json) -> list[str]:
        """Note which members of a write its answer lacks, and which it has again; returns the former."""
        now = self._compared_at = self._monotonic()
        lost = pruned(patch, answer.document().get("status") or {})
        # Which members a status has differs from object to object: only another kind is news.
        known = self._dropped()
        news = set(map(_kind, lost)) - set(map(_kind, known))
        unproven = {path: at for path, at in known.items() if not has_member(patch, path)}
        self._pruned = unproven | dict.fromkeys(lost, now)
        if _ID in news:
            logger.error("no status is written: %s", self.problem)
        elif news:
            logger.warning("%s", self.problem)
        return lost

    def _check_complete(self, stored: NotificationRequest, patch: Json) -> None:
        written = {
            attempt["id"] for attempt in patch.get("deliveryAttempts") or () if "id" in attempt
        }
        if not stored.status.nameless and written - {a.id for a in stored.status.attempts}:
            self._distrust(_LOST)
            raise Unavailable("the API server stores a status without all of its attempts")

    def _distrust(self, problem: str) -> None:
        self.verified = False
        if self._distrusted != problem:
            logger.error("a status is not trusted: %s", problem)
        self._distrusted = problem

    def on_read(self, current: NotificationRequest) -> None:
        """Note an object that was read: once its attempts have ids, none are dropped."""
        if current.status.attempts and not current.status.nameless:
            self._distrusted = None
