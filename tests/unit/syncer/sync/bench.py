"""A bench for what writes the record, in memory; and its one object."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client import CollectorRegistry

from syncer.metrics import SyncMetrics
from syncer.model.attempt import Attempt, AttemptState, make_epoch
from syncer.model.carried import fold
from syncer.model.errors import Conflict
from syncer.model.record import Plan
from syncer.model.resource import NotificationRequest, parse_object
from syncer.runtime.clock import LedgerTime
from syncer.sync.cache import Cache
from syncer.sync.claim import Claimer
from syncer.sync.notification import Notification
from syncer.sync.recorder import Recorder
from syncer.sync.status_writer import StatusWriter
from tests.fakes.memorylog import MemoryLog, MemoryRedis
from tests.fakes.notifications import claimer as claiming
from tests.fakes.notifications import recording
from tests.fakes.ownership import Ours

EPOCH: Final = make_epoch(0, "7")
#: The lease term of everything, and who owns it.
HELD: Final = Ours(EPOCH)


@dataclass
class Objects:
    """
    One object, written by compare-and-swap.

    Attributes:
        request: As it is stored.
        refusals: What the next writes are answered, none of which is carried out.
        conflicts: What rivals do before the next ones.
        answers: What is answered instead of the object, whether it was read or written.
        tried: How many writes were asked for.
        written: Those that were carried out.
    """

    request: NotificationRequest
    refusals: list[Exception] = field(default_factory=list)
    conflicts: list[Any] = field(default_factory=list)
    answers: Callable[[NotificationRequest], NotificationRequest] = lambda stored: stored
    tried: int = 0
    written: list[dict[str, Any]] = field(default_factory=list)

    async def get(self, namespace: str, name: str, _known: object = None, /) -> NotificationRequest:
        assert f"{namespace}/{name}" == self.request.key
        return self.answers(self.request)

    async def patch(
        self, namespace: str, name: str, status: dict[str, Any], *, resource_version: str
    ) -> NotificationRequest:
        """Merge, unless it is refused, or a rival comes first."""
        assert f"{namespace}/{name}" == self.request.key
        self.tried += 1
        if self.refusals:
            raise self.refusals.pop(0)
        if self.conflicts:
            await self.conflicts.pop(0)()
        if resource_version != self.request.resource_version:
            raise Conflict("somebody else was first")
        self.written.append(status)
        document = self.request.document()
        document["status"] = {**document.get("status", {}), **status}
        document["metadata"]["resourceVersion"] = str(int(resource_version) + 1)
        self.request = parse_object(document)
        return self.answers(self.request)


@dataclass
class Bench:
    """The record's loops over a Redis in memory."""

    log: MemoryLog
    cache: Cache
    recorder: Recorder
    claimer: Claimer
    sync: StatusWriter
    objects: Objects


@asynccontextmanager
async def bench(
    status: dict[str, Any] | None = None, *, most: int = 1
) -> AsyncIterator[tuple[Bench, Notification]]:
    """One unfinished notification with one attempt, or more, allowed per channel."""
    request = parse_object(
        {
            "metadata": {
                "uid": "u", "namespace": "ns", "name": "n", "resourceVersion": "5",
                "generation": 1,
            },
            "spec": {"type": "Simple", "subject": "s", "body": "b",
                     "retryPolicy": {"maxAttempts": most}},
            "status": fold(status or {}),
        }
    )  # fmt: skip
    log = MemoryLog(MemoryRedis(lambda: 1000), patience=0.5)
    pipeline = asyncio.create_task(log.client.run())
    await log.client.open("here/x@1")
    cache = Cache(window=0.1)
    metrics = SyncMetrics(CollectorRegistry())
    recorder = Recorder(log, cache, LedgerTime(), metrics, identity="me")
    objects = Objects(request)
    claimer = claiming(recorder, objects)
    sync = StatusWriter(recorder, objects, HELD, metrics)
    notification = Notification(request)
    cache.entries["u"] = notification
    try:
        yield Bench(log, cache, recorder, claimer, sync, objects), notification
    finally:
        pipeline.cancel()
        await asyncio.gather(pipeline, return_exceptions=True)


async def planned(here: Bench, notification: Notification) -> None:
    """Its log is claimed, and its channel is frozen."""
    await here.claimer.claim(notification, HELD)
    await here.recorder.freeze(notification, Plan(("console",), "RoutingRuleMatched", "m", 1))


async def delivered(here: Bench, notification: Notification) -> None:
    """One attempt, recorded and not published yet."""
    await planned(here, notification)
    _, intent = await recording(here.recorder).open(notification, HELD, "console", limit=3)
    ended = here.recorder.time.now()
    success = Attempt(
        intent.attempt_id, "console", AttemptState.SUCCESS, started=ended - 40, ended=ended
    )
    assert await recording(here.recorder).close(notification, success, intent, patience=1)
