"""Who looks again: whatever ends a look without a decision, the resync brings the next one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import pytest
from prometheus_client import CollectorRegistry

from notifier.contract import Message, Outcome
from notifier.dispatch.dispatcher import Dispatcher
from notifier.dispatch.workqueue import WorkQueue
from notifier.router import Routed
from syncer.kube.lease_term import LeaseTerm, LeaseTimings, Session
from syncer.metrics import SyncMetrics
from syncer.model.attempt import AttemptId, AttemptState, Epoch
from syncer.model.errors import ContractError, Unavailable
from syncer.model.record import Plan
from syncer.model.resource import NotificationRequest, parse_object
from syncer.runtime.clock import LedgerTime
from syncer.sharding.ownership import Shards
from syncer.sync.cache import Cache
from syncer.sync.notification import Notification
from syncer.sync.recorder import Recorder
from syncer.sync.sweeps import Resync
from tests.beside import beside, eventually
from tests.fakes.memorylog import MemoryLog, MemoryRedis
from tests.fakes.notifications import controller, notifications
from tests.unit.notifier.reconciler.attempting import Receiver

CHANNEL = "webhook:a"
PERIOD = 10.0


class World:
    """A controller of one shard with its log, queues and resync, and a clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.versions: dict[str, int] = {}
        self.held: str | None = None
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
        self.error: Exception | None = None
        self.receiver = Receiver()
        self.queue = WorkQueue(clock)
        router = SimpleNamespace(
            plan=AsyncMock(return_value=Routed(Plan((CHANNEL,), "r", "m", 1))),
            channel=lambda _: self.receiver, not_ready=lambda _: self.held, denial=lambda *_: None,
        )  # fmt: skip
        self.controller = controller(
            notifications(recorder, self.shards, self, Mock()), self.queue, router, Mock(),
            lambda run: Dispatcher(run, per_channel=4, total=8, monotonic=clock),
        )  # fmt: skip
        self.asked: list[str] = []
        self.cache.check = self.request_check
        claimer = self.controller.notifications.claimer
        self.resync = Resync(claimer, self.controller.waits)

    async def get(self, namespace: str, name: str, _known: object = None) -> NotificationRequest:
        """The object as the API server has it now, to be claimed."""
        if self.error is not None:
            raise self.error
        return parse_object(self.document(name))

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
    await made.controller.dispatcher.drain(0.0)
    await made.controller.notifications.outcomes.drain(5.0)


async def test_a_look_while_a_renewal_is_in_doubt(world: World) -> None:
    """The lease is valid again without another term, and nothing but the resync says so."""
    world.now += world.timings.renew_deadline + 0.1
    world.create()
    await world.rest()
    # The renewal whose answer was lost is found written, and was in time.
    world.session.renewed = world.now
    assert world.nobody_comes
    assert world.receiver.got == []
    assert await world.round() == ["uid-a"]
    assert world.receiver.got == ["a"]


async def test_a_log_that_was_repaired_without_a_word(world: World) -> None:
    """What could not be read is claimed again now and then, and goes on."""
    await world.log.claim("uid-a", Epoch("0.8"), name="n/a")
    key = "nl:{uid-a}"
    whole = list(world.redis.twin.logs[key])
    world.redis.twin.logs[key].append(b"intent 0.8-1 c 00000000 00000000 rubbish")
    notification = world.create()
    await world.rest()
    assert notification.quarantine
    assert world.nobody_comes
    assert await world.round() == [], "it is known, and was looked at a moment ago"
    world.redis.twin.logs[key] = whole
    await world.round()
    assert await world.round() == ["uid-a"]
    assert not notification.quarantine
    assert world.receiver.got == ["a"]


async def test_an_object_that_cannot_be_read(world: World) -> None:
    """It is tried again as before, is looked at by the resync now and then, and counts as known."""
    world.error = ContractError("not an object of ours")
    notification = world.create()
    await world.rest()
    assert notification.blocked
    for _ in range(6):
        await world.round(0.0)
        assert world.metrics.unchecked._value.get() == 0
    world.error = None
    await world.round(40.0)
    assert not notification.blocked
    assert world.receiver.got == ["a"]


