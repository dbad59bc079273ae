"""What a status write leaves behind: its result, the metrics, the log, and when it is tried again."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Final, cast
from unittest.mock import ANY, AsyncMock, Mock

import pytest

from syncer.ledger.answers import Mark
from syncer.ledger.codec import stored
from syncer.model.attempt import Attempt, AttemptId, AttemptState
from syncer.model.errors import Ambiguous, Conflict, Gone, Rejected, Unavailable
from syncer.model.record import Plan, attempt_record, intent_record, read_attempt, resend_record
from syncer.model.resource import NotificationRequest, Status
from syncer.rules.evidence import Circumstances, Judgement, Verdict
from syncer.sync import status_writer
from syncer.sync.notification import Notification
from syncer.sync.status_writer import Flushed, Shares, StatusWriter
from tests.beside import beside
from tests.fakes.notification import read
from tests.fakes.notifications import recording
from tests.fakes.ownership import Held
from tests.unit.notifier.reconciler.attempting import Ended
from tests.unit.syncer.sync.bench import (
    EPOCH,
    HELD,
    Bench,
    bench,
    delivered,
    planned,
)


@pytest.fixture
async def here() -> AsyncIterator[Bench]:
    """A bench on which one attempt of three is recorded and not published."""
    async with bench(most=3) as (made, notification):
        await delivered(made, notification)
        yield made


@pytest.fixture
def notification(here: Bench) -> Notification:
    """Whose attempt it is."""
    return here.cache.entries["u"]


def gone(_stored: NotificationRequest) -> NotificationRequest:
    """There is no object any more."""
    raise Gone("gone")


def another(stored: NotificationRequest) -> NotificationRequest:
    """Another object has the name."""
    return replace(stored, uid="v")


def value(metric: Any, **labels: str) -> float:
    """What a counter or a gauge stands at."""
    return float((metric.labels(**labels) if labels else metric)._value.get())


#: The lease term, what happens to the notification, and why nothing is written.
UNWRITTEN: Final[dict[str, tuple[Held | None, Callable[[Notification], object], Flushed]]] = {
    "the renewal of the term is late": (Ended(EPOCH), lambda _: None, Flushed.UNAVAILABLE),
    "the term is over": (None, lambda _: None, Flushed.NOT_OURS),
    "the object is deleted": (HELD, lambda n: n.gone(), Flushed.GONE),
    "the log is not claimed": (HELD, lambda n: n.lose(), Flushed.NOT_OURS),
}


@pytest.mark.parametrize("case", UNWRITTEN)
async def test_what_is_not_written(
    here: Bench, notification: Notification, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reason has its result, and leaves the change as unpublished as it was."""
    term, happens, wanted = UNWRITTEN[case]
    monkeypatch.setattr(here.sync.ownership, "term_of", lambda _: term)
    happens(notification)
    assert await here.sync.flush(notification) is wanted
    assert here.objects.written == []
    assert notification.publication.pending is not notification.deleted


