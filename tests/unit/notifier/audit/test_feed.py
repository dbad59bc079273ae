"""The feed over a Redis in memory: what it sends, when it tries again, what it says and gives up."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, cast
from unittest.mock import DEFAULT, AsyncMock, Mock

import pytest
from prometheus_client import CollectorRegistry

from notifier.audit import feed as module
from notifier.audit.events import AuditEvent, EventKind
from notifier.audit.feed import AuditFeed, parts_of
from notifier.audit.metrics import AuditMetrics
from notifier.audit.sinks import Result, Sink, Written
from notifier.settings import BufferSettings
from syncer.ledger.answers import Mark, Snapshot
from syncer.ledger.codec import decode_header, encode_element, encode_log
from syncer.model.attempt import AttemptState, Epoch
from syncer.model.errors import ContractError, Unavailable
from syncer.model.record import Header, Record
from syncer.model.resource import Status, parse_object
from syncer.rules.fold import ROOT_CHAIN, LogView, fold
from syncer.runtime.offload import offload
from syncer.sync.cache import Cache
from syncer.sync.notification import Notification
from tests.beside import beside, eventually, turning
from tests.fakes.memorylog import MemoryLog, MemoryRedis
from tests.fakes.notification import notification, read, shows
from tests.fakes.ownership import Ours
from tests.unit.notifier.audit.told import BEGUN, log_of, opened, planned, settled

FAILED, SUCCESS = AttemptState.FAILED, AttemptState.SUCCESS
LIMITS: Final = BufferSettings()
#: A batch is tried once; the next round is soon.
ONCE: Final = LIMITS.model_copy(update={"max_retries": 0, "flush_interval": 0.25})
DAY: Final = 86_400


class Collector:
    """A sink: answers as it is told, else takes everything."""

    def __init__(self, name: str = "collector") -> None:
        self.name = name
        self.answers: list[Written | Exception] = []
        self.refused = ""
        self.batches: list[list[str]] = []

    async def write(self, lines: Sequence[bytes]) -> Written:
        found = [json.loads(line)["event_data"]["event_id"] for line in lines]
        answer = self.answers.pop(0) if self.answers else Written(Result.STORED)
        if isinstance(answer, Exception):
            raise answer
        if self.refused and any(each.startswith(self.refused) for each in found):
            answer = Written(Result.REFUSED, "not like this")
        if answer.result is Result.STORED:
            self.batches.append(found)
        return answer

    def close(self) -> None:
        """Hold nothing."""


def away(times: int = 1) -> list[Written | Exception]:
    """Answers of a sink that is away."""
    return [Written(Result.RETRY, "no route")] * times


class World:
    """A feed, what it reads, and where it writes; no pause takes time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.clock = BEGUN + 60_000, 100.0
        self.redis = MemoryRedis(lambda: self.now)
        self.log = MemoryLog(self.redis, patience=0.0)
        self.log.client.problem = None
        self.cache = Cache(window=0.0, monotonic=lambda: self.clock, audit_limit=100)
        self.owner, self.sink, self.registry = Ours(), Collector(), CollectorRegistry()
        self.pauses: list[float] = []

        async def pause(_feed: AuditFeed, seconds: float) -> None:
            self.pauses.append(seconds)
            if len(self.pauses) > 40:
                await asyncio.Event().wait()
            await asyncio.sleep(0)

        self.real_pause = AuditFeed._pause
        monkeypatch.setattr(AuditFeed, "_pause", pause)

    def feed(self, *sinks: Sink, buffer: BufferSettings = LIMITS, **more: Any) -> AuditFeed:
        """A feed into some sinks, the collector by default."""
        self.registry = CollectorRegistry()
        return AuditFeed(
            cache=self.cache, log=self.log, ownership=self.owner,
            sinks=sinks or (self.sink,), metrics=AuditMetrics(self.registry),
            now=lambda: self.now, buffer=buffer, max_age=3600.0, at_most_once=False,
            **({"jitter": lambda: 1.0} | more),
        )  # fmt: skip

    def put(
        self, uid: str, *more: Record, phase: str = "Sending", audited: int = 0
    ) -> Notification:
        """A notification whose log holds a plan, a failed attempt, and more."""
        records = log_of(planned("slack:ops"), opened(1), settled(1, FAILED), *more)
        found = parse_object(
            {
                "metadata": {"uid": uid, "namespace": "n", "name": uid, "resourceVersion": "1"},
                "spec": {"type": "Simple", "retryPolicy": {"maxAttempts": 9}},
            }
        )
        view = LogView()
        for record in records:
            view.apply(record)
        header = Header(f"n/{uid}", Epoch("0.9"), acked=0, audited=audited)
        self.redis.twin.logs[self.key(uid)] = encode_log(header, records)
        found = replace(found, status=Status(phase=phase))
        entry = self.cache.entries[uid] = notification(found, view=view, audited=audited)
        self.cache.mark_unaudited(entry)
        return entry

    def key(self, uid: str) -> str:
        return f"nl:{{{uid}}}"

    def audited(self, uid: str) -> int:
        """How far a log is marked."""
        return decode_header(self.redis.twin.logs[self.key(uid)][0]).audited

    def value(self, name: str, **labels: str) -> float | None:
        """A sample of the newest feed."""
        return self.registry.get_sample_value(f"notification_ledger_audit_{name}", labels)

    def lag(self, feed: AuditFeed) -> float | None:
        """For how many seconds the oldest event is held up, as a scrape shows it."""
        feed.refresh()
        return self.value("lag_seconds")

    def dropped(self) -> float | None:
        """How many events were given up."""
        labels = {"service": "notification-controller"}
        return self.registry.get_sample_value("audit_events_dropped_total", labels)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A world without a notification."""
    return World(monkeypatch)


def done(n: int = 2) -> tuple[Record, Record]:
    """An attempt that succeeds."""
    return opened(n), settled(n, SUCCESS)


# -- what is sent -----------------------------------------------------------------------------------


async def test_a_round_hands_over_what_lies_above_the_marks(world: World) -> None:
    """Events go in one request, each is counted by kind, the marks move, nothing waits any more."""
    world.put("a", *done())
    world.put("b")
    feed = world.feed()
    feed.refresh()
    assert (world.value("waiting_notifications"), world.value("lag_seconds")) == (2, 0)
    assert await feed.round()
    assert world.sink.batches == [
        ["a/0.7-1/failed", "a/0.7-2/sent", "a/0.7-2/acknowledged", "b/0.7-1/failed"]
    ]
    assert (world.audited("a"), world.audited("b")) == (5, 3)
    assert world.cache.unaudited == {}
    kinds = {kind.value: world.value("events_sent_total", kind=kind.value) for kind in EventKind}
    assert kinds == {"sent": 1, "failed": 2, "acknowledged": 1, "escalated": 0}
    feed.refresh()
    assert world.value("waiting_notifications") == 0
    assert await feed.round()
    assert len(world.sink.batches) == 1


async def test_the_very_first_record_may_be_told(world: World) -> None:
    """A plan without channels ends its notification at once, for each sink."""
    entry = world.put("a")
    (record,) = log_of(planned())
    view = LogView()
    view.apply(record)
    read(entry, view)
    log = world.redis.twin.logs[world.key("a")]
    log[1:] = [encode_element(record, ROOT_CHAIN)]
    file, store = Collector("file"), Collector("store")
    assert await world.feed(file, store).round()
    assert [len(batch) for batch in (*file.batches, *store.batches)] == [1, 1]


async def test_a_log_that_grew_meanwhile_stays_in_the_backlog(world: World) -> None:
    """What is known to be longer than what was read is looked at again in the next round."""
    entry = world.put("a", audited=3)
    read(entry, LogView(position=4))
    assert await world.feed().round()
    assert (world.sink.batches, list(world.cache.unaudited)) == ([], ["a"])
    assert entry.audited == 3
    read(entry, LogView(position=3), audited=3)
    assert await world.feed().round()
    assert world.cache.unaudited == {}
    assert "ack" not in world.redis.calls


async def test_logs_of_others_are_left_to_them(world: World) -> None:
    """They leave the backlog without being read."""
    world.put("a")
    world.owner.others.add("a")
    assert await world.feed().round()
    assert (world.sink.batches, world.cache.unaudited, world.redis.calls) == ([], {}, [])


@pytest.mark.parametrize(
    ("answer", "stays", "said"),
    [
        (
            Unavailable("refused"),
            True,
            ["a log could not be read for the audit feed and is read again"],
        ),
        (ContractError("record 3"), False, []),
        (None, False, []),
    ],
    ids=["no answer", "damaged", "gone"],
)
async def test_a_log_that_is_not_there(
    world: World, answer: Exception | None, stays: bool, said: list[str],
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """One that may come back is waited for; one that is damaged is claimed anew once it is repaired."""
    caplog.set_level("INFO", "ledger.audit")
    world.put("a")
    world.put("b")
    answers = [answer, await world.log.read("b")]
    monkeypatch.setattr(world.log, "read", AsyncMock(side_effect=answers))
    assert await world.feed().round()
    assert world.sink.batches == [["b/0.7-1/failed"]]
    assert ("a" in world.cache.unaudited) is stays
    assert [r.message for r in caplog.records] == said
    assert all(r.__dict__["uid"] == "a" for r in caplog.records)


async def test_others_run_between_two_logs(world: World) -> None:
    """Events of many logs take milliseconds each; the loop turns in between."""
    for n in range(10):
        world.put(f"u{n}")
    turn = Mock()
    async with beside(turning(turn)):
        entries = list(world.cache.entries.values())
        snapshots = [await world.log.read(entry.uid) for entry in entries]
        feed, before = world.feed(), turn.call_count
        # What is read takes no turn of its own.
        cast("Any", feed)._read = AsyncMock(side_effect=snapshots)
        await feed._read_some(entries)
        assert turn.call_count - before >= 10


async def test_an_object_that_cannot_be_composed_is_audited_without_its_content(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its attempts are on record all the same, as those of a deleted object."""
    world.put("a")
    broken = AsyncMock(side_effect=ValueError("not an object"))
    monkeypatch.setattr(module, "offload", broken)
    assert await world.feed().round()
    assert [call.kwargs["seconds"] for call in broken.await_args_list] == [60.0]
    assert world.sink.batches == [["a/0.7-1/failed"]]
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("ERROR", "a notification is audited without its content")
    ]


