"""What becomes of an outcome: the record, the next due time, the report, and the wait at the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from unittest.mock import ANY, AsyncMock, call

import pytest

from notifier.contract import Outcome
from syncer.model.attempt import Attempt, AttemptState, Epoch
from syncer.model.errors import Unauthorised
from syncer.model.record import Plan, Record, plan_record, read_plan
from syncer.model.resource import RetryPolicy
from tests.fakes.memorylog import Fault, Mishap
from tests.fakes.notification import shows
from tests.fakes.notifications import recording
from tests.fakes.ownership import Held
from tests.unit.notifier.reconciler.attempting import EPOCH, NOW, WALL, Ended, World


class Opened:
    """A planned notification, whose attempts a test opens and ends."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.reports = world.reporter
        self.outcomes = world.controller.notifications.outcomes
        self.outcomes.jitter = lambda: 0.0
        shows(world.notification, policy=RetryPolicy(9, 30, 2, 480))

    async def intent(self) -> Record:
        recorder = self.world.controller.notifications.recorder
        answer, intent = await recording(recorder).open(
            self.world.notification, Held(EPOCH), "c", limit=99
        )
        assert answer.answer.value == "OK"
        return intent

    async def ends(self, outcome: Outcome, seconds: float = 0.25) -> Attempt:
        """Open an attempt and record what it came to; returns it as recorded."""
        intent = await self.intent()
        await self.outcomes.record(self.world.notification, intent, outcome, seconds)
        return self.world.attempts[-1]

    async def mistaken(self) -> None:
        """Open an attempt that meets an operator's mistake."""
        intent = await self.intent()
        outcome = self.outcomes.waiting(self.world.notification, intent, Outcome.mistaken("403"))
        await self.outcomes.record(self.world.notification, intent, outcome, 0.1)

    @property
    def due(self) -> float | None:
        """Seconds until the channel may be tried again, by the alarm."""
        at = self.world.notification.due.get("c")
        return None if at is None else round(at - NOW, 3)


@pytest.fixture
async def opened() -> Opened:
    """A notification that was never tried."""
    world = World()
    await world.planned()
    return Opened(world)


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
    opened.outcomes.hold_mistakes = hold
    if ago:
        await opened.mistaken()
        opened.outcomes.recorder.time.set(WALL + round(ago * 1000))
    found = opened.outcomes.waiting(opened.world.notification, await opened.intent(), outcome)
    assert (found.failure and found.failure.value, found.error) == (failure, error)


async def test_the_last_attempt_for_a_while_is_shown_at_once(opened: Opened) -> None:
    """While it is on the wire its status waits for the window, but no other attempt joins its end."""
    world = opened.world
    while (written := world.cache.take_due(NOW + 1)) is not None:
        written.publication.clean()
    intent = await opened.intent()
    world.cache.mark_dirty(world.notification)
    assert world.cache.take_due(NOW) is None
    await opened.outcomes.record(world.notification, intent, Outcome.transient("x"), 0.1)
    assert (opened.due, world.cache.take_due(NOW)) == (30, world.notification)


async def test_what_waits_for_an_operator_uses_up_nothing(opened: Opened) -> None:
    """The waits grow to five minutes, and the policy's attempts are left."""
    opened.outcomes.hold_mistakes = True
    waits = []
    for _ in range(8):
        await opened.mistaken()
        waits.append(opened.due)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]
    (state,) = opened.world.controller.reconciler.decisions.channel_states(
        opened.world.notification
    )
    assert (state.left, state.state.value) == (9, "Retrying")


WORDS: Final = {
    "templates": ("a1", "a1", "", "templates a1"),
    "others than planned": ("a1", "b2", "", "templates a1, planned b2"),
    "that do not fit": ("a1", "a1", "no list", "templates a1, not used: no list"),
    "later ones": ("a1", "", "", "templates a1"),
    "none any more": ("", "b2", "", ""),
}