#: What the API server answers to a write, with its result, the label of its metric, and what is logged.
ANSWERS: Final[dict[str, tuple[Exception, Flushed, str, list[tuple[str, str]]]]] = {
    "there is no such object": (Gone("gone"), Flushed.GONE, "gone", []),
    "it does not answer": (
        Unavailable("away"), Flushed.UNAVAILABLE, "unavailable",
        [("INFO", "a status was not written and is tried again")],
    ),
    "it refuses": (
        Rejected("no"), Flushed.REFUSED, "refused",
        [("ERROR", "the API server refuses a status; the record stays in the log")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ANSWERS)
async def test_an_answer_that_ends_the_try(
    here: Bench, notification: Notification, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted under its name and nothing else is, logged, and not repeated at once."""
    error, wanted, label, logged = ANSWERS[case]
    caplog.set_level(logging.INFO, "ledger.sync")
    here.objects.refusals = [error]
    assert await here.sync.flush(notification) is wanted
    patches = here.sync.metrics.patches
    labels = ("written", "conflict", "unclear", "refused", "gone", "unavailable")
    counted = {name: value(patches, result=name) for name in labels}
    assert {name for name, count in counted.items() if count} == {label}
    assert (counted[label], here.objects.tried, notification.acked) == (1, 1, 0)
    assert notification.closing is (wanted is Flushed.GONE), "a final phase may have been stored"
    told = [vars(r) for r in caplog.records if r.name == "ledger.sync"]
    assert [(r["levelname"], r["msg"]) for r in told] == logged
    assert [(r["uid"], r["error"]) for r in told] == [("u", str(error))] * len(logged)


async def test_conflicts_are_counted_by_what_comes_of_them(
    here: Bench, notification: Notification
) -> None:
    """Five are tried again at once; behind a sixth the write waits for its turn, which has five anew."""
    here.objects.refusals = [Conflict("first")] * 11
    assert await here.sync.flush(notification) is Flushed.CONFLICT
    metrics = here.sync.metrics
    assert value(metrics.conflicts, result="retried") == 5
    assert value(metrics.conflicts, result="requeued") == 1
    assert value(metrics.patches, result="conflict") == 6
    assert await here.sync.flush(notification) is Flushed.WRITTEN
    assert value(metrics.conflicts, result="retried") == 10
    assert value(metrics.patches, result="written") == 1
    assert metrics.batch_records._sum.get() == 1


@pytest.mark.parametrize("how", ["deleted", "made anew"])
async def test_an_object_that_is_gone_after_a_conflict(
    here: Bench, notification: Notification, how: str
) -> None:
    """The read after the conflict finds none, or another one under the name: nothing is written."""
    here.objects.refusals = [Conflict("first")]
    here.objects.answers = gone if how == "deleted" else another
    assert await here.sync.flush(notification) is Flushed.GONE
    assert here.objects.written == []


async def test_what_a_former_owner_has_journaled_is_found_after_a_conflict(
    here: Bench, notification: Notification
) -> None:
    """The log lacks it: the claim is given up, and the next one records it before anything is written."""

    async def rival() -> None:
        late = Attempt(AttemptId("0.3-1"), "console", AttemptState.FAILED, 1, 2, number=1)
        version = str(int(here.objects.request.resource_version) + 1)
        status = Status(phase="Sending", attempts=(late,), total_attempts=1, journal="0.3-1")
        here.objects.request = replace(
            here.objects.request, resource_version=version, status=status
        )

    here.objects.conflicts.append(rival)
    assert await here.sync.flush(notification) is Flushed.NOT_OURS
    assert [a.id for a in here.objects.request.status.attempts] == ["0.3-1"]
    assert notification.claim is None


async def test_what_is_not_finished_waits_for_no_audit() -> None:
    """The feed has to hand over the end of a notification before its log may expire, nothing else."""
    async with bench() as (here, notification):
        here.cache.audit_limit = 5
        await planned(here, notification)
        here.cache.mark_audited(notification, notification.view.position)
        assert await here.sync.flush(notification) is Flushed.WRITTEN
        assert (notification.acked, list(here.cache.unaudited)) == (notification.view.position, [])
        _, intent = await recording(here.recorder).open(notification, HELD, "console", limit=1)
        attempt = Attempt(intent.attempt_id, "console", AttemptState.SUCCESS, ended=2)
        assert await recording(here.recorder).close(notification, attempt, intent, patience=1)
        assert await here.sync.flush(notification) is Flushed.WRITTEN
        assert list(here.cache.unaudited) == ["u"], "the log is there until its end is handed over"


async def test_a_deletion_found_by_a_write_is_told(here: Bench, notification: Notification) -> None:
    """The notification waits for no write any more, and whoever claims is told."""
    stale = list[str]()
    here.cache.check = stale.append
    here.objects.refusals = [Unavailable("away"), Gone("gone")]
    await here.sync._one(notification)
    assert (notification.publication.failures, notification.deleted, stale) == (1, False, [])
    here.cache.mark_dirty(notification, urgent=True)
    await here.sync._one(notification)
    assert (notification.deleted, stale) == (True, ["u"])
    assert (
        notification.publication.failures,
        notification.publication.dirty_since,
        notification.publication.urgent,
    ) == (0, None, False)


async def test_a_lost_answer_reports_what_the_write_changed(
    here: Bench, notification: Notification
) -> None:
    """The write was stored: it is reported once, with the status before it."""
    here.sync._on_settled = told = Mock()
    before, lost = notification.request.status, [Ambiguous("no answer")]

    def unanswered(stored: NotificationRequest) -> NotificationRequest:
        if lost:
            raise lost.pop()
        return stored

    here.objects.answers = unanswered
    assert await here.sync.flush(notification) is Flushed.EQUAL
    (((who, was, merged), _),) = told.call_args_list
    assert (who is notification, was, merged.status.phase) == (True, before, "Sent")
    assert value(here.sync.metrics.patches, result="unclear") == 1
    assert notification.acked == notification.view.position


async def test_a_status_that_is_refused_to_the_last_is_not_reported(
    here: Bench, notification: Notification
) -> None:
    """Twice too large, and its phase alone refused as well: nobody is told that it shows something."""
    here.sync._on_settled = told = Mock()
    large = Rejected("no", reason="TooLarge")
    here.objects.refusals = [large, large, Rejected("no", reason="Invalid")]
    assert await here.sync.flush(notification) is Flushed.REFUSED
    assert (told.mock_calls, here.objects.written) == ([], [])


async def test_the_bound_of_a_second_try(
    here: Bench, notification: Notification, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was too large for the API server is cut to a quarter of what was allowed."""
    compact = Mock(wraps=cast("Any", status_writer).compact)
    monkeypatch.setattr(status_writer, "compact", compact)
    here.sync.status_bytes = 8_000
    here.objects.refusals = [Rejected("no", reason="TooLarge")]
    assert await here.sync.flush(notification) is Flushed.WRITTEN
    assert [call.kwargs["limit"] for call in compact.call_args_list] == [8_000, 2_000]


async def test_one_poisonous_object_backs_off(
    here: Bench, notification: Notification, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever its write raises, it is logged with the trace, and the object waits its turn."""
    here.objects.refusals = [RuntimeError("poison")]
    notification.publication.begin()
    await here.sync._one(notification)
    assert (notification.publication.writing, notification.publication.failures) == (False, 1)
    assert here.cache.next_due() < math.inf
    (told,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert (told.msg, told.__dict__["uid"]) == (
        "a status could not be written and is tried again",
        "u",
    )
    assert told.exc_info is not None


@pytest.mark.parametrize("auditing", [False, True])
async def test_which_marks_a_write_moves(auditing: bool) -> None:
    """Without a feed both, and the log expires; with one its mark is the feed's, and it is told."""
    async with bench(most=3) as (here, notification):
        here.cache.audit_limit = 5 if auditing else None
        await delivered(here, notification)
        here.cache.unaudited.clear()
        assert await here.sync.flush(notification) is Flushed.WRITTEN
        header = here.log.client.redis.twin.logs["nl:{u}"][0].decode()
        end = notification.view.position
        assert header.endswith(f"acked={end} audited={0 if auditing else end}")
        assert notification.expiring is not auditing
        assert list(here.cache.unaudited) == (["u"] if auditing else [])


async def test_an_empty_log_of_a_finished_object_is_not_acknowledged() -> None:
    """Nothing of it was shown, so it is given no time to live."""
    async with bench({"phase": "Sent"}) as (here, notification):
        await here.claimer.claim(notification, HELD)
        read(notification, type(notification.view)())
        calls = list(here.log.client.redis.calls)
        await here.sync._acknowledge(notification, notification.view.publishable, Flushed.EQUAL)
        assert here.log.client.redis.calls == calls
        assert notification.expiring is False


class Writes:
    """Stand for the writes of a loop: which begin and end is noted, and the n-th does not by itself."""

    def __init__(
        self, sync: StatusWriter, monkeypatch: pytest.MonkeyPatch, *, held: int = 1
    ) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.held, self.reached = held, asyncio.Event()
        #: Whether a library loses the cancellation of a write, which ends as if there was none.
        self.stubborn = False
        monkeypatch.setattr(sync, "flush", self._flush)

    async def _flush(self, notification: Notification) -> Flushed:
        self.begun.append(notification.uid)
        notification.publication.cover()
        if len(self.begun) >= self.held:
            self.reached.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0.05)
                self.ended.append(notification.uid)
                if not self.stubborn:
                    raise
        return Flushed.EQUAL


# -- the loop -------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["collects for an hour", "backs off for a moment"])
async def test_a_drain_writes_what_can_be_written(
    here: Bench, notification: Notification, what: str
) -> None:
    """It waits for no window, and for a next try that comes before the end."""
    if what == "backs off for a moment":
        here.cache.failed(notification)
    else:
        here.cache._window = 3_600.0
        notification.publication.clean()
        here.cache.mark_dirty(notification)
    async with beside(here.sync.run()):
        assert await here.sync.drain(here.cache.monotonic() + 60) == 0
    assert [w["phase"] for w in here.objects.written] == ["Sent"]


@pytest.mark.parametrize(
    "why",
    [
        "its next try is at the end", "an attempt of it is under way", "the end has come",
        "the API server asks for a pause until then",
    ],
)  # fmt: skip
async def test_a_drain_does_not_wait_for_what_it_cannot_write(
    here: Bench, notification: Notification, why: str
) -> None:
    """It says at once how many changes it leaves; the clock stands still."""
    now = here.cache.monotonic()
    here.cache.monotonic = lambda: now
    here.cache.failed(notification)
    end = here.cache.write_at(notification)
    if why != "its next try is at the end":
        notification.publication.forgive()
    if why == "the end has come":
        end = now
    if why == "an attempt of it is under way":
        notification.in_flight.begin(next(iter(notification.view.attempts)), "console")
        end = now + 60
    if why == "the API server asks for a pause until then":
        end = now + 20
        here.cache.pause_writes(20)
    async with asyncio.timeout(60):
        assert await here.sync.drain(end) == 1


async def test_what_is_due_is_not_waited_for(here: Bench, notification: Notification) -> None:
    """Fifty writes that are due take no second each."""
    assert here.cache.next_due() <= here.cache.monotonic() + 0.1
    async with asyncio.timeout(40):
        for _ in range(50):
            here.cache.mark_dirty(notification, urgent=True)
            assert await here.sync._next() is notification
            notification.publication.over()


async def test_a_write_names_the_log_that_it_shows(here: Bench, notification: Notification) -> None:
    """Its position and store, and the term; an object whose log was never read names none."""
    await here.sync.flush(notification)
    mark = here.objects.request.status.log
    assert mark is not None
    assert (mark.position, mark.epoch, mark.store) == (
        notification.view.position, HELD.epoch, here.log.store,
    )  # fmt: skip
    async with bench() as (other, unread):
        unread.held(1.0, shown=True)
        await other.sync.flush(unread)
        assert other.objects.request.status.log is None


async def test_attempts_are_counted_by_the_write_that_shows_them_first(
    here: Bench, notification: Notification
) -> None:
    """A later write of the same object shows no attempt anew."""
    await here.sync.flush(notification)
    notification.object_to("something is wrong")
    assert await here.sync.flush(notification) is Flushed.WRITTEN
    shown = here.sync.metrics.batch_records
    assert shown._sum.get() == 1
    assert sum(bucket.get() for bucket in shown._buckets) == 2


async def test_what_is_due_later_is_not_forgotten_while_all_writers_are_busy(
    here: Bench,
    notification: Notification,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A loop that waits for a writer waits for what is due again as soon as one is free."""
    monkeypatch.setattr(status_writer, "_LOOK", 1e6)
    other = here.cache.entries["v"] = Notification(replace(notification.request, uid="v"))
    here.sync.writers = 1
    here.cache.mark_dirty(notification, urgent=True)
    here.cache.mark_dirty(other)
    writes = Writes(here.sync, monkeypatch, held=2)
    async with beside(here.sync.run()):
        await asyncio.wait_for(writes.reached.wait(), 30)
    assert writes.begun == ["u", "v"]


async def test_a_log_of_another_history_is_claimed_anew(
    here: Bench, notification: Notification, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status was written, and what the log holds now is for the next claim to find out."""
    monkeypatch.setattr(here.log, "ack", AsyncMock(return_value=Mark.STALE))
    assert await here.sync.flush(notification) is Flushed.NOT_OURS
    assert notification.request.status.phase == "Sent"
    assert (notification.claim, notification.acked, notification.expiring) == (None, 0, False)
    assert here.sync.metrics.reclaims.labels("ack")._value.get() == 1


@pytest.mark.parametrize("believed", [True, False])
async def test_what_no_log_has_is_shown_where_it_is_believed(
    here: Bench, notification: Notification, believed: bool
) -> None:
    """The next owner would doubt all else; without a claim nothing of it is acknowledged."""
    about = Circumstances(protected=believed, adopted_before=0)
    cast("Any", here.recorder.evidence).of_entry = lambda _entry: about
    notification.lose()
    notification.held(1.0, shown=True)
    (success,) = notification.view.attempts.values()
    intent = intent_record(success.id, success.channel, at=1, by="t")
    notification.in_flight.keep(success.id, attempt_record(success), intent)
    assert await here.sync.flush(notification) is Flushed.WRITTEN
    assert bool(here.objects.request.status.attempts) is believed
    assert (notification.acked, notification.expiring) == (0, False)


async def test_a_verdict_during_a_write_holds(here: Bench, notification: Notification) -> None:
    """What the write shows was disregarded before its answer came."""
    judgement = Judgement(Verdict.DISREGARDED, "why")
    judged = AsyncMock(side_effect=lambda: notification.judged.conclude(judgement))
    here.objects.conflicts.append(judged)
    assert await here.sync.flush(notification) is Flushed.WRITTEN
    assert notification.judged.own is not None


async def test_a_mark_that_waited_for_the_log_is_set_once_it_is_back(
    here: Bench, notification: Notification
) -> None:
    """The object says what happened at once; what waits for the log alone does not back off."""
    other = here.cache.entries["v"] = Notification(replace(notification.request, uid="v"))
    here.log.client.problem = "away"
    await here.sync._one(notification)
    assert [w["phase"] for w in here.objects.written] == ["Sent"]
    assert notification.acked == 0
    assert (notification.publication.pending, notification.publication.failures) == (False, 0)
    here.log.client.problem = None
    here.cache.failed(other)
    here.cache.retry_marks()
    assert other.publication.failures == 1, "what could not be written goes on backing off"
    assert here.cache.take_due(here.cache.monotonic()) is notification
    await here.sync._one(notification)
    assert (notification.acked, notification.expiring) == (notification.view.position, True)
    assert notification.publication.failures == 0


@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_write_that_is_under_way_at_the_end_is_the_last(
    here: Bench, notification: Notification, stubborn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop waits for it, also where a library loses the cancellation; no other one follows."""
    here.cache.entries["v"] = Notification(replace(notification.request, uid="v"))
    here.sync.writers = 1
    for uid in ("u", "v"):
        here.cache.mark_dirty(here.cache.entries[uid], urgent=True)
    writes = Writes(here.sync, monkeypatch)
    writes.stubborn = stubborn
    async with beside(here.sync.run()):
        await asyncio.wait_for(writes.reached.wait(), 30)
        assert notification.publication.writing is True
    assert (writes.begun, writes.ended) == (["u"], ["u"])
    assert (notification.publication.writing, notification.publication.failures) == (False, 0)


async def test_a_slow_namespace_has_half_of_the_writers(
    here: Bench, notification: Notification, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a write of it was slow, so many of its writes are under way as there are free writers."""
    here.sync._shares.begin("ns")
    here.sync._shares.end("ns", 10.0)
    for n in range(here.sync.writers):
        other = Notification(replace(notification.request, uid=f"v{n}"))
        here.cache.entries[other.uid] = other
        here.cache.mark_dirty(other, urgent=True)
    writes = Writes(here.sync, monkeypatch)
    async with beside(here.sync.run()):
        await asyncio.wait_for(writes.reached.wait(), 30)
        for _ in range(100):
            await asyncio.sleep(0)
    assert len(writes.begun) == here.sync.writers // 2


# -- without the log ------------------------------------------------------------------------------

NOTE_NAME: Final = "0.7-1"


@pytest.mark.parametrize("claimed", [True, False])
async def test_a_claim_takes_the_mark_of_an_outage_away(claimed: bool) -> None:
    """The log holds everything then; while it is away, each write keeps the mark."""
    async with bench({"phase": "Sending", "journal": {"outage": "0.3-1"}}, most=3) as (
        here,
        notification,
    ):
        await delivered(here, notification)
        notification.journaling(NOTE_NAME)
        if not claimed:
            notification.lose()
        assert await here.sync.flush(notification) is Flushed.WRITTEN
        status = here.objects.request.status
        assert (status.phase, status.journal) == ("Sent", None if claimed else NOTE_NAME)


async def ahead(here: Bench, notification: Notification) -> Mock:
    """Have an attempt that is about to be journaled; returns what is told of what is written."""
    notification.view.plan = Plan(("console",), "RoutingRuleMatched", "m", 1)
    intent = here.recorder.begin(notification, HELD, "console")
    notification.in_flight.journal(intent.attempt_id)
    notification.learn([read_attempt(intent)])
    here.recorder.lose_claim(notification, "journal")
    here.sync._on_settled = reported = Mock()
    return reported


async def test_a_write_ahead_is_reported_and_remembered() -> None:
    """Like any other write: who follows the object learns of it, with the status before it."""
    async with bench(most=3) as (here, notification):
        reported = await ahead(here, notification)
        before = notification.request.status
        assert await here.sync.write_ahead(notification, HELD, NOTE_NAME) is Flushed.WRITTEN
        reported.assert_called_once_with(notification, before, ANY)
        assert notification.request == here.objects.request
        assert (notification.outage.note, notification.request.status.journal) == (
            NOTE_NAME,
            NOTE_NAME,
        )
        (attempt,) = notification.request.status.attempts
        assert attempt.state is AttemptState.UNKNOWN


async def test_a_write_ahead_that_meets_another_object_sends_nothing() -> None:
    """Under its name and version, as after a restore of etcd: it is gone, and nothing is journaled."""
    async with bench(most=3) as (here, notification):
        reported = await ahead(here, notification)
        here.objects.answers = another
        assert await here.sync.write_ahead(notification, HELD, NOTE_NAME) is Flushed.GONE
        assert (reported.mock_calls, notification.outage.note, notification.uid) == ([], "", "u")


@pytest.mark.parametrize("deleted", [True, False])
async def test_a_write_ahead_is_not_repeated_after_a_conflict(deleted: bool) -> None:
    """The object is read once, for whoever decides anew; there may be none any more."""
    async with bench(most=3) as (here, notification):
        reported = await ahead(here, notification)
        here.objects.refusals = [Conflict("first")]
        here.objects.request = replace(here.objects.request, resource_version="9")
        if deleted:
            here.objects.answers = gone
        result = await here.sync.write_ahead(notification, HELD, NOTE_NAME)
        assert result is (Flushed.GONE if deleted else Flushed.CONFLICT)
        assert (here.objects.tried, reported.mock_calls) == (1, [])
        assert not notification.outage.note
        assert notification.request.resource_version == ("5" if deleted else "9")


@pytest.mark.parametrize("finished", [False, True])
async def test_what_is_acknowledged_already_is_not_acknowledged_again(finished: bool) -> None:
    """Neither while a notification is under way, nor once its log is to expire."""
    async with bench(most=3) as (here, notification):
        if finished:
            await delivered(here, notification)
        else:
            await planned(here, notification)
        assert await here.sync.flush(notification) is Flushed.WRITTEN
        assert notification.expiring is finished
        calls = len(here.log.client.redis.calls)
        assert await here.sync.flush(notification) is Flushed.EQUAL
        assert len(here.log.client.redis.calls) == calls


async def test_an_expiry_that_an_append_has_removed_is_not_noted(
    here: Bench, notification: Notification, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the answer of the acknowledgement comes after that of the append."""
    ack = here.log.ack

    async def late(*args: Any, **options: Any) -> Any:
        answer = await ack(*args, **options)
        notification.extend(stored(order, notification.view.chain, notification.view.position + 1))
        return answer

    order = resend_record("order:c:2", "c", at=1, by="sam", why="again")
    monkeypatch.setattr(here.log, "ack", late)
    assert await here.sync.flush(notification) is Flushed.WRITTEN
    assert (notification.acked, notification.expiring) == (notification.view.position - 1, False)


@pytest.mark.parametrize("tries", [0, 2])
async def test_a_write_that_another_object_answers_is_not_believed(
    here: Bench, notification: Notification, tries: int
) -> None:
    """Under its name and version, as after a restore of etcd; the smallest write is no exception."""
    here.objects.refusals = [Rejected("no", reason="TooLarge")] * tries
    before = notification.request
    here.objects.answers = another
    assert await here.sync.flush(notification) is Flushed.GONE
    assert (notification.request, notification.acked) == (before, 0)


async def test_an_object_that_shows_the_least_already_is_not_written_again(
    here: Bench, notification: Notification
) -> None:
    """There is still no space for the attempts: it stays refused, and nothing is acknowledged."""
    large = Rejected("no", reason="TooLarge")
    here.objects.refusals = [large, large]
    assert await here.sync.flush(notification) is Flushed.REFUSED
    here.objects.refusals = [large, large]
    written = len(here.objects.written)
    here.sync.refusals.accepted(notification)
    assert await here.sync.flush(notification) is Flushed.REFUSED
    assert (len(here.objects.written), notification.acked) == (written, 0)


async def test_what_an_unreadable_log_hid_is_not_acknowledged(
    here: Bench, notification: Notification
) -> None:
    """It is readable again while the status that says otherwise is being written."""
    here.recorder.put_in_quarantine(notification, "the checksum of a record is wrong")

    async def mended() -> None:
        await here.claimer.claim(notification, HELD)
        assert not notification.quarantine

    here.objects.conflicts.append(mended)
    await here.sync._one(notification)
    assert not notification.request.status.attempts
    assert notification.acked == 0
    await here.sync._one(notification)
    assert [a.state for a in notification.request.status.attempts] == [AttemptState.SUCCESS]
    assert notification.acked == notification.view.position


@pytest.mark.parametrize("taken", ["deliveryAttempts", "conditions"])
async def test_a_status_that_is_stored_without_its_attempts_is_not_acknowledged(
    here: Bench, notification: Notification, taken: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A mutating webhook takes them away, and the server answers 200: said once, and tried again."""
    patch, mutating = here.objects.patch, True

    async def mutated(
        namespace: str, name: str, status: dict[str, Any], **more: Any
    ) -> NotificationRequest:
        if mutating:
            status = {k: v for k, v in status.items() if k != taken}
        return await patch(namespace, name, status, **more)

    here.objects.patch = mutated  # type: ignore[method-assign]  # as admission does
    for _ in range(3):
        assert await here.sync.flush(notification) is Flushed.UNAVAILABLE
    assert notification.acked == 0
    mutating = False
    assert await here.sync.flush(notification) in (Flushed.WRITTEN, Flushed.EQUAL)
    assert notification.acked == notification.view.position
    assert sum("mutating admission" in r.message for r in caplog.records) == 1


def test_a_slow_namespace_is_so_for_a_while() -> None:
    """A minute after its last slow write it is like any other, and forgotten with the next slow one."""
    now = 100.0
    shares = Shares(8, lambda: now)

    def slow(*namespaces: str) -> None:
        for namespace in namespaces:
            shares.begin(namespace)
            shares.end(namespace, 1.0)

    slow("a")
    now += 40.0
    slow("a", "b")
    now += 40.0
    for under_way in range(6):
        assert shares.may("a") is (under_way < 4)
        shares.begin("a")
    now += 21.0
    assert shares.may("a")
    slow("c")
    assert list(shares._slow) == ["c"]
