"""Logs that somebody else has written into: they are held like any that cannot be read."""

from __future__ import annotations

from typing import Any, cast

import pytest

from syncer.ledger.answers import Answer
from syncer.model.attempt import Attempt, AttemptState, FailureClass
from syncer.model.record import Plan, resend_record
from syncer.model.resource import NotificationRequest
from syncer.rules.reconcile import Action
from tests.fakes.memorylog import ScriptTwin
from tests.unit.syncer.sync.test_holes import Bench, Held, bench
from tests.unit.syncer.sync.test_odd_objects import shown

KEY = "nl:{u}"


def header(keys: ScriptTwin) -> None:
    """The header is another one."""
    keys.logs[KEY][0] = b"job:1"


def tail(keys: ScriptTwin) -> None:
    """Something stands behind the last record."""
    keys.logs[KEY].append(b"job:1")


def kind(keys: ScriptTwin) -> None:
    """The key is no list any more."""
    del keys.logs[KEY]
    keys.strings[KEY] = b"job:1"


HANDS = [header, tail, kind]


def keys_of(here: Bench) -> ScriptTwin:
    """What the server holds."""
    return cast("ScriptTwin", cast("Any", here.log.client).redis.twin)


@pytest.mark.parametrize("hand", HANDS)
async def test_a_claim_quarantines(hand: Any) -> None:
    """Whether the script or the reader finds it: the object says so, and nothing is sent."""
    async with bench() as (here, entry):
        await here.claimer.claim(entry, Held())
        hand(keys_of(here))
        verdict = await here.claimer.claim(entry, Held())
        assert verdict.rows == ("D2",)
        assert (bool(entry.quarantine), entry.claim) == (True, None)
        assert entry.dirty_since is not None


@pytest.mark.parametrize("hand", HANDS)
async def test_an_attempt_is_not_opened(hand: Any) -> None:
    """Who asks for permission is refused, and the log is held at once."""
    async with bench() as (here, entry):
        assert Action.OPEN in await here.claimer.claim(entry, Held())
        await here.recorder.plan(entry, Plan(("console",), "RoutingRuleMatched", "m", 1))
        hand(keys_of(here))
        answer, _ = await here.recorder.open(entry, Held(), "console", limit=1)
        assert answer.answer is Answer.RECLAIM
        assert (bool(entry.quarantine), entry.claim, entry.executing) == (True, None, {})


@pytest.mark.parametrize("hand", HANDS)
async def test_a_log_that_is_read_again_is_held(hand: Any) -> None:
    """What looks whether other processes have appended finds it, too."""
    async with bench() as (here, entry):
        await here.claimer.claim(entry, Held())
        hand(keys_of(here))
        await here.recorder.reread(entry)
        assert (bool(entry.quarantine), entry.claim) == (True, None)


@pytest.mark.parametrize("hand", HANDS)
async def test_a_note_is_not_taken(hand: Any) -> None:
    """Neither a plan nor the reason for a skip gets behind what cannot be read."""
    async with bench() as (here, entry):
        for say in (
            here.recorder.plan(entry, Plan(("console",), "RoutingRuleMatched", "m", 1)),
            here.recorder.skip(entry, "console", "because"),
        ):
            keys_of(here).logs.clear()
            keys_of(here).strings.pop(KEY, None)
            await here.claimer.claim(entry, Held())
            hand(keys_of(here))
            await say
            assert (bool(entry.quarantine), entry.claim) == (True, None)


@pytest.mark.parametrize("hand", HANDS)
async def test_a_result_that_cannot_be_recorded_is_told(
    hand: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller goes on, and knows that it is not on record."""
    async with bench() as (here, entry):
        await here.claimer.claim(entry, Held())
        _, intent = await here.recorder.open(entry, Held(), "console", limit=1)
        hand(keys_of(here))
        success = Attempt(intent.attempt_id, "console", AttemptState.SUCCESS, ended=2)
        assert not await here.recorder.close(entry, success, intent, patience=1)
        assert entry.executing == {}
    assert "an outcome could not be recorded" in caplog.text


@pytest.mark.parametrize(
    "known",
    [
        pytest.param({"state": AttemptState.SUCCESS}, id="delivered"),
        pytest.param(
            {"state": AttemptState.FAILED, "failure": FailureClass.NOT_SENT}, id="never sent"
        ),
    ],
)
@pytest.mark.parametrize("hand", HANDS)
async def test_a_result_is_kept_until_the_log_is_mended(hand: Any, known: dict[str, Any]) -> None:
    """What the sender knows is recorded then, and not that nobody knows it."""
    async with bench() as (here, entry):
        await here.claimer.claim(entry, Held())
        _, intent = await here.recorder.open(entry, Held(), "console", limit=1)
        sound = list(keys_of(here).logs[KEY])
        hand(keys_of(here))
        attempt = Attempt(intent.attempt_id, "console", ended=2, **known)
        assert not await here.recorder.close(entry, attempt, intent, patience=1)
        assert entry.quarantine
        # Looked at while it is not mended, it stays as it is.
        await here.claimer.claim(entry, Held())
        assert list(entry.unrecorded) == [intent.attempt_id]
        keys_of(here).strings.pop(KEY, None)
        keys_of(here).logs[KEY] = sound
        assert Action.OPEN in await here.claimer.claim(entry, Held())
        (found,) = entry.view.attempts.values()
        assert (found.state, found.failure) == (known["state"], known.get("failure"))
        assert (entry.quarantine, entry.unrecorded) == ("", {})
        # It is on record, and once.
        snapshot = await here.log.read("u")
        assert snapshot is not None
        kinds = [r.kind.state for r in snapshot.records if r.kind.state is not None]
        assert kinds == [AttemptState.INTENT, known["state"]]


@pytest.mark.parametrize("hand", HANDS)
async def test_a_deleted_notification_is_forgotten_and_its_log_stays(hand: Any) -> None:
    """Nobody can tell what is in it, so it gets no expiry."""
    async with bench() as (here, entry):
        await here.claimer.claim(entry, Held())
        hand(keys_of(here))
        entry.deleted = True
        assert await here.claimer.retire(entry, Held())
        assert here.cache.entries == {}
        assert [ttl for _, _, ttl in await here.log.read_headers(["u"])] == [-1]


@pytest.mark.parametrize("noted", [False, True], ids=["nothing else", "a record came in between"])
async def test_a_claim_of_an_expired_log_leaves_none(noted: bool) -> None:
    """An empty log would look like one that lost its records; one that has a record is kept."""
    finished = shown(status="success") | {"phase": "Sent", "successfulDeliveries": 1}
    async with bench(finished) as (here, entry):
        twin = cast("Any", here.log.client).redis.twin
        get = here.objects.get

        async def meanwhile(
            namespace: str, name: str, _known: object = None, /
        ) -> NotificationRequest:
            if noted:
                await here.log.note("u", resend_record("order:1", "console", at=1, by="o", why="w"))
            return await get(namespace, name)

        here.objects.get = meanwhile  # type: ignore[method-assign] # between claim and decision
        assert (await here.claimer.claim(entry, Held())).rows == ("D5",)
        assert ("nl:{u}" in twin.logs, "nl:{u}" in twin.expires) == (True, not noted)
        if not noted:
            assert twin.expires["nl:{u}"] == 2000, "a second later it is gone"
