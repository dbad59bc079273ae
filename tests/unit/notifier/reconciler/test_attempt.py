"""One attempt: what is checked before it, what the log may answer, and how it ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Final, cast

import pytest

from notifier.contract import Message, NotReady, Outcome
from syncer.ledger.answers import Answer, Appended
from syncer.model.attempt import AttemptState, Epoch, FailureClass
from syncer.model.errors import PortError, Rejected, Unavailable
from syncer.runtime import failpoints
from syncer.runtime.failpoints import Failpoint
from syncer.sync.cache import Claim
from tests.fakes.memorylog import MemoryLog
from tests.unit.notifier.reconciler.test_broken_off import EPOCH, NOW, World
from tests.unit.notifier.reconciler.test_zombie import LeaseTerm


class Case(World):
    """A planned notification that is due."""

    async def attempt(self) -> Outcome | None:
        """Make the attempt."""
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


async def test_an_attempt_is_recorded_and_sent(case: Case) -> None:
    """Intent, send, outcome; then the notification is looked at again."""
    assert await case.attempt() == Outcome.success(200)
    assert case.receiver.sent == 1
    assert [a.state for a in case.attempts] == [AttemptState.SUCCESS]
    assert case.queued == (1, 0)


async def test_an_attempt_passes_the_places_where_tests_end_a_process(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after the intent, after the send, after the outcome: each with what is done by then."""
    passed: list[tuple[str, int, list[str]]] = []

    class Armed:
        def hit(self, name: Failpoint) -> None:
            passed.append((name, case.receiver.sent, [a.state.word for a in case.attempts]))

    monkeypatch.setattr(failpoints, "_armed", Armed())
    await case.attempt()
    assert passed == [
        ("before-intent", 0, []),
        ("after-intent", 0, ["intent"]),
        ("after-send", 1, ["intent"]),
        ("after-outcome", 1, ["success"]),
    ]


def unknown(case: Case) -> None:
    """Nobody knows the notification."""
    case.cache.entries.clear()


def strange(case: Case) -> None:
    """Its shard is another replica's."""
    case.shards.drop(0)


def leaving(case: Case) -> None:
    """Its shard is being handed over."""
    case.shards.leave(0)


def ending(case: Case) -> None:
    """The process ends."""
    case.controller.holds.draining = True


@pytest.mark.parametrize("stop", [unknown, strange, leaving, ending])
async def test_what_is_not_ours_to_begin(case: Case, stop: Any) -> None:
    """Nothing is opened, and nothing is to be looked at."""
    stop(case)
    assert await case.attempt() is None
    assert (case.receiver.sent, case.attempts, case.queued) == (0, [], (0, 0))


def delivered(case: Case) -> None:
    """Its alarm was set later meanwhile."""
    case.entry.due["c"] = NOW + 60


def deleted(case: Case) -> None:
    """Its object is gone."""
    case.entry.deleted = True


def stopped(case: Case) -> None:
    """The self-audit holds it."""
    case.entry.violation = "two open"


def claimed_anew(case: Case) -> None:
    """Its claim does not hold any more."""
    case.entry.claim = None


@pytest.mark.parametrize("stop", [delivered, deleted, stopped, claimed_anew])
async def test_what_is_not_due_any_more_is_looked_at_again(case: Case, stop: Any) -> None:
    """It waited for its turn meanwhile; nothing is opened, and the reconciler decides anew."""
    stop(case)
    assert await case.attempt() is None
    assert (case.receiver.sent, case.attempts, case.queued) == (0, [], (1, 0))


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
        assert (case.queued, case.alarm(), case.entry.due) == ((0, 1), 5.0, {})
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


async def test_nothing_is_opened_before_the_holds_of_operators_were_read(case: Case) -> None:
    """Each attempt waits some seconds, and is due all the same."""
    case.controller.holds.unread = True
    assert await case.attempt() is None
    assert (case.queued, case.alarm(), case.entry.due, case.attempts) == ((0, 1), 5.0, {}, [])
    case.controller.holds.unread = False
    assert await case.attempt() == Outcome.success(200)


async def test_a_channel_that_is_held_waits(case: Case) -> None:
    """Its due time moves, the reason is on record, and it is looked at again then."""
    cast("Any", case.controller.attempts.ports.router).not_ready = lambda _: NotReady(
        "credential x is missing", 30.0
    )
    assert await case.attempt() is None
    assert (case.entry.due, case.alarm()) == ({"c": NOW + 30}, 30.0)
    assert case.entry.view.last_skip == {"c": "credential x is missing"}
    assert (case.receiver.sent, case.attempts) == (0, [])


async def test_a_hold_that_cannot_be_recorded_holds_all_the_same(case: Case) -> None:
    """Redis is away: the reason is recorded at a later look."""
    cast("Any", case.controller.attempts.ports.router).not_ready = lambda _: NotReady(
        "credential x is missing", 30.0
    )
    case.redis.down = True
    assert await case.attempt() is None
    assert case.alarm() == 30.0


@pytest.mark.parametrize(("there", "seconds"), [(True, 1.0), (False, 0.0)])
async def test_an_attempt_that_the_lease_does_not_cover_waits(
    case: Case, there: bool, seconds: float
) -> None:
    """For as long as the channel may take; nothing is opened, and it is looked at again soon."""
    asked: list[tuple[float, float]] = []

    class Short(LeaseTerm):
        def may_send(self, now: float, send_timeout: float) -> bool:
            asked.append((now, send_timeout))
            return False

    case.shards.take(0, Short(EPOCH))
    if not there:
        cast("Any", case.controller.attempts.ports.router).channel = lambda _: None
    assert await case.attempt() is None
    assert asked == [(NOW, seconds)]
    assert (case.alarm(), case.attempts, case.receiver.sent) == (0.5, [], 0)


