"""A former owner whose calls are still under way."""

from __future__ import annotations

from typing import Any, cast

from prometheus_client import CollectorRegistry

from notifier.contract import Outcome
from notifier.dispatch.workqueue import WorkQueue
from notifier.reconciler.attempt import Ports
from notifier.reconciler.controller import Controller
from notifier.reconciler.decisions import DeliveryBounds
from notifier.reporter import EventReporter
from syncer.metrics import SyncMetrics
from syncer.model.attempt import Attempt, Epoch
from syncer.model.record import Record, intent_record
from syncer.model.resource import NotificationRequest, parse_object
from syncer.runtime.clock import LedgerTime
from syncer.sharding.ownership import Shards
from syncer.sync.cache import Cache
from syncer.sync.recorder import Recorder
from tests.fakes.memorylog import MemoryLog, MemoryRedis
from tests.fakes.notifications import notifications
from tests.unit.notifier.reconciler.starting import document

NONE = cast("Any", None)


NOW = 100.0


class LeaseTerm:
    """The time under one epoch."""

    def __init__(self, epoch: str, *, holds: bool = True) -> None:
        self.epoch = Epoch(epoch)
        self.since = 0
        self.holds = holds

    def valid(self, now: float) -> bool:
        """Whether the lease holds."""
        return self.holds

    def may_send(self, now: float, send_timeout: float) -> bool:
        """As above."""
        return self.holds


class Calls:
    """A reporter that remembers its calls."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.before: list[Attempt | None] = []
        self.failures: list[Attempt] = []
        self.holds: list[tuple[str, str]] = []

    def started(self, request: NotificationRequest) -> None:
        """Nothing."""

    def recorded(self, *said: Any) -> None:
        """Say what a reporter says of it."""
        EventReporter.recorded(cast("Any", self), *said)

    def attempted(
        self, request: NotificationRequest, attempt: Attempt, before: Attempt | None
    ) -> None:
        """Remember."""
        self.attempts.append(attempt)
        self.before.append(before)

    def failed(self, request: NotificationRequest, attempt: Attempt) -> None:
        """Remember."""
        self.failures.append(attempt)

    def held(self, request: NotificationRequest, channel: str, reason: str) -> None:
        """Remember."""
        self.holds.append((channel, reason))


class World:
    """One controller, one log, one open attempt of the epoch 0.7."""

    def __init__(self) -> None:

        self.redis = MemoryRedis(clock=lambda: 1_000_000)
        self.log = MemoryLog(self.redis, patience=0.0)
        self.shards = Shards(1)
        cache = Cache(window=1.0, monotonic=lambda: NOW)
        registry = CollectorRegistry()
        time = LedgerTime(lambda: NOW)
        recorder = Recorder(self.log, cache, time, SyncMetrics(registry), identity="t")
        self.reporter = Calls()
        self.controller = Controller(
            Ports(
                queue=WorkQueue(lambda: NOW),
                notifications=notifications(
                    recorder, self.shards, reporter=self.reporter, patience=0.0
                ),
                router=NONE, reporter=cast("Any", self.reporter),
                bounds=DeliveryBounds(at_most_once=False, max_age=0),
            ),
            dispatcher=lambda _: NONE,
        )  # fmt: skip
        self.controller.notifications.upsert(
            parse_object(document("a", 1)), first_seen_by_watch=False
        )
        self.notification = cache.entries["uid-a"]
        self.intent: Record = intent_record(cast("Any", "0.7-1"), "c", at=1, by="t")

    async def record(self) -> list[tuple[str, bytes]]:
        """Record the attempt's success; what was published."""
        await self.log.claim("uid-a", Epoch("0.7"), name="n/a")
        await self.controller.notifications.outcomes.record(
            self.notification, self.intent, Outcome.success(200), 0.1
        )
        return self.redis.published
