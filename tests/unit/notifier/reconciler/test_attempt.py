"""One attempt: what is checked before it, what the log may answer, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, cast
from unittest.mock import AsyncMock, Mock

import pytest

from notifier.contract import Outcome
from syncer.ledger.answers import Answer, Appended
from syncer.model.attempt import AttemptState, Epoch, FailureClass
from syncer.model.errors import PortError, Unavailable
from syncer.model.resource import parse_object
from syncer.rules.plan import Await, Deliver
from tests.fakes.memorylog import MemoryLog
from tests.fakes.ownership import Held
from tests.unit.notifier.reconciler.attempting import EPOCH, NOW, World


class Case(World):
    """A planned notification that is due."""

    async def attempt(self) -> Outcome | None:
        return await self.controller.attempts.run("uid-a", "c")

    @property
    def queued(self) -> tuple[int, int]:
        """How many keys are ready, and how many wait for a time."""
        return len(self.controller.queue), self.controller.queue.delayed

    def alarm(self) -> float:
        """Seconds until the notification is looked at again."""
        return round(self.controller.queue._delayed["uid-a"] - NOW, 3)


@pytest.fixture
async def case() -> Case:
    """A notification whose attempt may be made."""
    made = Case()
    await made.planned()
    made.controller.queue.done(await made.controller.queue.get())
    return made


#: What becomes of a notification that is due.
TAKEN: Final[dict[str, Callable[[Case], object]]] = {
    "nobody knows it": lambda case: case.cache.entries.clear(),
    "its shard is another replica's": lambda case: case.shards.drop(0),
    "its shard is being handed over": lambda case: case.shards.leave(0),
    "the process ends": lambda case: setattr(
        case.controller.notifications.claimer, "draining", True
    ),
}


@pytest.mark.parametrize("what", TAKEN)
async def test_what_is_not_ours_to_begin(case: Case, what: str) -> None:
    """Nothing is opened, and nothing is to be looked at."""
    TAKEN[what](case)
    assert await case.attempt() is None
    assert (case.receiver.sent, case.attempts, case.queued) == (0, [], (0, 0))


async def test_another_channel_of_the_plan_does_not_count(case: Case) -> None:
    """Only what is due itself is made."""
    assert await case.controller.attempts.run("uid-a", "d") is None
    assert (case.receiver.sent, case.queued) == (0, (1, 0))


async def test_a_redis_that_is_not_fit_gets_no_attempt(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    """Each attempt waits some seconds; the reason is logged once, and that it is over as well."""
    for reason in ("its clock is off", "its clock is off", "another"):
        case.log.client.unfit = reason
        assert await case.attempt() is None
        assert (case.queued, case.alarm(), case.notification.due) == ((0, 1), 5.0, {})
    assert case.attempts == []
    case.log.client.unfit = None
    assert await case.attempt() == Outcome.success(200)
    held = "attempts are held: Redis is not fit for them"
    assert [
        (r.levelname, r.message, r.__dict__.get("reason"))
        for r in caplog.records
        if "recorded" not in r.message
    ] == [
        ("ERROR", held, "its clock is off"),
        ("ERROR", held, "another"),
        ("WARNING", "Redis is fit for attempts again", None),
    ]


@pytest.mark.parametrize(("there", "seconds"), [(True, 1.0), (False, 0.0)])
async def test_an_attempt_that_the_lease_does_not_cover_waits(
    case: Case, there: bool, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as long as the channel may take; nothing is opened, and it is looked at again soon."""
    term, may_send = Held(EPOCH), Mock(return_value=False)
    monkeypatch.setattr(term, "may_send", may_send)
    case.shards.take(0, term)
    if not there:
        cast("Any", case.controller.attempts.ports.router).channel = lambda _: None
    assert await case.attempt() is None
    may_send.assert_called_once_with(NOW, seconds)
    assert (case.alarm(), case.attempts, case.receiver.sent) == (0.5, [], 0)


