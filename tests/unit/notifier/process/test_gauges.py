"""What the gauges of delivery say: what is overdue, what is held, how long it took."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from notifier.app import Parts
from notifier.dispatch.dispatcher import Dispatcher
from notifier.dispatch.workqueue import WorkQueue
from notifier.process import gauges
from notifier.process.gauges import refresh
from notifier.reconciler.controller import Controller
from syncer.kube.lease_term import LeaseTerm, LeaseTimings, Session
from syncer.ledger.connection import CLOCK
from syncer.metrics import HoldReason
from syncer.model.attempt import Attempt, AttemptState, Epoch, FailureClass, make_attempt_id
from syncer.model.record import Fallback, Plan
from syncer.model.resource import HOLD_ANNOTATION, parse_object
from syncer.model.times import format_time
from syncer.rules.fold import LogView
from syncer.rules.journal import INCOMPLETE, Basis
from syncer.rules.plan import Await
from syncer.runtime.slices import SLICE
from syncer.sharding.manager import ShardManager
from syncer.sharding.ownership import Shards
from syncer.sync.cache import summary
from syncer.sync.notification import Claim, Notification
from tests.beside import beside
from tests.fakes.memorylog import MemoryClient
from tests.fakes.notification import notification
from tests.fakes.outside import NoRouter, loaded_with, unreachable
from tests.fakes.ownership import Held
from tests.unit.notifier.reconciler.holding import START, World

NOW = 100.0
#: Redis's clock at that moment.
WALL = START
EPOCH = Epoch("0.9")


@pytest.fixture
def controller() -> Controller:
    """A controller that owns its only shard, at a fixed moment of both clocks."""
    return World().controller


def add(
    controller: Controller, uid: str, *, age: float = 0, phase: str = "Sending", **more: Any
) -> Notification:
    """A claimed and planned notification of one channel, created so many seconds ago."""
    annotations = more.pop("annotations", {})
    request = parse_object(
        {
            "metadata": {
                "uid": uid, "namespace": "n", "name": uid, "resourceVersion": "1",
                "creationTimestamp": format_time(WALL - round(age * 1000)),
                "annotations": annotations,
            },
            "spec": {"type": "Simple"},
            "status": {"phase": phase, **more},
        }
    )  # fmt: skip
    view = LogView(plan=Plan(("slack:ops",), "r", "m", 1))
    entry = notification(request, view=view, claim=Claim(EPOCH, 0, ""))
    controller.cache.entries[uid] = entry
    return entry


def oldest(controller: Controller) -> float:
    """For how long the longest waiting attempt has been due."""
    return controller.overdue.oldest(controller.cache.entries.values())


def held(controller: Controller) -> Counter[str]:
    """How many notifications are held, by reason."""
    return controller.holds.by_reason(controller.cache.entries.values())


def failed(entry: Notification, *, due: float) -> None:
    """It has failed once, and is due again at a second of the boot clock."""
    attempt = Attempt(
        make_attempt_id(EPOCH, 1), "slack:ops", AttemptState.FAILED,
        due=WALL + round((due - NOW) * 1000),
    )  # fmt: skip
    entry.view.attempts[attempt.id] = attempt
    entry.wait("slack:ops", due)


@pytest.fixture
def product() -> Scraped:
    """A product of which nothing was scraped."""
    return Scraped()


def flies(entry: Notification) -> None:
    """Its second attempt is under way, and permitted by the log."""
    entry.in_flight.begin(make_attempt_id(EPOCH, 2), "slack:ops")
    entry.in_flight.leave(make_attempt_id(EPOCH, 2))


def delivered(entry: Notification) -> None:
    """Its channel has ended, whatever is due."""
    failed(entry, due=NOW - 7)
    ((key, attempt),) = entry.view.attempts.items()
    entry.view.attempts[key] = replace(attempt, state=AttemptState.SUCCESS)


def lacks_a_credential(entry: Notification) -> None:
    """An alarm was set later than its retry is due."""
    failed(entry, due=NOW - 7)
    entry.wait("slack:ops", NOW + 30)


#: What becomes of a notification that was created 40 s ago, and for how long it has been due.
DUE: dict[str, tuple[Callable[[Notification], None], float]] = {
    "a first attempt is due since the object was created": (lambda _: None, 40),
    "so is what has no plan yet": (lambda e: setattr(e.view, "plan", None), 40),
    "what could not be claimed since its creation": (lambda e: e.lose(), 40),
    "a retry since its due time": (lambda e: failed(e, due=NOW - 7), 7),
    "what waits for something else all the same": (lacks_a_credential, 7),
    "a wait that is not over is not": (lambda e: failed(e, due=NOW + 5), 0),
    "an attempt that is under way is not": (flies, 0),
    "a channel that has ended is not": (delivered, 0),
    "an object that is gone is not": (lambda e: e.gone(), 0),
}


@pytest.mark.parametrize(("make", "seconds"), DUE.values(), ids=DUE)
def test_oldest_due(
    controller: Controller, make: Callable[[Notification], None], seconds: float
) -> None:
    """The age is that of the attempt, and the oldest of several counts."""
    make(add(controller, "a", age=40))
    assert oldest(controller) == pytest.approx(seconds)
    failed(add(controller, "younger", age=900), due=NOW - 1)
    failed(add(controller, "later", age=900), due=NOW + 1)
    assert oldest(controller) == pytest.approx(max(seconds, 1))
    failed(add(controller, "older", age=2000), due=NOW - 1500)
    assert oldest(controller) == pytest.approx(1500)
    cast("Shards", controller.holds.ownership).drop(0)
    assert oldest(controller) == 0, "strangers do not count"


def test_what_asks_the_log_for_permission_is_overdue(controller: Controller) -> None:
    """As long as the log has not opened the attempt, it waits; once it is being sent, it does not."""
    entry = add(controller, "a", age=40)
    failed(entry, due=NOW - 7)
    asking = make_attempt_id(EPOCH, 2)
    entry.in_flight.begin(asking, "slack:ops")
    assert oldest(controller) == pytest.approx(7)
    # Opened, and still not sent: the log has not permitted it yet.
    entry.view.attempts[asking] = Attempt(asking, "slack:ops", AttemptState.INTENT)
    assert oldest(controller) == pytest.approx(7)
    entry.in_flight.leave(asking)
    assert oldest(controller) == 0


def test_a_fallback_is_due_since_it_is_needed(controller: Controller) -> None:
    """Not since the object was created, and not while it stands by."""
    entry = add(controller, "a", age=900)
    stands_by = (Fallback("mail:ops", ("slack:ops",)),)
    entry.view.plan = Plan(("slack:ops", "mail:ops"), "r", "m", WALL, fallbacks=stands_by)
    failed(entry, due=NOW + 5)
    assert oldest(controller) == 0
    (attempt,) = entry.view.attempts.values()
    refused = replace(attempt, failure=FailureClass.PERMANENT, ended=WALL - 6_000, due=0)
    entry.view.attempts[attempt.id] = refused
    assert oldest(controller) == pytest.approx(6)


def test_what_is_held_on_purpose_is_not_overdue(controller: Controller) -> None:
    """An operator who holds one back, or all, has not been forgotten; nor is what has ended overdue."""
    add(controller, "done", age=900, phase="Sent")
    add(controller, "a", age=40, annotations={HOLD_ANNOTATION: "true"})
    assert oldest(controller) == 0
    add(controller, "b", age=40)
    controller.holds.paused = True
    assert oldest(controller) == 0


def test_holds_by_reason(controller: Controller) -> None:
    """Each notification is counted once, under the first reason that applies."""
    add(controller, "free")
    add(controller, "quarantined").unintelligible("record 3")
    add(controller, "finished", phase="Sent").unintelligible("record 3")
    add(controller, "stopped").object_to("two open")
    add(controller, "fenced").epochs(fenced=1.0)
    add(controller, "waits").held(1.0, shown=False)
    add(controller, "unsent", conditions=[{"type": "AttemptsNotSent", "status": "True"}])
    add(controller, "held", annotations={HOLD_ANNOTATION: ""})
    add(controller, "over", phase="Failed").held(1.0, shown=False)
    assert held(controller) == {
        "quarantined": 2, "self-audit": 1, "fenced": 1, "log-unavailable": 1, "not-sent": 1,
        "hold": 1,
    }  # fmt: skip
    controller.holds.paused = True
    assert held(controller)["paused"] == 1


async def test_a_stopped_notification_is_not_sent(controller: Controller) -> None:
    """What the self-audit has stopped is not due, until it is let go, and not decided to be given up."""
    entry = add(controller, "a", age=40)
    assert controller.attempts.still_due(entry, Held(), "slack:ops")
    entry.object_to("two open")
    assert not controller.attempts.still_due(entry, Held(), "slack:ops")
    assert await controller.reconciler.reconcile("a") == Await("held by the self-audit")


# -- a scrape ---------------------------------------------------------------------------------------


class Scraped:
    """A product that reaches nothing, at a moment that a test sets, and what a scrape of it shows."""

    def __init__(self, **members: Any) -> None:
        self.now = NOW
        self.router = NoRouter()
        outside = replace(unreachable(router=self.router), monotonic=lambda: self.now)
        outside.api_time.monotonic = outside.monotonic
        self.parts = Parts(loaded_with(**members), outside)

    def value(self, name: str, **labels: str) -> float | None:
        """What a scrape shows now."""
        asyncio.run(refresh(self.parts))
        return self.parts.outside.registry.get_sample_value(name, labels)

    def own(self, name: str, **labels: str) -> float | None:
        """The same of a series of the product's own."""
        return self.value(f"notification_ledger_{name}", **labels)

    def active(self) -> dict[str, float | None]:
        """How many notifications there are by phase."""
        name = "kubernaut_notification_reconciler_active"
        phases = ("Pending", "Sending", "Retrying", "Sent", "PartiallySent", "Failed")
        return {phase: self.value(name, phase=phase) for phase in phases}


