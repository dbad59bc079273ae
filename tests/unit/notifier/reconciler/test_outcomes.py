"""What becomes of an outcome: the record, the next due time, the report, and the wait at the end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Final, cast

import pytest

from notifier.contract import Outcome
from syncer.ledger.answers import Appended
from syncer.model.attempt import Attempt, AttemptState, FailureClass, attempt_epoch
from syncer.model.errors import Unauthorised
from syncer.model.record import LOG_ERROR_BYTES, Record
from syncer.model.resource import RetryPolicy
from syncer.sync.cache import Claim
from tests.unit.notifier.reconciler.test_broken_off import EPOCH, NOW, WALL, World
from tests.unit.notifier.reconciler.test_zombie import Calls, LeaseTerm


class Reports(Calls):
    """A reporter that remembers refusals as well."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[tuple[str, str]] = []

    def denied(self, request: object, channel: str, reason: str) -> None:
        """Remember."""
        self.refused.append((channel, reason))


class Opened:
    """A planned notification, whose attempts a test opens and ends."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.reports = Reports()
        self.outcomes = world.controller.outcomes
        ports = replace(self.outcomes.ports, reporter=cast("Any", self.reports))
        self.outcomes.ports = ports
        self.outcomes.jitter = lambda: 0.0
        policy = RetryPolicy(9, 30, 2, 480)
        world.entry.request = replace(world.entry.request, policy=policy)

    async def intent(self) -> Record:
        """Open an attempt."""
        recorder, entry = self.world.controller.recorder, self.world.entry
        answer, intent = await recorder.open(entry, LeaseTerm(EPOCH), "c", limit=99)
        assert answer.answer.value == "OK"
        return intent

    async def ends(self, outcome: Outcome, seconds: float = 0.25) -> Attempt:
        """Open an attempt and record what it came to; returns it as recorded."""
        intent = await self.intent()
        await self.outcomes.record(self.world.entry, intent, outcome, seconds)
        return self.world.attempts[-1]

    def holds_mistakes(self, hold: bool) -> None:
        """Set `delivery.onOperatorError`."""
        bounds = replace(self.outcomes.ports.bounds, hold_mistakes=hold)
        self.outcomes.ports = replace(self.outcomes.ports, bounds=bounds)

    async def mistaken(self) -> None:
        """Open an attempt that meets an operator's mistake."""
        intent = await self.intent()
        outcome = self.outcomes.waiting(self.world.entry, intent, Outcome.mistaken("403"))
        await self.outcomes.record(self.world.entry, intent, outcome, 0.1)

    @property
    def due(self) -> float | None:
        """Seconds until the channel may be tried again, by the alarm."""
        at = self.world.entry.due.get("c")
        return None if at is None else round(at - NOW, 3)


@pytest.fixture
async def opened() -> Opened:
    """A notification that was never tried."""
    world = World()
    await world.planned()
    return Opened(world)


ENDS: Final = {
    "a success": (Outcome.success(202), None),
    "a refusal for good": (Outcome.permanent("no", code=404), None),
    "a refusal for now": (Outcome.transient("busy", code=503), 30),
    "an unknown result": (Outcome.unknown("timeout"), 30),
    "a refusal that asks for time": (Outcome.transient("busy", code=429, retry_after=90.0), 90),
    "nothing was sent": (Outcome.not_sent("the lease ended"), 1),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS)
async def test_an_outcome_is_recorded_with_the_next_due_time(opened: Opened, case: str) -> None:
    """What may be tried again is due by its back-off, in the log and by the alarm; else nothing is."""
    outcome, due = ENDS[case]
    opened.world.entry.due["c"] = NOW - 7
    attempt = await opened.ends(outcome)
    assert (attempt.state, attempt.failure, attempt.error, attempt.code) == (
        outcome.state, outcome.failure, outcome.error, outcome.code,
    )  # fmt: skip
    assert (attempt.ended, attempt.duration) == (WALL, 250)
    assert attempt.due == (0 if due is None else WALL + due * 1000)
    assert opened.due == due
    assert await opened.world.controller.queue.get() == "uid-a"
    assert not opened.world.entry.executing


