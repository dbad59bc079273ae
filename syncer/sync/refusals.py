"""
Status writes that the API server refuses: what is logged, and how often they are tried.

The schema, its rules or an admission policy may refuse one object: that is logged once for each reason,
as for any write that fails, and the object's own back-off does the rest. A missing permission, the verb
`record` among them, concerns every object of a namespace (`syncer.sync.permissions`). Until it is granted
again, one write every few seconds tests it; the others of the namespace wait without a request, and go at
once when one was accepted. Few writes need the verb `correct`: those refused for lack of it make the
process unready, and no other waits for them.
"""

from __future__ import annotations

import logging

from syncer.model.errors import NOT_CORRECTED, Rejected
from syncer.sync.cache import Cache
from syncer.sync.notification import Notification
from syncer.sync.permissions import MissingPermissions

logger = logging.getLogger("ledger.sync")


class Refusals(MissingPermissions):
    """The refusals that hold now: missing permissions, and those of single statuses."""

    def __init__(self, cache: Cache) -> None:
        """Nothing is refused yet."""
        super().__init__(
            cache, "status writes", lambda e: e.publication.pending or e.publication.writing
        )
        #: What was said of statuses that only who corrects may write, by uid.
        self._uncorrected: dict[str, str] = {}

    @property
    def problem(self) -> str | None:
        """Which permission is missing, and what the API server says of it; None if none is."""
        missing = super().problem
        if missing or not self._uncorrected:
            return missing
        live = self._cache.entries.keys()
        self._uncorrected = {u: e for u, e in self._uncorrected.items() if u in live}
        error = next(iter(self._uncorrected.values()), None)
        return error and f"{len(self._uncorrected)} status(es) are refused ({error})"

    def refused(self, entry: Notification, error: Rejected) -> None:
        """Note a refusal, and log it if it is new."""
        if self.withheld(entry.request.namespace, error):
            return
        if error.reason == NOT_CORRECTED:
            self._uncorrected[entry.uid] = str(error)
        if self.news(entry, error):
            logger.error(
                "the API server refuses a status; the record stays in the log",
                extra={
                    "uid": entry.uid, "object": entry.request.key,
                    "reason": error.reason, "error": str(error),
                },
            )  # fmt: skip

    def news(self, entry: Notification, error: Exception) -> bool:
        """Whether a status is not written for another reason than at the last try."""
        return entry.publication.refuse(str(error))

    def accepted(self, entry: Notification) -> None:
        """Note an accepted write; if none was accepted before, the others go at once."""
        entry.publication.refuse("")
        self._uncorrected.pop(entry.uid, None)
        if self.granted(entry.request.namespace):
            self._cache.retry_writes(entry.request.namespace)
