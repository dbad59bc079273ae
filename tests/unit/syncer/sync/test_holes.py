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


def proof_of(entry: Notification) -> Proof:
    """What allows an attempt of an entry that is claimed."""
    assert entry.claim is not None
    return Proof(EPOCH, entry.claim.stamp)


async def test_an_intent_that_came_in_late_is_settled() -> None:
    """R1: the sweep names it again and again until a claim has made it unknown."""
    async with bench() as (here, entry):
        assert Action.OPEN in await here.claimer.claim(entry, Held())
        late = intent_record(make_attempt_id(EPOCH, 9), "console", at=1, by="me")
        await here.log.intent("u", proof_of(entry), late, limit=5, guard=lambda: True)
        assert await Sweeper(here.claimer).live([entry]) == ["u"]
        assert [a.id for a in entry.abandoned] == [late.id]
        assert await Sweeper(here.claimer).live([entry]) == ["u"]
        verdict = await here.claimer.claim(entry, Held())
        assert "left-open" in verdict.rows
        assert entry.view.attempts[late.attempt_id].state is AttemptState.UNKNOWN
        entry.hear(0)
        assert await Sweeper(here.claimer).live([entry]) == []
        assert entry.heard == here.log.subscriptions, "it was compared, so nothing was unheard"


async def test_failed_is_decided_anew_after_a_conflict() -> None:
    """R2: what another process recorded while our write met a conflict is seen."""
    async with bench() as (here, entry):
        await here.claimer.claim(entry, Held())
        await here.recorder.freeze(entry, Plan(("console",), "RoutingRuleMatched", "m", 1))
        answer, intent = await recording(here.recorder).open(entry, Held(), "console", limit=1)
        assert answer.position == 2
        unsure = Attempt(
            intent.attempt_id, "console", AttemptState.UNKNOWN, ended=2,
            failure=FailureClass.UNCERTAIN,
        )  # fmt: skip
        assert await recording(here.recorder).close(entry, unsure, intent, patience=1)

        async def late_success() -> None:
            success = replace(unsure, state=AttemptState.SUCCESS, ended=3, failure=None)
            await here.log.outcome("u", attempt_record(success), intent, name="ns/n")
            here.objects.request = replace(here.objects.request, resource_version="6")

        here.objects.conflicts.append(late_success)
        assert await here.sync.flush(entry) is Flushed.WRITTEN
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
    async with bench(shown) as (here, entry):
        verdict = await here.claimer.claim(entry, Held())
        assert Action.SEED in verdict
        assert entry.view.plan is not None
        assert entry.view.plan.channels == ("slack:old",)
        elements = here.log.client.redis.twin.logs["nl:{u}"]
        assert elements[1].startswith(b"plan plan ")


async def test_failed_is_not_said_while_the_log_holds_another_history() -> None:
    """R4: what is remembered is no answer any more; the log is claimed anew, and its success is told."""
    async with bench() as (here, entry):
        attempt, intent = await unsure(here, entry)
        assert here.sync._merged(entry, Held()).status.phase == "Failed"
        here.log.client.redis.twin.delete("nl:{u}")
        success = replace(attempt, state=AttemptState.SUCCESS, failure=None, due=0)
        await here.log.outcome("u", attempt_record(success), intent, name="ns/n")
        assert await here.sync.flush(entry) is Flushed.NOT_OURS
        assert here.objects.written == []
        await here.claimer.claim(entry, Held())
        assert await here.sync.flush(entry) is Flushed.WRITTEN
        assert [w.get("phase") for w in here.objects.written] == ["Sent"]


# -- verdicts -------------------------------------------------------------------------------------


async def unsure(here: Bench, entry: Notification) -> tuple[Attempt, Record]:
    """An attempt whose result is unknown, on record, and its intent."""
    await here.claimer.claim(entry, Held())
    await here.recorder.freeze(entry, Plan(("console",), "RoutingRuleMatched", "m", 1))
    _, intent = await recording(here.recorder).open(entry, Held(), "console", limit=5)
    attempt = Attempt(
        intent.attempt_id, "console", AttemptState.UNKNOWN, ended=2, due=9,
        failure=FailureClass.UNCERTAIN,
    )  # fmt: skip
    assert await recording(here.recorder).close(entry, attempt, intent, patience=1)
    return attempt, intent
