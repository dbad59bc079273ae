"""A claim gives the log what it lacks in the order in which the status has numbered the attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from syncer.model.attempt import Attempt, AttemptId, AttemptState
from syncer.model.record import Record, attempt_record, intent_record, read_attempt
from syncer.model.rendering import render_status
from syncer.model.resource import NotificationRequest, parse_status
from syncer.rules.merge import Facts, merge
from tests.unit.syncer.sync.test_hand_in import keep
from tests.unit.syncer.sync.test_holes import Held, bench
from tests.unit.syncer.sync.test_odd_objects import shown


def ids(records: Sequence[Record]) -> list[str]:
    """Ids of the attempts of a log, in the order in which it tells of them first."""
    return list(dict.fromkeys(r.id for r in records if r.kind.state is not None))


@pytest.mark.parametrize("learnt", [False, True], ids=["from the object", "by a take-up"])
async def test_what_only_this_process_knows_comes_last(*, learnt: bool) -> None:
    """
    An attempt that was kept in an earlier term, while others journaled theirs, has no number yet.

    Numbers stay, and new ones follow the order of the log: it gets the next one, so it must not stand
    first.
    """
    async with bench(shown()) as (here, entry):
        keep(entry)
        ((kept, _),) = entry.unrecorded.values()
        entry.view.learn(read_attempt(kept))
        if learnt:
            entry.view.learn(entry.request.status.attempts[0])
        await here.claimer.claim(entry, Held())
        snapshot = await here.log.read("u")
        assert snapshot is not None
        assert ids(snapshot.records) == ["0.3-1", "0.5-1"]
        assert not entry.unrecorded


async def test_other_channels_keep_their_places() -> None:
    """Numbers are those of a channel, so the order of the view stays where none is concerned."""
    async with bench(shown()) as (here, entry):
        other = Attempt(AttemptId("0.2-1"), "slack:ops", AttemptState.UNKNOWN, started=1, ended=2)
        entry.view.learn(other)
        entry.view.learn(entry.request.status.attempts[0])
        await here.claimer.claim(entry, Held())
        snapshot = await here.log.read("u")
        assert snapshot is not None
        assert ids(snapshot.records) == ["0.2-1", "0.3-1"]


async def test_a_late_result_before_what_was_numbered_first_misleads_nobody() -> None:
    """
    A former owner's result may stand before an attempt that the next owner has journaled.

    The log then has them in the order of their ids; the numbers of the status stay, and both go by the
    same wait.
    """
    channel = {"name": "console", "state": "Retrying", "nextRetryTime": "2026-01-01T00:01:00Z"}
    status = shown(id="0.6-1", **{"class": "transient"}) | {"channels": [channel]}
    async with bench(status, most=5) as (here, entry):
        (journaled,) = entry.request.status.attempts
        late = replace(
            journaled,
            id=AttemptId("0.5-1"),
            ended=journaled.ended + 1_000,
            due=journaled.due - 30_000,
        )
        intent = intent_record(late.id, "console", at=late.started, by="t")
        await here.log.outcome("u", attempt_record(late), intent, name="ns/n")
        await here.claimer.claim(entry, Held())
        snapshot = await here.log.read("u")
        assert snapshot is not None
        assert ids(snapshot.records) == ["0.5-1", "0.6-1"]
        facts, now = Facts(1, entry.request.policy), late.ended
        merged = merge(entry.request.status, entry.view, facts, now=now)
        assert [(a.id, a.number) for a in merged.status.attempts] == [("0.6-1", 1), ("0.5-1", 2)]
        assert [c.next_retry for c in merged.status.channels] == [journaled.due]
        assert entry.view.waits(now, ()) == {"console": journaled.due - now}
        again = parse_status(render_status(merged.status))
        assert [(a.id, a.due) for a in again.attempts] == [("0.6-1", journaled.due), ("0.5-1", 0)]


async def test_a_result_that_is_kept_meanwhile_voids_the_claim(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The log lacks it: the next claim gives it to the log first."""
    async with bench(shown()) as (here, entry):
        get = here.objects.get

        async def meanwhile(
            namespace: str, name: str, _known: object = None, /
        ) -> NotificationRequest:
            keep(entry)
            return await get(namespace, name)

        with monkeypatch.context() as patched:
            patched.setattr(here.objects, "get", meanwhile)
            await here.claimer.claim(entry, Held())
        assert (entry.claim, len(entry.unrecorded)) == (None, 1)
        await here.claimer.claim(entry, Held())
        assert entry.claim is not None
        assert not entry.unrecorded


async def test_what_a_claim_knows_of_the_object_is_not_parsed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is read nevertheless, and after the log was claimed: others may have published until then."""
    async with bench({}) as (here, entry):
        read: list[object] = []

        async def get(_namespace: str, _name: str, known: object = None, /) -> NotificationRequest:
            snapshot = await here.log.read("u")
            read.append((known, snapshot is not None))
            return here.objects.request

        monkeypatch.setattr(here.objects, "get", get)
        known = entry.request
        await here.claimer.claim(entry, Held())
        assert read == [(known, True)]