#: What a mistake is recorded as: by the mode, and by how many seconds ago the first in a row began.
WAITING: Final[dict[str, tuple[Outcome, bool, float, str | None, str]]] = {
    "it fails": (Outcome.mistaken("403"), False, 0, "permanent", "permanent failure: 403"),
    "it waits": (Outcome.mistaken("403"), True, 0, "operator", "403"),
    "for a day": (Outcome.mistaken("403"), True, 86_400, "operator", "403"),
    "and no longer": (
        Outcome.mistaken("403"), True, 86_401, "permanent",
        "permanent failure: not mended within a day: 403",
    ),
    "an unknown host": (replace(Outcome.transient("x"), mistake=True), True, 0, "notSent", "x"),
    "which counts": (replace(Outcome.transient("x"), mistake=True), False, 0, "transient", "x"),
    "another's refusal": (Outcome.permanent("404"), True, 0, "permanent", "permanent failure: 404"),
    "a success": (Outcome.success(200), True, 0, None, ""),
    "what is unknown stays so": (
        replace(Outcome.unknown("x"), mistake=True), True, 0, "uncertain", "x",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WAITING)
async def test_an_operators_mistake_fails_or_waits(opened: Opened, case: str) -> None:
    """By the setting, for a day; the class on record says which, and what is not sent is not claimed."""
    outcome, hold, ago, failure, error = WAITING[case]
    opened.holds_mistakes(hold)
    if ago:
        await opened.mistaken()
        opened.outcomes.ports.recorder.time.set(WALL + round(ago * 1000))
    found = opened.outcomes.waiting(opened.world.entry, await opened.intent(), outcome)
    assert (found.failure and found.failure.value, found.error) == (failure, error)


async def test_what_waits_for_an_operator_uses_up_nothing(opened: Opened) -> None:
    """The waits grow to five minutes, and the policy's attempts are left."""
    opened.holds_mistakes(True)
    waits = []
    for _ in range(8):
        await opened.mistaken()
        waits.append(opened.due)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]
    (state,) = opened.world.controller.reconciler.decisions.channel_states(opened.world.entry)
    assert (state.left, state.state.value) == (9, "Retrying")


async def test_a_long_error_is_cut(opened: Opened) -> None:
    """A record is bounded, whatever a receiver answers."""
    attempt = await opened.ends(Outcome.transient("x" * 9999))
    assert len(attempt.error.encode()) == LOG_ERROR_BYTES


async def test_each_attempt_that_left_makes_the_wait_longer(opened: Opened) -> None:
    """What did not leave has a back-off of its own, and is no step of the other."""
    waits = []
    for outcome in (
        Outcome.transient("busy"), Outcome.not_sent("no"), Outcome.not_sent("no"),
        Outcome.unknown("timeout"), Outcome.not_sent("no"), Outcome.transient("busy"),
    ):  # fmt: skip
        await opened.ends(outcome)
        waits.append(opened.due)
    assert waits == [30, 1, 2, 60, 1, 120]


async def test_a_wait_is_jittered(opened: Opened) -> None:
    """By what is drawn for it, of either kind."""
    opened.outcomes.jitter = lambda: 1.0
    await opened.ends(Outcome.transient("busy"))
    assert opened.due == 33
    await opened.ends(Outcome.not_sent("no"))
    assert opened.due == 1.1


async def test_reports_follow_the_record(opened: Opened) -> None:
    """Each call with the one before it; what was not sent is none, and is no earlier one."""
    await opened.ends(Outcome.not_sent("no"))
    first = await opened.ends(Outcome.transient("busy"))
    await opened.ends(Outcome.not_sent("no"))
    second = await opened.ends(Outcome.success(200))
    assert [a.id for a in opened.reports.attempts] == [first.id, second.id]
    before = [a and a.id for a in opened.reports.before]
    assert before == [None, first.id]
    assert opened.reports.refused == []
    assert [a.id for a in opened.reports.failures] == [first.id]


async def test_a_refusal_by_rule_is_reported(opened: Opened) -> None:
    """The receiver is not for the namespace: its operators should know."""
    await opened.ends(Outcome.denied("not for namespace n"))
    assert opened.reports.refused == [("c", "permanent failure: not for namespace n")]
    assert len(opened.reports.attempts) == 1
    assert opened.reports.failures == []


