"""A former owner that learns a result says so to whoever owns the log now."""

from __future__ import annotations

import pytest

from tests.fakes.memorylog import Fault, Mishap
from tests.unit.notifier.reconciler.attempting import World
from tests.unit.notifier.reconciler.zombies import LeaseTerm


@pytest.mark.parametrize(
    ("term", "woken"),
    [
        (LeaseTerm("0.7"), False),
        (LeaseTerm("0.8"), True),
        (LeaseTerm("0.7", holds=False), True),
        (None, True),
    ],
)
async def test_outcome_of_an_earlier_term_wakes_the_owner(
    term: LeaseTerm | None, woken: bool
) -> None:
    """The owner's own results need no notice; those of another epoch, or of none, do."""
    world = World()
    world.shards.drop(0)
    if term is not None:
        world.shards.take(0, term)
    published = await world.record()
    assert published == ([("nl:poke", b"uid-a")] if woken else [])
    assert [a.state.word for a in world.reporter.attempts] == ["success"]


async def test_what_was_not_recorded_wakes_nobody() -> None:
    """Without a record there is nothing to be heard of."""
    world = World()
    world.redis.faults.append(Fault(Mishap.REFUSE, "outcome", times=99))
    assert await world.record() == []
