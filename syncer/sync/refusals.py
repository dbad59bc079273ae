"""
Status writes that the API server refuses: what is said of them, and how often they are tried.

One object may be refused, by the schema, its rules, or an admission policy: that is said once for each
reason, as of any write that fails, and its own back-off does the rest. A missing permission concerns every
object of a namespace (`syncer.sync.permissions`). Until it is back, one write every few seconds tries
whether it is; the others of the namespace wait without a request, and go at once when one was accepted.
"""

from __future__ import annotations

import logging

from syncer.model.errors import Rejected
from syncer.sync.cache import Cache, Entry
from syncer.sync.permissions import MissingPermissions

logger = logging.getLogger("ledger.sync")


class Refusals:
    """The refusals that hold now."""

    def __init__(self, cache: Cache) -> None:
        """Nothing is refused yet."""
        self._cache = cache
        self._permissions = MissingPermissions(
            cache, "status writes", lambda e: e.dirty_since is not None or e.writing
        )

    @property
    def problem(self) -> str | None:
        """Why no status may be written in some namespace where one waits, None if there is none."""
        return self._permissions.problem

    def waits(self, entry: Entry) -> bool:
        """Whether a write would be refused like the last one of its namespace; if not, it finds out."""
        return self._permissions.waits(entry.request.namespace)

    def refused(self, entry: Entry, error: Rejected) -> None:
        """Take note of a refusal, and log it if it is news."""
        if self._permissions.concerns(entry.request.namespace, error):
            return
        if self.news(entry, error):
            logger.error(
                "the API server refuses a status; the record stays in the log",
                extra={
                    "uid": entry.uid, "object": entry.request.key,
                    "reason": error.reason, "error": str(error),
                },
            )  # fmt: skip

    def news(self, entry: Entry, error: Exception) -> bool:
        """Whether a status is not written for another reason than at the last try."""
        known, entry.unwritten = entry.unwritten, str(error)
        return known != entry.unwritten

    def accepted(self, entry: Entry) -> None:
        """Take note of a write that was accepted; where none was before, the others go at once."""
        entry.unwritten = ""
        if self._permissions.granted(entry.request.namespace):
            self._cache.retry_writes(entry.request.namespace)
