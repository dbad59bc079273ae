"""
One write of a status, and what each answer of the API server means.

What to write is decided elsewhere; here a patch goes out once, on the resourceVersion that is known, with
the checks of the schema around it. Which answer leads to which further step is the status writer's.
"""

from __future__ import annotations

import logging
from enum import StrEnum

from syncer.metrics import SyncMetrics
from syncer.model.errors import Ambiguous, Conflict, Gone, Rejected, Unauthorised, Unavailable
from syncer.model.ports import ObjectClient
from syncer.model.resource import TERMINAL_PHASES, Json, NotificationRequest
from syncer.runtime.failpoints import Failpoint, failpoint
from syncer.sync.cache import Entry
from syncer.sync.schema_check import SchemaCheck

logger = logging.getLogger("ledger.sync")


class Flushed(StrEnum):
    """The result of one flush of an entry."""

    WRITTEN = "written"
    EQUAL = "equal"
    CONFLICT = "conflict"
    UNCLEAR = "unclear"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    GONE = "gone"
    NOT_OURS = "not ours"


class StatusPatch:
    """
    Sends patches of statuses.

    Attributes:
        problem: Why the API server refuses every status write, None while it is not known to.
    """

    def __init__(self, objects: ObjectClient, metrics: SyncMetrics, schema: SchemaCheck) -> None:
        """
        Args:
            objects: Client of the objects.
            metrics: Count writes by their results.
            schema: Looks whether the definition keeps what is written.
        """  # noqa: D205 - the class says what it is
        self.problem: str | None = None
        self._objects = objects
        self._metrics = metrics
        self._schema = schema
        self._written = metrics.patches.labels("written")

    async def write(self, entry: Entry, patch: Json) -> tuple[Flushed, NotificationRequest | None]:
        """
        Write once, on the resourceVersion that is known.

        Returns:
            The result; beside WRITTEN the object as it is stored, beside REFUSED the object that was
            written to, or None if its status is too large.

        Raises:
            PortError: the server is unavailable, or its schema takes members of the status away.
        """
        request, ending = entry.request, entry.ending
        failpoint(Failpoint.BEFORE_PATCH)
        if patch.get("phase") in TERMINAL_PHASES:
            entry.ending = request.resource_version
        try:
            if "deliveryAttempts" in patch:
                await self._schema.before_write(request, patch)
            stored = await self._objects.patch(
                request.namespace, request.name, patch, resource_version=request.resource_version
            )
        except Conflict:
            self._metrics.patches.labels("conflict").inc()
            return Flushed.CONFLICT, None
        except Gone:
            self._metrics.patches.labels("gone").inc()
            return Flushed.GONE, None
        except Ambiguous:
            self._metrics.patches.labels("unclear").inc()
            # It counts as a failed try until it is read back: a hand-over does not wait for a server
            # that may not answer the read either.
            entry.failures = max(entry.failures, 1)
            return Flushed.UNCLEAR, None
        except Rejected as error:
            entry.ending = ending
            self._metrics.patches.labels("refused").inc()
            if isinstance(error, Unauthorised):
                self.problem = f"status writes are refused ({error})"
            logger.error(
                "the API server refuses a status; the record stays in the log",
                extra={
                    "uid": entry.uid, "object": request.key,
                    "reason": error.reason, "error": str(error),
                },
            )  # fmt: skip
            return Flushed.REFUSED, None if error.reason == "TooLarge" else request
        except Unavailable:
            entry.ending = ending
            self._metrics.patches.labels("unavailable").inc()
            raise
        self.problem = None
        if "deliveryAttempts" in patch:
            await self._schema.after_write(stored)
        failpoint(Failpoint.AFTER_PATCH)
        self._written.inc()
        return Flushed.WRITTEN, stored
