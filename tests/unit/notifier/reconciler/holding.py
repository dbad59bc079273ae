"""Notifications that a hold concerns, and a hold."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Final, cast

from prometheus_client import CollectorRegistry

from notifier.dispatch.workqueue import WorkQueue
from syncer.ledger.codec import stored
from syncer.metrics import SyncMetrics
from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch
from syncer.model.carried import fold
from syncer.model.hold import Hold
from syncer.model.record import Plan, attempt_record, plan_record
from syncer.model.resource import parse_object
from syncer.runtime.clock import LedgerTime
from syncer.sharding.ownership import Shards
from syncer.sync.cache import Cache
from syncer.sync.notification import Claim, Notification
from syncer.sync.recorder import Recorder
from tests.fakes.notifications import controller, notifications
from tests.fakes.ownership import Held

NOTICE: Final = 60.0
START: Final = 1_800_000_000_000

#: A hold of ten minutes.
OPS: Final = Hold(
    "00000001", "1", START, START + 600_000, "alice", "they mend it", receivers=("slack:ops",)
)


class World:
    """A controller that owns its only shard, and a clock; nothing here asks a server."""

    def __init__(self) -> None:
        self.now = 100.0
        self.cache = Cache(window=1.0, monotonic=lambda: self.now)
        registry = CollectorRegistry()
        time = LedgerTime(lambda: self.now)
        time.set(START)
        recorder = Recorder(
            cast("Any", SimpleNamespace(client=SimpleNamespace(generation=0))),
            self.cache,
            time,
            SyncMetrics(registry),
            identity="t",
        )
        self.shards = Shards(1)
        self.shards.take(0, Held())
        self.controller = controller(
            notifications(recorder, self.shards), WorkQueue(lambda: self.now)
        )

    def object(self, name: str, *channels: dict[str, Any]) -> Notification:
        """One object as the watch brings it."""
        document = {
            "metadata": {"uid": name, "namespace": "n", "name": name, "resourceVersion": "1"},
            "spec": {"type": "Simple"},
            "status": fold({"phase": "Retrying", "channels": list(channels)}) if channels else {},
        }
        self.controller.notifications.upsert(parse_object(document), first_seen_by_watch=False)
        return self.cache.entries[name]

    def claimed(self, name: str) -> Notification:
        """One whose log was read: a plan of one channel, and one failure of it."""
        notification = self.object(name)
        notification.claimed(Claim(Epoch("0.9"), 0, ""))
        plan = Plan(channels=("slack:ops",), reason="", message="", at=START, body_hash="")
        failed = Attempt(AttemptId("0.9-1"), "slack:ops", AttemptState.FAILED, ended=START)
        for record in (plan_record(plan), attempt_record(failed)):
            notification.view.apply(
                stored(record, notification.view.chain, notification.view.position + 1)
            )
        return notification

    def look(self, seconds: float, *, available: bool = False) -> set[str]:
        """Let so many seconds pass, look, and name those that say it."""
        self.now += seconds
        self.controller.overdue.mark_without_log(
            self.cache.entries.values(), available=available, notice=NOTICE
        )
        return {e.uid for e in self.cache.entries.values() if e.outage.shown}
