"""
The end of the process, within its grace period.

No new work begins; attempts under way end and are recorded; statuses are written; Leases are released.

Each step has its share of the grace period: all the seconds that it may need, or, if the period is shorter
than all of them together, the same part of each. Sends that have not ended by then are given up, and are on
record as unknown. What cannot be recorded in time stays open in the log, where the next owner finds it.
"""

from __future__ import annotations

import asyncio
import logging
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
    share = share_of(parts.loaded.environment.grace_period, sending)
    unrecorded = await parts.controller.drain(
        sending=sending * share, recording=DRAIN_RECORD * share
    )
    unsynced = await parts.status_writer.drain(parts.monotonic() + DRAIN_SYNC * share)
    unaudited, _ = await asyncio.gather(
        _drain_audit(parts, DRAIN_AUDIT * share), parts.events.drain(DRAIN_EVENTS * share)
    )
    released = await parts.manager.release(timeout=RELEASE * share)
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


def share_of(grace: float | None, sending: float) -> float:
    """Which part of its seconds each step has, if sends may take so many; at most all of them."""
    if grace is None:
        return 1.0
    needed = sending + DRAIN_RECORD + DRAIN_SYNC + DRAIN_AUDIT + 2 * RELEASE
    return min(1.0, (grace - EXIT) / needed)


async def _drain_audit(parts: Parts, seconds: float) -> int:
    return await parts.audit.feed.drain(seconds) if parts.audit else 0