@pytest.mark.parametrize(
    ("outcome", "level", "members"),
    [
        (
            Outcome.success(200),
            "INFO",
            {"state": "success", "class": None, "code": 200, "error": None},
        ),
        (
            Outcome.not_sent("no"),
            "WARNING",
            {"state": "failed", "class": "notSent", "code": None, "error": "no"},
        ),
    ],
    ids=["success", "failure"],
)
async def test_an_outcome_is_logged(
    opened: Opened, outcome: Outcome, level: str, members: dict[str, object],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """One line with what people look for; what is not there is null."""
    caplog.set_level("INFO", "ledger.delivery")
    attempt = await opened.ends(outcome, 0.0316)
    (line,) = caplog.records
    assert (line.levelname, line.message) == (level, "attempt recorded")
    shown = {
        "uid": "uid-a", "object": "n/a", "channel": "c", "attempt": attempt.id, "ms": 32, **members,
    }  # fmt: skip
    assert {name: line.__dict__[name] for name in shown} == shown


async def test_an_outcome_that_cannot_be_recorded(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    """The line of the log says so, and nobody is woken for it; it is reported all the same."""
    caplog.set_level("INFO", "ledger.delivery")
    intent = await opened.intent()
    opened.world.redis.down = True
    await opened.outcomes.record(opened.world.entry, intent, Outcome.success(200), 0.1)
    assert "attempt not recorded" in [r.message for r in caplog.records]
    assert opened.world.redis.published == []
    assert [a.state for a in opened.reports.attempts] == [AttemptState.SUCCESS]


async def test_an_outcome_that_the_user_may_not_record_is_kept(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is not damaged, so nothing is quarantined; a later claim records it."""
    world, recorder = opened.world, opened.world.controller.recorder
    intent = await opened.intent()

    async def refuse(*_: object, **__: object) -> Appended:
        raise Unauthorised("Redis refuses the credentials or the command (NOPERM)")

    with monkeypatch.context() as refused:
        refused.setattr(recorder.log, "outcome", refuse)
        await opened.outcomes.record(world.entry, intent, Outcome.success(200), 0.1)
        assert [*world.entry.unrecorded] == [intent.id]
        assert [a.state for a in world.entry.view.attempts.values()] == [AttemptState.SUCCESS]
        with pytest.raises(Unauthorised):
            await world.controller.reconciler.reconcile("uid-a")
        assert (world.entry.quarantine, [*world.entry.unrecorded]) == ("", [intent.id])
    await world.controller.reconciler.reconcile("uid-a")
    assert world.entry.unrecorded == {}
    assert [(a.id, a.state) for a in world.attempts] == [(intent.id, AttemptState.SUCCESS)]


async def test_an_intent_that_was_not_confirmed_is_settled(opened: Opened) -> None:
    """It is recorded that nothing was sent for it, in the background."""
    intent = await opened.intent()
    opened.outcomes.submit_not_sent(opened.world.entry, intent)
    (task,) = opened.outcomes.recording
    assert task.get_name() == "record-uid-a"
    assert list(opened.outcomes.recording.values()) == [intent.id]
    assert await opened.outcomes.drain(20) == 0
    (attempt,) = opened.world.attempts
    assert attempt.failure is FailureClass.NOT_SENT
    assert attempt.error == "the log did not confirm the attempt, so it was not sent"
    assert attempt.duration == 0
    assert opened.outcomes.recording == {}


async def test_a_log_that_is_gone_gets_its_attempts_in_order(opened: Opened) -> None:
    """An outcome leaves it to a claim, which gives the log the earlier attempts first."""
    world = opened.world
    first = await opened.ends(Outcome.transient("busy"))
    intent = await opened.intent()
    world.redis.twin.logs.clear()
    await opened.outcomes.record(world.entry, intent, Outcome.success(200), 0.1)
    assert world.redis.twin.logs == {}
    assert (world.entry.claim, [*world.entry.unrecorded]) == (None, [intent.id])
    assert await world.controller.queue.get() == "uid-a"
    await world.controller.reconciler.reconcile("uid-a")
    assert [(a.id, a.state) for a in world.attempts] == [
        (first.id, AttemptState.FAILED), (intent.id, AttemptState.SUCCESS),
    ]  # fmt: skip
    assert world.entry.unrecorded == {}


async def test_what_was_kept_waits_for_the_claim_of_a_log_that_is_gone(opened: Opened) -> None:
    """The claim, which is believed to hold, is given up instead; nothing is recorded out of order."""
    world = opened.world
    intent = await opened.intent()
    world.redis.twin.logs.clear()
    await opened.outcomes.record(world.entry, intent, Outcome.success(200), 0.1)
    recorder = world.controller.recorder
    world.entry.claim = Claim(EPOCH, recorder.log.generation_of("uid-a"), "")
    await recorder.record_kept(world.entry)
    assert world.redis.twin.logs == {}
    assert not recorder.claim_holds(world.entry, LeaseTerm(EPOCH))
    assert [*world.entry.unrecorded] == [intent.id]


async def test_the_end_leaves_nothing_to_a_claim(opened: Opened) -> None:
    """Nobody claims any more: what was kept is handed in, and makes a log that is gone anew."""
    world = opened.world
    intent = await opened.intent()
    world.redis.twin.logs.clear()
    opened.outcomes.submit(world.entry, intent, Outcome.success(200), 0.1)
    assert await opened.outcomes.drain(5) == 0
    assert world.entry.unrecorded == {}
    assert [a.state for a in world.attempts] == [AttemptState.SUCCESS]
    assert world.redis.twin.logs


async def test_the_end_gives_a_lost_log_all_that_is_known(opened: Opened) -> None:
    """What was recorded and not published yet comes before what was kept, with the plan."""
    world = opened.world
    plan = world.entry.view.plan
    first = await opened.ends(Outcome.transient("busy"))
    intent = await opened.intent()
    world.redis.twin.logs.clear()
    opened.outcomes.submit(world.entry, intent, Outcome.success(200), 0.1)
    assert await opened.outcomes.drain(5) == 0
    assert [(a.id, a.state) for a in world.attempts] == [
        (first.id, AttemptState.FAILED), (intent.id, AttemptState.SUCCESS),
    ]  # fmt: skip
    assert world.entry.unrecorded == {}
    assert (plan is not None, world.entry.view.plan) == (True, plan)
    assert world.entry.claim is not None, "or the status would not show it"


@pytest.mark.parametrize("left_open", [False, True], ids=["ended", "open"])
async def test_the_end_gives_a_lost_log_what_nothing_else_holds(
    opened: Opened, left_open: bool
) -> None:
    """An attempt that was recorded, and that the log lost before its status showed it, is not lost."""
    world = opened.world
    if left_open:
        await opened.intent()
        world.entry.executing.clear()
    else:
        await opened.ends(Outcome.transient("busy"))
    known = [*world.entry.view.attempts]
    world.redis.twin.logs.clear()
    await world.controller.recorder.reread(world.entry)
    assert world.entry.claim is None
    assert await opened.outcomes.drain(5) == 0
    wanted = AttemptState.UNKNOWN if left_open else AttemptState.FAILED
    assert [(a.id, a.state) for a in world.attempts] == [(known[0], wanted)]
    assert world.redis.twin.logs


async def test_a_hand_over_gives_a_lost_log_all_that_is_known(opened: Opened) -> None:
    """As at the end: the next owner would learn of it from nobody."""
    world = opened.world
    first = await opened.ends(Outcome.transient("busy"))
    world.redis.twin.logs.clear()
    await world.controller.recorder.reread(world.entry)
    world.cache.clean(world.entry)
    assert await world.controller.quiesce(lambda uid: uid == "uid-a", 5)
    assert [a.id for a in world.attempts] == [first.id]
    assert world.redis.twin.logs


async def test_the_end_keeps_what_cannot_be_handed_in(opened: Opened) -> None:
    """Redis is away again, which is no reason to end otherwise; the next owner finds it open."""
    world = opened.world
    intent = await opened.intent()
    world.redis.twin.logs.clear()
    await opened.outcomes.record(world.entry, intent, Outcome.success(200), 0.1)
    world.redis.down = True
    assert await opened.outcomes.drain(5) == 0
    assert [*world.entry.unrecorded] == [intent.id]


async def test_the_end_waits_for_records_within_its_bound(opened: Opened) -> None:
    """What is recorded in time counts as done; the rest is cancelled, and counted."""
    assert await opened.outcomes.drain(0.0) == 0
    hanging = asyncio.Event()

    async def close(*_: object, **__: object) -> bool:
        await hanging.wait()
        return True

    intent = await opened.intent()
    opened.world.controller.recorder.close = close  # type: ignore[method-assign] # Redis is slow
    opened.outcomes.submit(opened.world.entry, intent, Outcome.success(200), 0.1)
    asyncio.get_running_loop().call_later(0.02, hanging.set)
    assert await opened.outcomes.drain(20) == 0
    hanging.clear()
    task = opened.outcomes.submit(opened.world.entry, intent, Outcome.success(200), 0.1)
    assert await opened.outcomes.drain(0.01) == 1
    assert task.cancelled()


@pytest.mark.parametrize(
    ("term", "woken"),
    [(LeaseTerm(EPOCH), False), (LeaseTerm("0.8"), True), (LeaseTerm(EPOCH, holds=False), True)],
    ids=["of this term", "of a later one", "of one that is over"],
)
async def test_whoever_owns_the_log_by_now_is_woken(
    opened: Opened, term: LeaseTerm, woken: bool
) -> None:
    """A fact of an earlier term is found at once and not by a sweep."""
    intent = await opened.intent()
    assert attempt_epoch(cast("Any", intent.id)) == EPOCH
    opened.world.shards.take(0, term)
    await opened.outcomes.record(opened.world.entry, intent, Outcome.success(200), 0.1)
    assert bool(opened.world.redis.published) is woken
