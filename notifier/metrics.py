"""
Upstream's metrics, with true values, and a few of our own about delivery.

Names and labels are the replaced controller's, because dashboards and alerts name them; what they
count is what happened. The `channel` label carries receiver-qualified names (`slack:ops`) and is
bounded by the routing file.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

UPSTREAM: Final = "kubernaut_notification"


class DeliveryMetrics:
    """Every series of the notifier, on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Create the series."""
        self.active = Gauge(
            f"{UPSTREAM}_reconciler_active",
            "Notifications by phase, finished ones included while they exist.",
            ("phase",),
            registry=registry,
        )
        self.attempts = Counter(
            f"{UPSTREAM}_delivery_attempts",
            "Calls made, by result; an unknown result counts as failed.",
            ("channel", "status"),
            registry=registry,
        )
        self.duration = Histogram(
            f"{UPSTREAM}_delivery_duration_seconds",
            "Time of one call.",
            ("channel",),
            registry=registry,
        )
        self.retries = Counter(
            f"{UPSTREAM}_delivery_retries",
            "Calls that were not the first of their notification on a channel, by the class of the"
            " failure before.",
            ("channel", "reason"),
            registry=registry,
        )
        self.breaker = Gauge(
            f"{UPSTREAM}_channel_circuit_breaker_state",
            "Circuit breaker of a receiver: 0 closed, 1 half-open, 2 open.",
            ("channel",),
            registry=registry,
        )
        self.breaker_openings = Counter(
            "notification_ledger_breaker_openings",
            "Times that a receiver's circuit breaker opened, by a failed probe included.",
            ("channel",),
            registry=registry,
        )
        self.postponed = Counter(
            "notification_ledger_postponed",
            "Due attempts that were postponed because their receiver's circuit breaker was open.",
            ("channel",),
            registry=registry,
        )
        self.uncertain = Counter(
            "notification_ledger_uncertain", "Attempts whose result is unknown.", registry=registry
        )
        self.fenced_notifications = Counter(
            "notification_ledger_fenced_notifications",
            "Looks at a notification whose log belongs to a later epoch.",
            registry=registry,
        )
        self.running = Gauge(
            "notification_ledger_running_attempts", "Attempts that run now.", registry=registry
        )
        self.queue_depth = Gauge(
            "notification_ledger_queue_depth", "Notifications waiting for a worker.",
            registry=registry,
        )  # fmt: skip
        self.delayed = Gauge(
            "notification_ledger_delayed", "Notifications waiting for a due time.",
            registry=registry,
        )  # fmt: skip
