"""The reconciler: what it looks at, in which order, what it starts, and what it leaves for later."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final, cast
from unittest.mock import AsyncMock, Mock, call

import pytest

from notifier.dispatch.breaker import Reject, refusal
from notifier.router import Routed
from syncer.model.attempt import Attempt, AttemptState, make_attempt_id
from syncer.model.record import Plan
from syncer.model.resource import Status, parse_object
from syncer.rules.plan import (
    Await,
    Decision,
    Deliver,
    Finish,
    GiveUp,
    Resolve,
    WaitUntil,
    Withhold,
)
from syncer.rules.reconcile import Action, ClaimDecision
from syncer.sync.notification import Claim, Notification
from tests.fakes.notification import shows
from tests.fakes.ownership import Held
from tests.unit.notifier.reconciler.attempting import EPOCH, NOW, Ended, World


class Reports:
    """A reporter that remembers its calls, without the object."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        """Remember a call of any name."""
        return lambda _request, *given: self.seen.append((name, *given))


OPEN: Final = Reject(NOW + 1)


class Dispatcher:
    """Takes what is submitted; a breaker may reject it."""

    def __init__(self) -> None:
        self.taken: list[tuple[Any, ...]] = []
        self.rejects: set[str] = set()

    def submit(self, uid: str, channel: str, **given: Any) -> Reject | None:
        self.taken.append((uid, channel, given))
        return OPEN if channel in self.rejects else None


class Case(World):
    """A claimed notification whose next decision a test chooses."""

    def __init__(self) -> None:
        super().__init__()
        self.reconciler = self.controller.reconciler
        self.queue = self.controller.queue
        self.reports, self.dispatcher = Reports(), Dispatcher()
        reports = cast("Any", self.reports)
        self.reconciler.ports = replace(self.reconciler.ports, reporter=reports)
        self.controller.notifications.claimer._on_started = reports.started
        self.reconciler.dispatcher = cast("Any", self.dispatcher)
        self.done: list[tuple[Any, ...]] = []

    def decides(self, *decisions: Decision) -> None:
        """Have the rules decide so, one after the other."""
        left = list(decisions)
        self.reconciler.decisions = cast(
            "Any",
            SimpleNamespace(
                next=lambda _entry: left.pop(0) if len(left) > 1 else left[0],
                limit=lambda *_: 9,
            ),
        )

    def claims(self, *actions: Action, holds: bool = True) -> None:
        """Have claims end so; `holds` says whether the notification is claimed afterwards."""

        async def claim(notification: Notification, term: Held) -> ClaimDecision:
            self.done.append(("claim", term.epoch))
            notification.claimed(
                Claim(EPOCH, self.log.client.generation, "")
            ) if holds else notification.lose()
            return ClaimDecision(("row",), actions, "because")

        async def retire(notification: Notification, term: Held) -> bool:
            self.done.append(("retire", term.epoch))
            return self.retired

        self.retired = True
        claimer: Any = self.controller.notifications.claimer
        claimer.claim, claimer.retire = claim, retire

    async def look(self) -> Decision | None:
        return await self.reconciler.reconcile("uid-a")

    def alarm(self) -> float | None:
        """Seconds until the notification is looked at again, None if no time is set."""
        at = self.queue._delayed.get("uid-a")
        return None if at is None else round(at - NOW, 3)


@pytest.fixture
async def case() -> Case:
    """A notification that is claimed and planned; nothing is in the queue."""
    made = Case()
    await made.planned()
    made.queue.done(await made.queue.get())
    return made


# -- what is done with a decision -------------------------------------------------------------------


ALARMS: Final[dict[str, tuple[Decision, float | None, float, tuple[str, ...]]]] = {
    "nothing else is due": (Deliver(("c",), None, "due"), None, math.inf, ("c",)),
    "another is due later": (Deliver(("c",), NOW + 9, "due"), 9, NOW + 9, ("c",)),
    "held, and another is due later": (Withhold(("c",), NOW + 9, "held"), 9, NOW + 9, ()),
    "held alone": (Withhold(("c",), None, "held"), None, math.inf, ()),
    "given up": (GiveUp(("c",), NOW + 9, "too old"), 9, NOW + 9, ("c",)),
    "due later": (WaitUntil(NOW + 5, "back-off"), 5, NOW + 5, ()),
    "under way": (Await("under way"), None, math.inf, ()),
    "over": (Finish("all delivered"), None, math.inf, ()),
}


@pytest.mark.parametrize("name", ALARMS)
async def test_a_decision_is_noted(case: Case, name: str) -> None:
    """When the next one is needed, on which version and position, and what is in other hands."""
    decision, alarm, by, channels = ALARMS[name]
    case.notification.in_flight.begin(make_attempt_id(EPOCH, 7), "e")
    case.notification.view.attempts[make_attempt_id(EPOCH, 7)] = Attempt(
        make_attempt_id(EPOCH, 7), "e", AttemptState.INTENT
    )
    case.notification.unchecked(3.0)
    case.decides(decision)
    assert await case.look() is decision
    check = case.notification.last_check
    assert check is not None
    assert (check.at, check.by) == (NOW, by)
    assert (check.version, check.channels) == ("9", (*channels, "e"))
    assert check.position >= 1
    assert case.notification.unchecked_since == 0
    assert case.alarm() == alarm


async def test_a_rejection_is_reported_once_it_is_on_record(case: Case) -> None:
    """With upstream's reason, and how many attempts were made before; Redis was away for the moment."""
    failed = Attempt(make_attempt_id(EPOCH, 1), "c", AttemptState.FAILED)
    case.notification.view.attempts = {failed.id: failed}
    case.dispatcher.rejects.add("c")
    case.decides(Deliver(("c", "d"), None, "due"))
    case.redis.down = True
    case.log.client.problem = None
    case.reconciler.ports.notifications.recorder.claim_holds = lambda *_: True  # type: ignore[method-assign] # still
    await case.look()
    assert case.reports.seen == []
    case.redis.down = False
    await case.look()
    assert case.notification.view.last_skip == {"c": refusal("c", OPEN)}
    await case.look()
    assert case.reports.seen == [("rejected", "c", refusal("c", OPEN), 1)]


