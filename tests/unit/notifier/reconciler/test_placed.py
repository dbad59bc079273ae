"""Holds of operators in the controller: what is not sent, until when, and what metrics count."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from syncer.ledger.codec import stored
from syncer.metrics import HoldReason
from syncer.model.hold import Recurrence
from syncer.model.record import resend_record
from syncer.model.resource import parse_object
from syncer.rules.holds import reason_of
from syncer.rules.plan import Deliver, GiveUp, Withhold
from syncer.runtime.clock import ServerTime
from syncer.sync.notification import Notification
from tests.fakes.notification import shows
from tests.unit.notifier.reconciler.holding import OPS, START, World


@pytest.fixture
def world() -> World:
    """A fresh one."""
    return World()


def changed(world: World, notification: Notification, **spec: Any) -> None:
    """Have the object of a notification be another, created when the world began."""
    document = notification.request.document()
    document["spec"] |= spec
    shows(notification, replace(parse_object(document), created=START))


def decided(world: World, notification: Notification) -> Deliver | Withhold:
    """The decision of a notification, as the reconciler notes it."""
    decision = world.controller.decisions.next(notification)
    assert isinstance(decision, Deliver | Withhold)
    world.controller.reconciler._decided(notification, decision)
    return decision


async def test_a_hold_begins_and_ends(world: World) -> None:
    """By the decision alone; the alarm is set for its end, whatever else happens."""
    notification = world.claimed("a")
    assert isinstance(decided(world, notification), Deliver)
    world.controller.placed.obey([OPS])
    end = world.now + 600
    assert decided(world, notification) == Withhold(
        ("slack:ops",), end, reason_of(OPS), (("slack:ops", reason_of(OPS)),)
    )
    assert notification.last_check is not None
    assert notification.last_check.by == end
    world.now = end
    assert isinstance(decided(world, notification), Deliver)
    world.now = end - 1
    assert isinstance(decided(world, notification), Withhold)
    world.controller.placed.obey([replace(OPS, until=START + 1)])
    assert isinstance(decided(world, notification), Deliver)


async def test_a_send_asks_whether_it_is_held(world: World) -> None:
    """By a hold of its receiver, by its object's annotation, or by the pause of all deliveries."""
    notification, holds = world.claimed("a"), world.controller.holds
    assert not holds.hold(notification.request, "slack:ops")
    assert holds.hold(replace(notification.request, hold="x"), "slack:ops")
    world.controller.placed.obey([OPS])
    assert holds.hold(notification.request, "slack:ops")
    assert not holds.hold(notification.request, "console")
    holds.paused = True
    assert holds.hold(notification.request, "console")


async def test_only_what_a_hold_is_about_is_looked_at_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """When it begins and when it ends, once each; the log says so."""
    for name in ("a", "b"):
        changed(world, world.claimed(name), type="Escalation" if name == "a" else "Simple")
    while len(world.controller.queue):
        world.controller.queue.done(await world.controller.queue.get())
    hold = replace(OPS, types=("Escalation",))
    world.controller.placed.obey([hold])
    world.controller.placed.obey([hold])
    assert [await world.controller.queue.get()] == ["a"]
    assert len(world.controller.queue) == 1
    world.controller.queue.done("a")
    world.now += 600
    world.controller.placed.obey([hold])
    assert [await world.controller.queue.get()] == ["a"]
    said = [(r.message, vars(r)["hold"]) for r in caplog.records if r.levelno == logging.WARNING]
    what = "--receiver slack:ops --type Escalation"
    assert said == [
        (f"a hold is in force: {what}", OPS.name), (f"a hold has ended: {what}", OPS.name),
    ]  # fmt: skip


async def test_a_hold_that_a_clock_brought_back_ends_again(world: World) -> None:
    """Its end had been noted; what it has held since is looked at when it is deleted."""
    notification, placed = world.claimed("a"), world.controller.placed
    placed.obey([OPS])
    world.now += 600
    placed.obey([OPS])
    world.controller.notifications.time.set(START)
    assert isinstance(decided(world, notification), Withhold)
    world.controller.queue.done(await world.controller.queue.get())
    assert len(world.controller.queue) == 0
    placed.obey([])
    assert await world.controller.queue.get() == "a"