@pytest.mark.parametrize("case", WORDS)
async def test_the_record_names_the_templates(opened: Opened, case: str) -> None:
    """Those that worded the message, and those of the plan if they are others."""
    digest, planned, unworded, wanted = WORDS[case]
    view = opened.world.notification.view
    plan = replace(view.plan or Plan(("c",)), templates=f"x other\n{planned} c" if planned else "")
    assert read_plan(plan_record(plan)).digest("c") == planned
    opened.world.notification.learn((), plan)
    ended = await opened.ends(replace(Outcome.success(200), digest=digest, unworded=unworded))
    assert ended.words == wanted


async def test_a_refusal_by_rule_is_reported(opened: Opened) -> None:
    """The receiver is not for the namespace: its operators should know."""
    await opened.ends(Outcome.denied("not for namespace n"))
    why = "permanent failure: not for namespace n"
    assert opened.reports.mock_calls == [call.attempted(ANY, ANY, None), call.denied(ANY, "c", why)]


async def test_an_outcome_that_the_user_may_not_record_is_kept(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is not damaged, so nothing is quarantined; a later claim records it."""
    world, recorder = opened.world, opened.world.controller.notifications.recorder
    intent = await opened.intent()
    refuse = AsyncMock(side_effect=Unauthorised("Redis refuses the command (NOPERM)"))
    with monkeypatch.context() as refused:
        refused.setattr(recorder.log, "outcome", refuse)
        await opened.outcomes.record(world.notification, intent, Outcome.success(200), 0.1)
        assert [*world.notification.in_flight.unrecorded] == [intent.id]
        assert [a.state for a in world.notification.view.attempts.values()] == [
            AttemptState.SUCCESS
        ]
        with pytest.raises(Unauthorised):
            await world.controller.reconciler.reconcile("uid-a")
        assert (world.notification.quarantine, [*world.notification.in_flight.unrecorded]) == (
            "",
            [intent.id],
        )
    await world.controller.reconciler.reconcile("uid-a")
    assert world.notification.in_flight.unrecorded == {}
    assert [(a.id, a.state) for a in world.attempts] == [(intent.id, AttemptState.SUCCESS)]


async def test_what_was_kept_waits_for_the_claim_of_a_log_that_is_gone(opened: Opened) -> None:
    """Nothing is recorded out of order; the end, after which nobody claims, makes the log anew."""
    world = opened.world
    intent = await opened.intent()
    world.redis.twin.logs.clear()
    await opened.outcomes.record(world.notification, intent, Outcome.success(200), 0.1)
    recorder = world.controller.notifications.recorder
    await recorder.record_kept(world.notification)
    assert world.redis.twin.logs == {}
    assert not recorder.claim_holds(world.notification, Held(EPOCH))
    assert [*world.notification.in_flight.unrecorded] == [intent.id]
    assert await opened.outcomes.drain(5) == 0
    assert world.notification.in_flight.unrecorded == {}
    assert [a.state for a in world.attempts] == [AttemptState.SUCCESS]
    assert world.redis.twin.logs


# -- a former owner says so to whoever owns the log now -----------------------------------------------


@pytest.mark.parametrize(
    ("term", "woken"),
    [
        (Held(EPOCH), False),
        (Held(Epoch("0.8")), True),
        (Ended(EPOCH), True),
        (None, True),
    ],
    ids=["its own", "a later one", "one that is over", "none"],
)
async def test_outcome_of_an_earlier_term_wakes_the_owner(term: Held | None, woken: bool) -> None:
    """The owner's own results need no notice; those of another epoch, or of none, do."""
    world = World()
    world.shards.drop(0)
    if term is not None:
        world.shards.take(0, term)
    published = await world.record()
    assert published == ([("nl:poke", b"uid-a")] if woken else [])
    ((_, attempt, _), _) = world.reporter.attempted.call_args
    assert attempt.state is AttemptState.SUCCESS


async def test_what_was_not_recorded_wakes_nobody() -> None:
    """Without a record there is nothing to be heard of."""
    world = World()
    world.redis.faults.append(Fault(Mishap.REFUSE, "outcome", times=99))
    assert await world.record() == []