async def test_a_large_notification_that_takes_too_long_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays in the backlog; the others go."""
    caplog.set_level("INFO", "ledger.audit")
    world.put("a")
    world.put("b")
    late = AsyncMock(wraps=offload, side_effect=[TimeoutError, DEFAULT])
    monkeypatch.setattr(module, "offload", late)
    assert await world.feed().round()
    assert world.sink.batches == [["b/0.7-1/failed"]]
    assert list(world.cache.unaudited) == ["a"]
    assert [(r.message, r.__dict__["uid"]) for r in caplog.records] == [
        ("a large notification is not audited yet; others are read first", "a")
    ]


# -- a request ------------------------------------------------------------------------------------


def events(*sizes: int) -> list[AuditEvent]:
    """Events of so many bytes, line break included, each from the second record after the one before."""
    return [
        AuditEvent(f"e{n}", EventKind.FAILED, 2 * n + 2, BEGUN, b"x" * (size - 1))
        for n, size in enumerate(sizes)
    ]


CUTS: Final = {
    "what fits stays together": ((10, 10, 10), 3, 30, [3]),
    "one event too many": ((10, 10, 10), 2, 99, [2, 1]),
    "one byte too many": ((10, 10, 10), 9, 29, [2, 1]),
    "a large one goes alone": ((10, 99, 10), 9, 20, [1, 1, 1]),
    "a large one comes first": ((99, 10), 9, 20, [1, 1]),
    "several requests": ((10,) * 5, 2, 20, [2, 2, 1]),
}


@pytest.mark.parametrize("case", CUTS)
def test_events_of_a_log_are_cut_to_requests(case: str) -> None:
    """Each part ends right before the first event it leaves out, the last one at the end of the log."""
    sizes, count, size, wanted = CUTS[case]
    records = log_of(planned("c"), *(opened(n) for n in range(1, 2 * len(sizes) + 2)))
    snapshot = Snapshot(Header("n/a", Epoch("0.9"), acked=0, audited=0), records, fold(records))
    parts = parts_of(cast("Notification", None), snapshot, events(*sizes), count, size)
    assert [len(part.events) for part in parts] == wanted
    assert [e.id for part in parts for e in part.events] == [f"e{n}" for n in range(len(sizes))]
    ends = [2 * sum(wanted[: n + 1]) + 1 for n in range(len(wanted) - 1)]
    assert [part.position for part in parts] == [*ends, len(records)]
    assert [part.chain for part in parts] == [records[p.position - 1].chain for p in parts]
    assert [part.size for part in parts] == [sum(len(e.line) + 1 for e in p.events) for p in parts]


@pytest.mark.parametrize(("count", "batches"), [(2, [2] * 10), (3, [3] * 6 + [2])])
async def test_notifications_share_a_request_up_to_its_bound(
    world: World, count: int, batches: list[int]
) -> None:
    """As many events as the settings allow, and no more; none is left out."""
    for n in range(20):
        world.put(f"u{n}")
    assert await world.feed(buffer=LIMITS.model_copy(update={"batch_size": count})).round()
    assert [len(batch) for batch in world.sink.batches] == batches


@pytest.mark.parametrize(("more", "batches"), [(0, [2]), (-1, [1, 1])])
async def test_a_request_is_bounded_in_bytes(world: World, more: int, batches: list[int]) -> None:
    """Line breaks count as well; the bound itself still fits."""
    sizes: list[int] = []
    for n in range(2):
        entry = world.put(f"u{n}")
        snapshot = await world.log.read(entry.uid)
        assert snapshot is not None
        (part,) = await world.feed()._parts(entry, snapshot)
        sizes.append(part.size)
    assert await world.feed(batch_bytes=sum(sizes) + more).round()
    assert [len(batch) for batch in world.sink.batches] == batches


# -- a sink that is away --------------------------------------------------------------------------


@pytest.mark.parametrize("jitter", [1.0, 0.5])
async def test_a_batch_is_sent_again_with_growing_pauses(world: World, jitter: float) -> None:
    """As often as the settings say, each scaled; what was late is not lost, and the lag is over."""
    world.put("a")
    world.sink.answers = away(3)
    feed = world.feed(jitter=lambda: jitter)
    assert await feed.round()
    assert world.pauses == [jitter, 2 * jitter, 4 * jitter]
    assert world.sink.batches == [["a/0.7-1/failed"]]
    assert world.value("write_failures_total", sink="collector", verdict="retry") == 3
    assert world.lag(feed) == 0


async def test_a_batch_that_is_not_taken_waits(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The round has failed; a line of the log and the lag say so."""
    world.put("a")
    world.put("b")
    world.sink.answers = away(4)
    feed = world.feed()
    assert not await feed.round()
    assert (world.sink.batches, sorted(world.cache.unaudited)) == ([], ["a", "b"])
    members = ("levelname", "message", "reason", "notifications")
    assert [tuple(r.__dict__[m] for m in members) for r in caplog.records] == [
        ("WARNING", "audit events were not accepted and are sent again", "collector: no route", 2)
    ]
    assert world.lag(feed) == 58.75
    world.now -= 600_000
    assert world.lag(feed) == 0
    assert await feed.round()
    assert (world.lag(feed), world.value("waiting_notifications")) == (0, 0)


