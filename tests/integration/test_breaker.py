"""The breaker in the real delivery: controller, recorder, log on a real server, real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from notifier.dispatch.breaker import OPEN_MOST, State
from syncer.ledger.client import LedgerClient
from syncer.model.attempt import AttemptState
from syncer.model.record import Kind
from tests.e2e.harness import until
from tests.integration.broken_receiver import DEV, OPS, Delivery, Receiver
from tests.integration.delivering import delivering

pytestmark = pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)

REFUSED = "slack circuit breaker is open (too many failures, preventing cascading failures)"


@pytest.fixture
async def delivered(redis_url: str) -> AsyncIterator[tuple[Delivery, Receiver]]:
    """A delivery that runs, and its receiver."""
    client = LedgerClient(redis_url, prefix="breaker")
    await client.open("test")
    async with delivering(client) as made:
        yield made


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


async def test_an_open_breaker_rejects(delivered: tuple[Delivery, Receiver]) -> None:
    """Refused: one skip record, one event, no attempt, no call; later it is sent all the same."""
    delivery, receiver = delivered
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


async def test_a_dead_receiver_delays_nobody(delivered: tuple[Delivery, Receiver]) -> None:
    """One channel of a notification is held, its other channel is delivered."""
    delivery, receiver = delivered
    await opened(delivery, receiver)
    delivery.create("both", OPS, DEV)
    await until(lambda: delivery.states("both", DEV) == [AttemptState.SUCCESS], "sent to dev")
    await until(lambda: bool(delivery.reported("both")), "the event about ops")
    assert delivery.states("both", OPS) == []
    assert delivery.breakers.states(delivery.clock()) == {OPS: State.OPEN, DEV: State.CLOSED}
