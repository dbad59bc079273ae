"""What is left behind where Redis goes away, or a lease term ends, in the middle of an attempt."""

from __future__ import annotations

import asyncio
from copy import copy
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest
from redis.exceptions import ResponseError

from notifier.contract import Message, Outcome
from syncer.ledger.answers import Answer, Proof
from syncer.ledger.replies import classify_reply
from syncer.model.attempt import AttemptState, Epoch
from syncer.model.record import intent_record
from syncer.rules.plan import Await, WaitUntil
from syncer.sync.notification import Claim
from tests.fakes.memorylog import Fault, MemoryLog, Mishap
from tests.unit.notifier.reconciler.attempting import EPOCH, NOW, WALL, World


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
    assert await world.controller.notifications.outcomes.drain(5) == 0
    assert not world.notification.busy
    decision = await world.controller.reconciler.reconcile("uid-a")
    assert [(a.state, a.failure and a.failure.value) for a in world.attempts] == [
        (AttemptState.FAILED, "notSent")
    ]
    assert decision is not None


async def test_an_intent_in_doubt_holds_its_channel(world: World) -> None:
    """Until it is on record that nothing was sent for it, nothing else is opened on the channel."""
    await world.planned()
    outcomes = world.controller.notifications.outcomes
    journal: Any = copy(outcomes.journal)
    journal.patience, outcomes.journal = 60.0, journal
    world.redis.faults += [
        Fault(Mishap.LOSE_REQUEST, "intent"),
        Fault(Mishap.REFUSE, "outcome", times=2),
    ]
    held: list[bool] = []
    outcome = world.log.outcome

    async def seen(*args: Any, **options: Any) -> Any:
        world.notification.due.clear()
        held.append(isinstance(world.controller.decisions.next(world.notification), Await))
        # It is still due: the gauge and the condition must not take it for one under way.
        held.append(world.controller.overdue.waits(world.notification))
        return await outcome(*args, **options)

    world.log.outcome = seen  # type: ignore[method-assign] # what holds meanwhile is looked at
    assert await world.controller.attempts.run("uid-a", "c") is None
    assert await world.controller.notifications.outcomes.drain(20) == 0
    assert held == [True, True]
    assert not world.notification.in_flight.executing
    # The request that was lost comes in late: it opens nothing.
    ((identity, _),) = world.notification.view.attempts.items()
    late = intent_record(identity, "c", at=1, by="t")
    answer = await world.log.intent("uid-a", Proof(EPOCH, ""), late, limit=9, guard=lambda: True)
    assert (answer.answer, answer.rank) == (Answer.DUP, AttemptState.FAILED)


async def test_refused_intents_leave_nothing_in_memory(world: World) -> None:
    """However often the log says no, nothing is kept of it."""
    await world.planned()
    other = MemoryLog(world.redis, patience=0.0)
    await other.claim("uid-a", Epoch("0.8"), name="n/a")
    for _ in range(50):
        world.notification.claiming()
        world.notification.claimed(Claim(EPOCH, world.log.client.generation, world.log.stamp))
        assert await world.controller.attempts.run("uid-a", "c") is None
    assert world.notification.in_flight.never_sent == set()
    assert world.notification.in_flight.executing == {}


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
    ((_, attempt, _), _) = world.reporter.attempted.call_args
    assert attempt.state is AttemptState.SUCCESS
    assert await world.controller.queue.get() == "uid-a"
    await world.controller.reconciler.reconcile("uid-a")
    assert [a.state.word for a in world.notification.view.attempts.values()] == ["success"]


async def test_end_waits_for_no_record_without_a_bound(world: World) -> None:
    """A send that is cut off leaves its record to `settle`, which gives up in time."""
    await world.planned()
    begun = asyncio.Event()

    async def send(message: Message) -> Outcome:
        begun.set()
        await asyncio.Event().wait()
        return Outcome.success(200)

    never = cast("Any", lambda *_, **__: asyncio.Event().wait())
    world.receiver.send = send  # type: ignore[method-assign] # the receiver of this test alone
    world.controller.notifications.outcomes.close = never  # type: ignore[method-assign] # Redis is away
    task = asyncio.create_task(world.controller.attempts.run("uid-a", "c"))
    await begun.wait()
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=0.5)
    assert done
    assert await world.controller.notifications.outcomes.drain(0.01) == 1


async def test_a_claim_while_a_result_is_recorded_takes_no_wait_away(world: World) -> None:
    """Redis comes back, the log is claimed anew, then takes the result: its back-off still counts."""
    await world.planned()
    asked = Outcome.transient("webhook returned 503 (retryable): ", code=503, retry_after=60.0)
    world.receiver.send = AsyncMock(return_value=asked)  # type: ignore[method-assign] # answers so
    outcome = world.log.outcome

    async def late(*args: Any, **options: Any) -> Any:
        world.controller.notifications.recorder.lose_claim(world.notification, "test")
        await world.controller.reconciler.reconcile("uid-a")
        return await outcome(*args, **options)

    world.log.outcome = late  # type: ignore[method-assign] # what happens before it is recorded
    assert await world.controller.attempts.run("uid-a", "c") == asked
    assert await world.controller.notifications.outcomes.drain(5) == 0
    assert [a.due - WALL for a in world.attempts] == [60_000]
    assert await world.controller.reconciler.reconcile("uid-a") == WaitUntil(
        NOW + 60, "next attempt not due yet"
    )


async def test_a_result_that_goes_on_being_refused_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds no place of its receiver for longer, and is recorded by the claim that finds it possible."""
    monkeypatch.setattr("syncer.sync.attempts._REFUSED_PAUSES", (0.0, 0.0))
    await world.planned()
    refused = classify_reply(ResponseError("WRONGTYPE Operation against a key"))
    outcome = world.log.outcome
    world.log.outcome = AsyncMock(side_effect=refused)  # type: ignore[method-assign] # refuses
    assert await world.controller.attempts.run("uid-a", "c") == Outcome.success(200)
    await asyncio.gather(*world.controller.notifications.outcomes.recording)
    assert not world.notification.busy
    assert world.notification.quarantine
    assert [a.state for a in world.attempts] == [AttemptState.INTENT]
    await world.controller.reconciler.reconcile("uid-a")
    assert len(world.notification.in_flight.unrecorded) == 1
    world.log.outcome = outcome  # type: ignore[method-assign] # takes it
    await world.controller.reconciler.reconcile("uid-a")
    assert [a.state for a in world.attempts] == [AttemptState.SUCCESS]
    assert not world.notification.in_flight.unrecorded