async def test_a_clock_that_is_ahead_ends_no_hold(world: World) -> None:
    """The earlier of Redis's and the API server's time counts."""
    notification = world.claimed("a")
    world.controller.placed.obey([OPS])
    api_time = ServerTime(lambda: world.now)
    world.controller.notifications.recorder.time.api_time = api_time
    api_time.set(START)
    world.controller.notifications.recorder.time.set(START + 3_600_000)
    assert isinstance(decided(world, notification), Withhold)
    api_time.set(START + 600_000)
    assert isinstance(decided(world, notification), Deliver)


async def test_what_is_held_is_counted_and_not_overdue(world: World) -> None:
    """Under a reason of its own, while the last decision and the holds agree; a pause comes first."""
    notification, holds = world.claimed("a"), world.controller.holds
    ((key, failed),) = notification.view.attempts.items()
    notification.view.attempts[key] = replace(failed, due=START)
    world.now += 30
    assert world.controller.overdue.oldest(world.cache.entries.values()) == 30
    world.controller.placed.obey([OPS])
    decided(world, notification)
    assert holds.by_reason(world.cache.entries.values()) == {HoldReason.PLACED: 1}
    assert world.controller.overdue.oldest(world.cache.entries.values()) == 0
    holds.paused = True
    assert holds.by_reason(world.cache.entries.values()) == {"paused": 1}
    holds.paused = False
    world.controller.placed.obey([])
    assert not holds.by_reason(world.cache.entries.values())
    assert world.controller.overdue.oldest(world.cache.entries.values()) == 30


async def test_something_critical_is_timed(world: World) -> None:
    """From the placing of the hold on, or from its own creation; nothing else is, nor what is not due."""
    holds = world.controller.holds
    assert holds.critical_seconds(world.cache.entries.values()) == 0
    notification = world.claimed("a")
    changed(world, notification, priority="Critical")
    waits = world.claimed("b")
    changed(world, waits, priority="Critical")
    waits.wait("slack:ops", world.now + 500)
    world.controller.placed.obey([OPS])
    decided(world, notification)
    world.now += 40
    assert holds.critical_seconds(world.cache.entries.values()) == 40
    shows(notification, created=START + 10_000)
    assert holds.critical_seconds(world.cache.entries.values()) == 30
    world.controller.placed.obey([])
    assert holds.critical_seconds(world.cache.entries.values()) == 0, (
        "the hold is over, and the next decision is still to come"
    )
    world.controller.placed.obey([OPS])
    changed(world, notification, priority="High")
    assert holds.critical_seconds(world.cache.entries.values()) == 0


async def test_a_secret_in_a_reason_goes_nowhere(world: World) -> None:
    """Logs and decisions have it without."""
    url = "https://hooks.slack.com/services/T000/B000/abcdefghijklmnopqrstuvwx"
    notification, hold = world.claimed("a"), replace(OPS, reason=f"see {url}", author="bob")
    world.controller.placed.obey([hold])
    assert "abcdefghijklmnop" not in decided(world, notification).held[0][1]


async def test_what_is_held_is_let_go_by_the_rate_oldest_first(world: World) -> None:
    """A replica's share of it, each once; nothing is saved up, and a hold that is over forgets."""
    for n in range(10):
        notification = world.claimed(f"n{n}")
        shows(notification, created=START + 10 - n)
    hold, checked = replace(OPS, rate=4.0), list[str]()
    world.cache.check = checked.append

    def step(seconds: float, share: float = 0.5) -> list[str]:
        checked.clear()
        world.now += seconds
        world.controller.placed.let_go(share)
        return list(checked)

    def holds() -> int:
        return sum(isinstance(decided(world, e), Withhold) for e in world.cache.entries.values())

    world.controller.placed.obey([hold])
    assert (holds(), step(0.0), step(0.5)) == (10, ["n9", "n8", "n7", "n6"], ["n5"])
    assert holds() == 5
    assert step(0.25) == []
    assert step(0.25) == ["n4"]
    assert step(60.0) == ["n3", "n2", "n1", "n0"]
    assert (step(60.0), holds()) == ([], 0)
    world.controller.placed.obey([])
    world.controller.placed.obey([hold])
    assert holds() == 10


