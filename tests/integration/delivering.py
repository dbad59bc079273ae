"""Deliveries to a receiver over a log in Redis, with everything between an object and its receivers."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any, cast

from aiohttp import web
from prometheus_client import CollectorRegistry

from notifier.channels.egress import EgressGuard
from notifier.channels.http import HttpClient
from notifier.channels.slack import slack_channel
from notifier.contract import Channel
from notifier.dispatch.breaker import Breakers
from notifier.dispatch.dispatcher import Dispatcher
from notifier.dispatch.workqueue import WorkQueue
from notifier.metrics import DeliveryMetrics
from notifier.reporter import EventReporter
from notifier.router import Routed
from syncer.ledger.client import LedgerClient
from syncer.ledger.log import RedisLog
from syncer.metrics import SyncMetrics
from syncer.model.attempt import Epoch
from syncer.model.record import Plan
from syncer.model.resource import NotificationRequest, parse_object
from syncer.model.times import format_time
from syncer.rules.backoff import delay
from syncer.runtime.clock import LedgerTime, monotonic_clock
from syncer.sync.cache import Cache
from syncer.sync.recorder import Recorder
from tests.beside import beside
from tests.fakes.notifications import controller, notifications
from tests.fakes.ownership import Ours
from tests.integration.scripted import ScriptedServer

OPS = "slack:ops"
#: Seconds for which a call to Redis is repeated here.
PATIENCE = 1.0


class Clock:
    """The boot clock, which a test may move on."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def __call__(self) -> float:
        return monotonic_clock() + self.skipped


class Store:
    """Objects that nobody else writes."""

    def __init__(self) -> None:
        self.objects: dict[str, NotificationRequest] = {}

    async def get(self, namespace: str, name: str, _known: object = None, /) -> NotificationRequest:
        """The object."""
        return self.objects[name]

    async def patch(self, *_: Any, **__: Any) -> NotificationRequest:
        """No status is written here."""
        raise AssertionError("not part of this test")


class Delivery:
    """Everything between an object and its receiver; also the router."""

    def __init__(self, client: LedgerClient, http_client: HttpClient, url: str) -> None:
        self.clock = Clock()
        self.registry = CollectorRegistry()
        self.cache = Cache(window=0.5, monotonic=self.clock)
        self.queue = WorkQueue(self.clock)
        self.log = RedisLog(client, patience=PATIENCE)
        self.store = Store()
        recorder = Recorder(
            self.log,
            self.cache,
            LedgerTime(self.clock),
            SyncMetrics(self.registry),
            identity="test",
        )
        self._channel = slack_channel(http_client, lambda: f"{url}/ops", timeout_s=5.0)
        nobody = cast("Any", SimpleNamespace(emit=lambda *_, **__: None))
        reporter = EventReporter(nobody, DeliveryMetrics(self.registry))
        known = notifications(
            recorder,
            Ours(Epoch("0.7")),
            self.store,
            reporter,
            backoff=lambda p, n: delay(p, n, 0.0),
        )
        self.controller = controller(
            known, self.queue, self, reporter,
            lambda run: Dispatcher(run, per_channel=8, total=64, breakers=Breakers(),
                on_rejected=self.queue.add, monotonic=self.clock,
            ),
        )  # fmt: skip

    async def plan(self, request: NotificationRequest, now: int) -> Routed:
        """All of it goes to one receiver."""
        return Routed(Plan(channels=(OPS,), at=now))

    def channel(self, name: str) -> Channel | None:
        """The channel."""
        return self._channel if name == OPS else None

    def denial(self, name: str, namespace: str) -> str | None:
        """Everybody may be heard."""
        return None

    def not_ready(self, name: str) -> str | None:
        """Nothing is missing."""
        return None

    def create(self, name: str, *, attempts: int = 3, backoff: int = 1) -> None:
        """Create a notification."""
        request = parse_object({
            "metadata": {"name": name, "namespace": "ops", "uid": name, "resourceVersion": "1",
                         "generation": 1,
                         "creationTimestamp": format_time(time.time_ns() // 1_000_000, millis=False)},
            "spec": {
                "type": "Simple", "priority": "Medium", "subject": name, "body": name,
                "retryPolicy": {"maxAttempts": attempts, "initialBackoffSeconds": backoff,
                                "backoffMultiplier": 1, "maxBackoffSeconds": 60},
            },
        })  # fmt: skip
        self.store.objects[name] = request
        self.controller.notifications.upsert(request, first_seen_by_watch=True)

    def results(self, name: str) -> list[str]:
        """What became of the attempts that the view knows: the class of a failure, else the state."""
        attempts = self.cache.entries[name].view.of_channel(OPS)
        return [a.failure.value if a.failure else a.state.word for a in attempts]


@contextlib.asynccontextmanager
async def delivering(client: LedgerClient) -> AsyncIterator[tuple[Delivery, Counter[str]]]:
    """A delivery that runs to a receiver that is well; and how often each path of that was called."""
    calls: Counter[str] = Counter()

    async def answer(request: web.Request) -> web.Response:
        calls[request.path] += 1
        return web.Response(text="ok")

    async with (
        ScriptedServer(answer) as server,
        aclosing(HttpClient(guard=EgressGuard())) as http_client,
    ):
        made = Delivery(client, http_client, server.url)
        workers = [made.controller.reconciler.work() for _ in range(4)]
        async with beside(client.run()), beside(*workers):
            try:
                yield made, calls
            finally:
                await made.controller.drain(sending=5, recording=5)
