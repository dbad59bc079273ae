"""
The outside world of the product, as one object.

`notifier.app` creates every part of the product and takes the rest from an `Outside`: clocks,
clients, channels, the admin server. `notifier.process.production` creates the one of a real process. The
simulation passes its own and runs the same product.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from prometheus_client import CollectorRegistry

from notifier.audit.assembly import Outlets
from notifier.router import Router
from syncer.kube.client import KubeClient
from syncer.ledger.client import LedgerClient
from syncer.model.errors import ConfigError
from syncer.runtime.clock import MonotonicClock, ServerTime
from syncer.runtime.stalls import LoopWatch

logger = logging.getLogger("ledger")


class Stop:
    """Whether the process has to end, and why if no signal requested it."""

    def __init__(self) -> None:
        #: Set by a signal.
        self.requested = asyncio.Event()
        #: Why the process must end although no signal has requested it.
        self.refusal: ConfigError | None = None

    def refuse(self, error: ConfigError) -> None:
        """Request the end of the process because it must not continue."""
        logger.error("this replica must shut down: %s", error)
        self.refusal = error
        self.requested.set()


class Admin(Protocol):
    """The admin server: readiness and metrics."""

    #: Updates gauges right before a scrape.
    refresh: Callable[[], Awaitable[float]] | None

    def check(self, name: str, check: Callable[[], str | None]) -> None:
        """Add a check that readiness depends on; replaces one with the same name."""

    def detail(self, name: str, check: Callable[[], str | None]) -> None:
        """Add a detail that readiness shows but does not depend on."""


class RedisFactory(Protocol):
    """Creates the Redis client."""

    def __call__(
        self,
        *,
        fitness: Callable[[dict[str, str]], str | None],
        on_change: Callable[[], None],
        on_wake_up: Callable[[str], None],
    ) -> LedgerClient:
        """
        Create the client; nothing is connected yet.

        Args:
            fitness: Why attempts must not be recorded on a server, judged by its INFO; None if they may.
            on_change: Called after another server or store has answered.
            on_wake_up: Called with the uid of each log that another process has appended to.

        Raises:
            ConfigError: the URL cannot be used.
        """


@dataclass(frozen=True, slots=True)
class Outside:
    """
    The world outside of one process.

    Attributes:
        identity: Host name and health port; names the process in Leases, records and Events.
        monotonic: Seconds since boot; for deadlines and waits.
        wall: Wall-clock time; shown in Leases, and used as ledger time until Redis has answered.
        api_time: The API server's time, set by the clients from its answers.
        objects: Client of the API server for everything but Leases.
        leases: Client of the API server for Leases alone.
        redis: Creates the Redis client.
        router: Decides where notifications go.
        audit: Sinks of audit events, None if there are none.
        admin: Serves readiness and metrics.
        registry: Holds the metrics.
        watch: Measures how long the event loop is blocked.
        egress_denied: Returns how many connections the egress guard has refused.
        stop: Set when the process has to end.
    """

    identity: str
    monotonic: MonotonicClock
    wall: Callable[[], datetime]
    api_time: ServerTime
    objects: KubeClient
    leases: KubeClient
    redis: RedisFactory
    router: Router
    audit: Outlets | None
    admin: Admin
    registry: CollectorRegistry
    watch: LoopWatch
    egress_denied: Callable[[], int]
    stop: Stop
