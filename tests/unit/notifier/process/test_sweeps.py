"""
The periodic work of the process, and wake-ups.

A wake-up for a log that holds something new comes from anybody, and ends nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final, cast
from unittest.mock import AsyncMock

import pytest
from prometheus_client import CollectorRegistry

from notifier.app import Parts
from notifier.dispatch.workqueue import WorkQueue
from notifier.process import sweeps as module
from notifier.process.sweeps import Sweeps
from notifier.progress import Takeover
from syncer.ledger.codec import encode_element, stored
from syncer.ledger.subscriber import LISTENING
from syncer.metrics import SyncMetrics
from syncer.model.attempt import Epoch
from syncer.model.errors import ContractError, Gone, LedgerError, Unavailable
from syncer.model.record import Header, Plan, plan_record
from syncer.model.resource import NotificationRequest, parse_object
from syncer.rules.fold import ROOT_CHAIN
from syncer.runtime.clock import LedgerTime
from syncer.runtime.slices import SLICE
from syncer.sync import sweeps as pages
from syncer.sync.cache import Cache, summary
from syncer.sync.evidence import Evidence
from syncer.sync.notification import Notification
from syncer.sync.sweeps import Sweeper
from tests.fakes.memorylog import MemoryLog, MemoryRedis
from tests.fakes.ownership import Held, Ours
from tests.unit.notifier.reconciler.starting import document

DAY: Final = 86_400_000


@pytest.fixture
def process() -> Process:
    """A process with nothing to do."""
    return Process()


class Objects:
    """The API server: gives objects by name, ended, with the uid of that name."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gone: set[str] = set()
        self.error: LedgerError | None = None

    async def get(self, namespace: str, name: str, _known: object = None, /) -> NotificationRequest:
        self.asked.append(f"{namespace}/{name}")
        if name in self.gone:
            raise Gone(name)
        if self.error is not None:
            raise self.error
        return parse_object(document(name, 2, phase="Sent"))


class Process:
    """What sweeps work with, over a Redis in memory."""

    def __init__(self, *strangers: str) -> None:
        self.redis = MemoryRedis(lambda: 1_000)
        self.log: Any = MemoryLog(self.redis)
        self.client: Any = self.log.client
        self.objects, self.cache, self.queue = Objects(), Cache(window=1.0), WorkQueue()
        self.cache.check = self.queue.add
        self.shards = Ours(others=strangers)
        self.takeover = Takeover()
        self.takeover.owning.set()
        self.reflector = SimpleNamespace(
            synced=True, follows=lambda _uid: True, refused=frozenset()
        )
        self.loaded = SimpleNamespace(namespaces=None)
        self.metrics = SyncMetrics(CollectorRegistry())
        self.claimer = SimpleNamespace(
            log=self.log, cache=self.cache, objects=self.objects, retire=self.retire,
            recorder=SimpleNamespace(
                evidence=Evidence(self.log, LedgerTime(), adopted_before=lambda: DAY),
                time=SimpleNamespace(certain=lambda: 9 * DAY),
            ),
            metrics=self.metrics,
        )  # fmt: skip
        self.sweeper = Sweeper(cast("Any", self.claimer))
        self.retired: list[str] = []
        self.sweeps = Sweeps(cast("Parts", self))

    async def retire(self, notification: Notification, term: object) -> bool:
        """Note which log is let go."""
        self.retired.append(notification.request.key)
        return True

    def finish(self, *names: str) -> None:
        """Have notifications that are finished."""
        for name in names:
            self.cache.finished[f"uid-{name}"] = summary(
                parse_object(document(name, 1, phase="Sent"))
            )

    def put(self, uid: str, header: Header, *, ttl: float = 0.0) -> None:
        """Store a log of one record, perhaps one that expires."""
        record = plan_record(Plan(("c",), "r", "m", at=1))
        key = f"nl:{{{uid}}}"
        self.redis.twin.logs[key] = [header.encode(), encode_element(record, ROOT_CHAIN)]
        if ttl:
            self.redis.twin.expires[key] = 1_000 + round(ttl * 1_000)


def header(*, acked: int = 1, audited: int = 1, name: str = "n/a") -> Header:
    """The header of a log of one record."""
    return Header(name, Epoch("0.9"), acked=acked, audited=audited)


