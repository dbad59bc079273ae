"""The sync loop between a lease that is late and one that is lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from syncer.model.attempt import Attempt, AttemptState
from syncer.model.errors import (
    DENIED,
    Ambiguous,
    Conflict,
    Gone,
    Rejected,
    Unauthorised,
    Unavailable,
)
from syncer.model.ports import Ownership
from syncer.model.record import Plan
from syncer.model.resource import NotificationRequest, parse_object
from syncer.sync.cache import Claim, Entry
from syncer.sync.flushes import MAX_CONFLICTS, Flushed
from syncer.sync.status_writer import StatusWriter
from tests.unit.syncer.sync.test_holes import EPOCH, Bench, Held, bench


class Shaky:
    """A lease term that may be late, or gone."""

    def __init__(self) -> None:
        self.epoch = EPOCH
        self.late = False
        self.gone = False

    def term_of(self, uid: str) -> Shaky | None:
        """The lease term, while there is one."""
        del uid
        return None if self.gone else self

    def valid(self, now: float) -> bool:
        """Whether it was renewed in time."""
        return now >= 0 and not self.late


def writing(here: Bench, lease: Shaky) -> tuple[StatusWriter, list[str]]:
    """A sync loop that depends on the lease, and what it calls stale."""
    stale: list[str] = []
    ownership = cast("Ownership", lease)
    sync = StatusWriter(
        here.recorder, here.objects, ownership, here.sync.metrics, on_stale=stale.append
    )
    return sync, stale


async def test_a_late_renewal_loses_no_write() -> None:
    """The answer to a renewal may come just behind the deadline, and the lease term goes on as it was."""
    async with bench() as (here, entry):
        await here.claimer.claim(entry, Held())
        await here.recorder.plan(entry, Plan(("console",), "RoutingRuleMatched", "m", 1))
        lease = Shaky()
        sync, stale = writing(here, lease)
        lease.late = True
        await sync._one(entry)
        assert (here.objects.written, stale) == ([], [])
        assert entry.dirty_since is not None
        lease.late = False
        await sync._one(entry)
        assert [w["phase"] for w in here.objects.written] == ["Sending"]
        assert entry.dirty_since is None


async def test_a_lost_lease_ends_the_writes() -> None:
    """What is another's is not written, and not waited for."""
    async with bench() as (here, entry):
        await here.claimer.claim(entry, Held())
        await here.recorder.plan(entry, Plan(("console",), "RoutingRuleMatched", "m", 1))
        lease = Shaky()
        sync, stale = writing(here, lease)
        lease.gone = True
        await sync._one(entry)
        assert (here.objects.written, stale) == ([], ["u"])
        assert entry.dirty_since is None


async def test_a_drain_waits_for_no_write_that_is_due_behind_its_end() -> None:
    """A status that is refused backs off; the end of the process need not be put off for it."""
    async with bench() as (here, entry):
        await here.claimer.claim(entry, Held())
        await here.recorder.plan(entry, Plan(("console",), "RoutingRuleMatched", "m", 1))
        sync, _ = writing(here, Shaky())
        for _ in range(10):
            here.cache.failed(entry)
        begun = here.cache.monotonic()
        running = asyncio.create_task(sync.run())
        try:
            assert await sync.drain(begun + 10) == 1
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert here.cache.monotonic() - begun < 5
        assert here.objects.written == []


@pytest.mark.parametrize("final", [True, False])
async def test_a_long_outage_of_the_log_delays_no_mark_behind_its_end(final: bool) -> None:
    """What could not be marked meanwhile has backed off; once its log is claimed again it goes at once."""
    async with bench(most=2) as (here, entry):
        await here.claimer.claim(entry, Held())
        await here.recorder.plan(entry, Plan(("console",), "RoutingRuleMatched", "m", 1))
        _, intent = await here.recorder.open(entry, Held(), "console", limit=1)
        state = AttemptState.SUCCESS if final else AttemptState.FAILED
        attempt = Attempt(intent.attempt_id, "console", state, ended=2)
        assert await here.recorder.close(entry, attempt, intent, patience=1)
        here.log.client.problem = "away"
        for _ in range(9):
            await here.sync._one(entry)
        assert [w["phase"] for w in here.objects.written] == ["Sent" if final else "Sending"]
        assert here.cache.decision(entry).at > here.cache.monotonic() + 10
        # Another server answers, and is empty.
        here.log.client.redis.restart()
        here.log.client.redis.flush()
        await here.log.client.probe()
        await here.claimer.claim(entry, Held())
        assert here.cache.decision(entry).at <= here.cache.monotonic() + 0.1
        due = here.cache.next_due()
        assert due is not None
        assert due <= here.cache.monotonic() + 0.1
        await here.sync._one(entry)
        (head,) = await here.log.read_headers(["u"])
        assert head.header is not None
        assert head.header.acked == head.length - 1 == 2