async def test_a_log_of_a_later_epoch(world: World) -> None:
    """It is looked at now and then, not ever more often, and is said in readiness meanwhile."""
    await world.log.claim("uid-a", Epoch("1.1"), name="n/a")
    world.create()
    await world.rest()
    assert world.cache.entries["uid-a"].fenced
    assert world.nobody_comes
    assert [await world.round() for _ in range(3)] == [[], [], ["uid-a"]]
    assert world.controller.holds.fence_problem(5.0) is not None


@pytest.mark.parametrize(
    "lose",
    [
        pytest.param(lambda e: e.lose(), id="its claim"),
        pytest.param(lambda e: e.news(), id="that its log holds more"),
        pytest.param(lambda e: e.checking(), id="that it was checked"),
    ],
)
async def test_what_is_lost_is_made_up_for(
    world: World, lose: Callable[[Notification], None]
) -> None:
    """Whatever a notification has lost, without a word to anybody, one round brings back."""
    world.controller.holds.paused = True
    notification = world.create()
    await world.settled()
    lose(notification)
    assert await world.round() == ["uid-a"]
    assert (notification.claim is None, notification.reread, notification.last_check is None) == (
        False,
        False,
        False,
    )
    assert await world.round() == []


async def test_a_log_that_could_not_be_marked_is_marked(world: World) -> None:
    """Whether or not anything else has said that it is back."""
    notification = world.create()
    await world.rest()
    notification.publication.clean()
    world.cache.unmarked[notification.uid] = None
    await world.round()
    assert (notification.publication.urgent, world.cache.unmarked) == (True, {})


async def test_a_deleted_one_is_let_go(world: World) -> None:
    """What is gone is claimed, retired and forgotten, although the event was lost on the way."""
    world.controller.holds.paused = True
    notification = world.create()
    await world.rest()
    notification.gone()
    assert await world.round() == ["uid-a"]
    assert "uid-a" not in world.cache.entries


@pytest.mark.parametrize("what", ["busy", "unrecorded", "neither"])
async def test_a_notification_is_released_when_its_shard_leaves(world: World, what: str) -> None:
    """At once, or when nothing works on it any more; that is no deletion."""
    world.controller.holds.paused = True
    notification = world.create()
    world.create("other")
    await world.rest()
    world.shards.drop(0)
    notification.epochs(fenced=1.0)
    if what == "busy":
        notification.publication.begin()
    elif what == "unrecorded":
        notification.in_flight.keep(AttemptId("0.9-1"), cast("Any", ()), cast("Any", ()))
    assert world.controller.notifications.release("uid-a") is (what == "neither")
    assert ("uid-a" in world.cache.entries) is (what != "neither")
    assert not notification.deleted
    assert what == "neither" or not notification.fenced
    notification.in_flight.recorded(AttemptId("0.9-1"))


async def test_a_notification_that_is_ours_again_stays(world: World) -> None:
    """Its shard was lost and is back before it was dropped: what was listed again must not go."""
    world.controller.holds.paused = True
    notification = world.create()
    await world.rest()
    world.shards.drop(0)

    async def back(_: Notification, **__: object) -> None:
        world.shards.take(0, world.term)

    notification.in_flight.keep(AttemptId("0.9-1"), cast("Any", ()), cast("Any", ()))
    cast("Any", world.controller.notifications.recorder).record_kept = back  # while Redis is asked
    await world.controller.reconciler.reconcile("uid-a")
    assert world.cache.entries["uid-a"] is notification
    notification.in_flight.recorded(AttemptId("0.9-1"))


