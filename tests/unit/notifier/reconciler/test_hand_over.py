"""
What a hand-over of a shard waits for: sends, and what can be written; never what is backing off.

While it waits, the whole shard stands still: nothing new is begun, and nobody else may begin it.
"""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from syncer.model.attempt import make_attempt_id
from syncer.rules.shards import Sharding
from tests.fakes.ownership import Held
from tests.unit.notifier.reconciler.holding import World as Still


class World(Still):
    """A controller whose clock goes, and a Redis that may be away."""

    def __init__(self) -> None:
        super().__init__()
        self.cache.monotonic = time.monotonic
        self.log = SimpleNamespace(available=True, client=SimpleNamespace(generation=0))
        self.controller.notifications.recorder.log = cast("Any", self.log)

    def hand_over(self) -> asyncio.Task[bool]:
        """Quiesce the shard; whether it fell quiet in time."""
        return asyncio.create_task(self.controller.quiesce(0, 20.0))


@pytest.fixture
async def world() -> World:
    """A fresh one."""
    return World()


async def test_a_status_that_can_be_written_is_waited_for(world: World) -> None:
    """It is made urgent, and the shard is quiet once it is written."""
    notification = world.claimed("a")
    world.cache.mark_dirty(notification)
    task = world.hand_over()
    while not notification.publication.urgent:
        await asyncio.sleep(0.01)
    notification.publication.cover()
    notification.publication.begin()
    await asyncio.sleep(0.3)
    assert not task.done()
    notification.publication.over()
    assert await task


async def test_a_send_is_waited_for_whatever_is_away(world: World) -> None:
    """Nobody else may begin while a request of ours is on its way."""
    notification = world.claimed("a")
    notification.in_flight.begin(make_attempt_id(Held().epoch, 2), "slack:ops")
    world.log.available = False
    task = world.hand_over()
    await asyncio.sleep(0.3)
    assert not task.done()
    notification.in_flight.executing.clear()
    assert await task


async def test_another_shard_is_not_waited_for(world: World) -> None:
    """Work goes on there."""
    notification = world.claimed("a")
    notification.in_flight.begin(make_attempt_id(Held().epoch, 2), "slack:ops")
    world.shards.sharding = Sharding(2)
    shard = world.shards.sharding.of("a")
    assert await world.controller.quiesce(1 - shard, 20.0)
    assert not await world.controller.quiesce(shard, 0.1)
