"""Whose status says that it waits for the log: the condition LogUnavailable."""

from __future__ import annotations

import pytest

from syncer.model.attempt import AttemptId
from syncer.model.conditions import LOG_UNAVAILABLE, Condition
from syncer.model.resource import Status
from syncer.model.times import format_time
from syncer.rules.journal import Basis, held_because
from tests.fakes.notification import shows
from tests.unit.notifier.reconciler.holding import NOTICE, START, World


@pytest.fixture
def world() -> World:
    """A fresh one."""
    return World()


async def test_it_is_unsaid_when_redis_is_back(world: World) -> None:
    """At the next look, and a later outage starts a minute of its own."""
    notification = world.object("a")
    world.look(1)
    assert world.look(NOTICE) == {"a"}
    notification.publication.clean()
    assert world.look(1, available=True) == set()
    assert notification.publication.dirty_since == world.now
    assert world.look(NOTICE) == set()


async def test_only_a_due_attempt_is_held(world: World) -> None:
    """Not one that waits for its time, in the log or in the status, nor one that is on the wire."""
    later = world.claimed("later")
    later.wait("slack:ops", world.now + 600)
    due = world.claimed("due")
    due.wait("slack:ops", world.now)
    wire = world.claimed("wire")
    wire.in_flight.begin(AttemptId("0.9-2"), "slack:ops")
    wire.in_flight.leave(AttemptId("0.9-2"))
    soon = format_time(START + 1000, millis=True)
    far = format_time(START + 600_000, millis=True)
    world.object("shown-due", {"name": "c", "state": "Retrying", "nextRetryTime": soon})
    world.object("shown-later", {"name": "c", "state": "Retrying", "nextRetryTime": far})
    world.object("shown-done", {"name": "c", "state": "Delivered"})
    world.look(2)
    assert world.look(NOTICE) == {"due", "shown-due"}


async def test_what_is_journaled_is_not_held(world: World) -> None:
    """It waits for nothing but its turn; one that cannot go on says so, and why."""
    notification = world.claimed("a")
    notification.journaling("0.9-1")
    assert world.look(1) == world.look(NOTICE) == set()
    assert notification.outage.since == 0.0
    notification.not_journaling(Basis.OLDER)
    assert world.look(1) == set()
    assert world.look(NOTICE) == {"a"}


async def test_another_reason_is_written_again(world: World) -> None:
    """The status names the present reason, and is not written while it stays."""
    notification = world.claimed("a")
    world.look(1)
    assert world.look(NOTICE) == {"a"}
    for shown in (None, Basis.OLDER):
        condition = Condition(LOG_UNAVAILABLE, "True", *held_because(shown), 1000)
        shows(notification, status=Status(conditions=(condition,)))
        for present in (None, Basis.OLDER, Basis.NO_NOTE):
            notification.publication.clean()
            notification.not_journaling(present)
            world.look(1)
            assert (not notification.publication.pending) == (present is shown)


async def test_what_has_ended_or_cannot_be_read_waits_for_nothing(world: World) -> None:
    """Its log may be away for ever: the status says nothing of a wait."""
    for name in ("ended", "damaged", "due"):
        world.claimed(name)
    ended, damaged = world.cache.entries["ended"], world.cache.entries["damaged"]
    shows(ended, status=Status(phase="Failed"))
    damaged.unintelligible("record 2 cannot be read")
    world.look(1)
    assert world.look(NOTICE) == {"due"}