@pytest.mark.parametrize("result", [Result.RETRY, Result.REFUSED])
async def test_what_was_held_up_and_has_left_is_no_lag(world: World, result: Result) -> None:
    """Its shard is another replica's by now, or its log is gone; the sink need not be back."""
    world.put("a")
    world.sink.answers = [Written(result)]
    feed = world.feed(buffer=ONCE)
    await feed.round()
    assert world.lag(feed) == 58.75
    world.cache.unaudited.clear()
    assert await feed.round()
    assert world.lag(feed) == 0


async def test_a_sink_that_takes_something_holds_nothing_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis may go away in the middle of a round: that is no lag of a sink's."""
    for n in range(20):
        world.put(f"u{n}")
    world.sink.answers = away(1)
    feed = world.feed(buffer=ONCE.model_copy(update={"batch_size": 1}))
    assert not await feed.round()
    calls = world.redis.calls
    calls.clear()
    monkeypatch.setattr(MemoryLog, "available", property(lambda _: not calls))
    assert not await feed.round()
    assert world.sink.batches
    assert world.lag(feed) == 0


def test_pauses_differ_a_little(world: World) -> None:
    """Replicas that lost the same store do not come back at the same moment."""
    feed = world.feed()
    own = AuditFeed(
        cache=world.cache, log=world.log, ownership=world.owner, sinks=(),
        metrics=feed.metrics, now=lambda: 0, buffer=LIMITS, max_age=3600.0, at_most_once=False,
    )  # fmt: skip
    drawn = [own.jitter() for _ in range(200)]
    assert 0.9 <= min(drawn) < 0.95
    assert 1.05 < max(drawn) <= 1.1


