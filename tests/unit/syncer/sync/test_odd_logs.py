"""Logs that somebody else has written into: they are held like any that cannot be read."""

from __future__ import annotations

from typing import Any, cast

import pytest

from syncer.ledger.answers import Answer
from syncer.model.record import Plan
from syncer.rules.reconcile import Action
from tests.fakes.memorylog import ScriptTwin
from tests.fakes.notifications import recording
from tests.unit.syncer.sync.bench import Bench, Held, bench

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
async def test_an_attempt_is_not_opened(hand: Any) -> None:
    """Who asks for permission is refused, and the log is held at once."""
    async with bench() as (here, notification):
        assert Action.OPEN in await here.claimer.claim(notification, Held())
        await here.recorder.freeze(notification, Plan(("console",), "RoutingRuleMatched", "m", 1))
        hand(keys_of(here))
        answer, _ = await recording(here.recorder).open(notification, Held(), "console", limit=1)
        assert answer.answer is Answer.RECLAIM
        assert (
            bool(notification.quarantine),
            notification.claim,
            notification.in_flight.executing,
        ) == (True, None, {})


@pytest.mark.parametrize("hand", HANDS)
async def test_a_log_that_is_read_again_is_held(hand: Any) -> None:
    """What looks whether other processes have appended finds it, too."""
    async with bench() as (here, notification):
        await here.claimer.claim(notification, Held())
        hand(keys_of(here))
        await here.recorder.reread(notification)
        assert (bool(notification.quarantine), notification.claim) == (True, None)


@pytest.mark.parametrize("hand", HANDS)
async def test_a_note_is_not_taken(hand: Any) -> None:
    """Neither a plan nor the reason for a skip gets behind what cannot be read."""
    async with bench() as (here, notification):
        for say in (
            here.recorder.freeze(notification, Plan(("console",), "RoutingRuleMatched", "m", 1)),
            here.recorder.skip(notification, "console", "because"),
        ):
            keys_of(here).logs.clear()
            keys_of(here).strings.pop(KEY, None)
            await here.claimer.claim(notification, Held())
            hand(keys_of(here))
            await say
            assert (bool(notification.quarantine), notification.claim) == (True, None)


@pytest.mark.parametrize("hand", HANDS)
async def test_a_deleted_notification_is_forgotten_and_its_log_stays(hand: Any) -> None:
    """Nobody can tell what is in it, so it gets no expiry."""
    async with bench() as (here, notification):
        await here.claimer.claim(notification, Held())
        hand(keys_of(here))
        notification.gone()
        assert await here.claimer.retire(notification, Held())
        assert here.cache.entries == {}
        assert [ttl for _, _, ttl in await here.log.read_headers(["u"])] == [-1]
