"""
The periodic work of the process, and wake-ups.

A wake-up for a log that holds something new comes from anybody, and ends nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from prometheus_client import CollectorRegistry

from notifier.app import Parts
from notifier.dispatch.workqueue import WorkQueue
from notifier.process import sweeps as module
from notifier.process import sweeps as sweeps_module
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
from syncer.sharding.ownership import Shards
from syncer.sync.cache import Cache, Finished, summary
from syncer.sync.evidence import Evidence
from syncer.sync.notification import Notification
from syncer.sync.sweeps import Sweeper
from tests.fakes.memorylog import MemoryLog, MemoryRedis
from tests.fakes.ownership import Held, Ours
from tests.unit.notifier.reconciler.starting import document

DAY: Final = 86_400_000


class Store:
    """Answers each read with an error, or with the object."""

    def __init__(self, error: LedgerError | None) -> None:
        self.error = error

    async def get(self, namespace: str, name: str, _known: object = None, /) -> NotificationRequest:
        """Read."""
        if self.error is not None:
            raise self.error
        assert (namespace, name) == ("n", "a")
        return parse_object(document("a", 2, phase="Sent"))


@pytest.fixture
def process() -> Process:
    """A process with nothing to do."""
    return Process()


@pytest.mark.parametrize(
    "error", [None, Unavailable("not now"), ContractError("the object cannot be read (ValueError)")]
)
async def test_a_wake_up_for_a_finished_notification(error: LedgerError | None) -> None:
    """The loop that follows wake-ups must not end: an object that cannot be read now stays as it is."""
    cache, queue, shards = Cache(window=1.0), WorkQueue(), Shards(1)
    shards.take(0, Held())
    cache.finished["uid-a"] = summary(parse_object(document("a", 1, phase="Sent")))
    parts = SimpleNamespace(cache=cache, queue=queue, shards=shards, objects=Store(error))
    await Sweeps(cast("Parts", parts)).wake_up("uid-a")
    assert ("uid-a" in cache.entries, len(queue)) == ((True, 1) if error is None else (False, 0))


async def test_a_finished_notification_whose_deletion_was_not_seen_is_forgotten() -> None:
    """Else its log would count as that of an object that exists, and nobody would let it go."""
    cache, queue, shards = Cache(window=1.0), WorkQueue(), Shards(1)
    shards.take(0, Held())
    cache.finished["uid-a"] = summary(parse_object(document("a", 1, phase="Sent")))
    store = Store(Gone("there is no such object"))
    parts = SimpleNamespace(cache=cache, queue=queue, shards=shards, objects=store)
    await Sweeps(cast("Parts", parts)).wake_up("uid-a")
    assert (cache.entries, cache.finished) == ({}, {})


async def test_what_was_not_heard_is_looked_for() -> None:
    """Whoever has appended while nobody listened told nobody: both sweeps start, as after a takeover."""
    takeover, tried = Takeover(), asyncio.Event()
    cache = SimpleNamespace(retry_marks=tried.set)
    sweeps = Sweeps(cast("Parts", SimpleNamespace(takeover=takeover, cache=cache)))
    await sweeps.wake_up(LISTENING)
    assert takeover.finished.is_set()
    assert takeover.orphans.is_set()
    assert tried.is_set()


# -- sweeps -----------------------------------------------------------------------------------------


class Objects:
    """The API server: gives objects by name, ended, with the uid of that name."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gone: set[str] = set()

    async def get(self, namespace: str, name: str, _known: object = None, /) -> NotificationRequest:
        """Read."""
        self.asked.append(f"{namespace}/{name}")
        if name in self.gone:
            raise Gone(name)
        return parse_object(document(name, 2, phase="Sent"))


class Process:
    """What sweeps work with, over a Redis in memory."""

    def __init__(self, *strangers: str) -> None:
        self.redis = MemoryRedis(lambda: 1_000)
        self.log: Any = MemoryLog(self.redis)
        self.objects, self.cache, self.queue = Objects(), Cache(window=1.0), WorkQueue()
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

    def put(self, uid: str, header: Header, *, ttl: int = 0) -> None:
        """Store a log of one record."""
        record = plan_record(Plan(("c",), "r", "m", at=1))
        key = f"nl:{{{uid}}}"
        self.redis.twin.logs[key] = [header.encode(), encode_element(record, ROOT_CHAIN)]
        if ttl:
            self.redis.twin.expires[key] = 1_000 + ttl * 1_000


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
    monkeypatch.setattr(sweeps_module, "_JOURNALED", 2)
    monkeypatch.setattr(sweeps_module, "_LISTED_POLL", 0.0)
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


async def test_what_waits_for_the_audit_alone_is_opened_as_the_feed_can_take_it(
    process: Process,
) -> None:
    """Beyond the bound of the feed a notification stays as brief as it is until a later sweep."""
    process.cache.audit_limit = 2
    process.finish("a", "b", "c")
    for name in "abc":
        process.put(f"uid-{name}", header(audited=0))
    await process.sweeps.finished()
    assert process.cache.entries.keys() == {"uid-a", "uid-b"}


