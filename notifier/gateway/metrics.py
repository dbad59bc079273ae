"""The gateway's metrics. Sources are those of its file; no label contains text from a request."""

from __future__ import annotations

from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_PREFIX: Final = "notification_ledger_gateway"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class GatewayMetrics:
    """Every series of the gateway, on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Create the series."""
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        self.requests = counter(
            f"{_PREFIX}_requests",
            "Requests by source and HTTP status of the answer; unknown sources count as none.",
            ("source", "code"),
        )
        self.notifications = counter(
            f"{_PREFIX}_notifications",
            "Events by result: created, duplicate (a retry, or the same event from a peer), "
            "thinned (a repeat within the window), digested (part of a digest), taken (an object "
            "that does not name the event has its name).",
            ("source", "result"),
        )
        self.over_rate = counter(
            f"{_PREFIX}_over_rate",
            "Events above their source's rate: part of a digest, or refused for now.",
            ("source", "result"),
        )
        self.seconds = Histogram(
            f"{_PREFIX}_request_seconds",
            "Time from the headers of a request to its answer, including waiting for the API "
            "server.",
            ("source",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.last = gauge(
            f"{_PREFIX}_last_request_timestamp_seconds",
            "When a source last sent something that became or repeated a notification; 0 if it never did.",
            ("source",),
        )
        self.expected = gauge(
            f"{_PREFIX}_expected_seconds",
            "Interval within which a source is expected to send (`expectEvery`).",
            ("source",),
        )
        self.unheard = gauge(
            f"{_PREFIX}_unheard_seconds",
            "Time for which a replica has seen no request of a source that is expected to send, "
            "on itself or another replica; counted from its start.",
            ("source",),
        )
        self.in_flight = gauge(
            f"{_PREFIX}_requests_in_flight", "Requests that wait for the API server."
        )
