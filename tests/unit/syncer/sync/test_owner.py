"""What an owner remembers of a notification, and what it no longer relies on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from syncer.model.attempt import Attempt, AttemptState
from syncer.model.errors import PortError
from syncer.model.record import MAX_SKIPS, Plan
from syncer.rules.reconcile import Action
from tests.fakes.memorylog import Fault, Mishap
from tests.fakes.notifications import recording
from tests.unit.syncer.sync.bench import EPOCH, Bench, Held, bench
from tests.unit.syncer.sync.shown import shown


async def opened(here: Bench, notification: Any) -> tuple[Attempt, Any]:
    """An attempt that is open, and its intent."""
    _, intent = await recording(here.recorder).open(notification, Held(), "console", limit=5)
    return notification.view.attempts[intent.attempt_id], intent


async def test_a_result_that_is_not_on_record_ends_what_is_known() -> None:
    """Else attempts would be journaled in an outage by who lacks it."""
    async with bench(most=3) as (here, notification):
        await here.claimer.claim(notification, Held())
        assert notification.known_in == EPOCH
        attempt, intent = await opened(here, notification)
        here.log.client.redis.faults.append(Fault(Mishap.REFUSE, "outcome", times=99))
        done = replace(attempt, state=AttemptState.SUCCESS, ended=2)
        assert not await recording(here.recorder).close(notification, done, intent, patience=0.0)
        assert notification.known_in is None


@pytest.mark.parametrize(
    "how", ["it is stale", "its log cannot be read", "its log has fallen back"]
)
async def test_a_lost_claim_leads_to_a_check(how: str) -> None:
    """Whoever finds it lost need not ask for that, and what is lost already asks for nothing."""
    async with bench() as (here, notification):
        await here.claimer.claim(notification, Held())
        await here.recorder.freeze(notification, Plan(("console",), "r", "m", 1))
        asked: list[str] = []
        here.cache.check = asked.append
        for _ in range(2):
            if how == "it is stale":
                here.recorder.lose_claim(notification, "test")
            elif how == "its log cannot be read":
                here.recorder.put_in_quarantine(notification, "record 3")
            else:
                del here.log.client.redis.twin.logs["nl:{u}"][1:]
                await here.recorder.reread(notification)
        assert (asked, notification.claim) == (["u"], None)


async def test_news_during_a_read_are_no_part_of_it() -> None:
    """What has the log read again may say so while it is being read, for another reason."""
    async with bench() as (here, notification):
        await here.claimer.claim(notification, Held())
        read = here.log.read

        async def slowly(uid: str) -> Any:
            found = await read(uid)
            notification.news()
            return found

        notification.news()
        here.log.read = slowly  # type: ignore[method-assign] # and is told meanwhile
        await here.recorder.reread(notification)
        assert notification.reread
        here.log.read = read  # type: ignore[method-assign] # as it was
        await here.recorder.reread(notification)
        assert not notification.reread


async def test_a_claim_that_fails_leaves_none_behind() -> None:
    """That of before was of another lease term or server, and nothing may be decided by it."""
    async with bench() as (here, notification):
        await here.claimer.claim(notification, Held())
        here.log.client.redis.down = True
        with pytest.raises(PortError):
            await here.claimer.claim(notification, Held())
        assert notification.claim is None


async def test_reasons_to_wait_do_not_fill_a_log() -> None:
    """It takes so many of them, however often they change."""
    async with bench() as (here, notification):
        await here.claimer.claim(notification, Held())
        for n in range(MAX_SKIPS + 3):
            await here.recorder.skip(notification, "console", f"reason {n}")
        assert notification.view.position == MAX_SKIPS


@pytest.mark.parametrize("failed", [0, 2])
async def test_what_a_dead_sender_left_waits_by_the_tries_before(failed: int) -> None:
    """The wait after an attempt whose result nobody knows grows as after any other."""
    async with bench(most=5) as (here, notification):
        asked: list[int] = []

        def backoff(_policy: object, number: int) -> int:
            asked.append(number)
            return 1000

        here.claimer._backoff = backoff
        await here.claimer.claim(notification, Held())
        for _ in range(failed):
            attempt, intent = await opened(here, notification)
            done = replace(attempt, state=AttemptState.FAILED, ended=2)
            assert await recording(here.recorder).close(notification, done, intent, patience=1.0)
        await opened(here, notification)
        notification.in_flight.executing.clear()  # as the next process of this host finds it
        await here.claimer.claim(notification, Held())
        assert asked == [failed + 1]


async def test_another_object_of_the_name_gets_nothing() -> None:
    """The notification whose log is claimed is gone, and the other one's status is not its."""
    async with bench(shown()) as (here, notification):
        get = here.objects.get

        async def another(*names: Any) -> Any:
            return replace(await get(*names), uid="v")

        here.objects.get = another  # type: ignore[method-assign] # the reader of this test alone
        decision = await here.claimer.claim(notification, Held())
        assert Action.ORPHAN in decision
        assert notification.deleted
        assert notification.request.uid == "u"