async def test_few_statuses_are_written_at_once_and_namespaces_take_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One author's crowd leaves the API server to others; another's status waits for one write."""
    async with bench() as (here, _):
        sync, _ = writing(here, Shaky())
        begun: asyncio.Queue[str] = asyncio.Queue()
        answers = asyncio.Semaphore(0)

        async def flush(entry: Entry) -> Flushed:
            here.cache.begin_write(entry)
            begun.put_nowait(entry.uid)
            await answers.acquire()
            return Flushed.EQUAL

        def dirty(uid: str, namespace: str) -> None:
            meta = {"uid": uid, "namespace": namespace, "name": uid, "resourceVersion": "1"}
            entry = here.cache.entries[uid] = Entry(parse_object({"metadata": meta}))
            here.cache.mark_dirty(entry, urgent=True)

        monkeypatch.setattr(sync, "flush", flush)
        for n in range(12):
            dirty(f"crowd-{n}", "crowd")
        running = asyncio.create_task(sync.run())
        try:
            async with asyncio.timeout(30):
                first = [await begun.get() for _ in range(8)]
                assert first == [f"crowd-{n}" for n in range(8)]
                dirty("other", "another")
                for _ in range(3):
                    await asyncio.sleep(0)
                assert begun.empty(), "eight are under way"
                answers.release()
                answers.release()
                assert "other" in [await begun.get(), await begun.get()]
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_no_write_begins_while_the_api_server_asks_for_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A flood makes a few writes fail that were under way; the others begin after it, and none fails."""
    async with bench() as (here, _):
        monkeypatch.setattr("syncer.sync.status_writer._LOOK", 3600.0)
        sync, _ = writing(here, Shaky())
        begun: list[tuple[str, float]] = []
        all_begun = asyncio.Event()

        async def publish(entry: Entry, term: object) -> Flushed:
            del term
            begun.append((entry.uid, here.cache.monotonic()))
            await asyncio.sleep(0)
            if len(begun) == 20:
                all_begun.set()
            if entry.uid < "08":
                raise Unavailable("429 TooManyRequests", retry_after=0.4)
            return Flushed.EQUAL

        monkeypatch.setattr(sync, "_publish", publish)
        for n in range(20):
            meta = {"uid": f"{n:02}", "namespace": "a", "name": f"n{n}", "resourceVersion": "1"}
            entry = here.cache.entries[f"{n:02}"] = Entry(parse_object({"metadata": meta}))
            entry.claim = Claim(EPOCH, 0, "")
            here.cache.mark_dirty(entry, urgent=True)
        running = asyncio.create_task(sync.run())
        try:
            async with asyncio.timeout(30):
                await all_begun.wait()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert [uid for uid, _ in begun[:20]] == [f"{n:02}" for n in range(20)]
        assert begun[8][1] - begun[7][1] >= 0.4


async def test_a_write_without_an_answer_is_a_failed_try_while_it_is_read_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hand-over waits for no more than the first call that the API server leaves unanswered."""
    async with bench() as (here, entry):
        await here.claimer.claim(entry, Held())
        await here.recorder.plan(entry, Plan(("console",), "RoutingRuleMatched", "m", 1))
        sync, _ = writing(here, Shaky())
        patch, get = here.objects.patch, here.objects.get
        reading, answer = asyncio.Event(), asyncio.Event()

        async def lost(*args: Any, **options: Any) -> NotificationRequest:
            await patch(*args, **options)
            raise Ambiguous("no answer")

        async def slow(*args: Any) -> NotificationRequest:
            reading.set()
            await answer.wait()
            return await get(*args)

        monkeypatch.setattr(here.objects, "patch", lost)
        monkeypatch.setattr(here.objects, "get", slow)
        writes = asyncio.create_task(sync._one(entry))
        await reading.wait()
        assert entry.failures == 1
        answer.set()
        await writes
        assert (entry.failures, entry.dirty_since) == (0, None)


async def test_what_an_unreadable_log_hid_is_not_acknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is readable again while the status that says otherwise is being written."""
    async with bench() as (here, entry):
        await delivered(here, entry)
        sync, _ = writing(here, Shaky())
        here.recorder.put_in_quarantine(entry, "the checksum of a record is wrong")
        patch = here.objects.patch

        async def mended(*args: Any, **options: Any) -> NotificationRequest:
            if entry.quarantine:
                await here.claimer.claim(entry, Held())
                assert not entry.quarantine
            return await patch(*args, **options)

        monkeypatch.setattr(here.objects, "patch", mended)
        await sync._one(entry)
        assert not entry.request.status.attempts
        assert entry.acked == 0
        await sync._one(entry)
        assert [a.state for a in entry.request.status.attempts] == [AttemptState.SUCCESS]
        assert entry.acked == entry.view.position


