"""A former owner gives the log what it kept, in the order in which the status has numbered the attempts."""

from __future__ import annotations

from typing import Any, cast

import pytest

from syncer.model.attempt import Attempt, AttemptId, AttemptState
from syncer.model.errors import Unavailable
from syncer.model.record import attempt_record, intent_record
from syncer.rules.merge import WRITTEN_AHEAD
from syncer.sync.notification import Notification
from tests.fakes.notifications import recording
from tests.unit.syncer.sync.bench import Bench, Held, bench
from tests.unit.syncer.sync.shown import shown

KEPT = AttemptId("0.5-1")


def keep(notification: Notification, attempt: AttemptId = KEPT) -> None:
    """Have a success that no log holds yet."""
    done = Attempt(attempt, "console", AttemptState.SUCCESS, started=3, ended=4)
    intent = intent_record(attempt, "console", at=3, by="t")
    notification.in_flight.keep(attempt, attempt_record(done), intent)


def twice_shown() -> dict[str, Any]:
    """A status with two failed attempts."""
    status = shown()
    status["deliveryAttempts"].append(status["deliveryAttempts"][0] | {"id": "0.4-1", "attempt": 2})
    return status


async def logged(here: Bench) -> list[str]:
    """Kinds and ids of the log's records, in order."""
    snapshot = await here.log.read("u")
    return [f"{r.kind} {r.id}" for r in snapshot.records] if snapshot else []


async def test_only_the_first_makes_a_log_anew() -> None:
    """A copy of a later one, held up until the log is lost again, would leave out what came before."""
    async with bench(twice_shown()) as (here, notification):
        keep(notification)
        names: list[str | None] = []
        outcome = here.log.outcome

        async def noted(uid: str, *rest: Any, name: str | None, **more: Any) -> Any:
            names.append(name)
            return await outcome(uid, *rest, name=name, **more)

        here.claimer.log.outcome = noted  # type: ignore[method-assign] # looks on
        await here.claimer.hand_in(notification)
        assert names == ["ns/n", None, None]
        keep(notification)
        keep(notification, AttemptId("0.5-2"))
        await here.claimer.claim(notification, Held())
        assert names[3:] == [None, None]
        cast("Any", here.log.client).redis.twin.logs.clear()
        keep(notification)
        keep(notification, AttemptId("0.5-2"))
        await here.recorder.record_kept(notification, anew=True)
        assert names[5:] == ["ns/n", None]


async def test_a_log_that_is_lost_under_its_claim_is_claimed_again() -> None:
    """Results that were kept are not given to it alone; they stay until the next claim has made it anew."""
    async with bench(shown()) as (here, notification):
        keep(notification)
        logs, claim = cast("Any", here.log.client).redis.twin.logs, here.log.claim

        async def lost_after(*args: Any, **more: Any) -> Any:
            found = await claim(*args, **more)
            logs.clear()
            return found

        here.claimer.log.claim = lost_after  # type: ignore[method-assign] # between the calls
        with pytest.raises(Unavailable, match="lost under its claim"):
            await here.claimer.claim(notification, Held())
        assert not await here.claimer.retire(notification, Held())
        assert not logs
        assert [*notification.in_flight.unrecorded] == [KEPT]
        here.claimer.log.claim = claim  # type: ignore[method-assign] # as it was
        await here.claimer.claim(notification, Held())
        assert await logged(here) == ["seed.failed 0.3-1", "seed.success 0.5-1"]


async def test_what_is_on_its_way_comes_first() -> None:
    """The outcome of another attempt would come in between what the status has numbered."""
    async with bench(shown()) as (here, notification):
        keep(notification)
        notification.in_flight.begin(AttemptId("0.5-2"), "slack:ops")
        await here.claimer.hand_in(notification)
        assert (await logged(here), [*notification.in_flight.unrecorded]) == ([], [KEPT])
        notification.in_flight.executing.clear()
        await here.claimer.hand_in(notification)
        assert len(await logged(here)) == 4


async def test_what_its_owner_has_in_hand_is_left_to_him() -> None:
    """An attempt that was written ahead and not ended is unknown to its readers, and not to its sender."""
    async with bench(shown(status="unknown", error=WRITTEN_AHEAD)) as (here, notification):
        keep(notification)
        await here.claimer.hand_in(notification)
        assert await logged(here) == ["intent 0.5-1", "success 0.5-1"]


def journaled(here: Bench, notification: Notification) -> None:
    """Have a success that was recorded while the log was away."""
    done = Attempt(KEPT, "console", AttemptState.SUCCESS, started=3, ended=4)
    recording(here.recorder).close_in_memory(
        notification, done, intent_record(KEPT, "console", at=3, by="t")
    )


DELETED: dict[str, tuple[Any, list[str]]] = {
    "journaled": (journaled, ["seed.success 0.5-1"]),
    "kept while the log could not be read": (
        lambda _here, notification: keep(notification), ["intent 0.5-1", "success 0.5-1"],
    ),
    "nothing": (lambda _here, _entry: None, []),
}  # fmt: skip


@pytest.mark.parametrize("case", DELETED)
async def test_what_is_known_of_a_deleted_object_is_recorded(
    case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its status is gone and there is no log, so nobody else knows; of one never sent no log is made."""
    learn, expected = DELETED[case]
    async with bench() as (here, notification):
        learn(here, notification)
        notification.gone()
        with caplog.at_level("INFO", "ledger.archive"):
            assert await here.claimer.retire(notification, Held())
        assert here.cache.entries == {}
        assert await logged(here) == expected
        (head,) = await here.log.read_headers(["u"])
        assert (head.ttl > 0) is bool(expected)
        told = [cast("Any", r).ledger for r in caplog.records if r.name == "ledger.archive"]
        assert [KEPT in line for line in told] == [True] * bool(expected)


async def test_a_log_lost_under_the_owner_of_a_deleted_object_is_archived_whole() -> None:
    """Its memory has what the log had."""
    async with bench(shown()) as (here, notification):
        await here.claimer.claim(notification, Held())
        cast("Any", here.log.client).redis.twin.logs.clear()
        notification.gone()
        assert await here.claimer.retire(notification, Held())
        assert await logged(here) == ["seed.failed 0.3-1"]