async def test_what_waits_costs_no_look(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a due time to come, nor a hold, nor a place in a receiver's queue is looked at."""
    monkeypatch.setattr("notifier.reconciler.attempt._CREDENTIAL_PAUSE", 500.0)
    world.controller.holds.paused = True
    for n in range(3):
        world.create(f"held-{n}")
    await world.settled()
    waiting = world.cache.entries["uid-held-0"]
    assert waiting.last_check is not None
    world.controller.holds.paused = False
    world.held = "its credential is missing"
    world.queue.add("uid-held-1")
    await world.rest()
    assert await world.round() == ["uid-held-1"], "the attempt was put off by its queue"
    await world.round()
    assert [await world.round() for _ in range(3)] == [[], [], []]
    assert world.receiver.got == []


async def test_a_notification_in_a_receivers_queue_is_not_looked_at(world: World) -> None:
    """It is in the hands of its queue, which every round starts anew what it can start."""
    gate = asyncio.Event()

    async def slow(message: Message) -> Outcome:
        await gate.wait()
        world.receiver.got.append(message.name)
        return Outcome.success(200)

    world.receiver.send = slow  # type: ignore[method-assign]  # a receiver that hangs
    for n in range(12):
        world.create(f"n{n}")
    await eventually(lambda: not len(world.queue))
    world.now += 0.5
    world.asked.clear()
    await world.resync.round()
    assert world.asked == []
    gate.set()
    await world.rest()
    assert len(world.receiver.got) == 12


async def test_the_metrics_tell_what_waits_for_a_look(world: World) -> None:
    """What was asked for a round ago and got no decision counts, with the time since then."""
    world.error = Unavailable("away")
    world.create()
    await world.rest()
    await world.round()
    assert world.metrics.unchecked._value.get() == 0
    await world.round()
    await world.round()
    assert world.metrics.unchecked._value.get() == 1
    assert world.resync.unchecked() == pytest.approx(2 * PERIOD)
    world.error = None
    await world.round()
    await world.round()
    assert world.metrics.unchecked._value.get() == 0
    assert world.resync.unchecked() == 0
    world.now += 77
    assert world.resync.unchecked() == 77, "a resync that stands still shows as well"


async def test_an_outage_of_redis_is_no_time_without_a_look(world: World) -> None:
    """It has a metric and an alert of its own."""
    notification = world.create()
    world.error = Unavailable("away")
    await world.rest()
    await world.round()
    world.log.client.problem = "away"
    await world.round(1000.0)
    world.log.client.problem = None
    await world.round()
    assert notification.unchecked_since == world.now - PERIOD
    assert world.resync.unchecked() == pytest.approx(PERIOD)


async def test_a_result_outlives_the_shard_in_which_it_was_known(world: World) -> None:
    """The log cannot take it, the shard moves, the log is mended: nobody else knows that it was sent."""
    key = "nl:{uid-a}"
    sound: list[bytes] = []
    send = world.receiver.send

    async def damaged(message: Message) -> Outcome:
        sound[:] = world.redis.twin.logs[key]
        world.redis.twin.logs[key][0] = b"no header of ours"
        return await send(message)

    world.receiver.send = damaged  # type: ignore[method-assign] # somebody writes meanwhile
    notification = world.create()
    await world.rest()
    assert world.receiver.got == ["a"]
    assert len(notification.in_flight.unrecorded) == 1
    world.shards.drop(0)
    # While it is not mended it is tried once a round.
    assert await world.round() == ["uid-a"]
    assert world.nobody_comes
    assert len(notification.in_flight.unrecorded) == 1
    world.redis.twin.logs[key][:] = sound
    assert await world.round() == ["uid-a"]
    assert not notification.in_flight.unrecorded
    snapshot = await world.log.read("uid-a")
    assert snapshot is not None
    assert snapshot.records[-1].kind.state is AttemptState.SUCCESS
    assert await world.round() == []


async def test_in_an_outage_what_is_journaled_is_checked(world: World) -> None:
    """A lost wake-up costs a period then, too; of what cannot be journaled nothing is decided."""
    one, other = world.create("a"), world.create("b")
    await world.settled()
    world.redis.down = True
    with pytest.raises(Unavailable):
        await world.log.read_headers([one.uid])
    journaled = {one.uid}
    journal = SimpleNamespace(active=False, applies=lambda it, _term: it.uid in journaled)
    world.resync.journal = cast("Any", journal)
    for notification in (one, other):
        notification.lose()
        notification.checking()
    assert await world.round() == []
    journal.active = True
    assert await world.round() == [one.uid]
    assert other.unchecked_since == 0.0
    journaled.add(other.uid)
    assert sorted(await world.round()) == [one.uid, other.uid]