def without_the_record(request: NotificationRequest, version: str = "") -> NotificationRequest:
    """An object after somebody has taken the condition away."""
    document = request.document()
    document["status"].pop("conditions", None)
    document["metadata"]["resourceVersion"] = version or request.resource_version
    return parse_object(document)


async def delivered(here: Bench, entry: Entry) -> None:
    """One attempt, recorded and not published yet."""
    await here.claimer.claim(entry, Held())
    await here.recorder.plan(entry, Plan(("console",), "RoutingRuleMatched", "m", 1))
    _, intent = await here.recorder.open(entry, Held(), "console", limit=3)
    ended = here.recorder.time.now()
    success = Attempt(
        intent.attempt_id, "console", AttemptState.SUCCESS, started=ended - 40, ended=ended
    )
    assert await here.recorder.close(entry, success, intent, patience=1)


def shown(request: NotificationRequest) -> list[tuple[str, int]]:
    """Ids and numbers of the attempts of an object."""
    return [(a.id, a.number) for a in request.status.attempts]


async def test_a_watch_that_drops_ids_shows_no_attempt_twice() -> None:
    """Our own write comes back by the watch without ids, before the answer to it: one attempt."""
    async with bench(most=3) as (here, entry):
        await delivered(here, entry)
        patch = here.objects.patch

        async def overtaken(*args: Any, **kwargs: Any) -> NotificationRequest:
            stored = await patch(*args, **kwargs)
            entry.observe(without_the_record(stored))
            return stored

        here.objects.patch = overtaken  # type: ignore[method-assign]  # the watch is quicker
        assert await here.sync.flush(entry) is Flushed.WRITTEN
        (attempt,) = entry.view.attempts
        assert shown(entry.request) == [(attempt, 1)], "the answer is believed, not the watch"
        assert not entry.doubtful
        assert await here.sync.flush(entry) is Flushed.EQUAL
        assert shown(here.objects.request) == [(attempt, 1)]
        assert here.objects.request.status.total_attempts == 1


async def test_a_later_version_without_ids_is_read_before_it_is_merged() -> None:
    """Somebody labels the object, and the watch shows that version without what it drops."""
    async with bench(most=3) as (here, entry):
        await delivered(here, entry)
        assert await here.sync.flush(entry) is Flushed.WRITTEN
        before = list(here.objects.written)
        here.objects.request = replace(here.objects.request, resource_version="9")
        entry.observe(without_the_record(here.objects.request))
        assert entry.doubtful
        here.cache.mark_dirty(entry)
        assert await here.sync.flush(entry) is Flushed.EQUAL
        assert here.objects.written == before, "nothing was missing"
        assert entry.request == here.objects.request


async def test_ids_that_a_writer_dropped_are_written_back() -> None:
    """What a program built on older types has put back gets its ids again, and nothing twice."""
    async with bench(most=3) as (here, entry):
        await delivered(here, entry)
        assert await here.sync.flush(entry) is Flushed.WRITTEN
        (attempt,) = entry.view.attempts
        here.objects.request = without_the_record(here.objects.request, "9")
        entry.observe(here.objects.request)
        assert await here.sync.flush(entry) is Flushed.WRITTEN
        assert shown(here.objects.request) == [(attempt, 1)]
        assert here.objects.request.status.total_attempts == 1


