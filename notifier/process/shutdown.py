"""
The end of the process, within its grace period.

No new work begins; attempts under way end and are recorded; statuses are written; Leases are released.

Each step has its share of the grace period. What cannot be recorded in time stays open in the log, where
the next owner finds it.
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
    unrecorded = await parts.controller.drain(
        sending=parts.settings.delivery.largest_timeout + DRAIN_SENDS, recording=DRAIN_RECORD
    )
    unsynced = await parts.status_writer.drain(parts.monotonic() + DRAIN_SYNC)
    unaudited, _ = await asyncio.gather(_drain_audit(parts), parts.events.drain(DRAIN_EVENTS))
    released = await parts.manager.release()
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


async def _drain_audit(parts: Parts) -> int:
    return await parts.audit.feed.drain(DRAIN_AUDIT) if parts.audit else 0
