"""
Gauges, set from the state of the parts right before each scrape.

No part keeps a gauge up to date while it works: a scrape reads the values from the parts. Reading a
thousand notifications takes milliseconds, so other tasks run in between.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from notifier.app import Parts
from syncer.kube.lease_term import LeaseTerm
from syncer.metrics import HoldReason
from syncer.rules.journal import INCOMPLETE, Basis
from syncer.rules.status_policy import State
from syncer.runtime.slices import slices

#: Phases of a notification; a gauge each.
_PHASES: Final = ("Pending", "Sending", "Retrying", "Sent", "PartiallySent", "Failed")
#: Finished notifications that are counted without a pause: each takes little time.
_FINISHED: Final = 20_000


async def refresh(parts: Parts) -> float:
    """Set all gauges; returns the seconds for which that blocked the event loop."""
    metrics, delivery, shards = parts.metrics, parts.delivery_metrics, parts.shards
    walks = await _of_notifications(parts)
    now = parts.monotonic()
    metrics.live.set(len(parts.cache.entries))
    metrics.finished.set(len(parts.cache.finished))
    metrics.dirty_oldest.set(parts.cache.oldest_dirty())
    metrics.holds.set(parts.controller.placed.in_force())
    metrics.journaling.set(parts.journal.active)
    metrics.loop_stall.set(parts.outside.watch.longest())
    # The servers.
    available = parts.client.unavailable_reason is None and parts.progress.redis is None
    metrics.log_available.set(available)
    metrics.clock_offset.set(parts.clocks.worst or 0.0)
    for state in State:
        metrics.status_policy.labels(state).set(parts.status_policy.found.state is state)
    # The shards.
    metrics.shards.set(shards.sharding.shards)
    metrics.shards_owned.set(len(shards.owned))
    metrics.sessions.set(parts.manager.sessions)
    left = [term.left(now) for term in shards.owned.values() if isinstance(term, LeaseTerm)]
    metrics.lease_margin.set(min(left, default=0.0))
    # Routing, receivers and queues.
    delivery.routing_stale.set(parts.outside.router.problem is not None)
    delivery.routing_doubts.set(parts.outside.router.doubts)
    for channel, breaker in parts.breakers.states(now).items():
        delivery.breaker.labels(channel).set(breaker)
    delivery.queue_depth.set(len(parts.queue))
    delivery.delayed.set(parts.queue.delayed)
    delivery.running.set(parts.controller.dispatcher.running)
    if parts.audit is not None:
        parts.audit.refresh()
    return walks + parts.monotonic() - now


async def _of_notifications(parts: Parts) -> float:
    metrics, holds = parts.metrics, parts.controller.holds
    phases, held, waiting = Counter[str](), Counter[str](), Counter[Basis]()
    oldest = critical = undelivered = took = 0.0
    # Both copied at one moment: a notification that ends during the walk moves from one to the other.
    live, ended = list(parts.cache.entries.values()), list(parts.cache.finished.values())
    async for entries in slices(live):
        began = parts.monotonic()
        phases.update(e.status.phase or "Pending" for e in entries)
        held.update(holds.by_reason(entries))
        waiting.update(e.outage.missing for e in entries if e.outage.missing is not None)
        critical = max(critical, holds.critical_seconds(entries))
        undelivered = max(undelivered, holds.undelivered_critical(entries))
        oldest = max(oldest, parts.controller.overdue.oldest(entries))
        took += parts.monotonic() - began
    async for finished in slices(ended, _FINISHED):
        began = parts.monotonic()
        phases.update(f.phase for f in finished)
        took += parts.monotonic() - began
    for phase in _PHASES:
        parts.delivery_metrics.active.labels(phase).set(phases[phase])
    for reason in HoldReason:
        metrics.held.labels(reason).set(held[reason])
    metrics.quarantined.set(held[HoldReason.QUARANTINED])
    for basis in INCOMPLETE:
        metrics.not_journaled.labels(basis.value).set(waiting[basis])
    metrics.held_critical.set(critical)
    metrics.undelivered_critical.set(undelivered)
    parts.delivery_metrics.oldest_due.set(oldest)
    return took
