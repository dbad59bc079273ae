"""The breaker in the real delivery: controller, recorder, log on a real server, real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from notifier.channels.egress import EgressGuard
from notifier.channels.http import HttpClient
from notifier.channels.slack import SlackChannel
from notifier.contract import Channel, NotReady
from notifier.dispatch.breaker import OPEN_MOST, Breakers, State
from notifier.dispatch.dispatcher import Dispatcher
from notifier.dispatch.retry import delay
from notifier.dispatch.workqueue import WorkQueue
from notifier.metrics import DeliveryMetrics
from notifier.reconciler.controller import Controller
from notifier.reconciler.decisions import DeliveryBounds
from notifier.reconciler.ports import Ports
from notifier.reporter import EventReporter
from notifier.router import Routed
from syncer.ledger.client import LedgerClient
from syncer.ledger.log import RedisLog
from syncer.metrics import SyncMetrics
from syncer.model.attempt import AttemptState, Epoch
from syncer.model.record import Kind, Plan
from syncer.model.resource import NotificationRequest, parse_object
from syncer.runtime.clock import LedgerTime, monotonic_clock
from syncer.sync.cache import Cache
from syncer.sync.claim import Claimer
from syncer.sync.recorder import Recorder
from tests.fakes.journal import NO_JOURNAL
from tests.integration.scripted import ScriptedServer

pytestmark = pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)

REFUSED = "slack circuit breaker is open (too many failures, preventing cascading failures)"
OPS, DEV = "slack:ops", "slack:dev"


class Clock:
    """The boot clock, which a test may move on."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def __call__(self) -> float:
        return monotonic_clock() + self.skipped


