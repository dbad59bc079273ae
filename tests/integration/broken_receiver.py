"""A receiver that breaks, and deliveries to it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web
from prometheus_client import CollectorRegistry

from notifier.channels.http import HttpClient
from notifier.channels.slack import slack_channel
from notifier.contract import Channel
from notifier.dispatch.breaker import Breakers
from notifier.dispatch.dispatcher import Dispatcher
from notifier.dispatch.workqueue import WorkQueue
from notifier.metrics import DeliveryMetrics
from notifier.reconciler.attempt import Ports
from notifier.reconciler.controller import Controller
from notifier.reconciler.decisions import DeliveryBounds
from notifier.reporter import EventReporter
from notifier.router import Routed
from syncer.kube.events import EventRecorder
from syncer.ledger.client import LedgerClient
from syncer.ledger.log import RedisLog
from syncer.metrics import SyncMetrics
from syncer.model.attempt import AttemptState, Epoch
from syncer.model.record import Plan
from syncer.model.resource import NotificationRequest, parse_object
from syncer.model.times import format_time
from syncer.rules.backoff import delay
from syncer.runtime.clock import LedgerTime, monotonic_clock
from syncer.sync.cache import Cache
from syncer.sync.recorder import Recorder
from tests.fakes.notifications import notifications
from tests.fakes.ownership import Ours
from tests.integration.scripted import ScriptedServer

OPS, DEV = "slack:ops", "slack:dev"


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

    async def patch(
        self,
        namespace: str,
        name: str,
        status: dict[str, Any],
        *,
        resource_version: str,
    ) -> NotificationRequest:
        """No status is written here."""
        raise AssertionError("not part of this test")


class Delivery:
    """Everything between an object and its receivers; also the router."""

    def __init__(self, client: LedgerClient, http_client: HttpClient, url: str) -> None:
        self.clock = Clock()
        self.url = url
        self.registry = CollectorRegistry()
        self.metrics = DeliveryMetrics(self.registry)
        self.events: list[tuple[str, str, str, str, str]] = []
        self.breakers = Breakers()
        self.cache = Cache(window=0.5, monotonic=self.clock)
        self.queue = WorkQueue(self.clock)
        self.log = RedisLog(client)
        self.store = Store()
        sync_metrics = SyncMetrics(self.registry)
        recorder = Recorder(
            self.log, self.cache, LedgerTime(self.clock), sync_metrics, identity="test"
        )
        self.channels: dict[str, Channel] = {
            name: slack_channel(http_client, self._url(name), timeout_s=5.0) for name in (OPS, DEV)
        }
        self.plans: dict[str, tuple[str, ...]] = {}
        reporter = EventReporter(cast("EventRecorder", self), self.metrics)
        self.controller = Controller(
            Ports(
                queue=self.queue,
                notifications=notifications(
                    recorder,
                    Ours(Epoch("0.7")),
                    self.store,
                    reporter,
                    backoff=lambda p, n: delay(p, n, 0.0),
                ),
                router=self,
                reporter=reporter,
                bounds=DeliveryBounds(at_most_once=False, max_age=0),
            ),
            dispatcher=lambda run: Dispatcher(run, per_channel=8, total=64, breakers=self.breakers,
                on_rejected=self.queue.add, monotonic=self.clock,
            ),
        )  # fmt: skip

    def _url(self, name: str) -> Callable[[], str]:
        return lambda: f"{self.url}/{name.partition(':')[2]}"

    def emit(
        self, request: NotificationRequest, kind: str, reason: str, text: str, *, discriminator: str
    ) -> None:
        """Take an event."""
        self.events.append((request.name, kind, reason, text, discriminator))

    async def plan(self, request: NotificationRequest, now: int) -> Routed:
        """Where the test wants it to go."""
        return Routed(Plan(channels=self.plans[request.name], at=now))

    def channel(self, name: str) -> Channel | None:
        """The channel."""
        return self.channels.get(name)

    def denial(self, name: str, namespace: str) -> str | None:
        """Everybody may be heard."""
        return None

    def not_ready(self, name: str) -> str | None:
        """Nothing is missing."""
        return None

    def create(self, name: str, *channels: str, attempts: int = 3, backoff: int = 1) -> None:
        """Create a notification."""
        self.plans[name] = channels
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

    def states(self, name: str, channel: str) -> list[AttemptState]:
        """States of the attempts that the view knows."""
        return [a.state for a in self.cache.entries[name].view.of_channel(channel)]

    def reported(self, name: str) -> list[tuple[str, str]]:
        """Messages and discriminators of the breaker's events about a notification."""
        return [e[3:] for e in self.events if (e[0], e[2]) == (name, "CircuitBreakerOpen")]

    def rejected(self, channel: str) -> float:
        """The counter."""
        name = "notification_ledger_postponed_total"
        return self.registry.get_sample_value(name, {"channel": channel}) or 0.0


class Receiver:
    """A server whose paths are up or down."""

    def __init__(self) -> None:
        self.down: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.server = ScriptedServer(self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        self.calls[request.path] += 1
        return web.Response(status=503 if request.path in self.down else 200, text="ok")
