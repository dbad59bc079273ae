"""
Status writes that the API server refuses: what is logged, and how often they are tried.

The schema, its rules or an admission policy may refuse one object: that is logged once for each reason,
as for any write that fails, and the object's own back-off does the rest. A missing permission, the verb
`record` among them, concerns every object of a namespace. Until it is granted again, one write every few
seconds tests it; the others of the namespace wait without a request, and go at once when one was
accepted. Few writes need the verb `correct`: those refused for lack of it make the process unready, and
no other waits for them.

`MissingPermissions` has what is missing, by namespace: logged once, retried, shown by readiness. A call
that is refused for lack of a permission, or of valid credentials, is refused for every object of its
namespace. So an operator needs one line for the namespace, not one for each object and try.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from syncer.model.errors import NOT_CORRECTED, OF_ONE_OBJECT, Rejected, Unauthorised
from syncer.sync.cache import Cache
from syncer.sync.notification import Notification

#: Seconds between tries whether a permission is back.
_PROBE: Final = 5.0


class MissingPermissions:
    """Namespaces in which one kind of call is refused."""

    def __init__(self, cache: Cache, refused: str, waiting: Callable[[Notification], bool]) -> None:
        """
        Nothing is refused yet.

        Args:
            cache: Has the notifications, and the clock.
            refused: The kind of call, as in "status writes".
            waiting: Whether a notification waits for such a call; a namespace without one misses nothing.
        """
        self._cache = cache
        self._refused = refused
        self._waiting = waiting
        #: What the API server says, and the second at which it is asked again, by namespace.
        self._missing: dict[str, tuple[str, float]] = {}

    @property
    def problem(self) -> str | None:
        """What is refused where, and what the API server says of it; None if nothing is."""
        if self._missing:
            live = {e.request.namespace for e in self._cache.entries.values() if self._waiting(e)}
            self._missing = {n: m for n, m in self._missing.items() if n in live}
        for namespace, (error, _) in self._missing.items():
            more = len(self._missing) - 1
            others = f" and {more} more" if more else ""
            return f"{self._refused} are refused in namespace {namespace}{others} ({error})"
        return None

    def waits(self, namespace: str) -> bool:
        """Whether a call would be refused like the last one; now and then the answer is no, to find out."""
        missing = self._missing.get(namespace)
        if missing is None:
            return False
        (error, until), now = missing, self._cache.monotonic()
        if now < until:
            return True
        self._missing[namespace] = error, now + _PROBE
        return False

    def withheld(self, namespace: str, error: Exception) -> bool:
        """Note a refusal; returns whether a permission is missing, or only one object is refused."""
        if not isinstance(error, Unauthorised) or error.reason in OF_ONE_OBJECT:
            return False
        if namespace not in self._missing:
            self._missing[namespace] = str(error), self._cache.monotonic() + _PROBE
            logger.error(
                "a permission is missing in a namespace; calls that need it are tried again",
                extra={"namespace": namespace, "refused": self._refused, "error": str(error)},
            )
        return True

    def granted(self, namespace: str) -> bool:
        """Note a call that was not refused; returns whether the last one was."""
        if self._missing.pop(namespace, None) is None:
            return False
        logger.warning(
            "a missing permission is back",
            extra={"namespace": namespace, "refused": self._refused},
        )
        return True


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

    def refused(self, notification: Notification, error: Rejected) -> None:
        """Note a refusal, and log it if it is new."""
        if self.withheld(notification.request.namespace, error):
            return
        if error.reason == NOT_CORRECTED:
            self._uncorrected[notification.uid] = str(error)
        if notification.publication.refuse(str(error)):
            logger.error(
                "the API server refuses a status; the record stays in the log",
                extra={
                    "uid": notification.uid, "object": notification.request.key,
                    "reason": error.reason, "error": str(error),
                },
            )  # fmt: skip

    def accepted(self, notification: Notification) -> None:
        """Note an accepted write; if none was accepted before, the others go at once."""
        notification.publication.refuse("")
        self._uncorrected.pop(notification.uid, None)
        if self.granted(notification.request.namespace):
            self._cache.retry_writes(notification.request.namespace)