async def test_the_bound_of_the_feed_holds_for_all_pages_together(
    process: Process,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many logs one question covers."""
    monkeypatch.setattr(module, "_PAGE", 1)
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


async def test_a_log_that_is_about_to_expire_is_retired_already(process: Process) -> None:
    """Less than a second is left of it."""

    async def heads(_uids: list[str]) -> list[tuple[None, int, int]]:
        return [(None, 5, 0)]

    process.log = SimpleNamespace(read_headers=heads)
    await process.sweeps.wake_up("uid-new")
    assert not process.takeover.waiting


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
    assert (process.takeover.waiting, process.sweeps.through) == (True, False)
    process.reflector.synced = True
    await asyncio.gather(*waiting)
    through = [process.sweeps.through]
    process.takeover.start_sweeps()
    assert [*through, process.sweeps.through] == [True, False]


async def test_logs_of_a_shard_that_has_just_come_are_left_alone(process: Process) -> None:
    """Its objects are not listed yet, so nothing is known of them; its own sweep follows."""
    process.objects.gone = {"uid-e"}
    process.put("uid-e", header(name="n/e"))
    process.reflector.follows = lambda uid: uid != "uid-e"
    await process.sweeps.orphans()
    assert (process.objects.asked, process.retired) == ([], [])


async def test_logs_of_a_namespace_that_may_not_be_read_are_left_alone(process: Process) -> None:
    """Of its objects nothing is known, and each question about one would be refused."""
    process.objects.gone = {"e"}
    process.put("uid-e", header(name="n/e"))
    process.reflector.refused = frozenset({"n"})
    await process.sweeps.orphans()
    assert (process.objects.asked, process.retired) == ([], [])
    process.reflector.refused = frozenset()
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
    reread: list[str] = []

    async def read(notification: Notification) -> None:
        reread.append(notification.uid)

    process.claimer.recorder = SimpleNamespace(reread=read)
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
    assert (reread, len(process.queue)) == (["uid-a"], 1)
    assert [(r.message, r.__dict__["logs"]) for r in caplog.records] == [
        ("found records that another process appended", 1)
    ]


async def test_finished_objects_whose_time_is_over_are_deleted(
    process: Process,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The retention gets all that are finished, and the log says how many it deleted, if any."""
    process.finish("a", "b")
    given: list[list[str]] = []

    class Kept:
        deleted = 2

        async def sweep(self, found: list[Finished]) -> int:
            given.append([each.uid for each in found])
            return self.deleted

    kept = Kept()
    made = cast("Any", process)
    made.retention = kept
    made.settings = SimpleNamespace(retention=SimpleNamespace(delete_objects="asCancelled"))
    caplog.set_level("INFO", "ledger")
    await process.sweeps.expired()
    kept.deleted = 0
    await process.sweeps.expired()
    assert given == [["uid-a", "uid-b"]] * 2
    assert [(r.message, r.__dict__["objects"]) for r in caplog.records] == [
        ("finished objects deleted", 2)
    ]


async def test_nothing_is_deleted_where_a_deletion_is_a_cancellation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Kubernaut's other kinds show that it is installed; the reason is logged once, and goes with it."""
    process, served = Process(), list[list[str] | Unavailable]()

    async def request(method: str, path: str, *, timeout: float) -> dict[str, Any]:
        assert (method, path, timeout) == ("GET", "/apis/kubernaut.ai/v1alpha1", 5.0)
        answer = served.pop(0)
        if isinstance(answer, Unavailable):
            raise answer
        return {"resources": [{"name": name} for name in answer]}

    made = cast("Any", process)
    made.settings = SimpleNamespace(retention=SimpleNamespace(delete_objects=True))
    made.outside = SimpleNamespace(objects=SimpleNamespace(request=request))
    ours, theirs = ["notificationrequests"], ["notificationrequests", "remediationrequests"]
    seen = []
    for answer in (ours, theirs, theirs, Unavailable("away"), ours):
        served.append(answer)
        deletion = process.sweeps
        seen.append((await deletion._may_delete(), deletion.not_deleted is not None))
    assert seen == [(True, False), (False, True), (False, True), (False, True), (True, False)]
    (refused,) = [r.message for r in caplog.records]
    assert "its webhook would record each deletion as a cancellation" in refused
    made.settings.retention.delete_objects = "asCancelled"
    assert await process.sweeps._may_delete()


WOKEN: Final = {
    "of a live notification": ("uid-live", True, True, False),
    "of a finished one": ("uid-done", True, False, False),
    "of a shard that is not ours": ("uid-else", False, False, False),
    "of an object that is not known": ("uid-new", False, False, True),
    "of a log that is retired": ("uid-old", False, False, False),
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


async def test_wake_ups_are_followed(process: Process) -> None:
    """Each is handled, one after the other."""
    uids = ["uid-a", "uid-b"]
    for name in "ab":
        process.cache.entries[f"uid-{name}"] = Notification(parse_object(document(name, 1)))

    async def following() -> str:
        if not uids:
            raise asyncio.CancelledError
        return uids.pop(0)

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

    async def resync() -> None:
        done.append("resync")

    made.resync = SimpleNamespace(round=resync)
    made.settings = SimpleNamespace(sync=SimpleNamespace(hold_notice=8.0))
    made.controller = SimpleNamespace(
        dispatcher=SimpleNamespace(refill=lambda: done.append("refill")),
        overdue=SimpleNamespace(mark_without_log=lambda some, **said: done.append((some, said))),
    )
    await process.sweeps.resync()
    made.log = SimpleNamespace(unavailable_reason=None)
    made.cache.entries = {n: n for n in range(SLICE + 1)}
    await process.sweeps.note_log_outage()
    made.log.unavailable_reason = "away"
    await process.sweeps.note_log_outage()
    here, away = {"available": True, "notice": 8.0}, {"available": False, "notice": 8.0}
    slices = [[*range(SLICE)], [SLICE]]
    assert done == ["resync", "refill", *((s, said) for said in (here, away) for s in slices)]
