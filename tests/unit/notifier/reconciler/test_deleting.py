"""An object that is being deleted and still exists: nothing is sent, and its log is not let go."""

from __future__ import annotations

import pytest

from syncer.model.resource import parse_object
from syncer.rules.plan import Await, Deliver
from tests.unit.notifier.reconciler.attempting import World


@pytest.fixture
async def world() -> World:
    """One whose only notification has a plan and an attempt that is due."""
    made = World()
    await made.planned()
    return made


def mark(world: World) -> None:
    """Have the watch bring the deletion."""
    document = world.notification.request.document()
    document["metadata"] |= {
        "resourceVersion": "10", "deletionTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": ["example.com/keeps"],
    }  # fmt: skip
    world.controller.notifications.upsert(parse_object(document), first_seen_by_watch=False)


async def test_nothing_is_decided_for_it(world: World) -> None:
    """A live claim does not matter, and the change is left to the last sync."""
    assert isinstance(world.controller.decisions.next(world.notification), Deliver)
    mark(world)
    decision = await world.controller.reconciler.reconcile("uid-a")
    assert decision == Await("the object is being deleted")
    assert world.notification.publication.pending
    assert world.controller.overdue.oldest(world.cache.entries.values()) == 0
    assert not world.controller.holds.by_reason(world.cache.entries.values())


async def test_an_intent_that_waits_for_redis_is_not_written(world: World) -> None:
    """The guard is asked right before the command is written."""
    due = world.controller.attempts.still_due

    def then_deleted(*args: object) -> bool:
        answer = due(*args)  # type: ignore[arg-type]  # handed on as it comes
        mark(world)
        return answer

    world.controller.attempts.still_due = then_deleted  # type: ignore[method-assign,assignment]  # for this test
    known = world.notification.view.position
    assert await world.controller.attempts.run("uid-a", "c") is None
    assert (world.receiver.sent, world.notification.view.position) == (0, known)