async def test_finished_notifications_whose_logs_hold_more_are_opened_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only those of ours; the sweep says how many it compared and how many have no log."""
    process = Process("uid-d")
    process.finish("a", "b", "c", "d")
    process.put("uid-a", header(acked=0))
    process.put("uid-b", header(), ttl=60)
    process.put("uid-d", header(acked=0))
    caplog.set_level("DEBUG", "ledger")
    process.takeover.start_sweeps()
    await process.sweeps.finished()
    assert process.cache.entries.keys() == {"uid-a"}
    assert process.cache.finished.keys() == {"uid-b", "uid-c", "uid-d"}
    assert len(process.queue) == 1
    assert process.sweeps.looked_at == {"finished": 4}
    (line,) = caplog.records
    assert (line.message, line.__dict__["objects"], line.__dict__["no_log"]) == (
        "finished objects checked", 4, 1,
    )  # fmt: skip
    assert not process.takeover.finished.is_set()
    assert not process.sweeps.through  # the other one waits


async def test_a_log_that_is_gone_before_its_time_is_missed(
    process: Process,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Named and counted; not one that has expired, nor that of what upstream's controller has finished."""
    process.finish("a", "b", "c")
    for name, ended in (("a", DAY), ("b", 2 * DAY), ("c", 3 * DAY)):
        finished = process.cache.finished
        finished[f"uid-{name}"] = replace(finished[f"uid-{name}"], ended=ended, retention_days=7)
    await process.sweeps.finished()
    (line,) = [r.__dict__ for r in caplog.records if r.levelname == "ERROR"]
    assert (line["object"], line["class"]) == ("n/c", "log-missing")
    assert "somebody who may write to Redis" in line["cause"]
    assert "verify --repair" in line["do"]
    assert process.metrics.divergences.labels("log-missing")._value.get() == 1


