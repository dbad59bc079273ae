"""The audit feed on a real Redis: what is told, and when its log may expire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from notifier.audit.feed import AuditFeed
from notifier.audit.metrics import AuditMetrics
from notifier.audit.sinks import Result, Sink, Written
from notifier.settings import BufferSettings
from syncer.ledger.client import LedgerClient
from syncer.ledger.log import RedisLog
from syncer.metrics import SyncMetrics
from syncer.model.attempt import Attempt, AttemptState, Epoch, FailureClass
from syncer.model.errors import Conflict, Gone
from syncer.model.record import Header, Plan
from syncer.model.resource import Json, NotificationRequest, RetryPolicy, parse_object
from syncer.runtime.clock import LedgerTime
from syncer.sync.cache import Cache
from syncer.sync.claim import Claimer
from syncer.sync.notification import Claim, Notification
from syncer.sync.recorder import Recorder
from syncer.sync.status_writer import Flushed, StatusWriter
from syncer.sync.sweeps import Sweeper
from tests.beside import beside
from tests.fakes.notifications import claimer as claiming
from tests.fakes.notifications import recording
from tests.fakes.ownership import Held, Ours

pytestmark = pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)

EPOCH = Epoch("0.7")
QUICK = BufferSettings().model_copy(update={"flush_interval": 0.02, "max_retries": 0})
SUCCESS, FAILED = AttemptState.SUCCESS, AttemptState.FAILED


@dataclass
class Objects:
    """Stored objects by name; a status patch with the right version is merged in."""

    documents: dict[str, Json] = field(default_factory=dict)

    async def get(self, namespace: str, name: str, _known: object = None, /) -> NotificationRequest:
        if name not in self.documents:
            raise Gone("no such object")
        return parse_object(self.documents[name])

    async def patch(
        self,
        namespace: str,
        name: str,
        status: dict[str, Any],
        *,
        resource_version: str,
    ) -> NotificationRequest:
        document = self.documents[name]
        version = document["metadata"]["resourceVersion"]
        if version != resource_version:
            raise Conflict("another version")
        merged = document | {"status": document.get("status", {}) | status}
        merged["metadata"] = document["metadata"] | {"resourceVersion": str(int(version) + 1)}
        self.documents[name] = merged
        return parse_object(merged)


@dataclass
class Collector:
    """A sink in memory."""

    batches: list[list[Json]] = field(default_factory=list)
    name: str = "collector"

    async def write(self, lines: Sequence[bytes]) -> Written:
        self.batches.append([json.loads(line) for line in lines])
        return Written(Result.STORED)

    def close(self) -> None:
        """Hold nothing."""

    @property
    def ids(self) -> list[str]:
        """Ids of all events in order of arrival."""
        return [e["event_data"]["event_id"] for batch in self.batches for e in batch]


@dataclass
class World:
    """One process's view of the ledger; several worlds may share a Redis."""

    client: LedgerClient
    log: RedisLog
    cache: Cache
    owner: Ours
    objects: Objects
    recorder: Recorder
    sync: StatusWriter
    claimer: Claimer
    time: LedgerTime

    def feed(self, *sinks: Sink) -> AuditFeed:
        """A feed into some sinks."""
        return AuditFeed(
            cache=self.cache,
            log=self.log,
            ownership=self.owner,
            sinks=sinks,
            metrics=AuditMetrics(CollectorRegistry()),
            now=self.time.now,
            buffer=QUICK,
            max_age=7 * 86400.0,
            at_most_once=False,
            jitter=lambda: 1.0,
        )

    async def notification(self, uid: str, *channels: str) -> Notification:
        """A claimed and planned notification."""
        document: Json = {
            "metadata": {
                "name": f"name-{uid}", "namespace": "ns", "uid": uid, "resourceVersion": "1",
                "generation": 1,
            },
            "spec": {
                "type": "Simple", "priority": "Low", "subject": "s", "body": "b",
                "retryPolicy": {"maxAttempts": 3},
            },
        }  # fmt: skip
        self.objects.documents[f"name-{uid}"] = document
        entry = self.cache.entries.setdefault(uid, Notification(parse_object(document)))
        await self.claim(entry)
        await self.recorder.freeze(entry, Plan(channels or ("console",), at=self.time.now()))
        return entry

    async def claim(self, entry: Notification) -> None:
        """Claim a log as a start does."""
        claimed = await self.log.claim(entry.uid, EPOCH, name=entry.request.key)
        assert claimed.snapshot is not None
        self.recorder.adopt(entry, claimed.snapshot)
        entry.claimed(Claim(EPOCH, self.log.client.generation, claimed.stamp))

    async def attempt(
        self, entry: Notification, state: AttemptState = SUCCESS, channel: str = "console"
    ) -> None:
        """One attempt from intent to outcome."""
        _, intent = await recording(self.recorder).open(entry, Held(EPOCH), channel, limit=5)
        failure = None if state is SUCCESS else FailureClass.TRANSIENT
        made = Attempt(intent.attempt_id, channel, state, ended=self.time.now(), failure=failure)
        await recording(self.recorder).close(entry, made, intent, patience=5)

    async def header(self, uid: str) -> Header:
        """Where the marks of a log stand."""
        snapshot = await self.log.read(uid)
        assert snapshot is not None
        return snapshot.header

    async def flush(self, entry: Notification) -> Flushed:
        """Write a status, and do with the notification what the loop does then."""
        result = await self.sync.flush(entry)
        self.sync._after(entry, result)
        return result

    async def swept(self) -> list[str]:
        """Those whose logs are to be claimed, by the sweep of what is finished."""
        reopened: list[str] = []

        async def reopen(uid: str) -> None:
            reopened.append(uid)

        await Sweeper(self.claimer).finished(list(self.cache.finished.values()), reopen)
        return reopened

    async def expires(self, uid: str) -> bool:
        """Whether a log has a time to live."""
        ((_, _, ttl),) = await self.log.read_headers([uid])
        return ttl > 0