# -- the plan -----------------------------------------------------------------------------------------


async def test_a_notification_without_a_plan_is_routed(case: Case) -> None:
    """The plan is on record before anything is decided by it; what routing doubts is reported."""
    decision = Deliver(("x",), None, "due")
    case.decides(Resolve("no plan yet"), decision)
    routed = Routed(Plan(("x",), "r", "m", 1), ("priorty: no such attribute",))
    ports: Any = case.reconciler.ports
    ports.router.plan = route = AsyncMock(return_value=routed)
    ports.notifications.freeze = freeze = AsyncMock()
    assert await case.look() is decision
    now = case.controller.notifications.recorder.time.now()
    route.assert_awaited_once_with(case.notification.request, now)
    freeze.assert_awaited_once_with(case.notification, routed.plan, journaled=False)
    assert case.reports.seen == [("routed_in_doubt", ("x",), ("priorty: no such attribute",))]
    assert [channel for _, channel, _ in case.dispatcher.taken] == ["x"]


async def test_an_object_without_a_spec_is_not_routed(case: Case) -> None:
    """It comes later; until then there is nothing to route."""
    found = parse_object(
        {"metadata": {"uid": "uid-a", "namespace": "n", "name": "a", "resourceVersion": "9"}}
    )
    assert not found.specified
    shows(case.notification, found)
    case.decides(Resolve("no plan yet"), Await("never"))
    assert await case.look() == Await("the object has no spec yet")
    assert cast("Any", case.reconciler.ports.router).plan.await_count == 1  # that of the fixture


# -- what is not decided -------------------------------------------------------------------------------


async def test_what_is_not_known_is_not_decided(case: Case) -> None:
    """It has left meanwhile."""
    assert await case.reconciler.reconcile("uid-x") is None


@pytest.mark.parametrize(
    ("retired", "executing", "again"), [(True, False, False), (False, False, True), (False, True, False)]
)  # fmt: skip
async def test_a_deleted_object_is_retired(
    case: Case, retired: bool, executing: bool, again: bool
) -> None:
    """What could not be retired is tried again, unless an attempt under way brings another look."""
    case.claims()
    case.retired = retired
    case.notification.gone()
    if executing:
        case.notification.in_flight.begin(make_attempt_id(EPOCH, 7), "c")
    assert await case.look() is None
    assert case.done == [("retire", EPOCH)]
    assert (case.alarm() is not None) is again


# -- the claim ----------------------------------------------------------------------------------------


async def test_a_claim_comes_before_a_decision(case: Case) -> None:
    """And the first one of an object is reported, where something is to be done."""
    fresh = Case()
    fresh.claims(Action.OPEN)
    fresh.decides(Await("nothing"))
    assert await fresh.look() == Await("nothing")
    assert fresh.done == [("claim", EPOCH)]
    assert fresh.reports.seen == [("started",)]
    assert not fresh.notification.fresh
    await fresh.look()
    assert len(fresh.done) == 1
    case.claims(Action.OPEN)
    case.decides(Await("nothing"))
    case.notification.lose()
    await case.look()
    assert case.done == [("claim", EPOCH)]
    assert case.reports.seen == []


async def test_a_status_that_is_not_believed_is_held(case: Case) -> None:
    """Against the one object alone."""
    case.notification.lose()
    case.notification.epochs(fenced=1.0)
    case.claims(Action.DISTRUST, holds=False)
    reason = "its status names an epoch that its log does not know"
    assert await case.look() == Await(reason)
    assert (case.notification.fenced, case.notification.distrusted) == (0.0, True)
    case.claims(Action.OPEN)
    case.decides(Await("nothing"))
    assert await case.look() == Await("nothing")
    assert not case.notification.distrusted


