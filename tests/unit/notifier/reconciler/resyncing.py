"""Notifications that a resync looks at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from notifier.contract import Message, NotReady, Outcome
from notifier.dispatch.dispatcher import Dispatcher
from notifier.dispatch.workqueue import WorkQueue
from notifier.reconciler.attempt import Ports
from notifier.reconciler.controller import Controller
from notifier.reconciler.decisions import DeliveryBounds
from syncer.kube.lease_term import LeaseTerm, LeaseTimings, Session
from syncer.metrics import SyncMetrics
from syncer.model.attempt import Epoch
from syncer.model.record import Plan
from syncer.model.resource import NotificationRequest, parse_object
from syncer.rules.resync import Bounds
from syncer.runtime.clock import LedgerTime
from syncer.sharding.ownership import Shards
from syncer.sync.cache import Cache
from syncer.sync.notification import Notification
from syncer.sync.recorder import Recorder
from syncer.sync.sweeps import Resync
from tests.beside import beside
from tests.fakes.memorylog import MemoryLog, MemoryRedis
from tests.fakes.notifications import notifications

CHANNEL = "webhook:a"


PERIOD = 10.0


class Nobody:
    """A reporter that reports nothing."""

    def started(self, *_: object) -> None:
        """Nothing."""

    recorded = rejected = held = started


class Store:
    """The API server, as far as a claim reads it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.error: Exception | None = None

    async def get(self, namespace: str, name: str, _known: object = None) -> NotificationRequest:
        """The object as it is now."""
        if self.error is not None:
            raise self.error
        return parse_object(self.world.document(name))


class Receiver:
    """A channel that takes everything."""

    timeout_s = 1.0
    shows_status = False
    keeps_state = ""

    def __init__(self) -> None:
        self.got: list[str] = []

    async def send(self, message: Message) -> Outcome:
        """Take it."""
        self.got.append(message.name)
        return Outcome.success(200)


class World:
    """A controller of one shard with its log, queues and resync, and a clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.versions: dict[str, int] = {}
        self.held: NotReady | None = None
        self.broken = 0
        clock = lambda: self.now  # noqa: E731 - one clock for all
        self.redis = MemoryRedis(clock=lambda: round(self.now * 1000))
        self.log = MemoryLog(self.redis, patience=0.0)
        self.shards = Shards(1)
        self.timings = LeaseTimings()
        self.session = Session("s", self.now, self.timings)
        self.term = LeaseTerm(Epoch("0.9"), self.session)
        self.shards.take(0, self.term)
        self.cache = Cache(window=1.0, monotonic=clock)
        self.metrics = SyncMetrics(CollectorRegistry())
        time = LedgerTime(clock)
        recorder = Recorder(self.log, self.cache, time, self.metrics, identity="t")
        self.store = Store(self)
        self.receiver = Receiver()
        self.queue = WorkQueue(clock)
        self.controller = Controller(
            Ports(
                queue=self.queue,
                notifications=notifications(
                    recorder, self.shards, self.store, Nobody()
                ),
                router=cast("Any", self), reporter=cast("Any", Nobody()),
                bounds=DeliveryBounds(at_most_once=False, max_age=0),
            ),
            dispatcher=lambda run: Dispatcher(run, per_channel=4, total=8, monotonic=clock),
        )  # fmt: skip
        self.asked: list[str] = []
        self.cache.check = self.request_check
        self.resync = Resync(
            recorder, self.shards, self.metrics, bounds=Bounds(period=PERIOD),
            waits=self.controller.waits,
        )  # fmt: skip

    # -- the router ------------------------------------------------------------------------------

    async def plan(self, request: NotificationRequest, now: int) -> tuple[Plan, tuple[str, ...]]:
        """One channel for all."""
        return Plan((CHANNEL,), "r", "m", now, request.content_hash()), ()

    def channel(self, _name: str) -> Receiver:
        """The receiver."""
        return self.receiver

    def not_ready(self, _name: str) -> NotReady | None:
        """Raise as often as the test says, before the attempt has begun."""
        if self.broken:
            self.broken -= 1
            raise RuntimeError("a defect")
        return self.held

    def denial(self, _channel: str, _namespace: str) -> str:
        """Nothing is denied."""
        return ""

    # -- what a test does --------------------------------------------------------------------------

    def request_check(self, uid: str) -> None:
        """What the resync asks for."""
        self.asked.append(uid)
        self.queue.add(uid)

    def document(self, name: str) -> dict[str, Any]:
        """An object as the API server has it."""
        return {
            "metadata": {
                "uid": f"uid-{name}", "namespace": "n", "name": name,
                "resourceVersion": str(self.versions.setdefault(name, 1)),
            },
            "spec": {"type": "Simple", "subject": "s", "body": "b"},
        }  # fmt: skip

    def create(self, name: str = "a") -> Notification:
        """A new notification, as the watch brings it."""
        self.controller.notifications.upsert(
            parse_object(self.document(name)), first_seen_by_watch=False
        )
        return self.cache.entries[f"uid-{name}"]

    async def rest(self) -> None:
        """Have workers handle all that is ready, and attempts end."""
        async with asyncio.timeout(30):
            while (
                len(self.queue)
                or self.controller.dispatcher.running
                or self.controller.notifications.outcomes.recording
            ):
                await asyncio.sleep(0.001)

    async def round(self, seconds: float = PERIOD) -> list[str]:
        """Let time pass, and one round with all that follows; what it asked for."""
        self.now += seconds
        self.session.renewed = self.session.renewed if self.term.ended else self.now
        self.asked.clear()
        await self.resync.round()
        asked = list(self.asked)
        await self.rest()
        return asked

    async def settled(self) -> None:
        """Have workers handle all that is ready, and take notice of what their looks have recorded."""
        await self.rest()
        await self.round()
        assert await self.round() == []

    @property
    def nobody_comes(self) -> bool:
        """Whether no event and no timer will bring a look."""
        return not len(self.queue) and not self.queue.delayed


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A fresh one, with two workers."""
    made = World()
    await made.log.client.open("one")
    async with beside(*(made.controller.reconciler.work() for _ in range(2))):
        yield made
    await made.controller.dispatcher.abort()
    await made.controller.notifications.outcomes.drain(5.0)