@pytest.mark.parametrize("taken", ["deliveryAttempts", "conditions"])
async def test_a_status_that_is_stored_without_its_attempts_is_not_acknowledged(
    taken: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A mutating webhook takes them away, and the server answers 200: said once, and tried again."""
    async with bench(most=3) as (here, entry):
        await delivered(here, entry)
        patch, mutating = here.objects.patch, True

        async def mutated(
            namespace: str, name: str, status: dict[str, Any], **more: Any
        ) -> NotificationRequest:
            if more["resource_version"] != here.objects.request.resource_version:
                raise Conflict("written a moment ago")
            if mutating:
                status = {k: v for k, v in status.items() if k != taken}
            return await patch(namespace, name, status, **more)

        here.objects.patch = mutated  # type: ignore[method-assign]  # as admission does
        for _ in range(3):
            assert await here.sync.flush(entry) is Flushed.UNAVAILABLE
        assert entry.acked == 0
        mutating = False
        assert await here.sync.flush(entry) in (Flushed.WRITTEN, Flushed.EQUAL)
        assert entry.acked == entry.view.position
    assert sum("mutating admission" in r.message for r in caplog.records) == 1


def refusing(here: Bench, monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> list[int]:
    """Have the API server refuse as many writes; return the sizes of all that are tried."""
    patch, left, sizes = here.objects.patch, list(errors), list[int]()

    async def answered(*args: Any, **options: Any) -> NotificationRequest:
        sizes.append(len(str(args[2].get("deliveryAttempts", ""))))
        if left:
            raise left.pop(0)
        return await patch(*args, **options)

    monkeypatch.setattr(here.objects, "patch", answered)
    return sizes


async def test_an_object_without_space_shows_at_least_how_it_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twice too large, the phase and the counters are written, and nothing is acknowledged."""
    async with bench(most=3) as (here, entry):
        await delivered(here, entry)
        large = Rejected("no", reason="TooLarge")
        sizes = refusing(here, monkeypatch, large, large)
        assert await here.sync.flush(entry) is Flushed.REFUSED
        assert len(sizes) == 3
        assert sizes[2] == 0
        (written,) = here.objects.written
        assert (written["phase"], written["successfulDeliveries"]) == ("Sent", 1)
        assert "deliveryAttempts" not in written
        assert entry.request == here.objects.request
        assert entry.acked == 0
        assert await here.sync.flush(entry) is Flushed.WRITTEN, "as soon as there is space"
        assert entry.acked == entry.view.position


async def test_a_status_that_is_too_large_is_cut_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first refusal for its size has it tried once more with a quarter of the bound."""
    async with bench(most=3) as (here, entry):
        await delivered(here, entry)
        sizes = refusing(here, monkeypatch, Rejected("no", reason="TooLarge"))
        assert await here.sync.flush(entry) is Flushed.WRITTEN
        assert len(sizes) == 2
        assert entry.acked == entry.view.position


async def test_another_refusal_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused for another reason stays in the log, and the next write tries again."""
    async with bench(most=3) as (here, entry):
        await delivered(here, entry)
        denied = Unauthorised("no", reason=DENIED)
        sizes = refusing(here, monkeypatch, Rejected("no", reason="Invalid"), denied)
        for tries in (1, 2):
            assert await here.sync.flush(entry) is Flushed.REFUSED
            assert (len(sizes), here.sync.refusals.problem) == (tries, None)
        assert await here.sync.flush(entry) is Flushed.WRITTEN


async def test_the_smallest_write_may_fail_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conflict or a deletion then is what it always is."""
    for error, wanted in ((Conflict("first"), Flushed.CONFLICT), (Gone("gone"), Flushed.GONE)):
        async with bench(most=3) as (here, entry):
            await delivered(here, entry)
            large = Rejected("no", reason="TooLarge")
            refusing(here, monkeypatch, large, large, error)
            assert await here.sync.flush(entry) is wanted
            assert here.objects.written == []


async def test_conflicts_are_tried_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """The object is read anew each time; after the last try the write waits for its next turn."""
    async with bench(most=3) as (here, entry):
        await delivered(here, entry)
        sizes = refusing(here, monkeypatch, *[Conflict("first")] * (MAX_CONFLICTS + 1))
        assert await here.sync.flush(entry) is Flushed.CONFLICT
        assert len(sizes) == MAX_CONFLICTS + 1
        assert await here.sync.flush(entry) is Flushed.WRITTEN