def test_a_scrape_counts_notifications_by_phase(product: Scraped) -> None:
    """Live and finished ones together; one without a status is pending; what has left is not counted."""
    assert set(product.active().values()) == {0.0}
    controller, cache = product.parts.controller, product.parts.cache
    for uid, phase in (("a", ""), ("b", "Pending"), ("c", "Sending"), ("d", "Sent")):
        add(controller, uid, phase=phase)
    for uid, phase in (("e", "Sent"), ("f", "Failed"), ("g", "Sent")):
        cache.finished[uid] = summary(add(controller, uid, phase=phase).request)
        del cache.entries[uid]
    assert product.active() == {
        "Pending": 2.0, "Sending": 1.0, "Retrying": 0.0, "Sent": 3.0, "PartiallySent": 0.0,
        "Failed": 1.0,
    }  # fmt: skip
    assert product.own("live_notifications") == 4
    assert product.own("finished_notifications") == 3
    cache.finished.clear()
    assert product.active()["Sent"] == 1
    assert product.own("finished_notifications") == 0


def test_a_scrape_shows_why_notifications_wait() -> None:
    """Each reason has a series from the start; a damaged log, and for how long one is due, of its own."""
    product = Scraped(sharding={"shards": 1})
    product.parts.shards.take(0, Held())
    assert [product.own("held_notifications", reason=reason) for reason in HoldReason] == [
        0.0
    ] * len(HoldReason)
    assert product.own("quarantined") == 0
    product.parts.controller.notifications.recorder.time.set(WALL)
    for uid in ("a", "b"):
        add(product.parts.controller, uid).unintelligible("record 3")
    add(product.parts.controller, "c", annotations={HOLD_ANNOTATION: ""})
    add(product.parts.controller, "due", age=40)
    assert product.own("held_notifications", reason="quarantined") == 2
    assert product.own("held_notifications", reason="hold") == 1
    assert product.own("held_notifications", reason="fenced") == 0
    assert product.own("quarantined") == 2
    assert product.own("oldest_due_seconds") == pytest.approx(40)


