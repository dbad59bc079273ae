"""A bench for what writes the record: log, cache, claimer, recorder and status writer in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry

from syncer.metrics import SyncMetrics
from syncer.model.attempt import (
    Epoch,
    make_epoch,
)
from syncer.model.carried import fold
from syncer.model.errors import Conflict
from syncer.model.resource import NotificationRequest, parse_object
from syncer.runtime.clock import LedgerTime
from syncer.sync.cache import Cache
from syncer.sync.claim import Claimer
from syncer.sync.notification import Notification
from syncer.sync.recorder import Recorder
from syncer.sync.status_writer import StatusWriter
from tests.fakes.memorylog import MemoryLog, MemoryRedis
from tests.fakes.notifications import claimer as claiming

EPOCH = make_epoch(0, "7")


@dataclass
class Held:
    """A lease term that never ends."""

    epoch: Epoch = EPOCH
    since: int = 0

    def valid(self, now: float) -> bool:
        """Hold."""
        return now >= 0

    def may_send(self, now: float, send_timeout: float) -> bool:
        """Allow."""
        return now >= 0 and send_timeout >= 0


class Ours:
    """Everything is ours."""

    def term_of(self, uid: str) -> Held:
        """The one lease term."""
        del uid
        return Held()

    def accepts(self, uid: str) -> bool:
        """Accept."""
        return bool(uid)


@dataclass
class Objects:
    """One object, with the conflicts that a rival brings; every write is kept."""

    request: NotificationRequest
    conflicts: list[Any] = field(default_factory=list)
    written: list[dict[str, Any]] = field(default_factory=list)

    async def get(self, namespace: str, name: str, _known: object = None, /) -> NotificationRequest:
        """Read."""
        assert f"{namespace}/{name}" == self.request.key
        return self.request

    async def patch(
        self,
        namespace: str,
        name: str,
        status: dict[str, Any],
        *,
        resource_version: str,
    ) -> NotificationRequest:
        """Merge, unless a rival comes first."""
        assert f"{namespace}/{name}" == self.request.key
        document = self.request.document()
        document["status"] = {**document["status"], **status}
        if self.conflicts:
            await self.conflicts.pop(0)()
            raise Conflict("somebody else was first")
        assert resource_version == self.request.resource_version
        self.written.append(status)
        document["metadata"]["resourceVersion"] = str(int(resource_version) + 1)
        self.request = parse_object(document)
        return self.request


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
    sync = StatusWriter(recorder, objects, Ours(), metrics)
    notification = Notification(request)
    cache.entries["u"] = notification
    try:
        yield Bench(log, cache, recorder, claimer, sync, objects), notification
    finally:
        pipeline.cancel()
        await asyncio.gather(pipeline, return_exceptions=True)