async def test_what_was_journaled_is_claimed_a_few_at_a_time(
    process: Process,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is read whole for that, and thousands would fill the memory; none while its Lease has a note."""
    monkeypatch.setattr(module, "_JOURNALED", 2)
    monkeypatch.setattr(module, "_LISTED_POLL", 0.0)
    made, noted = cast("Any", process), {"uid-f"}
    made.journal = SimpleNamespace(blocks=noted.__contains__)
    process.log.client.problem = None
    for name in "abcdef":
        found = parse_object(document(name, 1, phase="Sent"))
        process.cache.sum_up(replace(found, status=replace(found.status, journal="0.1-1")))
    process.finish("z")
    await process.sweeps.finished()
    assert not process.objects.asked, "its log is to be claimed, whatever it holds"
    sweeping = asyncio.create_task(process.sweeps.journaled())
    for done in range(5):
        async with asyncio.timeout(10):
            while len(process.objects.asked) < min(done + 2, 5):
                await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        assert len(process.objects.asked) == min(done + 2, 5)
        process.cache.entries.popitem()
    async with asyncio.timeout(10):
        await sweeping
    assert [s.uid for s in process.cache.journaled()] == ["uid-f"]
    assert set(process.cache.finished) == {"uid-f", "uid-z"}


@pytest.mark.parametrize("page", [256, 1])
async def test_what_waits_for_the_audit_alone_is_opened_as_the_feed_can_take_it(
    process: Process, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound of the feed, for all pages, a notification stays brief until a later sweep."""
    monkeypatch.setattr(pages, "_PAGE", page)
    process.cache.audit_limit = 2
    process.finish(*"abcd")
    for name in "abcd":
        process.put(f"uid-{name}", header(audited=0))
    await process.sweeps.finished()
    assert process.cache.entries.keys() == {"uid-a", "uid-b"}


async def test_a_round_that_is_under_way_is_not_complete(process: Process) -> None:
    """What an earlier one has compared says nothing of the shard that has come since."""
    process.finish("a")
    await process.sweeps.orphans()
    await process.sweeps.finished()
    assert process.sweeps.through
    process.takeover.start_sweeps()
    await process.sweeps.orphans()
    read, through = process.log.read_headers, list[bool]()

    async def reading(uids: list[str]) -> object:
        through.append(process.sweeps.through)
        return await read(uids)

    process.log.read_headers = reading
    await process.sweeps.finished()
    assert [*through, process.sweeps.through] == [False, True]


async def test_logs_without_an_object_are_retired(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    """Not those of objects that are there, known or not, nor of namespaces that are not watched."""
    process.finish("a")
    process.cache.entries["uid-b"] = Notification(parse_object(document("b", 1)))
    process.objects.gone = {"e", "f"}
    process.loaded.namespaces = ("n",)
    for uid, name in (
        ("uid-a", "n/a"), ("uid-b", "n/b"), ("uid-c", "n/c"), ("old", "n/c"), ("uid-e", "n/e"),
        ("uid-f", "other/f"),
    ):  # fmt: skip
        process.put(uid, header(name=name))
    caplog.set_level("INFO", "ledger")
    await process.sweeps.orphans()
    assert sorted(process.retired) == ["n/c", "n/e"]
    assert sorted(process.objects.asked) == ["n/c", "n/c", "n/e"]
    assert process.sweeps.looked_at == {"logs": 6}
    assert [(r.message, r.__dict__["logs"]) for r in caplog.records] == [
        ("logs of deleted objects retired", 2)
    ]
    process.loaded.namespaces = None
    await process.sweeps.orphans()
    assert "other/f" in process.retired


async def test_nothing_is_compared_with_a_list_that_is_not_whole(process: Process) -> None:
    """Before the objects are listed, a log may be that of one that was not seen yet."""
    process.reflector.synced = False
    process.finish("a")
    process.put("uid-a", header(acked=0))
    process.put("old", header(name="n/old"))
    process.objects.gone = {"old"}
    process.takeover.start_sweeps()
    waiting = [
        asyncio.create_task(sweep()) for sweep in (process.sweeps.finished, process.sweeps.orphans)
    ]
    await asyncio.sleep(0.3)
    assert not any(task.done() for task in waiting)
    assert (process.retired, process.cache.entries, process.sweeps.looked_at) == ([], {}, {})
    takeover = process.takeover
    wanted = (takeover.finished.is_set(), takeover.orphans.is_set())
    assert (*wanted, process.sweeps.through) == (True, True, False)
    process.reflector.synced = True
    await asyncio.gather(*waiting)
    through = [process.sweeps.through]
    process.takeover.start_sweeps()
    assert [*through, process.sweeps.through] == [True, False]


@pytest.mark.parametrize(
    ("member", "unknown"),
    [("follows", lambda _uid: False), ("refused", frozenset({"n"}))],
    ids=["of a shard that has just come", "of a namespace that may not be read"],
)
async def test_logs_of_objects_that_are_not_listed_are_left_alone(
    process: Process, member: str, unknown: object
) -> None:
    """Nothing is known of them, and each question about one may be refused."""
    process.objects.gone = {"e"}
    process.put("uid-e", header(name="n/e"))
    usual = getattr(process.reflector, member)
    setattr(process.reflector, member, unknown)
    await process.sweeps.orphans()
    assert (process.objects.asked, process.retired) == ([], [])
    setattr(process.reflector, member, usual)
    await process.sweeps.orphans()
    assert process.retired == ["n/e"]


@pytest.mark.parametrize("sweep", ["live", "finished", "orphans", "expired"])
async def test_a_process_that_has_owned_nothing_sweeps_nothing(
    process: Process, sweep: str
) -> None:
    """Each sweep waits for the first shard."""
    process.takeover.owning.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(getattr(process.sweeps, sweep)(), 0.01)


async def test_records_of_others_are_found(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    """A live log that is longer than what is known of it is read again; one without a claim is not."""
    reread = AsyncMock()
    process.claimer.recorder = SimpleNamespace(reread=reread)
    for name in "abc":
        notification = process.cache.entries[f"uid-{name}"] = Notification(
            parse_object(document(name, 1))
        )
        if name != "c":
            notification.claimed(cast("Any", Held()))
        process.put(notification.uid, header())
    process.cache.entries["uid-b"].view.apply(
        stored(plan_record(Plan(("c",), "r", "m", at=1)), ROOT_CHAIN, 1)
    )
    caplog.set_level("INFO", "ledger")
    await process.sweeps.live()
    reread.assert_awaited_once_with(process.cache.entries["uid-a"])
    assert len(process.queue) == 1
    assert [(r.message, r.__dict__["logs"]) for r in caplog.records] == [
        ("found records that another process appended", 1)
    ]


async def test_finished_objects_whose_time_is_over_are_deleted(
    process: Process,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The retention gets all that are finished, and the log says how many it deleted, if any."""
    process.finish("a", "b")
    made, sweep = cast("Any", process), AsyncMock(side_effect=[2, 0])
    made.retention = SimpleNamespace(sweep=sweep)
    made.settings = SimpleNamespace(retention=SimpleNamespace(delete_objects="asCancelled"))
    caplog.set_level("INFO", "ledger")
    for _ in range(2):
        await process.sweeps.expired()
        sweep.assert_awaited_with(list(process.cache.finished.values()))
    assert [(r.message, r.__dict__["objects"]) for r in caplog.records] == [
        ("finished objects deleted", 2)
    ]


async def test_nothing_is_deleted_where_a_deletion_is_a_cancellation(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    """Kubernaut's other kinds show that it is installed; the reason is logged once, and goes with it."""
    ours = {"resources": [{"name": "notificationrequests"}]}
    theirs = {"resources": [{"name": "notificationrequests"}, {"name": "remediationrequests"}]}
    request = AsyncMock(side_effect=[ours, theirs, theirs, Unavailable("away"), ours])
    made, sweeps = cast("Any", process), process.sweeps
    made.settings = SimpleNamespace(retention=SimpleNamespace(delete_objects=True))
    made.outside = SimpleNamespace(objects=SimpleNamespace(request=request))
    seen = [(await sweeps._may_delete(), sweeps.not_deleted is not None) for _ in range(5)]
    assert seen == [(True, False), (False, True), (False, True), (False, True), (True, False)]
    request.assert_awaited_with("GET", "/apis/kubernaut.ai/v1alpha1", timeout=5.0)
    (refused,) = [r.message for r in caplog.records]
    assert "its webhook would record each deletion as a cancellation" in refused
    made.settings.retention.delete_objects = "asCancelled"
    assert await sweeps._may_delete()


WOKEN: Final = {
    "of a live notification": ("uid-live", True, True, False),
    "of a finished one": ("uid-done", True, False, False),
    "of a shard that is not ours": ("uid-else", False, False, False),
    "of an object that is not known": ("uid-new", False, False, True),
    "of a log that is retired": ("uid-old", False, False, False),
    "of a log with less than a second left": ("uid-ends", False, False, False),
    "of no log": ("uid-none", False, False, False),
}  # fmt: skip


@pytest.mark.parametrize("case", WOKEN)
async def test_what_a_wake_up_starts(case: str) -> None:
    """A known notification is queued, a live one read again; a strange log has the sweep start."""
    uid, queued, again, swept = WOKEN[case]
    process = Process("uid-else")
    live = process.cache.entries["uid-live"] = Notification(parse_object(document("live", 1)))
    process.cache.entries["uid-else"] = Notification(parse_object(document("else", 1)))
    process.finish("done")
    process.put("uid-new", header())
    process.put("uid-old", header(), ttl=60)
    process.put("uid-ends", header(), ttl=0.4)
    await process.sweeps.wake_up(uid)
    assert len(process.queue) == queued
    assert (live.reread, live.publication.pending) == (again, again)
    assert process.takeover.orphans.is_set() == swept
    assert not process.takeover.finished.is_set()


async def test_a_wake_up_meets_a_redis_that_is_away(process: Process) -> None:
    """The loop that follows wake-ups goes on."""
    process.redis.down = True
    process.log = MemoryLog(process.redis, patience=0.0)
    await process.sweeps.wake_up("uid-new")
    assert not process.takeover.waiting


@pytest.mark.parametrize(
    ("error", "entries", "finished"),
    [
        (None, ["uid-a"], []),
        (Unavailable("not now"), [], ["uid-a"]),
        (ContractError("the object cannot be read (ValueError)"), [], ["uid-a"]),
        (Gone("its deletion was not seen"), [], []),
    ],
    ids=["is there", "no answer", "cannot be read", "is gone"],
)
async def test_a_wake_up_for_a_finished_notification_has_its_object_read(
    process: Process, error: LedgerError | None, entries: list[str], finished: list[str]
) -> None:
    """The loop that follows wake-ups must not end; of one that is gone somebody must let the log go."""
    process.finish("a")
    process.objects.error = error
    await process.sweeps.wake_up("uid-a")
    assert process.objects.asked == ["n/a"]
    assert (list(process.cache.entries), list(process.cache.finished)) == (entries, finished)
    assert len(process.queue) == len(entries)


async def test_what_was_not_heard_is_looked_for(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has appended while nobody listened told nobody: all sweeps start, as after a takeover."""
    takeover, tried = process.takeover, asyncio.Event()
    monkeypatch.setattr(process.cache, "retry_marks", tried.set)
    await process.sweeps.wake_up(LISTENING)
    wanted = (takeover.finished, takeover.orphans, takeover.live, tried)
    assert [event.is_set() for event in wanted] == [True] * 4


async def test_wake_ups_are_followed(process: Process) -> None:
    """Each is handled, one after the other."""
    for name in "ab":
        process.cache.entries[f"uid-{name}"] = Notification(parse_object(document(name, 1)))
    following = AsyncMock(side_effect=["uid-a", "uid-b", asyncio.CancelledError])
    cast("Any", process).wake_ups = SimpleNamespace(get=following)
    with pytest.raises(asyncio.CancelledError):
        await process.sweeps.follow_wake_ups()
    assert len(process.queue) == 2


ROUNDS: Final = [
    ("resync", 600.0), ("live-sweep", 60.0), ("journaled", 1.0), ("finished-sweep", 300.0),
    ("orphan-sweep", 300.0), ("let-go", 1.0), ("operator-holds", 5.0), ("status-policy", 60.0),
    ("holds", 5.0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("notice", "holds"), [(10.0, 5.0), (30.0, 5.0), (4.0, 2.0)], ids=["twice", "longer", "shorter"]
)
async def test_the_periodic_work(process: Process, notice: float, holds: float) -> None:
    """Each sweep has its interval; the two of a takeover start early; the others are optional."""
    made = cast("Any", process)
    made.settings = SimpleNamespace(
        sync=SimpleNamespace(
            resync=600.0, live_sweep=60.0, finished_sweep=300.0, scrub_pause=7.0, hold_notice=notice
        ),
        retention=SimpleNamespace(delete_objects=False),
    )
    made.scrubber = None
    made.hold_keeper = SimpleNamespace(round=None, let_go=None)
    made.status_policy = SimpleNamespace(look=None)
    takeover = process.takeover
    rounds = process.sweeps.rounds()
    assert [(r.name, r.every) for r in rounds] == [*ROUNDS[:-1], ("holds", holds)]
    assert [r.sooner for r in rounds] == [
        None, takeover.live, None, takeover.finished, takeover.orphans, None, None, None, None,
    ]  # fmt: skip

    made.settings.retention.delete_objects = True
    scrubbed: Any = object()
    made.scrubber = SimpleNamespace(round=scrubbed)
    rounds = process.sweeps.rounds()
    assert [(rounds[n].name, rounds[n].every) for n in (0, -1)] == [
        ("retention-sweep", 300.0), ("self-audit", 7.0),
    ]  # fmt: skip
    assert rounds[-1].work is scrubbed


async def test_resync_refills_what_waits(process: Process) -> None:
    """What the resync found begins at once; and the notice of held attempts gets its bound."""
    made, done = cast("Any", process), list[object]()
    made.resync = SimpleNamespace(round=AsyncMock(side_effect=lambda: done.append("resync")))
    made.settings = SimpleNamespace(sync=SimpleNamespace(hold_notice=8.0))
    made.controller = SimpleNamespace(
        dispatcher=SimpleNamespace(refill=lambda: done.append("refill")),
        overdue=SimpleNamespace(mark_without_log=lambda some, **said: done.append((some, said))),
    )
    await process.sweeps.resync()
    made.client = SimpleNamespace(unavailable_reason=None)
    made.cache.entries = {n: n for n in range(SLICE + 1)}
    await process.sweeps.note_log_outage()
    made.client.unavailable_reason = "away"
    await process.sweeps.note_log_outage()
    here, away = {"available": True, "notice": 8.0}, {"available": False, "notice": 8.0}
    slices = [[*range(SLICE)], [SLICE]]
    assert done == ["resync", "refill", *((s, said) for said in (here, away) for s in slices)]
