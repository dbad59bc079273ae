"""
The end of the process, within its grace period.

No new work begins; attempts under way end and are recorded; statuses are written; Leases are released.

Each step has all the seconds that it may need, or, in a grace period that is shorter than all of them
together, its share of what is left. Sends that have not ended by then are given up, and are on record as
unknown. What cannot be recorded in time stays open in the log, where the next owner finds it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Final

from notifier.app import Parts

logger = logging.getLogger("ledger")

#: Seconds beyond the longest send for attempts under way.
DRAIN_SENDS: Final = 2.0
#: Seconds for recording, publishing and releasing, after the sends have ended.
DRAIN_RECORD: Final = 5.0
DRAIN_SYNC: Final = 8.0
#: Events and audit have theirs side by side.
DRAIN_EVENTS: Final = 2.0
DRAIN_AUDIT: Final = 3.0
#: The Leases take it twice at most.
RELEASE: Final = 2.0
#: Seconds for the end of the process itself.
EXIT: Final = 2.0


class Stopped(Exception):
    """The process was asked to end and has drained."""


async def drain(parts: Parts) -> None:
    """
    Wait for a signal, or for a reason to leave without one; bring all work to an end, and leave.

    Raises:
        Stopped: always, after the drain.
    """
    await parts.outside.stop.requested.wait()
    parts.progress.draining = True
    logger.info("draining")
    sending = parts.settings.delivery.largest_timeout + DRAIN_SENDS
    budget = Budget(parts.monotonic, parts.loaded.environment.grace_period, sending)
    unrecorded = await parts.controller.drain(
        sending=budget.of(sending), recording=budget.of(DRAIN_RECORD)
    )
    unsynced = await parts.status_writer.drain(parts.monotonic() + budget.of(DRAIN_SYNC))
    shared = budget.of(DRAIN_AUDIT)
    unaudited, _ = await asyncio.gather(
        _drain_audit(parts, shared), parts.events.drain(min(DRAIN_EVENTS, shared))
    )
    released = await parts.manager.release(timeout=budget.of(2 * RELEASE) / 2)
    logger.info(
        "drained",
        extra={
            "unrecorded": unrecorded,
            "unsynced": unsynced,
            "unaudited": unaudited,
            "released": released,
        },
    )
    raise Stopped


class Budget:
    """The seconds of the steps; what one leaves of a short grace period, the later ones share."""

    def __init__(self, monotonic: Callable[[], float], grace: float | None, sending: float) -> None:
        """The period begins now; sends may take so many seconds of it."""
        self._monotonic = monotonic
        self._until = math.inf if grace is None else monotonic() + grace - EXIT
        self._needed = sending + DRAIN_RECORD + DRAIN_SYNC + DRAIN_AUDIT + 2 * RELEASE

    def of(self, seconds: float) -> float:
        """Return the part that a step has of the seconds that it may need; the steps in their order."""
        share = (self._until - self._monotonic()) / self._needed
        self._needed -= seconds
        return seconds * max(0.0, min(1.0, share))


async def _drain_audit(parts: Parts, seconds: float) -> int:
    return await parts.audit.feed.drain(seconds) if parts.audit else 0
