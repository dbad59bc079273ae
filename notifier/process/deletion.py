"""
Whether finished notifications may be deleted: not where Kubernaut would call each a cancellation.

Kubernaut's webhook records every deletion of a notification as a cancellation by whoever deletes, and its
orchestrator then calls the notification cancelled. The webhook itself cannot be seen without a right
that neither chart gives. Discovery is open to every account, and Kubernaut is installed wherever the group
serves its other kinds. It is asked before each round, since Kubernaut may be installed later.
"""

from __future__ import annotations

import logging
from typing import Final

from notifier.app import Parts
from syncer.model.errors import PortError
from syncer.model.resource import GROUP, VERSION

logger = logging.getLogger("ledger.retention")

#: What the group serves, and a kind of it that Kubernaut brings.
SERVED: Final = f"/apis/{GROUP}/{VERSION}"
OTHER: Final = "remediationrequests"
REFUSED: Final = (
    "retention.deleteObjects deletes nothing: Kubernaut is installed here, and its webhook would record"
    " each deletion as a cancellation by this controller; set it to asCancelled if that is wanted, or to"
    " false"
)


class Deletion:
    """Decides before each round of deletions whether there may be one."""

    def __init__(self, parts: Parts) -> None:
        """Nothing is asked yet."""
        self._parts = parts
        #: Why nothing is deleted, None unless it is refused.
        self.problem: str | None = None

    async def allowed(self) -> bool:
        """Whether finished notifications may be deleted now; a refusal is logged once."""
        if self._parts.settings.retention.delete_objects == "asCancelled":
            return True
        try:
            served = await self._parts.outside.objects.request("GET", SERVED, timeout=5.0)
        except PortError as error:
            logger.info(
                "finished objects were not deleted; the next round tries again",
                extra={"error": str(error)},
            )
            return False
        found = any(kind.get("name") == OTHER for kind in served.get("resources") or ())
        if found and self.problem is None:
            logger.error(REFUSED)
        self.problem = REFUSED if found else None
        return not found
