"""Attempts that are written ahead into the status: what is written when, and what stops them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import pytest
from prometheus_client import CollectorRegistry

from notifier.contract import Outcome
from notifier.dispatch.dispatcher import Dispatcher
from syncer.metrics import SyncMetrics
from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.carried import expand, fold
from syncer.model.errors import Ambiguous, Conflict, Unavailable
from syncer.model.journal import Note
from syncer.model.ports import LeaseTerm
from syncer.model.record import attempt_record, intent_record
from syncer.model.resource import NotificationRequest, Status, parse_object, parse_status
from syncer.rules.evidence import Judgement, Verdict
from syncer.rules.journal import BORN_MARGIN, Basis
from syncer.rules.merge import SENDER_ENDED, WRITTEN_AHEAD
from syncer.rules.plan import Deliver, Finish
from syncer.runtime.clock import ServerTime
from syncer.sync.allowance import Allowance
from syncer.sync.journal import Journal
from syncer.sync.notification import Claim, Notification
from syncer.sync.status_writer import StatusWriter
from tests.fakes.notification import shows
from tests.unit.notifier.reconciler.attempting import EPOCH, NOW, WALL, World
from tests.unit.syncer.sync.bench import Objects

NOTE = Note("0.7-1", since=WALL, kept=1)


class Notes:
    """The Lease of the one shard."""

    def __init__(self) -> None:
        self.note: Note | None = NOTE
        self.held = self
        self.others = 0
        self.marks_left: frozenset[int] = frozenset()
        self.cleared: list[int] = []

    @property
    def carries_notes(self) -> bool:
        return self.note is not None

    def note_of(self, _uid: str) -> Note | None:
        return self.note

    def may_carry_note(self, _uid: str) -> bool:
        return self.note is not None

    def shard_of(self, _uid: str) -> int:
        return 0

    async def put_notes(self, since: int) -> int:
        self.note = replace(NOTE, since=since)
        return 1

    async def remove_notes(self) -> int:
        self.note = None
        return 1

    async def clear_marks(self, shard: int) -> bool:
        self.cleared.append(shard)
        return True


class Away(World):
    """An owner that had claimed the log when Redis went away, and journals."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.cache.monotonic = lambda: self.now
        self.notes = Notes()
        self.changes = 0
        self.whys: list[Basis] = []
        recorder = self.controller.notifications.recorder
        self.objects = Objects(self.notification.request)
        self.writer = StatusWriter(
            recorder, cast("Any", self.objects), self.shards, SyncMetrics(CollectorRegistry())
        )
        api_time = ServerTime(lambda: self.now)
        api_time.set(WALL)
        self.journal = Journal(
            recorder,
            self.writer,
            notes=lambda: cast("Any", self.notes),
            api_time=api_time,
            on_change=self._changed,
            enabled=True,
            after=10.0,
            allowance=Allowance(100.0, lambda: self.now),
            backoff=lambda *_: 1000,
            on_journaled=self.whys.append,
        )
        made = self.controller.notifications
        made.journal = made.claimer.journal = made.outcomes.journal = (
            self.controller.attempts.journal
        ) = self.journal

    def _changed(self) -> None:
        self.changes += 1

    async def begin(self) -> None:
        """Claim, plan, lose Redis, and journal."""
        await self.planned()
        self.lose()
        self.journal.active = True
        # As after a check that has found it to be complete.
        self.notification.journaling(NOTE.name)

    def lose(self) -> None:
        self.redis.down = True
        self.log.client.problem = "away"

    async def attempt(self) -> Outcome | None:
        """Make the attempt, once it has its turn."""
        submitted = asyncio.Event()
        self.controller.attempts.submit_in_turn(self.notification, "c", submitted.set)
        await submitted.wait()
        return await self.controller.attempts.run("uid-a", "c")

    @property
    def term(self) -> LeaseTerm:
        found = self.shards.term_of("uid-a")
        assert found is not None
        return found

    def back(self) -> None:
        self.redis.down, self.log.client.problem = False, None

    @property
    def known(self) -> list[tuple[str, str | None]]:
        """States and classes of what is known."""
        return [(a.state.word, a.failure and a.failure.value) for a in self.attempts]


@pytest.fixture
async def away() -> Away:
    """A due notification whose attempts are journaled."""
    made = Away()
    await made.begin()
    return made


