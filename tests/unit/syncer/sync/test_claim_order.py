"""A claim gives the log what it lacks in the order in which the status has numbered the attempts."""

from __future__ import annotations

import pytest

from syncer.model.attempt import Attempt, AttemptId, AttemptState
from syncer.model.record import Record, read_attempt
from tests.unit.syncer.sync.test_hand_in import keep
from tests.unit.syncer.sync.test_holes import Held, bench
from tests.unit.syncer.sync.test_odd_objects import shown


def ids(records: list[Record]) -> list[str]:
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
