"""What is left behind where Redis goes away, or a lease term ends, in the middle of an attempt."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest
from prometheus_client import CollectorRegistry
from redis.exceptions import ResponseError

from notifier.contract import Message, Outcome
from notifier.dispatch.workqueue import WorkQueue
from notifier.metrics import DeliveryMetrics
from notifier.reconciler.controller import Controller
from notifier.reconciler.decisions import DeliveryBounds
from notifier.reconciler.ports import Ports
from notifier.router import Routed
from syncer.ledger.answers import Answer, Proof
from syncer.ledger.replies import classify_reply
from syncer.metrics import SyncMetrics
from syncer.model.attempt import Attempt, AttemptState, Epoch
from syncer.model.record import Plan, intent_record, skip_record
from syncer.model.resource import parse_object
from syncer.rules.plan import Await, WaitUntil
from syncer.runtime.clock import LedgerTime
from syncer.sharding.ownership import Shards
from syncer.sync.cache import Cache, Claim, Entry
from syncer.sync.claim import Claimer
from syncer.sync.recorder import Recorder
from tests.fakes.journal import NO_JOURNAL
from tests.fakes.memorylog import Fault, MemoryLog, MemoryRedis, Mishap
from tests.unit.notifier.reconciler.test_zombie import Calls, LeaseTerm

NONE = cast("Any", None)
NOW = 100.0
WALL = 1_795_576_400_000
EPOCH = Epoch("0.7")


class Receiver:
    """A channel that takes everything, and counts."""

    timeout_s = 1.0
    shows_status = False
    keeps_state = False

    def __init__(self) -> None:
        self.sent = 0

    async def send(self, message: Message) -> Outcome:
        """Take it."""
        self.sent += 1
        return Outcome.success(200)


class World:
    """A controller that owns one planned notification, and another writer of its log."""

    def __init__(self) -> None:
        self.redis = MemoryRedis(clock=lambda: WALL)
        self.log = MemoryLog(self.redis, patience=0.0)
        self.cache = Cache(window=1.0, monotonic=lambda: NOW)
        self.shards = Shards(1)
        self.shards.take(0, LeaseTerm(EPOCH))
        self.receiver = Receiver()
        registry = CollectorRegistry()
        time = LedgerTime(lambda: NOW)
        time.set(WALL)
        metrics = SyncMetrics(registry)
        recorder = Recorder(self.log, self.cache, time, metrics, identity="t")
        self.reporter = Calls()
        self.controller = Controller(
            Ports(
                queue=WorkQueue(lambda: NOW), recorder=recorder,
                claimer=Claimer(recorder, NONE, metrics, backoff=lambda *_: 1000),
                ownership=self.shards,
                router=cast(
                    "Any",
                    SimpleNamespace(
                        channel=lambda _: self.receiver, not_ready=lambda _: None, denial=lambda *_: None,
                        plan=AsyncMock(return_value=Routed(Plan(("c",), "r", "m", 1))),
                    ),
                ),
                reporter=cast("Any", self.reporter), metrics=DeliveryMetrics(registry),
                bounds=DeliveryBounds(at_most_once=False, max_age=0, outcome_patience=0.0),
                journal=NO_JOURNAL,
            ),
            dispatcher=lambda _: NONE,
        )  # fmt: skip
        self.controller.watch.upsert(
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
        self.entry: Entry = self.cache.entries["uid-a"]

    async def planned(self) -> None:
        """Claim the log and freeze the plan."""
        await self.log.claim("uid-a", EPOCH, name="n/a")
        self.entry.claim = Claim(EPOCH, self.log.generation, self.log.stamp)
        plan, _ = await self.controller.attempts.ports.router.plan(NONE, 1)
        await self.controller.recorder.plan(self.entry, plan)

    @property
    def attempts(self) -> list[Attempt]:
        """Attempts on record, oldest first."""
        return list(self.entry.view.attempts.values())

    async def word_of_another(self) -> None:
        """Somebody else appends to the log, so that the next answer does not fit the view."""
        other = MemoryLog(self.redis, patience=0.0)
        await other.note("uid-a", skip_record("skip:x", "c", at=1, why="w"))


@pytest.fixture
def world() -> World:
    """A fresh one."""
    return World()


async def test_intent_that_cannot_be_read_back_holds_up_nothing(world: World) -> None:
    """Recorded, not sent, and Redis away before the log is read again: it is settled as not sent."""
    await world.planned()
    await world.word_of_another()
    world.redis.faults.append(Fault(Mishap.REFUSE, "LRANGE"))
    assert await world.controller.attempts.run("uid-a", "c") is None
    assert world.redis.struck
    assert world.receiver.sent == 0
    assert await world.controller.outcomes.drain(5) == 0
    assert not world.entry.busy
    world.entry.fresh = True
    decision = await world.controller.reconciler.reconcile("uid-a")
    attempts = list(world.entry.view.attempts.values())
    assert [(a.state, a.failure and a.failure.value) for a in attempts] == [
        (AttemptState.FAILED, "notSent")
    ]
    assert decision is not None


async def test_an_intent_in_doubt_holds_its_channel(world: World) -> None:
    """Until it is on record that nothing was sent for it, nothing else is opened on the channel."""
    await world.planned()
    outcomes = world.controller.outcomes
    outcomes.ports = replace(outcomes.ports, bounds=DeliveryBounds(False, 0, outcome_patience=60.0))
    world.redis.faults += [
        Fault(Mishap.LOSE_REQUEST, "intent"),
        Fault(Mishap.REFUSE, "outcome", times=2),
    ]
    held: list[bool] = []
    outcome = world.log.outcome

    async def seen(*args: Any, **options: Any) -> Any:
        world.entry.due.clear()
        held.append(isinstance(world.controller.decisions.next(world.entry), Await))
        # It is still due: the gauge and the condition must not take it for one under way.
        held.append(world.controller.overdue.is_due(world.entry))
        return await outcome(*args, **options)

    world.log.outcome = seen  # type: ignore[method-assign] # what holds meanwhile is looked at
    assert await world.controller.attempts.run("uid-a", "c") is None
    assert await world.controller.outcomes.drain(20) == 0
    assert held == [True, True]
    assert not world.entry.executing
    # The request that was lost comes in late: it opens nothing.
    ((identity, _),) = world.entry.view.attempts.items()
    late = intent_record(identity, "c", at=1, by="t")
    answer = await world.log.intent("uid-a", Proof(EPOCH, ""), late, limit=9, guard=lambda: True)
    assert (answer.answer, answer.rank) == (Answer.DUP, AttemptState.FAILED)


async def test_refused_intents_leave_nothing_in_memory(world: World) -> None:
    """However often the log says no, nothing is kept of it."""
    await world.planned()
    other = MemoryLog(world.redis, patience=0.0)
    await other.claim("uid-a", Epoch("0.8"), name="n/a")
    for _ in range(50):
        world.entry.claim = Claim(EPOCH, world.log.generation, world.log.stamp)
        assert await world.controller.attempts.run("uid-a", "c") is None
    assert world.entry.never_sent == set()
    assert world.entry.executing == {}


async def test_outcome_that_cannot_be_read_back_is_reported_all_the_same(world: World) -> None:
    """Recorded, and Redis away before the log is read again: metrics, breaker and queue hear of it."""
    await world.planned()

    async def send(message: Message) -> Outcome:
        await world.word_of_another()
        world.redis.faults.append(Fault(Mishap.REFUSE, "LRANGE"))
        return Outcome.success(200)

    world.receiver.send = send  # type: ignore[method-assign] # the receiver of this test alone
    outcome = await world.controller.attempts.run("uid-a", "c")
    assert world.redis.struck
    assert outcome is not None
    assert [a.state.word for a in world.reporter.attempts] == ["success"]
    assert await world.controller.queue.get() == "uid-a"
    await world.controller.reconciler.reconcile("uid-a")
    assert [a.state.word for a in world.entry.view.attempts.values()] == ["success"]


async def test_end_waits_for_no_record_without_a_bound(world: World) -> None:
    """A send that is cut off leaves its record to `settle`, which gives up in time."""
    await world.planned()
    begun = asyncio.Event()

    async def send(message: Message) -> Outcome:
        begun.set()
        await asyncio.Event().wait()
        return Outcome.success(200)

    async def never(*_: object, **__: object) -> bool:
        await asyncio.Event().wait()
        return False

    world.receiver.send = send  # type: ignore[method-assign] # the receiver of this test alone
    world.controller.recorder.close = never  # type: ignore[method-assign] # Redis is away
    task = asyncio.create_task(world.controller.attempts.run("uid-a", "c"))
    await begun.wait()
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=0.5)
    assert done
    assert await world.controller.outcomes.drain(0.01) == 1


async def test_a_claim_while_a_result_is_recorded_takes_no_wait_away(world: World) -> None:
    """Redis comes back, the log is claimed anew, then takes the result: its back-off still counts."""
    await world.planned()
    asked = Outcome.transient("webhook returned 503 (retryable): ", code=503, retry_after=60.0)
    world.receiver.send = AsyncMock(return_value=asked)  # type: ignore[method-assign] # answers so
    outcome = world.log.outcome

    async def late(*args: Any, **options: Any) -> Any:
        world.controller.recorder.lose_claim(world.entry, "test")
        world.entry.fresh = True
        await world.controller.reconciler.reconcile("uid-a")
        return await outcome(*args, **options)

    world.log.outcome = late  # type: ignore[method-assign] # what happens before it is recorded
    assert await world.controller.attempts.run("uid-a", "c") == asked
    assert await world.controller.outcomes.drain(5) == 0
    assert [a.due - WALL for a in world.attempts] == [60_000]
    assert await world.controller.reconciler.reconcile("uid-a") == WaitUntil(
        NOW + 60, "next attempt not due yet"
    )


async def test_a_result_that_goes_on_being_refused_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds no place of its receiver for longer, and is recorded by the claim that finds it possible."""
    monkeypatch.setattr("syncer.sync.recorder._REFUSED_PAUSES", (0.0, 0.0))
    await world.planned()
    refused = classify_reply(ResponseError("WRONGTYPE Operation against a key"))
    outcome = world.log.outcome
    world.log.outcome = AsyncMock(side_effect=refused)  # type: ignore[method-assign] # refuses
    assert await world.controller.attempts.run("uid-a", "c") == Outcome.success(200)
    await asyncio.gather(*world.controller.outcomes.recording)
    assert not world.entry.busy
    assert world.entry.quarantine
    assert [a.state for a in world.attempts] == [AttemptState.INTENT]
    world.entry.fresh = True
    await world.controller.reconciler.reconcile("uid-a")
    assert len(world.entry.unrecorded) == 1
    world.log.outcome = outcome  # type: ignore[method-assign] # takes it
    world.entry.fresh = True
    await world.controller.reconciler.reconcile("uid-a")
    assert [a.state for a in world.attempts] == [AttemptState.SUCCESS]
    assert not world.entry.unrecorded
