"""A notification in the middle of an attempt."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

from prometheus_client import CollectorRegistry

from notifier.contract import Message, Outcome
from notifier.dispatch.workqueue import WorkQueue
from notifier.reporter import EventReporter
from notifier.router import Routed
from syncer.metrics import SyncMetrics
from syncer.model.attempt import Attempt, AttemptId, Epoch
from syncer.model.record import Plan, intent_record, skip_record
from syncer.model.resource import parse_object
from syncer.runtime.clock import LedgerTime
from syncer.sharding.ownership import Shards
from syncer.sync.cache import Cache
from syncer.sync.notification import Claim, Notification
from syncer.sync.recorder import Recorder
from tests.fakes.memorylog import MemoryLog, MemoryRedis
from tests.fakes.notifications import controller, notifications
from tests.fakes.ownership import Held

NONE = cast("Any", None)
NOW = 100.0
WALL = 1_795_576_400_000
EPOCH = Epoch("0.7")


class Ended(Held):
    """A lease term that is over."""

    def valid(self, now: float) -> bool:
        return False

    def may_send(self, now: float, send_timeout: float) -> bool:
        return False


class Receiver:
    """A channel that takes everything, and remembers whose."""

    timeout_s = 1.0
    shows_status = False
    keeps_state = ""

    def __init__(self) -> None:
        self.got: list[str] = []

    @property
    def sent(self) -> int:
        """How many."""
        return len(self.got)

    async def send(self, message: Message) -> Outcome:
        self.got.append(message.name)
        return Outcome.success(200)


class World:
    """A controller that owns one planned notification, and another writer of its log."""

    def __init__(self) -> None:
        self.redis = MemoryRedis(clock=lambda: WALL)
        self.log = MemoryLog(self.redis, patience=0.0)
        self.cache = Cache(window=1.0, monotonic=lambda: NOW)
        self.shards = Shards(1)
        self.shards.take(0, Held(EPOCH))
        self.receiver = Receiver()
        registry = CollectorRegistry()
        time = LedgerTime(lambda: NOW)
        time.set(WALL)
        metrics = SyncMetrics(registry)
        recorder = Recorder(self.log, self.cache, time, metrics, identity="t")
        self.reporter = Mock()
        # What a reporter says of a record is told as it says it.
        self.reporter.recorded = partial(EventReporter.recorded, self.reporter)
        get = AsyncMock(side_effect=lambda *_: self.notification.request)
        objects = cast("Any", SimpleNamespace(get=get))
        router = SimpleNamespace(
            channel=lambda _: self.receiver, not_ready=lambda _: None, denial=lambda *_: None,
            plan=AsyncMock(return_value=Routed(Plan(("c",), "r", "m", 1))),
        )  # fmt: skip
        known = notifications(recorder, self.shards, objects, self.reporter)
        self.controller = controller(known, WorkQueue(lambda: NOW), router, self.reporter)
        self.controller.notifications.upsert(
            parse_object(
                {
                    "metadata": {
                        "uid": "uid-a", "namespace": "n", "name": "a", "resourceVersion": "9",
                    },
                    "spec": {"type": "Simple", "priority": "High", "subject": "s", "body": "b"},
                }
            ),
            first_seen_by_watch=True,
        )  # fmt: skip
        self.notification: Notification = self.cache.entries["uid-a"]

    async def planned(self) -> None:
        """Claim the log and freeze the plan."""
        await self.log.claim("uid-a", EPOCH, name="n/a")
        self.notification.claimed(Claim(EPOCH, self.log.client.generation, self.log.stamp))
        plan, _ = await self.controller.attempts.ports.router.plan(NONE, 1)
        await self.controller.notifications.recorder.freeze(self.notification, plan)

    @property
    def attempts(self) -> list[Attempt]:
        """Attempts on record, oldest first."""
        return list(self.notification.view.attempts.values())

    async def record(self) -> list[tuple[str, bytes]]:
        """Record the success of an open attempt; what was published."""
        await self.log.claim("uid-a", EPOCH, name="n/a")
        intent = intent_record(AttemptId("0.7-1"), "c", at=1, by="t")
        await self.controller.notifications.outcomes.record(
            self.notification, intent, Outcome.success(200), 0.1
        )
        return self.redis.published

    async def word_of_another(self) -> None:
        """Somebody else appends to the log, so that the next answer does not fit the view."""
        other = MemoryLog(self.redis, patience=0.0)
        await other.note("uid-a", skip_record("skip:x", "c", at=1, why="w"))
