"""
Metrics of the audit feed: upstream's counter of lost events, and series that tell a lag from a loss.

They exist only where a feed runs, so an absent series means that nothing is audited.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from notifier.audit.events import ACTOR, EventKind

_OURS: Final = "notification_ledger_audit"


class AuditMetrics:
    """Every series of the feed, on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Create the series; those with known labels start at 0."""
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        self.dropped = counter(
            "audit_events_dropped", "Audit events dropped after a week.", ("service",)
        ).labels(ACTOR)
        self.sent = counter(
            f"{_OURS}_events_sent",
            "Audit events accepted by every sink; one that was sent again counts again.",
            ("kind",),
        )
        for kind in EventKind:
            self.sent.labels(kind.value)
        self.failures = counter(
            f"{_OURS}_write_failures", "Batches that a sink did not accept.", ("sink", "verdict")
        )
        self.lag = gauge(
            f"{_OURS}_lag_seconds",
            "Age of the oldest event that a sink has not accepted, 0 if none waits.",
        )
        self.waiting = gauge(
            f"{_OURS}_waiting_notifications",
            "Notifications with records that the feed has yet to read or hand over.",
        )