async def test_what_others_may_have_recorded_is_not_known(away: Away) -> None:
    """A log that holds more than was read may say anything of an object older than the note."""
    away.notification.news()
    shows(away.notification, created=WALL - 60_000)
    assert away.journal.basis(away.notification, away.term) is Basis.OLDER
    away.notification.caught_up(away.notification.told)
    assert away.journal.basis(away.notification, away.term) is Basis.MEMORY


async def test_an_attempt_is_in_the_status_before_it_is_sent(away: Away) -> None:
    """First as unknown and marked, with nothing sent; then its result, and the final phase."""
    patch, sent_before = away.objects.patch, list[int]()

    async def watched(*args: Any, **rest: Any) -> NotificationRequest:
        sent_before.append(away.receiver.sent)
        return await patch(*args, **rest)

    away.objects.patch = watched  # type: ignore[method-assign] # what was sent by then is looked at
    assert await away.attempt() == Outcome.success(200)
    await away.writer.flush(away.notification)
    assert sent_before == [0, 1]
    ahead, after = away.objects.written
    (shown,) = expand(ahead)["deliveryAttempts"]
    assert (shown["status"], shown["error"]) == ("unknown", WRITTEN_AHEAD)
    assert (ahead["journal"], ahead["phase"]) == ({"outage": NOTE.name}, "Sending")
    assert (after["deliveryAttempts"][0]["status"], after["phase"]) == ("success", "Sent")
    assert away.whys == [Basis.MEMORY]
    # What only this process and the status know is given to the log by the next claim.
    assert (away.notification.claim, list(away.notification.in_flight.unrecorded)) == (
        None,
        [away.attempts[0].id],
    )