async def test_how_long_something_critical_is_undelivered(world: World) -> None:
    """Whatever it waits for; not what is not critical, has ended, or is another's."""
    entries = [world.claimed(name) for name in ("low", "new", "old", "done")]
    for notification, age in zip(entries[1:], (10, 400, 900), strict=True):
        changed(world, notification, priority="Critical")
        shows(notification, created=START - age * 1000)
    done = entries[3].request
    shows(entries[3], status=replace(done.status, phase="Sent"))
    assert world.controller.holds.undelivered_critical(entries) == 400
    assert world.controller.holds.undelivered_critical(entries[:1]) == 0


async def test_a_hold_that_recurs_holds_in_its_windows(world: World) -> None:
    """They open and close by themselves, whether or not anything is told of it."""
    notification = world.claimed("a")
    day = START - START % 86_400_000
    recurs = Recurrence("0 0 * * *", "UTC", START - day + 60_000)
    world.controller.placed.obey([replace(OPS, until=START + 90_000_000, recurrence=recurs)])
    assert isinstance(decided(world, notification), Withhold)
    world.now += 61
    assert isinstance(decided(world, notification), Deliver)
    world.controller.placed.obey(world.controller.placed.known)
    assert isinstance(decided(world, notification), Deliver)
    world.now += (day + 86_400_000 - START) / 1000
    assert isinstance(decided(world, notification), Withhold)


async def test_a_hold_that_is_placed_again_is_another(world: World) -> None:
    """Under the same name: what only the first held is looked at, and what it let go is held again."""
    notification, queue = world.claimed("a"), world.controller.queue
    first = replace(OPS, rate=4.0, uid="1")
    world.controller.placed.obey([first])
    assert isinstance(decided(world, notification), Withhold)
    world.now += 1
    world.controller.placed.let_go(1.0)
    assert isinstance(decided(world, notification), Deliver)
    world.controller.placed.obey([replace(first, uid="2")])
    assert isinstance(decided(world, notification), Withhold)
    queue.done(await queue.get())
    world.controller.placed.obey([replace(OPS, receivers=("other",), types=("x",), uid="3")])
    assert len(queue) == 1
    assert isinstance(decided(world, notification), Deliver)


async def test_what_is_dropped_is_given_up_unless_it_is_wanted_again(world: World) -> None:
    """With the reason; what a resend was requested of, and what is younger, goes."""
    notification, young, again = (world.claimed(name) for name in ("a", "young", "again"))
    shows(young, created=START + 1)
    wanted = resend_record("order:slack:ops:2", "slack:ops", at=START, by="bob", why="again")
    again.view.apply(stored(wanted, again.view.chain, again.view.position + 1))
    world.controller.placed.obey([replace(OPS, drop_before=START + 1)])
    decisions = [world.controller.decisions.next(e) for e in (notification, young, again)]
    assert [type(d) for d in decisions] == [GiveUp, Deliver, Deliver]
    assert decisions[0].reason == "dropped with hold 00000001 of alice: they mend it"


async def test_a_changed_end_concerns_nobody_and_a_drop_everybody(world: World) -> None:
    """What is held stays as it is when its end moves; what is dropped is looked at at once."""
    world.claimed("a")
    queue = world.controller.queue
    world.controller.placed.obey([OPS])
    queue.done(await queue.get())
    world.controller.placed.obey([replace(OPS, until=OPS.until + 1)])
    assert len(queue) == 0
    world.controller.placed.obey([replace(OPS, drop_before=START)])
    assert len(queue) == 1