async def test_each_sink_gets_what_it_lacks(world: World) -> None:
    """What one has taken is not sent to it again because of the other, and later events are."""
    world.put("a")
    file, store = Collector("file"), Collector("store")
    feed = world.feed(file, store, buffer=ONCE)
    store.answers = away(1)
    assert not await feed.round()
    assert world.audited("a") == 0
    world.put("a", *done())
    assert await feed.round()
    assert file.batches == [["a/0.7-1/failed"], ["a/0.7-2/sent", "a/0.7-2/acknowledged"]]
    assert store.batches == [["a/0.7-1/failed", "a/0.7-2/sent", "a/0.7-2/acknowledged"]]
    assert world.audited("a") == 5
    # Another log of that uid, as after a restore: it is told from its begin.
    await feed.round()
    world.put("a")
    assert await feed.round()
    assert file.batches[2:] == store.batches[1:] == [["a/0.7-1/failed"]]


# -- a batch that is refused --------------------------------------------------------------------


async def test_a_refused_notification_is_found_by_halving(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """All others are told in order; a line of the log names the one, the reason and the wait."""
    for n in range(5):
        world.put(f"u{n}")
    world.sink.refused = "u3/"
    feed = world.feed()
    assert await feed.round()
    assert world.sink.batches == [
        ["u0/0.7-1/failed", "u1/0.7-1/failed"], ["u2/0.7-1/failed"], ["u4/0.7-1/failed"],
    ]  # fmt: skip
    assert list(world.cache.unaudited) == ["u3"]
    members = ("message", "uid", "reason", "refusals", "seconds")
    said = "audit events of a notification are refused and sent again"
    assert [tuple(r.__dict__[m] for m in members) for r in caplog.records] == [
        (said, "u3", "collector: not like this", 1, 2)
    ]
    assert world.value("write_failures_total", sink="collector", verdict="refused") == 4
    assert world.lag(feed) == 58.75


@pytest.mark.parametrize("jitter", [1.0, 0.5])
async def test_a_refused_notification_is_offered_more_and_more_rarely(
    world: World, jitter: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Each wait is twice as long as the one before, up to five minutes, and scaled; none is cut short."""
    world.put("a")
    world.sink.refused = "a/"
    feed = world.feed(jitter=lambda: jitter)
    assert await feed.round()
    for times, wait in enumerate((2, 4, 8, 16, 32, 64, 128, 256, 300), 1):
        assert caplog.records[-1].__dict__["seconds"] == wait * jitter
        world.clock += wait * jitter - 0.001
        assert await feed.round()
        assert len(caplog.records) == times
        world.clock += 0.001
        assert await feed.round()
        assert len(caplog.records) == times + 1
    world.sink.refused = ""
    world.clock += 300
    assert await feed.round()
    assert world.sink.batches == [["a/0.7-1/failed"]]
    assert world.lag(feed) == 0
    world.put("a")
    world.sink.refused = "a/"
    assert await feed.round()
    assert caplog.records[-1].__dict__["refusals"] == 1


async def test_later_events_do_not_overtake_refused_ones(world: World) -> None:
    """Not those of the same notification; others go on."""
    world.put("a", *done())
    world.put("b")
    world.sink.answers = [Written(Result.REFUSED, "not like this")]
    assert await world.feed(buffer=LIMITS.model_copy(update={"batch_size": 1})).round()
    assert world.sink.batches == [["b/0.7-1/failed"]]
    assert world.audited("a") == 0


# -- what is given up -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "age", "given_up"),
    [
        (Result.RETRY, 3600.0, False),
        (Result.RETRY, 3600.001, True),
        (Result.REFUSED, 3600.0, False),
        (Result.REFUSED, 3600.001, True),
    ],
)
async def test_an_event_that_is_held_up_for_too_long_is_given_up(
    world: World, result: Result, age: float, given_up: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted and logged, and its log may expire; at `maxAge` itself it still waits."""
    world.put("a")
    world.now = round(BEGUN + 1_250 + age * 1000)
    world.sink.answers = [Written(result)]
    feed = world.feed(buffer=ONCE)
    assert await feed.round() is (result is Result.REFUSED)
    assert ("a" not in world.cache.unaudited) is given_up
    assert world.dropped() == (1 if given_up else 0)
    assert world.audited("a") == (3 if given_up else 0)
    assert result is Result.RETRY or (world.lag(feed) == 0) is given_up
    lines = [r for r in caplog.records if r.levelname == "ERROR"]
    members = ("message", "events", "notifications", "objects")
    assert [tuple(r.__dict__[m] for m in members) for r in lines] == [
        ("audit events older than a week are dropped", 1, 1, ["n/a"])
    ] * given_up


async def test_age_alone_gives_nothing_up(world: World) -> None:
    """Whoever takes an old event is told it; what lies behind one that still waits is not passed over."""
    world.put("a")
    world.now += 8 * DAY * 1000
    assert await world.feed().round()
    assert (world.sink.batches, world.dropped()) == ([["a/0.7-1/failed"]], 0)
    snapshot = await world.log.read(world.put("b").uid)
    young, old = (replace(e, at=at) for e, at in zip(events(9, 9), (world.now, BEGUN), strict=True))
    parts = parts_of(world.cache.entries["b"], cast("Snapshot", snapshot), [young, old], 1, 1 << 20)
    assert await world.feed()._give_up_expired(parts) == parts


@pytest.mark.parametrize(("batch", "old"), [(4, True), (16, True), (4, False)])
async def test_all_that_is_too_old_is_given_up_at_once(world: World, batch: int, old: bool) -> None:
    """While the sinks are down, one failure is enough for a backlog of any length; else no more is read."""
    for n in range(60):
        world.put(f"u{n}")
    world.now += 3_600_000 * old
    world.sink.answers = away(1)
    buffer = ONCE.model_copy(update={"batch_size": batch})
    assert not await world.feed(buffer=buffer).round()
    assert (world.dropped(), len(world.cache.unaudited)) == ((60, 0) if old else (0, 60))
    assert old or len(world.redis.calls) == 2 * 16


# -- the mark ---------------------------------------------------------------------------------------


class Marked:
    """A notification at the end of whose log a mark is set, and how the log was asked for it."""

    def __init__(
        self, world: World, answer: Mark | Exception = Mark.MOVED, *, audited: int = 0
    ) -> None:
        self.world, self.answer = world, answer
        self.asked: list[tuple[Any, ...]] = []
        self.notification = world.put("a", *done(), phase="Sent", audited=audited)
        self.meanwhile: Callable[[], object] = lambda: None
        cast("Any", world.log).ack = self._ack

    async def _ack(self, *given: Any, ttl: int, marks: str) -> Mark:
        self.asked.append((*given, ttl, marks))
        self.meanwhile()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def round(self) -> bool:
        """Have the feed look at it."""
        return await self.world.feed().round()


@pytest.mark.parametrize(
    ("phase", "deleted", "keeps"),
    [("Sent", False, True), ("Sending", False, False), ("Sent", True, False)],
    ids=["finished", "not finished", "deleted"],
)
async def test_the_last_mark_may_let_the_log_expire(
    world: World, phase: str, deleted: bool, keeps: bool
) -> None:
    """After the retention of a finished notification; whoever retires a deleted one's sets its own."""
    marked = Marked(world)
    entry = marked.notification
    shows(entry, status=Status(phase=phase), retention_days=2)
    if deleted:
        entry.gone()
    assert await marked.round()
    ((uid, position, _, ttl, marks),) = marked.asked
    assert (uid, position, marks) == ("a", 5, "audited")
    assert (ttl > 0) is keeps
    assert not keeps or ttl >= 2 * DAY


@pytest.mark.parametrize(
    ("acked", "quarantine", "dirty"),
    [(5, "", True), (6, "", True), (4, "", False), (5, "record 3", False)],
    ids=["published", "published beyond", "not published", "damaged"],
)
async def test_a_status_that_was_published_meanwhile_is_asked_about_again(
    world: World, acked: int, quarantine: str, dirty: bool
) -> None:
    """Each of the two marks saw the other lag, so neither set the expiry: the writer asks once more."""
    marked = Marked(world)
    read(marked.notification, marked.notification.view, acked=acked)
    if quarantine:
        marked.notification.unintelligible(quarantine)
    assert await marked.round()
    assert (marked.notification.publication.pending) is dirty
    assert list(world.cache.entries) == ["a"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Mark.STALE, "a log changed while it was audited"),
        (
            Unavailable("refused"),
            "audited events could not be marked in the log and are sent again",
        ),
    ],
    ids=["another history", "no answer"],
)
async def test_a_mark_that_could_not_be_set(
    world: World, answer: Mark | Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What was sent is sent again, under the same ids; what was given up is not counted yet."""
    caplog.set_level("INFO", "ledger.audit")
    marked = Marked(world, answer)
    assert await marked.round()
    assert list(world.cache.unaudited) == ["a"]
    assert [(r.message, r.__dict__["uid"]) for r in caplog.records] == [(said, "a")]
    assert await marked.round()
    first, second = world.sink.batches
    assert first == second
    world.now += 3_600_000
    world.sink.answers = away(1)
    assert not await world.feed(buffer=ONCE).round()
    assert (world.dropped(), list(world.cache.unaudited)) == (0, ["a"])


#: What happens while the mark is set that lets the log expire; whether its entry is known, its summary is
#: kept, and it waits for audit afterwards.
MEANWHILE: Final[dict[str, tuple[Callable[[Marked], object], tuple[bool, bool, bool]]]] = {
    "nothing: the summary is all that is kept": (lambda _: None, (False, True, False)),
    "the log has grown, and does not expire any more": (
        lambda m: read(m.notification, LogView(position=6)),
        (True, False, True),
    ),
    "another object of that uid is known by now": (
        lambda m: m.world.cache.entries.update(a=Notification(m.notification.request)),
        (True, False, False),
    ),
}


@pytest.mark.parametrize("case", MEANWHILE)
async def test_a_log_that_expires_retires_its_entry(world: World, case: str) -> None:
    """Unless it is another one by now, or the log goes on."""
    happens, wanted = MEANWHILE[case]
    marked, cache = Marked(world, Mark.EXPIRING), world.cache
    marked.meanwhile = lambda: happens(marked)
    assert await marked.round()
    assert ("a" in cache.entries, "a" in cache.finished, "a" in cache.unaudited) == wanted
    assert not (wanted[0] and marked.notification.expiring)
    assert not marked.notification.publication.pending


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_log_without_events(world: World, deleted: bool) -> None:
    """A finished one is marked all the same, and may expire; a deleted one is retired by others."""
    marked = Marked(world, Mark.EXPIRING, audited=5)
    if deleted:
        marked.notification.gone()
    assert await marked.round()
    snapshot = await world.log.read("a")
    assert snapshot is not None
    mark = ("a", 5, snapshot.records[-1].chain)
    assert [asked[:3] for asked in marked.asked] == ([] if deleted else [mark])
    assert (world.sink.batches, list(world.cache.finished)) == ([], [] if deleted else ["a"])
    assert not world.cache.unaudited


# -- life cycle -------------------------------------------------------------------------------------


async def running(feed: AuditFeed, world: World, pauses: int) -> list[float]:
    """Have a feed serve until it has paused so many times; the pauses."""
    async with beside(feed.run()):
        await eventually(lambda: len(world.pauses) >= pauses)
    return world.pauses[:pauses]


async def test_rounds_that_fail_are_further_and_further_apart(world: World) -> None:
    """Half a minute at most; those that do not fail have the interval of the settings between them."""
    world.put("a")
    world.sink.answers = away(7)
    pauses = await running(world.feed(buffer=ONCE), world, 9)
    assert pauses == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 0.25, 0.25]


async def test_a_sink_that_takes_something_is_tried_as_soon_as_before(world: World) -> None:
    """Its pauses grow only while it takes nothing at all, and begin anew after each outage."""
    for n in range(4):
        world.put(f"u{n}")
    stored = Written(Result.STORED)
    world.sink.answers = [*away(1), stored, *away(1), stored, *away(2), stored, stored]
    pauses = await running(world.feed(buffer=ONCE.model_copy(update={"batch_size": 1})), world, 5)
    assert pauses == [2.0, 2.0, 2.0, 4.0, 0.25]


async def test_an_error_does_not_end_the_feed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the round repeated after a pause."""
    world.put("a")
    world.sink.answers = [RuntimeError("a slip")]
    assert await running(world.feed(), world, 2) == [2.0, 1.0]
    assert world.sink.batches == [["a/0.7-1/failed"]]
    assert [r.message for r in caplog.records] == ["a round of the audit feed failed"]


async def test_the_drain_sends_once_more(world: World) -> None:
    """It is the last round; the loop begins no other, and does not end before the process."""
    feed = world.feed()
    task = asyncio.create_task(feed.run())
    await asyncio.sleep(0)
    world.put("a")
    assert await feed.drain(5.0) == 0
    assert world.sink.batches == [["a/0.7-1/failed"]]
    world.put("b")
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    assert len(world.sink.batches) == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


#: What the sink does, how long the drain may take, and what it says.
DRAINS: Final[dict[str, tuple[Callable[[Collector], object], float, list[str]]]] = {
    "it is away": (
        lambda sink: sink.answers.extend(away(9)), 5.0,
        ["audit events were not accepted and are sent again"],
    ),
    "it hangs": (lambda sink: setattr(sink, "write", lambda _: asyncio.Event().wait()), 0.01, []),
    "it fails": (
        lambda sink: sink.answers.append(RuntimeError("a slip")), 5.0,
        ["the last round of the audit feed failed"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DRAINS)
async def test_the_drain_is_bounded(
    world: World, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One try is all; it says how many notifications are left, and the process ends all the same."""
    does, seconds, said = DRAINS[case]
    world.put("a")
    world.put("b")
    does(world.sink)
    assert await world.feed().drain(seconds) == 2
    assert world.pauses == []
    assert [r.message for r in caplog.records] == said


async def test_a_drain_cuts_a_pause_short(world: World) -> None:
    """A pause takes its time, unless the process ends."""
    feed = world.feed()
    began = time.monotonic()
    await world.real_pause(feed, 0.05)
    assert time.monotonic() - began >= 0.045
    async with asyncio.timeout(20):
        await asyncio.gather(world.real_pause(feed, 600.0), feed.drain(5.0))
