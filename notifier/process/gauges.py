"""
Gauges, set right before each scrape from what the parts hold, and the measurement of the loop's lag.

No part keeps a gauge up to date while it works: a scrape reads the values from the parts.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from notifier.app import Parts
from syncer.kube.lease_term import LeaseTerm
from syncer.metrics import HoldReason, SyncMetrics
from syncer.rules.journal import INCOMPLETE
from syncer.runtime.clock import MonotonicClock
from syncer.runtime.stalls import LoopWatch

#: Phases of a notification; a gauge each.
_PHASES: Final = ("Pending", "Sending", "Retrying", "Sent", "PartiallySent", "Failed")
#: Seconds between measurements of the loop's lag.
_PULSE: Final = 1.0


class Gauges:
    """Sets the gauges from what the parts hold."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def refresh(self) -> None:
        """Set all of them."""
        self._of_notifications()
        self._of_servers()
        self._of_shards()
        self._of_delivery()
        self._parts.metrics.loop_stall.set(self._parts.outside.watch.longest())
        if self._parts.audit is not None:
            self._parts.audit.feed.refresh()

    def _of_notifications(self) -> None:
        parts, metrics = self._parts, self._parts.metrics
        entries, finished = parts.cache.entries, parts.cache.finished
        phases = Counter(e.request.status.phase or "Pending" for e in entries.values())
        phases.update(f.phase for f in finished.values())
        for phase in _PHASES:
            parts.delivery_metrics.active.labels(phase).set(phases.get(phase, 0))
        metrics.live.set(len(entries))
        metrics.finished.set(len(finished))
        metrics.dirty_oldest.set(parts.cache.oldest_dirty())
        held = parts.controller.holds.by_reason()
        for reason in HoldReason:
            metrics.held.labels(reason).set(held[reason])
        metrics.quarantined.set(held[HoldReason.QUARANTINED])
        metrics.holds.set(parts.controller.placed.in_force())
        metrics.held_critical.set(parts.controller.holds.critical_seconds())
        metrics.journaling.set(parts.journal.active)
        waiting = parts.controller.holds.not_journaled()
        for basis in INCOMPLETE:
            metrics.not_journaled.labels(basis.value).set(waiting[basis])

    def _of_servers(self) -> None:
        parts = self._parts
        available = parts.log.unavailable_reason is None and parts.progress.redis is None
        parts.metrics.log_available.set(available)
        parts.metrics.clock_offset.set(parts.clocks.worst or 0.0)

    def _of_shards(self) -> None:
        metrics, shards = self._parts.metrics, self._parts.shards
        owned, now = shards.owned, self._parts.monotonic()
        metrics.shards.set(shards.shards)
        metrics.shards_owned.set(len(owned))
        metrics.sessions.set(self._parts.manager.sessions)
        metrics.server_selects.set(bool(self._parts.reflector.selection.selects))
        left = [term.left(now) for term in owned.values() if isinstance(term, LeaseTerm)]
        metrics.lease_margin.set(min(left, default=0.0))

    def _of_delivery(self) -> None:
        parts, delivery = self._parts, self._parts.delivery_metrics
        delivery.routing_stale.set(parts.outside.router.problem is not None)
        delivery.routing_doubts.set(parts.outside.router.doubts)
        for channel, state in parts.breakers.states(parts.monotonic()).items():
            delivery.breaker.labels(channel).set(state)
        delivery.queue_depth.set(len(parts.queue))
        delivery.delayed.set(parts.queue.delayed)
        delivery.running.set(parts.controller.dispatcher.running)
        delivery.oldest_due.set(parts.controller.overdue.oldest())


async def pulse(watch: LoopWatch, metrics: SyncMetrics, monotonic: MonotonicClock) -> None:
    """
    Measure how late the event loop is, until cancelled.

    Args:
        watch: Notified of each lag in seconds.
        metrics: Where lags are observed.
        monotonic: Boot-time seconds.
    """
    while True:
        asked = monotonic() + _PULSE
        watch.expect(_PULSE)
        await asyncio.sleep(_PULSE)
        late = max(0.0, monotonic() - asked)
        metrics.loop_lag.observe(late)
        watch.late(late)
