"""
The scrubber: checks every live notification of this replica again, slowly and without end.

Each check reads the log, then the object, folds again, and compares by the rules of
`syncer.rules.divergence`. Divergence caused by a loss or by another client is left to the ordinary rules
(claim again, write again). What the rules exclude stops the sends of that one object and is shown in its
condition `Quarantined` (reason `SelfAudit`), until a later check passes. The process continues:
a fault of one object is never a fault of all.

Only objects at rest can be compared: one that is being worked on, or that changed between the
two reads, is skipped and comes again in the next round. The pace is limited, so that checking never
competes with delivery.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from syncer.ledger.answers import Snapshot
from syncer.model.errors import ContractError, PortError
from syncer.rules.advice import ADVICE
from syncer.rules.divergence import Divergence, examine
from syncer.sync.notification import Notification
from syncer.sync.status_writer import StatusWriter

logger = logging.getLogger("ledger.scrub")

#: Seconds without a check while Redis does not answer.
_AWAY: Final = 1.0


class Result(StrEnum):
    """The result of one check; labels of a metric."""

    AGREES = "agrees"
    DIVERGES = "diverges"
    #: It moved, or was being worked on.
    PASSED = "passed"
    UNANSWERED = "unanswered"


@dataclass(eq=False)
class Scrubber:
    """Checks live notifications again and again."""

    #: Knows what it would write.
    sync: StatusWriter
    #: Checks per second at most.
    rate: float

    def __post_init__(self) -> None:
        """Show the time since the last round, or the start."""
        self.recorder, self.cache = self.sync.recorder, self.sync.cache
        self.ownership, self.metrics = self.sync.ownership, self.sync.metrics
        self._ended = self.cache.monotonic()
        self.metrics.scrub_age.set_function(lambda: max(0.0, self.cache.monotonic() - self._ended))

    async def round(self) -> None:
        """Check once everything that is ours now."""
        uids = [u for u in self.cache.entries if self.ownership.term_of(u) is not None]
        self.metrics.scrub_coverage.set(0.0 if uids else 1.0)
        for n, uid in enumerate(uids, 1):
            while not self.recorder.log.available:
                await asyncio.sleep(_AWAY)
            notification = self.cache.entries.get(uid)
            if notification is not None:
                result = await self.check(notification)
                self.metrics.scrub_looks.labels(result.value).inc()
                await asyncio.sleep(1.0 / self.rate)
            self.metrics.scrub_coverage.set(n / len(uids))
        self._ended = self.cache.monotonic()

    async def check(self, notification: Notification) -> Result:
        """Check one notification, and act upon what is found; never raises for an answer."""
        term = self.ownership.term_of(notification.uid)
        before = self._state(notification)
        if term is None or before is None:
            return Result.PASSED
        try:
            snapshot = await self.recorder.log.read(notification.uid)
        except ContractError as error:
            if self._state(notification) != before:
                return Result.PASSED
            self.recorder.put_in_quarantine(notification, str(error))
            return self._found(notification, (Divergence.UNREADABLE,), None)
        except (PortError, TimeoutError):
            return Result.UNANSWERED
        current, request = None, notification.request
        with contextlib.suppress(PortError, ContractError, TimeoutError):
            current = await self.sync.objects.get(request.namespace, request.name)
        other = current is not None and (current.uid != notification.uid or current.deleting)
        if other or self._state(notification) != before:
            return Result.PASSED
        quiet = not notification.publication.pending
        pending, states = self.sync.weigh(notification, current, term) if current else (False, ())
        found = examine(
            view=notification.view,
            records=snapshot.records if snapshot else (),
            acked=snapshot.header.acked if snapshot else 0,
            status=current.status if current else None,
            spec_hash=current.content_hash() if current else "",
            quiet=quiet,
            pending=quiet and pending,
            # One that was requested again may have attempts left after its end.
            states=() if notification.view.opened or notification.view.ordered else states,
        )
        if current is not None and found:
            shown = notification.request.status
            notification.take(current, since=notification.request.resource_version)
            self.recorder.compare(notification, shown)
        return self._found(notification, found, snapshot)

    def _state(self, notification: Notification) -> tuple[object, ...] | None:
        """What must be the same before and after the reads; None if it is not at rest."""
        moving = (
            self.cache.entries.get(notification.uid) is not notification
            or notification.claim is None
            or notification.busy
            or notification.deleted
            or notification.quarantine
            or notification.reread
        )
        if moving:
            return None
        return (
            notification.claim,
            notification.view.position,
            notification.view.chain,
            notification.acked,
            notification.publication.dirty_since,
            notification.request.resource_version,
        )

    def _found(
        self, notification: Notification, found: tuple[Divergence, ...], snapshot: Snapshot | None
    ) -> Result:
        for divergence in found:
            self.metrics.divergences.labels(divergence.value).inc()
            # In quarantine nothing is sent, whatever the class alone would allow.
            sends = "stopped" if divergence.stops or notification.quarantine else "go on"
            position = notification.view.position
            report(
                notification.uid,
                notification.request.key,
                divergence,
                position=position,
                sends=sends,
            )
        longer = snapshot is not None and len(snapshot.records) > notification.view.position
        if snapshot is not None and (longer or Divergence.MEMORY in found):
            # The memory is disposable, the log is not; and what others appended is news.
            self.recorder.adopt(notification, snapshot)
        violation = "; ".join(d.message for d in found if d.stops)
        changed = violation != notification.violation
        if changed and not violation:
            logger.warning(
                "the self-audit finds no divergence any more; sending continues",
                extra={"uid": notification.uid, "object": notification.request.key},
            )
        notification.object_to(violation)
        if Divergence.HISTORY in found or Divergence.LOG_BEHIND in found:
            self.recorder.lose_claim(notification, "scrub")
        if longer or changed or (found and Divergence.UNREADABLE not in found):
            self.cache.mark_dirty(notification, urgent=bool(violation))
            self.cache.check(notification.uid)
        return Result.DIVERGES if found else Result.AGREES


def report(uid: str, key: str, divergence: Divergence, **more: object) -> None:
    """Log what was found, who can have caused it, and what to do."""
    advice = ADVICE[divergence]
    logger.error(
        "the self-audit found a divergence",
        extra={
            "uid": uid, "object": key, "class": divergence.value, "meaning": divergence.message,
            "cause": advice.cause, "do": advice.do, **more,
        },
    )  # fmt: skip
