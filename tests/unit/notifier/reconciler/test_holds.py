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


async def test_what_has_ended_or_cannot_be_read_waits_for_nothing(world: World) -> None:
    """Its log may be away for ever: the status says nothing of a wait."""
    for name in ("ended", "damaged", "due"):
        world.claimed(name)
    ended, damaged = world.cache.entries["ended"], world.cache.entries["damaged"]
    ended.request = replace(ended.request, status=Status(phase="Failed"))
    damaged.quarantine = "record 2 cannot be read"
    world.look(1)
    assert world.look(NOTICE) == {"due"}
