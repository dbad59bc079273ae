"""Holds of operators in the controller: what is not sent, until when, and what metrics count."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, Final

import pytest

from syncer.metrics import HoldReason
from syncer.model.hold import Hold
from syncer.model.resource import parse_object
from syncer.rules.holds import reason_of
from syncer.rules.plan import Deliver, Withhold
from syncer.runtime.clock import ServerTime
from syncer.sync.cache import Entry
from tests.unit.notifier.reconciler.test_holds import START, World

OPS: Final = Hold("00000001", START, START + 600_000, "alice", "they mend it", ("slack:ops",))


@pytest.fixture
def world() -> World:
    """A fresh one."""
    return World()


def changed(world: World, entry: Entry, **spec: Any) -> None:
    """Have the object of an entry be another, created when the world began."""
    document = entry.request.document()
    document["spec"] |= spec
    entry.request = replace(parse_object(document), created=START)


def decided(world: World, entry: Entry) -> Deliver | Withhold:
    """The decision of an entry, as the reconciler notes it."""
    decision = world.controller.decisions.next(entry)
    assert isinstance(decision, Deliver | Withhold)
    world.controller.reconciler._decided(entry, decision)
    return decision


async def test_a_hold_begins_ends_and_is_released(world: World) -> None:
    """By the decision alone; the alarm is set for its end, whatever else happens."""
    entry = world.claimed("a")
    assert isinstance(decided(world, entry), Deliver)
    world.controller.take_holds([OPS])
    end = world.now + 600
    assert decided(world, entry) == Withhold(
        ("slack:ops",), end, reason_of(OPS), (("slack:ops", reason_of(OPS)),)
    )
    assert entry.last_check is not None
    assert entry.last_check.by == end
    world.now = end
    assert isinstance(decided(world, entry), Deliver)
    world.now = end - 1
    assert isinstance(decided(world, entry), Withhold)
    world.controller.take_holds([replace(OPS, released=START + 1, released_by="bob")])
    assert isinstance(decided(world, entry), Deliver)


async def test_only_what_a_hold_is_about_is_looked_at_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """When it begins and when it ends, once each; the log says so."""
    for name in ("a", "b"):
        changed(world, world.claimed(name), type="Escalation" if name == "a" else "Simple")
    while len(world.controller.queue):
        world.controller.queue.done(await world.controller.queue.get())
    hold = replace(OPS, types=("Escalation",))
    world.controller.take_holds([hold])
    world.controller.take_holds([hold])
    assert [await world.controller.queue.get()] == ["a"]
    assert len(world.controller.queue) == 1
    world.controller.queue.done("a")
    world.now += 600
    world.controller.take_holds([hold])
    assert [await world.controller.queue.get()] == ["a"]
    said = [(r.message, vars(r)["hold"]) for r in caplog.records if r.levelno == logging.WARNING]
    what = "--receiver slack:ops --type Escalation"
    assert said == [
        (f"a hold is in force: {what}", OPS.id), (f"a hold has ended: {what}", OPS.id),
    ]  # fmt: skip


async def test_a_clock_that_is_ahead_ends_no_hold(world: World) -> None:
    """The earlier of Redis's and the API server's time counts."""
    entry = world.claimed("a")
    world.controller.take_holds([OPS])
    api_time = ServerTime(lambda: world.now)
    world.controller.recorder.time.api_time = api_time
    api_time.set(START)
    world.controller.recorder.time.set(START + 3_600_000)
    assert isinstance(decided(world, entry), Withhold)
    api_time.set(START + 600_000)
    assert isinstance(decided(world, entry), Deliver)


async def test_what_is_held_is_counted_and_not_overdue(world: World) -> None:
    """Under a reason of its own, while the last decision and the holds agree; a pause comes first."""
    entry, holds = world.claimed("a"), world.controller.holds
    ((key, failed),) = entry.view.attempts.items()
    entry.view.attempts[key] = replace(failed, due=START)
    world.now += 30
    assert world.controller.overdue.oldest(world.cache.entries.values()) == 30
    world.controller.take_holds([OPS])
    decided(world, entry)
    assert holds.by_reason(world.cache.entries.values()) == {HoldReason.PLACED: 1}
    assert world.controller.overdue.oldest(world.cache.entries.values()) == 0
    holds.paused = True
    assert holds.by_reason(world.cache.entries.values()) == {"paused": 1}
    holds.paused = False
    world.controller.take_holds([])
    assert not holds.by_reason(world.cache.entries.values())
    assert world.controller.overdue.oldest(world.cache.entries.values()) == 30


async def test_something_critical_is_timed(world: World) -> None:
    """From the placing of the hold on, or from its own creation; nothing else is, nor what is not due."""
    holds = world.controller.holds
    assert holds.critical_seconds(world.cache.entries.values()) == 0
    entry = world.claimed("a")
    changed(world, entry, priority="Critical")
    waits = world.claimed("b")
    changed(world, waits, priority="Critical")
    waits.due["slack:ops"] = world.now + 500
    world.controller.take_holds([OPS])
    decided(world, entry)
    world.now += 40
    assert holds.critical_seconds(world.cache.entries.values()) == 40
    entry.request = replace(entry.request, created=START + 10_000)
    assert holds.critical_seconds(world.cache.entries.values()) == 30
    entry.deleted = True
    assert holds.critical_seconds(world.cache.entries.values()) == 0
    entry.deleted = False
    world.controller.take_holds([])
    assert holds.critical_seconds(world.cache.entries.values()) == 0, (
        "the hold is over, and the next decision is still to come"
    )
    world.controller.take_holds([OPS])
    changed(world, entry, priority="High")
    assert holds.critical_seconds(world.cache.entries.values()) == 0


async def test_a_secret_in_a_reason_goes_nowhere_but_back(world: World) -> None:
    """Logs and decisions have it without; what Redis has lost is put back as it was."""
    url = "https://hooks.slack.com/services/T000/B000/abcdefghijklmnopqrstuvwx"
    entry, hold = world.claimed("a"), replace(OPS, reason=f"see {url}", by="bob")
    world.controller.take_holds([hold])
    assert "abcdefghijklmnop" not in decided(world, entry).held[0][1]
    assert world.controller.placed.known == (hold,)