#: What the log answers; whether it is read again, and whether the claim is given up.
REFUSED: Final = {
    "the channel is done": (Appended(Answer.DONE), True),
    "the attempts are used up": (Appended(Answer.EXHAUSTED), True),
    "an attempt of that name is known": (Appended(Answer.DUP, rank=AttemptState.FAILED), True),
    "an attempt is open": (Appended(Answer.OPEN), False),
    "another has claimed it": (Appended(Answer.RECLAIM), False),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_what_the_log_refuses_is_not_sent(
    case: Case, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is read again, or claimed again, and the notification looked at."""
    answer, read = REFUSED[name]
    caplog.set_level("INFO", "ledger.delivery")
    case.log.intent = AsyncMock(return_value=answer)  # type: ignore[method-assign] # the log's answer
    assert await case.attempt() is None
    assert (case.receiver.sent, case.queued) == (0, (1, 0))
    assert (case.notification.reread, case.notification.claim is None) == (read, not read)
    assert case.notification.in_flight.executing == {}
    (line,) = (r for r in caplog.records if r.message == "an attempt was not opened")
    assert line.__dict__["answer"] == answer.answer.value
    assert line.__dict__["channel"] == "c"


async def test_the_echo_of_an_intent_allows_its_send(case: Case) -> None:
    """The first answer was lost, and the same call was repeated."""
    intent = case.log.intent

    async def echoed(*given: Any, **more: Any) -> Appended:
        await intent(*given, **more)
        return replace(await intent(*given, **more))

    case.log.intent = echoed  # type: ignore[method-assign] # asked twice
    assert await case.attempt() == Outcome.success(200)
    assert case.receiver.sent == 1


async def test_an_intent_that_no_replica_confirmed_is_not_sent(case: Case) -> None:
    """It might be lost with the server, and the message sent twice."""
    intent = case.log.intent

    async def unconfirmed(*given: Any, **more: Any) -> Appended:
        return replace(await intent(*given, **more), confirmed=False)

    case.log.intent = unconfirmed  # type: ignore[method-assign] # no replica answered
    outcome = await case.attempt()
    assert outcome == Outcome.not_sent("no replica of the log confirmed the attempt in time")
    assert case.receiver.sent == 0
    assert [a.failure for a in case.attempts] == [FailureClass.NOT_SENT]


# -- giving up --------------------------------------------------------------------------------------


async def give_up(case: Case) -> None:
    """End the channel."""
    known, old = case.controller.notifications, Outcome.permanent("too old")
    await known.give_up(case.notification, Held(EPOCH), "c", old, limit=5)
    assert await known.outcomes.drain(20) == 0


async def test_nothing_is_given_up_without_a_claim(case: Case) -> None:
    """Its log may be another's by now."""
    case.notification.lose()
    await give_up(case)
    assert case.attempts == []


async def test_a_log_that_refuses_the_end_is_claimed_again(case: Case) -> None:
    """Another owner may have come."""
    other = MemoryLog(case.redis, patience=0.0)
    await other.claim("uid-a", Epoch("0.8"), name="n/a")
    await give_up(case)
    assert (case.attempts, case.notification.claim, case.queued) == ([], None, (1, 0))


async def test_an_end_that_cannot_be_opened_is_tried_again(case: Case) -> None:
    """The error passes to whoever retries, and the claim is given up."""
    case.log.intent = AsyncMock(side_effect=Unavailable("refused"))  # type: ignore[method-assign] # away
    with pytest.raises(PortError):
        await give_up(case)
    assert case.notification.claim is None


# -- an object that is being deleted ------------------------------------------------------------------


def delete(case: Case) -> None:
    """Have the watch bring the deletion of an object that somebody keeps."""
    document = case.notification.request.document()
    document["metadata"] |= {
        "resourceVersion": "10", "deletionTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": ["example.com/keeps"],
    }  # fmt: skip
    case.controller.notifications.upsert(parse_object(document), first_seen_by_watch=False)


async def test_nothing_is_decided_for_an_object_that_is_being_deleted(case: Case) -> None:
    """A live claim does not matter, and the change is left to the last sync."""
    assert isinstance(case.controller.decisions.next(case.notification), Deliver)
    delete(case)
    decision = await case.controller.reconciler.reconcile("uid-a")
    assert decision == Await("the object is being deleted")
    assert case.notification.publication.pending
    assert case.controller.overdue.oldest(case.cache.entries.values()) == 0
    assert not case.controller.holds.by_reason(case.cache.entries.values())


async def test_an_intent_that_waits_for_redis_is_not_written_after_a_deletion(case: Case) -> None:
    """The guard is asked right before the command is written."""
    due = case.controller.attempts.still_due

    def then_deleted(*args: Any) -> bool:
        answer = due(*args)
        delete(case)
        return answer

    case.controller.attempts.still_due = then_deleted  # type: ignore[method-assign,assignment]  # for this test
    known = case.notification.view.position
    assert await case.attempt() is None
    assert (case.receiver.sent, case.notification.view.position) == (0, known)
