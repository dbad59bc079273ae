"""What a replica keeps of notifications that are another one's: nothing that only grows."""

from __future__ import annotations

import pytest

from syncer.api.attempt import make_attempt_id
from tests.unit.notifier.test_zombie import NOW, Tenure, World


async def look(world: World) -> None:
    """One turn of a worker at the one notification."""
    await world.controller.reconcile(world.entry.uid)


@pytest.mark.parametrize("ours", [False, True])
async def test_a_deleted_stranger_is_forgotten(ours: bool) -> None:
    """Its log is its owner's to let go; the memory of it would stay here until the process ends."""
    world = World()
    if ours:
        world.shards.take(0, Tenure("0.7", holds=False))
    world.controller.delete("uid-a", "n", "a")
    await look(world)
    # One of ours stays until its log has been let go, which a lease that has lapsed does not allow.
    assert ("uid-a" in world.controller.cache.entries) is ours


async def test_a_deleted_stranger_is_kept_while_an_attempt_of_it_is_under_way() -> None:
    """A result that is still to come is recorded first; the look that follows it forgets."""
    world = World()
    attempt = make_attempt_id(Tenure("0.7").epoch, 1)
    world.entry.executing[attempt] = "c"
    world.controller.delete("uid-a", "n", "a")
    await look(world)
    assert "uid-a" in world.controller.cache.entries
    await world.record()
    await look(world)
    assert "uid-a" not in world.controller.cache.entries


@pytest.mark.parametrize("gone", [False, True])
async def test_a_fence_is_not_held_against_a_shard_that_was_lost(gone: bool) -> None:
    """Who met the fence of its successor is not in need of another incarnation, then or later."""
    world = World()
    world.shards.take(0, Tenure("0.7"))
    world.controller.fenced["uid-a"] = NOW - 60
    assert world.controller.fence_problem(18.0) is not None
    if gone:
        world.controller.cache.retire(world.entry)
    else:
        world.shards.drop(0)
    assert world.controller.fence_problem(18.0) is None
    assert world.controller.fenced == {}
