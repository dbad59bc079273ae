"""
The resync: a walk over every live entry, again and again, that has looked at whatever needs it.

It is what "nothing due stays unlooked-at" rests on; everything else that asks for a look (watches,
wake-ups, timers, the end of an attempt) is only quicker. The rule is `syncer.rules.resync`; this module
walks, asks for looks, and measures.

No I/O is done, and a walk is cut into slices, so that it holds up the event loop for about a millisecond
at a time however much is live. While Redis does not answer nothing is asked for: nothing could be
decided, and the work queue goes on to try with its growing wait.

A look that was asked for and has come to no decision by the next round is *missing*: what is due waits
although its time has come. How many there are, and for how long, is what the metrics tell. The age is as
of the scrape and counts from the last round, so a resync that stands still shows as well.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable
from typing import Final

from syncer.metrics import SyncMetrics
from syncer.model.ports import LeaseTerm, Ownership
from syncer.rules.resync import Bounds, Reason, reason_of
from syncer.sync.cache import Entry
from syncer.sync.recorder import Recorder

logger = logging.getLogger("ledger.resync")

#: Entries between two turns of the event loop: about a millisecond.
SLICE: Final = 400


class Resync:
    """Has every live entry of ours looked at when it needs it."""

    def __init__(
        self,
        recorder: Recorder,
        ownership: Ownership,
        metrics: SyncMetrics,
        *,
        bounds: Bounds,
        blocked: Callable[[Entry], object],
        waits: Callable[[str, str], bool],
        look_at: Callable[[str], None],
    ) -> None:
        """
        Args:
            recorder: Of the logs; its cache is what is walked.
            ownership: Tells what is ours.
            metrics: Are set.
            bounds: How often.
            blocked: Whether something that is known and said elsewhere keeps an entry from being claimed.
            waits: Whether a per-receiver queue holds a channel of a notification.
            look_at: Has a notification looked at soon.
        """  # noqa: D205 - the class says what it is
        self.recorder = recorder
        self.cache = recorder.cache
        self.ownership = ownership
        self.metrics = metrics
        self.bounds = bounds
        self._blocked = blocked
        self._waits = waits
        self._look_at = look_at
        self._rounded = self.cache.monotonic()
        #: Boot-clock second at which Redis was found away last: that is no time without a look.
        self._away = 0.0
        self._oldest = 0.0
        metrics.unlooked_seconds.set_function(self.unlooked)

    def unlooked(self) -> float:
        """Longest time in seconds for which something may have needed a look and not had one."""
        return self._oldest + self.cache.monotonic() - self._rounded

    async def round(self) -> None:
        """Walk once over all that is live."""
        if not self.recorder.log.available:
            self._away = self.cache.monotonic()
            self._end(0, 0.0)
            return
        missing, oldest = 0, 0.0
        leisurely: list[tuple[float, str]] = []
        entries = list(self.cache.entries.values())
        for start in range(0, len(entries), SLICE):
            now = self.cache.monotonic()
            for entry in entries[start : start + SLICE]:
                self._have_published(entry)
                reason = self._reason(entry, now)
                if reason is None or self.cache.entries.get(entry.uid) is not entry:
                    entry.asked = 0.0
                elif reason.leisurely:
                    entry.asked = 0.0
                    leisurely.append((entry.look.at if entry.look else 0.0, entry.uid))
                else:
                    entry.asked = max(entry.asked, self._away) if entry.asked else now
                    missing += entry.asked < now
                    oldest = max(oldest, now - entry.asked)
                    self._look_at(entry.uid)
            await asyncio.sleep(0)
        for _, uid in heapq.nsmallest(self.bounds.leisurely, leisurely):
            self._look_at(uid)
        self._end(missing, oldest)

    def _end(self, missing: int, oldest: float) -> None:
        if missing and not self._oldest:
            logger.warning(
                "notifications need a look and get none",
                extra={"notifications": missing, "seconds": round(oldest, 1)},
            )
        self._oldest, self._rounded = oldest, self.cache.monotonic()
        self.metrics.unlooked.set(missing)

    def _reason(self, entry: Entry, now: float) -> Reason | None:
        term = self.ownership.term_of(entry.uid)
        if term is None:
            # Not ours any more: what is over is dropped, as soon as no task works on it. What only this
            # process knows is told until the log takes it.
            over = entry.deleted or entry.request.status.terminal or entry.unrecorded
            return Reason.STALE if over and not entry.busy else None
        if not self.ownership.accepts(entry.uid):
            return None
        look, executing = entry.look, entry.executing
        idle = look is not None and any(
            c not in executing.values() and not self._waits(entry.uid, c) for c in look.channels
        )
        if entry.deleted and executing:
            # Its end brings the next look, and so it is said.
            return None
        return reason_of(
            look,
            deleted=entry.deleted,
            blocked=bool(self._blocked(entry)),
            claimed=self._claimed(entry, term),
            unread=entry.reread or any(a not in executing for a in entry.view.opened),
            version=entry.request.resource_version,
            # While an attempt runs the log grows by its own records; its end brings a look.
            position=look.position if look and executing else entry.view.position,
            idle=idle,
            now=now,
            bounds=self.bounds,
        )

    def _claimed(self, entry: Entry, term: LeaseTerm) -> bool:
        claim = entry.claim
        return (
            claim is not None
            and claim.epoch == term.epoch
            and claim.generation == self.recorder.log.generation
        )

    def _have_published(self, entry: Entry) -> None:
        if entry.unscheduled:
            self.cache.mark_dirty(entry)
