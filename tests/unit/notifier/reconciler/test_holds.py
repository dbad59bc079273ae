"""Whose status says that it waits for the log: the condition LogUnavailable."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, cast

import pytest
from prometheus_client import CollectorRegistry

from notifier.dispatch.workqueue import WorkQueue
from notifier.metrics import DeliveryMetrics
from notifier.reconciler.controller import Controller
from notifier.reconciler.decisions import DeliveryBounds
from notifier.reconciler.ports import Ports
from syncer.ledger.codec import stored
from syncer.metrics import SyncMetrics
from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch
from syncer.model.carried import fold
from syncer.model.conditions import LOG_UNAVAILABLE, Condition
from syncer.model.record import Plan, attempt_record, plan_record
from syncer.model.resource import Status, parse_object
from syncer.model.times import format_time
from syncer.rules.journal import Basis, held_because
from syncer.runtime.clock import LedgerTime
from syncer.sharding.ownership import Shards
from syncer.sync.cache import Cache, Claim, Entry
from syncer.sync.recorder import Recorder
from tests.fakes.journal import NO_JOURNAL

NONE = cast("Any", None)
NOTICE: Final = 60.0
START: Final = 1_800_000_000_000


class Held:
    """A lease term that never ends."""

    epoch = Epoch("0.9")
    since: int = 0

    def valid(self, now: float) -> bool:
        """Yes."""
        return True

    def may_send(self, now: float, send_timeout: float) -> bool:
        """Yes."""
        return True


class World:
    """A controller that owns its only shard, and a clock; nothing here asks a server."""

    def __init__(self) -> None:
        self.now = 100.0
        self.cache = Cache(window=1.0, monotonic=lambda: self.now)
        registry = CollectorRegistry()
        time = LedgerTime(lambda: self.now)
        time.set(START)
        recorder = Recorder(NONE, self.cache, time, SyncMetrics(registry), identity="t")
        self.shards = Shards(1)
        self.shards.take(0, Held())
        self.controller = Controller(
            Ports(
                queue=WorkQueue(lambda: self.now), recorder=recorder,
                claimer=NONE, ownership=self.shards, router=NONE, reporter=NONE,
                metrics=DeliveryMetrics(registry), bounds=DeliveryBounds(at_most_once=False, max_age=0),
                journal=NO_JOURNAL,
            ),
            dispatcher=lambda _: NONE,
        )  # fmt: skip

    def object(self, name: str, *channels: dict[str, Any]) -> Entry:
        """One object as the watch brings it."""
        document = {
            "metadata": {"uid": name, "namespace": "n", "name": name, "resourceVersion": "1"},
            "spec": {"type": "Simple"},
            "status": fold({"phase": "Retrying", "channels": list(channels)}) if channels else {},
        }
        self.controller.watch.upsert(parse_object(document), first_seen_by_watch=False)
        return self.cache.entries[name]

    def claimed(self, name: str) -> Entry:
        """One whose log was read: a plan of one channel, and one failure of it."""
        entry = self.object(name)
        entry.claim = Claim(Epoch("0.9"), 0, "")
        plan = Plan(channels=("slack:ops",), reason="", message="", at=START, body_hash="")
        failed = Attempt(AttemptId("0.9-1"), "slack:ops", AttemptState.FAILED, ended=START)
        for record in (plan_record(plan), attempt_record(failed)):
            entry.view.apply(stored(record, entry.view.chain, entry.view.position + 1))
        return entry

    def look(self, seconds: float, *, available: bool = False) -> set[str]:
        """Let so many seconds pass, look, and name those that say it."""
        self.now += seconds
        self.controller.overdue.mark_without_log(
            self.cache.entries.values(), available=available, notice=NOTICE
        )
        return {e.uid for e in self.cache.entries.values() if e.without_log}


@pytest.fixture
def world() -> World:
    """A fresh one."""
    return World()


async def test_it_is_said_after_the_notice_and_not_before(world: World) -> None:
    """A minute counts from the first look at which the attempt was due and Redis away."""
    world.object("a")
    assert world.look(1) == set()
    assert world.look(NOTICE - 1) == set()
    entry = world.cache.entries["a"]
    assert entry.dirty_since is None
    assert world.look(1) == {"a"}
    assert entry.dirty_since == world.now


async def test_it_is_unsaid_when_redis_is_back(world: World) -> None:
    """At the next look, and a later outage starts a minute of its own."""
    entry = world.object("a")
    world.look(1)
    assert world.look(NOTICE) == {"a"}
    world.cache.clean(entry)
    assert world.look(1, available=True) == set()
    assert entry.dirty_since == world.now
    assert world.look(NOTICE) == set()


async def test_only_a_due_attempt_is_held(world: World) -> None:
    """Not one that waits for its time, in the log or in the status, nor one that is on the wire."""
    later = world.claimed("later")
    later.due["slack:ops"] = world.now + 600
    due = world.claimed("due")
    due.due["slack:ops"] = world.now
    wire = world.claimed("wire")
    wire.executing[AttemptId("0.9-2")] = "slack:ops"
    soon = format_time(START + 1000, millis=True)
    far = format_time(START + 600_000, millis=True)
    world.object("shown-due", {"name": "c", "state": "Retrying", "nextRetryTime": soon})
    world.object("shown-later", {"name": "c", "state": "Retrying", "nextRetryTime": far})
    world.object("shown-done", {"name": "c", "state": "Delivered"})
    world.look(2)
    assert world.look(NOTICE) == {"due", "shown-due"}


async def test_asking_the_log_is_being_held(world: World) -> None:
    """An attempt that insists on its intent is held by the log alone."""
    entry = world.claimed("a")
    held = world.look(1)
    for _ in range(4):
        entry.executing[AttemptId("0.9-2")] = "slack:ops"
        entry.never_sent |= {AttemptId("0.9-2")}
        held = world.look(NOTICE / 4)
    assert held == {"a"}


async def test_others_are_not_ours_to_speak_of(world: World) -> None:
    """A replica says nothing about shards that it does not own."""
    world.object("a")
    world.shards.drop(0)
    world.look(1)
    assert world.look(NOTICE) == set()


async def test_what_is_journaled_is_not_held(world: World) -> None:
    """It waits for nothing but its turn; one that cannot go on says so, and why."""
    entry = world.claimed("a")
    entry.journaled = "0.9-1"
    assert world.look(1) == world.look(NOTICE) == set()
    assert entry.without_log_since == 0.0
    entry.unjournaled = Basis.OLDER
    assert world.look(1) == set()
    assert world.look(NOTICE) == {"a"}


async def test_another_reason_is_written_again(world: World) -> None:
    """The status names the present reason, and is not written while it stays."""
    entry = world.claimed("a")
    world.look(1)
    assert world.look(NOTICE) == {"a"}
    for shown in (None, Basis.OLDER):
        condition = Condition(LOG_UNAVAILABLE, "True", *held_because(shown), 1000)
        entry.request = replace(entry.request, status=Status(conditions=(condition,)))
        for present in (None, Basis.OLDER, Basis.NO_NOTE):
            world.cache.clean(entry)
            entry.unjournaled = present
            world.look(1)
            assert (entry.dirty_since is None) == (present is shown)


async def test_what_is_journaled_is_known(world: World) -> None:
    """Its log is not claimed, and that is no news; what is due goes by what was recorded."""
    entry = world.claimed("a")
    entry.claim, entry.journaled = None, "0.9-1"
    assert world.controller.holds.unclaimed() == 0
    (attempt,) = entry.view.attempts.values()
    entry.view.attempts[attempt.id] = replace(attempt, due=START + 2_000)
    world.now += 9
    assert world.controller.overdue.oldest(world.cache.entries.values()) == pytest.approx(7)
    entry.view.attempts[attempt.id] = replace(attempt, due=START + 20_000)
    assert world.controller.overdue.oldest(world.cache.entries.values()) == 0.0
    entry.journaled = ""
    assert world.controller.holds.unclaimed() == 1


async def test_a_channel_that_nobody_planned_gets_no_attempt(world: World) -> None:
    """The log is asked for no more than the rules allow: what it holds, and what is left of a plan."""
    decisions = world.controller.decisions
    entry = world.claimed("a")
    most = entry.request.policy.max_attempts
    assert decisions.limit(entry, "slack:ops") == most
    assert decisions.limit(entry, "slack:other") == 0


async def test_what_has_ended_or_cannot_be_read_waits_for_nothing(world: World) -> None:
    """Its log may be away for ever: the status says nothing of a wait."""
    for name in ("ended", "damaged", "due"):
        world.claimed(name)
    ended, damaged = world.cache.entries["ended"], world.cache.entries["damaged"]
    ended.request = replace(ended.request, status=Status(phase="Failed"))
    damaged.quarantine = "record 2 cannot be read"
    world.look(1)
    assert world.look(NOTICE) == {"due"}


async def test_what_was_read_of_a_log_counts_after_the_claim_is_gone(world: World) -> None:
    """The time until which a channel waits is known, although the status does not show it."""
    entry = world.claimed("a")
    entry.claim = None
    entry.due["slack:ops"] = world.now + 1
    assert not world.controller.overdue.is_due(entry)
    world.now += 1
    assert world.controller.overdue.is_due(entry)


async def test_a_time_that_a_status_names_is_due_when_it_comes(world: World) -> None:
    """To the millisecond."""
    retry = format_time(START, millis=True)
    entry = world.object("a", {"name": "c", "state": "Retrying", "nextRetryTime": retry})
    assert world.controller.overdue.is_due(entry)
    world.now -= 0.001
    assert not world.controller.overdue.is_due(entry)


async def test_the_oldest_is_found_wherever_it_stands(world: World) -> None:
    """Behind what is gone, before and behind younger ones; to the millisecond."""
    due = {"gone": START - 90_000, "young": START - 30_000, "oldest": START - 30_010, "new": START}
    for name, at in due.items():
        entry = world.claimed(name)
        ((key, failed),) = entry.view.attempts.items()
        entry.view.attempts[key] = replace(failed, due=at)
        entry.deleted = name == "gone"
    assert world.controller.overdue.oldest(world.cache.entries.values()) == pytest.approx(30.01)


async def test_a_later_epoch_holds_the_one_object_and_is_logged_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """What a status names is held against that object alone, and is forgotten when it has gone."""
    holds = world.controller.holds
    for name in ("named", "plain"):
        world.claimed(name)
    named, plain = world.cache.entries["named"], world.cache.entries["plain"]
    for _ in range(3):
        holds.distrust(named, Epoch("0.9"))
    assert len([r for r in caplog.records if "names an epoch" in r.message]) == 1
    for patience in (0.0, 60.0):
        assert holds.fence_problem(patience) is None
    assert holds.blocked(named) == "its status names an epoch that its log does not know"
    assert holds.blocked(plain) == ""
    del world.cache.entries["named"]
    holds.fence_problem(0.0)
    assert holds.distrusted == set()


async def test_a_fence_is_a_problem_when_it_lasts(world: World) -> None:
    """For longer than the patience, and for two logs, or for one where no other can be claimed."""
    holds = world.controller.holds
    entries = [world.object(name) for name in ("a", "b")]
    holds.fence(entries[0], Epoch("0.9"))
    world.now += 60
    assert holds.fence_problem(60.0) is None
    world.now += 1
    assert "1 log(s) in Redis carry a later epoch" in (holds.fence_problem(60.0) or "")
    entries[1].claim = Claim(Epoch("0.9"), 0, "")
    assert holds.fence_problem(60.0) is None
    holds.fence(entries[1], Epoch("0.9"))
    world.now += 61
    assert "2 log(s)" in (holds.fence_problem(60.0) or "")


async def test_without_a_fence_a_probe_looks_at_nothing(world: World) -> None:
    """Thousands may be live, and readiness is asked for many times."""
    world.claimed("a")
    world.controller.holds.ownership = NONE
    assert world.controller.holds.fence_problem(0.0) is None


async def test_what_has_ended_hides_nothing_that_is_held(world: World) -> None:
    """Each unfinished notification counts under its reason, wherever it stands."""
    for name in ("ended", "held", "free"):
        world.claimed(name)
    ended, held = world.cache.entries["ended"], world.cache.entries["held"]
    ended.request = replace(ended.request, status=Status(phase="Sent"))
    held.violation = "memory"
    assert dict(world.controller.holds.by_reason(world.cache.entries.values())) == {"self-audit": 1}
