"""
Upstream's metrics, with true values, and a few of our own about delivery.

Names and labels are the replaced controller's, because dashboards and alerts use them. The values
count what really happened. The `channel` label carries receiver-qualified names (`slack:ops`) and is
bounded by the routing file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from syncer.rules.channel_state import State

UPSTREAM: Final = "kubernaut_notification"
_LATENCY: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 24 * 3600)
_ENDS: Final = ("Sent", "PartiallySent", "Failed", State.SUPERSEDED.value)


class DeliveryMetrics:
    """Every series of the notifier, on one registry."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        events_dropped: Callable[[], int] = lambda: 0,
        egress_denied: Callable[[], int] = lambda: 0,
        foreign_objects: Callable[[], int] = lambda: 0,
    ) -> None:
        """
        Create the series.

        Args:
            registry: Where they are kept.
            events_dropped: Number of Events that were not written, counted by the event recorder.
            egress_denied: Number of addresses that were not dialled, counted by the egress guard.
            foreign_objects: Number of other replicas' objects received, counted by the reflector.
        """
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.active = gauge(
            f"{UPSTREAM}_reconciler_active",
            "Notifications of this replica's shards by phase, including finished ones while their "
            "objects exist.",
            ("phase",),
        )
        self.attempts = counter(
            f"{UPSTREAM}_delivery_attempts",
            "Calls to receivers, by result; an unknown result counts as failed.",
            ("channel", "status"),
        )
        self.journaled_attempts = counter(
            "notification_ledger_journaled_attempts",
            "Attempts recorded in the status before the send while Redis was away, by the reason "
            "why that was safe.",
            ("basis",),
        )
        self.duration = histogram(
            f"{UPSTREAM}_delivery_duration_seconds",
            "Duration of one call to a receiver.",
            ("channel",),
        )
        self.retries = counter(
            f"{UPSTREAM}_delivery_retries",
            "Repeated calls for a notification and channel, by the class of the failure before.",
            ("channel", "reason"),
        )
        self.breaker = gauge(
            f"{UPSTREAM}_channel_circuit_breaker_state",
            "Circuit breaker of a receiver: 0 closed, 1 half-open, 2 open.",
            ("channel",),
        )
        self.breaker_openings = counter(
            "notification_ledger_breaker_openings",
            "Times that a receiver's circuit breaker opened, including after a failed probe.",
            ("channel",),
        )
        self.postponed = counter(
            "notification_ledger_postponed",
            "Due attempts that waited because their receiver's circuit breaker was open.",
            ("channel",),
        )
        self.uncertain = counter(
            "notification_ledger_uncertain",
            "Attempts made by this process whose result is unknown.",
        )
        self.completion = histogram(
            "notification_ledger_completion_seconds",
            "Time from the creation of a notification to the end of its last attempt, observed "
            "when the final phase is written. Superseded is the phase of one that failed for no "
            "other reason.",
            ("phase",),
            buckets=_LATENCY,
        )
        for phase in _ENDS:
            self.completion.labels(phase)
        self.oldest_due = gauge(
            "notification_ledger_oldest_due_seconds",
            "Time for which the oldest due attempt has been waiting, 0 if none is due. Attempts "
            "that wait for Redis count, attempts held back on purpose do not.",
        )
        self.routing_stale = gauge(
            "notification_ledger_routing_stale",
            "1 while the routing in force is not that of the files, because these cannot be used.",
        )
        self.routing_doubts = gauge(
            "notification_ledger_routing_doubtful_keys",
            "Keys of the routing file in force that look like typos: nothing reads them, or no "
            "notification has an attribute of that name.",
        )
        for count in (
            _Count(
                "notification_ledger_events_dropped",
                "Kubernetes Events that were not written: they were refused, the queue was full, or "
                "the process ended.",
                events_dropped,
            ),
            _Count(
                "notification_ledger_egress_denied",
                "Connections refused because the address is not allowed.",
                egress_denied,
            ),
            _Count(
                "notification_ledger_foreign_objects",
                "Notifications of other replicas that the API server sent in lists and watches, "
                "and that were skipped.",
                foreign_objects,
            ),
        ):
            registry.register(count)
        self.build = gauge(
            "notification_ledger_build_info", "Always 1; the label is the version.", ("version",)
        )
        self.running = gauge("notification_ledger_running_attempts", "Attempts under way.")
        self.queue_depth = gauge(
            "notification_ledger_queue_depth", "Notifications waiting for a worker."
        )
        self.delayed = gauge("notification_ledger_delayed", "Notifications waiting for a due time.")


class _Count(Collector):
    """A counter that another part keeps and `read` returns."""

    def __init__(self, name: str, text: str, read: Callable[[], int]) -> None:
        self._read = read
        self._family = name, text

    def collect(self) -> Iterable[CounterMetricFamily]:  # noqa: V105 (the registry calls it)
        yield CounterMetricFamily(*self._family, value=self._read())