def test_a_scrape_shows_what_is_not_journaled(product: Scraped) -> None:
    """While others are: by the reason, each of which has a series."""
    for uid, basis in (("a", Basis.OLDER), ("b", Basis.OLDER), ("c", None)):
        add(product.parts.controller, uid).not_journaling(basis)
    shown = {b: product.own("not_journaled_notifications", basis=b.value) for b in INCOMPLETE}
    assert shown == dict.fromkeys(INCOMPLETE, 0.0) | {Basis.OLDER: 2.0}


@pytest.mark.parametrize("finished", [False, True])
async def test_the_loop_turns_while_a_scrape_looks(
    product: Scraped, finished: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many notifications there are: each takes microseconds, and there may be 100,000."""
    monkeypatch.setattr(gauges, "_FINISHED", SLICE)
    entry, cache = add(product.parts.controller, "a"), product.parts.cache
    cache.entries.clear()
    if finished:
        cache.finished |= {f"u{n}": summary(entry.request) for n in range(5 * SLICE)}
    else:
        cache.entries |= {f"u{n}": entry for n in range(5 * SLICE)}
    turns, scrape = 0, asyncio.create_task(refresh(product.parts))
    while not scrape.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 5


async def test_what_ends_during_a_scrape_is_counted_once(product: Scraped) -> None:
    """It was among the unfinished as the scrape began, and is among the finished before its end."""
    entry, cache = add(product.parts.controller, "a", phase="Sent"), product.parts.cache
    scrape = asyncio.create_task(refresh(product.parts))
    await asyncio.sleep(0)
    cache.retire(entry)
    await scrape
    name = "kubernaut_notification_reconciler_active"
    assert product.parts.outside.registry.get_sample_value(name, {"phase": "Sent"}) == 1


def test_each_end_is_counted_from_nothing(product: Scraped) -> None:
    """A series that began with its first end would show no rate of it."""
    name, value = "notification_ledger_completion_seconds_count", product.value
    assert {value(name, phase=p) for p in ("Sent", "PartiallySent", "Failed", "Superseded")} == {0}


async def test_a_scrape_tells_for_how_long_it_held_the_loop(
    product: Scraped,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own work counts, of live notifications and of all else; what others do meanwhile does not."""
    add(product.parts.controller, "a")

    def works(seconds: float) -> Callable[..., float]:
        def work(*_: object) -> float:
            product.now += seconds
            return 0.0

        return work

    async def others() -> None:
        while True:
            product.now += 1000
            await asyncio.sleep(0)

    monkeypatch.setattr(product.parts.controller.overdue, "oldest", works(2))
    monkeypatch.setattr(product.parts.cache, "oldest_dirty", works(30))
    async with beside(others()):
        await asyncio.sleep(0)
        assert await refresh(product.parts) == 32


def test_a_scrape_shows_the_oldest_change_that_no_status_shows(product: Scraped) -> None:
    """Its age grows until a write has begun."""
    entry = add(product.parts.controller, "a")
    product.parts.cache.mark_dirty(entry)
    product.now += 12
    assert product.own("dirty_oldest_seconds") == 12
    entry.publication.cover()
    assert product.own("dirty_oldest_seconds") == 0


def test_the_log_is_available_where_redis_serves_a_process_that_has_started(
    product: Scraped,
) -> None:
    """Neither a server that is not checked yet nor one that is away takes attempts."""
    client = cast("MemoryClient", product.parts.client)
    assert product.own("log_available") == 0
    client.problem = None
    assert product.own("log_available") == 0  # not looked at by the start
    product.parts.progress.redis = None
    assert product.own("log_available") == 1
    client.problem = "Connection refused"
    assert product.own("log_available") == 0


def test_a_scrape_shows_how_far_redis_is_ahead(product: Scraped) -> None:
    """0 while that is not known."""
    assert product.own("clock_offset_seconds") == 0
    product.parts.outside.api_time.set(WALL)
    offset = round(WALL + 2500 - product.now * 1000)
    product.parts.clocks.ahead({CLOCK: str(offset), "run_id": "r"})
    assert product.own("clock_offset_seconds") == 2.5


def test_a_scrape_shows_what_is_owned_and_for_how_long() -> None:
    """Of several terms the one that ends first counts; without a shard there is no time left."""
    product = Scraped(sharding={"shards": 4})
    shards = product.parts.shards
    assert (product.own("shards"), product.own("shards_owned")) == (4, 0)
    assert product.own("lease_margin_seconds") == 0
    timings = LeaseTimings(renew_deadline=5.0, retry_period=2.0, margin=3.0, send_timeout=10.0)
    terms = [LeaseTerm(EPOCH, Session("s", renewed, timings)) for renewed in (NOW, NOW - 1)]
    for shard, term in enumerate(terms):
        shards.take(shard, term)
    product.now += 2
    assert product.own("shards_owned") == 2
    assert product.own("lease_margin_seconds") == 2
    assert (terms[0].valid(NOW + 4.9), terms[0].left(NOW + 6)) == (True, 0)
    terms[0].end("lost")
    assert product.own("lease_margin_seconds") == 0


def test_a_scrape_shows_what_the_parts_say(
    product: Scraped, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of replicas, routing, holds, queues and the loop."""
    names = (
        "sessions", "routing_stale", "routing_doubtful_keys", "holds",
        "held_critical_seconds", "undelivered_critical_seconds", "queue_depth", "delayed",
        "running_attempts", "loop_longest_stall_seconds",
    )  # fmt: skip
    assert [product.own(name) for name in names] == [0] * len(names)
    parts, controller = product.parts, product.parts.controller
    add(controller, "a")
    monkeypatch.setattr(ShardManager, "sessions", 3)
    product.router.problem, product.router.doubts = "line 3: no such receiver", 8
    monkeypatch.setattr(controller.placed, "in_force", lambda: 4)
    monkeypatch.setattr(controller.holds, "critical_seconds", lambda _: 7.5)
    monkeypatch.setattr(controller.holds, "undelivered_critical", lambda _: 9.5)
    for uid in ("a", "b"):
        parts.queue.add(uid)
    monkeypatch.setattr(WorkQueue, "delayed", 1)
    monkeypatch.setattr(Dispatcher, "running", 5)
    parts.outside.watch.late(0.2)
    parts.outside.watch.late(0.1)
    shown = [product.own(name) for name in names]
    assert shown == [3, 1, 8, 4, 7.5, 9.5, 2, 1, 5, 0.2]