@dataclass(frozen=True)
class Owner:
    """Owns everything, for ever."""

    epoch: Epoch = field(default=Epoch("0.7"))
    since: int = 0

    def valid(self, now: float) -> bool:
        """Yes."""
        return True

    def may_send(self, now: float, send_timeout: float) -> bool:
        """Yes."""
        return True

    def term_of(self, uid: str) -> Owner:
        """Itself."""
        return self

    def accepts(self, uid: str) -> bool:
        """Yes."""
        return True


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
            name: SlackChannel(http_client, self._url(name), timeout_s=5.0) for name in (OPS, DEV)
        }
        self.plans: dict[str, tuple[str, ...]] = {}
        self.controller = Controller(
            Ports(
                queue=self.queue,
                recorder=recorder,
                claimer=Claimer(
                    recorder, self.store, sync_metrics, backoff=lambda p, n: delay(p, n, 0.0)
                ),
                ownership=Owner(),
                router=self,
                reporter=EventReporter(self._emit, self.metrics),
                metrics=self.metrics,
                bounds=DeliveryBounds(at_most_once=False, max_age=0),
                journal=NO_JOURNAL,
            ),
            dispatcher=lambda run: Dispatcher(run, per_channel=8, total=64, breakers=self.breakers,
                on_rejected=self.queue.add, monotonic=self.clock,
            ),
        )  # fmt: skip

    def _url(self, name: str) -> Callable[[], str]:
        return lambda: f"{self.url}/{name.partition(':')[2]}"

    def _emit(self, request: NotificationRequest, *rest: str) -> None:
        kind, reason, message, discriminator = rest
        self.events.append((request.name, kind, reason, message, discriminator))

    async def plan(self, request: NotificationRequest, now: int) -> Routed:
        """Where the test wants it to go."""
        return Routed(Plan(channels=self.plans[request.name], at=now))

    def channel(self, name: str) -> Channel | None:
        """The channel."""
        return self.channels.get(name)

    def denial(self, name: str, namespace: str) -> str | None:
        """Everybody may be heard."""
        return None

    def not_ready(self, name: str) -> NotReady | None:
        """Nothing is missing."""
        return None

    def create(self, name: str, *channels: str, attempts: int = 3, backoff: int = 1) -> None:
        """Create a notification."""
        self.plans[name] = channels
        request = parse_object({
            "metadata": {"name": name, "namespace": "ops", "uid": name, "resourceVersion": "1",
                         "generation": 1},
            "spec": {
                "type": "Simple", "priority": "Medium", "subject": name, "body": name,
                "retryPolicy": {"maxAttempts": attempts, "initialBackoffSeconds": backoff,
                                "backoffMultiplier": 1, "maxBackoffSeconds": 60},
            },
        })  # fmt: skip
        self.store.objects[name] = request
        self.controller.watch.upsert(request, first_seen_by_watch=True)

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
        self.refuses: set[str] = set()
        self.fails_once = False
        self.retry_after = 0
        self.calls: Counter[str] = Counter()
        self.server = ScriptedServer(self._answer)
        self._seen: Counter[str] = Counter()

    async def _answer(self, request: web.Request) -> web.Response:
        self.calls[request.path] += 1
        key = request.headers["Idempotency-Key"]
        self._seen[key] += 1
        refused = request.path in self.down or (self.fails_once and self._seen[key] == 1)
        status = 404 if request.path in self.refuses else 503 if refused else 200
        headers = {"Retry-After": str(self.retry_after)} if refused and self.retry_after else None
        return web.Response(status=status, text="ok", headers=headers)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that is well."""
    receiver = Receiver()
    async with receiver.server:
        yield receiver


@pytest.fixture
async def delivery(redis_url: str, receiver: Receiver) -> AsyncIterator[Delivery]:
    """A delivery that runs."""
    client = LedgerClient(redis_url, prefix="breaker")
    await client.open("test")
    async with HttpClient(guard=EgressGuard()) as http_client:
        made = Delivery(client, http_client, receiver.server.url)
        tasks = [asyncio.create_task(client.run())]
        tasks += [asyncio.create_task(made.controller.reconciler.work()) for _ in range(4)]
        try:
            yield made
        finally:
            await made.controller.drain(sending=5, recording=5)
            for task in reversed(tasks):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, 20 seconds at most."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"it did not come about: {what}")


async def opened(delivery: Delivery, receiver: Receiver, path: str = "/ops") -> None:
    """
    Open the breaker of a receiver that is down, by three notifications of one attempt each.

    It stays open for the longest time, so that nothing hangs on how fast this machine is.
    """
    receiver.down.add(path)
    channel = f"slack:{path[1:]}"
    for name in ("x", "y", "z"):
        delivery.create(name, channel, attempts=1)
    await until(
        lambda: delivery.breakers.states(delivery.clock()).get(channel) is State.OPEN, "open"
    )
    breaker = delivery.breakers.of(channel)
    assert breaker is not None
    breaker.until = delivery.clock() + OPEN_MOST


async def test_an_open_breaker_rejects(delivery: Delivery, receiver: Receiver) -> None:
    """Refused: one skip record, one event, no attempt, no call; later it is sent all the same."""
    await opened(delivery, receiver)
    delivery.create("late", OPS, attempts=1)
    await until(lambda: bool(delivery.reported("late")), "the event")
    for _ in range(3):
        delivery.queue.add("late")
        await asyncio.sleep(0.05)
    assert delivery.reported("late") == [
        (f"slack channel circuit breaker is open: {REFUSED}", f"{OPS}/0")
    ]
    snapshot = await delivery.log.read("late")
    assert snapshot is not None
    assert [r.kind for r in snapshot.records] == [Kind.PLAN, Kind.SKIP]
    assert snapshot.records[1].body["why"] == REFUSED
    assert delivery.rejected(OPS) == 1
    assert receiver.calls["/ops"] == 3
    receiver.down.clear()
    delivery.clock.skipped += OPEN_MOST
    delivery.create("poke", OPS, attempts=1)
    await until(
        lambda: delivery.states("late", OPS) == delivery.states("poke", OPS)
        == [AttemptState.SUCCESS],
        "both sent, the one attempt of the rejected one not used up by waiting",
    )  # fmt: skip
    # The attempt is on record a moment before its probe is settled.
    await until(
        lambda: delivery.breakers.states(delivery.clock())[OPS] is State.CLOSED,
        "the breaker closed",
    )


async def test_a_dead_receiver_delays_nobody(delivery: Delivery, receiver: Receiver) -> None:
    """One channel of a notification is held, its other channel is delivered."""
    await opened(delivery, receiver)
    delivery.create("both", OPS, DEV)
    await until(lambda: delivery.states("both", DEV) == [AttemptState.SUCCESS], "sent to dev")
    await until(lambda: bool(delivery.reported("both")), "the event about ops")
    assert delivery.states("both", OPS) == []
    assert delivery.breakers.states(delivery.clock()) == {OPS: State.OPEN, DEV: State.CLOSED}


async def test_one_notification_keeps_its_back_off(delivery: Delivery, receiver: Receiver) -> None:
    """Its own failures never open the breaker: it is tried at its own pace to the end."""
    receiver.down.add("/ops")
    delivery.create("alone", OPS, attempts=4)
    await until(lambda: receiver.calls["/ops"] == 4, "four calls, a second apart")
    await until(lambda: len(delivery.states("alone", OPS)) == 4, "four attempts")
    assert delivery.breakers.states(delivery.clock()) == {OPS: State.CLOSED}
    assert delivery.reported("alone") == []


async def test_permanent_answers_do_not_open(delivery: Delivery, receiver: Receiver) -> None:
    """Messages that the receiver refuses for good say nothing about the receiver."""
    receiver.refuses.add("/ops")
    names = [f"n{n}" for n in range(6)]
    for name in names:
        delivery.create(name, OPS)
    await until(
        lambda: all(delivery.states(name, OPS) == [AttemptState.FAILED] for name in names),
        "all failed for good",
    )
    assert delivery.breakers.states(delivery.clock()) == {OPS: State.CLOSED}
    receiver.refuses.clear()
    delivery.create("good", OPS)
    await until(lambda: delivery.states("good", OPS) == [AttemptState.SUCCESS], "sent at once")


async def test_many_that_fail_once_are_all_sent(delivery: Delivery, receiver: Receiver) -> None:
    """Opened by a burst of first calls, it closes on second ones and drains: two attempts each."""
    receiver.fails_once = True
    names = [f"n{n}" for n in range(60)]
    for name in names:
        delivery.create(name, OPS)
    both = [AttemptState.FAILED, AttemptState.SUCCESS]
    await until(lambda: all(delivery.states(n, OPS) == both for n in names), "all sent")
    assert receiver.calls["/ops"] == 2 * len(names)
    assert all(len(delivery.reported(n)) <= 2 for n in names)


async def test_retry_after_holds_the_receiver(delivery: Delivery, receiver: Receiver) -> None:
    """A receiver that asks for time with its 503 is called by nobody before that time is over."""
    receiver.retry_after = 20
    receiver.down.add("/ops")
    for name in ("x", "y", "z"):
        delivery.create(name, OPS, attempts=1)
    await until(lambda: delivery.breakers.states(delivery.clock()).get(OPS) is State.OPEN, "open")
    breaker = delivery.breakers.of(OPS)
    assert breaker is not None
    assert breaker.until is not None
    assert 10 < breaker.until - delivery.clock() <= 20