@pytest.mark.parametrize("error", [Conflict("another version"), Unavailable("not written")])
async def test_what_was_not_written_was_no_attempt(
    away: Away, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is sent, nothing is known of it, and it is looked at again; a line says why."""
    caplog.set_level(logging.INFO, "ledger.journal")
    away.objects.refusals = [error]
    assert await away.attempt() is None
    assert (away.receiver.sent, away.known, away.notification.in_flight.executing) == (0, [], {})
    assert away.controller.queue.delayed == 1
    assert away.whys == []
    told = [(vars(line)["uid"], vars(line)["error"]) for line in caplog.records]
    assert told == ([("uid-a", str(error))] if isinstance(error, Unavailable) else [])


async def test_what_may_be_written_is_on_record_as_not_sent(away: Away) -> None:
    """Its answer was lost: it counts for nothing, waits, and the status says so by another write."""
    away.objects.refusals = [Ambiguous("no answer")]
    assert await away.attempt() is None
    assert await away.controller.notifications.outcomes.drain(5) == 0
    assert (away.receiver.sent, away.known) == (0, [("failed", "notSent")])
    assert away.notification.due["c"] > NOW
    await away.writer.flush(away.notification)
    (patch,) = away.objects.written
    assert patch["deliveryAttempts"][0]["class"] == "notSent"


@pytest.mark.parametrize("written", [False, True])
async def test_what_a_log_was_given_meanwhile_is_not_forgotten(away: Away, written: bool) -> None:
    """Redis is back before the write ahead is answered: the claim gives the log the open attempt."""
    patch, reconciler = away.objects.patch, away.controller.reconciler
    away.controller.notifications.claimer.objects = cast("Any", away.objects)

    async def late(*args: Any, **rest: Any) -> NotificationRequest:
        away.back()
        away.notes.note = None
        assert await reconciler.reconcile("uid-a") is not None
        if not written:
            raise Conflict("another version")
        return await patch(*args, **rest)

    away.objects.patch = late  # type: ignore[method-assign] # what happens meanwhile
    outcome = await away.attempt()
    assert away.receiver.sent == written
    assert (outcome == Outcome.success(200)) is written
    assert await away.controller.notifications.outcomes.drain(5) == 0
    wanted = ("success", None) if written else ("failed", "notSent")
    assert away.known == [wanted]
    assert (away.notification.in_flight.seeded, away.notification.in_flight.executing) == (
        frozenset(),
        {},
    )
    await reconciler.reconcile("uid-a")
    assert away.known == [wanted], "the log has it"
    assert not away.notification.in_flight.unrecorded


async def test_the_end_waits_for_nobody_who_has_not_begun(away: Away) -> None:
    """Whoever waits for a turn to be journaled gives up; the next owner finds the attempt due."""
    away.journal.allowance = Allowance(0.1, lambda: away.now)
    away.journal.turn(away.notification, "d", lambda: None)
    attempts, submitted = away.controller.attempts, list[str]()
    attempts.submit_in_turn(away.notification, "c", lambda: submitted.append("c"))
    assert attempts.waits("uid-a", "c")
    away.controller.dispatcher = Dispatcher(attempts.run, per_channel=1, total=1)
    assert await away.controller.drain(sending=5.0, recording=1.0) == 0
    await asyncio.sleep(0)
    assert not attempts.waits("uid-a", "c")
    assert submitted == ["c"], "to a dispatcher that is closed"
    assert (away.receiver.sent, away.objects.written) == (0, [])


async def test_what_is_urgent_waits_behind_no_slots(away: Away) -> None:
    """Hundreds of a lower priority came first: they wait for their turns and occupy no slot meanwhile."""
    away.journal.allowance = Allowance(1.0, lambda: away.now)
    attempts, submitted = away.controller.attempts, list[str]()
    away.journal.turn(away.notification, "first", lambda: None)
    for n in range(200):
        low = Notification(replace(away.notification.request, uid=f"low-{n}", priority="Low"))
        for _ in range(2):
            attempts.submit_in_turn(low, "c", partial(submitted.append, low.uid))
    critical = Notification(replace(away.notification.request, uid="critical", priority="Critical"))
    attempts.submit_in_turn(critical, "c", lambda: submitted.append("critical"))
    assert submitted == []
    away.now += 1.0
    away.journal.allowance._give()
    await asyncio.sleep(0)
    assert submitted == ["critical"]
    away.journal.allowance.open()
    await asyncio.sleep(0)
    assert len(submitted) == 201, "each waits once"


async def test_a_final_phase_waits_for_the_log_only_if_a_result_is_unknown(
    away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is shown is the result; Failed is said of what certainly failed."""
    document = away.objects.request.document()
    document["spec"]["retryPolicy"] = {"maxAttempts": 1}
    away.objects.request = parse_object(document)
    shows(away.notification, away.objects.request)
    unknown = AsyncMock(return_value=Outcome.unknown("no answer"))
    monkeypatch.setattr(away.receiver, "send", unknown)
    await away.attempt()
    await away.writer.flush(away.notification)
    assert [p.get("phase") for p in away.objects.written] == ["Sending", None]
    (only,) = away.attempts
    assert isinstance(away.controller.decisions.next(away.notification), Finish)
    # Should it be known after all, it is final.
    away.notification.view.attempts[only.id] = replace(
        only, state=AttemptState.FAILED, failure=FailureClass.TRANSIENT
    )
    away.cache.mark_dirty(away.notification)
    await away.writer.flush(away.notification)
    assert away.objects.written[-1]["phase"] == "Failed"


async def test_what_was_submitted_before_the_outage_gets_a_turn(away: Away) -> None:
    """It gives its slot back, and is decided anew; so is one whose log is back when its turn comes."""
    assert await away.controller.attempts.run("uid-a", "c") is None
    assert (away.receiver.sent, away.objects.written, len(away.controller.queue)) == (0, [], 1)
    away.log.client.problem = None
    assert await away.attempt() is None
    assert (away.receiver.sent, away.objects.written) == (0, [])


async def test_a_result_of_the_log_is_shown_and_kept(away: Away) -> None:
    """The log cannot take it: the status does, and the next claim gives it to the log."""
    notification, recorder = away.notification, away.controller.notifications.recorder
    intent = intent_record(AttemptId("0.7-9"), "c", at=WALL, by="t")
    notification.in_flight.begin(intent.attempt_id, "c")
    await away.controller.notifications.outcomes.record(
        notification, intent, Outcome.success(200), 0.1
    )
    assert (away.known, list(notification.in_flight.unrecorded)) == ([("success", None)], ["0.7-9"])
    assert recorder.metrics.outcomes.labels("success")._value.get() == 1
    # The first write waited for a claim; that it is journaled has it written.
    notification.journaling("")
    notification.publication.clean()
    away.journal.take_up(notification, away.term)
    assert notification.publication.urgent
    await away.writer.flush(notification)
    assert away.objects.written[-1]["phase"] == "Sent"
    # A log that is read meanwhile does not know it, and what is decided by does.
    away.back()
    await recorder.reread(notification)
    assert away.known == [("success", None)]


async def test_what_a_former_owner_left_is_unknown_and_waited_for() -> None:
    """A marked object tells the plan, results with their waits, and an attempt nobody knows the end of."""
    away = Away()
    away.lose()
    away.journal.active = True
    failed = Attempt(
        AttemptId("0.5-1"), "c", AttemptState.FAILED, WALL - 900, WALL - 500, WALL + 4500,
        failure=FailureClass.TRANSIENT,
    )  # fmt: skip
    left = Attempt(
        AttemptId("0.5-2"), "d", AttemptState.UNKNOWN, WALL - 100, error=WRITTEN_AHEAD,
        failure=FailureClass.UNCERTAIN,
    )  # fmt: skip
    status = parse_status(
        fold({"channels": [{"name": n, "state": "Retrying", "attempts": 1} for n in ("c", "d")]})
    )
    status = replace(status, attempts=(failed, left), journal=NOTE.name)
    shows(away.notification, status=status)
    assert away.journal.basis(away.notification, away.term) is Basis.MARKED
    away.notification.claimed(Claim(away.term.epoch, 0, ""))
    away.journal.take_up(away.notification, away.term)
    assert away.notification.claim is None, "the next one tells the log"
    assert away.notification.view.plan is not None
    assert away.notification.view.plan.channels == ("c", "d")
    assert [a.error for a in away.attempts] == ["", SENDER_ENDED]
    assert away.notification.due == {"c": NOW + 4.5, "d": NOW + 1.0}


async def test_channels_that_others_have_written_are_no_plan() -> None:
    """Without the policy and the mark of an outage the routes say where it goes, as with a log."""
    away = Away()
    away.lose()
    away.journal.active = True
    evidence = away.journal.recorder.evidence
    evidence.protected, evidence.adopted_before = (lambda: False), (lambda: 0.0)
    # The mark names no outage that there is now.
    mark = {"outage": "0.611-1"}
    forged = parse_status(fold({"channels": [{"name": "d", "state": "Pending"}], "journal": mark}))
    shows(away.notification, status=forged, created=WALL + BORN_MARGIN)
    assert away.journal.applies(away.notification, away.term)
    away.journal.take_up(away.notification, away.term)
    assert away.notification.view.plan is None


async def test_what_is_disregarded_is_not_taken_up() -> None:
    """A claim has found it false, and the object still shows it when Redis goes away."""
    away = Away()
    away.lose()
    away.journal.active = True
    made_up = Attempt(AttemptId("0.5-1"), "c", AttemptState.SUCCESS, WALL - 900, WALL - 500)
    shows(away.notification, status=replace(parse_status({}), attempts=(made_up,)))
    away.notification.judged.disregard(parse_status({}))
    away.journal.take_up(away.notification, away.term)
    assert not away.attempts


async def test_what_is_not_known_whole_is_held_and_says_why(away: Away) -> None:
    """Nothing is decided for it, and the reason is there to be shown until it goes."""
    away.notification.news()
    assert await away.controller.reconciler.reconcile("uid-a") is None
    assert away.notification.outage.missing is Basis.OLDER
    assert away.controller.queue._delayed == {"uid-a": NOW + 5.0}, "nobody says when it is known"
    assert await away.attempt() is None
    assert (away.receiver.sent, away.objects.written) == (0, [])


async def test_what_was_finished_is_known_by_its_log_alone(away: Away) -> None:
    """Its age proves nothing once somebody has taken the end from its status."""
    young = replace(away.notification.request, created=WALL + BORN_MARGIN, status=Status())
    for reopened in (False, True):
        found = away.journal.basis(Notification(young, reopened=reopened), away.term)
        assert found.complete is not reopened


async def test_what_was_not_heard_makes_memory_no_evidence(away: Away) -> None:
    """
    An operator's word of meanwhile is in the log: what it was read for after the last subscription counts.

    The log was back and wake-ups were not: it may be away again before anybody listens.
    """
    client, notification = away.log.client, away.notification
    shows(notification, status=Status(), created=0)

    def basis() -> Basis:
        return away.journal.basis(notification, away.term)

    notification.hear(client.subscriptions)
    notification.view.learn(Attempt(AttemptId("0.5-1"), "c", AttemptState.UNKNOWN))
    await away.journal.look()
    assert basis() is Basis.MEMORY, "it is away: nobody appends, or nobody can know"
    client.problem, client.unheard = None, True
    await away.journal.look()
    client.problem, client.unheard = "away", False
    away.notes.note = NOTE
    assert basis() is Basis.OLDER
    shows(notification, created=away.term.since + BORN_MARGIN)
    away.notes.note = replace(NOTE, since=notification.request.created)
    assert basis() is Basis.OLDER, "it is this term's own, and has an attempt"
    notification.view.forget(AttemptId("0.5-1"))
    assert basis() is Basis.MEMORY, "a word needs an attempt"
    notification.view.learn(Attempt(AttemptId("0.5-1"), "c", AttemptState.UNKNOWN))
    client.subscriptions += 1
    assert basis() is Basis.OLDER, "it was not read since"
    notification.hear(client.subscriptions)
    assert basis() is Basis.MEMORY


def journals(away: Away) -> bool:
    """Whether attempts are journaled now."""
    return away.journal.active


async def test_marks_are_cleared_once_no_object_carries_one(away: Away) -> None:
    """Redis is back: the Lease says that marks are left until the last of them is gone."""
    away.back()
    away.notes.marks_left = frozenset({0})
    shows(away.notification, status=Status(journal=NOTE.name))
    await away.journal.look()
    assert away.notes.cleared == []
    shows(away.notification, status=Status())
    away.notification.journaling(NOTE.name)
    away.now += 60
    await away.journal.look()
    assert away.notes.cleared == [], "until it is claimed, a write may set the mark"
    away.notification.claimed(Claim(EPOCH, 0, ""))
    away.now += 60
    away.journal.listed = lambda: False
    await away.journal.look()
    assert away.notes.cleared == [], "not all objects are known"
    away.journal.listed = lambda: True
    await away.journal.look()
    assert away.notes.cleared == [0]


async def test_what_others_wrote_into_a_marked_object_is_claimed_anew(away: Away) -> None:
    """An owner sees in the object what it does not know: the next claim gives it to the log."""
    notification = away.notification
    late = Attempt(AttemptId("0.5-1"), "c", AttemptState.SUCCESS, WALL, WALL)
    for status, claimed in (
        (Status(attempts=(late,)), True),
        (Status(journal=NOTE.name), True),
        (Status(attempts=(late,), journal=NOTE.name), False),
    ):
        notification.claimed(Claim(EPOCH, 0, "")) if notification.claim is None else None
        shows(notification, status=status)
        away.controller.notifications.recorder.compare(notification, Status())
        assert (notification.claim is not None) is claimed
    assert attempt_record(late).attempt_id == late.id


def said(caplog: pytest.LogCaptureFixture, text: str) -> int:
    """How often a line with these words was logged."""
    return sum(text in record.message for record in caplog.records)


async def test_journaling_ends_and_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    """In each outage after its time, where nothing is in the way; logged once; nobody waits after it."""
    away = Away()
    away.notes.note = None
    for outage in (1, 2):
        away.journal.allowance = Allowance(0.1, lambda: away.now)
        away.lose()
        await away.journal.look()
        away.now += 9.5
        await away.journal.look()
        assert not journals(away)
        away.now, away.notes.others = away.now + 0.5, 1
        await away.journal.look()
        assert not journals(away), "another replica has it"
        away.notes.others = 0
        for _ in range(3):
            await away.journal.look()
        assert journals(away)
        assert away.journal.notes().note_of("uid-a") == replace(NOTE, since=WALL + 10_000 * outage)
        assert (said(caplog, "no replica reaches Redis"), away.changes) == (outage, 2 * outage - 1)
        turns = list[str]()
        for name in ("first", "second"):
            away.journal.allowance.turn(name, (0, 0.0), partial(turns.append, name))
        assert turns == ["first"]
        away.log.client.problem = None
        await away.journal.look()
        assert (journals(away), turns) == (False, ["first", "second"])
        assert (said(caplog, "Redis is back"), away.changes) == (outage, 2 * outage)


async def test_journaling_stops_where_something_is_in_the_way(
    away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No Lease takes a note, or the definition would drop what is written."""
    away.journal.after = 0.0
    await away.journal.look()
    assert journals(away)
    monkeypatch.setattr(away.notes, "put_notes", AsyncMock(return_value=0))
    await away.journal.look()
    assert not journals(away)


def test_how_long_an_outcome_is_for_the_log_alone() -> None:
    """For as long as an outage takes to be one; hardly at all in one; a week where nothing is journaled."""
    journal = Away().journal
    assert journal.patience == journal.after
    journal.active = True
    assert 0 < journal.patience < journal.after
    journal.enabled = False
    assert journal.patience == 7 * 86400


@pytest.mark.parametrize(
    "why",
    [
        lambda e: e.unintelligible("why"),
        lambda e: e.object_to("why"),
        lambda e: e.judged.conclude(Judgement(Verdict.DOUBTED, "why")),
        lambda e: e.observe(replace(e.request, status=replace(e.status, total_attempts=0))),
    ],
    ids=["quarantine", "violation", "doubted", "doubtful"],
)
async def test_what_is_wrong_with_one_keeps_it_from_being_journaled(
    away: Away, why: Callable[[Notification], object]
) -> None:
    """Each alone is enough."""
    assert away.journal.applies(away.notification, away.term)
    shows(away.notification, status=replace(away.notification.status, total_attempts=1))
    assert away.journal.applies(away.notification, away.term)
    why(away.notification)
    assert not away.journal.applies(away.notification, away.term)


async def test_marks_are_looked_for_every_few_seconds(away: Away) -> None:
    """A look goes over every object, so there are few."""
    away.back()
    away.notification.claimed(Claim(EPOCH, 0, ""))
    away.notes.marks_left = frozenset({0})
    for after, looks in ((60.0, 1), (4.9, 1), (0.1, 2), (4.9, 2)):
        away.now += after
        await away.journal.look()
        assert len(away.notes.cleared) == looks


async def test_what_this_process_knows_better_stays(away: Away) -> None:
    """What is under way here, and results, stay whatever the status shows; the rest is learnt."""
    notification, view = away.notification, away.notification.view
    known = Attempt(AttemptId("0.7-1"), "c", AttemptState.SUCCESS, WALL, WALL)
    view.learn(known)
    notification.in_flight.begin(AttemptId("0.7-2"), "c")
    ahead: dict[str, Any] = {"error": WRITTEN_AHEAD, "failure": FailureClass.UNCERTAIN}
    shown = (
        replace(known, state=AttemptState.UNKNOWN, **ahead),
        Attempt(AttemptId("0.7-2"), "c", AttemptState.UNKNOWN, WALL, **ahead),
        Attempt(AttemptId("0.7-3"), "c", AttemptState.FAILED, WALL, WALL, WALL + 9000),
    )
    shows(notification, status=Status(attempts=shown, journal=NOTE.name))
    notification.not_journaling(Basis.OLDER)
    away.journal.take_up(notification, away.term)
    assert list(view.attempts) == ["0.7-1", "0.7-3"]
    assert view.attempts[known.id] == known
    assert notification.due == {}, "an attempt of our own has its wait already"
    assert notification.outage.missing is None


async def test_a_wait_grows_with_what_was_tried_on_the_channel() -> None:
    """An attempt that a former owner left counts, and so do those before it."""
    away = Away()
    away.journal.backoff = backoff = Mock(return_value=1000)
    attempts = tuple(
        Attempt(AttemptId(f"0.5-{n}"), channel, state, WALL, error=error)
        for n, (channel, state, error) in enumerate((
            ("c", AttemptState.UNKNOWN, "no answer"), ("d", AttemptState.FAILED, WRITTEN_AHEAD),
            ("c", AttemptState.UNKNOWN, WRITTEN_AHEAD),
        ), 1)
    )  # fmt: skip
    status = Status(attempts=attempts, journal=NOTE.name)
    shows(away.notification, status=status)
    away.journal.take_up(away.notification, away.term)
    assert [a.error for a in away.attempts] == ["no answer", WRITTEN_AHEAD, SENDER_ENDED]
    assert [made for (_, made), _ in backoff.call_args_list] == [2]
    assert away.notification.due == {"c": NOW + 1.0}


@pytest.mark.parametrize("planned", [True, False])
async def test_what_is_due_is_begun_without_its_log(planned: bool) -> None:
    """It is planned first, if it was not: its status freezes the plan, and the next claim the log."""
    away = Away()
    if planned:
        await away.begin()
    else:
        away.notification.claimed(Claim(EPOCH, 0, ""))
        away.lose()
        away.journal.active = True
    away.controller.reconciler.dispatcher = dispatcher = Mock()
    dispatcher.submit.return_value = None
    calls = len(away.redis.calls)
    decision = await away.controller.reconciler.reconcile("uid-a")
    assert isinstance(decision, Deliver)
    await asyncio.sleep(0)
    assert [given for given, _ in dispatcher.submit.call_args_list] == [("uid-a", "c")]
    assert away.notification.view.plan is not None
    assert away.notification.view.plan.channels == ("c",)
    assert away.notification.outage.note == NOTE.name
    assert len(away.redis.calls) == calls, "the log is left alone"
    assert away.notification.outage.missing is None