@asynccontextmanager
async def world_on(url: str, *, audit_limit: int | None = 100) -> AsyncIterator[World]:
    """A process on some Redis."""
    client = LedgerClient(url)
    await client.open("test")
    log = RedisLog(client, patience=2.0)
    cache = Cache(window=0.0, audit_limit=audit_limit)
    time = LedgerTime()
    metrics = SyncMetrics(CollectorRegistry())
    recorder = Recorder(log, cache, time, metrics, identity="test")
    owner, objects = Ours(EPOCH), Objects()
    async with beside(client.run()):
        yield World(
            client, log, cache, owner, objects, recorder,
            StatusWriter(recorder, objects, owner, metrics),
            claiming(recorder, objects, backoff=backoff),
            time,
        )  # fmt: skip


def backoff(policy: RetryPolicy, n: int) -> int:
    """A second, always."""
    del policy, n
    return 1000


@pytest.fixture
async def world(redis_url: str) -> AsyncIterator[World]:
    """Return a process with a feed, on an empty Redis."""
    async with world_on(redis_url) as made:
        yield made


@pytest.mark.parametrize("published_first", [True, False])
async def test_whoever_marks_last_lets_the_log_expire(
    world: World, *, published_first: bool
) -> None:
    """The log expires once it is published and audited, in either order; then a stub remains."""
    entry = await world.notification("u")
    await world.attempt(entry)
    sink = Collector()
    feed = world.feed(sink)
    if published_first:
        assert await world.flush(entry) is Flushed.WRITTEN
        assert "u" in world.cache.entries
        assert not await world.expires("u")
        assert await feed.round()
    else:
        assert await feed.round()
        assert not await world.expires("u")
        assert await world.flush(entry) is Flushed.WRITTEN
    assert await world.expires("u")
    assert entry.expiring
    assert "u" in world.cache.finished
    assert "u" not in world.cache.entries


@asynccontextmanager
async def restarted(
    url: str, *, audit_limit: int | None = 100
) -> AsyncIterator[tuple[World, NotificationRequest]]:
    """A process after one that sent, published and audited nothing; it finds what that one has left."""
    async with world_on(url) as first:
        entry = await first.notification("u")
        await first.attempt(entry)
        await first.flush(entry)
    async with world_on(url, audit_limit=audit_limit) as second:
        second.objects.documents.update(first.objects.documents)
        second.cache.retire(Notification(entry.request))
        assert await second.swept() == ["u"]
        yield second, entry.request


async def test_finished_objects_that_lag_are_found_by_the_sweep(redis_url: str) -> None:
    """After a restart the header tells; claimed, told and marked, the log expires."""
    async with restarted(redis_url) as (second, request):
        second.cache.audit_limit = 0
        assert await second.swept() == [], "it waits for the feed alone, which takes no more"
        second.cache.audit_limit = 100
        reopened = second.cache.reopen(request)
        await second.claimer.claim(reopened, Held(EPOCH))
        await second.flush(reopened)
        sink = Collector()
        assert await second.feed(sink).round()
        assert sink.ids == ["u/0.7-1/sent", "u/0.7-1/acknowledged"]
        assert await second.expires("u")
        assert "u" in second.cache.finished
        assert await second.swept() == []


async def test_a_feed_that_was_taken_away_leaves_no_log_behind(redis_url: str) -> None:
    """Without a feed, logs that one left unaudited are brought back and expire."""
    async with restarted(redis_url, audit_limit=None) as (second, request):
        reopened = second.cache.reopen(request)
        await second.claimer.claim(reopened, Held(EPOCH))
        assert reopened.publication.pending
        await second.flush(reopened)
        assert await second.expires("u")
        assert "u" in second.cache.finished


async def test_a_deleted_notification_is_audited_all_the_same(world: World) -> None:
    """What was sent before the deletion is told after it, by this process or the next."""
    entry = await world.notification("u")
    await world.attempt(entry, FAILED)
    del world.objects.documents["name-u"]
    entry.gone()
    assert await world.claimer.retire(entry, Held(EPOCH))
    assert "u" not in world.cache.entries
    sink = Collector()
    assert await world.feed(sink).round()
    assert sink.ids == ["u/0.7-1/failed"]
    assert sink.batches[0][0]["event_data"]["subject"] == "s"
    assert not world.cache.unaudited


async def test_a_deleted_notification_is_found_after_a_restart(redis_url: str) -> None:
    """Its log gets no expiry before it is audited; the orphan sweep hands it over, then lets it go."""
    async with world_on(redis_url) as first:
        entry = await first.notification("u")
        await first.attempt(entry, FAILED)
        del first.objects.documents["name-u"]
        entry.gone()
        assert await first.claimer.retire(entry, Held(EPOCH))
        assert not await first.expires("u")
    async with world_on(redis_url) as second:
        await Sweeper(second.claimer).orphans(second.owner, lambda _: False, lambda _: True)
        sink = Collector()
        assert await second.feed(sink).round()
        assert sink.ids == ["u/0.7-1/failed"]
        assert (await second.header("u")).audited == entry.view.position
        assert not await second.expires("u")
        await Sweeper(second.claimer).orphans(second.owner, lambda _: False, lambda _: True)
        assert not second.cache.unaudited
        assert await second.expires("u")
