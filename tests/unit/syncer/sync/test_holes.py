"""
Holes that the model check found in the code as it was first written; each trace is a test.

R1: an INTENT arrives after its caller gave it up and after the next claim, so it stands open with
nobody to carry it out. R2: a status write meets a conflict, and "failed" is decided a second time from
a view that is older than the conflict. R3: the plan is lost with the log, while attempts are not
lacking. R4: the log is lost, and built up again by a late success, before "failed" is decided. V4: a
verdict arrives after the result that it is about. V5: two operators contradict each other. V7: a
receiver's refusal for good comes after a verdict of failure.
"""

from __future__ import annotations

from dataclasses import replace

from syncer.ledger.answers import Proof
from syncer.model.attempt import (
    Attempt,
    AttemptState,
    FailureClass,
    make_attempt_id,
)
from syncer.model.record import Plan, Record, attempt_record, intent_record
from syncer.rules.reconcile import Action
from syncer.sync.notification import Notification
from syncer.sync.status_writer import Flushed
from syncer.sync.sweeps import Sweeper
from tests.fakes.notifications import recording
from tests.unit.syncer.sync.bench import EPOCH, Bench, Held, bench


def proof_of(notification: Notification) -> Proof:
    """What allows an attempt of a notification that is claimed."""
    assert notification.claim is not None
    return Proof(EPOCH, notification.claim.stamp)


async def test_an_intent_that_came_in_late_is_settled() -> None:
    """R1: the sweep names it again and again until a claim has made it unknown."""
    async with bench() as (here, notification):
        assert Action.OPEN in await here.claimer.claim(notification, Held())
        late = intent_record(make_attempt_id(EPOCH, 9), "console", at=1, by="me")
        await here.log.intent("u", proof_of(notification), late, limit=5, guard=lambda: True)
        assert await Sweeper(here.claimer).live([notification]) == ["u"]
        assert [a.id for a in notification.abandoned] == [late.id]
        assert await Sweeper(here.claimer).live([notification]) == ["u"]
        verdict = await here.claimer.claim(notification, Held())
        assert "left-open" in verdict.rows
        assert notification.view.attempts[late.attempt_id].state is AttemptState.UNKNOWN
        notification.hear(0)
        assert await Sweeper(here.claimer).live([notification]) == []
        assert notification.heard == here.log.subscriptions, (
            "it was compared, so nothing was unheard"
        )


async def test_failed_is_decided_anew_after_a_conflict() -> None:
    """R2: what another process recorded while our write met a conflict is seen."""
    async with bench() as (here, notification):
        await here.claimer.claim(notification, Held())
        await here.recorder.freeze(notification, Plan(("console",), "RoutingRuleMatched", "m", 1))
        answer, intent = await recording(here.recorder).open(
            notification, Held(), "console", limit=1
        )
        assert answer.position == 2
        unsure = Attempt(
            intent.attempt_id, "console", AttemptState.UNKNOWN, ended=2,
            failure=FailureClass.UNCERTAIN,
        )  # fmt: skip
        assert await recording(here.recorder).close(notification, unsure, intent, patience=1)

        async def late_success() -> None:
            success = replace(unsure, state=AttemptState.SUCCESS, ended=3, failure=None)
            await here.log.outcome("u", attempt_record(success), intent, name="ns/n")
            here.objects.request = replace(here.objects.request, resource_version="6")

        here.objects.conflicts.append(late_success)
        assert await here.sync.flush(notification) is Flushed.WRITTEN
        assert [w.get("phase") for w in here.objects.written] == ["Sent"]


async def test_a_plan_that_only_the_object_shows_is_restored() -> None:
    """R3: the channels frozen in the status stay frozen, although no attempt is lacking."""
    shown = {
        "phase": "Sending",
        "channels": [{"name": "slack:old", "state": "Pending"}],
        "conditions": [
            {
                "type": "RoutingResolved", "status": "True", "reason": "RoutingRuleMatched",
                "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
        ],
    }  # fmt: skip
    async with bench(shown) as (here, notification):
        verdict = await here.claimer.claim(notification, Held())
        assert Action.SEED in verdict
        assert notification.view.plan is not None
        assert notification.view.plan.channels == ("slack:old",)
        elements = here.log.client.redis.twin.logs["nl:{u}"]
        assert elements[1].startswith(b"plan plan ")


async def test_failed_is_not_said_while_the_log_holds_another_history() -> None:
    """R4: what is remembered is no answer any more; the log is claimed anew, and its success is told."""
    async with bench() as (here, notification):
        attempt, intent = await unsure(here, notification)
        assert here.sync._merged(notification, Held()).status.phase == "Failed"
        here.log.client.redis.twin.delete("nl:{u}")
        success = replace(attempt, state=AttemptState.SUCCESS, failure=None, due=0)
        await here.log.outcome("u", attempt_record(success), intent, name="ns/n")
        assert await here.sync.flush(notification) is Flushed.NOT_OURS
        assert here.objects.written == []
        await here.claimer.claim(notification, Held())
        assert await here.sync.flush(notification) is Flushed.WRITTEN
        assert [w.get("phase") for w in here.objects.written] == ["Sent"]


# -- verdicts -------------------------------------------------------------------------------------


async def unsure(here: Bench, notification: Notification) -> tuple[Attempt, Record]:
    """An attempt whose result is unknown, on record, and its intent."""
    await here.claimer.claim(notification, Held())
    await here.recorder.freeze(notification, Plan(("console",), "RoutingRuleMatched", "m", 1))
    _, intent = await recording(here.recorder).open(notification, Held(), "console", limit=5)
    attempt = Attempt(
        intent.attempt_id, "console", AttemptState.UNKNOWN, ended=2, due=9,
        failure=FailureClass.UNCERTAIN,
    )  # fmt: skip
    assert await recording(here.recorder).close(notification, attempt, intent, patience=1)
    return attempt, intent
