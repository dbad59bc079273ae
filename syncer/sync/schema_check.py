"""
Whether the schema that the API server applies keeps what a status needs.

A server that serves an older definition drops members that it does not know, and answers 200. An
attempt that loses its id would come back as one that no log holds, and be published a second time. So the
ids are checked where they are written and where they are read: one server of several may still serve an
older definition, and any may do so again.
"""

from __future__ import annotations

import logging
from typing import Final

from syncer.kube.crd import pruned
from syncer.model.errors import PortError, Unavailable
from syncer.model.ports import ObjectClient
from syncer.model.resource import Json, NotificationRequest

logger = logging.getLogger("ledger.sync")

_DROPPED: Final = (
    "the API server drops the ids of attempts when they are read; apply the CRD of this version"
    " (notifier crd)"
)


class SchemaCheck:
    """
    The checks around each status write that holds attempts.

    Attributes:
        problem: What the served schema would drop of a status, None while nothing is known.
        verified: Writing and reading have both been seen to keep the ids of attempts.
    """

    def __init__(self, objects: ObjectClient) -> None:
        """Nothing is verified yet."""
        self._objects = objects
        self.problem: str | None = None
        self.verified = False

    async def before_write(self, request: NotificationRequest, patch: Json) -> None:
        """
        Check, until it is verified, that a write would keep the ids.

        A dry run shows that without the right to read the definition.

        Raises:
            Unavailable: the schema prunes what the merge needs; nothing was written.
        """
        if self.verified:
            return
        answer = await self._objects.patch(
            request.namespace,
            request.name,
            patch,
            resource_version=request.resource_version,
            dry_run=True,
        )
        lost = pruned(patch, answer.document().get("status") or {})
        if lost:
            self.problem = (
                f"the served CRD prunes {', '.join(lost[:8])}; apply the CRD of this version"
                " (notifier crd)"
            )
        if any(path.endswith(".id") for path in lost):
            logger.error("no status is written: %s", self.problem)
            raise Unavailable("the served CRD prunes the ids of attempts")
        if lost:
            logger.warning("%s", self.problem)
        else:
            self.problem = None

    async def after_write(self, stored: NotificationRequest) -> None:
        """
        Check that the ids come back; until that is verified, by reading the object as well.

        Raises:
            Unavailable: ids were dropped. The write may be complete, and must not be acknowledged.
        """
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
        self.verified = False
        self.problem = _DROPPED
        logger.error("a status is not believed: %s", self.problem)
        raise Unavailable("the ids of attempts are dropped when they are read")

    def on_read(self, current: NotificationRequest) -> None:
        """Take note of an object that was read: once its attempts have ids, none are dropped."""
        if self.problem == _DROPPED and current.status.attempts and not current.status.nameless:
            self.problem = None