async def test_an_attempt_waits_while_redis_does_not_answer(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    """It is held with a growing wait, which the line of the log tells, and the log is claimed anew."""
    caplog.set_level("INFO", "ledger.delivery")
    for seconds in (0.2, 0.4):
        case.redis.down = True
        assert await case.attempt() is None
        (line,) = caplog.records
        assert (line.levelname, line.message) == (
            "INFO", "an attempt is held: the log did not take its intent",
        )  # fmt: skip
        shown = {name: line.__dict__[name] for name in ("uid", "channel", "seconds")}
        assert shown == {"uid": "uid-a", "channel": "c", "seconds": seconds}
        assert not case.controller.recorder.claim_holds(case.entry, LeaseTerm(EPOCH))
        case.entry.claim = Claim(EPOCH, case.log.generation_of(case.entry.uid), case.log.stamp)
        case.controller.queue._delayed.clear()
        case.redis.down = False
        caplog.clear()
    assert case.receiver.sent == 0


async def test_only_what_concerns_one_attempt_is_a_warning(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis refuses this intent and no other: nothing else says so."""

    async def refuse(*_: object, **__: object) -> Appended:
        raise Rejected("Redis refuses the command (ERR)")

    case.log.intent = refuse  # type: ignore[method-assign] # the log's answer
    assert await case.attempt() is None
    (line,) = caplog.records
    assert line.levelname == "WARNING"
    assert (line.__dict__["uid"], line.__dict__["error"]) == (
        "uid-a", "Redis refuses the command (ERR)",
    )  # fmt: skip
    assert case.receiver.sent == 0


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
    case.log.intent = _answering(answer)  # type: ignore[method-assign] # the log's answer
    assert await case.attempt() is None
    assert (case.receiver.sent, case.queued) == (0, (1, 0))
    assert (case.entry.reread, case.entry.claim is None) == (read, not read)
    assert case.entry.executing == {}
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


@pytest.mark.parametrize("sent", [True, False])
async def test_an_attempt_that_is_cancelled_is_recorded(case: Case, sent: bool) -> None:
    """As unknown if a byte may have left, else as not sent."""
    begun = asyncio.Event()

    async def hang(*_: object, **__: object) -> Any:
        begun.set()
        await asyncio.Event().wait()

    if sent:
        case.receiver.send = hang  # type: ignore[method-assign] # it does not answer
    else:
        cast("Any", case.controller.attempts.sender.composer).compose = hang
    task = asyncio.create_task(case.attempt())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await case.controller.outcomes.drain(20) == 0
    (attempt,) = case.attempts
    assert (attempt.state.word, attempt.error) == (
        ("unknown", "the process ended while waiting for an answer")
        if sent
        else ("failed", "cancelled before it was sent")
    )


async def test_the_time_of_a_send_is_recorded(case: Case) -> None:
    """As the clock of the process measures it."""
    clock = [NOW]
    case.cache.monotonic = lambda: clock[0]

    async def send(message: Message) -> Outcome:
        clock[0] += 1.5
        return Outcome.success(200)

    case.receiver.send = send  # type: ignore[method-assign] # it takes its time
    await case.attempt()
    assert [a.duration for a in case.attempts] == [1500]


# -- giving up --------------------------------------------------------------------------------------


async def give_up(case: Case) -> None:
    """End the channel."""
    await case.controller.attempts.give_up(case.entry, LeaseTerm(EPOCH), "c", "too old")
    assert await case.controller.outcomes.drain(20) == 0


async def test_a_channel_that_is_given_up_has_its_end_on_record(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    """An attempt that certainly was not sent gives the reason, for every reader."""
    caplog.set_level("INFO", "ledger.delivery")
    await give_up(case)
    (attempt,) = case.attempts
    assert (attempt.failure, attempt.error, attempt.duration) == (
        FailureClass.PERMANENT, "permanent failure: too old", 0,
    )  # fmt: skip
    assert case.receiver.sent == 0
    line = caplog.records[0]
    assert line.message == "a notification is given up"
    shown = {name: line.__dict__[name] for name in ("uid", "object", "channel", "reason")}
    assert shown == {"uid": "uid-a", "object": "n/a", "channel": "c", "reason": "too old"}


async def test_nothing_is_given_up_without_a_claim(case: Case) -> None:
    """Its log may be another's by now."""
    case.entry.claim = None
    await give_up(case)
    assert case.attempts == []


async def test_a_log_that_refuses_the_end_is_claimed_again(case: Case) -> None:
    """Another owner may have come."""
    other = MemoryLog(case.redis, patience=0.0)
    await other.claim("uid-a", Epoch("0.8"), name="n/a")
    await give_up(case)
    assert (case.attempts, case.entry.claim, case.queued) == ([], None, (1, 0))


async def test_an_end_that_cannot_be_opened_is_tried_again(case: Case) -> None:
    """The error passes to whoever retries, and the claim is given up."""

    async def away(*_: object, **__: object) -> Appended:
        raise Unavailable("refused")

    case.log.intent = away  # type: ignore[method-assign] # Redis is away
    with pytest.raises(PortError):
        await give_up(case)
    assert case.entry.claim is None


def _answering(answer: Appended) -> Any:
    async def intent(*_: object, **__: object) -> Appended:
        return answer

    return intent