async def test_a_log_without_an_object_is_retired(case: Case) -> None:
    """The claim has found that the object is gone."""
    case.notification.lose()
    case.claims(Action.ORPHAN, holds=False)
    assert await case.look() is None
    assert case.done == [("claim", EPOCH), ("retire", EPOCH)]


@pytest.mark.parametrize("busy", [True, False])
async def test_what_needs_nothing_is_let_go(case: Case, busy: bool) -> None:
    """A finished notification becomes a summary, unless a task still works on it."""
    case.notification.lose()
    shows(case.notification, status=Status(phase="Sent"))
    if busy:
        case.notification.publication.begin()
    case.claims(Action.NOTHING, holds=busy)
    case.decides(Await("nothing"))
    assert await case.look() == (Await("nothing") if busy else None)
    assert ("uid-a" in case.cache.entries) is busy
    assert ("uid-a" in case.cache.finished) is not busy


@pytest.mark.parametrize(("quarantine", "alarm"), [("", 0.2), ("record 3", None)])
async def test_a_claim_that_did_not_come_about(
    case: Case, quarantine: str, alarm: float | None
) -> None:
    """It is tried again soon, unless its log cannot be read: then a sweep or a repair brings it back."""
    case.notification.lose()
    if quarantine:
        case.notification.unintelligible(quarantine)
    case.claims(Action.QUARANTINE, holds=False)
    decision = await case.look()
    assert case.alarm() == alarm
    assert decision == (Await("its log cannot be read") if quarantine else None)


@pytest.mark.parametrize("settled", [True, False])
async def test_an_attempt_that_nobody_carries_out_is_settled_by_a_claim(
    case: Case, settled: bool
) -> None:
    """Its caller had given it up when it came in; until it is settled nothing is decided."""
    late = make_attempt_id(EPOCH, 7)
    case.notification.view.attempts[late] = Attempt(late, "c", AttemptState.INTENT)
    case.claims(Action.OPEN)
    claim = case.reconciler.ports.notifications.claimer.claim

    async def claiming(notification: Notification, term: Any) -> ClaimDecision:
        if settled:
            notification.view.attempts.clear()
        return await claim(notification, term)

    case.reconciler.ports.notifications.claimer.claim = claiming  # type: ignore[method-assign] # settles it, or not
    case.decides(Await("nothing"))
    assert await case.look() == (Await("nothing") if settled else None)
    assert case.done == [("claim", EPOCH)]
    assert (case.alarm() is None) is settled


async def test_a_claim_that_settles_nothing_is_no_claim(case: Case) -> None:
    """The same where it does not come about at all."""
    late = make_attempt_id(EPOCH, 7)
    case.notification.view.attempts[late] = Attempt(late, "c", AttemptState.INTENT)
    case.claims(Action.STOP, holds=False)
    assert await case.look() == Await("its log belongs to a later epoch")


# -- workers --------------------------------------------------------------------------------------------


async def worked(case: Case) -> None:
    """Have a worker handle what is ready."""
    worker = asyncio.create_task(case.reconciler.work())
    for _ in range(30):
        await asyncio.sleep(0)
    assert not worker.done()
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker


@pytest.mark.parametrize(("known", "wait"), [(True, 0.4), (False, 0.2)])
async def test_what_is_put_off_keeps_its_growing_wait(case: Case, known: bool, wait: float) -> None:
    """Without a decision nothing is over; what has gone needs none."""
    case.shards.take(0, Ended(EPOCH))
    if not known:
        case.cache.entries.clear()
    case.queue.retry("uid-a")
    case.queue.add("uid-a")
    await worked(case)
    assert case.queue.retry("uid-a") == wait


async def test_a_notification_that_cannot_be_handled_costs_its_own_turn(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged as a defect and tried again; others are handled."""

    async def slips(uid: str) -> Decision | None:
        if uid == "uid-a":
            raise RuntimeError("a slip")
        case.done.append((uid,))
        return None

    case.reconciler.reconcile = slips  # type: ignore[method-assign] # of this one
    case.queue.add("uid-a")
    case.queue.add("uid-b")
    await worked(case)
    assert (case.done, case.alarm()) == ([("uid-b",)], 0.2)
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("ERROR", "a notification could not be handled and is tried again")
    ]


# -- all of them ----------------------------------------------------------------------------------------


async def test_the_end_lets_attempts_end(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing begins any more; attempts and results get their own times."""
    case.controller.dispatcher = ending = Mock(drain=AsyncMock())
    ending.record = AsyncMock(return_value=2)
    monkeypatch.setattr(case.controller.notifications.outcomes, "drain", ending.record)
    assert await case.controller.drain(sending=12.0, recording=5.0) == 2
    assert ending.mock_calls == [call.close(), call.drain(12.0), call.record(5.0)]
    assert not case.controller.notifications.accepts("uid-a")
